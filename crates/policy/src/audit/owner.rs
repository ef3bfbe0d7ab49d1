//! Where a process belongs: the service that an administrator started, the container.

use crate::model::unit::{Engine, container, unit};

/// Where a process belongs, as far as its cgroup's path says so.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct ServiceOrContainer {
    /// A service of systemd, of the system or of a user. Sessions, and the scopes that desktops make,
    /// are none: anything is started there.
    pub unit: Option<String>,
    /// The short id of a container, or its name.
    pub container: Option<String>,
    /// Whether that is a whole machine (LXC), in which many programs run.
    pub is_system_container: bool,
}

/// What a cgroup's path tells, as `/proc/PID/cgroup` writes it.
#[must_use]
pub fn service_or_container(cgroup: &str) -> ServiceOrContainer {
    let service = |unit: &&str| {
        let name = unit.strip_suffix(".service").unwrap_or_default();
        // A user's own manager, which everything of that user's is below.
        !name.is_empty() && !name.starts_with("user@")
    };
    let container = container(cgroup);
    ServiceOrContainer {
        unit: unit(cgroup).filter(service).map(str::to_owned),
        container: container.map(|container| container.short_id().to_owned()),
        is_system_container: container.is_some_and(|container| container.engine == Engine::Lxc),
    }
}

impl ServiceOrContainer {
    /// Whether this is evidence that two processes are one program (`Some(true)`) or two
    /// (`Some(false)`).
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

/// Whether these are one service: the same, or two of one template (`api@1.service`).
fn are_one_unit(one: &str, other: &str) -> bool {
    let template = |unit: &str| unit.split_once('@').map(|(name, _)| name.to_owned());
    one == other || (template(one).is_some() && template(one) == template(other))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_a_cgroup_belongs() {
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
            let seen = service_or_container(&cgroup);
            assert_eq!((seen.unit.as_deref(), seen.container.as_deref()), (unit, container));
        }
    }

    #[test]
    fn what_two_places_tell() {
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
