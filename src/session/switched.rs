//! The switched half of a session: bytes to the handler, and the fence around it: a panic in a
//! handler costs its own connection and no other (U-114).

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::{BUFFER_COST, Core, InputEnd, Port, Session, State};
use crate::config::Millis;
use crate::counters::{Calling, NANOS_PER_MILLI, TokenSlot};
use crate::upgrade::{CloseReason, Detached, Handler, Io};

/// The handler of a switched connection, and what is counted of that.
pub(super) struct Switched {
    handler: Box<dyn Handler>,
    token: TokenSlot,
    since: Millis,
}

impl Switched {
    /// A connection was switched in this turn, to a protocol that is counted there.
    pub(super) fn now(handler: Box<dyn Handler>, token: TokenSlot, core: &Core) -> Switched {
        core.counters.upgrades_open.raise();
        core.counters.upgrades.of(token).open.raise();
        Switched { handler, token, since: core.now }
    }

    /// It is over: the handler, to part from.
    fn end(self, key: u64, reason: &str, core: &mut Core) -> Box<dyn Handler> {
        core.counters.upgrades_open.lower();
        core.counters.upgrades.of(self.token).open.lower();
        let took = core.now.saturating_sub(self.since);
        core.counters.switched_times.note(took.saturating_mul(NANOS_PER_MILLI), 1);
        core.log_end(key, self.token, self.since, reason);
        self.handler
    }
}

impl Session {
    /// Delivers what was received until the handler pauses, closes, or has written enough for now, or
    /// done enough.
    pub(super) fn deliver(&mut self, port: &mut Port<'_>) {
        let share_end = port.core.spent_in_turn.saturating_add(port.core.cost_per_connection());
        while self.takes_input() {
            if port.is_full() {
                self.is_blocked = true;
                return;
            }
            if port.core.spent_in_turn >= share_end && !self.input.is_empty() {
                port.core.counters.turns_used_up.raise();
                self.has_more = true;
                return;
            }
            let Some(bytes) = self.input.pop() else { break };
            let bytes = port.core.lendable(bytes);
            port.core.spend(BUFFER_COST);
            if let Some(access) = &mut port.core.access {
                access.received(port.key, bytes.len());
            }
            self.with_handler(port, |handler, io| {
                io.share_end = share_end;
                handler.on_bytes(bytes, io);
            });
        }
        if self.input_end == InputEnd::Seen && self.input.is_empty() && self.takes_input() {
            self.input_end = InputEnd::Told;
            self.with_handler(port, |handler, io| handler.on_end(io));
        }
    }

    fn takes_input(&self) -> bool {
        let control = &self.control;
        !(control.is_paused || control.is_closing || control.is_reset || control.is_detaching)
    }

    /// Calls the handler, if there is one. A panic resets the connection and ends the handler.
    pub(super) fn with_handler(
        &mut self,
        port: &mut Port<'_>,
        call: impl FnOnce(&mut dyn Handler, &mut Io<'_>),
    ) {
        let State::Switched(Switched { handler, token, .. }) = &mut self.state else { return };
        let mut rest = None;
        port.core.counters.upgrades.call(Calling::Protocol(*token));
        let (mut io, _) = port.grip(&mut self.control, &mut rest);
        let is_fine = fenced(|| call(&mut **handler, &mut io));
        port.core.counters.upgrades.returned();
        if let Some(rest) = rest {
            if let Some(access) = &mut port.core.access {
                access.returned(port.key, rest.len());
            }
            self.input.push_front(rest);
        }
        if !is_fine {
            port.core.counters.handler_panics.raise();
            self.control.is_reset = true;
            if let State::Switched(switched) = std::mem::replace(&mut self.state, State::Over) {
                let handler =
                    switched.end(port.key, CloseReason::HandlerPanicked.as_str(), port.core);
                fenced(|| drop(handler));
            }
        }
    }
}

/// Tells a handler that its connection is over.
pub(super) fn close(switched: Switched, key: u64, reason: CloseReason, core: &mut Core) {
    part_from(switched, key, reason.as_str(), core, |handler| handler.on_close(reason));
}

/// Gives a handler its connection as a descriptor.
pub(super) fn detach(switched: Switched, key: u64, detached: Detached, core: &mut Core) {
    part_from(switched, key, "detached", core, |handler| handler.on_detached(detached));
}

/// Calls a handler for the last time.
fn part_from(
    switched: Switched,
    key: u64,
    reason: &str,
    core: &mut Core,
    call: impl FnOnce(&mut dyn Handler),
) {
    let token = switched.token;
    let mut handler = switched.end(key, reason, core);
    core.counters.upgrades.call(Calling::Protocol(token));
    let is_fine = fenced(|| {
        call(&mut *handler);
        drop(handler);
    });
    core.counters.upgrades.returned();
    if !is_fine {
        core.counters.handler_panics.raise();
    }
}

/// Runs foreign code; false if it panicked. What it was working on is dropped then, never looked at
/// again.
pub(super) fn fenced(call: impl FnOnce()) -> bool {
    catch_unwind(AssertUnwindSafe(call)).is_ok()
}
