//! A connection whose network is a vector, for tests of sessions and of the handlers they are switched
//! to.

use std::sync::Arc;

use super::{Core, Port, Session};
use crate::buffer::{Batch, Load, Pool};
use crate::config::{Limits, Millis, NEVER};
use crate::counters::Counters;
use crate::resource::Registry;

pub(crate) struct Scene {
    pub(crate) core: Core,
    pub(crate) counters: Arc<Counters>,
    pub(crate) pool: Pool,
    pub(crate) session: Session,
    pub(crate) batch: Option<Box<Batch>>,
    pub(crate) in_flight: Load,
}

impl Scene {
    pub(crate) fn serving(registry: Registry, limits: Limits) -> Scene {
        let counters = Arc::<Counters>::default();
        let core = Core::new(registry, limits, Arc::clone(&counters), 0);
        let session = Session::open(&core);
        let (pool, in_flight) = (Pool::new(64, 4096), Load::default());
        Scene { core, counters, pool, session, batch: None, in_flight }
    }

    pub(crate) fn call(&mut self, handle: impl FnOnce(&mut Session, &mut Port<'_>)) {
        let Scene { core, batch, in_flight, .. } = self;
        core.begin_turn(core.now);
        handle(
            &mut self.session,
            &mut Port {
                core,
                batch,
                in_flight: *in_flight,
                key: 1,
                secured: None,
                is_securable: false,
            },
        );
    }

    pub(crate) fn receive(&mut self, text: impl AsRef<[u8]>) {
        for piece in text.as_ref().chunks(4096) {
            let lease = self.pool.take().expect("a buffer").fill(piece);
            self.call(|session, port| session.received(lease, port));
        }
    }

    /// Delivers the wakes of promises kept meanwhile.
    pub(crate) fn wake(&mut self) {
        while self.core.mailbox.take().is_some() {
            self.call(|session, port| session.woken(port));
        }
    }

    /// Lets time pass up to the deadline, and says how much that was.
    pub(crate) fn expire(&mut self) -> Millis {
        let deadline = self.session.control().deadline;
        assert_ne!(deadline, NEVER, "there is a deadline");
        let millis = deadline - std::mem::replace(&mut self.core.now, deadline);
        self.call(|session, port| session.deadline_reached(port));
        millis
    }

    /// Everything written since the last call.
    pub(crate) fn sent_bytes(&mut self) -> Vec<u8> {
        let batch = self.batch.take().unwrap_or_default();
        batch.slices().flatten().copied().collect()
    }

    /// The same, as text.
    pub(crate) fn sent(&mut self) -> String {
        String::from_utf8(self.sent_bytes()).expect("the tests speak ASCII")
    }

    /// Has everything written leave, and what follows from that, until nothing more does.
    pub(crate) fn exchange(&mut self) -> String {
        let mut all = self.sent();
        loop {
            self.call(|session, port| session.sent(port));
            while self.session.has_more() {
                self.call(|session, port| session.go_on(port));
            }
            match self.sent() {
                nothing if nothing.is_empty() => return all,
                more => all += &more,
            }
        }
    }

    /// The statuses of everything written since the last call.
    pub(crate) fn statuses(&mut self) -> Vec<u16> {
        let sent = self.sent();
        let lines = sent.split("HTTP/1.1 ").skip(1);
        lines.map(|line| line[..3].parse().expect("a status")).collect()
    }

    pub(crate) fn is_closing(&self) -> bool {
        self.session.control().is_closing
    }

    /// The names of the upgrade counters that are not zero, and how much they are; gauges left out.
    pub(crate) fn results(&self) -> Vec<(&'static str, u64)> {
        let gauges = ["upgrades_open", "upgrades_deciding"];
        let is_result = |name: &str| name.starts_with("upgrades_") && !gauges.contains(&name);
        self.counters.each().filter(|(name, count)| is_result(name) && *count > 0).collect()
    }
}
