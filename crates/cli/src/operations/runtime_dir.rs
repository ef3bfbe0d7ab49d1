//! The directory of this user's files that do not outlive the machine's run.

use std::env;
use std::ffi::OsString;

use sameport_sys::run_files;

/// XDG_RUNTIME_DIR, or in a service the directory of `RuntimeDirectory=` (RUNTIME_DIRECTORY).
pub(crate) fn runtime_dir() -> Option<OsString> {
    let of_service = env::var_os("RUNTIME_DIRECTORY");
    run_files::runtime_dir(env::var_os("XDG_RUNTIME_DIR"), of_service.as_deref())
}
