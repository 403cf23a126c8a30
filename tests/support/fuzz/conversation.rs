//! Conversations with a session without a kernel. The same bytes are said whole, one by one and in
//! pieces of many sizes, and what a handler promised is kept at once, as late as can be, or in
//! between: what comes out must depend on none of it.

use std::cell::RefCell;
use std::sync::Arc;

use upring::buffer::{Batch, Load, Pool};
use upring::config::Limits;
use upring::counters::Counters;
use upring::http::{CONTINUE, Response};
use upring::resource::Registry;
use upring::session::{Core, Port, Session};
use upring::upgrade::{CloseReason, ConnectionWaker, Decision, Promise};

const BUFFER_BYTES: usize = 64 * 1024;

/// A server: what it serves, and its bounds.
pub(super) type Serve = fn() -> (Registry, Limits);

/// Something a handler has put off.
pub(super) enum Later {
    Decision(Promise<Decision>, Decision),
    Answer(Promise<Response>, Response),
    Wake(ConnectionWaker),
}

thread_local! {
    static PUT_OFF: RefCell<Vec<Later>> = const { RefCell::new(Vec::new()) };
}

/// For handlers: has `what` happen later, sooner or later by the manner of the conversation.
pub(super) fn later(what: Later) {
    PUT_OFF.with_borrow_mut(|put_off| put_off.push(what));
}

/// Says `bytes` in every manner; the conversations must be alike.
pub(super) fn converse(
    bytes: &[u8],
    serve: Serve,
    are_alike: impl Fn(&Conversation, &Conversation) -> bool,
) {
    let bytes = &bytes[..bytes.len().min(BUFFER_BYTES)];
    let hash = bytes.iter().fold(1_u64, |hash, byte| hash.wrapping_mul(31) + u64::from(*byte));
    let whole = conversation(bytes, serve, Manner::Whole);
    for manner in [
        Manner::Single,
        Manner::Mixed { state: hash, piece_max: 60 },
        Manner::Mixed { state: !hash, piece_max: 1 + bytes.len() / 2 },
    ] {
        let other = conversation(bytes, serve, manner);
        assert!(are_alike(&whole, &other), "{manner:?}\n{whole}\n{other}");
    }
}

/// What came of a conversation.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Conversation {
    pub(super) output: Vec<u8>,
    pub(super) is_switched: bool,
    pub(super) is_closing: bool,
    pub(super) is_ended: bool,
}

impl std::fmt::Display for Conversation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Conversation { output, is_switched, is_closing, is_ended } = self;
        let output = output.escape_ascii();
        write!(f, "{output} switched {is_switched} closing {is_closing} ended {is_ended}")
    }
}

/// How bytes are said, and when what was put off happens.
#[derive(Debug, Clone, Copy)]
enum Manner {
    /// In one piece; at once.
    Whole,
    /// Byte by byte; when nothing else goes on.
    Single,
    /// In pieces of up to so many bytes; now and then.
    Mixed { state: u64, piece_max: usize },
}

impl Manner {
    fn piece(&mut self, left: usize) -> usize {
        match self {
            Manner::Whole => left,
            Manner::Single => 1,
            Manner::Mixed { piece_max, .. } => {
                // Many of them short: that is where most can go wrong.
                let piece_max = *piece_max;
                let bound = if self.chance() { piece_max } else { 4 };
                left.min(1 + self.number() % bound)
            }
        }
    }

    fn is_time(&mut self) -> bool {
        match self {
            Manner::Whole => true,
            Manner::Single => false,
            Manner::Mixed { .. } => self.chance(),
        }
    }

    fn chance(&mut self) -> bool {
        self.number() & 1 == 0
    }

    fn number(&mut self) -> usize {
        let Manner::Mixed { state, .. } = self else { return 0 };
        *state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (*state >> 33) as usize
    }
}

/// Says `bytes`, then ends.
fn conversation(bytes: &[u8], serve: Serve, mut manner: Manner) -> Conversation {
    let mut stage = Stage::open(serve);
    let mut rest = bytes;
    while !rest.is_empty() && !stage.is_over() {
        // As an engine does, who receives no more then.
        if stage.session.is_full(&stage.core.limits) {
            stage.catch_up();
            assert!(!stage.session.is_full(&stage.core.limits), "nothing goes on any more");
            continue;
        }
        let (piece, behind) = rest.split_at(manner.piece(rest.len()));
        rest = behind;
        let lease = stage.pool.take().expect("a session keeps no more than it may").fill(piece);
        stage.drive(|session, port| session.received(lease, port));
        if manner.is_time() {
            stage.catch_up();
        }
    }
    if !stage.is_over() {
        stage.drive(Session::ended);
        stage.catch_up();
    }
    stage.close()
}

/// One session, and a peer that reads at once.
struct Stage {
    core: Core,
    counters: Arc<Counters>,
    pool: Pool,
    session: Session,
    output: Vec<u8>,
}

impl Stage {
    fn open(serve: Serve) -> Stage {
        let (registry, limits) = serve();
        let counters = Arc::<Counters>::default();
        let pool = Pool::new(2 * limits.leases_max, BUFFER_BYTES as u32);
        let core = Core::new(registry, limits, Arc::clone(&counters), 0);
        Stage { session: Session::open(&core), core, counters, pool, output: Vec::new() }
    }

    fn is_over(&self) -> bool {
        self.session.control().is_closing || self.session.control().is_reset
    }

    /// Has everything happen that was put off, and what follows from it.
    fn catch_up(&mut self) {
        loop {
            let put_off = PUT_OFF.take();
            if put_off.is_empty() {
                return;
            }
            for one in put_off {
                match one {
                    Later::Decision(promise, decision) => promise.keep(decision),
                    Later::Answer(promise, response) => promise.keep(response),
                    Later::Wake(waker) => waker.wake(),
                }
            }
            while self.core.mailbox.take().is_some() {
                if !self.is_over() {
                    self.drive(Session::woken);
                }
            }
        }
    }

    /// One event, and all that follows from it when the peer reads at once.
    fn drive(&mut self, event: impl FnOnce(&mut Session, &mut Port<'_>)) {
        let Stage { core, session, output, .. } = self;
        let mut batch: Option<Box<Batch>> = None;
        core.begin_turn(core.now);
        event(
            session,
            &mut Port {
                core,
                batch: &mut batch,
                in_flight: Load::default(),
                key: 1,
                secured: None,
                is_securable: false,
            },
        );
        loop {
            let sent = batch.take().filter(|batch| !batch.is_empty());
            if let Some(sent) = &sent {
                sent.slices().for_each(|slice| output.extend_from_slice(slice));
            }
            core.begin_turn(core.now);
            let mut port = Port {
                core,
                batch: &mut batch,
                in_flight: Load::default(),
                key: 1,
                secured: None,
                is_securable: false,
            };
            match sent {
                Some(_) => session.sent(&mut port),
                None if session.has_more() => session.go_on(&mut port),
                None => return,
            }
        }
    }

    fn close(mut self) -> Conversation {
        let control = self.session.control();
        let conversation = Conversation {
            output: without_interim(&self.output),
            is_switched: self.session.is_switched(),
            is_closing: control.is_closing,
            is_ended: control.is_ended,
        };
        self.session.close(1, CloseReason::Finished, &mut self.core);
        drop(PUT_OFF.take());
        assert_eq!(self.pool.vacant(), self.pool.count(), "every buffer comes back");
        assert_eq!(self.counters.handler_panics.value(), 0, "a panic ends at the fence");
        let gauges = [&self.counters.upgrades_open, &self.counters.upgrades_deciding];
        assert_eq!(gauges.map(|gauge| gauge.value()), [0, 0]);
        conversation
    }
}

/// Whether a client waits for the 100 is a matter of time: what it has sent already it need not be
/// asked for.
fn without_interim(output: &[u8]) -> Vec<u8> {
    without(output, CONTINUE)
}

/// `bytes` without each `part`.
pub(super) fn without(bytes: &[u8], part: &[u8]) -> Vec<u8> {
    let mut kept = Vec::new();
    let mut rest = bytes;
    while let Some(at) = rest.windows(part.len()).position(|window| window == part) {
        kept.extend_from_slice(&rest[..at]);
        rest = &rest[at + part.len()..];
    }
    kept.extend_from_slice(rest);
    kept
}
