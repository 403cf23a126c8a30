//! A request that cannot be answered yet: its content is not there, a handler has not decided, or it
//! is answered piece by piece; and one that is answered, with content left that nobody reads. Where
//! the request is still needed it keeps a copy of its head, so that the receive buffer is free;
//! bytes behind the request stay where they were received.

use std::rc::Rc;

use super::asked::Asked;
use super::content::{Incoming, Piece};
use super::exchange::{Step, answer_and_close};
use super::respond::{self, Route};
use super::streamed::Streamed;
use super::{Core, Port};
use crate::buffer::{Collected, LeaseQueue};
use crate::config::{Millis, NEVER};
use crate::counters::{Nanos, UpgradeResult};
use crate::http::{CONTINUE, ChunkError, Method, OwnedRequest, Request, Response, Status, framing};
use crate::resource::Registry;
use crate::upgrade::{Awaiting, CloseReason, Control, Decision};

pub(super) struct Waiting {
    stage: Stage,
    deadline: Millis,
    /// When the turn began in which the head of its request became whole.
    since: Nanos,
}

pub(super) enum Stage {
    /// The content is collected.
    Content(Content),
    Decision {
        kept: Kept,
        awaiting: Awaiting<Decision>,
        asked: Asked,
    },
    Response {
        kept: Kept,
        awaiting: Awaiting<Response>,
        incoming: Incoming,
    },
    Stream(Streamed),
    /// The answer is written; what is left of the content is thrown away.
    Unread(Incoming),
    /// Nothing is waited for any more.
    Over,
}

/// A request that waits, and the table it was found in: the core may have got another since.
pub(super) struct Kept {
    request: OwnedRequest,
    registry: Rc<Registry>,
}

impl Kept {
    pub(super) fn of(request: Request<'_>, registry: &Rc<Registry>) -> Kept {
        Kept { request: request.into_owned(), registry: Rc::clone(registry) }
    }

    /// The request, and its route.
    #[expect(clippy::expect_used, reason = "the same table, asked the same again")]
    fn routed(&self) -> (Request<'_>, Route<'_>) {
        let request = self.request.view();
        let has_content = framing(request.head()).is_ok_and(respond::has_content);
        let route = Route::of(&self.registry, request, has_content);
        (request, route.expect("a request that waits was routed"))
    }

    fn method(&self) -> Method {
        self.request.view().method()
    }
}

/// What became of a stage.
pub(super) enum Next {
    /// It goes on waiting.
    Stay(Stage),
    /// It is over.
    Step(Step),
}

impl From<Step> for Next {
    fn from(step: Step) -> Next {
        Next::Step(step)
    }
}

impl Waiting {
    pub(super) fn for_content(kept: Kept, incoming: Incoming, core: &Core) -> Waiting {
        let deadline = incoming.late_at();
        let content = Content { kept, incoming, collected: Collected::new(core.ledger()) };
        Waiting { stage: Stage::Content(content), deadline, since: NEVER }
    }

    pub(super) fn for_decision(
        kept: Kept,
        awaiting: Awaiting<Decision>,
        asked: Asked,
        deadline: Millis,
    ) -> Waiting {
        Waiting { stage: Stage::Decision { kept, awaiting, asked }, deadline, since: NEVER }
    }

    pub(super) fn for_response(
        kept: Kept,
        awaiting: Awaiting<Response>,
        incoming: Incoming,
        deadline: Millis,
    ) -> Waiting {
        Waiting { stage: Stage::Response { kept, awaiting, incoming }, deadline, since: NEVER }
    }

    pub(super) fn for_stream(streamed: Streamed) -> Waiting {
        let deadline = streamed.deadline();
        Waiting { stage: Stage::Stream(streamed), deadline, since: NEVER }
    }

    pub(super) fn for_unread(incoming: Incoming) -> Waiting {
        let deadline = incoming.late_at();
        Waiting { stage: Stage::Unread(incoming), deadline, since: NEVER }
    }

    pub(super) fn deadline(&self) -> Millis {
        self.deadline
    }

    /// When its request [came](Waiting::came_by).
    pub(super) fn since(&self) -> Nanos {
        self.since
    }

    /// Its request came in the turn that began then, if it has not come before.
    pub(super) fn came_by(&mut self, since: Nanos) {
        self.since = self.since.min(since);
    }

    /// The streaming handler, if it is one that is waited for.
    pub(super) fn stream(&mut self) -> Option<&mut Streamed> {
        match &mut self.stage {
            Stage::Stream(streamed) => Some(streamed),
            _ => None,
        }
    }

    /// Whether it goes on when something has been sent.
    pub(super) fn is_blocked(&self) -> bool {
        matches!(&self.stage, Stage::Stream(streamed) if streamed.is_blocked)
    }

    /// Goes on if what it waits for has come.
    pub(super) fn advance(
        mut self: Box<Self>,
        input: &mut LeaseQueue,
        is_ended: bool,
        control: &mut Control,
        port: &mut Port<'_>,
    ) -> Step {
        let stage = std::mem::replace(&mut self.stage, Stage::Over);
        match stage.advance(input, is_ended, control, port) {
            Next::Step(step) => step,
            Next::Stay(stage) => {
                self.deadline = stage.deadline().unwrap_or(self.deadline);
                self.stage = stage;
                Step::Waiting(self)
            }
        }
    }

    /// What it waited for did not come, or never will.
    pub(super) fn timed_out(self, control: &mut Control, port: &mut Port<'_>) {
        let counters = &port.core.counters;
        let (kept, status, text) = match self.stage {
            Stage::Content(Content { kept, .. }) => {
                counters.timeouts_content.raise();
                let text = "The content of the request came too slowly.\n";
                (kept, Status::REQUEST_TIMEOUT, text)
            }
            Stage::Decision { kept, asked, .. } => {
                asked.timed_out(port.core);
                let (request, route) = kept.routed();
                route.explain(request, UpgradeResult::Timeout.name());
                let text = "The switch was not decided in time.\n";
                (kept, Status::SERVICE_UNAVAILABLE, text)
            }
            Stage::Response { kept, .. } => {
                counters.timeouts_answers.raise();
                let text = "The answer was not ready in time.\n";
                (kept, Status::SERVICE_UNAVAILABLE, text)
            }
            Stage::Stream(streamed) => {
                streamed.timed_out(control, port);
                return;
            }
            Stage::Unread(_) => {
                counters.timeouts_content.raise();
                control.is_closing = true;
                return;
            }
            Stage::Over => return,
        };
        answer_and_close(&Response::text(status, text), kept.method(), control, port);
    }

    /// The connection is gone; whoever was to keep the promise can see that.
    pub(super) fn abandon(self, reason: CloseReason, core: &Core) {
        match self.stage {
            Stage::Decision { asked, .. } => asked.abandoned(core),
            Stage::Stream(streamed) => streamed.abandon(reason, core),
            Stage::Content(_) | Stage::Response { .. } | Stage::Unread(_) | Stage::Over => {}
        }
    }
}

impl Stage {
    /// When what is waited for now must have come, if that has changed.
    fn deadline(&self) -> Option<Millis> {
        match self {
            Stage::Content(content) => Some(content.incoming.late_at()),
            Stage::Unread(incoming) => Some(incoming.late_at()),
            Stage::Stream(streamed) => Some(streamed.deadline()),
            Stage::Decision { .. } | Stage::Response { .. } | Stage::Over => None,
        }
    }

    fn advance(
        self,
        input: &mut LeaseQueue,
        is_ended: bool,
        control: &mut Control,
        port: &mut Port<'_>,
    ) -> Next {
        match self {
            Stage::Content(content) => content.advance(input, is_ended, control, port),
            Stage::Decision { kept, awaiting, asked } => match awaiting.take() {
                None => Next::Stay(Stage::Decision { kept, awaiting, asked }),
                Some(None) => {
                    Waiting::for_decision(kept, awaiting, asked, 0).timed_out(control, port);
                    Step::Answered.into()
                }
                Some(Some(decision)) => {
                    asked.decided(port.core);
                    let (request, route) = kept.routed();
                    respond::decided(&route, request, decision, input, control, port).into()
                }
            },
            Stage::Response { kept, awaiting, incoming } => match awaiting.take() {
                None => Next::Stay(Stage::Response { kept, awaiting, incoming }),
                Some(None) => {
                    Waiting::for_response(kept, awaiting, incoming, 0).timed_out(control, port);
                    Step::Answered.into()
                }
                Some(Some(response)) => {
                    let (request, route) = kept.routed();
                    respond::answered(&route, request, &response, incoming, input, control, port)
                        .into()
                }
            },
            Stage::Stream(streamed) => streamed.advance(input, is_ended, control, port),
            Stage::Unread(incoming) => discard(incoming, input, is_ended, control, port),
            Stage::Over => Step::Answered.into(),
        }
    }
}

/// A request whose content is collected.
pub(super) struct Content {
    kept: Kept,
    incoming: Incoming,
    collected: Collected,
}

impl Content {
    fn advance(
        mut self,
        input: &mut LeaseQueue,
        is_ended: bool,
        control: &mut Control,
        port: &mut Port<'_>,
    ) -> Next {
        loop {
            match self.incoming.next(input, port.core) {
                Piece::Data(bytes) => {
                    let len_max = (self.collected.len() + bytes.len()) as u64;
                    let len_max = len_max.saturating_add(self.incoming.at_most());
                    if self.collected.extend(&bytes, len_max, port.core.ledger()).is_err() {
                        let (request, route) = self.kept.routed();
                        return respond::crowded_out(&route, request, control, port).into();
                    }
                }
                Piece::End => {
                    let (request, route) = self.kept.routed();
                    let (content, incoming) = (&self.collected, self.incoming);
                    return respond::finish(
                        &route, request, content, incoming, input, control, port,
                    )
                    .into();
                }
                Piece::Partial if is_ended => {
                    // RFC 9112 §8: a request whose content ends early is not processed (U-57).
                    control.is_closing = true;
                    return Step::Answered.into();
                }
                Piece::Partial => {
                    if self.incoming.wants_continue() {
                        port.outbox().write(CONTINUE);
                    }
                    return Next::Stay(Stage::Content(self));
                }
                Piece::TooLarge => {
                    let (request, route) = self.kept.routed();
                    return respond::too_large(&route, request, control, port).into();
                }
                Piece::Faulty(fault) => {
                    count_fault(fault, port.core);
                    let response = Response::text(fault.status(), format!("{fault}\n"));
                    answer_and_close(&response, self.kept.method(), control, port);
                    return Step::Answered.into();
                }
            }
        }
    }
}

/// Throws away what is left of a content (U-58). What is wrong with it is told by the close: the
/// answer is written.
fn discard(
    mut incoming: Incoming,
    input: &mut LeaseQueue,
    is_ended: bool,
    control: &mut Control,
    port: &mut Port<'_>,
) -> Next {
    loop {
        match incoming.next(input, port.core) {
            Piece::Data(_) => {}
            Piece::End => return Step::Answered.into(),
            Piece::Partial if !is_ended => return Next::Stay(Stage::Unread(incoming)),
            Piece::TooLarge => {
                port.core.counters.contents_abandoned.raise();
                break;
            }
            Piece::Faulty(fault) => {
                count_fault(fault, port.core);
                break;
            }
            Piece::Partial => break,
        }
    }
    control.is_closing = true;
    Step::Answered.into()
}

/// Counts what is wrong with a content: each bound of the chunked coding apart.
pub(super) fn count_fault(fault: ChunkError, core: &Core) {
    let counters = &core.counters;
    match fault {
        ChunkError::ExtensionsTooLarge => &counters.chunk_extensions_too_large,
        ChunkError::TrailersTooLarge => &counters.trailers_too_large,
        _ => &counters.requests_faulty,
    }
    .raise();
}
