//! What a step is to a person: in words, what must be seen, what was seen, and whether that agrees.

use super::model::{Act, Answer, Call, Open, Row, Send, Share, Stage};

/// One step, as told to a person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// What is done.
    pub step: String,
    /// What the table says of it.
    pub expected: String,
    /// What the kernel said.
    pub seen: String,
    /// Whether these agree.
    pub agrees: bool,
}

impl Line {
    /// A step of the row's own that has no answer to compare.
    #[must_use]
    pub fn done(step: String) -> Self {
        Self { step, expected: "ok".to_owned(), seen: "ok".to_owned(), agrees: true }
    }

    /// The kernel's answer to a call, beside the one that it must give: `seen` is `ok` or the name of an
    /// error.
    #[must_use]
    pub fn answered(step: String, expected: Answer, seen: &str) -> Self {
        let words = expected.words();
        Self { step, expected: words.to_owned(), seen: seen.to_owned(), agrees: words == seen }
    }

    /// What each socket received of what was sent.
    #[must_use]
    pub fn received(send: Send, share: Share, counts: &[(char, usize)]) -> Self {
        let of = |name| counts.iter().find(|(n, _)| *n == name).map_or(0, |(_, count)| *count);
        let (expected, agrees) = match share {
            Share::All(name) => (format!("all to {name}"), of(name) == send.count),
            Share::Each(names) => {
                let enough = names.chars().all(|name| of(name) > 0);
                let sum: usize = names.chars().map(of).sum();
                (format!("some to each of {names}"), enough && sum == send.count)
            }
        };
        let seen: Vec<_> =
            counts.iter().map(|(name, count)| format!("{count} to {name}")).collect();
        let seen = if seen.is_empty() { "none received".to_owned() } else { seen.join(", ") };
        Self { step: format!("{} sent to {}", send.count, send.ip), expected, seen, agrees }
    }

    /// What became of so many queued connections.
    #[must_use]
    pub fn queued(total: usize, expect_resets: bool, reset: usize, accepted: usize) -> Self {
        let all = reset + accepted == total && accepted > 0;
        let word = if expect_resets { "some reset, the rest accepted" } else { "all accepted" };
        Self {
            step: format!("{total} queued"),
            expected: word.to_owned(),
            seen: format!("{reset} reset, {accepted} accepted"),
            agrees: all && (reset > 0) == expect_resets,
        }
    }

    /// Whether a socket has another port than at first.
    #[must_use]
    pub fn moved(who: char, expected: bool, moved: bool) -> Self {
        let word = |moved| if moved { "another port" } else { "the same port" }.to_owned();
        Self {
            step: format!("{who} has"),
            expected: word(expected),
            seen: word(moved),
            agrees: moved == expected,
        }
    }
}

/// How a row ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The kernel does all that the row says.
    Agrees(Vec<Line>),
    /// The last line is the one that differs: the steps after it mean nothing any more.
    Differs(Vec<Line>),
    /// It cannot be run here, and why.
    Skipped(String),
    /// It could not be run to its end, and why.
    Broken(String),
}

/// The steps that say something: all but the plain `ok`s, and the last one in any case.
pub fn telling(lines: &[Line]) -> impl Iterator<Item = &Line> {
    let last = lines.len().saturating_sub(1);
    let telling = move |(at, line): &(usize, &Line)| *at == last || line.expected != "ok";
    lines.iter().enumerate().filter(telling).map(|(_, line)| line)
}

/// The name of a row with one of its protocols: `udp/ra-ra-other-user`.
#[must_use]
pub fn name(row: &Row, proto: super::model::Proto) -> String {
    format!("{}/{}", proto.name(), row.name)
}

impl Open {
    /// The step in a person's words.
    #[must_use]
    pub fn words(&self) -> String {
        let verb = match self.stage {
            Stage::Made => "makes",
            Stage::Bound => "binds",
            Stage::Serving => "opens",
        };
        let options: Vec<_> = self.options.iter().map(|option| option.words()).collect();
        let with = if options.is_empty() { "no options".to_owned() } else { options.join(", ") };
        format!("{} ({:?}) {verb} {} with {with}", self.name, self.user, self.ip)
    }
}

impl Call {
    /// The step in a person's words.
    #[must_use]
    pub fn words(&self) -> String {
        let who = self.who;
        match self.act {
            Act::Set(option) => format!("{who} set to {}", option.words()),
            Act::Bind => format!("{who} binds"),
            Act::Listen => format!("{who} listens"),
            Act::Shutdown => format!("{who} shuts down"),
            Act::Chown(user) => format!("{who} given to {user:?}"),
            Act::Connect(to) => format!("{who} connects to {to}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel_rules::dsl::send;
    use crate::kernel_rules::model::{EADDRINUSE, LO};

    #[test]
    fn an_answer_agrees_with_itself_and_with_nothing_else() {
        let line = |expected, seen| Line::answered("A binds".into(), expected, seen).agrees;
        assert!(line(Answer::Ok, "ok") && line(Answer::Fails(EADDRINUSE), "EADDRINUSE"));
        assert!(!line(Answer::Ok, "EADDRINUSE") && !line(Answer::Fails(EADDRINUSE), "EACCES"));
        assert!(!line(Answer::Fails(EADDRINUSE), "ok"));
    }

    #[test]
    fn shares_are_bounds() {
        let line = |share, counts: &[_]| Line::received(send(60, LO), share, counts).agrees;
        assert!(line(Share::All('A'), &[('A', 60)]) && !line(Share::All('A'), &[('A', 59)]));
        assert!(line(Share::Each("AB"), &[('A', 59), ('B', 1)]));
        assert!(!line(Share::Each("AB"), &[('A', 60)]) && !line(Share::Each("AB"), &[]));
        assert!(!line(Share::Each("AB"), &[('A', 58), ('B', 1), ('C', 1)]));
    }

    #[test]
    fn a_queue_is_whole_or_partly_reset_and_nothing_is_lost() {
        let line = |expected, reset, accepted| Line::queued(8, expected, reset, accepted).agrees;
        assert!(line(false, 0, 8) && line(true, 3, 5));
        assert!(!line(false, 3, 5) && !line(true, 0, 8) && !line(true, 8, 0) && !line(true, 3, 4));
    }
}
