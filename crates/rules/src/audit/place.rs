//! What a cgroup's path tells: the service, or the container, that a process belongs to.

/// Something that an administrator started, and whose processes belong together.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// A service of systemd, of the system or of a user: `api.service`.
    Unit(String),
    /// A container, by its number.
    Container(String),
}

/// The innermost place of a cgroup's path, as `/proc/PID/cgroup` writes it. Sessions, and the scopes
/// that desktops make, are none: anything is started there.
#[must_use]
pub fn place(cgroup: &str) -> Option<Place> {
    cgroup.split('/').rev().find_map(|part| {
        if let Some(number) = container(part) {
            return Some(Place::Container(number.to_owned()));
        }
        let service = part.strip_suffix(".service")?;
        let manager = service.strip_prefix("user@").is_some();
        (!service.is_empty() && !manager).then(|| Place::Unit(part.to_owned()))
    })
}

/// `docker-3f….scope`, `libpod-3f….scope`, `cri-containerd-3f….scope`, and the bare number that
/// cgroupfs drivers use.
fn container(part: &str) -> Option<&str> {
    const DIGITS: usize = 64;
    let name = part.strip_suffix(".scope").unwrap_or(part);
    let number = name.rsplit(['-', ':']).next()?;
    let is_number = number.len() == DIGITS && number.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_number.then_some(number)
}

/// Whether these are one service: the same, or two of one template (`api@1.service`).
pub(super) fn are_one_unit(one: &str, other: &str) -> bool {
    let template = |unit: &str| unit.split_once('@').map(|(name, _)| name.to_owned());
    one == other || (template(one).is_some() && template(one) == template(other))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_a_cgroup_belongs() {
        let number = "3f".repeat(32);
        let unit = |name: &str| Some(Place::Unit(name.to_owned()));
        let container = || Some(Place::Container(number.clone()));
        let cases = [
            ("/".to_owned(), None),
            ("/system.slice/api.service".to_owned(), unit("api.service")),
            ("/system.slice/api.service/worker".to_owned(), unit("api.service")),
            ("/system.slice/system-api.slice/api@1.service".to_owned(), unit("api@1.service")),
            ("/user.slice/user-1000.slice/session-3.scope".to_owned(), None),
            ("/user.slice/user-1000.slice/user@1000.service/init.scope".to_owned(), None),
            (
                "/user.slice/user-1000.slice/user@1000.service/app.slice/web.service".to_owned(),
                unit("web.service"),
            ),
            (
                "/user.slice/user-1000.slice/user@1000.service/app.slice/vte-spawn-1.scope"
                    .to_owned(),
                None,
            ),
            (format!("/system.slice/docker-{number}.scope"), container()),
            (format!("/docker/{number}"), container()),
            (format!("/docker/{number}/init.scope"), container()),
            (format!("/kubepods/pod1/cri-containerd-{number}.scope"), container()),
            (format!("/kubepods/pod1/cri-containerd:{number}"), container()),
            (format!("/machine.slice/libpod-{number}.scope/container"), container()),
            (format!("/docker/{}", &number[1..]), None),
            ("/.service".to_owned(), None),
        ];
        for (cgroup, expected) in cases {
            assert_eq!(place(&cgroup), expected, "{cgroup}");
        }
    }

    #[test]
    fn instances_of_a_template_are_one_unit() {
        assert!(are_one_unit("api.service", "api.service"));
        assert!(are_one_unit("api@1.service", "api@2.service"));
        assert!(!are_one_unit("api.service", "web.service"));
        assert!(!are_one_unit("api@1.service", "web@1.service"));
        assert!(!are_one_unit("api.service", "api@1.service"));
    }
}
