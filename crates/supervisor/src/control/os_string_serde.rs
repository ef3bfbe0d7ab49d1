//! Arguments of a command in JSON: a string if they are UTF-8, else an array of bytes.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum TextOrBytes {
    Text(String),
    Bytes(Vec<u8>),
}

impl From<&OsStr> for TextOrBytes {
    fn from(word: &OsStr) -> Self {
        match word.to_str() {
            Some(text) => Self::Text(text.to_owned()),
            None => Self::Bytes(word.as_bytes().to_owned()),
        }
    }
}

impl From<TextOrBytes> for OsString {
    fn from(written: TextOrBytes) -> Self {
        match written {
            TextOrBytes::Text(text) => text.into(),
            TextOrBytes::Bytes(bytes) => Self::from_vec(bytes),
        }
    }
}

pub(crate) fn serialize<S: Serializer>(words: &[OsString], to: S) -> Result<S::Ok, S::Error> {
    to.collect_seq(words.iter().map(|word| TextOrBytes::from(word.as_os_str())))
}

pub(crate) fn deserialize<'a, D: Deserializer<'a>>(from: D) -> Result<Vec<OsString>, D::Error> {
    Vec::<TextOrBytes>::deserialize(from).map(|words| words.into_iter().map(Into::into).collect())
}
