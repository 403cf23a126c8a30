//! The HTTP half of a session: heads one after the other, each answered before the next is looked
//! at.
//!
//! The order is the one safe switching needs: frame the head, see whether an upgrade is possible,
//! route, read the content, decide, write. A fault ends it before any Upgrade logic; after a
//! request that may switch, nothing behind it is interpreted before the decision.

use std::ops::Deref;
use std::rc::Rc;

use super::switched::Switched;
use super::waiting::Waiting;
use super::{Core, Port};
use crate::buffer::{Lease, LeaseQueue};
use crate::config::NEVER;
use crate::counters::TokenSlot;
use crate::http::{
    Head, HeadError, Method, Persistence, Request, Response, Status, list, overflow_fault,
    read_head, read_whole_head,
};
use crate::resource::{StreamIo, Streaming};
use crate::scan::{Scanned, head_end, head_end_across};
use crate::upgrade::{CloseReason, Control, Handler};

/// Empty lines skipped before a request line (RFC 9112 §2.2 asks for at least one).
const EMPTY_LINES_MAX: u8 = 4;

#[derive(Default)]
pub(super) struct Exchange {
    /// The beginning of a head that did not come in one piece.
    assembly: Vec<u8>,
    empty_lines: u8,
    /// The clock for the whole head is running.
    has_begun: bool,
    /// Requests begun so far.
    requests: u32,
    /// The turn in which requests were begun last, and how many in it: however many events a turn has
    /// for a connection, it gets no more than its share.
    turn: u8,
    begun_in_turn: u8,
    pub(super) waiting: Option<Box<Waiting>>,
}

/// How far the exchange got.
pub(super) enum Progress {
    /// Something has to come first: bytes, a decision, the time.
    Waiting,
    /// What was written has to leave first.
    Blocked,
    /// Nothing has to come first, but others have waited long enough.
    More,
    /// The 101, or the 200 to a CONNECT, is written: the connection is this handler's.
    Switched(Switched),
    /// The 101 is written: this request is to be answered inside TLS.
    Securing(Lease),
}

/// How one request ended.
pub(super) enum Step {
    /// With an answer.
    Answered,
    /// Not yet, and what is waited for may be there.
    Begun(Box<Waiting>),
    /// Not yet.
    Waiting(Box<Waiting>),
    /// With a 101, or with the 200 to a CONNECT, to a protocol that is counted there.
    Switched(Box<dyn Handler>, TokenSlot),
    /// With a 101, to TLS, in which it is to be answered.
    Securing(Lease),
}

/// What was found of the next head.
enum Found {
    /// Not all of it.
    Part,
    /// All of it.
    Whole,
    Fault(Refused),
}

/// A head that is not processed.
struct Refused {
    fault: HeadError,
    method: Method,
}

/// A whole head, where it was received or where it was assembled.
pub(super) enum HeadBytes {
    Received(Lease),
    Assembled(Vec<u8>),
}

impl Default for HeadBytes {
    fn default() -> HeadBytes {
        HeadBytes::Assembled(Vec::new())
    }
}

impl Deref for HeadBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            HeadBytes::Received(lease) => lease,
            HeadBytes::Assembled(bytes) => bytes,
        }
    }
}

impl Exchange {
    /// Answers what can be answered of `input`.
    pub(super) fn advance(
        &mut self,
        input: &mut LeaseQueue,
        is_ended: bool,
        control: &mut Control,
        port: &mut Port<'_>,
    ) -> Progress {
        let mut budget = self.budget(port.core);
        // Places that are written to: what is returned in pieces and put together again stalls.
        let (mut head, mut bytes) = (Head::EMPTY, HeadBytes::default());
        while !control.is_closing && !control.is_reset {
            let step = match self.waiting.take() {
                Some(waiting) => go_on(waiting, input, is_ended, control, port),
                None if input.is_empty() => break,
                None if port.is_full() => {
                    port.core.counters.answers_held.raise();
                    return self.pause(Progress::Blocked, control);
                }
                None if budget == 0 => {
                    port.core.counters.turns_used_up.raise();
                    return self.pause(Progress::More, control);
                }
                None => match self.next_head(input, &mut head, &mut bytes, port.core) {
                    Found::Part => break,
                    Found::Fault(Refused { fault, method }) => {
                        let mark = port.log_mark();
                        refuse(fault, method, control, port);
                        mark.into_iter().for_each(|mark| port.log_faulty(mark));
                        break;
                    }
                    Found::Whole => {
                        budget -= 1;
                        self.begun_in_turn = self.begun_in_turn.saturating_add(1);
                        port.core.note_begun();
                        self.count_request(control, port.core);
                        begin(&mut bytes, &head, input, control, port)
                    }
                },
            };
            match step {
                Step::Answered => self.has_begun = false,
                Step::Switched(handler, token) => {
                    return Progress::Switched(Switched::now(handler, token, port.core));
                }
                Step::Securing(request) => return Progress::Securing(request),
                Step::Begun(waiting) => self.keep(waiting, port.core),
                Step::Waiting(waiting) if waiting.is_blocked() => {
                    self.keep(waiting, port.core);
                    return self.pause(Progress::Blocked, control);
                }
                Step::Waiting(waiting) => {
                    control.deadline = waiting.deadline();
                    self.keep(waiting, port.core);
                    return Progress::Waiting;
                }
            }
        }
        self.rest(is_ended, control, port.core);
        Progress::Waiting
    }

    /// Keeps a request that waits, and when it came.
    fn keep(&mut self, mut waiting: Box<Waiting>, core: &Core) {
        waiting.came_by(core.times.began());
        self.waiting = Some(waiting);
    }

    /// Whether the connection is between two requests.
    pub(super) fn is_idle(&self) -> bool {
        self.waiting.is_none() && self.assembly.is_empty()
    }

    /// Whether nothing has come of the connection yet.
    pub(super) fn is_unused(&self) -> bool {
        self.is_idle() && self.requests == 0 && self.empty_lines == 0
    }

    /// Whether a part of a head has come.
    pub(super) fn has_begun(&self) -> bool {
        self.has_begun && self.waiting.is_none()
    }

    /// Nothing came in time.
    pub(super) fn timed_out(&mut self, control: &mut Control, port: &mut Port<'_>) {
        let mark = port.log_mark();
        if let Some(waiting) = self.waiting.take() {
            port.core.times.look_at(waiting.since());
            waiting.timed_out(control, port);
            mark.into_iter().for_each(|mark| port.log_gone_on(mark, Some(&Step::Answered)));
            port.core.times.look_at_new();
        } else if self.has_begun {
            port.core.counters.timeouts_heads.raise();
            let text = "The head of the request did not arrive in time.\n";
            let response = Response::text(Status::REQUEST_TIMEOUT, text);
            let method = method_begun(&self.assembly, b"", port.core);
            answer_and_close(&response, method, control, port);
            mark.into_iter().for_each(|mark| port.log_faulty(mark));
        } else {
            port.core.counters.timeouts_idle.raise();
            control.is_closing = true;
        }
    }

    /// Has the streaming handler of the request told something, if there is one.
    pub(super) fn tell(
        &mut self,
        control: &mut Control,
        port: &mut Port<'_>,
        what: impl FnOnce(&mut dyn Streaming, &mut StreamIo<'_>),
    ) {
        if let Some(streamed) = self.waiting.as_mut().and_then(|waiting| waiting.stream()) {
            let mark = port.log_mark();
            streamed.call(control, port, what);
            mark.into_iter().for_each(|mark| port.log_gone_on(mark, None));
        }
    }

    /// The connection is gone.
    pub(super) fn abandon(&mut self, reason: CloseReason, core: &mut Core) {
        if let Some(waiting) = self.waiting.take() {
            waiting.abandon(reason, core);
        }
        core.keep_assembly(std::mem::take(&mut self.assembly));
    }

    /// Requests that may still be begun in this turn.
    fn budget(&mut self, core: &Core) -> u8 {
        if self.turn != core.turn {
            (self.turn, self.begun_in_turn) = (core.turn, 0);
        }
        core.requests_per_connection().saturating_sub(self.begun_in_turn)
    }

    /// The last request a connection may have is answered with a close.
    fn count_request(&mut self, control: &mut Control, core: &Core) {
        self.requests = self.requests.saturating_add(1);
        if self.requests >= core.limits.requests_per_connection_max {
            core.counters.connections_used_up.raise();
            control.is_last_request = true;
        }
    }

    /// Stops with bytes of the peer unread: until they are looked at, it is not the peer that is
    /// late.
    fn pause(&mut self, progress: Progress, control: &mut Control) -> Progress {
        self.has_begun = false;
        control.deadline = NEVER;
        progress
    }

    /// Nothing is left to do with what was received: waits for more, or ends.
    fn rest(&mut self, is_ended: bool, control: &mut Control, core: &Core) {
        if control.is_closing || control.is_reset {
            // The last answer is written; from here on the clocks are the send's and the linger's.
            control.deadline = NEVER;
        } else if is_ended {
            // RFC 9112 §8: a head that ends early is not processed.
            control.is_closing = true;
        } else if self.assembly.is_empty() && self.empty_lines == 0 {
            self.has_begun = false;
            control.deadline = core.now.saturating_add(core.request_timeout_ms());
        } else if !self.has_begun {
            self.has_begun = true;
            control.deadline = core.now.saturating_add(core.head_timeout_ms());
        }
    }

    /// Reads the next whole head into its places, its fields into those of the core; what follows it
    /// stays in `input`, where it was received.
    fn next_head(
        &mut self,
        input: &mut LeaseQueue,
        head: &mut Head,
        place: &mut HeadBytes,
        core: &mut Core,
    ) -> Found {
        while let Some(mut bytes) = input.pop() {
            if let Err(fault) = self.skip_empty_lines(&mut bytes) {
                // No request has begun.
                note_line(&bytes, b"", core);
                return Found::Fault(Refused::of(fault, Method::Other, core));
            }
            if bytes.is_empty() {
                continue;
            }
            let limits = core.head_limits();
            let room = core.limits.head_bytes_max - self.assembly.len();
            let visible = bytes.get(..room).unwrap_or(&bytes);
            let scanned = if self.assembly.is_empty() {
                if let Some(len) = read_whole_head(visible, head, &mut core.fields, &limits) {
                    self.empty_lines = 0;
                    *place = HeadBytes::Received(split_off(bytes, len, input));
                    return Found::Whole;
                }
                head_end(visible, 0)
            } else {
                head_end_across(&self.assembly, visible)
            };
            match scanned {
                Scanned::BareLf(_) => {
                    let method = method_begun(&self.assembly, &bytes, core);
                    return Found::Fault(Refused::of(HeadError::BareLf, method, core));
                }
                Scanned::Complete(len) => {
                    *place = self.complete(split_off(bytes, len, input), core);
                    return self.read_again(head, place, core);
                }
                Scanned::Partial => {
                    let is_over = bytes.len() >= room;
                    bytes.truncate(room);
                    self.assemble(&bytes, core);
                    if is_over {
                        return Found::Fault(Refused::as_too_large(&self.assembly, core));
                    }
                }
            }
        }
        Found::Part
    }

    /// Reads a head that is whole, but did not come so or is not plain.
    fn read_again(&self, head: &mut Head, bytes: &HeadBytes, core: &mut Core) -> Found {
        let limits = core.head_limits();
        match read_head(bytes, &mut core.fields, &limits) {
            Ok(read) => {
                *head = read;
                Found::Whole
            }
            Err(fault) => {
                let method = method_begun(bytes, b"", core);
                Found::Fault(Refused::of(fault, method, core))
            }
        }
    }

    /// RFC 9112 §2.2: empty lines before the request line are skipped, a few of them.
    fn skip_empty_lines(&mut self, bytes: &mut Lease) -> Result<(), HeadError> {
        if *self.assembly == *b"\r" {
            if bytes.first() != Some(&b'\n') {
                return Err(HeadError::LoneCr);
            }
            self.assembly.clear();
            bytes.advance(1);
            self.empty_lines += 1;
        }
        if !self.assembly.is_empty() {
            return Ok(());
        }
        while bytes.starts_with(b"\r\n") && self.empty_lines <= EMPTY_LINES_MAX {
            bytes.advance(2);
            self.empty_lines += 1;
        }
        if self.empty_lines > EMPTY_LINES_MAX {
            return Err(HeadError::EmptyLines);
        }
        match bytes.first() {
            // What cannot begin a method is not waited for: another protocol, most likely TLS.
            Some(&first) if !list::is_token_byte(first) && **bytes != *b"\r" => {
                Err(first_byte_fault(first))
            }
            _ => Ok(()),
        }
    }

    /// Keeps the bytes of an unfinished head: the one place where received bytes are copied.
    fn assemble(&mut self, bytes: &[u8], core: &mut Core) {
        if self.assembly.capacity() == 0 {
            self.assembly = core.assemblies.pop().unwrap_or_default();
        }
        core.counters.bytes_assembled.add(bytes.len() as u64);
        self.assembly.extend_from_slice(bytes);
    }

    fn complete(&mut self, end: Lease, core: &mut Core) -> HeadBytes {
        self.empty_lines = 0;
        if self.assembly.is_empty() {
            return HeadBytes::Received(end);
        }
        self.assemble(&end, core);
        HeadBytes::Assembled(std::mem::take(&mut self.assembly))
    }
}

impl Refused {
    /// For a fault of a head, or of what stands where one should begin.
    fn of(fault: HeadError, method: Method, core: &Core) -> Refused {
        let counters = &core.counters;
        match fault {
            HeadError::TargetTooLong => &counters.targets_too_long,
            HeadError::FieldsTooMany => &counters.fields_too_many,
            _ => &counters.requests_faulty,
        }
        .raise();
        Refused { fault, method }
    }

    /// For a head that has not ended within its bound. Whatever of it the answer names as too long,
    /// this bound is what it reached.
    fn as_too_large(received: &[u8], core: &mut Core) -> Refused {
        core.counters.heads_too_large.raise();
        let fault = overflow_fault(received, &core.head_limits());
        Refused { fault, method: method_begun(received, b"", core) }
    }
}

/// HEAD, if what was received of a head says so; which other method it has makes no difference to an
/// answer.
fn method_begun(front: &[u8], behind: &[u8], core: &mut Core) -> Method {
    note_line(front, behind, core);
    match front.iter().chain(behind).take(5).eq(b"HEAD ") {
        true => Method::Head,
        false => Method::Other,
    }
}

/// What was received of a request that is refused for its head goes into the log, if there is one.
fn note_line(front: &[u8], behind: &[u8], core: &mut Core) {
    if let Some(access) = &mut core.access {
        access.note_faulty(front, behind);
    }
}

/// The first `len` of `bytes`; the others go back to the front of `input`.
// Where it is called a lease stays in registers: written in halves and read whole, it stalls.
#[inline(always)]
fn split_off(mut bytes: Lease, len: usize, input: &mut LeaseQueue) -> Lease {
    let front = bytes.split_to(len);
    if !bytes.is_empty() {
        input.push_front(bytes);
    }
    front
}

fn first_byte_fault(first: u8) -> HeadError {
    match first {
        b'\n' => HeadError::BareLf,
        b'\r' => HeadError::LoneCr,
        _ => HeadError::MethodNotToken,
    }
}

/// Goes on with a request that waits. One that waits for something else then came when it did.
fn go_on(
    waiting: Box<Waiting>,
    input: &mut LeaseQueue,
    is_ended: bool,
    control: &mut Control,
    port: &mut Port<'_>,
) -> Step {
    let since = waiting.since();
    port.core.times.look_at(since);
    let mark = port.log_mark();
    let mut step = waiting.advance(input, is_ended, control, port);
    mark.into_iter().for_each(|mark| port.log_gone_on(mark, Some(&step)));
    port.core.times.look_at_new();
    if let Step::Begun(waiting) | Step::Waiting(waiting) = &mut step {
        waiting.came_by(since);
    }
    step
}

/// Goes on with the request of a head, whose fields are those of the core. Its bytes are done with then.
fn begin(
    bytes: &mut HeadBytes,
    head: &Head,
    input: &mut LeaseQueue,
    control: &mut Control,
    port: &mut Port<'_>,
) -> Step {
    let fields = std::mem::take(&mut port.core.fields);
    let registry = Rc::clone(&port.core.registry);
    let client = port.client();
    let request =
        Request::new(bytes, head, &fields).with_client(client.as_ref()).with_secured(port.secured);
    let mark = port.log_mark();
    let step = match super::secure::begin(bytes, request, port) {
        Some(request) => Step::Securing(request),
        None => super::respond::begin(&registry, request, input, control, port),
    };
    mark.into_iter().for_each(|mark| port.log_begun(mark, request, &step));
    port.core.fields = fields;
    match bytes {
        HeadBytes::Received(_) => *bytes = HeadBytes::default(),
        HeadBytes::Assembled(bytes) => port.core.keep_assembly(std::mem::take(bytes)),
    }
    step
}

/// Answers a fault of a head, already counted: nothing behind it can be trusted.
pub(super) fn refuse(fault: HeadError, method: Method, control: &mut Control, port: &mut Port<'_>) {
    let text = match port.secured {
        Some(_) => fault.text_inside_tls(),
        None => fault.text(),
    };
    let response = Response::text(fault.status(), format!("{text}\n"));
    answer_and_close(&response, method, control, port);
}

/// Writes a last answer, to a request with this method.
pub(super) fn answer_and_close(
    response: &Response,
    method: Method,
    control: &mut Control,
    port: &mut Port<'_>,
) {
    // RFC 9110 §9.3.2: no answer to HEAD has content, not even the last one.
    let head_only = method == Method::Head;
    let form = crate::http::Form { head_only, persistence: Persistence::Close, advertise: None };
    write(response, form, port);
    control.is_closing = true;
}

/// Writes an answer.
pub(super) fn write(response: &Response, form: crate::http::Form<'_>, port: &mut Port<'_>) {
    port.core.count_answer(response.status());
    port.with_text(|text, date| response.write(text, date, form));
}
