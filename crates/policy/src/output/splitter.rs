//! The output of one worker, split into records.

use super::record::LineEnding;

/// The longest text of a record in bytes. A longer line becomes several records, so that a worker that writes no
/// newline takes this much memory and no more.
pub const LONGEST: usize = 16 * 1024;

/// Splits a stream at its newlines.
#[derive(Debug, Default)]
pub struct LineSplitter {
    /// The begin of a line.
    begun: Vec<u8>,
}

impl LineSplitter {
    /// Takes bytes, and gives every text that is complete or too long.
    pub fn push(&mut self, mut bytes: &[u8], each: &mut dyn FnMut(LineEnding, &[u8])) {
        while let Some(at) = bytes.iter().position(|byte| *byte == b'\n') {
            self.text(&bytes[..at], Some(LineEnding::Newline), each);
            bytes = &bytes[at + 1..];
        }
        self.text(bytes, None, each);
    }

    /// Gives the begun line, if there is one: its worker has ended, or has not gone on for a while.
    pub fn flush(&mut self, each: &mut dyn FnMut(LineEnding, &[u8])) {
        if !self.begun.is_empty() {
            each(LineEnding::Open, &self.begun);
            self.begun.clear();
        }
    }

    /// Whether a line has begun.
    #[must_use]
    pub fn is_open(&self) -> bool {
        !self.begun.is_empty()
    }

    /// Takes the next part of a line, with its ending if this is the last part.
    fn text(
        &mut self,
        mut part: &[u8],
        end: Option<LineEnding>,
        each: &mut dyn FnMut(LineEnding, &[u8]),
    ) {
        while self.begun.len() + part.len() > LONGEST {
            let (now, later) = part.split_at(LONGEST - self.begun.len());
            match self.begun.is_empty() {
                true => each(LineEnding::Open, now),
                false => {
                    self.begun.extend_from_slice(now);
                    each(LineEnding::Open, &self.begun);
                    self.begun.clear();
                }
            }
            part = later;
        }
        match end {
            None => self.begun.extend_from_slice(part),
            Some(ending) if self.begun.is_empty() => each(ending, part),
            Some(ending) => {
                self.begun.extend_from_slice(part);
                each(ending, &self.begun);
                self.begun.clear();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(chunks: &[&[u8]]) -> (Vec<(LineEnding, Vec<u8>)>, LineSplitter) {
        let (mut records, mut splitter) = (Vec::new(), LineSplitter::default());
        for chunk in chunks {
            splitter.push(chunk, &mut |ending, text| records.push((ending, text.to_vec())));
        }
        (records, splitter)
    }

    #[test]
    fn lines_are_found_wherever_the_reads_end() {
        let expected = [(LineEnding::Newline, b"one".to_vec()), (LineEnding::Newline, Vec::new())];
        for chunks in [&[&b"one\n\ntw"[..]][..], &[b"o", b"ne", b"\n", b"", b"\nt", b"w"]] {
            let (records, mut splitter) = split(chunks);
            assert_eq!(records, expected);
            assert!(splitter.is_open());
            let mut rest = Vec::new();
            splitter.flush(&mut |ending, text| rest.push((ending, text.to_vec())));
            assert_eq!(rest, [(LineEnding::Open, b"tw".to_vec())]);
            splitter.flush(&mut |_, _| panic!("nothing is left"));
        }
    }

    #[test]
    fn any_stream_can_be_put_together_again() {
        let mut stream = vec![b'x'; LONGEST * 3];
        stream[10] = b'\n';
        stream[11 + LONGEST] = b'\n';
        stream[11 + LONGEST + LONGEST / 2] = 0;
        for size in [1, 7, LONGEST - 1, LONGEST, LONGEST + 1, stream.len()] {
            let chunks: Vec<&[u8]> = stream.chunks(size).collect();
            let (mut records, mut splitter) = split(&chunks);
            splitter.flush(&mut |ending, text| records.push((ending, text.to_vec())));
            let mut joined = Vec::new();
            for (ending, text) in records {
                assert!(text.len() <= LONGEST, "{}", text.len());
                joined.extend(text);
                joined.extend((ending == LineEnding::Newline).then_some(b'\n'));
            }
            assert_eq!(joined, stream, "{size}");
        }
    }
}
