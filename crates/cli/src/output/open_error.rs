//! Why a socket could not be opened or connected, in words and with an exit code.

use sameport::{Error, ErrorKind as Why};

use crate::error::{ExitKind, Failure};
use crate::operations::listen::ListenRequest;

/// For `listen`: on Linux, whoever is in the way is named.
pub(crate) fn failure(request: &ListenRequest, error: &Error) -> Failure {
    #[cfg(target_os = "linux")]
    if let Some(failure) = named(request, error) {
        return failure;
    }
    let _ = request;
    plain(error)
}

/// What the library says, with the exit code for it.
pub(crate) fn plain(error: &Error) -> Failure {
    let kind = match error.kind() {
        Why::BadAddress => ExitKind::BadCommandLine,
        Why::NotPermitted | Why::Unsupported => ExitKind::MachineCannot,
        _ => ExitKind::CouldNotBeDone,
    };
    let failure = Failure::new(kind, error);
    match (error.hint(), error.kind()) {
        (Some(hint), _) => failure.hint(hint),
        (None, Why::Refused) => failure.hint("nobody listens there; `sameport ls` shows who does"),
        (None, _) => failure,
    }
}

#[cfg(target_os = "linux")]
fn named(request: &ListenRequest, error: &Error) -> Option<Failure> {
    use sameport_policy::model::Address;
    use sameport_policy::refusal::Refusal;

    use crate::output::refusal::words;
    use sameport_supervisor::conflict::{RefusedCaller, look_at, reason};

    if !matches!(error.kind(), Why::InUse | Why::InUseByAnotherUser) {
        return None;
    }
    let address = Address::new(request.protocol, error.address().parse().ok()?);
    let caller = RefusedCaller {
        uid: sameport_sys::effective_user(),
        shared: !request.exclusive,
        needs_privilege: false,
    };
    match reason(&address, caller, &look_at(&[&address]).ok()?) {
        Refusal::Unexplained => None,
        refusal => {
            let (message, hint) = words(&address, &refusal);
            Some(Failure::new(ExitKind::CouldNotBeDone, message).hint(hint))
        }
    }
}
