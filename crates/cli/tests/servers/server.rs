//! The description of a server: what it needs, how it starts, and what its clients do.

use crate::harness::load::Client;

/// A row of the list. In texts and words `{port}` is the port and `{dir}` the directory of the run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Server {
    /// The Debian package that contains the server, or another origin.
    pub(crate) package: &'static str,
    /// Commands, or files with their whole path, without which the test is skipped.
    pub(crate) needs: &'static [&'static str],
    /// Whether only root can start the server, or its sessions.
    pub(crate) root: bool,
    /// Files in the directory of the run: name and text.
    pub(crate) files: &'static [(&'static str, &'static str)],
    /// Commands that run before the first start.
    pub(crate) prepare: &'static [&'static [&'static str]],
    /// The command line of a worker.
    pub(crate) command: &'static [&'static str],
    /// Options of `sameport run` that a restart of this server needs.
    pub(crate) options: &'static [&'static str],
    /// Why the server needs these options; empty if it needs none.
    pub(crate) reason: &'static str,
    /// Whether the successor of a killed worker serves at once. The processes of some servers outlive
    /// their killed parent, and keep what they accept.
    pub(crate) kill: bool,
    /// The clients; all of them at the same time.
    pub(crate) clients: &'static [Client],
}

impl Server {
    pub(crate) const DEFAULT: Self = Self {
        package: "",
        needs: &[],
        root: false,
        files: &[],
        prepare: &[],
        command: &[],
        options: &[],
        reason: "",
        kill: true,
        clients: &[],
    };
}

/// A table of servers, and a test for each.
macro_rules! servers {
    ($($name:ident: $package:literal { $($field:ident: $value:expr,)* })*) => {
        pub(crate) const SERVERS: &[(&str, crate::server::Server)] = &[
            $((stringify!($name), crate::server::Server {
                package: $package,
                $($field: $value,)*
                ..crate::server::Server::DEFAULT
            }),)*
        ];
        $(
            #[test]
            fn $name() {
                crate::trial::assert_nothing_is_lost(SERVERS, stringify!($name));
            }
        )*
    };
}

pub(crate) use servers;
