//! The container behind a process that forwards a port, from its command line.
//!
//! `docker-proxy` has the published port in its options, `conmon` the id and the name of its container,
//! `slirp4netns` a socket whose name contains the id. `rootlessport` reads its options from standard
//! input, and `pasta` has the ports only: their container is known by the cgroup, if at all.

use std::net::IpAddr;

use crate::model::unit::{Container, Engine, container};
use crate::model::{Process, Protocol};

/// The known part of a container's identity.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct ContainerName {
    /// The engine, if known.
    pub engine: Option<Engine>,
    /// The id, shortened to twelve digits; for LXC the name.
    pub id: Option<String>,
    /// The name.
    pub name: Option<String>,
    /// The address inside of the container.
    pub target: Option<(IpAddr, u16)>,
    /// The published port of the machine.
    pub published: Option<(u16, Protocol)>,
}

impl ContainerName {
    /// A container with this id.
    #[must_use]
    pub fn known(engine: Engine, id: &str) -> Self {
        let id = Container { engine, id }.short_id().to_owned();
        Self { engine: Some(engine), id: Some(id), ..Self::default() }
    }

    /// The word by which the engine knows the container.
    #[must_use]
    pub fn handle(&self) -> Option<&str> {
        self.name.as_deref().or(self.id.as_deref())
    }
}

/// The programs that forward ports to containers, with their engine.
const PROXIES: &[(&str, Engine)] = &[
    ("docker-proxy", Engine::Docker),
    ("rootlessport", Engine::Podman),
    ("rootlessport-child", Engine::Podman),
    ("containers-rootlessport", Engine::Podman),
    ("containers-rootlessport-child", Engine::Podman),
    ("slirp4netns", Engine::Podman),
    ("pasta", Engine::Podman),
    ("pasta.avx2", Engine::Podman),
    ("conmon", Engine::Podman),
];

/// The container whose port the process forwards; `None` if it is no such program. Docker without root
/// uses `rootlessport` and `slirp4netns` as well (rootlesskit): the engine is a likelihood, except for
/// `docker-proxy`.
#[must_use]
pub fn proxy_container(process: &Process) -> Option<ContainerName> {
    let details = process.details.as_ref();
    let words = details.map_or(&[][..], |details| &details.command);
    let engine = proxy_engine(process, words)?;
    if let Some(found) = details.and_then(|it| it.cgroup.as_deref()).and_then(container) {
        return Some(ContainerName {
            name: name(words),
            ..ContainerName::known(found.engine, found.id)
        });
    }
    let id = words.iter().find_map(|word| id_in(word));
    let number = |option_name| option(words, &[option_name]).and_then(|it| it.parse().ok());
    let ip = option(words, &["-container-ip"]).and_then(|it| it.parse().ok());
    let protocol = match option(words, &["-proto"]) {
        Some("udp") => Protocol::Udp,
        _ => Protocol::Tcp,
    };
    let is_conmon = process.program.starts_with("conmon");
    Some(ContainerName {
        engine: Some(engine),
        id: id.map(|id| Container { engine, id }.short_id().to_owned()),
        name: name(words).filter(|_| is_conmon),
        target: ip.zip(number("-container-port")),
        published: number("-host-port").map(|port| (port, protocol)),
    })
}

/// The name in the kernel has at most 15 bytes, and a program of Go that executes itself is called `exe`.
/// The name of the container. The process chooses its words, and advice has the name as an argument: only
/// what an engine accepts as a name, `[a-zA-Z0-9][a-zA-Z0-9_.-]*`, and no option.
fn name(words: &[String]) -> Option<String> {
    let name = option(words, &["-n", "--name"])?;
    let is_part = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
    let is_name =
        name.starts_with(|c: char| c.is_ascii_alphanumeric()) && name.chars().all(is_part);
    is_name.then(|| name.to_owned())
}

fn proxy_engine(process: &Process, words: &[String]) -> Option<Engine> {
    let file = |path: &str| path.rsplit('/').next().unwrap_or_default().to_owned();
    let first = words.first().map(|word| file(word)).unwrap_or_default();
    let is = |name: &str| process.program == name || first == name;
    PROXIES.iter().find(|(name, _)| is(name)).map(|(_, engine)| *engine)
}

/// The value of an option, after it or after `=`.
fn option<'a>(words: &'a [String], names: &[&str]) -> Option<&'a str> {
    let at = |index: usize| {
        let word = words[index].as_str();
        if names.contains(&word) {
            return words.get(index + 1).map(String::as_str);
        }
        let (name, value) = word.split_once('=')?;
        names.contains(&name).then_some(value)
    };
    (0..words.len()).find_map(at)
}

/// 64 hexadecimal digits in a word.
fn id_in(word: &str) -> Option<&str> {
    word.split(|c: char| !c.is_ascii_hexdigit()).find(|part| part.len() == 64)
}
