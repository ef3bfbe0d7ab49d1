//! One prediction: limits, then conflicts, then traffic.

use std::net::{IpAddr, SocketAddr};

use super::model::{
    BindRequest, ExistingSocket, PortLimits, PredictedRefusal, PredictedResult, Prediction,
};
use super::{conflict, traffic};

/// Predicts a bind. The port must not be 0: for port 0 the kernel selects an unused port.
#[must_use]
pub fn predict(
    request: &BindRequest,
    limits: &PortLimits,
    sockets: &[ExistingSocket],
) -> Prediction {
    let verdict = match refused_by_limits(request, limits) {
        Some(refusal) => PredictedResult::Refused(refusal),
        None => conflict::verdict(request, sockets),
    };
    let effects = match verdict {
        PredictedResult::Refused(_) => vec![],
        PredictedResult::Granted | PredictedResult::Uncertain(_) => {
            traffic::effects(request, sockets)
        }
    };
    Prediction { result: verdict, effects }
}

/// A refusal that does not depend on other sockets. The order of the checks differs between IPv4 and
/// IPv6.
fn refused_by_limits(request: &BindRequest, limits: &PortLimits) -> Option<PredictedRefusal> {
    let ip = request.address.socket.ip();
    let needs_privilege =
        request.address.port() < limits.unprivileged_port_start && !limits.may_bind_low;
    let not_local =
        !limits.is_local && !limits.nonlocal_bind && !request.freebind && !request.transparent;
    let v6 = match ip {
        IpAddr::V4(_) => None,
        IpAddr::V6(ip) => Some(ip),
    };
    let mapped = v6.is_some_and(|ip| ip.to_ipv4_mapped().is_some());
    let scoped = request.address.device.is_some()
        || matches!(request.address.socket, SocketAddr::V6(at) if at.scope_id() != 0);
    let link_local = v6.is_some_and(|ip| ip.is_unicast_link_local());
    let checks = [
        (!limits.device_exists, PredictedRefusal::NoDevice),
        (request.transparent && !limits.may_be_transparent, PredictedRefusal::NotTransparent),
        (v6.is_some() && needs_privilege, PredictedRefusal::NeedsPrivilege),
        (mapped && request.address.v6only, PredictedRefusal::MappedAndV6only),
        (link_local && !scoped, PredictedRefusal::NoScope),
        (not_local, PredictedRefusal::NotLocal),
        (needs_privilege, PredictedRefusal::NeedsPrivilege),
    ];
    checks.into_iter().find_map(|(fails, refusal)| fails.then_some(refusal))
}
