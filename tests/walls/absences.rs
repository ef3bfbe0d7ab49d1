//! What must not be written where: rooms and the words that have no business in them.

use super::none;
use super::source::{Source, in_a_name, sources};

/// Words that must not occur in some rooms.
struct Absence {
    /// Paths begin with one of these.
    rooms: &'static [&'static str],
    words: &'static [&'static str],
    /// What to do instead.
    instead: &'static str,
}

const PRINTING: &[&str] =
    &["println!", "print!", "eprintln!", "eprint!", "dbg!", "stdout()", "stderr()"];

const ABSENCES: &[Absence] = &[
    Absence {
        rooms: &["crates/policy/src/"],
        words: &[
            "std::fs",
            "std::io",
            "std::env",
            "std::process",
            "std::thread",
            "std::sync",
            "std::os",
            "Instant",
            "SystemTime",
            "TcpListener",
            "TcpStream",
            "UdpSocket",
            "ToSocketAddrs",
            "unsafe",
            "extern",
        ],
        instead: "policy is pure: take the fact as a value, and look it up in crates/sys",
    },
    Absence {
        rooms: &["crates/policy/src/"],
        words: &["std::{"],
        instead: "write one `use` a module in rules, so that this test can read it",
    },
    Absence {
        rooms: &[
            "crates/policy/src/",
            "crates/sys/src/",
            "crates/supervisor/src/",
            "crates/sameport/src/",
        ],
        words: PRINTING,
        instead: "only the cli prints: return a value, and tell it in crates/cli/src/output",
    },
    Absence {
        rooms: &[
            "crates/policy/src/",
            "crates/sys/src/",
            "crates/supervisor/src/",
            "crates/sameport/src/",
        ],
        words: &[
            "process::exit",
            "process::abort",
            "libc::exit",
            "env::var",
            "env::var_os",
            "env::vars",
            "env::vars_os",
            "env::args",
            "env::args_os",
            "env::set_var",
            "env::current_dir",
            "env::temp_dir",
        ],
        instead: "only the cli reads arguments and the environment, and exits: take it as a value",
    },
    Absence {
        rooms: &["crates/cli/src/operations"],
        words: PRINTING,
        instead: "operations never print: return a value, and tell it in crates/cli/src/output",
    },
    Absence {
        rooms: &["crates/cli/src/operations"],
        words: &["process::exit", "anstream", "crate::output", "crate::commands", "ExitCode"],
        instead: "operations know neither the telling nor the verbs: return a value or an error",
    },
    Absence {
        rooms: &["crates/cli/src/commands", "crates/cli/src/output"],
        words: &["libc::", "rustix::", "socket2::"],
        instead: "verbs and tellers make no system calls: put it into an operation",
    },
    Absence {
        rooms: &["crates/cli/src/commands"],
        words: &["sameport_sys"],
        instead: "a verb calls one operation: let that one know the system",
    },
    Absence {
        rooms: &["crates/cli/src/commands"],
        words: PRINTING,
        instead: "a verb tells through crates/cli/src/output, where a closed stdout is handled",
    },
    Absence {
        rooms: &["crates/cli/src/output"],
        words: &["crate::commands", "process::exit"],
        instead: "tellers turn values into text: they know no verbs and end nothing",
    },
    Absence {
        rooms: &["crates/cli/src/"],
        words: &["println!", "print!", "eprintln!", "eprint!"],
        instead: "these panic when the reader has gone: write through crates/cli/src/output",
    },
];

impl Absence {
    fn complaints(&self, source: &Source) -> Vec<String> {
        if !self.rooms.iter().any(|room| source.path.starts_with(room)) {
            return Vec::new();
        }
        let found = source.lines().flat_map(|(number, line)| {
            self.words
                .iter()
                .filter(move |word| has_word(line, word))
                .map(move |word| (number, word))
        });
        found
            .map(|(line, word)| format!("{}:{line}: `{word}`: {}", source.path, self.instead))
            .collect()
    }
}

/// Whether the word is in the line and is not a part of a longer name.
fn has_word(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let after = line[at + word.len()..].chars().next();
        let joined = |edge: Option<char>, own: Option<char>| {
            edge.is_some_and(in_a_name) && own.is_some_and(in_a_name)
        };
        !joined(before, word.chars().next()) && !joined(after, word.chars().next_back())
    })
}

#[test]
fn every_room_is_free_of_what_does_not_belong_there() {
    none(sources().iter().flat_map(|source| {
        ABSENCES.iter().flat_map(|absence| absence.complaints(source)).collect::<Vec<_>>()
    }));
}

#[test]
fn every_room_that_is_named_exists() {
    let sources = sources();
    for room in ABSENCES.iter().flat_map(|absence| absence.rooms) {
        assert!(sources.iter().any(|it| it.path.starts_with(room)), "no source in {room}");
    }
}

#[test]
fn each_word_is_seen_in_code_and_only_there() {
    for absence in ABSENCES {
        for (room, word) in
            absence.rooms.iter().flat_map(|room| absence.words.iter().map(move |word| (room, word)))
        {
            let path = format!("{}/x.rs", room.trim_end_matches('/'));
            let complaints = |text: &str| absence.complaints(&Source::new(&path, text)).len();
            assert_eq!(complaints(&format!("fn f() {{ {word} }}\n")), 1, "{word} in {room}");
            assert_eq!(
                complaints(&format!("// {word}\nlet x = \"{word}\";")),
                0,
                "{word} in {room}"
            );
            assert_eq!(
                complaints(&format!("fn f() {{ a{word}z }}")),
                usize::from(!word.starts_with(in_a_name))
            );
            let tests = format!("#[cfg(test)]\nmod tests {{ {word} }}");
            let outside = absence.complaints(&Source::new("elsewhere/x.rs", &format!("{word}\n")));
            assert_eq!((complaints(&tests), outside.len()), (0, 0), "{word} in {room}");
        }
    }
}
