//! One core: its connections, their timers, and what goes to and comes from the kernel for them.
//!
//! ```text
//!   turn:  enter (submit, reap) ──► completions ──► mailbox ──► leftover work ──► timers ──► settle ──► next turn
//! ```
//!
//! [`Engine::turn`] is the only entry. Whoever calls it is the host; which kernel it runs on is
//! [`Kernel`]'s business. During a turn sessions only write; at its end each connection that was
//! touched is settled once: what it wrote leaves in one send.

mod admit;
mod clients;
mod connection;
mod drain;
mod secure;
mod settle;
mod slots;
#[cfg(test)]
// In a file of their own: they show what the files do together.
mod tests;
mod timers;

use crate::buffer::{Batch, Lease, Load, Size};
use crate::config::{DrainTimes, Limits, Millis, NEVER};
use crate::resource::Registry;
use crate::ring::{Accepts, Completion, Errno, Handle, Kernel, ListenerId, Manner, Token, Wait};
use crate::session::{Core, Port, Session};
use crate::tls::{Lent, Offload};
use crate::upgrade::CloseReason;
use admit::Admission;
use clients::Clients;
use connection::{Connection, List, Operation, Phase, Receive};
use drain::Drain;
use slots::Slots;
use std::collections::VecDeque;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use timers::Timers;

/// Pauses of a listener whose accepts fail, mostly for want of descriptors or memory: each twice
/// the one before.
const ACCEPT_PAUSE_MIN_MS: Millis = 10;
const ACCEPT_PAUSE_MAX_MS: Millis = 100;

/// How long receives without a buffer wait at most for one that was given back outside of a turn.
const STARVED_PAUSE_MS: Millis = 10;

/// What a core does when its turn is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// Work is left: turn again without sleeping.
    Again,
    /// Nothing is to be done before the kernel has news.
    Idle,
    /// The server has stopped and the last connection is closed.
    Stopped,
}

/// Other threads' word to a core: written by them, read by the engine when the kernel says
/// [`Completion::Control`].
#[derive(Debug, Default)]
pub struct Remote {
    is_stopping: AtomicBool,
    has_ended: AtomicBool,
    /// Locked when a server is given something else to serve, and by nobody else.
    renewal: Mutex<Option<Renewal>>,
}

/// What a core is to serve from now on.
#[derive(Debug)]
pub struct Renewal {
    /// Resources.
    pub registry: Registry,
    /// Bounds.
    pub limits: Limits,
    /// How long the end of the server may take.
    pub drain: DrainTimes,
}

impl Remote {
    /// Has the core serve something else. The last one before it looks is the one it takes.
    pub fn renew(&self, renewal: Renewal) {
        *self.renewal.lock().unwrap_or_else(PoisonError::into_inner) = Some(renewal);
    }

    /// The core's own word that it has ended.
    pub(crate) fn end(&self) {
        self.has_ended.store(true, Ordering::Release);
    }

    /// Whether the core has ended.
    pub(crate) fn has_ended(&self) -> bool {
        self.has_ended.load(Ordering::Acquire)
    }

    fn take_renewal(&self) -> Option<Renewal> {
        self.renewal.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Asks the core to drain and stop.
    pub fn stop(&self) {
        self.is_stopping.store(true, Ordering::Release);
    }

    /// Whether it was asked.
    pub fn is_stopping(&self) -> bool {
        self.is_stopping.load(Ordering::Acquire)
    }
}

/// One core.
pub struct Engine<K: Kernel> {
    kernel: K,
    core: Core,
    connections: Slots<Connection>,
    timers: Timers,
    clients: Clients,
    admission: Admission,
    /// Connections that are not served, and not gone yet.
    refusing: u32,
    listeners: Vec<Listener>,
    touched: Vec<Token>,
    ready: VecDeque<Token>,
    starved: VecDeque<Token>,
    /// New connections that are not received on yet, the first first.
    line: VecDeque<Token>,
    /// Those whose clients have begun to speak TLS, and wait for the end of others' handshakes.
    line_inside: VecDeque<Token>,
    /// Handshakes that are to be begun.
    due: VecDeque<Token>,
    /// Receive buffers that could be received into, when there were fewest.
    buffers_low: usize,
    /// A receive of this turn found no buffer: too few are lent.
    is_short_of_buffers: bool,
    /// The same of large ones: what waits for it is received into the others.
    is_short_of_large: bool,
    /// When the next connection is cut if receives still wait for a buffer, [`NEVER`] if none does.
    cut_at: Millis,
    /// Before it, looking for buffers that can be had back is of no use.
    relieve_at: Millis,
    date_due: Millis,
    tick_at: Millis,
    remote: Arc<Remote>,
    drain: Drain,
    stop_at: Option<Millis>,
}

#[derive(Debug, Clone, Copy)]
struct Listener {
    is_armed: bool,
    /// It accepts all that come, and was not asked to stop.
    is_open: bool,
    /// It was armed in this turn, or in the last one and has ended in it: more wait than it was for.
    is_pressed: bool,
    /// The last accept brought an error.
    has_failed: bool,
    pause_ms: Millis,
    retry_at: Millis,
    /// Nothing is accepted on it any more.
    is_closed: bool,
}

impl<K: Kernel> Engine<K> {
    /// A core that serves connections of listeners `0..listeners` of its kernel.
    pub fn new(
        kernel: K,
        mut core: Core,
        listeners: u16,
        remote: Arc<Remote>,
        drain: DrainTimes,
    ) -> Engine<K> {
        core.now = kernel.now();
        let listener = Listener {
            is_armed: false,
            is_open: false,
            is_pressed: false,
            has_failed: false,
            pause_ms: ACCEPT_PAUSE_MIN_MS,
            retry_at: 0,
            is_closed: false,
        };
        let buffers_low = kernel.pool().count();
        core.counters.buffers_low.set(buffers_low as u64);
        Engine {
            timers: Timers::new(core.now),
            date_due: core.now,
            kernel,
            core,
            connections: Slots::new(),
            clients: Clients::default(),
            admission: Admission::default(),
            refusing: 0,
            listeners: vec![listener; usize::from(listeners)],
            touched: Vec::new(),
            ready: VecDeque::new(),
            starved: VecDeque::new(),
            line: VecDeque::new(),
            line_inside: VecDeque::new(),
            due: VecDeque::new(),
            buffers_low,
            is_short_of_buffers: false,
            is_short_of_large: false,
            cut_at: NEVER,
            relieve_at: 0,
            tick_at: NEVER,
            remote,
            drain: Drain::of(drain),
            stop_at: None,
        }
    }

    /// Submits what the last turn asked for, handles what has completed, and asks for what follows
    /// from it. Sleeps only if `wait` says so and nothing is left to do.
    ///
    /// # Errors
    /// The kernel refused to go on: this core cannot serve any longer.
    pub fn turn(&mut self, wait: Wait) -> io::Result<Turn> {
        self.arm_listeners();
        let wait = if self.has_work() { Wait::No } else { wait };
        self.kernel.enter(wait)?;
        self.core.counters.turns.raise();
        self.look_at_the_clock();
        while !self.core.has_done_enough()
            && let Some(completion) = self.kernel.complete()
        {
            self.complete(completion);
        }
        if !self.core.introduced.is_empty() {
            self.admit_introduced();
        }
        if self.core.offload.is_some() {
            self.take_handshakes_back();
        }
        self.deliver_mail();
        self.core.end_arrivals();
        self.go_on();
        if !self.due.is_empty() || self.core.is_offload_late() {
            self.begin_handshakes();
        }
        self.core.end_leftovers();
        self.let_in();
        self.expire();
        self.drain_on();
        self.settle_touched();
        self.feed_starved();
        self.relieve_shortage();
        self.end_shortage();
        self.arm_tick();
        self.note_buffers();
        self.note_times();
        self.core.hand_over_log();
        Ok(self.outcome())
    }

    /// Connections that are open.
    pub fn connections(&self) -> usize {
        self.connections.len()
    }

    /// The kernel.
    pub fn kernel(&mut self) -> &mut K {
        &mut self.kernel
    }

    /// What the sessions share.
    pub fn core(&mut self) -> &mut Core {
        &mut self.core
    }

    fn outcome(&mut self) -> Turn {
        match self.stop_at {
            Some(_) if self.has_ended() => Turn::Stopped,
            _ if self.has_work() || self.kernel.has_work() => Turn::Again,
            _ => Turn::Idle,
        }
    }

    fn has_work(&self) -> bool {
        !self.ready.is_empty()
            || !self.line.is_empty()
            || (!self.line_inside.is_empty() && self.core.has_room_for_handshake())
            || (!self.due.is_empty() && (self.core.offload.is_none() || self.core.may_lend()))
            || !self.core.mailbox.is_empty()
            || (!self.starved.is_empty() && self.kernel.receivable(Size::Usual) > 0)
    }

    /// Asks the time once a turn, and for the date once a second.
    fn look_at_the_clock(&mut self) {
        self.core.begin_turn_at(self.kernel.time());
        if self.core.now >= self.date_due {
            self.core.date.refresh(self.kernel.unix_seconds());
            if let Some(access) = &mut self.core.access {
                access.set_time(self.core.now, self.kernel.unix_millis());
            }
            // The wall clock's second does not begin with ours: looking ten times a second keeps
            // the date right to a tenth.
            self.date_due = self.core.now + 100;
        }
    }

    fn complete(&mut self, completion: Completion) {
        match completion {
            Completion::Accepted { listener, result, more } => {
                self.accepted(listener, result, more)
            }
            Completion::Received { connection, result, more } => {
                self.received(connection, result, more)
            }
            Completion::Sent { connection, result, batch } => self.sent(connection, result, batch),
            Completion::ShutDown { connection } => self.with(connection, |connection, _, _| {
                connection.is_shutting = false;
            }),
            Completion::Closed { connection } => self.closed(connection),
            Completion::Identified { connection, result } => self.identified(connection, result),
            Completion::Installed { connection, result } => {
                self.with(connection, |connection, core, key| {
                    debug_assert_eq!(connection.phase, Phase::Installing);
                    let (manner, reason) = match result {
                        Ok(socket) => {
                            connection.session.detached(key, socket, core);
                            (Manner::Close, CloseReason::Finished)
                        }
                        // The handler took the connection out: nobody is left to end it in order.
                        Err(_) => (Manner::Reset, CloseReason::NoDescriptor),
                    };
                    connection.phase = Phase::Ending { manner, reason };
                })
            }
            Completion::Watched { connection, is_lost, more } => {
                self.with(connection, |connection, _, _| {
                    if !more {
                        connection.watch = Operation::Idle;
                    }
                    // With our direction over, the end of the other looks like a loss, and may leave
                    // bytes to be read.
                    if is_lost && connection.phase == Phase::Open && !connection.is_shut {
                        connection.end(Manner::Close, CloseReason::PeerReset);
                    }
                });
            }
            Completion::Tick => self.tick_at = NEVER,
            Completion::Control => self.control(),
        }
    }

    fn accepted(&mut self, listener: ListenerId, result: Result<Handle, Errno>, more: bool) {
        let state = &mut self.listeners[usize::from(listener.0)];
        state.is_armed = more;
        let was_open = state.is_open;
        state.is_open &= more;
        if result == Err(Errno::CANCELED) && !was_open {
            // As it was asked.
            return;
        }
        let has_failed = std::mem::replace(&mut state.has_failed, result.is_err());
        match result {
            Ok(handle) => {
                state.pause_ms = ACCEPT_PAUSE_MIN_MS;
                self.core.note_begun();
                self.open(handle, listener);
            }
            Err(errno) => {
                self.core.counters.accept_errors.raise();
                // An error may be one connection's; two in a row are the listener's, and asking at
                // once would spin.
                if errno.is_exhaustion() || has_failed {
                    self.core.counters.accept_pauses.raise();
                    state.retry_at = self.core.now + state.pause_ms;
                    state.pause_ms = (state.pause_ms * 2).min(ACCEPT_PAUSE_MAX_MS);
                }
            }
        }
    }

    fn received(&mut self, token: Token, result: Result<Option<Lease>, Errno>, more: bool) {
        if matches!(result, Err(Errno::NOBUFS)) {
            self.starve(token);
        }
        let (buffers, usual) = (self.kernel.pool().count(), self.kernel.pool().buffer_bytes());
        let receivable = self.kernel.receivable(Size::Usual);
        if receivable < self.buffers_low {
            self.buffers_low = receivable;
            self.core.counters.buffers_low.set(receivable as u64);
        }
        self.core.is_short_of_buffers = receivable < buffers / 4;
        self.with(token, |connection, core, key| {
            if !more {
                connection.receive = Receive::Idle;
            }
            if let Ok(Some(bytes)) = &result {
                connection.appetite.note(bytes.len(), usual);
                connection.gulps.note(bytes.len(), usual);
            }
            match (connection.phase, result) {
                (Phase::Open | Phase::Detaching, Ok(Some(bytes))) => {
                    connection.take(bytes, core, key);
                }
                (Phase::Open | Phase::Detaching, Ok(None)) => connection.take_end(core, key),
                (Phase::Lingering, Ok(Some(bytes))) => {
                    core.counters.bytes_received.add(bytes.len() as u64);
                    connection.discard(bytes.len(), core);
                }
                (Phase::Lingering, Ok(None)) => {
                    connection.end(Manner::Close, CloseReason::Finished)
                }
                // Stopped by us, or for no reason, or without a buffer: armed again if and when it
                // is wanted.
                (_, Err(Errno::CANCELED | Errno::NOBUFS)) => {}
                (_, Err(_)) => connection.end(Manner::Close, CloseReason::PeerReset),
                (Phase::Ending { .. } | Phase::Closing | Phase::Installing, Ok(_)) => {}
            }
        });
    }

    fn sent(&mut self, token: Token, result: Result<usize, Errno>, mut batch: Box<Batch>) {
        let now = self.core.now;
        if let Ok(count) = result {
            self.core.counters.bytes_sent.add(count as u64);
            batch.advance(count);
        }
        let is_lost = !matches!(result, Ok(_) | Err(Errno::CANCELED));
        let Some(connection) = self.connections.of(token) else {
            self.core.counters.completions_stale.raise();
            return self.core.recycle(batch);
        };
        if let (Some(access), Ok(count)) = (&mut self.core.access, result)
            && connection.session.is_switched()
            // What is inside TLS was counted when it was sealed.
            && connection.layer.is_none()
        {
            access.sent(key(token), count);
        }
        let is_wanted = matches!(connection.phase, Phase::Open | Phase::Detaching);
        if !is_lost && is_wanted && !batch.is_empty() {
            // The rest goes first: one send in flight, in order. It waits for its peer, and nobody
            // else for its buffers.
            self.core.counters.sends_short.raise();
            batch.give_buffers_back();
            connection.set_in_flight(batch.load());
            connection.peer_deadline = now.saturating_add(self.core.limits.send_timeout_ms);
            self.kernel.send(token, connection.handle, batch);
        } else {
            self.core.recycle(batch);
            self.with(token, |connection, core, key| {
                connection.sending = Operation::Idle;
                connection.set_in_flight(Load::default());
                connection.peer_deadline = NEVER;
                if is_lost {
                    connection.end(Manner::Close, CloseReason::PeerReset);
                } else if is_wanted {
                    connection.call(core, key, |session, port| session.sent(port));
                }
            });
        }
    }

    fn closed(&mut self, token: Token) {
        if self.connections.of(token).is_none() {
            return self.core.counters.completions_stale.raise();
        }
        let mut connection = self.connections.remove(token);
        debug_assert!(
            !connection.is_in_flight(),
            "a slot is freed when nothing of it is in flight"
        );
        connection.uncount_layer(&mut self.core);
        self.timers.set(token.slot, NEVER);
        self.clients.leave(token.slot);
        self.core.addresses.forget(key(token));
        if let Some(access) = &mut self.core.access {
            access.forget(key(token));
        }
        self.refusing -= u32::from(connection.is_refused);
        self.core.counters.connections_open.lower();
        if let Some(batch) = connection.batch {
            self.core.recycle(batch);
        }
    }

    /// Handles an event of a connection, and has it settled at the end of the turn.
    fn with(&mut self, token: Token, handle: impl FnOnce(&mut Connection, &mut Core, u64)) {
        match self.connections.of(token) {
            Some(connection) => handle(connection, &mut self.core, key(token)),
            None => return self.core.counters.completions_stale.raise(),
        }
        self.touch(token);
    }

    fn touch(&mut self, token: Token) {
        if let Some(connection) = self.connections.of(token)
            && connection.lists.enter(List::Touched)
        {
            self.touched.push(token);
        }
    }

    /// Calls the connections that were woken. One that has gone meanwhile is no one's loss.
    fn deliver_mail(&mut self) {
        // Only those there now: one that wakes itself again waits for the next turn.
        for _ in 0..self.core.mailbox.len() {
            let Some(key) = self.core.mailbox.take() else { break };
            self.attend(token(key), Session::woken);
        }
    }

    /// Gives those with work left over another go each, as far as a turn has time for them.
    fn go_on(&mut self) {
        for _ in 0..self.ready.len() {
            if self.core.has_done_enough() {
                break;
            }
            let Some(token) = self.ready.pop_front() else { break };
            if let Some(connection) = self.connections.of(token) {
                connection.lists.leave(List::Ready);
                self.attend(token, Session::go_on);
            }
        }
    }

    /// Goes on with those handshakes there is time for, here or beside.
    #[inline(never)]
    fn begin_handshakes(&mut self) {
        if self.core.may_shake() {
            self.shake_for_who_is_late();
        }
        while (self.core.may_lend() || self.core.may_shake())
            && let Some(token) = self.due.pop_front()
        {
            let Some(connection) = self.connections.of(token) else { continue };
            connection.lists.leave(List::Ready);
            if !connection.lend_handshake(&mut self.core, key(token)) {
                self.attend(token, Session::go_on);
            }
        }
    }

    /// Makes the step here that the thread beside was to make, and had no time for.
    fn shake_for_who_is_late(&mut self) {
        let now = self.core.now;
        while let Some(mut lent) =
            self.core.offload.as_mut().and_then(|offload| offload.take_unbegun(now))
        {
            let token = token(lent.key);
            // Who has gone has no use for it.
            if self.connections.of(token).is_none() {
                continue;
            }
            lent.advance();
            self.core.note_shaken();
            self.core.counters.tls_offloads_late.raise();
            return self.give_handshake_back(lent);
        }
    }

    /// Goes on with those that are back. One whose connection has gone meanwhile is no one's loss.
    #[inline(never)]
    fn take_handshakes_back(&mut self) {
        while let Some(lent) = self.core.offload.as_mut().and_then(Offload::take) {
            self.give_handshake_back(lent);
        }
    }

    fn give_handshake_back(&mut self, lent: Lent) {
        let token = token(lent.key);
        if self.connections.of(token).is_some() {
            self.with(token, |connection, core, key| {
                connection.take_handshake_back(lent, core, key)
            });
        }
    }

    fn attend(&mut self, token: Token, how: impl FnOnce(&mut Session, &mut Port<'_>)) {
        if let Some(connection) = self.connections.of(token) {
            if matches!(connection.phase, Phase::Open | Phase::Detaching) {
                connection.call(&mut self.core, key(token), how);
            }
            self.touch(token);
        }
    }

    /// Looks at the connections whose time may have come.
    fn expire(&mut self) {
        let now = self.core.now;
        while let Some(slot) = self.timers.pop(now) {
            let Some(token) = self.connections.tenant(slot) else { continue };
            self.with(token, |connection, core, key| {
                // Times are set lazily: this one may have moved since. Settling sets it anew.
                if connection.peer_deadline <= now {
                    connection.peer_timed_out(core);
                } else if connection.is_handshake_over_time(now) {
                    connection.handshake_timed_out(core, key);
                } else if connection.phase == Phase::Open
                    && connection.session.control().deadline <= now
                {
                    connection.call(core, key, |session, port| session.deadline_reached(port));
                }
            });
        }
    }

    /// Accepts all that come, and a few at a time while turns are full: the others wait where they are
    /// no work, and lose nothing by it.
    fn arm_listeners(&mut self) {
        let (now, is_crowded) = (self.core.now, self.core.is_crowded);
        for (index, listener) in (0..).zip(&mut self.listeners) {
            if self.stop_at.is_some() {
                // Nothing new: see `drain`.
            } else if listener.is_armed {
                listener.is_pressed = false;
                if is_crowded && std::mem::take(&mut listener.is_open) {
                    self.kernel.stop_accept(ListenerId(index));
                }
            } else if listener.retry_at <= now {
                let is_shared = self.admission.is_shared(ListenerId(index));
                let is_few = is_crowded || listener.is_pressed || is_shared;
                (listener.is_armed, listener.is_open, listener.is_pressed) = (true, !is_few, true);
                let accepts = if is_few { Accepts::Few } else { Accepts::Many };
                self.kernel.accept(ListenerId(index), accepts);
            }
        }
    }

    /// Has the kernel wake us when the first time comes.
    fn arm_tick(&mut self) {
        let retries = self
            .listeners
            .iter()
            .filter(|listener| !listener.is_armed && !listener.is_closed)
            .map(|listener| listener.retry_at);
        // Tasks give buffers back without a word to the engine.
        let feeding = (!self.starved.is_empty()).then_some(self.core.now + STARVED_PAUSE_MS);
        let ending = self.stop_at.map(|_| self.drain.next_at());
        // Whoever has handshakes to make may have no time for them.
        let is_wanted = !self.due.is_empty();
        let late = self.core.offload.as_ref();
        let late = late.map(|offload| offload.look_at(self.core.now, is_wanted));
        let next =
            retries.chain(ending).chain(feeding).chain(late).fold(self.timers.next(), Millis::min);
        if next < self.tick_at {
            self.tick_at = next;
            self.kernel.wake_at(next);
        }
    }

    /// Once a turn, so that no lease pays for being counted.
    fn note_buffers(&self) {
        let pool = self.kernel.pool();
        let held = pool.count() - self.kernel.receivable(Size::Usual);
        self.core.counters.buffers_held.set(held as u64);
    }

    /// The second reading of the clock, for all that was answered in this turn; without anything,
    /// there is none.
    fn note_times(&mut self) {
        if self.core.has_answers() {
            self.core.end_turn(self.kernel.time().nanos);
        }
    }

    fn control(&mut self) {
        self.core.counters.wakes_across_cores.raise();
        self.core.mailbox.reached();
        if let Some(Renewal { registry, limits, drain }) = self.remote.take_renewal() {
            self.core.renew(registry, limits);
            self.drain.times = drain;
            self.core.counters.renewals.raise();
        }
        if self.remote.is_stopping() && self.stop_at.is_none() {
            self.begin_drain();
        }
    }

    fn all(&self) -> Vec<Token> {
        (0..self.connections.bound()).filter_map(|slot| self.connections.tenant(slot)).collect()
    }
}

impl Connection {
    /// Has the session handle something.
    fn call(
        &mut self,
        core: &mut Core,
        key: u64,
        handle: impl FnOnce(&mut Session, &mut Port<'_>),
    ) {
        self.call_session(core, key, handle);
        if self.layer.is_some() {
            self.pump(core, key);
        }
    }

    fn call_session(
        &mut self,
        core: &mut Core,
        key: u64,
        handle: impl FnOnce(&mut Session, &mut Port<'_>),
    ) {
        let in_flight = self.in_flight();
        let layer = self.layer.as_ref();
        let (secured, is_securable) = match layer {
            None => (None, false),
            Some(layer) => (layer.secured(), layer.is_offered()),
        };
        let mut port = Port { core, batch: &mut self.batch, in_flight, key, secured, is_securable };
        handle(&mut self.session, &mut port);
    }

    /// RFC 9112 §9.6: what comes behind our FIN is read and thrown away, so that it does not cost
    /// the peer our last answer.
    fn discard(&mut self, bytes: usize, core: &Core) {
        match u32::try_from(bytes)
            .ok()
            .and_then(|bytes| self.linger_bytes_left().checked_sub(bytes))
        {
            Some(left) => self.set_linger_bytes_left(left),
            None => {
                core.counters.linger_overflows.raise();
                self.end(Manner::Close, CloseReason::Finished);
            }
        }
    }

    fn peer_timed_out(&mut self, core: &Core) {
        match self.phase {
            Phase::Open | Phase::Detaching => {
                core.counters.timeouts_sent.raise();
                self.end(Manner::Reset, CloseReason::SendTimeout);
            }
            Phase::Lingering => {
                core.counters.timeouts_linger.raise();
                self.end(Manner::Close, CloseReason::Finished);
            }
            Phase::Ending { .. } | Phase::Closing | Phase::Installing => {}
        }
    }
}

/// What sessions and handlers know a connection by.
fn key(token: Token) -> u64 {
    u64::from(token.generation) << 32 | u64::from(token.slot)
}

fn token(key: u64) -> Token {
    Token { slot: key as u32, generation: (key >> 32) as u32 }
}
