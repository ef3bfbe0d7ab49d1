//! The loop of the screen: one thread reads keys and signals, draws, and always restores the terminal.

use std::io::{self, IsTerminal as _, Write as _};
use std::os::fd::AsFd as _;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anstream::{AutoStream, ColorChoice};
use ratatui_core::terminal::Terminal;
use sameport_policy::top::TopView;
use sameport_sys::fd::poll::wait_any;
use sameport_sys::terminal::{RawMode, TerminalSignal, TerminalSignals, read_keys};

use super::ansi::{AnsiBackend, ENTER, LEAVE};
use super::draw::draw;
use super::keys::KeyReader;
use super::screen_state::{KeyEffect, ScreenState};
use crate::error::{Failure, VerbResult};
use crate::operations::top::TopRequest;
use crate::operations::top::feed::{TopFeed, TopNews};
use crate::output::{screen, stdout};

/// The rest of an escape sequence arrives within this time.
const SEQUENCE: Duration = Duration::from_millis(50);
/// The longest wait: a panic of the thread that looks is noticed after this time.
const LONGEST: Duration = Duration::from_secs(1);

/// Why the loop ends.
enum LoopEnd {
    Quit,
    Signal(u8),
    /// The terminal is gone.
    HungUp,
    /// The thread that looks is gone.
    NoLooks,
}

/// Shows the screen until a key or a signal ends it.
pub(crate) fn run(request: TopRequest, view: TopView) -> VerbResult {
    require_terminal()?;
    let interval = request.interval;
    let on = request.on.map(|on| on.to_string());
    let ended = {
        let signals = TerminalSignals::block().map_err(|error| failed("signalfd", &error))?;
        let feed = TopFeed::start(request).map_err(|error| failed("thread", &error))?;
        let screen = FullScreen::enter().map_err(|error| failed("tcsetattr", &error))?;
        let state = ScreenState::new(view, on, interval);
        Screen::new(signals, feed, screen, state).and_then(Screen::run)
    };
    match ended {
        Ok(LoopEnd::Quit | LoopEnd::HungUp) => Ok(ExitCode::SUCCESS),
        Ok(LoopEnd::Signal(number)) => Ok(ExitCode::from(128_u8.saturating_add(number))),
        Ok(LoopEnd::NoLooks) => Err(Failure::failed("the thread that looks at sockets ended")),
        // The terminal is closed, so the reason cannot be shown.
        Err(error) => {
            stdout::outcome(Err(error))?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn failed(call: &str, error: &io::Error) -> Failure {
    Failure::failed(format!("{call}: {error}"))
}

fn require_terminal() -> Result<(), Failure> {
    let is_usable = std::env::var_os("TERM").is_some_and(|term| !term.is_empty() && term != "dumb");
    let why = match (screen::is_terminal(), io::stdin().is_terminal(), is_usable) {
        (false, ..) => "stdout is not a terminal",
        (_, false, _) => "stdin is not a terminal",
        (.., false) => "the terminal cannot move its cursor (TERM is not set, or dumb)",
        _ => return Ok(()),
    };
    Err(Failure::usage(why).hint("`sameport top --once` prints one frame"))
}

/// The whole terminal, until it is left.
struct FullScreen {
    mode: Arc<RawMode>,
}

impl FullScreen {
    /// Takes the terminal. A panic gives it back before its message is printed.
    fn enter() -> io::Result<Self> {
        let taken = Self { mode: Arc::new(RawMode::enter(io::stdin())?) };
        let (mode, before) = (Arc::clone(&taken.mode), std::panic::take_hook());
        std::panic::set_hook(Box::new(move |panic| {
            leave(&mode);
            before(panic);
        }));
        show(ENTER)?;
        Ok(taken)
    }

    fn again(&self) -> io::Result<()> {
        self.mode.again()?;
        show(ENTER)
    }

    fn leave(&self) {
        leave(&self.mode);
    }
}

impl Drop for FullScreen {
    fn drop(&mut self) {
        self.leave();
        if !std::thread::panicking() {
            drop(std::panic::take_hook());
        }
    }
}

fn leave(mode: &RawMode) {
    // A terminal that is gone has nothing to restore.
    let _ = show(LEAVE);
    mode.leave();
}

fn show(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    stdout.flush()
}

struct Screen {
    signals: TerminalSignals,
    feed: TopFeed,
    terminal: Terminal<AnsiBackend<io::Stdout>>,
    taken: FullScreen,
    state: ScreenState,
    keys: KeyReader,
}

impl Screen {
    fn new(
        signals: TerminalSignals,
        feed: TopFeed,
        taken: FullScreen,
        state: ScreenState,
    ) -> io::Result<Self> {
        let colors = AutoStream::choice(&io::stdout()) != ColorChoice::Never;
        let terminal = Terminal::new(AnsiBackend::new(io::stdout(), colors, screen::size))?;
        Ok(Self { signals, feed, terminal, taken, state, keys: KeyReader::default() })
    }

    fn run(mut self) -> io::Result<LoopEnd> {
        loop {
            let state = &mut self.state;
            self.terminal.draw(|frame| draw(state, frame.area(), frame.buffer_mut()))?;
            if let Some(end) = self.wait()? {
                return Ok(end);
            }
        }
    }

    /// Waits until there is something to draw.
    fn wait(&mut self) -> io::Result<Option<LoopEnd>> {
        loop {
            let stdin = io::stdin();
            let timeout = if self.keys.is_waiting() { SEQUENCE } else { LONGEST };
            let fds = [self.signals.as_fd(), stdin.as_fd(), self.feed.as_fd()];
            let [has_signal, is_typed, has_news] = wait_any(fds, timeout)?;
            if has_signal && let Some(end) = self.on_signals()? {
                return Ok(Some(end));
            }
            if is_typed {
                match read_keys(&stdin) {
                    Ok(bytes) if bytes.is_empty() => return Ok(Some(LoopEnd::HungUp)),
                    Ok(bytes) => {
                        let keys = self.keys.feed(&bytes);
                        if let Some(end) = self.on_keys(keys) {
                            return Ok(Some(end));
                        }
                    }
                    Err(_) => return Ok(Some(LoopEnd::HungUp)),
                }
            } else if self.keys.is_waiting() {
                let key = self.keys.give_up();
                if let Some(end) = self.on_keys(key) {
                    return Ok(Some(end));
                }
            }
            while let Some(news) = self.feed.next() {
                self.on_news(news);
            }
            if has_signal || is_typed || has_news {
                return Ok(None);
            }
            if self.feed.is_over() {
                return Ok(Some(LoopEnd::NoLooks));
            }
        }
    }

    fn on_signals(&mut self) -> io::Result<Option<LoopEnd>> {
        while let Some(signal) = self.signals.next()? {
            match signal {
                TerminalSignal::Terminate(number) => return Ok(Some(LoopEnd::Signal(number))),
                TerminalSignal::Stop => {
                    self.taken.leave();
                    self.signals.stop()?;
                    self.show_again()?;
                }
                TerminalSignal::Continue => self.show_again()?,
                // The next drawing reads the size.
                TerminalSignal::Resize => {}
            }
        }
        Ok(None)
    }

    /// Takes the terminal again and draws every cell.
    fn show_again(&mut self) -> io::Result<()> {
        self.taken.again()?;
        self.terminal.clear()
    }

    fn on_keys(&mut self, keys: impl IntoIterator<Item = super::keys::Key>) -> Option<LoopEnd> {
        for key in keys {
            match self.state.key(key) {
                KeyEffect::Redraw => {}
                KeyEffect::Quit => return Some(LoopEnd::Quit),
                KeyEffect::Act(action) => {
                    self.state.message = Some(format!("{}: under way", action.name()));
                    self.feed.carry_out(action);
                }
            }
        }
        None
    }

    fn on_news(&mut self, news: TopNews) {
        match news {
            TopNews::Sample(Ok(sample)) => {
                self.state.sample = Some(sample);
                self.state.error = None;
            }
            TopNews::Sample(Err(error)) => self.state.error = Some(Failure::from(error).message),
            TopNews::Done(text) => self.state.message = Some(text),
        }
    }
}
