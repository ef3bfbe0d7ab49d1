//! The program's environment: read without a libc, and emptied of ours where its children are not
//! to be hooked.

#![expect(unsafe_code, reason = "the environment is an array of C strings")]

use core::ffi::{CStr, c_char};
use core::fmt::Write as _;
use core::sync::atomic::{AtomicBool, Ordering};

use crate::machine::{self, symbol};
use crate::report::ReportLine;
use crate::settings::{AtomicFlag, HookSettings, OF_BINDP, OWN, SettingError};

/// Where the library's own file name begins, wherever it was put.
const LIBRARY: &str = "libsameport_preload";

/// The array that the program's libc uses now, or the one that it was started with while that libc
/// has not begun; null if neither is known.
pub(crate) fn array(at_start: *mut *mut c_char) -> *mut *mut c_char {
    let variable: *mut *mut *mut c_char = symbol!("environ").cast();
    if variable.is_null() {
        return at_start;
    }
    // SAFETY: every libc's `environ` is a variable of this type.
    let array = unsafe { variable.read_volatile() };
    if array.is_null() { at_start } else { array }
}

/// Whether the program runs with more rights than its caller (set-user-ID and the like), whose
/// environment is then not to be trusted.
pub(crate) fn is_secure() -> bool {
    const AT_SECURE: u64 = 23;
    let function = symbol!("getauxval");
    if function.is_null() {
        return false;
    }
    // SAFETY: this symbol is a function of this type (`unsigned long` has 64 bits on every machine
    // this is built for) in every libc that has it.
    let function: extern "C" fn(u64) -> u64 = unsafe { core::mem::transmute(function) };
    function(AT_SECURE) != 0
}

/// Every variable: its whole text, split at the first `=`. A text that is not UTF-8 is left out.
fn variables(array: *mut *mut c_char) -> impl Iterator<Item = (&'static str, &'static str)> {
    // More than any kernel lets a program be started with.
    (0..1 << 20)
        .map_while(move |place| {
            // SAFETY: the array ends with a null pointer, where this iterator ends too.
            let text = unsafe { array.wrapping_add(place).read_volatile() };
            (!text.is_null()).then_some(text)
        })
        .filter_map(|text| {
            // SAFETY: what the array points to are C strings, that live while they are in it.
            let text = unsafe { CStr::from_ptr(text) };
            text.to_str().ok()?.split_once('=')
        })
}

/// Reads the variables. Whoever comes here meanwhile reads the same ones and stores the same values.
pub(crate) fn read(settings: &HookSettings, array: *mut *mut c_char) {
    if array.is_null() {
        // Nobody knows the environment yet: ask again at the next call.
        return;
    }
    if !is_secure() {
        let ours = variables(array).any(|(name, _)| OWN.contains(&name));
        let names = if ours { OWN } else { OF_BINDP };
        for (name, value) in variables(array).filter(|(name, _)| names.contains(name)) {
            if let Err(mistake) = settings.take(name, value) {
                complain(settings, name, value, mistake);
            }
        }
    }
    settings.set(AtomicFlag::Read);
}

/// A wrong variable is said once, on stderr, and then every bind fails: to go on without it would
/// bind what was not meant.
fn complain(settings: &HookSettings, name: &str, value: &str, mistake: SettingError) {
    if settings.set(AtomicFlag::Broken) {
        return;
    }
    let mut line = ReportLine::new();
    let shown = value.get(..80).unwrap_or(value);
    // A line that is full is cut.
    let _ =
        writeln!(line, "sameport preload: {name}={shown}: {mistake}; until then no bind succeeds");
    machine::write(2, line.bytes());
}

/// Takes our variables, and our file's name in LD_PRELOAD, out of the environment. Only before the
/// program's own code runs: it may change the array as well.
pub(crate) fn strip(array: *mut *mut c_char) {
    if array.is_null() {
        return;
    }
    let mut kept = 0;
    for place in 0..1 << 20 {
        // SAFETY: the array ends with a null pointer, where this loop ends too.
        let text = unsafe { array.wrapping_add(place).read_volatile() };
        let keep = if text.is_null() {
            text
        } else {
            // SAFETY: what the array points to are C strings.
            let string = unsafe { CStr::from_ptr(text) };
            match string.to_bytes() {
                ours if is_ours(ours) => continue,
                list if list.starts_with(PRELOAD) => match without_us(&list[PRELOAD.len()..]) {
                    PreloadValue::Nothing => continue,
                    PreloadValue::AsItIs => text,
                    PreloadValue::Text(rest) => rest.cast_mut(),
                },
                _ => text,
            }
        };
        // SAFETY: `kept` never passes `place`, which is in the array; the kernel, or the libc that
        // made a copy, has put it into memory that can be written.
        unsafe { array.wrapping_add(kept).write_volatile(keep) };
        kept += 1;
        if text.is_null() {
            return;
        }
    }
}

const PRELOAD: &[u8] = b"LD_PRELOAD=";

fn is_ours(variable: &[u8]) -> bool {
    OWN.iter().any(|name| {
        variable.strip_prefix(name.as_bytes()).is_some_and(|rest| rest.first() == Some(&b'='))
    })
}

/// What is left of LD_PRELOAD.
enum PreloadValue {
    Nothing,
    AsItIs,
    /// A C string that lives for ever.
    Text(*const c_char),
}

const ROOM: usize = 8192;

/// Where the shorter LD_PRELOAD is kept. Written once, by the constructor.
struct StrippedValue(core::cell::UnsafeCell<[u8; ROOM]>, AtomicBool);

// SAFETY: only who changes the flag from false to true writes, once, before its address is known.
unsafe impl Sync for StrippedValue {}

static SHORTENED: StrippedValue =
    StrippedValue(core::cell::UnsafeCell::new([0; ROOM]), AtomicBool::new(false));

fn without_us(list: &[u8]) -> PreloadValue {
    let is_library = |entry: &[u8]| {
        let name = entry.rsplit(|byte| *byte == b'/').next().unwrap_or(entry);
        name.starts_with(LIBRARY.as_bytes())
    };
    let entries = || list.split(|byte| matches!(byte, b':' | b' ')).filter(|it| !it.is_empty());
    if !entries().any(is_library) {
        return PreloadValue::AsItIs;
    }
    if entries().all(is_library) {
        return PreloadValue::Nothing;
    }
    if PRELOAD.len() + list.len() + 1 > ROOM || SHORTENED.1.swap(true, Ordering::AcqRel) {
        return PreloadValue::AsItIs;
    }
    // SAFETY: the flag was ours to set, so nobody else has a reference.
    let room = unsafe { &mut *SHORTENED.0.get() };
    let mut at = 0;
    let mut put = |bytes: &[u8]| {
        for (to, from) in room[at..].iter_mut().zip(bytes) {
            *to = *from;
        }
        at += bytes.len();
    };
    put(PRELOAD);
    for (place, entry) in entries().filter(|entry| !is_library(entry)).enumerate() {
        if place > 0 {
            put(b":");
        }
        put(entry);
    }
    PreloadValue::Text(room.as_ptr().cast())
}
