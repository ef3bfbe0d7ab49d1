//! The file that gets the output of workers.

use std::fs::File;
use std::io;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{FileType, Mode, OFlags};

/// Opens a log file for appending, and creates it with mode 0640 if it does not exist. Gives its size
/// in bytes too.
///
/// A symbolic link is refused, because a worker that may write to the directory could let it lead
/// anywhere; so is everything that is no regular file, because a FIFO without a reader blocks its
/// writers.
///
/// # Errors
///
/// Errors of `open(2)`: ELOOP for a symbolic link. `InvalidInput`: not a regular file.
pub fn open(path: &Path) -> io::Result<(OwnedFd, u64)> {
    // O_NONBLOCK: the open of a FIFO must not wait for a reader. A regular file ignores it.
    let flags = OFlags::WRONLY
        | OFlags::APPEND
        | OFlags::CREATE
        | OFlags::CLOEXEC
        | OFlags::NOFOLLOW
        | OFlags::NOCTTY
        | OFlags::NONBLOCK;
    let file = rustix::fs::open(path, flags, Mode::from_raw_mode(0o640))?;
    let size = size_of_regular(&file)?;
    rustix::fs::fcntl_setfl(&file, OFlags::APPEND)?;
    Ok((file, size))
}

fn size_of_regular(file: &OwnedFd) -> io::Result<u64> {
    let stat = rustix::fs::fstat(file)?;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => Ok(u64::try_from(stat.st_size).unwrap_or(0)),
        _ => Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file")),
    }
}

/// The last complete lines that were written since the file had the size `from`: at most `lines` lines
/// in the last `bytes` bytes. Invalid UTF-8 is replaced.
///
/// # Errors
///
/// Errors of `open(2)` and `read(2)`; `InvalidInput`: not a regular file.
pub fn last_lines(path: &Path, from: u64, lines: usize, bytes: u64) -> io::Result<Vec<String>> {
    let flags =
        OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NOCTTY | OFlags::NONBLOCK;
    let file = rustix::fs::open(path, flags, Mode::empty())?;
    let size = size_of_regular(&file)?;
    // A file that is smaller was truncated or replaced meanwhile.
    let from = if from <= size { from } else { 0 };
    let start = from.max(size.saturating_sub(bytes));
    let mut file = File::from(file);
    file.seek(SeekFrom::Start(start))?;
    let mut text = Vec::new();
    file.take(bytes).read_to_end(&mut text)?;
    let text = String::from_utf8_lossy(&text);
    // The first line may have lost its begin.
    let whole = match start > from {
        true => text.split_once('\n').map_or("", |(_, rest)| rest),
        false => &text,
    };
    let all: Vec<&str> = whole.lines().collect();
    Ok(all[all.len().saturating_sub(lines)..].iter().map(|line| (*line).to_owned()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    #[test]
    fn output_is_appended_and_its_last_lines_are_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let (file, size) = open(&path).unwrap();
        assert_eq!(size, 0);
        File::from(file).write_all(b"one\ntwo\n").unwrap();
        let (file, size) = open(&path).unwrap();
        assert_eq!(size, 8);
        File::from(file).write_all(b"three\nfo\xffur\nfive").unwrap();
        for (from, lines, bytes, expected) in [
            (size, 9, 4096, &["three", "fo\u{fffd}ur", "five"][..]),
            (size, 2, 4096, &["fo\u{fffd}ur", "five"]),
            (0, 9, 4096, &["one", "two", "three", "fo\u{fffd}ur", "five"]),
            // The limit of bytes cuts a line, which is left out.
            (size, 9, 12, &["fo\u{fffd}ur", "five"]),
            (size, 9, 3, &[]),
            // The file was truncated.
            (9_999, 1, 4096, &["five"]),
        ] {
            let read = last_lines(&path, from, lines, bytes).unwrap();
            assert_eq!(read, expected, "{from} {lines} {bytes}");
        }
    }

    #[test]
    fn links_and_fifos_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let (link, fifo) = (dir.path().join("link"), dir.path().join("fifo"));
        std::os::unix::fs::symlink("/dev/null", &link).unwrap();
        rustix::fs::mknodat(rustix::fs::CWD, &fifo, FileType::Fifo, Mode::from_raw_mode(0o600), 0)
            .unwrap();
        for path in [&link, &fifo, &dir.path().to_owned()] {
            assert!(open(path).is_err(), "{}", path.display());
            assert!(last_lines(path, 0, 9, 99).is_err(), "{}", path.display());
        }
        assert!(open(Path::new("/dev/null")).is_err());
    }
}
