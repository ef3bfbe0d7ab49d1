//! Loads an object of `bpf/` without the kernel's type information.
//!
//! `EbpfLoader::new` of aya first creates a value for each of the kernel's 127,000 types, which takes longer than
//! everything else together. Objects without CO-RE relocations need none of them.
//! `aya-obj` reads the object and joins its functions; the calls are in `object_calls`.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::path::Path;

use aya_obj::maps::PinningType;
use aya_obj::{EbpfSectionKind, Map, Object};

use super::attach_error::AttachError;
use super::object_calls::{MapSpec, create_map, freeze_map, load_types, pin};
use super::sized_map::MapShape;
use super::syscall::{BPF_MAP_TYPE_SOCKMAP, FunctionInfo, ProgramSpec, load_program, open_pinned};

/// What the verifier says after a signal: to be tried again.
const ATTEMPTS: usize = 5;

/// The maps and the programs of an object. The maps are made; the programs are not loaded.
#[derive(Debug)]
pub(super) struct LoadedObject {
    object: Object,
    types: Option<OwnedFd>,
    /// Programs refer to them by descriptor until they are loaded.
    _maps: BTreeMap<String, OwnedFd>,
}

/// What is set before an object is loaded.
#[derive(Debug, Clone, Copy)]
pub(super) struct ObjectSettings<'a> {
    /// Where its maps are pinned, or get pinned.
    pub(super) maps: &'a Path,
    /// Constants by name.
    pub(super) constants: &'a [(&'a str, u32)],
    /// Maximum number of entries of maps, by name.
    pub(super) entries: &'a [(&'a str, u32)],
}

impl LoadedObject {
    /// Opens the maps that are pinned, and makes the others there.
    pub(super) fn read(bytes: &[u8], settings: &ObjectSettings<'_>) -> Result<Self, AttachError> {
        AttachError::check_filter()?;
        let mut object = Object::parse(bytes).map_err(|error| AttachError::loading(&error))?;
        let constants: HashMap<&str, Vec<u8>> = settings
            .constants
            .iter()
            .map(|(name, number)| (*name, number.to_ne_bytes().to_vec()))
            .collect();
        let constants = constants.iter().map(|(name, bytes)| (*name, (bytes.as_slice(), true)));
        object.patch_map_data(constants.collect()).map_err(|error| AttachError::loading(&error))?;
        let types = types(&mut object)?;
        let mut described: Vec<(String, Map)> = object.maps.drain().collect();
        let mut maps = BTreeMap::new();
        for (name, map) in &mut described {
            if let Some((_, entries)) = settings.entries.iter().find(|(known, _)| known == name) {
                map.set_max_entries(*entries);
            }
            let made = self::map(name, map, types.as_ref().map(OwnedFd::as_fd), settings.maps);
            maps.insert(name.clone(), made.map_err(|error| AttachError::loading(&error))?);
        }
        let code: HashSet<usize> = object.functions.keys().map(|(section, _)| *section).collect();
        let by_name = described
            .iter()
            .filter_map(|(name, map)| Some((name.as_str(), maps.get(name)?.as_raw_fd(), map)));
        object
            .relocate_maps(by_name, &code)
            .and_then(|()| object.relocate_calls(&code))
            .map_err(|error| AttachError::loading(&error))?;
        Ok(Self { object, types, _maps: maps })
    }

    /// Loads a program.
    pub(super) fn load(
        &self,
        name: &str,
        kind: u32,
        attach_type: u32,
    ) -> Result<OwnedFd, AttachError> {
        let program = self.object.programs.get(name).map(aya_obj::Program::function_key);
        let function = program.and_then(|key| self.object.functions.get(&key));
        let function = function.ok_or_else(|| AttachError::Kernel("no program".into()))?;
        let instructions: Vec<u8> = function.instructions.iter().flat_map(instruction).collect();
        let functions = function.func_info.func_info_bytes();
        let types = self.types.as_ref().map(OwnedFd::as_fd);
        let spec = ProgramSpec {
            kind,
            instructions: &instructions,
            attach_type,
            name,
            functions: FunctionInfo { types, bytes: &functions },
            ..ProgramSpec::default()
        };
        let mut loaded = load_program(&spec);
        for _ in 1..ATTEMPTS {
            match &loaded {
                Err(error) if error.raw_os_error() == Some(libc::EAGAIN) => {
                    loaded = load_program(&spec);
                }
                _ => break,
            }
        }
        loaded.map_err(|error| AttachError::loading(&error))
    }
}

/// `struct bpf_insn`: the code, both registers, the offset, the number.
fn instruction(of: &aya_obj::generated::bpf_insn) -> [u8; 8] {
    let [low, high] = of.off.to_ne_bytes();
    let [a, b, c, d] = of.imm.to_ne_bytes();
    [of.code, of.dst_reg() | of.src_reg() << 4, low, high, a, b, c, d]
}

/// Loads the types of the object, without those that this kernel does not know.
fn types(object: &mut Object) -> Result<Option<OwnedFd>, AttachError> {
    let Some(features) = aya::features().btf() else { return Ok(None) };
    let types =
        object.fixup_and_sanitize_btf(features).map_err(|error| AttachError::loading(&error))?;
    let Some(types) = types else { return Ok(None) };
    load_types(&types.to_bytes()).map(Some).map_err(|error| AttachError::loading(&error))
}

/// Opens a map, or makes it.
fn map(name: &str, map: &Map, types: Option<BorrowedFd<'_>>, pins: &Path) -> io::Result<OwnedFd> {
    let path = (map.pinning() == PinningType::ByName).then(|| pins.join(name));
    if let Some(path) = &path {
        match open_pinned(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            opened => return opened,
        }
    }
    let size = |bytes: u32| usize::try_from(bytes).map_err(io::Error::other);
    let shape = MapShape {
        kind: map.map_type(),
        key: size(map.key_size())?,
        value: size(map.value_size())?,
    };
    let types = match map {
        // The kernel keeps no types for a map of sockets.
        Map::Btf(map) if shape.kind != BPF_MAP_TYPE_SOCKMAP => {
            types.map(|types| (types, map.def.btf_key_type_id, map.def.btf_value_type_id))
        }
        _ => None,
    };
    let (entries, flags) = (map.max_entries(), map.map_flags());
    let made = create_map(&MapSpec { name, shape, entries, flags, types })?;
    if !map.data().is_empty() {
        made.update(&[0; 4], map.data())?;
    }
    if map.section_kind() == EbpfSectionKind::Rodata {
        freeze_map(&made)?;
    }
    if let Some(path) = &path {
        pin(&made, path)?;
    }
    Ok(made.fd)
}
