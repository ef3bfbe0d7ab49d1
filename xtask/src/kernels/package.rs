//! The kernel packages that apt offers: Debian's cloud kernels.

use std::path::{Path, PathBuf};

use super::host::{self, Failure};

/// The newest kernel of a series, such as `6.1`, among these package names.
///
/// `linux-image-6.1.0-57-cloud-amd64` is a kernel. `linux-image-6.12-cloud-amd64` is a name for the newest
/// one, and other suffixes are unsigned kernels and debug symbols.
pub(crate) fn newest<'a>(names: &'a str, series: &str) -> Option<&'a str> {
    let wanted = numbers(series);
    let kernels = names.lines().filter_map(|name| {
        let release = numbers(release(name)?);
        let is_kernel = release.len() > wanted.len() && release.starts_with(&wanted);
        is_kernel.then_some((release, name))
    });
    kernels.max().map(|(_, name)| name)
}

/// The release that the package's kernel calls itself, without the flavour.
fn release(name: &str) -> Option<&str> {
    let release = name.trim().strip_prefix("linux-image-")?.strip_suffix("-cloud-amd64")?;
    release.starts_with(|c: char| c.is_ascii_digit()).then_some(release)
}

fn numbers(text: &str) -> Vec<u64> {
    text.split(|c: char| !c.is_ascii_digit()).filter_map(|number| number.parse().ok()).collect()
}

/// The kernel and the modules of a package, unpacked.
#[derive(Debug)]
pub(crate) struct Kernel {
    /// Two numbers: `6.1`.
    pub(crate) series: String,
    /// The name of the package, and the version after an underscore.
    pub(crate) package: String,
    /// `uname -r`: the name of the directory of the modules.
    pub(crate) release: String,
    pub(crate) image: PathBuf,
    /// The directory `lib/modules/RELEASE` of the package.
    pub(crate) modules: PathBuf,
}

/// Finds the newest kernel of the series that apt offers, and unpacks it below `cache`.
pub(crate) fn obtain(series: &str, cache: &Path) -> Result<Kernel, Failure> {
    let names = host::output("apt-cache", &["pkgnames", "linux-image-"])?;
    let name = newest(&names, series).ok_or_else(|| {
        Failure::missing(
            format!("apt offers no package linux-image-{series}.*-cloud-amd64"),
            "add the Debian suite that has it, such as bookworm-backports, and `apt-get update`",
        )
    })?;
    let directory = cache.join("packages");
    std::fs::create_dir_all(&directory)?;
    let file = match find(&directory, &format!("{name}_"), ".deb")? {
        Some(file) => file,
        None => {
            host::say(&format!("{series}: downloading {name}"));
            host::run(
                host::command("apt-get", &["download", "--quiet", name]).current_dir(&directory),
            )?;
            find(&directory, &format!("{name}_"), ".deb")?
                .ok_or_else(|| Failure::failed(format!("apt-get download {name} left no file")))?
        }
    };
    let package = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let unpacked = directory.join(&package);
    let release = format!("{}-cloud-amd64", release(name).unwrap_or_default());
    let image = unpacked.join(format!("boot/vmlinuz-{release}"));
    let modules = unpacked.join(format!("lib/modules/{release}"));
    if !unpacked.exists() {
        let aside = directory.join("unpacking");
        host::remove_directory(&aside)?;
        let paths = [file.as_os_str(), aside.as_os_str()];
        host::run(host::command("dpkg-deb", &["--extract"]).args(paths))?;
        std::fs::rename(aside, &unpacked)?;
    }
    if !image.exists() || !modules.exists() {
        return Err(Failure::failed(format!("{package} has no kernel or no modules of {release}")));
    }
    Ok(Kernel { series: series.to_owned(), package, release, image, modules })
}

/// The last file of the directory by name with this beginning and end.
fn find(directory: &Path, begin: &str, end: &str) -> std::io::Result<Option<PathBuf>> {
    let mut found: Vec<PathBuf> = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with(begin) && name.ends_with(end) {
            found.push(entry.path());
        }
    }
    Ok(found.into_iter().max())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_kernel_of_a_series_is_chosen() {
        let names = "linux-image-6.1.0-57-cloud-amd64-unsigned\n\
            linux-image-6.1.0-9-cloud-amd64\n\
            linux-image-6.1.0-57-cloud-amd64\n\
            linux-image-6.1.0-57-cloud-amd64-dbg\n\
            linux-image-6.1.0-58-amd64\n\
            linux-image-cloud-amd64\n\
            linux-image-6.12-cloud-amd64\n\
            linux-image-6.12.117+deb12-cloud-amd64\n\
            linux-image-6.12.9+deb12-cloud-amd64\n";
        assert_eq!(newest(names, "6.1"), Some("linux-image-6.1.0-57-cloud-amd64"));
        assert_eq!(newest(names, "6.12"), Some("linux-image-6.12.117+deb12-cloud-amd64"));
        assert_eq!(newest(names, "6.6"), None);
        assert_eq!(newest("", "6.1"), None);
    }
}
