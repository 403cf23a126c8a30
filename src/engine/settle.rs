//! The end of a turn: what each touched connection now wants of the kernel. Everything a connection
//! asks of the kernel, apart from the rest of a short send, is asked for here.

use super::connection::{Connection, List, Operation, Phase, Receive};
use super::{Engine, STARVED_PAUSE_MS, key};
use crate::buffer::Size;
use crate::config::NEVER;
use crate::ring::{Kernel, Manner, Receipts, Token};
use crate::session::{Core, Session};
use crate::upgrade::CloseReason;

impl<K: Kernel> Engine<K> {
    pub(super) fn settle_touched(&mut self) {
        while let Some(token) = self.touched.pop() {
            self.settle(token);
        }
    }

    fn settle(&mut self, token: Token) {
        let Engine { kernel, core, connections, timers, ready, due, line_inside, starved, .. } =
            self;
        // While others wait for a buffer nobody takes more than one at a time.
        let receipts = if starved.is_empty() { Receipts::Many } else { Receipts::One };
        let Some(connection) = connections.of(token) else { return };
        connection.lists.leave(List::Touched);
        connection.judge(core);
        if connection.phase == Phase::Open {
            connection.send(token, kernel, core);
            connection.finish_if_done(token, kernel, core);
        }
        match connection.phase {
            Phase::Open | Phase::Lingering => connection.receive(token, kernel, core, receipts),
            Phase::Detaching => connection.detach(token, kernel, core),
            Phase::Ending { .. } => connection.wind_up(token, kernel, core),
            Phase::Closing | Phase::Installing => {}
        }
        if connection.phase == Phase::Open
            && connection.has_more()
            && connection.lists.enter(List::Ready)
        {
            ready.push_back(token);
        }
        if connection.layer.is_some()
            && connection.is_handshake_due()
            && connection.lists.enter(List::Ready)
        {
            due.push_back(token);
        }
        if connection.layer.is_some()
            && connection.is_in_line()
            && connection.lists.enter(List::New)
        {
            line_inside.push_back(token);
        }
        let deadline = connection.deadline();
        // A time that moved later is left to come up: setting it at each request would cost more
        // than looking once.
        if deadline < timers.when(token.slot) {
            timers.set(token.slot, deadline);
        }
    }

    /// Puts a connection whose receive found no buffer on the list of those that wait for one, each
    /// at most once. Who found no large one has the others.
    pub(super) fn starve(&mut self, token: Token) {
        let Some(connection) = self.connections.of(token) else { return };
        if connection.receive == Receive::Armed(Receipts::Large) {
            connection.gulps.forget();
            connection.appetite.count_as_greedy();
            self.is_short_of_large = true;
            return;
        }
        self.core.counters.receives_starved.raise();
        self.is_short_of_buffers = true;
        if connection.lists.enter(List::Starved) {
            self.starved.push_back(token);
        }
        // Those that have closed meanwhile are left on the list until they are half of it.
        if self.starved.len() > 2 * self.connections.len() {
            self.starved.retain(|token| self.connections.of(*token).is_some());
        }
    }

    /// Arms the receives again that found no buffer, the longest waiting first, one for each buffer
    /// there is. A buffer that none of them uses is the next ones' in the next turn.
    pub(super) fn feed_starved(&mut self) {
        // Once a turn, however many found none: what circulates is to stay small.
        if std::mem::take(&mut self.is_short_of_buffers) {
            self.kernel.starved(Size::Usual);
        }
        if std::mem::take(&mut self.is_short_of_large) {
            self.kernel.starved(Size::Large);
        }
        let mut buffers = self.kernel.receivable(Size::Usual);
        while buffers > 0
            && let Some(token) = self.starved.pop_front()
        {
            if let Some(connection) = self.connections.of(token) {
                connection.lists.leave(List::Starved);
                buffers -= usize::from(connection.wants_receive(&self.core));
                self.touch(token);
            }
        }
        self.settle_touched();
    }

    /// A connection that does not go on keeps no buffer that another waits for: what it has unread or
    /// unsent is copied into memory of its own, the greediest first, up to a bound for the core.
    pub(super) fn relieve_shortage(&mut self) {
        let now = self.core.now;
        if !self.starved.is_empty() && self.relieve_at <= now {
            self.relieve();
            if self.kernel.receivable(Size::Usual) == 0 {
                // Nothing was to be had: looking again at once would be no better.
                self.relieve_at = now + STARVED_PAUSE_MS;
            }
        }
    }

    #[cold]
    fn relieve(&mut self) {
        let wanted = (self.kernel.pool().count() / 4).max(1);
        let all = self.all();
        let (mut aside, mut holders) = (0, Vec::new());
        for token in &all {
            let Some(connection) = self.connections.of(*token) else { continue };
            aside += connection.bytes_aside();
            holders.push((connection.held(), *token));
        }
        holders.sort_unstable_by_key(|(held, token)| (std::cmp::Reverse(*held), token.slot));
        for (held, token) in holders {
            let is_over = aside as u64 >= self.core.limits.aside_bytes_max;
            if held == 0 || is_over || self.kernel.receivable(Size::Usual) >= wanted {
                break;
            }
            let Some(connection) = self.connections.of(token) else { continue };
            let before = connection.bytes_aside();
            connection.give_buffers_back();
            let more = connection.bytes_aside() - before;
            self.core.counters.bytes_set_aside.add(more as u64);
            aside += more;
        }
        if self.kernel.receivable(Size::Usual) < wanted {
            // Handlers may have some, and be able to do without.
            all.into_iter().for_each(|token| self.attend(token, Session::relieve));
            self.settle_touched();
        }
    }

    /// One connection cannot take the buffers of all: when none has come back for a while, who
    /// holds most of them is cut, one at a time, until those that wait have theirs.
    pub(super) fn end_shortage(&mut self) {
        let now = self.core.now;
        if self.starved.is_empty() {
            self.cut_at = NEVER;
        } else if self.cut_at == NEVER {
            self.cut_at = now.saturating_add(self.core.limits.shortage_timeout_ms);
        } else if self.cut_at <= now && self.kernel.receivable(Size::Usual) == 0 {
            // What the cut one held comes back within a turn or two.
            self.cut_at = now + STARVED_PAUSE_MS;
            self.starved.retain(|token| self.connections.of(*token).is_some());
            if !self.starved.is_empty() {
                self.cut_the_greediest();
            }
        }
    }

    #[cold]
    fn cut_the_greediest(&mut self) {
        let all = self.all();
        let held = |token: &Token| self.connections.of(*token).map_or(0, |found| found.held());
        let greediest = all.into_iter().max_by_key(held);
        if let Some(token) = greediest
            && let Some(connection) = self.connections.of(token)
            && connection.held() > 1
        {
            self.core.counters.connections_cut.raise();
            connection.end(Manner::Reset, CloseReason::BuffersHeld);
            self.touch(token);
            self.settle_touched();
        }
    }
}

impl Connection {
    /// Receive buffers it has unread, or written and not given to the kernel, but for those its
    /// handler keeps. What the kernel has is sent at once, or copied.
    fn held(&self) -> usize {
        let unsent = self.batch.as_ref().map_or(0, |batch| batch.load().leases);
        match self.phase {
            Phase::Open | Phase::Detaching => {
                let sealed = self.layer.as_ref().map_or(0, |layer| layer.held());
                self.session.held() + sealed + usize::from(unsent)
            }
            _ => 0,
        }
    }

    fn give_buffers_back(&mut self) {
        self.session.set_aside();
        if let Some(layer) = &mut self.layer {
            layer.set_aside();
        }
        if let Some(batch) = &mut self.batch {
            batch.give_buffers_back();
        }
    }

    /// Ends a connection whose session or outbox cannot go on.
    fn judge(&mut self, core: &Core) {
        if !matches!(self.phase, Phase::Open | Phase::Detaching) {
            return;
        }
        if self.batch.as_ref().is_some_and(|batch| batch.is_overflowed()) {
            core.counters.outbox_overflows.raise();
            self.end(Manner::Reset, CloseReason::OutboxFull);
        } else if self.session.control().is_reset {
            self.end(Manner::Reset, CloseReason::HandlerReset);
        }
    }

    /// Gives everything written in this turn to the kernel, unless it still holds something.
    #[inline(always)]
    fn send<K: Kernel>(&mut self, token: Token, kernel: &mut K, core: &mut Core) {
        if self.sending != Operation::Idle {
            return;
        }
        let Some(batch) = self.outgoing(key(token), core) else { return };
        if batch.is_empty() {
            core.recycle(batch);
        } else {
            debug_assert!(!self.is_shut, "nothing is written behind the end of our direction");
            self.sending = Operation::Armed;
            self.set_in_flight(batch.load());
            self.peer_deadline = core.now.saturating_add(core.limits.send_timeout_ms);
            kernel.send(token, self.handle, batch);
            // A lease goes back to the ring with its completion: an idle core holds none.
            if self.in_flight().leases == 0 && !self.awaits_send() {
                kernel.relax();
            }
        }
    }

    /// Whether something is to follow when what is being sent has left.
    fn awaits_send(&self) -> bool {
        let control = self.session.control();
        self.phase != Phase::Open
            // What is sealed is not always all that was written.
            || self.batch.is_some()
            || control.is_closing
            || control.is_ended
            || control.is_detaching
            || control.wants_writable
            || self.session.is_blocked()
    }

    /// Takes the next step to the end once everything written has left.
    fn finish_if_done<K: Kernel>(&mut self, token: Token, kernel: &mut K, core: &Core) {
        if self.sending != Operation::Idle || self.is_shutting {
            return;
        }
        if self.layer.is_some() {
            if self.has_failed_layer() {
                return match self.is_input_ended() {
                    true => self.end(Manner::Close, CloseReason::Finished),
                    false => self.linger(token, kernel, core),
                };
            }
            if self.session.control().is_detaching && self.is_inside() {
                // As a descriptor it would be of no use: the keys are here.
                return self.end(Manner::Reset, CloseReason::InsideTls);
            }
        }
        let control = self.session.control();
        if control.is_detaching {
            if control.is_ended {
                self.shut(token, kernel);
            }
            self.phase = Phase::Detaching;
        } else if self.session.is_finished() || (control.is_closing && self.is_input_ended()) {
            self.end(Manner::Close, CloseReason::Finished);
        } else if control.is_closing {
            self.linger(token, kernel, core);
        } else if control.is_ended {
            self.shut(token, kernel);
        }
    }

    /// Ends our direction, and waits for the peer to end theirs.
    fn linger<K: Kernel>(&mut self, token: Token, kernel: &mut K, core: &Core) {
        self.phase = Phase::Lingering;
        self.peer_deadline = core.now.saturating_add(core.limits.linger_timeout_ms);
        let bytes = u32::try_from(core.limits.linger_bytes_max).unwrap_or(u32::MAX);
        self.set_linger_bytes_left(bytes);
        self.shut(token, kernel);
    }

    fn shut<K: Kernel>(&mut self, token: Token, kernel: &mut K) {
        if !std::mem::replace(&mut self.is_shut, true) {
            self.is_shutting = true;
            kernel.shutdown(token, self.handle);
        }
    }

    #[inline]
    fn wants_receive(&self, core: &Core) -> bool {
        let is_open = matches!(self.phase, Phase::Open | Phase::Lingering);
        // Nothing is read of a client that is not known yet: it may be one too many.
        let is_known = !self.is_identifying && !self.lists.has(List::New);
        // Most have one armed, and nothing else is asked.
        let may_be = self.receive == Receive::Idle && is_open && is_known;
        may_be && !self.is_input_ended() && (self.phase == Phase::Lingering || self.has_room(core))
    }

    /// Keeps a receive armed while there is room for what it brings.
    fn receive<K: Kernel>(
        &mut self,
        token: Token,
        kernel: &mut K,
        core: &Core,
        receipts: Receipts,
    ) {
        let is_slowed = self.appetite.is_slowed(core.is_crowded);
        if self.wants_receive(core) && !self.lists.has(List::Starved) {
            // The kernel hears of a stop only after it has delivered many: one that had to be stopped
            // gets one buffer at a time until it has caught up.
            let was_held = self.is_held;
            self.is_held = was_held && self.unread() > 0;
            let receipts = match receipts {
                Receipts::Many if self.is_held => Receipts::One,
                Receipts::Many if self.is_for_large(kernel) => Receipts::Large,
                Receipts::Many if is_slowed => Receipts::One,
                receipts => receipts,
            };
            self.receive = Receive::Armed(receipts);
            kernel.receive(token, self.handle, receipts);
            let is_usual = !was_held && receipts == Receipts::Many;
            if std::mem::replace(&mut self.has_received, true) && is_usual {
                core.counters.rearmed.raise();
            }
        } else if let Receive::Armed(receipts) = self.receive
            && self.phase == Phase::Open
            && (self.is_full(core) || (is_slowed && receipts == Receipts::Many))
        {
            core.counters.backpressure.raise();
            self.is_held = true;
            self.stop_receive(token, kernel);
        } else if self.receive == Receive::Armed(Receipts::Many) && self.is_for_large(kernel) {
            self.stop_receive(token, kernel);
        } else if self.receive == Receive::Idle
            && self.phase == Phase::Open
            && (self.is_held || self.is_input_ended())
            && self.watch == Operation::Idle
        {
            // Nothing else would say that it is lost.
            self.watch = Operation::Armed;
            kernel.watch(token, self.handle);
        }
    }

    /// Whether its next bytes are received into a large buffer: it sends much at once, has nothing
    /// unread, and there is one.
    fn is_for_large<K: Kernel>(&self, kernel: &K) -> bool {
        self.gulps.are_large()
            && self.phase == Phase::Open
            && self.unread() == 0
            && kernel.receivable(Size::Large) > 0
    }

    fn stop_watch<K: Kernel>(&mut self, token: Token, kernel: &mut K) {
        if self.watch == Operation::Armed {
            self.watch = Operation::Stopping;
            kernel.stop_watch(token);
        }
    }

    fn stop_receive<K: Kernel>(&mut self, token: Token, kernel: &mut K) {
        if matches!(self.receive, Receive::Armed(_)) {
            self.receive = Receive::Stopping;
            kernel.stop_receive(token);
        }
    }

    /// Lets a connection go: its receive is stopped first, so that no byte is read by two.
    fn detach<K: Kernel>(&mut self, token: Token, kernel: &mut K, core: &mut Core) {
        self.stop_receive(token, kernel);
        self.stop_watch(token, kernel);
        self.send(token, kernel, core);
        if !self.is_in_flight() {
            self.phase = Phase::Installing;
            kernel.install(token, self.handle);
        }
    }

    /// Stops what is in flight, tells the session, and closes when the last completion has come.
    fn wind_up<K: Kernel>(&mut self, token: Token, kernel: &mut K, core: &mut Core) {
        let Phase::Ending { manner, reason } = self.phase else { return };
        self.session.close(key(token), reason, core);
        self.stop_receive(token, kernel);
        self.stop_watch(token, kernel);
        if self.sending == Operation::Armed {
            self.sending = Operation::Stopping;
            kernel.stop_send(token);
        }
        if !self.is_in_flight() {
            self.phase = Phase::Closing;
            kernel.close(token, self.handle, manner);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::sync::Arc;
    use std::time::Duration;

    use crate::buffer::Lease;
    use crate::config::DrainTimes;
    use crate::counters::Counters;
    use crate::engine::{Engine, Remote};
    use crate::resource::{Registry, Resource};
    use crate::ring::sim::{Faults, SimConfig, Simulation};
    use crate::ring::{ListenerId, Wait};
    use crate::session::Core;
    use crate::upgrade::{ConnectionWaker, Handler, Io, Protocol};

    thread_local! {
        static WAKER: RefCell<Option<ConnectionWaker>> = RefCell::default();
    }

    /// Asks to leave the engine at once, and writes whenever it is woken before it has.
    struct Leaving;

    impl Handler for Leaving {
        fn on_open(&mut self, io: &mut Io<'_>) {
            WAKER.set(Some(io.waker()));
            io.detach();
        }

        fn on_bytes(&mut self, _: Lease, _: &mut Io<'_>) {}

        fn on_wake(&mut self, io: &mut Io<'_>) {
            io.write(b"one more thing");
        }
    }

    fn engine() -> (Engine<Simulation>, Arc<Counters>) {
        let config = SimConfig { faults: Faults::none(), ..SimConfig::default() };
        let mut registry = Registry::default();
        registry.insert("/", Resource::new().upgrade(Protocol::callback("leave", |_| Leaving)));
        let counters = Arc::<Counters>::default();
        let core = Core::new(registry, Default::default(), Arc::clone(&counters), 0);
        let kernel = Simulation::new(1, config);
        (
            Engine::new(
                kernel,
                core,
                1,
                Arc::<Remote>::default(),
                DrainTimes::within(Duration::ZERO),
            ),
            counters,
        )
    }

    #[test]
    fn a_connection_that_detaches_keeps_the_timeout_of_what_it_still_sends() {
        let (mut engine, counters) = engine();
        let client = engine.kernel().world().connect(ListenerId(0));
        client.write(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: leave\r\n\r\n");
        // Exactly the 101 fits; what comes behind it waits for a client that does not read.
        client.set_window(73);
        for _ in 0..20 {
            engine.turn(Wait::No).expect("a simulation always enters");
            if client.arrived() == 73 {
                WAKER.with_borrow(|waker| waker.as_ref().map(ConnectionWaker::wake));
            }
        }
        for _ in 0..20 {
            engine.turn(Wait::ForOne).expect("a simulation always enters");
        }
        assert_eq!((counters.timeouts_sent.value(), engine.connections()), (1, 0));
    }
}
