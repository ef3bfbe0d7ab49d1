//! `attach` and `detach`: the programs of the cgroup interposer at a cgroup that exists already.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::SystemTime;
use std::{env, io};

use sameport_policy::bind::map;
use sameport_policy::bind::map::MapRule;
use sameport_policy::bind::verdict::PortSet;
use sameport_policy::drop_in;
use sameport_policy::drop_in::NoDropIn;
use sameport_sys::bpf::cgroup_bind;
use sameport_sys::bpf::cgroup_bind::{AttachSettings, AttachedPrograms, RemovedPins};
use sameport_sys::bpf::{AttachError, PinError};
use sameport_sys::cgroup::{Cgroup, CgroupError, unit_name};
use sameport_sys::systemd::drop_in::DropInPlace;
use sameport_sys::systemd::{drop_in as drop_in_file, is_booted};

use sameport_supervisor::conflict::is_local;

/// A cgroup on the command line.
#[derive(Debug, Clone)]
pub(crate) enum CgroupChoice {
    /// The cgroup of a systemd unit.
    Unit(String),
    /// The cgroup with this path.
    Path(PathBuf),
}

/// The options of `attach`.
#[derive(Debug, Clone)]
pub(crate) struct AttachRequest {
    pub(crate) place: CgroupChoice,
    pub(crate) ports: PortSet,
    pub(crate) rules: Vec<MapRule>,
    pub(crate) source: Option<SocketAddr>,
    /// Whether to attach again at each start of a unit, and how long.
    pub(crate) again: Option<AttachAgain>,
}

/// How long a unit is attached to again.
#[derive(Debug, Clone, Copy)]
pub(crate) enum AttachAgain {
    UntilReboot,
    Permanently,
}

/// Whether an attachment outlives a stop of its unit.
#[derive(Debug)]
pub(crate) enum AtNextStart {
    /// It was not asked for.
    NotAsked,
    /// This drop-in attaches again.
    Again(PathBuf),
    /// It does not, for this reason.
    Ends(String),
}

/// The effect of `detach`.
#[derive(Debug, Default)]
pub(crate) struct DetachResult {
    /// The cgroup whose attachment was removed.
    pub(crate) path: Option<PathBuf>,
    /// The drop-ins that were removed.
    pub(crate) drop_ins: Vec<PathBuf>,
}

/// The effect of `attach`.
#[derive(Debug)]
pub(crate) struct AttachResult {
    /// The cgroup, as `/proc/PID/cgroup` writes it.
    pub(crate) path: PathBuf,
    /// Whether this call mounted the BPF file system, which stays mounted.
    pub(crate) mounted: bool,
    /// Pins without a use, which were removed.
    pub(crate) cleared: Vec<RemovedPins>,
    pub(crate) at_next_start: AtNextStart,
}

/// The attachments at a point in time.
#[derive(Debug)]
pub(crate) struct AttachmentList {
    pub(crate) attached: Vec<AttachedPrograms>,
    pub(crate) now: SystemTime,
}

#[derive(Debug)]
pub(crate) enum Error {
    /// Two rules for one address, in the order of the command line.
    Contradiction(MapRule, MapRule),
    /// No interface has this address.
    NotLocal(IpAddr),
    Open(CgroupError),
    Attach(PathBuf, AttachError),
    Pin(PathBuf, PinError),
    /// The drop-in of a unit cannot be removed.
    DropIn(io::Error),
}

/// Attaches, until `detach`.
pub(crate) fn attach(request: &AttachRequest) -> Result<AttachResult, Error> {
    if let Some((one, other)) = map::contradiction(&request.rules) {
        return Err(Error::Contradiction(request.rules[one], request.rules[other]));
    }
    let targets = request.rules.iter().filter_map(|rule| rule.to.ip);
    let source = request.source.map(|source| source.ip());
    if let Some(ip) = targets.chain(source).find(|ip| !is_local(*ip)) {
        return Err(Error::NotLocal(ip));
    }
    let cgroup = open(&request.place)?;
    let path = cgroup.path().to_owned();
    let pin = |error| Error::Pin(path.clone(), error);
    let cleared = cgroup_bind::clear_leftovers().map_err(pin)?;
    if cgroup_bind::is_attached(&cgroup).map_err(pin)? {
        return Err(pin(PinError::Already));
    }
    let settings = AttachSettings {
        ports: request.ports.clone(),
        rules: request.rules.clone(),
        source: request.source,
        // A service may have its own network namespace; the attachment is for the whole cgroup.
        network: None,
    };
    let mounted = cgroup_bind::attach(&cgroup, &settings)
        .map_err(|error| Error::Attach(path.clone(), error))?
        .pin()
        .map_err(pin)?;
    let at_next_start = match request.again {
        Some(place) => {
            write_drop_in(&path, request, place).map_or_else(AtNextStart::Ends, AtNextStart::Again)
        }
        None => AtNextStart::NotAsked,
    };
    Ok(AttachResult { path, mounted, cleared, at_next_start })
}

/// The drop-in that attaches again at each start, or why there is none.
fn write_drop_in(
    path: &Path,
    request: &AttachRequest,
    again: AttachAgain,
) -> Result<PathBuf, String> {
    let place = match again {
        AttachAgain::UntilReboot => DropInPlace::Runtime,
        AttachAgain::Permanently => DropInPlace::Permanent,
    };
    let unit = drop_in::service(path.to_str().unwrap_or_default()).map_err(|why| match why {
        NoDropIn::NotAService => "only a service runs commands before it starts".to_owned(),
        NoDropIn::OfUser => "the service manager of a user cannot attach".to_owned(),
    })?;
    if !is_booted() {
        return Err("systemd does not run here".to_owned());
    }
    let executable = env::current_exe().map_err(|error| error.to_string())?;
    let executable = executable.to_str().unwrap_or_default();
    let AttachRequest { ports, rules, source, .. } = request;
    let text = drop_in::text(unit, executable, ports, rules, *source)
        .ok_or("the path of sameport cannot be written in a unit file")?;
    drop_in_file::write(place, unit, drop_in::FILE, &text)
        .map_err(|error| format!("its drop-in cannot be written: {error}"))
}

/// Removes an attachment, also one of a removed cgroup, and the drop-in that attaches again.
pub(crate) fn detach(place: &CgroupChoice) -> Result<DetachResult, Error> {
    let unit = match place {
        CgroupChoice::Unit(name) => unit_name(name),
        CgroupChoice::Path(path) => {
            path.to_str().and_then(|path| drop_in::service(path).ok()).map(str::to_owned)
        }
    };
    let drop_ins = match unit {
        Some(unit) => drop_in_file::remove(&unit, drop_in::FILE).map_err(Error::DropIn)?,
        None => Vec::new(),
    };
    match detach_programs(place) {
        Ok(path) => Ok(DetachResult { path: Some(path), drop_ins }),
        // Its unit does not run, or something else has detached it.
        Err(_) if !drop_ins.is_empty() => Ok(DetachResult { path: None, drop_ins }),
        Err(error) => Err(error),
    }
}

fn detach_programs(place: &CgroupChoice) -> Result<PathBuf, Error> {
    let gone = match open(place) {
        Ok(cgroup) => {
            let path = cgroup.path().to_owned();
            return match cgroup_bind::detach(&cgroup) {
                Ok(()) => Ok(path),
                Err(error) => Err(Error::Pin(path, error)),
            };
        }
        Err(error) => error,
    };
    let wanted = match (&gone, place) {
        (Error::Open(CgroupError::NotFound(path)), _) => path.clone(),
        (Error::Open(CgroupError::UnitNotRunning(unit)), _) => PathBuf::from(unit),
        _ => return Err(gone),
    };
    let pin = |error| Error::Pin(wanted.clone(), error);
    let recorded = cgroup_bind::list_attached().map_err(pin)?.into_iter();
    let mut of_it = recorded.filter(|attached| is_of(&attached.path, &wanted));
    let Some(attached) = of_it.next() else { return Err(gone) };
    cgroup_bind::detach_recorded(&attached).map_err(pin)?;
    Ok(attached.path)
}

/// Whether a cgroup's recorded path is what the user wrote: a path, a folder, or a unit's name.
fn is_of(path: &Path, wanted: &Path) -> bool {
    let below = |path: &Path| path.strip_prefix("/").unwrap_or(path).to_owned();
    let (path, wanted) = (below(path), below(wanted));
    path.ends_with(&wanted) || wanted.ends_with(&path)
}

/// Removes every attachment and returns their number, and every drop-in that attaches again.
pub(crate) fn detach_all() -> Result<(usize, Vec<PathBuf>), Error> {
    let drop_ins = drop_in_file::remove_all(drop_in::FILE).map_err(Error::DropIn)?;
    let pin = |error| Error::Pin(PathBuf::new(), error);
    let cleared = cgroup_bind::clear_leftovers().map_err(pin)?;
    let of_cgroups = cleared.iter().filter(|left| matches!(left, RemovedPins::Cgroup(_))).count();
    Ok((of_cgroups + cgroup_bind::detach_all().map_err(pin)?, drop_ins))
}

/// The current attachments.
pub(crate) fn list() -> Result<AttachmentList, Error> {
    let attached =
        cgroup_bind::list_attached().map_err(|error| Error::Pin(PathBuf::new(), error))?;
    Ok(AttachmentList { attached, now: SystemTime::now() })
}

fn open(place: &CgroupChoice) -> Result<Cgroup, Error> {
    match place {
        CgroupChoice::Unit(name) => Cgroup::of_unit(name),
        CgroupChoice::Path(path) => Cgroup::open(path),
    }
    .map_err(Error::Open)
}
