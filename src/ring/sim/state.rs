//! The simulated kernel itself: what is scheduled, for when, and what each step of an operation
//! does.
//!
//! ```text
//!   Kernel call, client's act ──► scheduled (time, turn, chance) ──enter──► step ──► completed ──complete──► engine
//!                                     ▲                                       │
//!                                     └── the operation goes on ◄─────────────┘
//! ```
//!
//! Every operation has at most one step scheduled, so what it says keeps its order; steps of
//! different operations that are due at the same time come in any order. Broken rules panic in the
//! call that broke them.

mod steps;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::net::SocketAddr;

use super::super::{
    Accepts, Completion, FEW, Handle, ListenerId, Manner, Millis, NEVER, Receipts, Token, Wait,
};
use super::connection::{Connection, Outgoing, Peer, Receiving, Sending, Watching};
use super::{Fault, Random, SimConfig};
use crate::buffer::{Batch, Pool, Size, Vacant};

pub(super) struct State {
    config: SimConfig,
    random: Random,
    now: Millis,
    /// Counts `enter`, so that a completion can be held back without letting time pass.
    turn: u64,
    scheduled: BinaryHeap<Reverse<Scheduled>>,
    wake: Millis,
    completed: VecDeque<Completion>,
    listeners: Vec<Listener>,
    /// By the number a client was given; never reused.
    connections: Vec<Connection>,
    /// The descriptor table: by handle, the connection.
    table: Vec<Option<usize>>,
    /// Handles to be used again, the latest closed first: a stale one is likely to hit another
    /// connection.
    free: Vec<u32>,
    open: usize,
    tokens: BTreeMap<Token, usize>,
    lent: Vec<Vacant>,
    lent_max: usize,
    lent_large: Vec<Vacant>,
    in_flight: usize,
    injected: [u64; Fault::ALL.len()],
}

/// Ordered by time, then by turn, then by chance.
type Scheduled = (Millis, u64, u64, Step);

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Step {
    Accept(usize),
    Receive(usize),
    Send(usize),
    ShutDown(usize),
    Install(usize),
    Identify(usize),
    Watch(usize),
    Close(usize),
    Control,
}

#[derive(Default)]
struct Listener {
    queue: VecDeque<usize>,
    accepting: Accepting,
}

#[derive(Default, PartialEq, Eq)]
enum Accepting {
    #[default]
    Idle,
    Armed {
        due: bool,
        /// Connections it may still accept, if they are few.
        left: Option<u8>,
        stopping: bool,
    },
    Posted,
    /// It was let go of: whoever connects is refused.
    Closed,
}

// What the world asks and does.
impl State {
    pub(super) fn new(seed: u64, config: SimConfig) -> State {
        State {
            random: Random::new(seed),
            now: 0,
            turn: 0,
            scheduled: BinaryHeap::new(),
            wake: NEVER,
            completed: VecDeque::new(),
            listeners: Vec::new(),
            connections: Vec::new(),
            table: Vec::new(),
            free: Vec::new(),
            open: 0,
            tokens: BTreeMap::new(),
            lent: Vec::new(),
            lent_large: Vec::new(),
            lent_max: usize::from(config.buffers_lent.min(config.buffers)),
            in_flight: 0,
            injected: [0; Fault::ALL.len()],
            config,
        }
    }

    pub(super) fn now(&self) -> Millis {
        self.now
    }

    pub(super) fn advance(&mut self, millis: Millis) {
        self.now += millis;
    }

    pub(super) fn next_event_at(&self) -> Option<Millis> {
        if !self.completed.is_empty() {
            return Some(self.now);
        }
        let scheduled = self.scheduled.peek().map_or(NEVER, |Reverse((at, ..))| *at);
        Some(scheduled.min(self.wake)).filter(|&at| at != NEVER)
    }

    pub(super) fn is_quiet(&self) -> bool {
        self.next_event_at().is_none_or(|at| at > self.now)
    }

    pub(super) fn open_handles(&self) -> usize {
        self.open
    }

    pub(super) fn in_flight(&self) -> usize {
        self.in_flight
    }

    pub(super) fn lent(&self, size: Size) -> usize {
        match size {
            Size::Usual => self.lent.len(),
            Size::Large => self.lent_large.len(),
        }
    }

    fn lent_of(&mut self, size: Size) -> &mut Vec<Vacant> {
        match size {
            Size::Usual => &mut self.lent,
            Size::Large => &mut self.lent_large,
        }
    }

    pub(super) fn injected(&self, fault: Fault) -> u64 {
        self.injected[fault as usize]
    }

    pub(super) fn control(&mut self) {
        self.schedule(Step::Control);
    }

    pub(super) fn connect(&mut self, listener: ListenerId, address: SocketAddr) -> usize {
        self.connections.push(Connection::new(self.config.window_bytes, address));
        let index = self.connections.len() - 1;
        if self.listener(listener).accepting == Accepting::Closed {
            self.connections[index].close_by_server(Manner::Reset);
            return index;
        }
        self.listener(listener).queue.push_back(index);
        self.nudge_accept(usize::from(listener.0));
        index
    }

    pub(super) fn connection(&self, index: usize) -> &Connection {
        &self.connections[index]
    }

    /// A client acts on its end; what waits for that goes on.
    pub(super) fn act<T>(&mut self, index: usize, act: impl FnOnce(&mut Connection) -> T) -> T {
        let connection = &mut self.connections[index];
        let result = act(connection);
        let is_readable = connection.is_readable();
        let is_writable = connection.room() > 0 || matches!(connection.peer, Peer::Reset { .. });
        let is_lost = connection.is_lost();
        if is_readable {
            self.nudge_receive(index);
        }
        if is_writable {
            self.nudge_send(index);
        }
        if is_lost {
            self.nudge_watch(index);
        }
        result
    }
}

// What the engine asks for. Rules are checked here, on the engine's own stack.
impl State {
    pub(super) fn accept(&mut self, listener: ListenerId, accepts: Accepts) {
        let accepting = &mut self.listener(listener).accepting;
        assert!(*accepting == Accepting::Idle, "broken rule: {listener:?} is accepting already");
        let left = (accepts == Accepts::Few).then_some(FEW);
        *accepting = Accepting::Armed { due: false, left, stopping: false };
        self.nudge_accept(usize::from(listener.0));
    }

    pub(super) fn stop_accept(&mut self, listener: ListenerId) {
        if let Accepting::Armed { stopping, .. } = &mut self.listener(listener).accepting {
            *stopping = true;
            self.nudge_accept(usize::from(listener.0));
        }
    }

    pub(super) fn has_waiting(&mut self, listener: ListenerId) -> bool {
        !self.listener(listener).queue.is_empty()
    }

    pub(super) fn close_listener(&mut self, listener: ListenerId) {
        let listener = self.listener(listener);
        assert!(
            listener.accepting == Accepting::Idle,
            "broken rule: a listener is let go of while it accepts"
        );
        listener.accepting = Accepting::Closed;
        for index in std::mem::take(&mut listener.queue) {
            self.connections[index].close_by_server(Manner::Reset);
        }
    }

    pub(super) fn receive(&mut self, token: Token, handle: Handle, receipts: Receipts) {
        let index = self.bind(token, handle);
        let receiving = &mut self.connections[index].receiving;
        assert!(
            matches!(receiving, Receiving::Idle),
            "broken rule: a receive of {token:?} is in flight already"
        );
        *receiving = Receiving::Armed { receipts, stopping: false, due: false };
        self.in_flight += 1;
        // Even with nothing to receive there is a first step: it looks for a buffer.
        self.nudge_receive(index);
    }

    pub(super) fn stop_receive(&mut self, token: Token) {
        let Some(&index) = self.tokens.get(&token) else { return };
        if let Receiving::Armed { stopping, .. } = &mut self.connections[index].receiving {
            *stopping = true;
            self.nudge_receive(index);
        }
    }

    pub(super) fn watch(&mut self, token: Token, handle: Handle) {
        let index = self.bind(token, handle);
        let watching = &mut self.connections[index].watching;
        assert!(
            matches!(watching, Watching::Idle),
            "broken rule: a watch of {token:?} is in flight already"
        );
        *watching = Watching::Armed { is_told: false, stopping: false, due: false };
        self.in_flight += 1;
        self.nudge_watch(index);
    }

    pub(super) fn stop_watch(&mut self, token: Token) {
        let Some(&index) = self.tokens.get(&token) else { return };
        if let Watching::Armed { stopping, .. } = &mut self.connections[index].watching {
            *stopping = true;
            self.nudge_watch(index);
        }
    }

    pub(super) fn send(&mut self, token: Token, handle: Handle, batch: Box<Batch>) {
        let index = self.bind(token, handle);
        let connection = &mut self.connections[index];
        assert!(
            matches!(connection.sending, Sending::Idle),
            "broken rule: a send of {token:?} is in flight already"
        );
        assert!(
            !connection.shutting,
            "broken rule: a send of {token:?} while a shutdown is in flight"
        );
        connection.sending =
            Sending::Active(Outgoing { batch, done: 0, stopping: false, due: false });
        self.in_flight += 1;
        self.nudge_send(index);
    }

    pub(super) fn stop_send(&mut self, token: Token) {
        let Some(&index) = self.tokens.get(&token) else { return };
        if let Sending::Active(send) = &mut self.connections[index].sending {
            send.stopping = true;
            self.nudge_send(index);
        }
    }

    pub(super) fn shutdown(&mut self, token: Token, handle: Handle) {
        let index = self.bind(token, handle);
        let connection = &mut self.connections[index];
        assert!(
            matches!(connection.sending, Sending::Idle),
            "broken rule: a shutdown of {token:?} while a send is in flight"
        );
        assert!(!connection.shutting, "broken rule: a shutdown of {token:?} is in flight already");
        connection.shutting = true;
        self.in_flight += 1;
        self.schedule(Step::ShutDown(index));
    }

    pub(super) fn install(&mut self, token: Token, handle: Handle) {
        let index = self.bind(token, handle);
        let connection = &mut self.connections[index];
        assert!(
            !connection.installing,
            "broken rule: an install of {token:?} is in flight already"
        );
        connection.installing = true;
        self.in_flight += 1;
        self.schedule(Step::Install(index));
    }

    pub(super) fn identify(&mut self, token: Token, handle: Handle) {
        let index = self.bind(token, handle);
        let connection = &mut self.connections[index];
        assert!(!connection.identifying, "broken rule: {token:?} is being identified already");
        connection.identifying = true;
        self.in_flight += 1;
        self.schedule(Step::Identify(index));
    }

    pub(super) fn close(&mut self, token: Token, handle: Handle, manner: Manner) {
        let index = self.bind(token, handle);
        let connection = &mut self.connections[index];
        if let Some(operation) = connection.in_flight() {
            panic!("broken rule: a close of {token:?} while {operation} is in flight");
        }
        connection.closing = Some(manner);
        self.in_flight += 1;
        self.schedule(Step::Close(index));
    }

    pub(super) fn wake_at(&mut self, when: Millis) {
        self.wake = self.wake.min(when);
    }

    pub(super) fn starved(&mut self, size: Size) {
        if size == Size::Large {
            return;
        }
        self.lent_max = (self.lent_max * 2).clamp(1, usize::from(self.config.buffers));
    }

    pub(super) fn enter(&mut self, pool: &Pool, wait: Wait) {
        while self.lent.len() < self.lent_max {
            let Some(vacant) = pool.take() else { break };
            self.lent.push(vacant);
        }
        self.lent_large.extend(std::iter::from_fn(|| pool.take_of(Size::Large)));
        loop {
            self.turn += 1;
            self.collect();
            if wait == Wait::No || !self.completed.is_empty() {
                return;
            }
            match self.next_event_at() {
                Some(at) => self.now = self.now.max(at),
                None => return,
            }
        }
    }

    /// The next completion; from here on its operation is no longer in flight.
    pub(super) fn complete(&mut self) -> Option<Completion> {
        let completion = self.completed.pop_front()?;
        match &completion {
            Completion::Accepted { listener, more: false, .. } => {
                self.listener(*listener).accepting = Accepting::Idle;
            }
            Completion::Received { connection, more: false, .. } => {
                self.landed(*connection).receiving = Receiving::Idle;
            }
            Completion::Sent { connection, .. } => self.landed(*connection).sending = Sending::Idle,
            Completion::Watched { connection, more: false, .. } => {
                self.landed(*connection).watching = Watching::Idle;
            }
            Completion::ShutDown { connection } => self.landed(*connection).shutting = false,
            Completion::Installed { connection, .. } => self.landed(*connection).installing = false,
            Completion::Identified { connection, .. } => {
                self.landed(*connection).identifying = false
            }
            Completion::Closed { connection } => {
                self.landed(*connection).token = None;
                self.tokens.remove(connection);
            }
            _ => {}
        }
        Some(completion)
    }

    fn landed(&mut self, token: Token) -> &mut Connection {
        self.in_flight -= 1;
        &mut self.connections[self.tokens[&token]]
    }

    /// The connection meant by a handle, which belongs to the first token it is used with until it
    /// is closed.
    fn bind(&mut self, token: Token, handle: Handle) -> usize {
        let Some(index) = self.table.get(handle.0 as usize).copied().flatten() else {
            panic!("broken rule: {token:?} uses {handle:?}, which is not open");
        };
        let connection = &mut self.connections[index];
        assert!(
            connection.closing.is_none(),
            "broken rule: {token:?} uses {handle:?}, which it has closed"
        );
        match connection.token {
            Some(owner) => {
                assert!(
                    owner == token,
                    "broken rule: {token:?} uses {handle:?}, which belongs to {owner:?}"
                );
            }
            None => {
                let before = self.tokens.insert(token, index);
                assert!(before.is_none(), "broken rule: {token:?} names two connections");
                connection.token = Some(token);
            }
        }
        index
    }

    fn listener(&mut self, listener: ListenerId) -> &mut Listener {
        let index = usize::from(listener.0);
        if index >= self.listeners.len() {
            self.listeners.resize_with(index + 1, Listener::default);
        }
        &mut self.listeners[index]
    }
}

// When: scheduling, and the run through what is due.
impl State {
    /// Whether this fault happens now; it is counted if it does.
    fn strikes(&mut self, fault: Fault) -> bool {
        let strikes = self.random.chance(self.config.faults.probability(fault));
        if strikes {
            self.count(fault);
        }
        strikes
    }

    fn count(&mut self, fault: Fault) {
        self.injected[fault as usize] += 1;
    }

    fn schedule(&mut self, step: Step) {
        let (mut at, mut turn) = (self.now, 0);
        if self.strikes(Fault::Delayed) {
            at += self.random.below(self.config.faults.delay_ms_max + 1);
            // Past the turn that comes next.
            turn = self.turn + 2;
        }
        self.schedule_at(at, turn, step);
    }

    fn schedule_at(&mut self, at: Millis, turn: u64, step: Step) {
        let order = self.random.number();
        self.scheduled.push(Reverse((at, turn, order, step)));
    }

    fn nudge_accept(&mut self, listener: usize) {
        if let Accepting::Armed { due: due @ false, .. } = &mut self.listeners[listener].accepting {
            *due = true;
            self.schedule(Step::Accept(listener));
        }
    }

    fn nudge_receive(&mut self, index: usize) {
        if let Receiving::Armed { due: due @ false, .. } = &mut self.connections[index].receiving {
            *due = true;
            self.schedule(Step::Receive(index));
        }
    }

    fn nudge_watch(&mut self, index: usize) {
        if let Watching::Armed { due: due @ false, .. } = &mut self.connections[index].watching {
            *due = true;
            self.schedule(Step::Watch(index));
        }
    }

    fn nudge_send(&mut self, index: usize) {
        if let Sending::Active(Outgoing { due: due @ false, .. }) =
            &mut self.connections[index].sending
        {
            *due = true;
            self.schedule(Step::Send(index));
        }
    }

    fn collect(&mut self) {
        let ticks = self.wake <= self.now;
        let ticks_first = ticks && self.random.chance(0.5);
        if ticks {
            self.wake = NEVER;
        }
        if ticks_first {
            self.completed.push_back(Completion::Tick);
        }
        while let Some(Reverse((at, turn, _, step))) = self.scheduled.peek().copied() {
            if at > self.now || turn > self.turn {
                break;
            }
            self.scheduled.pop();
            self.take(step);
        }
        if ticks && !ticks_first {
            self.completed.push_back(Completion::Tick);
        }
    }
}
