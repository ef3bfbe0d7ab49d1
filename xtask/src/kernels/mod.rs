//! `cargo xtask kernels`: boots Debian's cloud kernels under qemu, and runs sameport in each.
//!
//! The guests have no network. This machine's apt and debootstrap get the packages.

mod build;
mod host;
mod initramfs;
mod judge;
mod machine;
mod package;
mod record;
mod report;
mod root;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use host::Failure;
use machine::{Acceleration, BOOTS, Machine, Payload};
use package::Kernel;
use report::KernelResult;

/// In the directory of the cache.
const REPORT: &str = "report.json";

/// Boot older kernels under qemu, and run doctor, the kernel rules, guards and named runs in each
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Series of kernels, such as 6.12
    #[arg(default_values = ["6.1", "6.12"])]
    series: Vec<String>,

    /// Use /dev/kvm; without, the processor is emulated
    #[arg(long)]
    kvm: bool,

    /// Test this executable instead of the one that cargo builds
    #[arg(long, value_name = "FILE")]
    sameport: Option<PathBuf>,

    /// The mirror that debootstrap takes Debian from [default: that of apt for the suite]
    #[arg(long, value_name = "URL")]
    mirror: Option<String>,

    /// The suite of the guest [default: that of this Debian]
    #[arg(long)]
    suite: Option<String>,

    /// Boot nothing, and judge the records of the last report again
    #[arg(long)]
    again: bool,

    /// Print JSON, with the output of every step
    #[arg(long)]
    json: bool,

    /// Write the table into docs/kernels.md
    #[arg(long)]
    docs: bool,
}

pub(crate) fn run(args: &Args) -> ExitCode {
    match all(args) {
        Ok(code) => code,
        Err(Failure::Missing { what, hint }) => {
            eprintln!("error: {what}");
            eprintln!("hint: {hint}");
            ExitCode::from(3)
        }
        Err(Failure::Failed(what)) => {
            eprintln!("error: {what}");
            ExitCode::FAILURE
        }
    }
}

fn all(args: &Args) -> Result<ExitCode, Failure> {
    let cache = crate::workspace::target_folder().join("kernels");
    let results = if args.again { judge_again(&cache)? } else { boot_kernels(args, &cache)? };
    if args.docs {
        write_docs(&report::markdown(&results))?;
    }
    println!("{}", if args.json { report::json(&results) } else { report::text(&results) });
    let agrees = results.iter().all(KernelResult::agrees);
    Ok(if agrees { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The results of the last report, with the present checks.
fn judge_again(cache: &Path) -> Result<Vec<KernelResult>, Failure> {
    let path = cache.join(REPORT);
    let wrong =
        |error: &dyn std::fmt::Display| Failure::failed(format!("{}: {error}", path.display()));
    let text = fs::read_to_string(&path).map_err(|error| wrong(&error))?;
    let mut results: Vec<KernelResult> =
        serde_json::from_str(&text).map_err(|error| wrong(&error))?;
    for kernel in &mut results {
        kernel.findings = judge::findings(&kernel.records);
    }
    Ok(results)
}

fn boot_kernels(args: &Args, cache: &Path) -> Result<Vec<KernelResult>, Failure> {
    host::check()?;
    fs::create_dir_all(cache)?;
    let _lock = lock(cache)?;
    let payload = build::payload(args.sameport.as_deref())?;
    let os_release = fs::read_to_string("/etc/os-release").unwrap_or_default();
    let suite = args.suite.as_deref().or_else(|| root::suite(&os_release)).ok_or_else(|| {
        Failure::missing("this is not Debian", "give the suite of the guest with --suite")
    })?;
    let mut kernels = Vec::new();
    for series in &args.series {
        kernels.push(package::obtain(series, cache)?);
    }
    let mirror = args.mirror.clone().map_or_else(|| root::mirror(suite), Ok)?;
    let root = root::obtain(suite, &mirror, cache)?;
    let acceleration = if args.kvm { Acceleration::Kvm } else { Acceleration::Emulation };
    let mut results = Vec::new();
    for kernel in kernels {
        results.push(boot_all(kernel, &root, &payload, cache, acceleration)?);
    }
    fs::write(cache.join(REPORT), report::json(&results))?;
    Ok(results)
}

/// Boots a kernel as often as there are boots. If one fails, the others do not follow, and the checks of
/// their steps differ.
fn boot_all(
    kernel: Kernel,
    root: &Path,
    payload: &Payload,
    cache: &Path,
    acceleration: Acceleration,
) -> Result<KernelResult, Failure> {
    let machine = Machine::make(&kernel, root, payload, cache)?;
    let (mut boots, mut records) = (Vec::new(), Vec::new());
    for &boot in BOOTS {
        let since = Instant::now();
        match machine.boot(boot, acceleration) {
            Ok(of_boot) => records.extend(of_boot),
            Err(Failure::Failed(reason)) => {
                eprintln!("error: {reason}");
                break;
            }
            Err(missing) => return Err(missing),
        }
        boots.push((boot.name.to_owned(), since.elapsed().as_secs()));
    }
    let findings = judge::findings(&records);
    Ok(KernelResult { release: kernel.release, package: kernel.package, boots, findings, records })
}

fn write_docs(table: &str) -> Result<(), Failure> {
    let path = crate::workspace::root().join("docs/kernels.md");
    let document = fs::read_to_string(&path)?;
    let document = report::with_table(&document, table)
        .ok_or_else(|| Failure::failed(format!("{} has no marks for the table", path.display())))?;
    Ok(fs::write(path, document)?)
}

/// One process at a time uses the cache.
fn lock(cache: &Path) -> Result<File, Failure> {
    let file = File::create(cache.join("lock"))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(fs::TryLockError::WouldBlock) => {
            Err(Failure::failed("another `cargo xtask kernels` is running in this directory"))
        }
        Err(fs::TryLockError::Error(error)) => Err(error.into()),
    }
}
