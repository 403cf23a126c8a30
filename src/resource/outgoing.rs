//! The answer of a streaming handler on its way out: how its end is told, and that it is told right.

use std::io::Write;

use crate::buffer::Payload;
use crate::http::{
    ContentFraming, Fields, Form, Head, Method, Persistence, Response, Status, Version,
};
use crate::upgrade::Io;

/// How far the answer has got.
#[derive(Debug)]
pub(crate) struct Outgoing {
    state: State,
    /// Of the answer that has begun.
    status: Status,
    version: Version,
    head_only: bool,
    /// What the client allows.
    persistence: Persistence,
    advertise: Option<Box<str>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Unanswered,
    /// So many bytes are still to come.
    Counted(u64),
    Chunked,
    UntilClose,
    /// What is sent goes nowhere.
    Without,
    Finished,
    /// The handler finished before it had begun.
    Unfit,
}

impl Outgoing {
    pub(crate) fn new(head: &Head, advertise: Option<&str>) -> Outgoing {
        Outgoing {
            state: State::Unanswered,
            status: Status::OK,
            version: head.version,
            head_only: head.method == Method::Head,
            persistence: head.persistence(),
            advertise: advertise.map(Box::from),
        }
    }

    pub(crate) fn has_begun(&self) -> bool {
        !matches!(self.state, State::Unanswered | State::Unfit)
    }

    /// The status of an answer that has begun.
    pub(crate) fn status(&self) -> Status {
        self.status
    }

    pub(crate) fn is_finished(&self) -> bool {
        self.state == State::Finished
    }

    /// Whether the handler ended without an answer.
    pub(crate) fn is_unfit(&self) -> bool {
        self.state == State::Unfit
    }

    /// Whether the connection ends behind the answer.
    pub(crate) fn must_close(&self) -> bool {
        self.persistence == Persistence::Close
    }

    /// The form of an answer that replaces the handler's and ends the connection.
    pub(crate) fn last_form(&mut self) -> Form<'static> {
        self.persistence = Persistence::Close;
        Form { head_only: self.head_only, persistence: Persistence::Close, advertise: None }
    }

    pub(super) fn form(&self) -> Form<'_> {
        Form {
            head_only: self.head_only,
            persistence: self.persistence,
            advertise: self.advertise.as_deref(),
        }
    }

    pub(super) fn begin(
        &mut self,
        response: &Response,
        length: Option<u64>,
        must_close: bool,
    ) -> ContentFraming {
        assert!(self.state == State::Unanswered, "a request has one answer");
        self.status = response.status();
        let framing = match (length, self.version) {
            _ if !response.has_content() => ContentFraming::Length(0),
            (Some(length), _) => ContentFraming::Length(length),
            (None, Version::Http11) => ContentFraming::Chunked,
            (None, Version::Http10) => ContentFraming::Close,
        };
        self.state = match framing {
            // RFC 9112 §6.3 (1).
            _ if self.head_only || !response.has_content() => State::Without,
            ContentFraming::Length(length) => State::Counted(length),
            ContentFraming::Chunked => State::Chunked,
            ContentFraming::Close => State::UntilClose,
        };
        if must_close || self.state == State::UntilClose {
            self.persistence = Persistence::Close;
        }
        framing
    }

    pub(super) fn send(&mut self, payload: Payload, io: &mut Io<'_>) {
        let len = payload.len() as u64;
        match &mut self.state {
            _ if len == 0 => {}
            State::Counted(left) if len <= *left => {
                *left -= len;
                io.send(payload);
            }
            // More than was announced: where the next answer begins could not be told.
            State::Counted(_) => io.reset(),
            State::Chunked => {
                io.encode(|text| {
                    // Writing to memory does not fail.
                    let _ = write!(text, "{len:x}\r\n");
                });
                io.send(payload);
                io.write(b"\r\n");
            }
            State::UntilClose => io.send(payload),
            State::Without => {}
            State::Unanswered | State::Finished | State::Unfit => io.reset(),
        }
    }

    pub(super) fn finish(&mut self, trailers: &Fields, io: &mut Io<'_>) {
        self.state = match self.state {
            State::Unanswered => State::Unfit,
            State::Counted(left) => {
                if left > 0 {
                    // Fewer than announced: the client must see that the content is not whole.
                    io.reset();
                }
                State::Finished
            }
            State::Chunked => {
                io.encode(|text| write_end(trailers, text));
                State::Finished
            }
            State::UntilClose | State::Without => State::Finished,
            state @ (State::Finished | State::Unfit) => state,
        };
    }
}

/// Writes the end of an answer in chunks. What cannot be a trailer is left out: the handler is at
/// fault, but the answer stands.
fn write_end(trailers: &Fields, text: &mut Vec<u8>) {
    text.extend_from_slice(b"0\r\n");
    for line in trailers.trailers() {
        match line {
            Ok(line) => text.extend_from_slice(line),
            Err(name) => {
                let name = String::from_utf8_lossy(name);
                tracing::error!("{name} is needed before the content: it is not sent as a trailer");
            }
        }
    }
    text.extend_from_slice(b"\r\n");
}
