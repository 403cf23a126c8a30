//! A request that cannot be answered yet: its content is not there, or a handler has not decided.
//! It keeps a copy of its head, so that the receive buffer is free; bytes behind the request stay
//! where they were received.

use super::exchange::{Step, answer_and_close};
use super::respond::{self, Route};
use super::{Core, Port};
use crate::buffer::LeaseQueue;
use crate::config::Millis;
use crate::http::{ChunkStep, Chunked, Framing, OwnedRequest, Response, Status, framing};
use crate::upgrade::{Awaiting, Control, Decision};

pub(super) struct Waiting {
    request: OwnedRequest,
    stage: Stage,
    deadline: Millis,
}

enum Stage {
    Content { left: Left, collected: Vec<u8>, bytes_max: usize },
    Decision(Awaiting<Decision>),
    Response(Awaiting<Response>),
}

/// What is still to come of a content.
enum Left {
    Length(u64),
    Chunked(Chunked),
}

enum Collected {
    Whole,
    Partial,
    TooLarge,
    Faulty(&'static str),
}

impl Waiting {
    pub(super) fn for_content(
        request: OwnedRequest,
        framing: Framing,
        bytes_max: usize,
        deadline: Millis,
    ) -> Waiting {
        let left = match framing {
            Framing::Length(length) => Left::Length(length),
            Framing::None => Left::Length(0),
            Framing::Chunked => Left::Chunked(Chunked::default()),
        };
        let stage = Stage::Content { left, collected: Vec::new(), bytes_max };
        Waiting { request, stage, deadline }
    }

    pub(super) fn for_decision(
        request: OwnedRequest,
        awaiting: Awaiting<Decision>,
        deadline: Millis,
    ) -> Waiting {
        Waiting { request, stage: Stage::Decision(awaiting), deadline }
    }

    pub(super) fn for_response(
        request: OwnedRequest,
        awaiting: Awaiting<Response>,
        deadline: Millis,
    ) -> Waiting {
        Waiting { request, stage: Stage::Response(awaiting), deadline }
    }

    pub(super) fn deadline(&self) -> Millis {
        self.deadline
    }

    /// Whether calling [`Waiting::advance`] again at once makes sense.
    pub(super) fn can_go_on(&self, input: &LeaseQueue, is_ended: bool) -> bool {
        matches!(self.stage, Stage::Content { .. }) && (is_ended || !input.is_empty())
    }

    /// Goes on if what it waits for has come.
    pub(super) fn advance(
        mut self: Box<Self>,
        input: &mut LeaseQueue,
        is_ended: bool,
        control: &mut Control,
        port: &mut Port<'_>,
    ) -> Step {
        let registry = std::rc::Rc::clone(&port.core.registry);
        match &mut self.stage {
            Stage::Content { left, collected, bytes_max } => {
                match left.collect(input, collected, *bytes_max) {
                    Collected::Whole => {
                        let content = std::mem::take(collected);
                        let (request, route) = self.route(&registry);
                        respond::finish(&route, request, &content, input, control, port)
                    }
                    Collected::Partial if is_ended => {
                        // RFC 9112 §8: a request whose content ends early is not processed (U-57).
                        control.is_closing = true;
                        Step::Answered
                    }
                    Collected::Partial => Step::Waiting(self),
                    Collected::TooLarge => {
                        let (request, route) = self.route(&registry);
                        respond::too_large(&route, request, control, port)
                    }
                    Collected::Faulty(text) => {
                        port.core.counters.requests_faulty.raise();
                        let response = Response::text(Status::BAD_REQUEST, text);
                        let request = self.request.view();
                        answer_and_close(&response, Some(request.head()), control, port);
                        Step::Answered
                    }
                }
            }
            Stage::Decision(awaiting) => match awaiting.take() {
                None => Step::Waiting(self),
                Some(None) => {
                    self.timed_out(control, port);
                    Step::Answered
                }
                Some(Some(decision)) => {
                    port.core.counters.upgrades_deciding.lower();
                    let (request, route) = self.route(&registry);
                    respond::decided(&route, request, decision, input, control, port)
                }
            },
            Stage::Response(awaiting) => match awaiting.take() {
                None => Step::Waiting(self),
                Some(None) => {
                    self.timed_out(control, port);
                    Step::Answered
                }
                Some(Some(response)) => {
                    let (request, route) = self.route(&registry);
                    respond::answered(&route, request, &response, input, control, port)
                }
            },
        }
    }

    /// What it waited for did not come, or never will.
    pub(super) fn timed_out(self, control: &mut Control, port: &mut Port<'_>) {
        let response = match self.stage {
            Stage::Content { .. } => {
                port.core.counters.timeouts_received.raise();
                Response::text(
                    Status::REQUEST_TIMEOUT,
                    "The content of the request did not arrive in time.\n",
                )
            }
            Stage::Decision(_) => {
                port.core.counters.upgrades_deciding.lower();
                port.core.counters.upgrades_timeout.raise();
                Response::text(Status::SERVICE_UNAVAILABLE, "The switch was not decided in time.\n")
            }
            Stage::Response(_) => {
                Response::text(Status::SERVICE_UNAVAILABLE, "The answer was not ready in time.\n")
            }
        };
        answer_and_close(&response, Some(self.request.view().head()), control, port);
    }

    /// The connection is gone; whoever was to keep the promise can see that.
    pub(super) fn abandon(self, core: &Core) {
        if matches!(self.stage, Stage::Decision(_)) {
            core.counters.upgrades_deciding.lower();
        }
    }

    fn route<'a>(
        &'a self,
        registry: &'a crate::resource::Registry,
    ) -> (crate::http::Request<'a>, Route<'a>) {
        let request = self.request.view();
        let has_content = framing(request.head()).is_ok_and(respond::has_content);
        let route = Route::of(registry, request, has_content);
        (request, route.expect("a request that waits was routed, and the registry does not change"))
    }
}

impl Left {
    /// Takes what is there of the content out of `input`.
    fn collect(
        &mut self,
        input: &mut LeaseQueue,
        collected: &mut Vec<u8>,
        bytes_max: usize,
    ) -> Collected {
        while !matches!(self, Left::Length(0)) {
            let Some(mut bytes) = input.pop() else { return Collected::Partial };
            let result = match self {
                Left::Length(left) => {
                    let count = bytes.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                    collected.extend_from_slice(&bytes.split_to(count));
                    *left -= count as u64;
                    Collected::Partial
                }
                Left::Chunked(decoder) => collect_chunks(decoder, &mut bytes, collected, bytes_max),
            };
            if !bytes.is_empty() {
                input.push_front(bytes);
            }
            if !matches!(result, Collected::Partial) {
                return result;
            }
        }
        Collected::Whole
    }
}

fn collect_chunks(
    decoder: &mut Chunked,
    bytes: &mut crate::buffer::Lease,
    collected: &mut Vec<u8>,
    bytes_max: usize,
) -> Collected {
    loop {
        match decoder.step(bytes) {
            Err(fault) => return Collected::Faulty(fault.text()),
            Ok(ChunkStep::Data { consumed, len }) => {
                bytes.advance(consumed);
                if collected.len() + len > bytes_max {
                    return Collected::TooLarge;
                }
                collected.extend_from_slice(&bytes.split_to(len));
            }
            Ok(ChunkStep::More { consumed }) => {
                bytes.advance(consumed);
                return Collected::Partial;
            }
            Ok(ChunkStep::Done { consumed }) => {
                bytes.advance(consumed);
                return Collected::Whole;
            }
        }
    }
}
