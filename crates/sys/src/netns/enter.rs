//! Running code in another network namespace.

use std::io;
use std::os::fd::AsFd as _;
use std::path::PathBuf;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::thread::LinkNameSpaceType;
use sameport_policy::model::netns::NetnsSpec;

/// Why the namespace could not be entered.
#[derive(Debug, thiserror::Error)]
pub enum NetnsError {
    /// There is no such name, file or process.
    #[error("there is no network namespace {0}: {file} does not exist", file = .1.display())]
    Gone(NetnsSpec, PathBuf),
    /// The file is not a network namespace.
    #[error("{file} is no network namespace", file = .1.display())]
    SomethingElse(NetnsSpec, PathBuf),
    /// Opening another user's namespace needs CAP_SYS_PTRACE. Entering needs CAP_SYS_ADMIN in the owning
    /// user namespace and in the caller's.
    #[error("network namespace {0}: {1}: operation not permitted")]
    NotPermitted(NetnsSpec, &'static str),
    /// Another error.
    #[error("network namespace {0}: {1}: {2}")]
    System(NetnsSpec, &'static str, io::Error),
}

/// Runs a function in another network namespace, in a new thread; the other threads stay in theirs.
/// `/proc`, and so the set of visible processes, stays the caller's.
///
/// Each call opens the namespace again and closes it: a descriptor would keep the namespace alive. Needs
/// CAP_SYS_ADMIN in both user namespaces (setns(2), Linux 3.0).
///
/// # Errors
///
/// [`NetnsError`]; the function did not run.
pub fn run_in<T: Send>(
    network: &NetnsSpec,
    look: impl FnOnce() -> T + Send,
) -> Result<T, NetnsError> {
    let file = network.path();
    let failed = |call, errno| match errno {
        Errno::NOENT | Errno::SRCH => NetnsError::Gone(network.clone(), file.clone()),
        // EINVAL comes from setns: another type of namespace, or another file.
        Errno::INVAL => NetnsError::SomethingElse(network.clone(), file.clone()),
        Errno::PERM | Errno::ACCESS => NetnsError::NotPermitted(network.clone(), call),
        errno => NetnsError::System(network.clone(), call, errno.into()),
    };
    // NONBLOCK: the path may name a FIFO or a device.
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let there =
        rustix::fs::open(&file, flags, Mode::empty()).map_err(|errno| failed("open", errno))?;
    let look = || {
        let kind = Some(LinkNameSpaceType::Network);
        rustix::thread::move_into_link_name_space(there.as_fd(), kind)
            .map(|()| look())
            .map_err(|errno| failed("setns", errno))
    };
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("elsewhere".into()).spawn_scoped(scope, look);
        let thread = thread.map_err(|error| NetnsError::System(network.clone(), "clone", error))?;
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;
    use crate::inspect::{SocketQuery, list_sockets};

    fn of(text: &str) -> NetnsSpec {
        text.parse().unwrap()
    }

    #[test]
    fn what_is_no_network_namespace_is_told() {
        let error = |text: &str| run_in(&of(text), || ()).unwrap_err();
        let folder = tempfile::tempdir().unwrap();
        let plain = folder.path().join("plain");
        std::fs::write(&plain, "x").unwrap();
        let plain = plain.to_str().unwrap();
        assert!(matches!(error("no such name"), NetnsError::Gone(..)));
        assert!(matches!(error("/no/such/file"), NetnsError::Gone(..)));
        assert!(matches!(error("pid:2147483647"), NetnsError::Gone(..)));
        assert!(matches!(error(plain), NetnsError::SomethingElse(..)), "{}", error(plain));
        let other_kind = error("/proc/self/ns/uts");
        assert!(matches!(other_kind, NetnsError::SomethingElse(..)), "{other_kind}");
        assert_eq!(error(plain).to_string(), format!("{plain} is no network namespace"));
        let under_a_file = error(&format!("{plain}/x"));
        assert!(matches!(under_a_file, NetnsError::System(_, "open", _)), "{under_a_file}");
    }

    #[test]
    fn the_own_one_shows_what_is_here() {
        let _turn = crate::serial::run_exclusive();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let query = SocketQuery::everything().on(address.port());
        let own = format!("pid:{}", std::process::id());
        match run_in(&of(&own), || list_sockets(&query).unwrap().members) {
            Ok(found) => {
                assert!(found.iter().any(|member| member.socket.address.socket == address));
            }
            // It takes CAP_SYS_ADMIN.
            Err(error) => {
                assert!(matches!(error, NetnsError::NotPermitted(_, "setns")), "{error}");
            }
        }
    }
}
