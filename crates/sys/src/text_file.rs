//! A text file of the user, read whole, with its owner and the users that can write to it.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::Path;

use rustix::fs::{Mode, OFlags};

/// A file as it was at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TextFile {
    /// The content, which later changes of the file do not touch.
    pub content: Vec<u8>,
    /// The uid of its owner.
    pub owner: u32,
    /// The gid of its group.
    pub group: u32,
    /// The permissions: the lowest twelve bits of `st_mode`.
    pub mode: u32,
    /// The owner of the symbolic link, if the path is one.
    pub link_owner: Option<u32>,
}

/// Why a file was not read.
#[derive(Debug)]
pub enum TextFileError {
    /// `open(2)`, `fstat(2)` or `read(2)` failed.
    System(io::Error),
    /// The path is not a regular file, but this.
    NotAFile(&'static str),
    /// The file is longer than the limit, in bytes.
    TooLong(usize),
}

impl From<io::Error> for TextFileError {
    fn from(error: io::Error) -> Self {
        Self::System(error)
    }
}

/// Reads a regular file of at most `most` bytes. A FIFO, a socket or a device is refused without waiting.
///
/// # Errors
///
/// See [`TextFileError`].
pub fn read(path: &Path, most: usize) -> Result<TextFile, TextFileError> {
    // O_NONBLOCK: opening a FIFO returns at once. O_NOCTTY: a terminal does not become that of this process.
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let link_owner = std::fs::symlink_metadata(path)?;
    let link_owner = link_owner.file_type().is_symlink().then(|| link_owner.uid());
    let file: File = rustix::fs::open(path, flags, Mode::empty()).map_err(io::Error::from)?.into();
    let facts = file.metadata()?;
    if !facts.is_file() {
        let kind = facts.file_type();
        return Err(TextFileError::NotAFile(match () {
            () if kind.is_dir() => "a directory",
            () if kind.is_fifo() => "a FIFO",
            () if kind.is_char_device() || kind.is_block_device() => "a device",
            () => "no regular file",
        }));
    }
    let mut content = Vec::new();
    // One byte more tells a file of the limit from a longer one, also where the size is not known before (/proc).
    file.take(most as u64 + 1).read_to_end(&mut content)?;
    if content.len() > most {
        return Err(TextFileError::TooLong(most));
    }
    let (owner, group, mode) = (facts.uid(), facts.gid(), facts.mode() & 0o7777);
    Ok(TextFile { content, owner, group, mode, link_owner })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn only_a_regular_file_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        std::fs::write(path("file"), "[web]\n").unwrap();
        std::fs::set_permissions(path("file"), std::fs::Permissions::from_mode(0o640)).unwrap();
        std::os::unix::fs::symlink("file", path("link")).unwrap();
        std::os::unix::fs::symlink("none", path("dangling")).unwrap();
        rustix::fs::mknodat(
            rustix::fs::CWD,
            path("fifo"),
            rustix::fs::FileType::Fifo,
            Mode::from_raw_mode(0o600),
            0,
        )
        .unwrap();
        let file = read(&path("file"), 6).unwrap();
        assert_eq!((file.content.as_slice(), file.mode), (&b"[web]\n"[..], 0o640));
        assert_eq!((file.owner, file.link_owner), (crate::effective_user(), None));
        assert_eq!(read(&path("link"), 6).unwrap().link_owner, Some(crate::effective_user()));
        assert!(matches!(read(&path("file"), 5), Err(TextFileError::TooLong(5))));
        assert!(matches!(read(&path("fifo"), 6), Err(TextFileError::NotAFile("a FIFO"))));
        assert!(matches!(read(folder.path(), 6), Err(TextFileError::NotAFile("a directory"))));
        let device = read(Path::new("/dev/zero"), 6);
        assert!(matches!(device, Err(TextFileError::NotAFile("a device"))));
        for missing in ["dangling", "none"] {
            let error = read(&path(missing), 6);
            assert!(matches!(error, Err(TextFileError::System(_))), "{missing}");
        }
    }
}
