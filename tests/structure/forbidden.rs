//! Words that must not occur in the code of some modules.

use source_tree::{Source, in_a_name};

use super::{SOURCES, none};

/// Words that must not occur below some paths.
struct Forbidden {
    /// The prefixes of the paths.
    paths: &'static [&'static str],
    words: &'static [&'static str],
    /// The alternative that the complaint suggests.
    instead: &'static str,
}

const PRINTING: &[&str] =
    &["println!", "print!", "eprintln!", "eprint!", "dbg!", "stdout()", "stderr()"];

const FORBIDDEN: &[Forbidden] = &[
    Forbidden {
        paths: &["crates/policy/src/"],
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
    Forbidden {
        paths: &["crates/policy/src/"],
        words: &["std::{"],
        instead: "write one `use` a module in policy, so that this test can read it",
    },
    Forbidden {
        paths: &[
            "crates/policy/src/",
            "crates/sys/src/",
            "crates/supervisor/src/",
            "crates/sameport/src/",
        ],
        words: PRINTING,
        instead: "only the cli prints: return a value, and print it in crates/cli/src/output",
    },
    Forbidden {
        paths: &[
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
    // The library reads the variables of sd_listen_fds(3), in one file.
    Forbidden {
        paths: &["crates/policy/src/", "crates/sys/src/", "crates/supervisor/src/"],
        words: &["env::var_os"],
        instead: "only the cli reads the environment: take it as a value",
    },
    Forbidden {
        paths: &["crates/cli/src/operations"],
        words: PRINTING,
        instead: "operations never print: return a value, and print it in crates/cli/src/output",
    },
    Forbidden {
        paths: &["crates/cli/src/operations"],
        words: &["process::exit", "anstream", "crate::output", "crate::commands", "ExitCode"],
        instead: "operations know neither the output nor the verbs: return a value or an error",
    },
    Forbidden {
        paths: &["crates/cli/src/commands", "crates/cli/src/output"],
        words: &["libc::", "rustix::", "socket2::"],
        instead: "verbs and output make no system calls: put it into an operation",
    },
    Forbidden {
        paths: &["crates/cli/src/commands"],
        words: &["sameport_sys"],
        instead: "a verb calls one operation: let the operation call sameport_sys",
    },
    Forbidden {
        paths: &["crates/cli/src/commands"],
        words: PRINTING,
        instead: "print through crates/cli/src/output, where a closed stdout is handled",
    },
    Forbidden {
        paths: &["crates/cli/src/output"],
        words: &["crate::commands", "process::exit"],
        instead: "output turns values into text: it knows no verbs and does not exit",
    },
    Forbidden {
        paths: &["crates/cli/src/"],
        words: &["println!", "print!", "eprintln!", "eprint!"],
        instead: "these panic when the reader has closed the pipe: write through crates/cli/src/output",
    },
];

impl Forbidden {
    fn complaints(&self, source: &Source) -> Vec<String> {
        if !self.paths.iter().any(|path| source.path.starts_with(path)) {
            return Vec::new();
        }
        let found = source.lines().flat_map(|(number, line)| {
            let words = self.words.iter().filter(move |word| has_word(line, word));
            words.map(move |word| (number, word))
        });
        found
            .map(|(line, word)| format!("{}:{line}: `{word}`: {}", source.path, self.instead))
            .collect()
    }
}

/// True if the line has the word, and not as a part of a longer name.
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
fn no_module_has_a_forbidden_word() {
    none(SOURCES.iter().flat_map(|source| {
        FORBIDDEN.iter().flat_map(|rule| rule.complaints(source)).collect::<Vec<_>>()
    }));
}

#[test]
fn one_file_of_the_library_reads_the_environment() {
    let reads = |source: &&Source| {
        source.path.starts_with("crates/sameport/src/")
            && source.lines().any(|(_, line)| has_word(line, "env::var_os"))
    };
    let files: Vec<&str> = SOURCES.iter().filter(reads).map(|it| it.path.as_str()).collect();
    assert_eq!(files, ["crates/sameport/src/passed/variables.rs"]);
}

#[test]
fn every_path_of_a_rule_exists() {
    for path in FORBIDDEN.iter().flat_map(|rule| rule.paths) {
        assert!(SOURCES.iter().any(|it| it.path.starts_with(path)), "no source below {path}");
    }
}

#[test]
fn each_word_is_seen_in_code_and_only_there() {
    for rule in FORBIDDEN {
        for (path, word) in
            rule.paths.iter().flat_map(|path| rule.words.iter().map(move |word| (path, word)))
        {
            let file = format!("{}/x.rs", path.trim_end_matches('/'));
            let complaints = |text: &str| rule.complaints(&Source::new(&file, text)).len();
            assert_eq!(complaints(&format!("fn f() {{ {word} }}\n")), 1, "{word} in {path}");
            let quoted = format!("// {word}\nlet x = \"{word}\";");
            assert_eq!(complaints(&quoted), 0, "{word} in {path}");
            let longer = format!("fn f() {{ a{word}z }}");
            assert_eq!(complaints(&longer), usize::from(!word.starts_with(in_a_name)));
            let tests = format!("#[cfg(test)]\nmod tests {{ {word} }}");
            let outside = rule.complaints(&Source::new("elsewhere/x.rs", &format!("{word}\n")));
            assert_eq!((complaints(&tests), outside.len()), (0, 0), "{word} in {path}");
        }
    }
}

/// Systems that a file outside of the library names. `xtask targets` checks the other packages for
/// Linux, Windows, macOS and one BSD, which stands for every system that is neither.
fn other_systems(source: &Source) -> Vec<String> {
    const CHECKED: &[&str] = &["linux", "windows", "macos", "freebsd"];
    let is_library = source.path.starts_with("crates/sameport/") || source.is_test();
    let named =
        source.text.split("target_os = \"").skip(1).filter_map(|rest| rest.split('"').next());
    let others = named.filter(|system| !is_library && !CHECKED.contains(system));
    let complaint = |system| {
        let scope = "give a target of that system the scope Workspace in xtask/src/targets.rs";
        format!("{}: code for {system}: {scope}", source.path)
    };
    others.map(complaint).collect()
}

#[test]
fn code_for_one_system_is_checked_for_it() {
    none(SOURCES.iter().flat_map(other_systems));
    let found = |path: &str, system: &str| {
        let text =
            format!("#[cfg(any(target_os = \"linux\", target_os = \"{system}\"))]\nfn f() {{}}\n");
        other_systems(&Source::new(path, &text)).len()
    };
    assert_eq!(found("crates/cli/src/a.rs", "netbsd"), 1);
    assert_eq!(found("crates/cli/src/a.rs", "macos"), 0);
    assert_eq!(found("crates/sameport/src/system/bsd.rs", "netbsd"), 0);
}
