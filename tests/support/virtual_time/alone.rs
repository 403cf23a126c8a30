//! A session by itself: what an engine does for it in a few lines, with a network that never fails.

use std::collections::VecDeque;
use std::sync::Arc;

use upring::buffer::{Batch, Load, Pool};
use upring::config::NEVER;
use upring::counters::Counters;
use upring::session::{Core, Port, Session};
use upring::upgrade::CloseReason;

use crate::conformance::{Case, Collected, Ending, Peer, Target, Wait};
use crate::fixture::{Routed, Setting, Tasks};

const BUFFERS: u16 = 64;
const BUFFER_BYTES: u32 = 1024;
const KEY: u64 = 7;

/// The session alone.
#[derive(Default)]
pub struct Alone {
    routed: Routed,
    setting: Setting,
}

impl Target for Alone {
    fn name(&self) -> &str {
        "the session alone"
    }

    fn supports(&self, case: &Case) -> Result<(), String> {
        super::setting_for(case).map(|_| ())
    }

    fn prepare(&mut self, case: &Case) {
        self.setting = super::setting_for(case).expect("the case is supported");
    }

    fn connect(&mut self) -> Box<dyn Peer> {
        let (tasks, counters) = (Tasks::default(), Arc::default());
        let (registry, limits) = (self.setting.registry(&self.routed), self.setting.limits());
        let mut core = Core::new(registry, limits, Arc::clone(&counters), 0);
        core.spawn = Some(tasks.spawn());
        tasks.run(core.now);
        Box::new(Connection {
            session: Session::open(&core),
            core,
            counters,
            tasks,
            pool: Pool::new(BUFFERS, BUFFER_BYTES),
            batch: None,
            inbox: VecDeque::new(),
            finishing: Finishing::No,
            sent: Vec::new(),
            ending: Ending::Open,
        })
    }

    fn routed_log(&mut self) -> Vec<String> {
        self.routed.take()
    }
}

struct Connection {
    core: Core,
    counters: Arc<Counters>,
    tasks: Tasks,
    pool: Pool,
    session: Session,
    batch: Option<Box<Batch>>,
    /// Sent by the client and not received.
    inbox: VecDeque<Vec<u8>>,
    finishing: Finishing,
    /// Sent by the session.
    sent: Vec<u8>,
    /// Of the session's direction.
    ending: Ending,
}

/// The end of the client's direction.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Finishing {
    No,
    /// Behind the inbox.
    Wanted,
    Told,
}

impl Connection {
    fn call(&mut self, handle: impl FnOnce(&mut Session, &mut Port<'_>)) {
        let in_flight = Load::default();
        self.core.begin_turn(self.core.now);
        let mut port = Port {
            core: &mut self.core,
            batch: &mut self.batch,
            in_flight,
            key: KEY,
            secured: None,
            is_securable: false,
        };
        handle(&mut self.session, &mut port);
        self.send();
    }

    /// Carries what was written, at once and whole, until the session has nothing to add.
    fn send(&mut self) {
        while let Some(batch) = self.batch.take() {
            assert!(!batch.is_overflowed(), "the rows do not overflow an outbox");
            let before = self.sent.len();
            self.sent.extend(batch.slices().flatten());
            assert!(self.ending == Ending::Open || self.sent.len() == before, "bytes behind FIN");
            self.core.recycle(batch);
            let (core, batch) = (&mut self.core, &mut self.batch);
            self.session.sent(&mut Port {
                core,
                batch,
                in_flight: Load::default(),
                key: KEY,
                secured: None,
                is_securable: false,
            });
        }
        self.end();
    }

    /// Sees what the session wants of its connection.
    fn end(&mut self) {
        if self.ending == Ending::Reset {
            return;
        }
        let control = self.session.control();
        if control.is_reset {
            self.ending = Ending::Reset;
            self.session.close(KEY, CloseReason::HandlerReset, &mut self.core);
        } else if control.is_closing || control.is_ended {
            self.ending = Ending::Finished;
        }
    }

    /// Whether the client's bytes are read and thrown away, or nobody reads them at all.
    fn is_over(&self) -> bool {
        self.ending == Ending::Reset || self.session.control().is_closing
    }

    /// Everything that can be done now.
    fn settle(&mut self) {
        loop {
            self.tasks.run(self.core.now);
            if self.is_over() {
                self.inbox.clear();
                return;
            } else if self.core.mailbox.take().is_some() || self.session.has_more() {
                self.call(|session, port| session.woken(port));
            } else if self.session.control().deadline <= self.core.now {
                self.call(|session, port| session.deadline_reached(port));
            } else if !self.receive() {
                return;
            }
        }
    }

    /// Receives one buffer, or the end; false if there is neither, or the session is full.
    fn receive(&mut self) -> bool {
        if self.session.is_full(&self.core.limits) {
            return false;
        }
        if let Some(mut segment) = self.inbox.pop_front() {
            let rest = segment.split_off(segment.len().min(BUFFER_BYTES as usize));
            if !rest.is_empty() {
                self.inbox.push_front(rest);
            }
            let lease = self.pool.take().expect("a full session is not fed").fill(&segment);
            self.call(|session, port| session.received(lease, port));
            return true;
        }
        let is_due = self.finishing == Finishing::Wanted;
        if is_due {
            self.finishing = Finishing::Told;
            self.call(|session, port| session.ended(port));
        }
        is_due
    }

    /// Lets time pass up to what happens next, or to `end`; false if that has come.
    fn pass(&mut self, end: u64) -> bool {
        self.settle();
        let deadline = if self.is_over() { NEVER } else { self.session.control().deadline };
        let next = self.tasks.next_at().unwrap_or(NEVER).min(deadline).min(end);
        let goes_on = self.core.now < end;
        self.core.now = self.core.now.max(next);
        goes_on
    }
}

impl Peer for Connection {
    fn send(&mut self, bytes: &[u8]) {
        self.inbox.push_back(bytes.to_vec());
        self.settle();
    }

    fn wait_ms(&mut self, ms: u64) {
        let end = self.core.now + ms;
        while self.pass(end) {}
        self.settle();
    }

    fn finish(&mut self) {
        self.finishing = Finishing::Wanted;
        self.settle();
    }

    fn collect(&mut self, wait: &dyn Fn(&[u8]) -> Wait) -> Collected {
        let start = self.core.now;
        self.settle();
        while self.ending == Ending::Open && self.pass(start + super::millis(wait(&self.sent))) {}
        Collected { bytes: self.sent.clone(), ending: self.ending }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        self.session.close(KEY, CloseReason::PeerReset, &mut self.core);
        super::assert_all_closed(&self.counters, "the session alone");
        assert_eq!(self.pool.vacant(), self.pool.count(), "every buffer is given back");
    }
}
