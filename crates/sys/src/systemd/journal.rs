//! Whether a descriptor writes to the journal (`systemd.exec(5)`, `$JOURNAL_STREAM`).

use std::os::fd::AsFd;

/// Whether this descriptor is the stream of the journal that JOURNAL_STREAM (`DEVICE:INODE`) names. A
/// process may have the variable of a service whose output it does not write to.
#[must_use]
pub fn is_journal(fd: impl AsFd, journal_stream: &str) -> bool {
    let numbers = journal_stream.split_once(':');
    let numbers =
        numbers.and_then(|(device, inode)| Some((device.parse().ok()?, inode.parse().ok()?)));
    let stat = rustix::fs::fstat(fd).ok();
    stat.is_some_and(|stat| numbers == Some((stat.st_dev, stat.st_ino)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_numbers_must_match() {
        let (_reader, writer) = std::io::pipe().unwrap();
        let stat = rustix::fs::fstat(&writer).unwrap();
        let (device, inode) = (stat.st_dev, stat.st_ino);
        for (value, expected) in [
            (format!("{device}:{inode}"), true),
            (format!("{device}:{}", inode + 1), false),
            (format!("{}:{inode}", device + 1), false),
            (format!("{inode}"), false),
            (format!("{device}:{inode}:"), false),
            (String::new(), false),
        ] {
            assert_eq!(is_journal(&writer, &value), expected, "{value}");
        }
    }
}
