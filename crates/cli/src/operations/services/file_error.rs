//! Why one file cannot be read, in words.

use std::path::Path;

use sameport_policy::services::trust::Distrust;
use sameport_sys::text_file::TextFileError;

/// Why one file cannot be read, or must not be.
#[derive(Debug)]
pub(crate) enum FileError {
    Text(TextFileError),
    NotTrusted(Distrust),
}

/// The message about a file that cannot be read, and the next step.
pub(crate) fn advice(path: &Path, error: &FileError) -> (String, Option<String>) {
    let quoted = pasted(path);
    match error {
        FileError::Text(TextFileError::System(error)) => (error_text(error), None),
        FileError::Text(TextFileError::NotAFile("a directory")) => {
            let hint = "name a file in it".to_owned();
            ("it is a directory".into(), Some(hint))
        }
        FileError::Text(TextFileError::NotAFile(kind)) => {
            let hint = "write its content into a regular file: it is read at once, and again by the next `up`";
            (format!("it is {kind}"), Some(hint.into()))
        }
        FileError::Text(TextFileError::TooLong(most)) => {
            (format!("it is longer than {most} bytes"), Some("name the right file".into()))
        }
        FileError::NotTrusted(why) => {
            let user = |uid: &u32| {
                let name = sameport_sys::users::user_name(*uid);
                name.unwrap_or_else(|| format!("uid {uid}"))
            };
            let own = user(&sameport_sys::effective_user());
            let (what, hint) = match why {
                Distrust::Owner(uid) => (
                    format!("it is of user {}, whose commands {own} would run", user(uid)),
                    format!("read it, then: chown {own} {quoted}"),
                ),
                Distrust::LinkOwner(uid) => (
                    format!(
                        "it is a symbolic link of user {}, whose commands {own} would run",
                        user(uid)
                    ),
                    "name the file itself".to_owned(),
                ),
                Distrust::GroupWritable => (
                    format!("{why}, and so choose commands that {own} runs"),
                    format!("read it, then: chmod g-w {quoted}"),
                ),
                Distrust::WorldWritable => (
                    format!("{why}, and so choose commands that {own} runs"),
                    format!("read it, then: chmod o-w {quoted}"),
                ),
            };
            (what, Some(hint))
        }
    }
}

/// The text of a system error without its number.
pub(super) fn error_text(error: &std::io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    let mut letters = text.chars();
    letters.next().map(|first| first.to_lowercase().chain(letters).collect()).unwrap_or_default()
}

/// The path for a command that a user may paste: one that needs quotes is left to the user.
fn pasted(path: &Path) -> String {
    let path = path.to_string_lossy();
    match path.chars().all(|c| c.is_ascii_alphanumeric() || "/._-".contains(c)) {
        true => path.into_owned(),
        false => "FILE".into(),
    }
}
