//! The terminal while `top` has it: a screen of its own, and keys that are read as they are pressed.
//! It is given back as it was, however `top` ends.

use std::io::{self, IsTerminal};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};

use super::super::say;

/// The other screen, the cursor hidden; and back. ECMA-48 and xterm's private modes.
const ENTER: &str = "\x1b[?1049h\x1b[?25l";
const LEAVE: &str = "\x1b[?25h\x1b[?1049l";

/// To the top left; the end of a line is erased, and all below the last.
const HOME: &str = "\x1b[H";
const NEW_LINE: &str = "\x1b[K\r\n";
const ERASE_BELOW: &str = "\x1b[J";

/// What was pressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Key {
    /// `q`, or what would interrupt.
    Quit,
    Other,
}

/// A terminal that is ours until this is dropped.
pub(super) struct Terminal {
    /// As it was; none if input is no terminal.
    before: Option<Termios>,
}

impl Terminal {
    /// Takes the terminal of standard output.
    ///
    /// # Errors
    /// It is none, or it refuses.
    pub(super) fn take() -> io::Result<Terminal> {
        if !io::stdout().is_terminal() {
            let why = "standard output is no terminal: --once is for that";
            return Err(io::Error::other(why));
        }
        let input = io::stdin();
        let before = if input.is_terminal() { Some(tcgetattr(&input)?) } else { None };
        if let Some(before) = &before {
            let mut raw = before.clone();
            // Ctrl-C is read like another key, and the screen is left before we end.
            raw.local_modes -= LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG;
            tcsetattr(&input, OptionalActions::Now, &raw)?;
        }
        say(io::stdout(), ENTER);
        Ok(Terminal { before })
    }

    /// Shows this instead of what was shown before.
    pub(super) fn show(&mut self, text: &str) {
        let lines = text.lines().map(|line| format!("{line}{NEW_LINE}"));
        say(io::stdout(), &(HOME.to_owned() + &lines.collect::<String>() + ERASE_BELOW));
    }

    /// The next key, if one comes in time.
    pub(super) fn key_within(&self, wait: Duration) -> Option<Key> {
        let time = Timespec::try_from(wait).ok()?;
        let input = io::stdin();
        if self.before.is_none() {
            std::thread::sleep(wait.min(Duration::from_millis(100)));
            return None;
        }
        let mut polled = [PollFd::new(&input, PollFlags::IN)];
        // A signal ends the wait, too: who asks looks at that.
        if poll(&mut polled, Some(&time)).ok()? == 0 {
            return None;
        }
        let mut byte = [0];
        match rustix::io::read(&input, &mut byte) {
            // Without a terminal behind it nobody can press anything any more. Ctrl-C is 3.
            Ok(0) => Some(Key::Quit),
            Ok(_) if matches!(byte[0], b'q' | b'Q' | 3) => Some(Key::Quit),
            Ok(_) => Some(Key::Other),
            Err(_) => None,
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        say(io::stdout(), LEAVE);
        if let Some(before) = &self.before {
            // A terminal that is gone needs nothing.
            let _ = tcsetattr(io::stdin(), OptionalActions::Now, before);
        }
    }
}
