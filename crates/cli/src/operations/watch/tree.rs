//! The files below some paths, watched by `inotify(7)`.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};

use inotify::{EventMask, Inotify, WatchDescriptor, WatchMask};

/// Why nothing can be watched.
#[derive(Debug)]
pub(crate) enum WatchError {
    /// This path cannot.
    Path(PathBuf, io::Error),
    /// The limit of watches is reached after this number of directories.
    TooMany(usize),
    /// A call failed.
    System(&'static str, io::Error),
}

/// Directories whose files no server is made of, or that builds write to.
const IGNORED: [&str; 3] = ["target", "node_modules", "__pycache__"];

/// What an editor or a build does to a file that then has another content: it writes and closes it, or it
/// renames another file to its name.
const CHANGES: WatchMask = WatchMask::CLOSE_WRITE
    .union(WatchMask::CREATE)
    .union(WatchMask::DELETE)
    .union(WatchMask::MOVED_FROM)
    .union(WatchMask::MOVED_TO)
    .union(WatchMask::EXCL_UNLINK);

/// Watched paths.
pub(super) struct WatchedTree {
    inotify: Inotify,
    directories: HashMap<WatchDescriptor, WatchedDirectory>,
}

/// A directory, and what counts in it.
#[derive(Debug, Clone)]
struct WatchedDirectory {
    path: PathBuf,
    /// The file that counts; `None`: every one, and those in the directories below.
    only: Option<Vec<PathBuf>>,
}

impl WatchedTree {
    pub(super) fn new() -> Result<Self, WatchError> {
        let inotify =
            Inotify::init().map_err(|error| WatchError::System("inotify_init1", error))?;
        Ok(Self { inotify, directories: HashMap::new() })
    }

    /// Watches a file, or a directory with those below it.
    pub(super) fn add(&mut self, path: &Path) -> Result<(), WatchError> {
        let failed = |error| WatchError::Path(path.to_owned(), error);
        let path = path.canonicalize().map_err(failed)?;
        if path.is_dir() { self.add_directory(&path) } else { self.add_file(&path) }
    }

    /// Watches one file by its directory: an editor replaces it by another file of its name.
    pub(super) fn add_file(&mut self, file: &Path) -> Result<(), WatchError> {
        let Some(parent) = file.parent() else { return Ok(()) };
        let watch = self.watch(parent)?;
        let known = self.directories.entry(watch).or_insert_with(|| WatchedDirectory {
            path: parent.to_owned(),
            only: Some(Vec::new()),
        });
        if let Some(only) = &mut known.only {
            only.push(file.to_owned());
        }
        Ok(())
    }

    fn add_directory(&mut self, path: &Path) -> Result<(), WatchError> {
        let mut left = vec![path.to_owned()];
        while let Some(path) = left.pop() {
            let watch = match self.watch(&path) {
                Ok(watch) => watch,
                // It is gone again.
                Err(WatchError::Path(_, error)) if error.kind() == io::ErrorKind::NotFound => {
                    continue;
                }
                Err(error) => return Err(error),
            };
            self.directories.insert(watch, WatchedDirectory { path: path.clone(), only: None });
            // A directory that cannot be read is watched itself.
            for entry in std::fs::read_dir(&path).into_iter().flatten().flatten() {
                let is_directory = entry.file_type().is_ok_and(|it| it.is_dir());
                if is_directory && counts(&entry.file_name()) {
                    left.push(entry.path());
                }
            }
        }
        Ok(())
    }

    fn watch(&self, path: &Path) -> Result<WatchDescriptor, WatchError> {
        let added = self.inotify.watches().add(path, CHANGES);
        added.map_err(|error| match error.kind() {
            io::ErrorKind::StorageFull => WatchError::TooMany(self.directories.len()),
            _ => WatchError::Path(path.to_owned(), error),
        })
    }

    /// The paths that have changed since the last call; the directories themselves if the kernel has lost events.
    pub(super) fn changed(&mut self) -> Result<Vec<PathBuf>, WatchError> {
        let mut changed = Vec::new();
        let mut new = Vec::new();
        let mut buffer = [0; 16 * 1024];
        loop {
            let events = match self.inotify.read_events(&mut buffer) {
                Ok(events) => events,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(WatchError::System("read", error)),
            };
            for event in events {
                if event.mask.contains(EventMask::Q_OVERFLOW) {
                    let all = self.directories.values();
                    changed.extend(all.map(|directory| directory.path.clone()));
                    continue;
                }
                if event.mask.contains(EventMask::IGNORED) {
                    self.directories.remove(&event.wd);
                    continue;
                }
                let (Some(directory), Some(name)) = (self.directories.get(&event.wd), event.name)
                else {
                    continue;
                };
                let path = directory.path.join(name);
                let is_directory = event.mask.contains(EventMask::ISDIR);
                let is_new = event.mask.intersects(EventMask::CREATE | EventMask::MOVED_TO);
                match &directory.only {
                    Some(only) if only.contains(&path) => changed.push(path),
                    Some(_) => {}
                    None if !counts(name) => {}
                    None if is_directory && is_new => {
                        new.push(path.clone());
                        changed.push(path);
                    }
                    // A file has its content when it is closed.
                    None if event.mask.contains(EventMask::CREATE) && !is_link(&path) => {}
                    None => changed.push(path),
                }
            }
        }
        for path in new {
            self.add_directory(&path)?;
        }
        Ok(changed)
    }
}

impl AsFd for WatchedTree {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inotify.as_fd()
    }
}

/// A link and another name of a file are whole when they are created.
fn is_link(path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt as _;

    std::fs::symlink_metadata(path).is_ok_and(|file| file.is_symlink() || file.nlink() > 1)
}

/// Whether a change of a file, or a directory, of this name counts. Editors write beside a file: `.file.swp`,
/// `file~`, `4913`, `#file#`.
fn counts(name: &OsStr) -> bool {
    let Some(text) = name.to_str() else { return true };
    let is_backup = text.ends_with('~') || text.starts_with('#') && text.ends_with('#');
    !is_backup && !text.starts_with('.') && text != "4913" && !IGNORED.contains(&text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changed(tree: &mut WatchedTree, root: &Path) -> Vec<String> {
        let mut changed: Vec<String> = tree
            .changed()
            .unwrap()
            .iter()
            .map(|path| path.strip_prefix(root).unwrap().display().to_string())
            .collect();
        changed.sort();
        changed.dedup();
        changed
    }

    #[test]
    fn files_that_count_are_seen_in_every_directory() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        for name in ["src/deep", "target", "node_modules/x", ".git"] {
            std::fs::create_dir_all(root.join(name)).unwrap();
        }
        let mut tree = WatchedTree::new().unwrap();
        tree.add(&root).unwrap();
        let write = |name: &str| std::fs::write(root.join(name), "x").unwrap();
        let cases: [(&[&str], &[&str]); 5] = [
            (&["a.py"], &["a.py"]),
            (&["src/deep/b.py"], &["src/deep/b.py"]),
            (&["target/c", "node_modules/x/d", ".git/e", "src/.f.swp", "g~", "4913"], &[]),
            (&["a.py", "a.py"], &["a.py"]),
            (&[], &[]),
        ];
        for (written, expected) in cases {
            written.iter().for_each(|name| write(name));
            assert_eq!(changed(&mut tree, &root), expected, "{written:?}");
        }
        // As an editor saves: another file gets the name.
        write("src/.new");
        std::fs::rename(root.join("src/.new"), root.join("src/h.py")).unwrap();
        assert_eq!(changed(&mut tree, &root), ["src/h.py"]);
        std::fs::remove_file(root.join("src/h.py")).unwrap();
        assert_eq!(changed(&mut tree, &root), ["src/h.py"]);
        // A directory that is new is watched too.
        std::fs::create_dir(root.join("lib")).unwrap();
        assert_eq!(changed(&mut tree, &root), ["lib"]);
        write("lib/i.py");
        assert_eq!(changed(&mut tree, &root), ["lib/i.py"]);
    }

    #[test]
    fn one_file_is_watched_by_its_name() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        let file = root.join("sameport.toml");
        std::fs::write(&file, "").unwrap();
        let mut tree = WatchedTree::new().unwrap();
        tree.add(&file).unwrap();
        std::fs::write(root.join("other"), "x").unwrap();
        assert_eq!(changed(&mut tree, &root), [""; 0]);
        std::fs::write(root.join("new"), "x").unwrap();
        std::fs::rename(root.join("new"), &file).unwrap();
        assert_eq!(changed(&mut tree, &root), ["sameport.toml"]);
        let missing = tree.add(&root.join("none")).unwrap_err();
        assert!(matches!(missing, WatchError::Path(..)), "{missing:?}");
    }
}
