//! What has to come back on a switched connection, message by message, however it is cut. Called by
//! `expect.rs`.
//!
//! Raw bytes are messages one behind the other. WebSocket messages may come in fragments, between
//! and inside which there may be control frames (RFC 6455 §5.4): a Ping is answered, a Pong nobody
//! asked for is none of anybody's business (§5.5.3), and a Close is the answer to ours.

use crate::fault::Fault;
use crate::messages::Messages;
use crate::websocket::{self, Head, Opcode};

/// What is still to come on one connection.
#[derive(Default)]
pub(crate) struct Echo {
    connection: u64,
    /// Messages still owed.
    owed: usize,
    /// The message that comes next or has come in part, and how much of its payload has come.
    number: u64,
    at: usize,
    /// Of a frame that has come in part.
    frame: Option<Frame>,
    /// Whether fragments have come, and the last is still to come.
    is_begun: bool,
    /// Whether a Close has to come behind all messages.
    is_closing: bool,
    pongs: Vec<u8>,
}

struct Frame {
    left: usize,
    is_last: bool,
}

impl Echo {
    pub(crate) fn of(connection: u64) -> Echo {
        Echo { connection, ..Echo::default() }
    }

    pub(crate) fn expect(&mut self, messages: usize) {
        self.owed += messages;
    }

    pub(crate) fn expect_close(&mut self) {
        self.is_closing = true;
    }

    pub(crate) fn is_met(&self) -> bool {
        self.owed == 0 && !self.is_closing
    }

    /// What is to be sent for Pings that came.
    pub(crate) fn take_pongs(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.pongs)
    }

    /// Compares what came; the bytes that are done with. What is left is the beginning of a frame.
    pub(crate) fn receive(
        &mut self,
        bytes: &[u8],
        messages: &Messages,
        units: &mut usize,
    ) -> Result<usize, Fault> {
        if messages.are_framed() {
            return self.receive_frames(bytes, messages, units);
        }
        let mut used = 0;
        while used < bytes.len() {
            if self.owed == 0 {
                return Err(Fault::Surplus);
            }
            let due = (messages.bytes - self.at).min(bytes.len() - used);
            self.compare(&bytes[used..used + due], messages)?;
            used += due;
            if self.at == messages.bytes {
                self.end_message(units);
            }
        }
        Ok(used)
    }

    fn receive_frames(
        &mut self,
        bytes: &[u8],
        messages: &Messages,
        units: &mut usize,
    ) -> Result<usize, Fault> {
        let mut used = 0;
        loop {
            let rest = &bytes[used..];
            if let Some(frame) = &mut self.frame {
                let due = frame.left.min(rest.len());
                frame.left -= due;
                let (is_all, is_last) = (frame.left == 0, frame.is_last);
                self.compare(&rest[..due], messages)?;
                used += due;
                if !is_all {
                    return Ok(used);
                }
                self.end_frame(is_last, messages, units)?;
            } else if let Some(frame_bytes) = self.receive_usual(rest, messages, units)? {
                used += frame_bytes;
            } else {
                let Some(head) = Head::read(rest)? else { return Ok(used) };
                let control_bytes = if head.is_control() { head.payload_bytes } else { 0 };
                let Some(control) = rest[head.bytes..].get(..control_bytes) else {
                    return Ok(used);
                };
                self.begin_frame(head, control, messages)?;
                used += head.bytes + control_bytes;
            }
        }
    }

    /// A message that is all there and in one frame, as most are; the bytes of that.
    fn receive_usual(
        &mut self,
        bytes: &[u8],
        messages: &Messages,
        units: &mut usize,
    ) -> Result<Option<usize>, Fault> {
        let Some(payload) = bytes.strip_prefix(messages.echoed_header()) else { return Ok(None) };
        let Some(payload) = payload.get(..messages.bytes) else { return Ok(None) };
        if self.owed == 0 || self.is_begun {
            return Ok(None);
        }
        self.compare(payload, messages)?;
        self.end_message(units);
        Ok(Some(messages.echoed_header().len() + payload.len()))
    }

    fn begin_frame(
        &mut self,
        head: Head,
        control: &[u8],
        messages: &Messages,
    ) -> Result<(), Fault> {
        match head.opcode {
            Opcode::Ping => self.pongs.extend(websocket::pong(control)),
            Opcode::Pong => {}
            Opcode::Close if self.is_closing && self.owed == 0 => {
                if !websocket::is_close(control) {
                    return Err(Fault::Frame);
                }
                self.is_closing = false;
            }
            Opcode::Close => return Err(Fault::Closed),
            _ if self.owed == 0 => return Err(Fault::Surplus),
            // A message begins once, and what goes on has begun (RFC 6455 §5.4).
            Opcode::Binary if self.is_begun => return Err(Fault::Frame),
            Opcode::Continuation if !self.is_begun => return Err(Fault::Frame),
            Opcode::Binary | Opcode::Continuation => {
                if head.payload_bytes > messages.bytes - self.at {
                    return Err(Fault::Message);
                }
                self.is_begun = true;
                self.frame = Some(Frame { left: head.payload_bytes, is_last: head.is_last });
            }
        }
        Ok(())
    }

    fn end_frame(
        &mut self,
        is_last: bool,
        messages: &Messages,
        units: &mut usize,
    ) -> Result<(), Fault> {
        self.frame = None;
        if is_last {
            if self.at < messages.bytes {
                return Err(Fault::Message);
            }
            self.end_message(units);
        }
        Ok(())
    }

    fn end_message(&mut self, units: &mut usize) {
        (self.at, self.is_begun) = (0, false);
        self.number += 1;
        self.owed -= 1;
        *units += 1;
    }

    fn compare(&mut self, bytes: &[u8], messages: &Messages) -> Result<(), Fault> {
        let at = self.at;
        self.at += bytes.len();
        messages.compare(self.connection, self.number, at, bytes).map_err(|same| {
            let before = self.number.saturating_mul(messages.bytes as u64);
            Fault::Echo { at: before + (at + same) as u64 }
        })
    }
}
