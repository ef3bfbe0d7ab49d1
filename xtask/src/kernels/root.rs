//! The root directory of the guests: Debian by debootstrap, and the service that runs the steps of a boot.

use std::fs;
use std::path::{Path, PathBuf};

use super::host::{self, Failure};
use super::package::Kernel;

/// The packages of the guest besides Debian's essential ones.
const PACKAGES: &[&str] =
    &["systemd", "systemd-sysv", "python3", "iproute2", "kmod", "busybox-static", "procps"];
/// Changes whenever `configure` does, so that an older root directory is made again.
const VERSION: u32 = 1;
const SERVICE: &str = include_str!("guest/driver.service");

/// The suite of the guest: its C library must be at least as new as the one that the programs under test
/// were linked with, so it is the suite of this machine.
pub(crate) fn suite(os_release: &str) -> Option<&str> {
    let value = |key: &str| {
        let line = os_release.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
        line.map(|value| value.trim_matches('"'))
    };
    if value("ID")? == "debian" { value("VERSION_CODENAME") } else { None }
}

/// The mirror that this machine's apt has for the suite.
pub(crate) fn mirror(suite: &str) -> Result<String, Failure> {
    let arguments = ["indextargets", "--format", TARGET, "Created-By: Packages"];
    let targets = host::output("apt-get", &arguments)?;
    mirror_of(suite, &targets).map(str::to_owned).ok_or_else(|| {
        Failure::missing(
            format!("apt has no source for Debian {suite}"),
            "give a mirror with --mirror, or add the source and `apt-get update`",
        )
    })
}

/// A line for each index that apt has fetched.
const TARGET: &str = "$(CODENAME) $(ORIGIN) $(SITE)";

/// The suite has a name of its own; `bookworm-updates` and sources of others do not have it.
fn mirror_of<'a>(suite: &str, targets: &'a str) -> Option<&'a str> {
    targets.lines().find_map(|line| {
        let mut fields = line.split(' ');
        (fields.next() == Some(suite) && fields.next() == Some("Debian")).then(|| fields.next())?
    })
}

/// The root directory, made if it is not there. Takes about a minute.
pub(crate) fn obtain(suite: &str, mirror: &str, cache: &Path) -> Result<PathBuf, Failure> {
    let directory = cache.join("root");
    let stamp = cache.join("root.recipe");
    let recipe = format!("{VERSION} {suite} {}\n", PACKAGES.join(","));
    if directory.exists() && fs::read_to_string(&stamp).is_ok_and(|made| made == recipe) {
        return Ok(directory);
    }
    host::say(&format!("making a root directory of Debian {suite} by debootstrap, about a minute"));
    host::remove_directory(&directory)?;
    let include = format!("--include={}", PACKAGES.join(","));
    let target = directory.to_string_lossy();
    // In namespaces of its own: what it mounts, and the processes that it starts, end with it.
    let arguments = [
        "--mount",
        "--pid",
        "--fork",
        "--kill-child",
        "debootstrap",
        "--variant=minbase",
        &include,
        suite,
        &target,
        mirror,
    ];
    let log = cache.join("debootstrap.log");
    host::run_with_log(&mut host::command("unshare", &arguments), &log)?;
    configure(&directory)?;
    fs::write(stamp, recipe)?;
    Ok(directory)
}

fn configure(root: &Path) -> Result<(), Failure> {
    fs::write(root.join("etc/hostname"), "guest\n")?;
    fs::write(root.join("etc/fstab"), "")?;
    fs::create_dir_all(root.join("payload"))?;
    let units = root.join("etc/systemd/system");
    fs::write(units.join("sameport-kernels.service"), SERVICE)?;
    let wants = units.join("multi-user.target.wants");
    fs::create_dir_all(&wants)?;
    std::os::unix::fs::symlink(
        "../sameport-kernels.service",
        wants.join("sameport-kernels.service"),
    )?;
    // Nobody logs in, and the serial ports have other uses.
    for unit in
        ["getty@tty1.service", "serial-getty@ttyS0.service", "getty.target", "apt-daily.timer"]
    {
        let path = units.join(unit);
        let _ = fs::remove_file(&path);
        std::os::unix::fs::symlink("/dev/null", path)?;
    }
    host::remove_directory(&root.join("var/cache/apt/archives"))?;
    host::remove_directory(&root.join("var/lib/apt/lists"))?;
    Ok(())
}

/// Puts the modules of the kernel into the root directory, with modules.dep. The result is its text.
pub(crate) fn add_modules(root: &Path, kernel: &Kernel) -> Result<String, Failure> {
    let target = root.join("lib/modules").join(&kernel.release);
    let index = target.join("modules.dep");
    let stamp = target.join("sameport.package");
    if fs::read_to_string(&stamp).is_ok_and(|package| package == kernel.package) {
        return Ok(fs::read_to_string(index)?);
    }
    host::remove_directory(&target)?;
    fs::create_dir_all(root.join("lib/modules"))?;
    let copy = [kernel.modules.as_os_str(), target.as_os_str()];
    host::run(host::command("cp", &["--archive"]).args(copy))?;
    let depmod = ["/sbin/depmod", &kernel.release];
    host::run(&mut host::command("chroot", &[&[&*root.to_string_lossy()], &depmod[..]].concat()))?;
    let text = fs::read_to_string(index)?;
    fs::write(stamp, &kernel.package)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_suite_is_that_of_this_debian() {
        let bookworm =
            "PRETTY_NAME=\"Debian GNU/Linux 12\"\nID=debian\nVERSION_CODENAME=bookworm\n";
        assert_eq!(suite(bookworm), Some("bookworm"));
        assert_eq!(suite("ID=\"debian\"\nVERSION_CODENAME=\"trixie\"\n"), Some("trixie"));
        assert_eq!(suite("ID=fedora\nVERSION_ID=40\n"), None);
        assert_eq!(suite("ID=debian\n"), None, "a suite without a name");
        assert_eq!(suite(""), None);
    }

    #[test]
    fn the_mirror_is_that_of_the_suite() {
        let targets = "bookworm Other http://other.example/debian\n\
                       bookworm-updates Debian http://updates.example/debian\n\
                       bookworm Debian http://mirror.example/debian\n";
        assert_eq!(mirror_of("bookworm", targets), Some("http://mirror.example/debian"));
        assert_eq!(mirror_of("trixie", targets), None);
        assert_eq!(mirror_of("bookworm", ""), None);
    }
}
