//! Compiles the shared object with cargo's compiler and a C linker.
//!
//! The object cannot be a cargo target: without `std` it needs `panic=abort`, unlike the rest of the
//! workspace. A build for a foreign target can lack that target's `core` or linker; then there is no
//! library, and `sameport` reports the reason when it is needed. For the host, the build fails
//! without it.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The object's files in `src`.
const FILES: &[&str] = &[
    "environment.rs",
    "hooks.rs",
    "machine.rs",
    "next.rs",
    "object.rs",
    "own_sockets.rs",
    "report.rs",
    "settings.rs",
    "sharing.rs",
    "sockets.rs",
];

/// The architectures of `machine.rs`.
const ARCHITECTURES: &[&str] = &["x86_64", "aarch64", "riscv64"];

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
        Err(why) if target == host && supports_target() => {
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

fn supports_target() -> bool {
    variable("CARGO_CFG_TARGET_OS") == "linux"
        && ["gnu", "musl"].contains(&variable("CARGO_CFG_TARGET_ENV").as_str())
        && ARCHITECTURES.contains(&variable("CARGO_CFG_TARGET_ARCH").as_str())
        && variable("CARGO_CFG_TARGET_POINTER_WIDTH") == "64"
}

fn build(out: &Path, object: &Path, target: &str, host: &str) -> Result<(), String> {
    if !supports_target() {
        return Err(format!("{target} is not supported"));
    }
    // All files in one folder, so that `mod map;` means the file of `sameport-policy`.
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
    // The object contains no libc: a build for glibc works with musl on the same machine.
    let same_machine = target.split('-').next() == host.split('-').next();
    match first {
        Err(_) if target != host && same_machine && host.contains("linux") => {
            compile(&folder, object, host)
        }
        result => result,
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
    // The linker that cargo is configured to use for this target.
    if let Some(linker) = env::var_os("RUSTC_LINKER") {
        command.arg("-C").arg(joined("linker=", &linker));
    }
    let remap = joined("", folder.as_os_str());
    command.arg("--remap-path-prefix").arg(joined_with(remap, "=preload"));
    command.arg("-o").arg(object).arg(folder.join("object.rs"));
    // Flags for coverage and the like need std.
    command.env_remove("RUSTFLAGS").env_remove("CARGO_ENCODED_RUSTFLAGS");
    let output = command.output().map_err(|error| format!("{}: {error}", variable("RUSTC")))?;
    let messages = String::from_utf8_lossy(&output.stderr);
    if output.status.success() {
        println!("{messages}");
        return Ok(());
    }
    let first =
        messages.lines().find(|line| line.starts_with("error")).unwrap_or("error: no message");
    // Cargo keeps the complete output in the folder of the build script.
    println!("{command:?}\n{messages}");
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
    // An unchanged file keeps its time, so that nothing is built again.
    if fs::read_to_string(path).is_ok_and(|old| old == text) {
        return;
    }
    if let Err(error) = fs::write(path, text) {
        panic!("{}: {error}", path.display());
    }
}

fn variable(name: &str) -> String {
    env::var(name).unwrap_or_else(|error| panic!("{name}: {error}"))
}
