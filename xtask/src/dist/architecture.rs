//! The architectures of a release.

use std::env;

#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub(super) enum Architecture {
    #[value(name = "x86_64")]
    X86,
    #[value(name = "aarch64")]
    Arm,
}

impl Architecture {
    pub(super) const ALL: [Self; 2] = [Self::X86, Self::Arm];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::X86 => "x86_64",
            Self::Arm => "aarch64",
        }
    }

    pub(super) fn target(self) -> String {
        format!("{}-unknown-linux-musl", self.name())
    }

    pub(super) fn is_here(self) -> bool {
        self.name() == env::consts::ARCH
    }
}
