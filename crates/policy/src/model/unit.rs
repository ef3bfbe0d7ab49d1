//! The systemd unit and the container of a cgroup, from its path.
//!
//! The names are a convention of systemd and container engines, not a fact from the kernel: root, and
//! the owner of a delegated subtree, can choose any name.

/// A container, from the name of its cgroup.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Container<'a> {
    /// The container engine.
    pub engine: Engine,
    /// The id; for LXC the name.
    pub id: &'a str,
}

impl Container<'_> {
    /// The first twelve digits of an id, as in the lists of the engines; a name is unchanged.
    #[must_use]
    pub fn short_id(&self) -> &str {
        if is_id(self.id) { self.id.get(..12).unwrap_or(self.id) } else { self.id }
    }
}

/// A container engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Engine {
    /// Docker.
    Docker,
    /// Podman and other programs with libpod.
    Podman,
    /// containerd, with or without Kubernetes.
    Containerd,
    /// CRI-O.
    CriO,
    /// LXC, LXD and Incus.
    Lxc,
    /// An unknown engine in a pod of Kubernetes.
    Kubernetes,
}

impl Engine {
    /// The name in lower case.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Docker => "docker",
            Self::Podman => "podman",
            Self::Containerd => "containerd",
            Self::CriO => "cri-o",
            Self::Lxc => "lxc",
            Self::Kubernetes => "kubernetes",
        }
    }
}

/// The systemd unit of a cgroup: the innermost service or scope of the path, including units of a
/// user's manager; else the innermost socket, mount or swap unit. `None` for the root cgroup, for
/// slices, and without systemd.
#[must_use]
pub fn unit(path: &str) -> Option<&str> {
    let parts = || path.split('/').rev();
    let of = |kinds: &'static [&'static str]| {
        parts().find(move |part| kinds.iter().any(|kind| is_unit(part, kind)))
    };
    of(&[".service", ".scope"]).or_else(|| of(&[".socket", ".mount", ".swap"]))
}

/// The container of a cgroup: the innermost of the path.
#[must_use]
pub fn container(path: &str) -> Option<Container<'_>> {
    let parts: Vec<&str> = path.split('/').collect();
    let in_pod = parts.iter().any(|part| part.starts_with("kubepods"));
    (0..parts.len()).rev().find_map(|at| {
        let above = at.checked_sub(1).map_or("", |above| parts[above]);
        by_name(parts[at]).or_else(|| by_directory(parts[at], above, in_pod))
    })
}

/// A container whose name contains the engine, such as `docker-ID.scope`.
fn by_name(part: &str) -> Option<Container<'_>> {
    const SCOPES: [(&str, Engine); 5] = [
        ("docker-", Engine::Docker),
        ("libpod-", Engine::Podman),
        ("cri-containerd-", Engine::Containerd),
        ("crio-", Engine::CriO),
        ("nerdctl-", Engine::Containerd),
    ];
    // `kubepods-…-podUID.slice:cri-containerd:ID`, of containerd without systemd.
    if let Some((_, rest)) = part.split_once(":cri-containerd:") {
        return is_id(rest).then_some(Container { engine: Engine::Containerd, id: rest });
    }
    let bare = part.strip_suffix(".scope").unwrap_or(part);
    let by_id = SCOPES.iter().find_map(|(prefix, engine)| {
        let id = bare.strip_prefix(prefix)?;
        is_id(id).then_some(Container { engine: *engine, id })
    });
    by_id.or_else(|| {
        let id = part.strip_prefix("lxc.payload.").filter(|id| !id.is_empty())?;
        Some(Container { engine: Engine::Lxc, id })
    })
}

/// A container whose directory names the engine: `/docker/ID`, `/libpod_parent/ID`, `/kubepods/burstable/podUID/ID`.
fn by_directory<'a>(part: &'a str, above: &str, in_pod: bool) -> Option<Container<'a>> {
    let engine = match above {
        "docker" => Engine::Docker,
        "libpod_parent" => Engine::Podman,
        "lxc" if !part.is_empty() => return Some(Container { engine: Engine::Lxc, id: part }),
        _ if in_pod => Engine::Kubernetes,
        _ => return None,
    };
    is_id(part).then_some(Container { engine, id: part })
}

/// 64 hexadecimal digits.
fn is_id(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Whether the part is a unit of this kind; `.service` alone is not.
fn is_unit(part: &str, kind: &str) -> bool {
    part.strip_suffix(kind).is_some_and(|name| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_the_innermost_of_their_kind() {
        let cases = [
            ("/", None),
            ("", None),
            ("/system.slice", None),
            ("/system.slice/api.service", Some("api.service")),
            ("/system.slice/system-getty.slice/getty@tty1.service", Some("getty@tty1.service")),
            ("/system.slice/api.service/worker/1", Some("api.service")),
            ("/system.slice/docker.socket", Some("docker.socket")),
            ("/user.slice/user-1000.slice/session-2.scope", Some("session-2.scope")),
            (
                "/user.slice/user-1000.slice/user@1000.service/app.slice/web.service",
                Some("web.service"),
            ),
            (
                "/user.slice/user-1000.slice/user@1000.service/app.slice/dbus.socket",
                Some("user@1000.service"),
            ),
            ("/user.slice/user-1000.slice/user@1000.service/init.scope", Some("init.scope")),
            ("/init.scope", Some("init.scope")),
            ("/.service", None),
            ("/my/app", None),
            ("/system.slice/run-rA\\x2d1.scope", Some("run-rA\\x2d1.scope")),
            ("/../../system.slice/other.service", Some("other.service")),
        ];
        for (path, expected) in cases {
            assert_eq!(unit(path), expected, "{path}");
        }
    }

    #[test]
    fn containers_have_a_name_or_a_directory() {
        use Engine::{Containerd, CriO, Docker, Kubernetes, Lxc, Podman};
        let id = &"0123456789abcdef".repeat(4);
        let pod = "kubepods-burstable-pod1a2b.slice";
        let cases = [
            (format!("/system.slice/docker-{id}.scope"), Some((Docker, &**id))),
            (format!("/system.slice/docker-{id}.scope/init.scope"), Some((Docker, id))),
            (format!("/docker/{id}"), Some((Docker, id))),
            (format!("/docker/{id}/system.slice/nginx.service"), Some((Docker, id))),
            (
                format!(
                    "/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-{id}.scope"
                ),
                Some((Podman, id)),
            ),
            (format!("/machine.slice/libpod-{id}.scope/container"), Some((Podman, id))),
            (format!("/libpod_parent/libpod-{id}"), Some((Podman, id))),
            (format!("/libpod_parent/{id}"), Some((Podman, id))),
            (format!("/machine.slice/libpod-conmon-{id}.scope"), None),
            (
                format!("/kubepods.slice/kubepods-burstable.slice/{pod}/cri-containerd-{id}.scope"),
                Some((Containerd, id)),
            ),
            (format!("/system.slice/{pod}:cri-containerd:{id}"), Some((Containerd, id))),
            (format!("/kubepods.slice/{pod}/crio-{id}.scope"), Some((CriO, id))),
            (format!("/kubepods.slice/{pod}/crio-conmon-{id}.scope"), None),
            (format!("/kubepods/besteffort/pod1a2b-3c/{id}"), Some((Kubernetes, id))),
            (format!("/system.slice/nerdctl-{id}.scope"), Some((Containerd, id))),
            ("/lxc.payload.web".to_owned(), Some((Lxc, "web"))),
            ("/lxc.payload.web/system.slice/nginx.service".to_owned(), Some((Lxc, "web"))),
            ("/lxc/web/init.scope".to_owned(), Some((Lxc, "web"))),
            ("/lxc.payload.".to_owned(), None),
            ("/lxc.monitor.web".to_owned(), None),
            // A container in a container.
            (format!("/lxc.payload.web/docker/{id}"), Some((Docker, id))),
            ("/docker/1234".to_owned(), None),
            (format!("/my/{id}"), None),
            (format!("/docker-{id}x.scope"), None),
            ("/system.slice/docker.service".to_owned(), None),
            ("/kubepods.slice/kubepods-besteffort.slice".to_owned(), None),
            ("/".to_owned(), None),
            (String::new(), None),
        ];
        for (path, expected) in cases {
            let expected = expected.map(|(engine, id)| Container { engine, id });
            assert_eq!(container(&path), expected, "{path}");
        }
    }

    #[test]
    fn ids_are_shortened_and_names_are_not() {
        let id = "0123456789abcdef".repeat(4);
        let short = |id: &str| Container { engine: Engine::Docker, id }.short_id().to_owned();
        assert_eq!(short(&id), "0123456789ab");
        assert_eq!(short("a-name-of-a-container"), "a-name-of-a-container");
    }
}
