//! Frames: a length, and as many bytes of JSON.

use std::fmt;
use std::io::{self, Read};

use serde::Serialize;
use serde::de::DeserializeOwned;

/// The longest request, in bytes: a command line has to fit, and nobody else much memory.
pub(crate) const MAX_REQUEST: usize = 64 << 10;

/// The longest reply: the status of 1024 workers.
pub(crate) const MAX_REPLY: usize = 16 << 20;

/// Bytes of the length before each frame.
pub(crate) const HEADER: usize = 4;

/// Why bytes are no frame of ours.
#[derive(Debug)]
pub enum FrameError {
    /// It would have this many bytes.
    TooLong(usize),
    /// It is not what was expected.
    Invalid(String),
    /// The other side ended in the middle.
    Incomplete,
    /// It could not be read.
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

/// The frame of a message.
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

/// How many bytes follow this header. Nothing is set aside for more than are allowed.
pub(crate) fn frame_length(header: [u8; HEADER], most: usize) -> Result<usize, FrameError> {
    let length = usize::try_from(u32::from_be_bytes(header)).unwrap_or(usize::MAX);
    if length <= most { Ok(length) } else { Err(FrameError::TooLong(length)) }
}

/// The message in these bytes.
pub(crate) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, FrameError> {
    serde_json::from_slice(bytes).map_err(|error| FrameError::Invalid(error.to_string()))
}

/// Reads the next message; nothing if the other side has ended before it.
pub(crate) fn read<T: DeserializeOwned>(
    from: &mut impl Read,
    most: usize,
) -> Result<Option<T>, FrameError> {
    let mut header = [0; HEADER];
    match from.read_exact(&mut header[..1]) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        // It ended, and had not read all that we sent.
        Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(None),
        other => other?,
    }
    from.read_exact(&mut header[1..])?;
    let mut bytes = vec![0; frame_length(header, most)?];
    from.read_exact(&mut bytes)?;
    decode(&bytes).map(Some)
}
