//! Frames: the length of the JSON in four bytes, big-endian, and the JSON.

use std::fmt;
use std::io::{self, Read};

use serde::Serialize;
use serde::de::DeserializeOwned;

/// Maximum size of a request, in bytes: enough for a command line, little for a hostile client.
pub(crate) const MAX_REQUEST: usize = 64 << 10;

/// Maximum size of a reply, in bytes: the status of 1024 workers.
pub(crate) const MAX_REPLY: usize = 16 << 20;

/// Size of the length field, in bytes.
pub(crate) const HEADER: usize = 4;

/// Why a frame cannot be written or read.
#[derive(Debug)]
pub enum FrameError {
    /// The frame exceeds the maximum; its size in bytes.
    TooLong(usize),
    /// The JSON is invalid or unexpected.
    Invalid(String),
    /// The connection ended within a frame.
    Incomplete,
    /// `read` failed.
    Read(io::Error),
}

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong(bytes) => write!(f, "a message of {bytes} bytes is too long"),
            Self::Invalid(why) => write!(f, "a message cannot be understood: {why}"),
            Self::Incomplete => f.write_str("the connection ended in the middle of a message"),
            Self::Read(error) => write!(f, "read: {error}"),
        }
    }
}

impl From<io::Error> for FrameError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset => Self::Incomplete,
            _ => Self::Read(error),
        }
    }
}

/// Encodes a message as a frame of at most `most` bytes of JSON.
pub(crate) fn encode<T: Serialize>(message: &T, most: usize) -> Result<Vec<u8>, FrameError> {
    let mut bytes = vec![0; HEADER];
    serde_json::to_writer(&mut bytes, message)
        .map_err(|error| FrameError::Invalid(error.to_string()))?;
    let length = bytes.len() - HEADER;
    let header = u32::try_from(length).ok().filter(|_| length <= most);
    let header = header.ok_or(FrameError::TooLong(length))?;
    bytes[..HEADER].copy_from_slice(&header.to_be_bytes());
    Ok(bytes)
}

/// The size of the JSON after this header. Fails before memory is allocated for too long a frame.
pub(crate) fn frame_length(header: [u8; HEADER], most: usize) -> Result<usize, FrameError> {
    let length = usize::try_from(u32::from_be_bytes(header)).unwrap_or(usize::MAX);
    if length <= most { Ok(length) } else { Err(FrameError::TooLong(length)) }
}

/// Decodes the JSON of a frame.
pub(crate) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, FrameError> {
    serde_json::from_slice(bytes).map_err(|error| FrameError::Invalid(error.to_string()))
}

/// Reads the next message; `None` at the end of the connection.
pub(crate) fn read<T: DeserializeOwned>(
    from: &mut impl Read,
    most: usize,
) -> Result<Option<T>, FrameError> {
    let mut header = [0; HEADER];
    match from.read_exact(&mut header[..1]) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        // The other side closed with unread data.
        Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(None),
        other => other?,
    }
    from.read_exact(&mut header[1..])?;
    let mut bytes = vec![0; frame_length(header, most)?];
    from.read_exact(&mut bytes)?;
    decode(&bytes).map(Some)
}
