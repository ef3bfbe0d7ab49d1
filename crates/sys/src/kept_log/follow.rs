//! Reading kept output in the order in which it was written, also while the files are rotated.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::PathBuf;

use rustix::fs::{Mode, OFlags};

use super::CURRENT;
use super::directory::{LogDirectory, rotated_name};

/// Bytes of one read.
const BLOCK: usize = 256 * 1024;

/// Looks for a file that is not empty.
const LOOKS: usize = 10;

/// A reader that remembers its place.
#[derive(Debug)]
pub struct LogFollower {
    source: LogSource,
    open: Option<OpenFile>,
    /// The begin of a line whose end is not written yet.
    begun: Vec<u8>,
    /// Whether files were removed before they were read.
    missed: bool,
}

/// The files.
#[derive(Debug)]
enum LogSource {
    Kept(LogDirectory),
    /// One file, which another program may replace.
    File(PathBuf),
}

#[derive(Debug)]
struct OpenFile {
    file: File,
    inode: u64,
    position: u64,
}

impl LogSource {
    fn current(&self) -> Option<OwnedFd> {
        match self {
            Self::Kept(directory) => directory.read(CURRENT),
            Self::File(path) => {
                let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
                let file = File::from(rustix::fs::open(path, flags, Mode::empty()).ok()?);
                file.metadata().is_ok_and(|it| it.is_file()).then(|| file.into())
            }
        }
    }

    fn current_inode(&self) -> Option<u64> {
        match self {
            Self::Kept(directory) => directory.current_inode(),
            Self::File(path) => std::fs::metadata(path).ok().map(|it| it.ino()),
        }
    }

    /// The full files, the oldest first.
    fn rotated(&self) -> Vec<OpenFile> {
        match self {
            Self::File(_) => Vec::new(),
            Self::Kept(directory) => {
                let open = |number| OpenFile::new(directory.read(&rotated_name(number))?);
                directory.rotated().into_iter().filter_map(open).collect()
            }
        }
    }
}

impl OpenFile {
    fn new(fd: OwnedFd) -> Option<Self> {
        let file = File::from(fd);
        let inode = file.metadata().ok()?.ino();
        Some(Self { file, inode, position: 0 })
    }

    fn size(&self) -> u64 {
        self.file.metadata().map_or(0, |it| it.len())
    }
}

impl LogFollower {
    /// Reads the files of a directory.
    #[must_use]
    pub fn of_directory(directory: LogDirectory) -> Self {
        Self::new(LogSource::Kept(directory))
    }

    /// Reads one file.
    #[must_use]
    pub fn of_file(path: PathBuf) -> Self {
        Self::new(LogSource::File(path))
    }

    fn new(source: LogSource) -> Self {
        Self { source, open: None, begun: Vec::new(), missed: false }
    }

    /// Whether a log writer lives. `false` for a single file.
    #[must_use]
    pub fn has_writer(&self) -> bool {
        match &self.source {
            LogSource::Kept(directory) => directory.has_writer(),
            LogSource::File(_) => false,
        }
    }

    /// Goes to the end, and returns the last `most` lines before it that `wanted` accepts, without their newlines.
    /// `wanted` gets the lines from the last one on; `None` ends the search.
    ///
    /// # Errors
    ///
    /// Errors of `read(2)`.
    pub fn last(
        &mut self,
        most: usize,
        wanted: &mut dyn FnMut(&[u8]) -> Option<bool>,
    ) -> io::Result<Vec<Vec<u8>>> {
        let mut files = self.whole_files();
        // A fast worker can rotate between the list and the open, so that a look finds only a file that is empty.
        for _ in 0..LOOKS {
            if files.iter().any(|it| it.position > 0) {
                break;
            }
            files = self.whole_files();
        }
        let mut found: Vec<Vec<u8>> = Vec::new();
        for file in files.iter().rev() {
            if found.len() >= most
                || !last_of_file(&file.file, file.position, most, wanted, &mut found)?
            {
                break;
            }
        }
        found.reverse();
        self.open = files.pop();
        self.begun.clear();
        // An unfinished line at the end is read again when it is complete.
        if let Some(open) = &mut self.open {
            open.position -= unfinished(&open.file, open.position)?;
        }
        Ok(found)
    }

    /// All files, the oldest first, with their ends as places. During a rotation there is no current one.
    fn whole_files(&self) -> Vec<OpenFile> {
        let current = self.source.current().and_then(OpenFile::new);
        let mut files = self.source.rotated();
        if let Some(open) = current {
            // It was rotated in between: those behind it are younger.
            if let Some(place) = files.iter().position(|it| it.inode == open.inode) {
                files.truncate(place);
            }
            files.push(open);
        }
        files.iter_mut().for_each(|it| it.position = it.size());
        files
    }

    /// Whether files were removed before they were read, since the last call.
    pub fn take_missed(&mut self) -> bool {
        std::mem::take(&mut self.missed)
    }

    /// Appends whole lines to `lines`. `false`: there are no more at present.
    ///
    /// # Errors
    ///
    /// Errors of `read(2)`.
    pub fn read(&mut self, lines: &mut Vec<u8>) -> io::Result<bool> {
        if self.open.is_none() {
            self.open = self.source.rotated().into_iter().next();
            if self.open.is_none() {
                self.open = self.source.current().and_then(OpenFile::new);
            }
        }
        let Some(open) = &mut self.open else { return Ok(false) };
        if read_block(open, &mut self.begun, lines)? {
            return Ok(true);
        }
        if self.source.current_inode() == Some(open.inode) {
            // A user has emptied the file.
            if open.size() < open.position {
                open.position = 0;
                self.begun.clear();
                return read_block(open, &mut self.begun, lines);
            }
            return Ok(false);
        }
        // What was written between the read and the rotation.
        if read_block(open, &mut self.begun, lines)? {
            return Ok(true);
        }
        let inode = open.inode;
        match self.successor(inode) {
            None => Ok(false),
            Some(next) => {
                self.open = Some(next);
                // The writer ends each file with a whole line; another program's file may end without one.
                if !self.begun.is_empty() {
                    lines.append(&mut self.begun);
                    lines.push(b'\n');
                }
                Ok(true)
            }
        }
    }

    /// The file after the one with this inode.
    fn successor(&mut self, inode: u64) -> Option<OpenFile> {
        // Opened before the list is read: a file that is rotated in between is in the list.
        let current = self.source.current().and_then(OpenFile::new);
        let mut rotated = self.source.rotated();
        if let Some(place) = rotated.iter().position(|it| it.inode == inode) {
            rotated.drain(..=place);
        } else if matches!(self.source, LogSource::Kept(_)) {
            self.missed = true;
        }
        rotated.into_iter().next().or(current)
    }
}

/// Reads one block, and appends its whole lines. `false`: the file has no more bytes.
fn read_block(open: &mut OpenFile, begun: &mut Vec<u8>, lines: &mut Vec<u8>) -> io::Result<bool> {
    let before = begun.len();
    begun.resize(before + BLOCK, 0);
    let read = open.file.read_at(&mut begun[before..], open.position);
    begun.truncate(before + *read.as_ref().unwrap_or(&0));
    let read = read?;
    open.position += read as u64;
    if let Some(end) = begun[before..].iter().rposition(|byte| *byte == b'\n') {
        lines.extend(begun.drain(..=before + end));
    }
    Ok(read > 0)
}

/// The bytes after the last newline before `end`.
fn unfinished(file: &File, end: u64) -> io::Result<u64> {
    let mut length = 0;
    let mut block = vec![0; 64 * 1024];
    while length < end {
        let size = usize::try_from((end - length).min(block.len() as u64)).unwrap_or(0);
        file.read_exact_at(&mut block[..size], end - length - size as u64)?;
        if let Some(at) = block[..size].iter().rposition(|byte| *byte == b'\n') {
            return Ok(length + (size - at - 1) as u64);
        }
        length += size as u64;
    }
    Ok(length)
}

/// Adds the last lines of a file before `end`, the last one first, until there are `most`. `false`: `wanted` has ended
/// the search.
fn last_of_file(
    file: &File,
    end: u64,
    most: usize,
    wanted: &mut dyn FnMut(&[u8]) -> Option<bool>,
    found: &mut Vec<Vec<u8>>,
) -> io::Result<bool> {
    let mut start = end - unfinished(file, end)?;
    // The begin of the block after, which belongs to a line that begins in an earlier one.
    let mut rest: Vec<u8> = Vec::new();
    while start > 0 && found.len() < most {
        let size = usize::try_from(start.min(BLOCK as u64)).unwrap_or(BLOCK);
        let mut block = vec![0; size];
        file.read_exact_at(&mut block, start - size as u64)?;
        start -= size as u64;
        block.append(&mut rest);
        let first = match start {
            0 => 0,
            _ => block.iter().position(|byte| *byte == b'\n').map_or(block.len(), |at| at + 1),
        };
        let lines = block[first..].strip_suffix(b"\n").unwrap_or(&block[first..]);
        if first < block.len() {
            for line in lines.rsplit(|byte| *byte == b'\n') {
                if found.len() >= most {
                    break;
                }
                match wanted(line) {
                    None => return Ok(false),
                    Some(true) => found.push(line.to_vec()),
                    Some(false) => {}
                }
            }
        }
        block.truncate(first);
        rest = block;
    }
    Ok(true)
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
