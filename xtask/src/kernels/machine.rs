//! A guest: its files, its command line of qemu, and one boot of it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::{Duration, Instant};

use super::host::{self, Failure};
use super::initramfs;
use super::package::Kernel;
use super::record::{Record, parse};
use super::root;

const DISK_SIZE: &str = "2G";
/// Without a byte on a serial port for this long, the guest has stopped. The longest step is shorter.
const STALL: Duration = Duration::from_secs(20 * 60);
/// No boot takes as long, even with progress.
const LIMIT: Duration = Duration::from_secs(3 * 60 * 60);
const POLL: Duration = Duration::from_millis(500);

/// One start of the guest, and what the kernel is told then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Boot {
    /// The driver in the guest has steps of this name.
    pub(crate) name: &'static str,
    pub(crate) options: &'static str,
}

/// In this order: the second boot finds the guards of the first.
pub(crate) const BOOTS: &[Boot] = &[
    Boot { name: "first", options: "" },
    Boot { name: "second", options: "" },
    Boot { name: "lockdown", options: "lockdown=confidentiality" },
];

/// The files of a guest.
#[derive(Debug)]
pub(crate) struct Machine {
    name: String,
    directory: PathBuf,
    image: PathBuf,
}

/// Programs and files that the guest finds in /payload.
pub(crate) type Payload = Vec<(&'static str, PathBuf)>;

impl Machine {
    /// Makes the disks: the root directory with the modules of this kernel, and the payload.
    pub(crate) fn make(
        kernel: &Kernel,
        root: &Path,
        payload: &Payload,
        cache: &Path,
    ) -> Result<Self, Failure> {
        let directory = cache.join(format!("machine-{}", kernel.series));
        host::remove_directory(&directory)?;
        let content = directory.join("payload");
        fs::create_dir_all(&content)?;
        host::say(&format!("{}: making the disks", kernel.series));
        let modules_dep = root::add_modules(root, kernel)?;
        let order = initramfs::load_order(&modules_dep, initramfs::DRIVERS);
        let modules = root.join("lib/modules").join(&kernel.release);
        let archive = initramfs::build(&root.join("bin/busybox"), &modules, &order)?;
        fs::write(directory.join("initrd"), archive)?;
        fs::write(content.join("driver.py"), include_str!("guest/driver.py"))?;
        for (name, source) in payload {
            fs::copy(source, content.join(name))?;
        }
        make_disk(root, &directory.join("disk"), DISK_SIZE)?;
        make_disk(&content, &directory.join("payload.disk"), "512M")?;
        Ok(Self { name: kernel.series.clone(), directory, image: kernel.image.clone() })
    }

    /// Boots the guest, and waits until it turns itself off. The records are those of this boot.
    pub(crate) fn boot(
        &self,
        boot: Boot,
        acceleration: Acceleration,
    ) -> Result<Vec<Record>, Failure> {
        let console = self.directory.join(format!("console-{}", boot.name));
        let results = self.directory.join(format!("results-{}", boot.name));
        for file in [&console, &results] {
            fs::write(file, "")?;
        }
        let arguments = self.qemu_arguments(boot, acceleration, &console, &results);
        let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let nice = [&["-n", "15", "qemu-system-x86_64"], &words[..]].concat();
        let mut qemu = host::command("nice", &nice);
        let log = fs::File::create(self.directory.join("qemu.log"))?;
        let child = qemu.stdout(log.try_clone()?).stderr(log).spawn()?;
        let title = format!("{}: boot {}", self.name, boot.name);
        let ended = Guest { child }.wait(&title, &console, &results);
        let records = parse(&fs::read_to_string(&results)?);
        match ended {
            Ok(()) if records.iter().any(|record| record.step == "end") => Ok(records),
            Ok(()) => Err(self.died(&title, "the guest stopped before its last step", &console)),
            Err(reason) => Err(self.died(&title, &reason, &console)),
        }
    }

    fn died(&self, title: &str, reason: &str, console: &Path) -> Failure {
        let text = fs::read(console).unwrap_or_default();
        let log = fs::read(self.directory.join("qemu.log")).unwrap_or_default();
        let text = [String::from_utf8_lossy(&text), String::from_utf8_lossy(&log)].concat();
        Failure::failed(format!(
            "{title}: {reason}; the console ({}) ends with\n{}",
            console.display(),
            host::last_lines(&text, 12)
        ))
    }

    fn qemu_arguments(
        &self,
        boot: Boot,
        acceleration: Acceleration,
        console: &Path,
        results: &Path,
    ) -> Vec<String> {
        let path = |name: &str| self.directory.join(name).to_string_lossy().into_owned();
        // no_timer_check: the check of the timer interrupt fails on a slow emulated processor.
        let append = format!(
            "root=/dev/vda rw console=ttyS0 no_timer_check panic=-1 net.ifnames=0 \
             sameport.boot={} {}",
            boot.name, boot.options
        );
        let drive = |name: &str, options: &str| {
            format!("file={},format=raw,if=virtio,cache=unsafe{options}", path(name))
        };
        let serial = |file: &Path| format!("file:{}", file.display());
        let arguments: &[&str] = &[
            "-accel",
            acceleration.name(),
            "-smp",
            "2",
            "-m",
            "1024",
            "-nodefaults",
            "-no-user-config",
            "-display",
            "none",
            "-no-reboot",
            "-kernel",
            &self.image.to_string_lossy(),
            "-initrd",
            &path("initrd"),
            "-append",
            &append,
            "-drive",
            &drive("disk", ""),
            "-drive",
            &drive("payload.disk", ",read-only=on"),
            "-serial",
            &serial(console),
            "-serial",
            &serial(results),
        ];
        arguments.iter().map(|&word| word.to_owned()).collect()
    }
}

/// How the guest's processor is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Acceleration {
    /// In software: works on every machine.
    Emulation,
    /// By /dev/kvm, which a virtual machine can have without being able to run a guest.
    Kvm,
}

impl Acceleration {
    fn name(self) -> &'static str {
        match self {
            Self::Emulation => "tcg",
            Self::Kvm => "kvm",
        }
    }
}

/// Makes a file with an ext4 file system that has the files of the directory. Mounts nothing.
fn make_disk(content: &Path, disk: &Path, size: &str) -> Result<(), Failure> {
    let paths = [content.as_os_str(), disk.as_os_str(), size.as_ref()];
    host::run(host::command("mkfs.ext4", &["-q", "-E", "root_owner=0:0", "-d"]).args(paths))
}

/// The process of qemu, which is killed when this is dropped.
struct Guest {
    child: Child,
}

impl Drop for Guest {
    fn drop(&mut self) {
        // Both fail only if the process has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Guest {
    /// Waits for the end of qemu, and says each new step. Err: why it was stopped.
    fn wait(mut self, title: &str, console: &Path, results: &Path) -> Result<(), String> {
        let began = Instant::now();
        let mut progress = Progress { bytes: 0, since: began };
        let mut said = 0;
        loop {
            let ended = self.child.try_wait().map_err(|error| error.to_string())?;
            let size = |file: &Path| fs::metadata(file).map_or(0, |metadata| metadata.len());
            progress.note(size(console) + size(results), Instant::now());
            let records = parse(&fs::read_to_string(results).unwrap_or_default());
            for record in records.iter().skip(said) {
                let seconds = began.elapsed().as_secs();
                host::say(&format!("{title}: {seconds} s: {}", record.title()));
            }
            said = records.len();
            match ended {
                Some(status) if status.success() => return Ok(()),
                Some(status) => return Err(format!("qemu: {status}")),
                None => {}
            }
            if let Some(reason) = progress.overdue(began, Instant::now()) {
                return Err(reason);
            }
            std::thread::sleep(POLL);
        }
    }
}

/// When the serial ports last had new bytes.
struct Progress {
    bytes: u64,
    since: Instant,
}

impl Progress {
    fn note(&mut self, bytes: u64, now: Instant) {
        if bytes != self.bytes {
            *self = Self { bytes, since: now };
        }
    }

    /// Why the guest is not waited for any longer.
    fn overdue(&self, began: Instant, now: Instant) -> Option<String> {
        if now - self.since >= STALL {
            Some(format!("no byte on a serial port for {} s", STALL.as_secs()))
        } else if now - began >= LIMIT {
            Some(format!("not turned off after {} s", LIMIT.as_secs()))
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_boot_has_its_name_and_options_on_the_kernel_command_line() {
        let machine = Machine {
            name: "6.1".to_owned(),
            directory: "/cache/machine-6.1".into(),
            image: "/cache/vmlinuz".into(),
        };
        for &boot in BOOTS {
            let arguments = machine.qemu_arguments(
                boot,
                Acceleration::Emulation,
                Path::new("/c"),
                Path::new("/r"),
            );
            let after = |option: &str| {
                let at = arguments.iter().position(|word| word == option).unwrap();
                arguments[at + 1].clone()
            };
            let append = after("-append");
            assert!(append.contains(&format!("sameport.boot={} ", boot.name)), "{append}");
            assert!(
                append.ends_with(boot.options) && append.contains("no_timer_check"),
                "{append}"
            );
            assert_eq!(
                (after("-accel"), after("-kernel")),
                ("tcg".into(), "/cache/vmlinuz".into())
            );
            assert_eq!(after("-serial"), "file:/c", "the console is the first serial port");
            // A panic and a reboot end qemu.
            assert!(arguments.contains(&"-no-reboot".to_owned()) && append.contains("panic=-1"));
        }
    }

    #[test]
    fn progress_restarts_the_limit_of_a_stall() {
        let began = Instant::now();
        let after = |seconds| began + Duration::from_secs(seconds);
        let mut progress = Progress { bytes: 0, since: began };
        assert_eq!(progress.overdue(began, after(1199)), None);
        assert!(progress.overdue(began, after(1200)).is_some());
        progress.note(10, after(1199));
        assert_eq!(progress.overdue(began, after(2398)), None);
        progress.note(10, after(2398));
        assert!(progress.overdue(began, after(2399)).is_some(), "no new byte");
        progress.note(11, after(10_799));
        assert!(progress.overdue(began, after(10_800)).is_some(), "the whole limit");
    }
}
