//! Keys, parsed from the bytes of a terminal.

/// A key with a meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Key {
    Char(char),
    Up,
    Down,
    PageUp,
    PageDown,
    Home,
    End,
    Enter,
    Escape,
}

/// The bytes that are no whole key yet: over a slow line an escape sequence arrives in parts.
#[derive(Debug, Default)]
pub(super) struct KeyReader {
    bytes: Vec<u8>,
}

/// The longest sequence that is waited for, in bytes.
const LONGEST: usize = 16;

impl KeyReader {
    /// Adds bytes and returns the whole keys.
    pub(super) fn feed(&mut self, bytes: &[u8]) -> Vec<Key> {
        self.bytes.extend_from_slice(bytes);
        let mut keys = Vec::new();
        while let Some((length, key)) = first(&self.bytes) {
            self.bytes.drain(..length);
            keys.extend(key);
        }
        keys
    }

    /// Whether a sequence has begun.
    pub(super) fn is_waiting(&self) -> bool {
        !self.bytes.is_empty()
    }

    /// The rest of a sequence did not come: Escape alone.
    pub(super) fn give_up(&mut self) -> Option<Key> {
        let first = self.bytes.first().copied();
        let is_alone = self.bytes.len() == 1;
        self.bytes.clear();
        first.filter(|byte| *byte == 0x1b && is_alone).map(|_| Key::Escape)
    }
}

/// The length of the first key and, if it has a meaning, the key. `None` if more bytes are needed.
fn first(bytes: &[u8]) -> Option<(usize, Option<Key>)> {
    match bytes {
        [] | [0x1b] => None,
        [0x1b, b'[' | b'O', ..] => sequence(bytes),
        // Escape before another key.
        [0x1b, ..] => Some((1, Some(Key::Escape))),
        [b'\r' | b'\n', ..] => Some((1, Some(Key::Enter))),
        // Ctrl-P and Ctrl-N, Ctrl-B and Ctrl-F, as in editors.
        [0x10, ..] => Some((1, Some(Key::Up))),
        [0x0e, ..] => Some((1, Some(Key::Down))),
        [0x02, ..] => Some((1, Some(Key::PageUp))),
        [0x06, ..] => Some((1, Some(Key::PageDown))),
        [byte @ 0x20..=0x7e, ..] => Some((1, Some(Key::Char(char::from(*byte))))),
        [_, ..] => Some((1, None)),
    }
}

/// `ESC [`, parameters, a final byte (ECMA-48); `ESC O` and one byte.
fn sequence(bytes: &[u8]) -> Option<(usize, Option<Key>)> {
    let parameters = bytes[2..].iter().take_while(|byte| (0x20..=0x3f).contains(*byte)).count();
    let end = 2 + parameters;
    let Some(last) = bytes.get(end) else {
        return (bytes.len() >= LONGEST).then_some((bytes.len(), None));
    };
    let key = match (&bytes[2..end], last) {
        ([], b'A') => Some(Key::Up),
        ([], b'B') => Some(Key::Down),
        ([], b'H') | (b"1" | b"7", b'~') => Some(Key::Home),
        ([], b'F') | (b"4" | b"8", b'~') => Some(Key::End),
        ([], b'M') => Some(Key::Enter),
        (b"5", b'~') => Some(Key::PageUp),
        (b"6", b'~') => Some(Key::PageDown),
        _ => None,
    };
    Some((end + 1, key))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_become_keys() {
        let cases: [(&[u8], &[Key]); 14] = [
            (b"q", &[Key::Char('q')]),
            (b"jk", &[Key::Char('j'), Key::Char('k')]),
            (b"\x1b[A\x1b[B", &[Key::Up, Key::Down]),
            (b"\x1bOA\x1bOB", &[Key::Up, Key::Down]),
            (b"\x1b[5~\x1b[6~", &[Key::PageUp, Key::PageDown]),
            (b"\x1b[H\x1b[F\x1b[1~\x1b[4~", &[Key::Home, Key::End, Key::Home, Key::End]),
            (b"\r\n", &[Key::Enter, Key::Enter]),
            (b"\x1bq", &[Key::Escape, Key::Char('q')]),
            (b"\x1b\x1b[A", &[Key::Escape, Key::Up]),
            // Unknown: F5, Ctrl-Right, a mouse report, a byte of UTF-8.
            (b"\x1b[15~x", &[Key::Char('x')]),
            (b"\x1b[1;5Cx", &[Key::Char('x')]),
            (b"\x1b[<0;1;1Mx", &[Key::Char('x')]),
            ("é".as_bytes(), &[]),
            (b"\x00\x7f\xff", &[]),
        ];
        for (bytes, expected) in cases {
            assert_eq!(KeyReader::default().feed(bytes), expected, "{bytes:?}");
            // The same, a byte at a time.
            let mut reader = KeyReader::default();
            let keys: Vec<Key> = bytes.iter().flat_map(|byte| reader.feed(&[*byte])).collect();
            assert_eq!(keys, expected, "{bytes:?}");
            assert!(!reader.is_waiting(), "{bytes:?}");
        }
    }

    #[test]
    fn escape_alone_is_a_key_once_nothing_follows() {
        let mut reader = KeyReader::default();
        assert_eq!(reader.feed(b"\x1b"), []);
        assert!(reader.is_waiting());
        assert_eq!(reader.give_up(), Some(Key::Escape));
        assert_eq!(reader.feed(b"\x1b["), []);
        assert_eq!(reader.give_up(), None);
        assert!(!reader.is_waiting());
    }

    #[test]
    fn a_sequence_without_end_is_dropped() {
        let mut reader = KeyReader::default();
        assert_eq!(reader.feed(&[b"\x1b[", &[b'1'; 1000][..]].concat()), []);
        assert!(!reader.is_waiting());
        assert_eq!(reader.feed(b"q"), [Key::Char('q')]);
    }
}
