//! The initial file system of a guest: a static busybox, the drivers of its disk, and the first process.

use std::io;
use std::path::Path;

/// The drivers that a guest needs before it can read its disk. A kernel can have them built in.
pub(crate) const DRIVERS: &[&str] = &["virtio_pci", "virtio_blk"];

const INIT: &str = include_str!("guest/init.sh");
const DIRECTORY: u32 = 0o040_755;
const PROGRAM: u32 = 0o100_755;
const FILE: u32 = 0o100_644;

/// The files of `wanted` modules and of those that they need, in an order in which they can be loaded.
///
/// `modules_dep` is the text of modules.dep(5): a path, a colon, and the paths that it needs, the last one
/// first to load. A module that is not in the text is part of the kernel.
pub(crate) fn load_order(modules_dep: &str, wanted: &[&str]) -> Vec<String> {
    let mut order: Vec<String> = Vec::new();
    for name in wanted {
        let line = modules_dep.lines().filter_map(|line| line.split_once(':'));
        let Some((path, needs)) = line.into_iter().find(|(path, _)| module_name(path) == *name)
        else {
            continue;
        };
        for path in needs.split_whitespace().rev().chain([path]) {
            if !order.iter().any(|known| known == path) {
                order.push(path.to_owned());
            }
        }
    }
    order
}

/// `virtio_blk` for `kernel/drivers/block/virtio-blk.ko.xz`.
fn module_name(path: &str) -> String {
    let file = path.rsplit('/').next().unwrap_or(path);
    file.split('.').next().unwrap_or(file).replace('-', "_")
}

/// The archive with busybox and these modules, which are paths below `modules`.
pub(crate) fn build(busybox: &Path, modules: &Path, order: &[String]) -> io::Result<Vec<u8>> {
    let mut archive = Archive::default();
    for directory in ["bin", "modules"] {
        archive.add(directory, DIRECTORY, &[]);
    }
    archive.add("bin/busybox", PROGRAM, &std::fs::read(busybox)?);
    archive.add("init", PROGRAM, INIT.as_bytes());
    let mut names = String::new();
    for path in order {
        let name = path.rsplit('/').next().unwrap_or(path);
        archive.add(&format!("modules/{name}"), FILE, &std::fs::read(modules.join(path))?);
        names.push_str(name);
        names.push('\n');
    }
    archive.add("modules/order", FILE, names.as_bytes());
    Ok(archive.finish())
}

/// A cpio archive of the format `newc`, which the kernel unpacks: Documentation/driver-api/early-userspace.
#[derive(Default)]
struct Archive {
    bytes: Vec<u8>,
    entries: u32,
}

impl Archive {
    fn add(&mut self, name: &str, mode: u32, content: &[u8]) {
        self.entries += 1;
        let size = u32::try_from(content.len()).expect("a file of the archive is below 4 GiB");
        let name_size = u32::try_from(name.len() + 1).expect("a name is short");
        // Inode, mode, uid, gid, links, time, size, four device numbers, size of the name, check sum.
        let fields = [self.entries, mode, 0, 0, 1, 0, size, 0, 0, 0, 0, name_size, 0];
        self.bytes.extend_from_slice(b"070701");
        for field in fields {
            self.bytes.extend_from_slice(format!("{field:08x}").as_bytes());
        }
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.push(0);
        self.align();
        self.bytes.extend_from_slice(content);
        self.align();
    }

    fn align(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    fn finish(mut self) -> Vec<u8> {
        self.add("TRAILER!!!", 0, &[]);
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_are_loaded_after_those_that_they_need() {
        let text = "kernel/drivers/virtio/virtio.ko:\n\
            kernel/drivers/virtio/virtio_ring.ko: kernel/drivers/virtio/virtio.ko\n\
            kernel/drivers/virtio/virtio_pci.ko: kernel/drivers/virtio/legacy.ko \
            kernel/drivers/virtio/virtio_ring.ko kernel/drivers/virtio/virtio.ko\n\
            kernel/drivers/block/virtio-blk.ko.xz: kernel/drivers/virtio/virtio_ring.ko \
            kernel/drivers/virtio/virtio.ko\n";
        let order = load_order(text, DRIVERS);
        let names: Vec<_> = order.iter().map(|path| module_name(path)).collect();
        assert_eq!(names, ["virtio", "virtio_ring", "legacy", "virtio_pci", "virtio_blk"]);
        assert_eq!(load_order("", DRIVERS), Vec::<String>::new(), "built into the kernel");
    }

    #[test]
    fn an_archive_has_a_header_and_aligned_content_for_each_entry() {
        let mut archive = Archive::default();
        archive.add("init", PROGRAM, b"12345");
        let bytes = archive.finish();
        assert_eq!(&bytes[..6], b"070701");
        assert_eq!(&bytes[14..22], b"000081ed", "the mode");
        assert_eq!(&bytes[54..62], b"00000005", "the size of the content");
        assert_eq!(&bytes[94..102], b"00000005", "the size of the name with its end");
        // 110 bytes of header, the name with its end, to the next multiple of four.
        assert_eq!(
            &bytes[110..124],
            b"init\0\0".iter().chain(b"12345\0\0\0").copied().collect::<Vec<_>>().as_slice()
        );
        assert!(bytes.len().is_multiple_of(4));
        assert!(bytes.windows(10).any(|window| window == b"TRAILER!!!"));
    }
}
