//! Compiles the shared object with the compiler that cargo uses, and no more than a C linker.
//!
//! It cannot be a target of cargo's own: without `std` it needs `panic=abort`, which the rest of a
//! workspace does not have. A build for another machine may lack that machine's `core` or linker
//! (a mere `cargo check` needs neither); then there is no library, and `sameport` says so when asked
//! for it. For this machine, it is there or the build fails.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The files of the object, all in `src`.
const FILES: &[&str] = &[
    "environment.rs",
    "hooks.rs",
    "machine.rs",
    "next.rs",
    "object.rs",
    "report.rs",
    "settings.rs",
    "sockets.rs",
];

/// Machines that `machine.rs` is written for.
const MACHINES: &[&str] = &["x86_64", "aarch64", "riscv64"];

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    for file in FILES {
        println!("cargo:rerun-if-changed=src/{file}");
    }
    let out = PathBuf::from(variable("OUT_DIR"));
    let object = out.join("libsameport_preload.so");
    let (target, host) = (variable("TARGET"), variable("HOST"));
    let why_not = match build(&out, &object, &target, &host) {
        Ok(()) => String::new(),
        Err(why) if target == host && is_written_for_target() => {
            panic!("the preload library cannot be built: {why}")
        }
        Err(why) => why,
    };
    let constant = if why_not.is_empty() {
        "Some(include_bytes!(concat!(env!(\"OUT_DIR\"), \"/libsameport_preload.so\")))"
    } else {
        "None"
    };
    write(&out.join("library.rs"), constant);
    write(&out.join("why-not.txt"), &why_not);
}

fn is_written_for_target() -> bool {
    variable("CARGO_CFG_TARGET_OS") == "linux"
        && ["gnu", "musl"].contains(&variable("CARGO_CFG_TARGET_ENV").as_str())
        && MACHINES.contains(&variable("CARGO_CFG_TARGET_ARCH").as_str())
        && variable("CARGO_CFG_TARGET_POINTER_WIDTH") == "64"
}

fn build(out: &Path, object: &Path, target: &str, host: &str) -> Result<(), String> {
    if !is_written_for_target() {
        return Err(format!("it is not written for {target}"));
    }
    // Its files side by side, so that `mod map;` means the one of `sameport-policy`.
    let folder = out.join("object");
    fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    for file in FILES {
        let from = Path::new(&variable("CARGO_MANIFEST_DIR")).join("src").join(file);
        let text = fs::read_to_string(&from).map_err(|e| format!("{}: {e}", from.display()))?;
        write(&folder.join(file), &text);
    }
    for (file, text) in sameport_policy::CORE_ONLY {
        write(&folder.join(file), text);
    }
    let first = compile(&folder, object, target);
    // The object has no libc in it: one made for glibc is as good for a musl of the same machine.
    let same_machine = target.split('-').next() == host.split('-').next();
    match first {
        Err(_) if target != host && same_machine && host.contains("linux") => {
            compile(&folder, object, host)
        }
        done => done,
    }
}

fn compile(folder: &Path, object: &Path, target: &str) -> Result<(), String> {
    let mut command = Command::new(variable("RUSTC"));
    command
        .args(["--edition", "2024", "--crate-name", "sameport_preload", "--crate-type", "cdylib"])
        .args(["--target", target, "--cap-lints", "warn", "-D", "unsafe_op_in_unsafe_fn"])
        .args(["-C", "panic=abort", "-C", "opt-level=s", "-C", "lto=fat", "-C", "codegen-units=1"])
        .args(["-C", "strip=symbols", "-C", "overflow-checks=off", "-C", "debug-assertions=off"])
        .args(["-C", "force-unwind-tables=no", "-C", "link-arg=-nostdlib"])
        .args(["-C", "link-arg=-Wl,-z,now,-z,relro,-z,noexecstack,--as-needed"])
        .args(["-C", "link-arg=-Wl,-soname,libsameport_preload.so"]);
    if target.ends_with("-musl") {
        command.args(["-C", "target-feature=-crt-static"]);
    }
    // What cargo was told to link for this target with.
    if let Some(linker) = env::var_os("RUSTC_LINKER") {
        command.arg("-C").arg(joined("linker=", &linker));
    }
    let remap = joined("", folder.as_os_str());
    command.arg("--remap-path-prefix").arg(joined_with(remap, "=preload"));
    command.arg("-o").arg(object).arg(folder.join("object.rs"));
    // Coverage and the like are for std programs.
    command.env_remove("RUSTFLAGS").env_remove("CARGO_ENCODED_RUSTFLAGS");
    let output = command.output().map_err(|error| format!("{}: {error}", variable("RUSTC")))?;
    let said = String::from_utf8_lossy(&output.stderr);
    if output.status.success() {
        println!("{said}");
        return Ok(());
    }
    let first = said.lines().find(|line| line.starts_with("error")).unwrap_or("error: none told");
    // The whole of it, for who looks into cargo's output folder.
    println!("{command:?}\n{said}");
    Err(format!("the compiler has no {target} to build it with ({first})"))
}

fn joined(first: &str, second: &std::ffi::OsStr) -> OsString {
    let mut text = OsString::from(first);
    text.push(second);
    text
}

fn joined_with(mut first: OsString, second: &str) -> OsString {
    first.push(second);
    first
}

fn write(path: &Path, text: &str) {
    // Left alone if it is the same, so that nothing is built again for it.
    if fs::read_to_string(path).is_ok_and(|there| there == text) {
        return;
    }
    if let Err(error) = fs::write(path, text) {
        panic!("{}: {error}", path.display());
    }
}

fn variable(name: &str) -> String {
    env::var(name).unwrap_or_else(|error| panic!("{name}: {error}"))
}
