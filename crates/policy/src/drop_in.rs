//! The drop-in file of `attach --unit`: it attaches again at each start of the service, because the service
//! manager makes a new cgroup then.
//!
//! Source: `systemd.service(5)`, "Command lines" and `ExecStart=`; `systemd.unit(5)`, drop-in files.

use std::net::SocketAddr;

use crate::bind::map::MapRule;
use crate::bind::verdict::PortSet;
use crate::model::unit;

/// The name of the file in the drop-in directory of the unit.
pub const FILE: &str = "50-sameport-attach.conf";

/// Why a cgroup has no drop-in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoDropIn {
    /// Only a service has commands before its start.
    NotAService,
    /// The unit of a user's manager, which cannot run a command as root.
    OfUser,
}

/// The service of the system's manager whose cgroup this is, by the path as in `/proc/PID/cgroup`.
///
/// # Errors
///
/// [`NoDropIn`], for every other cgroup.
pub fn service(path: &str) -> Result<&str, NoDropIn> {
    let last = path.rsplit('/').next().unwrap_or_default();
    match unit::unit(path) {
        Some(unit) if unit == last && unit.ends_with(".service") => {
            let is_manager = |part: &str| part.starts_with("user@") && part.ends_with(".service");
            match path.split('/').rev().skip(1).any(is_manager) {
                true => Err(NoDropIn::OfUser),
                false => Ok(unit),
            }
        }
        _ => Err(NoDropIn::NotAService),
    }
}

/// The text of the file. `None` if the path of the executable cannot be written in a unit file.
///
/// A failure of the command does not keep the service from starting (`-`), also if the executable no longer
/// exists; it runs as root, without the restrictions of the service (`+`).
#[must_use]
pub fn text(
    unit: &str,
    executable: &str,
    ports: &PortSet,
    rules: &[MapRule],
    source: Option<SocketAddr>,
) -> Option<String> {
    if !executable.starts_with('/') || executable.contains(char::is_control) {
        return None;
    }
    let command = quoted(&format!("-+{executable}"));
    let mut line = format!("ExecStartPre={command} attach --once --unit %n");
    if let PortSet::Only(ports) = ports {
        ports.iter().for_each(|port| line += &format!(" --port {port}"));
    }
    rules.iter().for_each(|rule| line += &format!(" --map {rule}"));
    if let Some(source) = source {
        line += &match source.port() {
            0 if source.is_ipv6() => format!(" --source [{}]", source.ip()),
            0 => format!(" --source {}", source.ip()),
            _ => format!(" --source {source}"),
        };
    }
    Some(format!(
        "# Written by `sameport attach --unit {unit}`; `sameport detach --unit {unit}` removes it.\n\
         [Service]\n{line}\n"
    ))
}

/// One word of a command line. A specifier begins with `%`.
fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_alphanumeric() || "-_./+@:,=".contains(c);
    let escaped = word.replace('\\', "\\\\").replace('"', "\\\"").replace('%', "%%");
    if word.chars().all(is_plain) { word.to_owned() } else { format!("\"{escaped}\"") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_services_of_the_system_have_a_drop_in() {
        use NoDropIn::{NotAService, OfUser};
        for (path, expected) in [
            ("/system.slice/nginx.service", Ok("nginx.service")),
            ("/system.slice/system-web.slice/web@1.service", Ok("web@1.service")),
            ("/nginx.service", Ok("nginx.service")),
            ("/user.slice/user-1000.slice/user@1000.service", Ok("user@1000.service")),
            ("/user.slice/user-1000.slice/user@1000.service/app.slice/web.service", Err(OfUser)),
            ("/user.slice/user-1000.slice/session-1.scope", Err(NotAService)),
            ("/system.slice/nginx.service/part", Err(NotAService)),
            ("/system.slice", Err(NotAService)),
            ("/", Err(NotAService)),
        ] {
            assert_eq!(service(path), expected, "{path}");
        }
    }

    #[test]
    fn the_file_has_the_options_of_the_command() {
        let rules = ["80=127.0.0.1:8080", "tcp:[::]:80=[::1]:8080"].map(|it| it.parse().unwrap());
        let only = PortSet::Only([80.into(), 443.into()].into());
        let line = |executable, ports: &PortSet, rules: &[MapRule], source: Option<&str>| {
            let source = source.map(|it| it.parse().unwrap());
            let text = text("web.service", executable, ports, rules, source)?;
            let mut lines = text.lines().map(str::to_owned);
            assert!(lines.next()?.contains("`sameport detach --unit web.service`"));
            assert_eq!(lines.next()?, "[Service]");
            lines.next()
        };
        let found = line("/usr/bin/sameport", &PortSet::All, &[], None);
        assert_eq!(
            found.as_deref(),
            Some("ExecStartPre=-+/usr/bin/sameport attach --once --unit %n")
        );
        let found = line("/opt/my tools/100%/sp", &only, &rules, Some("[::1]:0"));
        assert_eq!(
            found.as_deref(),
            Some(
                "ExecStartPre=\"-+/opt/my tools/100%%/sp\" attach --once --unit %n --port 80 --port \
                 443 --map 80=127.0.0.1:8080 --map [::]:80/tcp=[::1]:8080 --source [::1]"
            )
        );
        let found = line("/sp", &PortSet::All, &[], Some("127.0.0.9:7"));
        assert!(found.unwrap().ends_with(" --unit %n --source 127.0.0.9:7"));
        assert_eq!(line("sameport", &PortSet::All, &[], None), None);
        assert_eq!(line("/a\nExecStart=/b", &PortSet::All, &[], None), None);
    }
}
