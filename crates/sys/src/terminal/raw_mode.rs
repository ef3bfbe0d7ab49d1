//! The mode of a terminal in which each key arrives at once and unechoed.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::termios::{
    InputModes, LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcsetattr,
};

/// A terminal in raw mode, except that Ctrl-C, Ctrl-\ and Ctrl-Z still send signals. Dropping it restores the
/// mode from before.
#[derive(Debug)]
pub struct RawMode {
    /// A duplicate, so that the terminal can be restored also when stdin is closed.
    terminal: OwnedFd,
    before: Termios,
}

impl RawMode {
    /// Sets the mode (`termios(3)`). A process in the background is stopped by SIGTTOU first.
    ///
    /// # Errors
    ///
    /// ENOTTY: the descriptor is no terminal. EIO: the terminal is gone. EMFILE: too many open descriptors.
    pub fn enter(terminal: impl AsFd) -> io::Result<Self> {
        let before = tcgetattr(&terminal)?;
        let mode = Self { terminal: terminal.as_fd().try_clone_to_owned()?, before };
        mode.again()?;
        Ok(mode)
    }

    /// Sets the mode again, after [`Self::leave`].
    ///
    /// # Errors
    ///
    /// As for [`Self::enter`].
    pub fn again(&self) -> io::Result<()> {
        let mut raw = self.before.clone();
        raw.local_modes -= LocalModes::ICANON | LocalModes::ECHO | LocalModes::IEXTEN;
        // Ctrl-S would stop the output for good, where no other key is a start character.
        raw.input_modes -= InputModes::IXON | InputModes::ICRNL;
        raw.special_codes[SpecialCodeIndex::VMIN] = 1;
        raw.special_codes[SpecialCodeIndex::VTIME] = 0;
        tcsetattr(&self.terminal, OptionalActions::Now, &raw).map_err(Into::into)
    }

    /// Restores the mode from before. A terminal that is gone is no error: it has no mode.
    pub fn leave(&self) {
        let _ = tcsetattr(&self.terminal, OptionalActions::Now, &self.before);
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        self.leave();
    }
}
