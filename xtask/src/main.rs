//! Chores of the project: `cargo xtask CHORE`.

mod bench;
mod bpf;
// Modes and links of Unix.
#[cfg(unix)]
mod dist;
// qemu, debootstrap and namespaces of Linux.
#[cfg(target_os = "linux")]
mod kernels;
mod package;
mod record;
mod survey;
mod targets;
// Wine, and a prefix with links of Unix.
#[cfg(target_os = "linux")]
mod wine;
mod workspace;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Chores of the project
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct CommandLine {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Subcommand)]
enum Chore {
    Bench(bench::Args),
    Bpf(bpf::Args),
    #[cfg(unix)]
    Dist(dist::Args),
    #[cfg(target_os = "linux")]
    Kernels(kernels::Args),
    Package(package::Args),
    Record(record::Args),
    Survey(survey::Args),
    Targets(targets::Args),
    #[cfg(target_os = "linux")]
    Wine(wine::Args),
}

fn main() -> ExitCode {
    match CommandLine::parse().chore {
        Chore::Bench(args) => bench::run(&args),
        Chore::Bpf(args) => bpf::run(&args),
        #[cfg(unix)]
        Chore::Dist(args) => dist::run(&args),
        #[cfg(target_os = "linux")]
        Chore::Kernels(args) => kernels::run(&args),
        Chore::Package(args) => package::run(&args),
        Chore::Record(args) => record::run(&args),
        Chore::Survey(args) => survey::run(&args),
        Chore::Targets(args) => targets::run(&args),
        #[cfg(target_os = "linux")]
        Chore::Wine(args) => wine::run(&args),
    }
}
