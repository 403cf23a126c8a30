//! A request in the hands of a streaming handler: content to it, its answer out, and what becomes
//! of the connection when one of the two fails.

use super::content::{Incoming, Piece};
use super::exchange::Step;
use super::respond::leave;
use super::switched::fenced;
use super::waiting::{Next, Stage, count_fault};
use super::{Core, Port};
use crate::buffer::LeaseQueue;
use crate::config::{Millis, NEVER};
use crate::counters::Calling;
use crate::http::{CONTINUE, Response, Status};
use crate::resource::{Outgoing, StreamIo, Streaming};
use crate::upgrade::{CloseReason, Control};

/// What it costs to open a handler of its own for a request, as a rule of thumb: files do.
const OPENING_COST: u32 = 200;

/// What it costs to give a handler a piece of content, which may be one byte in a chunk of its own.
const PIECE_COST: u32 = 1;

pub(super) struct Streamed {
    handler: Box<dyn Streaming>,
    incoming: Incoming,
    outgoing: Outgoing,
    has_panicked: bool,
    /// The handler was told that the content is complete.
    is_told: bool,
    /// It stopped the content, or the answer fills the outbox: the client is not late.
    is_held: bool,
    /// The outbox is full.
    pub(super) is_blocked: bool,
    /// When the answer has to have begun.
    answer_at: Millis,
}

impl Streamed {
    /// Gives a request to `handler`.
    pub(super) fn open(
        handler: Box<dyn Streaming>,
        incoming: Incoming,
        outgoing: Outgoing,
        control: &mut Control,
        port: &mut Port<'_>,
    ) -> Streamed {
        let mut streamed = Streamed {
            handler,
            incoming,
            outgoing,
            has_panicked: false,
            is_told: false,
            is_held: false,
            is_blocked: false,
            answer_at: NEVER,
        };
        streamed.await_answer(port.core);
        port.core.spend(OPENING_COST);
        streamed.call(control, port, |handler, io| handler.on_open(io));
        streamed
    }

    /// Calls the handler.
    pub(super) fn call(
        &mut self,
        control: &mut Control,
        port: &mut Port<'_>,
        call: impl FnOnce(&mut dyn Streaming, &mut StreamIo<'_>),
    ) {
        if self.has_panicked {
            return;
        }
        let must_close =
            control.is_last_request || port.core.is_draining || self.incoming.is_awaited();
        let is_much_unread = !self.incoming.is_discardable(&port.core.limits);
        let mut rest = None;
        port.core.counters.upgrades.call(Calling::Answer);
        let (io, date) = port.grip(control, &mut rest);
        let outgoing = &mut self.outgoing;
        let mut io = StreamIo { io, outgoing, date, must_close, is_much_unread };
        let is_fine = fenced(|| call(&mut *self.handler, &mut io));
        port.core.counters.upgrades.returned();
        if !is_fine {
            port.core.counters.handler_panics.raise();
            self.has_panicked = true;
        }
    }

    /// When it has to be looked at even if nothing happens.
    pub(super) fn deadline(&self) -> Millis {
        match self.is_told || self.is_held {
            false => self.incoming.late_at(),
            true if self.outgoing.has_begun() => NEVER,
            true => self.answer_at,
        }
    }

    /// Goes on until bytes, room or the handler are waited for.
    pub(super) fn advance(
        mut self,
        input: &mut LeaseQueue,
        is_ended: bool,
        control: &mut Control,
        port: &mut Port<'_>,
    ) -> Next {
        self.is_blocked = false;
        while !self.is_told && !self.is_over(control) && !self.hold(control, port) {
            match self.incoming.next(input, port.core) {
                Piece::Data(bytes) => {
                    self.await_answer(port.core);
                    port.core.spend(PIECE_COST);
                    let bytes = port.core.lendable(bytes);
                    self.call(control, port, |handler, io| handler.on_content(bytes, io));
                }
                Piece::End => self.tell_end(control, port),
                Piece::Partial if is_ended => {
                    return self.fail(CloseReason::ContentIncomplete, None, control, port).into();
                }
                Piece::Partial => {
                    if !self.outgoing.has_begun() && self.incoming.wants_continue() {
                        port.outbox().write(CONTINUE);
                    }
                    break;
                }
                Piece::TooLarge => return self.too_large(control, port).into(),
                Piece::Faulty(fault) => {
                    count_fault(fault, port.core);
                    let response = Response::text(fault.status(), format!("{fault}\n"));
                    let reason = CloseReason::ContentFaulty;
                    return self.fail(reason, Some(response), control, port).into();
                }
            }
        }
        match self.is_over(control) {
            true => self.end(control, port).into(),
            false => Next::Stay(Stage::Stream(self)),
        }
    }

    /// Whether content has to wait, for the handler or for room.
    fn hold(&mut self, control: &Control, port: &Port<'_>) -> bool {
        // A handler that takes no content can be told that there is none.
        let is_held = !self.incoming.is_done() && (control.is_paused || port.is_full());
        let was_held = std::mem::replace(&mut self.is_held, is_held);
        if was_held && !is_held {
            self.incoming.forgive(port.core);
        }
        self.is_blocked = is_held && !control.is_paused;
        is_held
    }

    /// The client is late, or the handler is.
    pub(super) fn timed_out(self, control: &mut Control, port: &mut Port<'_>) -> Step {
        let (reason, status, text) = if self.is_told || self.is_held {
            port.core.counters.timeouts_answers.raise();
            let text = "The answer was not ready in time.\n";
            (CloseReason::AnswerTimeout, Status::SERVICE_UNAVAILABLE, text)
        } else {
            port.core.counters.timeouts_content.raise();
            let text = "The content of the request came too slowly.\n";
            (CloseReason::ContentTooSlow, Status::REQUEST_TIMEOUT, text)
        };
        self.fail(reason, Some(Response::text(status, text)), control, port)
    }

    /// The connection is gone.
    pub(super) fn abandon(self, reason: CloseReason, core: &Core) {
        let Streamed { handler, has_panicked, .. } = self;
        part_from(handler, has_panicked, reason, core);
    }

    /// The handler has something new to answer to.
    fn await_answer(&mut self, core: &Core) {
        self.answer_at = core.now.saturating_add(core.limits.answer_timeout_ms);
    }

    fn tell_end(&mut self, control: &mut Control, port: &mut Port<'_>) {
        self.is_told = true;
        self.await_answer(port.core);
        let trailers = std::mem::take(&mut self.incoming.trailers);
        self.call(control, port, |handler, io| handler.on_content_end(&trailers, io));
    }

    fn is_over(&self, control: &Control) -> bool {
        control.is_reset
            || self.has_panicked
            || self.outgoing.is_unfit()
            || self.outgoing.is_finished()
    }

    /// The handler has finished, one way or the other.
    fn end(self, control: &mut Control, port: &mut Port<'_>) -> Step {
        if control.is_reset {
            port.core.counters.answers_broken.raise();
            self.abandon(CloseReason::HandlerReset, port.core);
            return Step::Answered;
        }
        if self.has_panicked || self.outgoing.is_unfit() {
            let text = "The handler of this resource failed.\n";
            let response = Response::text(Status::INTERNAL_SERVER_ERROR, text);
            return self.fail(CloseReason::HandlerPanicked, Some(response), control, port);
        }
        port.core.count_answer(self.outgoing.status());
        let Streamed { handler, incoming, outgoing, has_panicked, .. } = self;
        part_from(handler, has_panicked, CloseReason::Finished, port.core);
        release(control);
        let is_much_unread = !incoming.is_discardable(&port.core.limits);
        if is_much_unread && !outgoing.must_close() {
            port.core.counters.contents_abandoned.raise();
        }
        leave(incoming, outgoing.must_close() || is_much_unread, control, port)
    }

    fn too_large(self, control: &mut Control, port: &mut Port<'_>) -> Step {
        port.core.counters.contents_too_large.raise();
        let text = "The content is larger than this resource takes.\n";
        let response = Response::text(Status::CONTENT_TOO_LARGE, text);
        self.fail(CloseReason::ContentTooLarge, Some(response), control, port)
    }

    /// Ends the request and the connection: with `response` if the answer has not begun, otherwise
    /// with a reset, by which the client sees that it is not whole.
    fn fail(
        mut self,
        reason: CloseReason,
        response: Option<Response>,
        control: &mut Control,
        port: &mut Port<'_>,
    ) -> Step {
        let has_begun = self.outgoing.has_begun();
        release(control);
        if has_begun && !self.outgoing.is_finished() {
            port.core.counters.answers_broken.raise();
            control.is_reset = true;
        } else if let Some(response) = response
            && !has_begun
        {
            port.core.count_answer(response.status());
            let form = self.outgoing.last_form();
            port.with_text(|text, date| response.write(text, date, form));
        }
        control.is_closing = true;
        self.abandon(reason, port.core);
        Step::Answered
    }
}

/// What a handler wanted of its connection does not hold for the next request.
fn release(control: &mut Control) {
    control.is_paused = false;
    control.wants_writable = false;
}

fn part_from(
    mut handler: Box<dyn Streaming>,
    has_panicked: bool,
    reason: CloseReason,
    core: &Core,
) {
    let is_fine = fenced(|| {
        if !has_panicked {
            handler.on_close(reason);
        }
        drop(handler);
    });
    if !is_fine {
        core.counters.handler_panics.raise();
    }
}
