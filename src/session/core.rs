//! What the connections of one core share, and the port through which one connection's session
//! reaches it.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use super::Addresses;
use super::times::Times;
use crate::access::Recorder;
use crate::buffer::{Batch, Lease, Ledger, Load, Outbox};
use crate::config::{Limits, Millis, NEVER};
use crate::counters::{Counters, Nanos, Time, TokenSlot, UpgradeResult};
use crate::http::{ChunkLimits, Date, Field, HeadLimits, Secured, Status};
use crate::resource::Registry;
use crate::tls::{Alarm, Offload};
use crate::upgrade::{Control, Io, Mailbox, Spawn};

/// What the sessions of one core share: start-up data, the time, and memory that is used again.
pub struct Core {
    /// What is served: this core's own copy of the table, so that cores share no reference count.
    pub registry: Rc<Registry>,
    /// The bounds.
    pub limits: Limits,
    /// This core's counters.
    pub counters: Arc<Counters>,
    /// This second, as the Date field says it.
    pub date: Date,
    /// The time of this turn.
    pub now: Millis,
    pub(super) times: Times,
    /// Tells this turn from those before and after it.
    pub(super) turn: u8,
    /// What was [spent](Core::spend) in it on all connections.
    pub(super) spent_in_turn: u32,
    /// The last turn had not time enough for what had come, or for what was left over.
    pub is_crowded: bool,
    /// So few receive buffers are left that handlers get none of them to keep.
    pub is_short_of_buffers: bool,
    /// Whose connections they are, of those of which that is known.
    pub addresses: Addresses,
    /// Makes the lines of the access log, if there is one.
    pub access: Option<Box<Recorder>>,
    /// Connections whose header has come, by their keys: the engine says whether they are let in.
    pub introduced: Vec<u64>,
    /// All that came in this turn has been looked at.
    are_arrivals_over: bool,
    /// When the last TLS handshake was begun, and whether in this turn.
    shaken_at: Millis,
    has_shaken: bool,
    /// TLS handshakes that hold something.
    handshakes_held: u32,
    /// Makes the steps of handshakes that take long.
    pub(crate) offload: Option<Offload>,
    /// Says when much of TLS fails.
    pub(crate) tls_alarm: Alarm,
    /// Who wants attention.
    pub mailbox: Rc<Mailbox>,
    /// Runs futures on this core, if the host has a runtime.
    pub spawn: Option<Spawn>,
    /// Whether the server is stopping: answers close their connection.
    pub is_draining: bool,
    /// When it cuts what is left then.
    pub cut_at: Millis,
    /// Emptied batches.
    pub(crate) batches: Vec<Box<Batch>>,
    pub(super) fields: Vec<Field>,
    pub(super) assemblies: Vec<Vec<u8>>,
}

/// Spare memory a core keeps of each kind: enough for as many connections as are likely to be busy
/// in the same turn, or each one above would allocate anew (three times for an answer: batch,
/// pieces, text). 4 MiB at most, when each is full.
const SPARE_MAX: usize = 1024;
const SPARE_BYTES_MAX: usize = 4096;

/// Larger ones, of which only pipelines and encoders need some: another 4 MiB at most.
const SPARE_LARGE_MAX: usize = 64;

/// What a request costs, in the unit in which a turn's work is measured: about a tenth of a
/// microsecond.
const REQUEST_COST: u32 = 8;

/// What the beginning of a TLS handshake costs, in the same unit.
const HANDSHAKE_COST: u32 = 1500;

/// Behind so much a turn has done enough, once of what has come and once of what was left over: 512
/// requests, a fraction of a millisecond.
const COST_PER_TURN: u32 = 512 * REQUEST_COST;

/// What one connection may have then, in the turn in which its bytes come: more than clients that do
/// not mean to fill a server pipeline.
const CROWDED_REQUESTS_PER_TURN: u8 = 16;

/// How long the first request of a connection, or the rest of a head, may be on its way when the server stops: a
/// client that has connected sends it within a round trip or two.
const FIRST_REQUEST_MS: u64 = 1000;

/// Whether another spare one of so many bytes is kept beside `count` others.
fn is_worth_keeping(count: usize, bytes: usize) -> bool {
    count < if bytes > SPARE_BYTES_MAX { SPARE_LARGE_MAX } else { SPARE_MAX }
}

impl Core {
    /// A core that serves `registry`.
    pub fn new(
        mut registry: Registry,
        limits: Limits,
        counters: Arc<Counters>,
        unix_seconds: u64,
    ) -> Core {
        registry.place_tokens(&counters.upgrades);
        let core = Core {
            registry: Rc::new(registry),
            limits,
            counters,
            date: Date::at(unix_seconds),
            now: 0,
            times: Times::new(),
            turn: 0,
            spent_in_turn: 0,
            are_arrivals_over: false,
            shaken_at: 0,
            has_shaken: false,
            handshakes_held: 0,
            offload: None,
            tls_alarm: Alarm::default(),
            is_crowded: false,
            is_short_of_buffers: false,
            addresses: Addresses::default(),
            access: None,
            introduced: Vec::new(),
            mailbox: Rc::default(),
            spawn: None,
            is_draining: false,
            cut_at: NEVER,
            batches: Vec::with_capacity(SPARE_MAX),
            fields: Vec::with_capacity(64),
            assemblies: Vec::with_capacity(SPARE_MAX),
        };
        core.mailbox.set_counters(Arc::clone(&core.counters));
        core
    }

    /// Serves something else from here on. A request that waits is answered by what it was found in.
    pub fn renew(&mut self, mut registry: Registry, limits: Limits) {
        registry.place_tokens(&self.counters.upgrades);
        self.registry = Rc::new(registry);
        self.limits = limits;
        self.mailbox.forget_unused();
    }

    /// Begins a turn of the engine: every connection has its share of it anew.
    pub fn begin_turn(&mut self, now: Millis) {
        self.begin_turn_at(Time::of(now));
    }

    /// The same, by a clock that is finer, too.
    #[inline]
    pub(crate) fn begin_turn_at(&mut self, now: Time) {
        self.now = now.millis;
        self.times.begin(now.nanos);
        self.turn = self.turn.wrapping_add(1);
        self.spent_in_turn = 0;
        (self.are_arrivals_over, self.has_shaken) = (false, false);
    }

    /// Whether so much was done in this half of the turn that the rest had better wait: who comes next
    /// waits for all of it.
    pub fn has_done_enough(&self) -> bool {
        self.spent_in_turn >= COST_PER_TURN
    }

    /// Ends the half of a turn that is for what has come: as much again is for what was left over.
    pub fn end_arrivals(&mut self) {
        self.is_crowded = self.has_done_enough();
        self.spent_in_turn = 0;
        self.are_arrivals_over = true;
    }

    /// Ends the other half.
    pub fn end_leftovers(&mut self) {
        self.is_crowded |= self.has_done_enough();
    }

    /// Milliseconds a connection may wait for a request. When the server stops it is one that has been
    /// accepted and not used, and only as long as a request may be on its way.
    pub(super) fn request_timeout_ms(&self) -> u64 {
        self.as_long_as_it_serves(self.limits.idle_timeout_ms)
    }

    /// And for the rest of its head.
    pub(super) fn head_timeout_ms(&self) -> u64 {
        self.as_long_as_it_serves(self.limits.head_timeout_ms)
    }

    fn as_long_as_it_serves(&self, usual: u64) -> u64 {
        if self.is_draining { usual.min(FIRST_REQUEST_MS) } else { usual }
    }

    /// Whether something was answered whose time is to be counted: then [`end_turn`](Core::end_turn)
    /// wants to know it.
    pub(crate) fn has_answers(&self) -> bool {
        self.times.has_answers()
    }

    /// Counts the time that what was answered in this turn took.
    pub(crate) fn end_turn(&mut self, now: Nanos) {
        self.times.end(now, &self.counters.request_times);
        if let Some(access) = &mut self.access {
            access.finish(now);
        }
    }

    /// Ends the turn for the access log: its lines are the writer's.
    #[inline]
    pub fn hand_over_log(&mut self) {
        if let Some(access) = &mut self.access {
            access.hand_over(&self.counters);
        }
    }

    /// Counts an answer to the request that is looked at: the one place where that is done.
    pub(super) fn count_answer(&mut self, status: Status) {
        self.counters.requests.raise();
        self.counters.statuses.raise(status.code());
        self.times.note_answer(&self.counters.request_times);
        if let Some(access) = &self.access {
            access.note_answer(status.code());
        }
    }

    /// Counts what became of an offer that names a registered protocol: the one place where that is
    /// done.
    pub(super) fn count_upgrade(&self, token: TokenSlot, result: UpgradeResult) {
        let counters = &self.counters;
        match result {
            UpgradeResult::Switched => &counters.upgrades_switched,
            UpgradeResult::Declined => &counters.upgrades_declined,
            UpgradeResult::Unfit => &counters.upgrades_unfit,
            UpgradeResult::EarlyBytesRefused => &counters.upgrades_early_bytes_refused,
            UpgradeResult::Timeout => &counters.upgrades_timeout,
        }
        .raise();
        counters.upgrades.raise(token, result);
        if let Some(access) = &self.access {
            access.note_upgrade(Some(token), result.name());
        }
    }

    /// Requests of one connection that may be begun in this turn.
    pub(super) fn requests_per_connection(&self) -> u8 {
        let usual = self.limits.requests_per_turn;
        let is_crowded = self.is_crowded || self.has_done_enough();
        if is_crowded { usual.min(CROWDED_REQUESTS_PER_TURN) } else { usual }
    }

    /// What the handler of one connection may do now, in [costs](Core::spend).
    pub(crate) fn cost_per_connection(&self) -> u32 {
        u32::from(self.requests_per_connection()) * REQUEST_COST
    }

    /// Notes that a request was begun, or a connection.
    pub(crate) fn note_begun(&mut self) {
        self.spend(REQUEST_COST);
    }

    /// Whether a step of a TLS handshake may be made here and now that takes long: the signature and the agreement
    /// on a key take longer than anything else that is done in a turn, and whoever has a connection waits for
    /// them. So they are for a thread beside the core, if it has one that gets its time; and otherwise one a
    /// turn, behind what has come, or one a millisecond where turns are full.
    pub(crate) fn may_shake(&self) -> bool {
        let has_time = !self.is_crowded || self.shaken_at < self.now;
        let is_ours = self.offload.as_ref().is_none_or(|offload| offload.has_no_time(self.now));
        self.are_arrivals_over && !self.has_shaken && has_time && is_ours
    }

    /// Whether the thread beside the core has handshakes to make that it has no time for.
    pub(crate) fn is_offload_late(&self) -> bool {
        self.offload.as_ref().is_some_and(|offload| offload.has_no_time(self.now))
    }

    /// Whether there is room for another handshake (`tls_handshakes_max`).
    pub(crate) fn has_room_for_handshake(&self) -> bool {
        self.handshakes_held < self.limits.tls_handshakes_max
    }

    /// One has begun to hold something.
    pub(crate) fn hold_handshake(&mut self) {
        self.handshakes_held += 1;
    }

    /// It holds nothing any more.
    pub(crate) fn release_handshake(&mut self) {
        debug_assert!(self.handshakes_held > 0, "each is held once");
        self.handshakes_held -= 1;
    }

    /// Whether [another](Core::may_shake) may be given to the thread beside.
    pub(crate) fn may_lend(&self) -> bool {
        self.offload.as_ref().is_some_and(|offload| offload.has_room(self.now))
    }

    /// A TLS handshake was begun.
    pub(crate) fn note_shaken(&mut self) {
        (self.shaken_at, self.has_shaken) = (self.now, true);
        self.spend(HANDSHAKE_COST);
    }

    /// What was [spent](Core::spend) in this half of the turn.
    pub(crate) fn spent(&self) -> u32 {
        self.spent_in_turn
    }

    /// Notes work of so many tenths of a microsecond, as a rule of thumb.
    pub(crate) fn spend(&mut self, cost: u32) {
        self.spent_in_turn = self.spent_in_turn.saturating_add(cost);
    }

    /// Received bytes as a handler may have them: it may keep what it is given, and whoever keeps
    /// buffers when few are left would keep the core from receiving.
    pub(super) fn lendable(&self, bytes: Lease) -> Lease {
        if !self.is_short_of_buffers || !bytes.is_shared() || bytes.is_large() {
            return bytes;
        }
        self.counters.bytes_set_aside.add(bytes.len() as u64);
        Lease::copied(std::iter::once(&*bytes))
    }

    /// Keeps an emptied batch for the next connection that writes.
    pub fn recycle(&mut self, mut batch: Box<Batch>) {
        batch.clear();
        if is_worth_keeping(self.batches.len(), batch.text_capacity()) {
            self.batches.push(batch);
        }
    }

    /// What all connections may hold of content that has not come whole.
    pub(super) fn ledger(&self) -> Ledger<'_> {
        Ledger { counters: &self.counters, bytes_max: self.limits.collected_bytes_max }
    }

    pub(super) fn head_limits(&self) -> HeadLimits {
        HeadLimits {
            fields_max: self.limits.fields_max,
            target_bytes_max: self.limits.target_bytes_max,
        }
    }

    pub(super) fn chunk_limits(&self) -> ChunkLimits {
        ChunkLimits {
            extension_bytes_max: self.limits.chunk_extension_bytes_max,
            trailer_bytes_max: self.limits.trailer_bytes_max,
        }
    }

    pub(super) fn keep_assembly(&mut self, mut bytes: Vec<u8>) {
        bytes.clear();
        // One that never held anything would be handed out as warm and is not.
        if bytes.capacity() > 0 && is_worth_keeping(self.assemblies.len(), bytes.capacity()) {
            self.assemblies.push(bytes);
        }
    }
}

/// One connection's access to its core and to its outbox, for the length of one event.
pub struct Port<'a> {
    /// The core.
    pub core: &'a mut Core,
    /// What the connection writes in this turn.
    pub batch: &'a mut Option<Box<Batch>>,
    /// What it wrote in earlier turns and the kernel still holds.
    pub in_flight: Load,
    /// What the engine knows the connection by.
    pub key: u64,
    /// What its TLS has agreed on, if it is inside one.
    pub secured: Option<&'a Arc<Secured>>,
    /// It is in the clear, and may be switched to TLS (RFC 2817).
    pub is_securable: bool,
}

impl Port<'_> {
    /// Whose connection it is, if that is known.
    #[inline]
    pub fn client(&self) -> Option<SocketAddr> {
        self.core.addresses.of(self.key)
    }

    /// Whether so much waits to be sent that no more should be produced from input.
    pub(super) fn is_full(&self) -> bool {
        let here = self.batch.as_ref().map_or(Load::default(), |batch| batch.load());
        let Load { bytes, leases } = self.in_flight;
        let queued = Load { bytes: bytes + here.bytes, leases: leases + here.leases };
        let Limits { outbox_bytes_high, leases_max, .. } = self.core.limits;
        queued.reaches(Load { bytes: outbox_bytes_high, leases: leases_max })
    }

    pub(super) fn outbox(&mut self) -> Outbox<'_> {
        Outbox::new(
            self.batch,
            &mut self.core.batches,
            self.in_flight,
            self.core.limits.outbox_bytes_max,
        )
    }

    /// A handler's grip on the connection for one call, which has no share of the turn that ends; and
    /// the date, which answers have.
    pub(super) fn grip<'io>(
        &'io mut self,
        control: &'io mut Control,
        rest: &'io mut Option<Lease>,
    ) -> (Io<'io>, &'io Date) {
        let Core { batches, limits, counters, mailbox, spawn, now, date, spent_in_turn, .. } =
            &mut *self.core;
        let io = Io {
            outbox: Outbox::new(self.batch, batches, self.in_flight, limits.outbox_bytes_max),
            control,
            rest,
            limits,
            counters,
            mailbox,
            spawn: spawn.as_ref(),
            key: self.key,
            now: *now,
            spent: spent_in_turn,
            share_end: u32::MAX,
        };
        (io, date)
    }

    /// Appends to the outbox what `write` makes of the time.
    pub(super) fn with_text(&mut self, write: impl FnOnce(&mut Vec<u8>, &Date)) {
        let Core { batches, date, limits, .. } = &mut *self.core;
        let mut outbox = Outbox::new(self.batch, batches, self.in_flight, limits.outbox_bytes_max);
        outbox.append(|text| write(text, date));
    }
}
