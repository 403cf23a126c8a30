//! One request, from its head to its answer: route, choose a protocol, decide, write.

use std::rc::Rc;

use super::asked::Asked;
use super::content::{Incoming, at_hand};
use super::exchange::{Step, answer_and_close, refuse, write};
use super::logged::explain;
use super::secure::in_the_clear;
use super::streamed::Streamed;
use super::switched::fenced;
use super::waiting::{Kept, Waiting};
use super::{Core, Port};
use crate::buffer::LeaseQueue;
use crate::counters::{Calling, TokenSlot, UpgradeResult};
use crate::http::{
    CONTINUE, ContentFraming, Form, Framing, Head, HeadError, Method, Persistence, Request,
    Response, Status, Version, framing, write_switching,
};
use crate::resource::{Match, Outgoing, Registry, Reply, ReplyState, Resource, Takes};
use crate::upgrade::{
    Control, Decision, EarlyData, Offer, Opening, Outcome, Protocol, Switch, Unusable, moving_cost,
};

/// What a request leads to, before its content is read. A pure function of the request and the
/// registry: it can be asked for again when the content or a decision has come.
pub(super) struct Route<'a> {
    /// The table it is of.
    registry: &'a Rc<Registry>,
    resource: &'a Resource,
    /// What the parameters of its path follow from.
    pattern: &'a str,
    /// The protocol that gets to decide, and the version offered of it.
    chosen: Option<(&'a Protocol, Option<&'a [u8]>)>,
    /// Why there is none, if something was offered.
    missed: Option<Missed>,
    /// Something was offered that forbids early data, and is not even asked: what follows may be
    /// bytes of it.
    is_guarded: bool,
    /// Something was offered whose standard forbids to offer it so.
    is_misused: bool,
    /// It is a CONNECT: nothing but a switch leaves the connection open.
    is_tunnel: bool,
}

#[derive(Clone, Copy)]
enum Missed {
    Unusable(Unusable),
    Unknown,
    /// Of the protocol that is counted there.
    Unfit(TokenSlot),
}

/// Whether a request has content at all.
pub(super) fn has_content(framing: Framing) -> bool {
    !matches!(framing, Framing::None | Framing::Length(0))
}

/// Goes on with a request whose head was just read.
pub(super) fn begin(
    registry: &Rc<Registry>,
    request: Request<'_>,
    input: &mut LeaseQueue,
    control: &mut Control,
    port: &mut Port<'_>,
) -> Step {
    let framing = match look_at(registry, request) {
        Ok(framing) => framing,
        Err(fault) => {
            port.core.counters.requests_faulty.raise();
            refuse(fault, request.method(), control, port);
            return Step::Answered;
        }
    };
    let has_content = has_content(framing);
    let incoming = |bytes_max: u64, core: &Core| {
        Incoming::new(framing, request.head().expects_continue, bytes_max, core)
    };
    if request.is_misdirected() {
        return misdirected(request, incoming(0, port.core), control, port);
    }
    let route = Route::of(registry, request, has_content);
    // Looked at where it was made: copied at once, it would stall.
    let Some(route) = &route else {
        return unrouted(request, incoming(0, port.core), control, port);
    };
    let request = request.with_pattern(route.pattern);
    if route.resource.is_tls_required() && request.secured().is_none() {
        let refusal = in_the_clear(port);
        let must_close = is_hopeless(&refusal, request) || route.must_close(input);
        return conclude(request, &refusal, incoming(0, port.core), must_close, control, port);
    }
    if let Some(missed) = route.missed {
        missed.count(port.core);
        missed.result().into_iter().for_each(|result| route.explain(request, result));
    }
    if let Some(refusal) = route.refusal(request) {
        let must_close = is_hopeless(&refusal, request)
            || (route.is_misused && has_content)
            || route.must_close(input);
        return conclude(request, &refusal, incoming(0, port.core), must_close, control, port);
    }
    if !has_content {
        return finish(route, request, b"", incoming(0, port.core), input, control, port);
    }
    let incoming = incoming(route.content_max(request, port.core), port.core);
    if incoming.is_too_large() {
        return too_large(route, request, control, port);
    }
    if let Some(refusal) = screen(route, request, port) {
        let token = route.chosen.map_or(TokenSlot::default(), |(protocol, _)| protocol.slot());
        route.count(request, token, UpgradeResult::Declined, port.core);
        return conclude(request, &refusal, incoming, route.is_guarded, control, port);
    }
    if route.takes(request) != Takes::Whole {
        return answer(route, request, b"", incoming, input, control, port);
    }
    if let Some(content) = at_hand(framing, input) {
        let incoming = Incoming::new(Framing::None, false, 0, port.core);
        return finish(route, request, &content, incoming, input, control, port);
    }
    // No 100 for what could not be kept.
    if !port.core.ledger().has_room_for(incoming.announced()) {
        return crowded_out(route, request, control, port);
    }
    let kept = Kept::of(request, route.registry);
    Step::Begun(Box::new(Waiting::for_content(kept, incoming, port.core)))
}

/// U-45: what a 426 asks for, an HTTP/1.0 client cannot do on this connection.
fn is_hopeless(refusal: &Response, request: Request<'_>) -> bool {
    refusal.status() == Status::UPGRADE_REQUIRED && request.version() == Version::Http10
}

/// The framing of a request with whose head nothing is wrong, as a whole and at this server.
fn look_at(registry: &Registry, request: Request<'_>) -> Result<Framing, HeadError> {
    // RFC 9112 §3.2: an empty Host names none, which is nothing to ask where each resource is bound to
    // one (U-62).
    if !registry.has_default_host() && request.host() == Some(b"") {
        return Err(HeadError::HostEmpty);
    }
    framing(request.head())
}

/// Goes on with a request whose content is there whole, if it has any.
pub(super) fn finish(
    route: &Route<'_>,
    request: Request<'_>,
    content: &[u8],
    incoming: Incoming,
    input: &mut LeaseQueue,
    control: &mut Control,
    port: &mut Port<'_>,
) -> Step {
    match route.chosen {
        Some((protocol, version)) => {
            let decision = decide(protocol, version, request, content, port);
            if !matches!(decision, Decision::Later(_)) {
                port.core.counters.decision_times.note(0, 1);
            }
            decided(route, request, decision, input, control, port)
        }
        None => answer(route, request, content, incoming, input, control, port),
    }
}

/// Content over its bound: never a switch with content unread (U-28).
pub(super) fn too_large(
    route: &Route<'_>,
    request: Request<'_>,
    control: &mut Control,
    port: &mut Port<'_>,
) -> Step {
    port.core.counters.contents_too_large.raise();
    let text = "The content is larger than this resource takes.\n";
    let response = Response::text(Status::CONTENT_TOO_LARGE, text);
    refuse_content(route, request, &response, control, port)
}

/// Content for which the core has no room beside that of others.
#[expect(clippy::expect_used, reason = "no input: a field of ours")]
pub(super) fn crowded_out(
    route: &Route<'_>,
    request: Request<'_>,
    control: &mut Control,
    port: &mut Port<'_>,
) -> Step {
    port.core.counters.collected_overflows.raise();
    let text = "The content of other requests leaves no room for this (collected_bytes_max).\n";
    let response = Response::text(Status::SERVICE_UNAVAILABLE, text);
    let response = response.with_field("Retry-After", "1").expect("a name and a number");
    refuse_content(route, request, &response, control, port)
}

fn refuse_content(
    route: &Route<'_>,
    request: Request<'_>,
    response: &Response,
    control: &mut Control,
    port: &mut Port<'_>,
) -> Step {
    if let Some((protocol, _)) = route.chosen {
        route.count(request, protocol.slot(), UpgradeResult::Unfit, port.core);
    }
    answer_and_close(response, request.method(), control, port);
    Step::Answered
}

/// Goes on behind an answer that is written: what is left of the content must not become the next
/// request (U-58).
pub(super) fn leave(
    incoming: Incoming,
    must_close: bool,
    control: &mut Control,
    port: &mut Port<'_>,
) -> Step {
    let counters = &port.core.counters;
    if !incoming.is_done() {
        counters.contents_unread.raise();
    }
    if must_close {
        control.is_closing = true;
        Step::Answered
    } else if incoming.is_done() {
        Step::Answered
    } else {
        Step::Begun(Box::new(Waiting::for_unread(incoming.discarded(port.core))))
    }
}

impl<'a> Route<'a> {
    /// The route of a request, or `None` if nothing is at its path.
    #[inline(always)]
    pub(super) fn of(
        registry: &'a Rc<Registry>,
        request: Request<'a>,
        has_content: bool,
    ) -> Option<Route<'a>> {
        match request.method() {
            Method::Connect => return Route::of_tunnel(registry, has_content),
            Method::Other => return None,
            _ => {}
        }
        let Match { resource, pattern } = registry.find(request.host(), request.path())?;
        let route = Route::at(registry, resource, pattern);
        // One flag test for all who do not upgrade (U-115).
        match request.head().has_upgrade {
            true => Some(route.choosing(request, has_content)),
            false => Some(route),
        }
    }

    fn at(registry: &'a Rc<Registry>, resource: &'a Resource, pattern: &'a str) -> Route<'a> {
        Route {
            registry,
            resource,
            pattern,
            chosen: None,
            missed: None,
            is_guarded: false,
            is_misused: false,
            is_tunnel: false,
        }
    }

    /// The route of a CONNECT: its one protocol is chosen, whatever is offered.
    fn of_tunnel(registry: &'a Rc<Registry>, has_content: bool) -> Option<Route<'a>> {
        let resource = registry.tunnel()?;
        let mut route = Route { is_tunnel: true, ..Route::at(registry, resource, "") };
        // RFC 9110 §9.3.6: it has no content. Were some announced, others could take for content
        // what is the tunnel's.
        let protocol = resource.protocols().first();
        match has_content {
            true => route.missed = protocol.map(|protocol| Missed::Unfit(protocol.slot())),
            false => route.chosen = protocol.map(|protocol| (protocol, None)),
        }
        Some(route)
    }

    /// The same with what is chosen of what the request offers.
    fn choosing(self, request: Request<'a>, has_content: bool) -> Route<'a> {
        let offer = match Offer::read(&request) {
            Ok(offer) => offer,
            Err(unusable) => return Route { missed: Some(Missed::Unusable(unusable)), ..self },
        };
        match self.resource.negotiate(&offer, request.method()) {
            Outcome::Chosen { protocol, version } if !has_content || protocol.content_max() > 0 => {
                Route { chosen: Some((protocol, version)), ..self }
            }
            Outcome::Unknown => Route { missed: Some(Missed::Unknown), ..self },
            Outcome::Chosen { .. } | Outcome::Unfit => {
                let offered =
                    || self.resource.protocols().iter().filter(|at| is_offered(at, &offer));
                let token = offered().next().map_or(TokenSlot::default(), Protocol::slot);
                Route {
                    missed: Some(Missed::Unfit(token)),
                    is_guarded: offered().any(|at| at.early_data() == EarlyData::Forbidden),
                    is_misused: offered().any(Protocol::is_exacting),
                    ..self
                }
            }
        }
    }

    /// Counts what became of an offer, and says why.
    fn count(&self, request: Request<'_>, token: TokenSlot, result: UpgradeResult, core: &Core) {
        core.count_upgrade(token, result);
        self.explain(request, result.name());
    }

    /// Says why an offer had its result, to who wants to know.
    pub(super) fn explain(&self, request: Request<'_>, result: &str) {
        explain(request, self.resource.protocols_text(), result);
    }

    /// Bytes of content this request may have.
    fn content_max(&self, request: Request<'_>, core: &Core) -> u64 {
        let limits = &core.limits;
        match self.chosen {
            Some((protocol, _)) => protocol.content_max() as u64,
            None => self.resource.content_max().unwrap_or_else(|| match self.takes(request) {
                Takes::Whole => limits.content_bytes_max as u64,
                Takes::Streamed => limits.streamed_bytes_max,
                // What is thrown away has a bound of its own.
                Takes::Nothing => u64::MAX,
            }),
        }
    }

    /// What becomes of content. A protocol gets it whole.
    fn takes(&self, request: Request<'_>) -> Takes {
        match self.chosen {
            Some(_) => Takes::Whole,
            None => self.resource.answer(request.method()).map_or(Takes::Nothing, |at| at.takes()),
        }
    }

    /// Whether an ordinary answer has to close the connection, for what waits behind the request
    /// (U-25), or will (RFC 9931 §8: a client may have sent the tunnel's first bytes by now).
    fn must_close(&self, input: &LeaseQueue) -> bool {
        self.is_tunnel || (self.is_guarded && !input.is_empty())
    }

    /// The form of an ordinary answer.
    fn form(
        &self,
        request: Request<'_>,
        must_close: bool,
        input: &LeaseQueue,
        core: &Core,
    ) -> Form<'a> {
        let form = form(request.head(), must_close || self.must_close(input), core);
        Form { advertise: self.resource.advertised(), ..form }
    }

    /// How long its decision may take.
    fn decision_timeout_ms(&self, core: &Core) -> u64 {
        let own = self.chosen.and_then(|(protocol, _)| protocol.timeout());
        own.map_or(core.limits.decision_timeout_ms, |timeout| {
            u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX)
        })
    }

    /// The answer that is clear from the head alone.
    fn refusal(&self, request: Request<'_>) -> Option<Response> {
        if self.chosen.is_some() {
            return None;
        }
        if self.is_tunnel {
            return Some(Response::text(Status::BAD_REQUEST, "A CONNECT has no content.\n"));
        }
        if self.is_misused {
            // U-29; RFC 6455 §4.2.1: an opening handshake is a GET without content.
            let text = "A protocol in Upgrade takes neither this method nor content.\n";
            return Some(Response::text(Status::BAD_REQUEST, text));
        }
        if self.resource.is_upgrade_required() {
            let text = "This resource needs a switch to one of the protocols in Upgrade.\n";
            return Some(require(Response::text(Status::UPGRADE_REQUIRED, text), self.resource));
        }
        if self.resource.answer(request.method()).is_none() {
            // RFC 9110 §9.3.7: what may be asked of the resource.
            if request.method() == Method::Options {
                return Some(allowing(Response::new(Status::NO_CONTENT), self.resource));
            }
            let response = Response::text(
                Status::METHOD_NOT_ALLOWED,
                "This resource does not have that method.\n",
            );
            return Some(allowing(response, self.resource));
        }
        None
    }
}

/// Whether a protocol is among those offered.
fn is_offered(protocol: &Protocol, offer: &Offer<'_>) -> bool {
    offer.members().iter().any(|member| protocol.matches(member.name, member.version))
}

impl Missed {
    /// Each result of an offer has its counter.
    fn count(self, core: &Core) {
        let counters = &core.counters;
        match self {
            Missed::Unusable(Unusable::Absent) => return,
            Missed::Unusable(Unusable::Http10) => &counters.upgrades_http10,
            Missed::Unusable(Unusable::NoConnectionOption) => {
                &counters.upgrades_no_connection_option
            }
            Missed::Unusable(Unusable::Malformed) => &counters.upgrades_malformed,
            Missed::Unusable(Unusable::TooLong) => &counters.upgrades_too_long,
            Missed::Unknown => &counters.upgrades_unknown,
            Missed::Unfit(token) => return core.count_upgrade(token, UpgradeResult::Unfit),
        }
        .raise();
        if let (Some(access), Some(result)) = (&core.access, self.result()) {
            access.note_upgrade(None, result);
        }
    }

    /// What metrics and logs call it; `None` if nothing was offered.
    fn result(self) -> Option<&'static str> {
        Some(match self {
            Missed::Unusable(Unusable::Absent) => return None,
            Missed::Unusable(Unusable::Http10) => "http10",
            Missed::Unusable(Unusable::NoConnectionOption) => "no_connection_option",
            Missed::Unusable(Unusable::Malformed) => "malformed",
            Missed::Unusable(Unusable::TooLong) => "too_long",
            Missed::Unknown => "unknown",
            Missed::Unfit(_) => UpgradeResult::Unfit.name(),
        })
    }
}

/// RFC 9110 §7.4: what an https URI names must not be had from a connection in cleartext, and what
/// other schemes name is not here either. Where the next request begins is in no doubt.
fn misdirected(
    request: Request<'_>,
    incoming: Incoming,
    control: &mut Control,
    port: &mut Port<'_>,
) -> Step {
    port.core.counters.requests_misdirected.raise();
    let text =
        "What the target names is not to be had from this connection, which is plain http.\n";
    let response = Response::text(Status::MISDIRECTED_REQUEST, text);
    conclude(request, &response, incoming, false, control, port)
}

/// Nothing is at the path, or the method needs no path.
fn unrouted(
    request: Request<'_>,
    incoming: Incoming,
    control: &mut Control,
    port: &mut Port<'_>,
) -> Step {
    let response = match request.method() {
        // RFC 9931 §8: rejecting CONNECT closes, for the bytes behind it are not HTTP.
        Method::Connect => {
            let response = Response::text(Status::NOT_IMPLEMENTED, "This server is no proxy.\n");
            answer_and_close(&response, Method::Connect, control, port);
            return Step::Answered;
        }
        Method::Other => {
            Response::text(Status::NOT_IMPLEMENTED, "This server does not know that method.\n")
        }
        Method::Options if request.path() == b"*" => Response::new(Status::NO_CONTENT),
        _ => Response::text(Status::NOT_FOUND, "There is nothing at this path.\n"),
    };
    conclude(request, &response, incoming, false, control, port)
}

/// With the methods the resource has (RFC 9110 §10.2.1).
#[expect(clippy::expect_used, reason = "no input: the names of methods that were registered")]
fn allowing(response: Response, resource: &Resource) -> Response {
    response.with_field("Allow", resource.allow()).expect("a list of methods is a valid value")
}

/// A 426 lists what it asks for (RFC 9110 §15.5.22).
#[expect(clippy::expect_used, reason = "no input: registration has checked the names")]
fn require(response: Response, resource: &Resource) -> Response {
    response.with_upgrade(resource.protocols_text()).expect("registered names are tokens")
}

/// Writes an answer whose request may have content that nobody read: it must not become the next
/// request.
fn conclude(
    request: Request<'_>,
    response: &Response,
    incoming: Incoming,
    must_close: bool,
    control: &mut Control,
    port: &mut Port<'_>,
) -> Step {
    let must_close = must_close || must_end(&incoming, control, port.core);
    let form = form(request.head(), must_close, port.core);
    write(response, form, port);
    end(incoming, form, control, port)
}

/// Goes on behind a whole answer.
fn end(incoming: Incoming, form: Form<'_>, control: &mut Control, port: &mut Port<'_>) -> Step {
    // What the client has not been asked for is not left: it need not come.
    if !incoming.is_discardable(&port.core.limits) && !incoming.is_awaited() {
        port.core.counters.contents_abandoned.raise();
    }
    leave(incoming, form.persistence == Persistence::Close, control, port)
}

/// Whether the connection cannot go on behind this answer, whatever the client wants.
fn must_end(incoming: &Incoming, control: &Control, core: &Core) -> bool {
    control.is_last_request || !incoming.is_discardable(&core.limits)
}

fn form(head: &Head, must_close: bool, core: &Core) -> Form<'static> {
    let persistence = match must_close || core.is_draining {
        true => Persistence::Close,
        false => head.persistence(),
    };
    Form { head_only: head.method == Method::Head, persistence, advertise: None }
}

/// Has the resource answer.
fn answer(
    route: &Route<'_>,
    request: Request<'_>,
    content: &[u8],
    incoming: Incoming,
    input: &LeaseQueue,
    control: &mut Control,
    port: &mut Port<'_>,
) -> Step {
    let Some(answer) = route.resource.answer(request.method()) else {
        debug_assert!(false, "a resource without this method was refused from the head");
        control.is_reset = true;
        return Step::Answered;
    };
    let must_close = must_end(&incoming, control, port.core);
    let form = route.form(request, must_close, input, port.core);
    let (mailbox, spawn) = (Rc::clone(&port.core.mailbox), port.core.spawn.clone());
    let (key, before) = (port.key, port.outbox().queued().bytes);
    let mut state = ReplyState::Unanswered;
    port.core.counters.upgrades.call(Calling::Answer);
    let is_fine = fenced(|| {
        port.with_text(|text, date| {
            let mut reply = Reply::new(text, date, form, &mailbox, key, spawn.as_ref());
            answer.answer(&request, content, &mut reply);
            state = reply.into_state();
        });
    });
    port.core.counters.upgrades.returned();
    if !is_fine {
        port.core.counters.handler_panics.raise();
        control.is_reset = port.outbox().queued().bytes != before;
        state = ReplyState::Unanswered;
    }
    match state {
        ReplyState::Answered(status) => {
            port.core.count_answer(status);
            let written = port.outbox().queued().bytes.saturating_sub(before);
            port.core.spend(moving_cost(written));
            end(incoming, form, control, port)
        }
        ReplyState::Later(awaiting) => {
            let deadline = port.core.now.saturating_add(port.core.limits.answer_timeout_ms);
            let kept = Kept::of(request, route.registry);
            Step::Waiting(Box::new(Waiting::for_response(kept, awaiting, incoming, deadline)))
        }
        ReplyState::Streaming(handler) => {
            let outgoing = Outgoing::new(request.head(), route.resource.advertised());
            let streamed = Streamed::open(handler, incoming, outgoing, control, port);
            Step::Begun(Box::new(Waiting::for_stream(streamed)))
        }
        ReplyState::Unanswered => {
            let text = "The handler of this resource failed.\n";
            let response = Response::text(Status::INTERNAL_SERVER_ERROR, text);
            conclude(request, &response, incoming, true, control, port)
        }
    }
}

/// A promised answer has come.
pub(super) fn answered(
    route: &Route<'_>,
    request: Request<'_>,
    response: &Response,
    incoming: Incoming,
    input: &LeaseQueue,
    control: &mut Control,
    port: &mut Port<'_>,
) -> Step {
    let must_close = must_end(&incoming, control, port.core);
    let form = route.form(request, must_close, input, port.core);
    write(response, form, port);
    end(incoming, form, control, port)
}

/// Asks the chosen protocol whether it refuses from the head alone (U-32).
fn screen(route: &Route<'_>, request: Request<'_>, port: &mut Port<'_>) -> Option<Response> {
    let (protocol, version) = route.chosen.filter(|(protocol, _)| protocol.has_screen())?;
    let (mailbox, spawn) = (&port.core.mailbox, port.core.spawn.as_ref());
    let opening =
        Opening { request: &request, version, content: b"", mailbox, key: port.key, spawn };
    let mut refusal = None;
    if !fenced(|| refusal = protocol.refusal(&opening)) {
        port.core.counters.handler_panics.raise();
        let text = "The handler of this protocol failed.\n";
        refusal = Some(Response::text(Status::INTERNAL_SERVER_ERROR, text));
    }
    refusal
}

/// Has the protocol decide.
fn decide(
    protocol: &Protocol,
    version: Option<&[u8]>,
    request: Request<'_>,
    content: &[u8],
    port: &mut Port<'_>,
) -> Decision {
    let (mailbox, spawn) = (&port.core.mailbox, port.core.spawn.as_ref());
    let opening = Opening { request: &request, version, content, mailbox, key: port.key, spawn };
    let mut decision = None;
    let upgrades = &port.core.counters.upgrades;
    upgrades.call(Calling::Protocol(protocol.slot()));
    let is_fine = fenced(|| decision = Some(protocol.decide(&opening)));
    upgrades.returned();
    if !is_fine {
        port.core.counters.handler_panics.raise();
    }
    decision.unwrap_or_else(|| {
        Decision::Answer(Response::text(
            Status::INTERNAL_SERVER_ERROR,
            "The handler of this protocol failed.\n",
        ))
    })
}

/// Carries out a decision. This is the only place that leaves HTTP, and only behind its own 101, or
/// its 200 to a CONNECT (U-42).
pub(super) fn decided(
    route: &Route<'_>,
    request: Request<'_>,
    decision: Decision,
    input: &mut LeaseQueue,
    control: &mut Control,
    port: &mut Port<'_>,
) -> Step {
    let Some((protocol, version)) = route.chosen else {
        debug_assert!(false, "only a chosen protocol decides");
        control.is_reset = true;
        return Step::Answered;
    };
    let response = match decision {
        Decision::Switch(switch) => {
            route.explain(request, UpgradeResult::Switched.name());
            return match route.is_tunnel {
                true => open_tunnel(protocol, switch, port),
                false => switch_over(protocol, version, request, switch, port),
            };
        }
        Decision::Later(awaiting) => {
            let asked = Asked::now(protocol.slot(), port.core);
            let deadline = port.core.now.saturating_add(route.decision_timeout_ms(port.core));
            let kept = Kept::of(request, route.registry);
            let waiting = Waiting::for_decision(kept, awaiting, asked, deadline);
            return Step::Waiting(Box::new(waiting));
        }
        Decision::Answer(response) => response,
        Decision::UpgradeRequired(response) => require(response, route.resource),
    };
    // U-25: a client that broke the no-early-data rule of its token may not have those bytes read
    // as a request.
    let is_early = protocol.early_data() == EarlyData::Forbidden && !input.is_empty();
    let result = if is_early { UpgradeResult::EarlyBytesRefused } else { UpgradeResult::Declined };
    route.count(request, protocol.slot(), result, port.core);
    // A protocol decides when the content is there: nothing of it is left.
    let incoming = Incoming::new(Framing::None, false, 0, port.core);
    conclude(request, &response, incoming, is_early || route.is_tunnel, control, port)
}

/// Writes the 200 to a CONNECT. What is received behind the head is the handler's from here on.
fn open_tunnel(protocol: &Protocol, switch: Switch, port: &mut Port<'_>) -> Step {
    count_switch(protocol, Status::OK, port.core);
    let response = Response::new(Status::OK).with_fields(&switch.fields);
    // RFC 9110 §9.3.6: nothing frames a content; the tunnel begins behind the empty line.
    port.with_text(|text, date| {
        response.write_head(text, date, Form::default(), ContentFraming::Close);
    });
    Step::Switched(switch.handler, protocol.slot())
}

/// Writes the 101. What is received behind the head is the handler's from here on.
fn switch_over(
    protocol: &Protocol,
    version: Option<&[u8]>,
    request: Request<'_>,
    switch: Switch,
    port: &mut Port<'_>,
) -> Step {
    count_switch(protocol, Status::SWITCHING_PROTOCOLS, port.core);
    let is_awaited =
        request.head().expects_continue && !framing(request.head()).is_ok_and(has_content);
    port.with_text(|text, _| {
        if is_awaited {
            // RFC 9110 §7.8: a client that waits for the 100 gets it before the 101 (U-31).
            text.extend_from_slice(CONTINUE);
        }
        write_switching(text, protocol.name().as_bytes(), version, &switch.fields);
    });
    Step::Switched(switch.handler, protocol.slot())
}

fn count_switch(protocol: &Protocol, status: Status, core: &mut Core) {
    core.count_answer(status);
    core.count_upgrade(protocol.slot(), UpgradeResult::Switched);
}
