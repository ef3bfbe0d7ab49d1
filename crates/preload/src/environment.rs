//! Reads the program's environment without a libc, and removes the library's variables from it.

#![expect(unsafe_code, reason = "the environment is an array of C strings")]

use core::ffi::{CStr, c_char};
use core::fmt::Write as _;
use core::sync::atomic::{AtomicBool, Ordering};

use crate::machine::{self, symbol};
use crate::report::ReportLine;
use crate::settings::{BINDP_VARIABLES, Flag, SAMEPORT_VARIABLES, SettingError, Settings};

/// The beginning of the library's file name.
const LIBRARY: &str = "libsameport_preload";

/// The array that the program's libc uses, or `at_start` before the libc has set it; null if neither
/// is known.
pub(crate) fn array(at_start: *mut *mut c_char) -> *mut *mut c_char {
    let variable: *mut *mut *mut c_char = symbol!("environ").cast();
    if variable.is_null() {
        return at_start;
    }
    // SAFETY: `environ` has this type in every libc.
    let array = unsafe { variable.read_volatile() };
    if array.is_null() { at_start } else { array }
}

/// Whether the program runs with more privileges than its caller (AT_SECURE, getauxval(3)), so that
/// the environment is not trusted.
pub(crate) fn is_secure() -> bool {
    const AT_SECURE: u64 = 23;
    let function = symbol!("getauxval");
    if function.is_null() {
        return false;
    }
    // SAFETY: the symbol has this type in every libc that defines it; `unsigned long` has 64 bits on
    // every target of this library.
    let function: extern "C" fn(u64) -> u64 = unsafe { core::mem::transmute(function) };
    function(AT_SECURE) != 0
}

/// Each variable, split at the first `=`. A text that is not UTF-8 is omitted.
fn variables(array: *mut *mut c_char) -> impl Iterator<Item = (&'static str, &'static str)> {
    // More than the kernel's limits permit: execve(2).
    (0..1 << 20)
        .map_while(move |place| {
            // SAFETY: the array ends with a null pointer, where this iterator ends too.
            let text = unsafe { array.wrapping_add(place).read_volatile() };
            (!text.is_null()).then_some(text)
        })
        .filter_map(|text| {
            // SAFETY: the array points to C strings that live while the array refers to them.
            let text = unsafe { CStr::from_ptr(text) };
            text.to_str().ok()?.split_once('=')
        })
}

/// Reads the variables. A concurrent call reads the same variables and stores the same values.
pub(crate) fn read(settings: &Settings, array: *mut *mut c_char) {
    if array.is_null() {
        // The environment is not known yet: the next call tries again.
        return;
    }
    if !is_secure() {
        let has_own = variables(array).any(|(name, _)| SAMEPORT_VARIABLES.contains(&name));
        let names = if has_own { SAMEPORT_VARIABLES } else { BINDP_VARIABLES };
        for (name, value) in variables(array).filter(|(name, _)| names.contains(name)) {
            if let Err(error) = settings.set_variable(name, value) {
                report_invalid(settings, name, value, error);
            }
        }
    }
    settings.set(Flag::Read);
}

/// Reports an invalid variable on stderr, once. Every later bind fails, because a bind without the
/// variable could have another address than intended.
fn report_invalid(settings: &Settings, name: &str, value: &str, error: SettingError) {
    if settings.set(Flag::Invalid) {
        return;
    }
    let mut line = ReportLine::new();
    let shown = value.get(..80).unwrap_or(value);
    // Fails if the line is full: then it is truncated.
    let _ =
        writeln!(line, "sameport preload: {name}={shown}: {error}; until then no bind succeeds");
    machine::write(2, line.bytes());
}

/// Removes the library's variables, and its file name in LD_PRELOAD, from the environment. Only
/// before the program's own code runs, which can change the array too.
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
            // SAFETY: the array points to C strings.
            let string = unsafe { CStr::from_ptr(text) };
            match string.to_bytes() {
                variable if is_own_variable(variable) => continue,
                list if list.starts_with(PRELOAD) => match remove_library(&list[PRELOAD.len()..]) {
                    PreloadList::Empty => continue,
                    PreloadList::Unchanged => text,
                    PreloadList::Shortened(rest) => rest.cast_mut(),
                },
                _ => text,
            }
        };
        // SAFETY: `kept` is at most `place`, which is inside the array; the array of the kernel, or
        // the libc's copy, is writable.
        unsafe { array.wrapping_add(kept).write_volatile(keep) };
        kept += 1;
        if text.is_null() {
            return;
        }
    }
}

const PRELOAD: &[u8] = b"LD_PRELOAD=";

fn is_own_variable(variable: &[u8]) -> bool {
    SAMEPORT_VARIABLES.iter().any(|name| {
        variable.strip_prefix(name.as_bytes()).is_some_and(|rest| rest.first() == Some(&b'='))
    })
}

/// LD_PRELOAD without the library.
enum PreloadList {
    Empty,
    Unchanged,
    /// A static C string.
    Shortened(*const c_char),
}

const CAPACITY: usize = 8192;

/// The memory of the shortened LD_PRELOAD. The constructor writes it once.
struct ShortenedList(core::cell::UnsafeCell<[u8; CAPACITY]>, AtomicBool);

// SAFETY: only the thread that changes the flag from false to true writes, before it passes on the
// address.
unsafe impl Sync for ShortenedList {}

static SHORTENED: ShortenedList =
    ShortenedList(core::cell::UnsafeCell::new([0; CAPACITY]), AtomicBool::new(false));

fn remove_library(list: &[u8]) -> PreloadList {
    let is_library = |entry: &[u8]| {
        let name = entry.rsplit(|byte| *byte == b'/').next().unwrap_or(entry);
        name.starts_with(LIBRARY.as_bytes())
    };
    let entries = || list.split(|byte| matches!(byte, b':' | b' ')).filter(|it| !it.is_empty());
    if !entries().any(is_library) {
        return PreloadList::Unchanged;
    }
    if entries().all(is_library) {
        return PreloadList::Empty;
    }
    if PRELOAD.len() + list.len() + 1 > CAPACITY || SHORTENED.1.swap(true, Ordering::AcqRel) {
        return PreloadList::Unchanged;
    }
    // SAFETY: this call changed the flag, so no other reference exists.
    let buffer = unsafe { &mut *SHORTENED.0.get() };
    let mut at = 0;
    let mut append = |bytes: &[u8]| {
        for (to, from) in buffer[at..].iter_mut().zip(bytes) {
            *to = *from;
        }
        at += bytes.len();
    };
    append(PRELOAD);
    for (place, entry) in entries().filter(|entry| !is_library(entry)).enumerate() {
        if place > 0 {
            append(b":");
        }
        append(entry);
    }
    PreloadList::Shortened(buffer.as_ptr().cast())
}
