//! The systemd service or container of a process, from its cgroup.

use crate::model::Process;
use crate::model::unit::{Engine, container, unit};

/// The service or container of a process, as far as the path of its cgroup names them.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct ServiceOrContainer {
    /// A systemd service of the system or of a user. Sessions and scopes are left out: any program
    /// can be started in them.
    pub unit: Option<String>,
    /// The short id of a container, or its name.
    pub container: Option<String>,
    /// Whether the container runs a whole system with many programs (LXC).
    pub is_system_container: bool,
}

/// Reads the path of a cgroup, as in `/proc/PID/cgroup`.
#[must_use]
pub fn service_or_container(cgroup: &str) -> ServiceOrContainer {
    let is_service = |unit: &&str| {
        let name = unit.strip_suffix(".service").unwrap_or_default();
        // `user@UID.service`, the user's service manager, contains all programs of the user.
        !name.is_empty() && !name.starts_with("user@")
    };
    let container = container(cgroup);
    ServiceOrContainer {
        unit: unit(cgroup).filter(is_service).map(str::to_owned),
        container: container.map(|container| container.short_id().to_owned()),
        is_system_container: container.is_some_and(|container| container.engine == Engine::Lxc),
    }
}

/// The service or container of a process; empty if its cgroup is unknown.
pub(super) fn service_of(process: &Process) -> ServiceOrContainer {
    let cgroup = process.details.as_ref().and_then(|details| details.cgroup.as_deref());
    cgroup.map(service_or_container).unwrap_or_default()
}

impl ServiceOrContainer {
    /// Whether processes of the two are one program (`Some(true)`) or two (`Some(false)`); `None` if
    /// this is no evidence.
    pub(super) fn is_one_program(&self, other: &Self) -> Option<bool> {
        if self.container != other.container {
            return Some(false);
        }
        match (&self.unit, &other.unit) {
            (Some(one), Some(other)) => are_one_unit(one, other).then_some(true),
            _ => (self.container.is_some() && !self.is_system_container).then_some(true),
        }
    }
}

/// Whether the units are equal, or instances of one template (`api@1.service`).
fn are_one_unit(one: &str, other: &str) -> bool {
    let template = |unit: &str| unit.split_once('@').map(|(name, _)| name.to_owned());
    one == other || (template(one).is_some() && template(one) == template(other))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unit_and_container_of_a_cgroup() {
        let id = "3f".repeat(32);
        let short = Some(&id[..12]);
        let cases = [
            ("/".to_owned(), None, None),
            ("/system.slice/api.service/worker".to_owned(), Some("api.service"), None),
            ("/user.slice/user-1000.slice/session-3.scope".to_owned(), None, None),
            ("/user.slice/user-1000.slice/user@1000.service/init.scope".to_owned(), None, None),
            ("/user.slice/user-1000.slice/user@1000.service/tty".to_owned(), None, None),
            (
                "/user.slice/user-1000.slice/user@1000.service/app.slice/web.service".to_owned(),
                Some("web.service"),
                None,
            ),
            (format!("/system.slice/docker-{id}.scope"), None, short),
            (format!("/docker/{id}/system.slice/api.service"), Some("api.service"), short),
        ];
        for (cgroup, unit, container) in cases {
            let found = service_or_container(&cgroup);
            assert_eq!((found.unit.as_deref(), found.container.as_deref()), (unit, container));
        }
    }

    #[test]
    fn evidence_of_two_cgroups() {
        let (id, another) = ("3f".repeat(32), "4a".repeat(32));
        let docker = |id: &str| format!("/docker/{id}");
        let service = |name: &str| format!("/system.slice/{name}");
        let cases = [
            (service("api.service"), service("api.service"), Some(true)),
            (service("api@1.service"), service("api@2.service"), Some(true)),
            (service("api@1.service"), service("web@1.service"), None),
            (service("api.service"), service("api@1.service"), None),
            (service("api.service"), "/".to_owned(), None),
            ("/".to_owned(), "/".to_owned(), None),
            (docker(&id), docker(&id), Some(true)),
            (docker(&id), docker(&another), Some(false)),
            (docker(&id), service("api.service"), Some(false)),
            (docker(&id), "/".to_owned(), Some(false)),
            ("/lxc.payload.web".to_owned(), "/lxc.payload.web".to_owned(), None),
            (
                "/lxc.payload.web/a.service".to_owned(),
                "/lxc.payload.web/b.service".to_owned(),
                None,
            ),
        ];
        for (one, other, expected) in cases {
            assert_eq!(
                service_or_container(&one).is_one_program(&service_or_container(&other)),
                expected,
                "{one} {other}"
            );
            assert_eq!(
                service_or_container(&other).is_one_program(&service_or_container(&one)),
                expected,
                "{other} {one}"
            );
        }
    }
}
