//! The handler of every upgraded connection: one of ten ways to behave, and a judge of how it is
//! treated. It knows every byte the client will send, so it notices at once when one is lost,
//! repeated, out of order or late.

use std::time::Duration;

use upring::buffer::{Lease, Payload};
use upring::upgrade::{CloseReason, Detached, Handler, Io};

use super::script::{GREETING, pattern};
use super::stage::{self, Kept};

/// How a player behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Sends every lease back.
    Echo,
    /// Sends so many bytes first, at once or as room comes; then echoes.
    Greet,
    /// Echoes, and pauses after each delivery.
    Pause,
    /// Echoes a copy, some turns or milliseconds later.
    Later,
    /// Echoes so many bytes, then panics.
    Panic,
    /// Echoes so many bytes, then resets.
    Reset,
    /// Echoes so many bytes, then closes.
    Close,
    /// Echoes so many bytes, then ends its direction and goes on writing all the same.
    End,
    /// Writes more than any outbox may hold.
    Flood,
    /// Echoes so many bytes, then leaves the engine.
    Detach,
}

impl Kind {
    pub(super) const ALL: [Kind; 10] = [
        Kind::Echo,
        Kind::Greet,
        Kind::Pause,
        Kind::Later,
        Kind::Panic,
        Kind::Reset,
        Kind::Close,
        Kind::End,
        Kind::Flood,
        Kind::Detach,
    ];

    /// Whether its connection ends in a reset by the server.
    pub(super) fn is_cut(self) -> bool {
        matches!(self, Kind::Panic | Kind::Reset | Kind::Flood)
    }

    /// Whether only so many bytes are echoed.
    pub(super) fn is_counted(self) -> bool {
        matches!(self, Kind::Panic | Kind::Reset | Kind::Close | Kind::End | Kind::Detach)
    }
}

const FLOOD_PIECE: &[u8] = &[b'~'; 64 * 1024];
const GREETING_PIECE: usize = 10_000;

#[derive(Debug)]
pub(super) struct Player {
    kind: Kind,
    /// Bytes to echo, or to greet with.
    count: usize,
    id: u64,
    seen: usize,
    greeted: usize,
    held: Vec<u8>,
    is_told_of_end: bool,
    is_paused: bool,
    is_opened: bool,
    is_over: bool,
    is_done: bool,
}

impl Player {
    pub(super) fn new(kind: Kind, count: usize, id: u64) -> Player {
        Player {
            kind,
            count,
            id,
            seen: 0,
            greeted: 0,
            held: Vec::new(),
            is_told_of_end: false,
            is_paused: false,
            is_opened: false,
            is_over: false,
            is_done: false,
        }
    }

    fn expect(&self, is_right: bool, what: &str) {
        if !is_right {
            let text =
                format!("player {} ({:?}, {} bytes seen): {what}", self.id, self.kind, self.seen);
            stage::note(|account| account.violations.push(text));
        }
    }

    fn check(&mut self, bytes: &[u8]) {
        self.expect(!self.is_told_of_end, "bytes behind the end of input");
        self.expect(!self.is_over && self.is_opened, "called while not open");
        let is_next = bytes.iter().zip(self.seen..).all(|(byte, at)| *byte == pattern(self.id, at));
        self.expect(is_next, "the bytes are not those that come next");
        self.expect(!self.is_paused || self.is_over, "bytes in spite of its pause");
        self.seen += bytes.len();
    }

    /// The whole greeting at once, or a piece of it and a wish to go on.
    fn greet(&mut self, io: &mut Io<'_>) {
        let left = self.count - self.greeted;
        let piece = if self.id.is_multiple_of(2) { left } else { left.min(GREETING_PIECE) };
        io.send(Payload::Owned(
            GREETING
                .iter()
                .cycle()
                .skip(self.greeted % GREETING.len())
                .take(piece)
                .copied()
                .collect(),
        ));
        self.greeted += piece;
        if self.greeted < self.count {
            io.notify_writable();
        }
    }

    /// Asks to be called again, by a waker or by the clock.
    fn come_back(&self, io: &mut Io<'_>) {
        if self.seen.is_multiple_of(2) {
            stage::keep(Kept::Wake(io.waker(), self.id));
        } else {
            io.set_deadline(Duration::from_millis(1 + self.seen as u64 % 7));
        }
    }

    /// What it came back for.
    fn go_on(&mut self, io: &mut Io<'_>) {
        self.expect(self.is_opened && !self.is_over, "called while not open");
        match self.kind {
            Kind::Pause => {
                self.is_paused = false;
                io.resume();
            }
            Kind::Later => {
                io.write(&std::mem::take(&mut self.held));
                if self.is_told_of_end {
                    io.end();
                }
            }
            _ => {}
        }
    }

    /// Echoes up to the count, and says whether it is reached.
    fn echo_counted(&mut self, mut bytes: Lease, io: &mut Io<'_>) -> bool {
        let before = self.seen - bytes.len();
        bytes.truncate(self.count.saturating_sub(before));
        io.send(bytes);
        self.seen >= self.count
    }

    fn finish_counted(&mut self, io: &mut Io<'_>) {
        match self.kind {
            Kind::Panic => {
                self.is_over = true;
                stage::note(|account| account.over += 1);
                // As a panic, without its message.
                std::panic::resume_unwind(Box::new("as scripted"));
            }
            Kind::Reset => io.reset(),
            Kind::Close => io.close(),
            Kind::Detach => io.detach(),
            _ => {
                io.end();
                io.write(b"behind the end");
            }
        }
    }
}

impl Handler for Player {
    fn on_open(&mut self, io: &mut Io<'_>) {
        self.expect(!self.is_opened, "opened twice");
        self.is_opened = true;
        stage::note(|account| account.opened += 1);
        match self.kind {
            Kind::Greet => self.greet(io),
            Kind::Flood => (0..40).for_each(|_| io.send(FLOOD_PIECE)),
            _ => {}
        }
    }

    fn on_bytes(&mut self, bytes: Lease, io: &mut Io<'_>) {
        self.check(&bytes);
        match self.kind {
            Kind::Echo | Kind::Flood => io.send(bytes),
            Kind::Greet if self.greeted < self.count => self.held.extend_from_slice(&bytes),
            Kind::Greet => io.send(bytes),
            Kind::Pause => {
                io.send(bytes);
                io.pause();
                self.is_paused = true;
                self.come_back(io);
            }
            Kind::Later => {
                self.held.extend_from_slice(&bytes);
                self.come_back(io);
            }
            _ => {
                self.expect(!self.is_done || self.kind == Kind::End, "bytes behind its own end");
                self.is_done = self.echo_counted(bytes, io);
                if self.is_done {
                    self.finish_counted(io);
                }
            }
        }
    }

    fn on_end(&mut self, io: &mut Io<'_>) {
        self.expect(
            !self.is_told_of_end && !self.is_paused,
            "told of the end twice, or in a pause",
        );
        self.is_told_of_end = true;
        let has_more =
            !self.held.is_empty() || (self.kind == Kind::Greet && self.greeted < self.count);
        if !has_more {
            io.end();
        }
    }

    fn on_writable(&mut self, io: &mut Io<'_>) {
        if self.kind == Kind::Greet && self.greeted < self.count {
            self.greet(io);
            if self.greeted == self.count {
                io.write(&std::mem::take(&mut self.held));
                if self.is_told_of_end {
                    io.end();
                }
            }
        }
    }

    fn on_deadline(&mut self, io: &mut Io<'_>) {
        self.go_on(io);
    }

    fn on_wake(&mut self, io: &mut Io<'_>) {
        let mut is_meant = false;
        stage::note(|account| {
            let woken = account.woken.iter().position(|id| *id == self.id);
            is_meant = woken.is_some() || account.promises > 0 || account.stream_wakes > 0;
            woken.map(|index| account.woken.swap_remove(index));
        });
        self.expect(is_meant, "woken without a reason");
        self.go_on(io);
    }

    fn on_drain(&mut self, _: Duration, io: &mut Io<'_>) {
        // Some go, some are made to.
        if self.id.is_multiple_of(2) {
            io.close();
        }
    }

    fn on_close(&mut self, reason: CloseReason) {
        self.expect(!self.is_over && self.is_opened, "closed while not open");
        self.is_over = true;
        stage::note(|account| {
            account.over += 1;
            account.reasons.push(reason);
        });
    }

    fn on_detached(&mut self, mut detached: Detached) {
        while let Some(bytes) = detached.unread.pop() {
            self.check(&bytes);
        }
        self.expect(self.kind == Kind::Detach && self.is_done, "detached without asking");
        self.is_over = true;
        stage::note(|account| {
            account.over += 1;
            account.detached += 1;
        });
    }
}

impl Drop for Player {
    fn drop(&mut self) {
        self.expect(self.is_over || !self.is_opened, "dropped without a word");
    }
}
