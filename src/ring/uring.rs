//! The real kernel: one core's io_uring, made and used on one thread. The engine asks through
//! [`Kernel`]; nothing else submits to this ring or reaps from it.
//!
//! ```text
//!   receive, send, ... ──► submission queue ──► enter() ──► kernel
//!                                                  │
//!   Completion ◄── complete() ◄── completion queue ◄┘      buffers: lent at each enter, back with completions
//! ```
//!
//! **What the kernel may still touch is owned by the ring and freed only when nothing is in flight**: buffers by
//! [`BufferRing`], batches by [`InFlight`], peers' names by [`Names`], the timer's time by the ring itself.

use std::collections::VecDeque;
use std::mem::{self, ManuallyDrop};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering, fence};
use std::time::Duration;
use std::{fmt, io, thread};

use io_uring::squeue::{Entry, Flags};
use io_uring::types::{CancelBuilder, Fd, SubmitArgs, TimeoutFlags, Timespec};
use io_uring::{CompletionQueue, EnterFlags, IoUring, SubmissionQueue, Submitter, cqueue, opcode};
use socket2::SockRef;

use super::buffers::BufferRing;
use super::clock::Clock;
use super::control::{Control, new_eventfd};
use super::error::{self, SetupError, errno};
use super::inflight::{InFlight, Pace};
use super::peers::{self, Names};
use super::probe::Features;
use super::restrict;
use super::setup;
use super::tier::{self, Tier};
use super::user_data::{Kind, UserData};
use super::{
    Accepts, Completion, Errno, FEW, Handle, Kernel, ListenerId, Manner, Millis, NEVER, Receipts,
    Token, Wait,
};
use rustix::event::{PollFd, PollFlags, poll};

use crate::buffer::{Batch, Pool, Size};
use crate::config::{Limits, RingConfig};
use crate::counters::{Counters, Time};

/// How long a ring that is dropped waits for what is in flight.
const QUIET_MS_MAX: Millis = 1000;

/// How often, a millisecond apart, a full submission queue is offered to a kernel that has no
/// memory to take it.
const OFFERS_MAX: u32 = 100;

/// How long a sleep lasts at most that does not end for the sends it begins with: as long as the
/// rest of one that came out short waits to be sent. Short enough not to be felt, long enough to
/// cost nothing under load.
const UNHEEDED_MS_MAX: Millis = 10;

/// Direct descriptors that have an ordinary one at the same time, to be shut: they must not fill a table
/// that others need (a drain shuts thousands in one turn).
const SHUTTING_MAX: usize = 8;

/// What a ring has counted since it was made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RingCounters {
    /// Calls of `io_uring_enter`.
    pub enters: u64,
    /// Times the completion queue was found too small: multishots may have ended for it.
    pub overflows: u64,
    /// Receives that found no buffer.
    pub starvations: u64,
    /// Multishots that ended though nothing was wrong with their socket: each has to be armed
    /// again.
    pub multishots_ended: u64,
    /// Calls the kernel put off for want of memory.
    pub refusals: u64,
}

/// One core's io_uring. It lives on the thread that made it.
pub struct Ring<'r> {
    submitter: Submitter<'r>,
    submissions: SubmissionQueue<'r>,
    completions: CompletionQueue<'r>,
    /// Freed by `drop`, once the kernel is done with them.
    buffers: ManuallyDrop<BufferRing>,
    large: Option<ManuallyDrop<BufferRing>>,
    sends: InFlight,
    /// `None` once it was let go of.
    listeners: Vec<Option<OwnedFd>>,
    /// Accepts of one connection that are in flight on each of them.
    few_left: Vec<u8>,
    names: Names,
    /// Direct descriptors that wait for an ordinary one, to be shut, in the order in which it was asked for.
    shutting: VecDeque<(Token, Handle)>,
    tier: Tier,
    connections_max: u32,
    registered: bool,
    enter_flags: EnterFlags,
    /// Sends queued for the next enter that complete within it and need not end its sleep.
    sends_unheeded: u32,
    /// Whether the last send asked for completes within the next enter.
    is_last_at_once: bool,
    /// Submissions whose final completion has not been taken.
    in_flight: usize,
    /// Completions of what was done without the queue.
    done: VecDeque<Completion>,
    clock: Clock,
    timer: Timer,
    control: Control,
    wake: Option<Arc<OwnedFd>>,
    /// Those of the core.
    counters: Arc<Counters>,
    /// Receives of any size that found no buffer.
    starvations: u64,
    /// Why nothing can be submitted any more.
    failure: Option<io::Error>,
    closing: bool,
}

/// The one timeout of a ring.
struct Timer {
    /// When it completes, [`NEVER`] if none is armed.
    at: Millis,
    /// Read by the kernel when it takes the submission.
    time: Box<Timespec>,
    /// Whether the kernel has still to read it: then a new time needs no new submission.
    unread: bool,
}

impl<'r> Ring<'r> {
    /// Makes a ring of `uring`, which [`setup::build`] made, with its listeners and buffers, and enables it:
    /// the calling thread is the one that submits. The number of buffers is rounded up to a power of two.
    ///
    /// # Errors
    /// The kernel refuses something that is needed; optional features it lacks are done without.
    pub fn new(
        uring: &'r mut IoUring,
        config: &RingConfig,
        limits: &Limits,
        listeners: Vec<OwnedFd>,
    ) -> Result<Ring<'r>, SetupError> {
        let features = Features::find()?.without(config.without);
        let (tier, connections_max) = choose_tier(uring, features, limits.connections_max);
        let mut enter_flags = EnterFlags::GETEVENTS;
        if uring.params().is_feature_no_iowait() {
            // A core that waits for clients is idle, not waiting for a disk.
            enter_flags |= EnterFlags::NO_IOWAIT;
        }
        let pool = new_pool(config);
        let buffers = BufferRing::new(pool.clone(), Size::Usual, config.buffers_lent);
        let has_large = pool.count_of(Size::Large) > 0;
        let large = has_large.then(|| BufferRing::new(pool, Size::Large, config.large_lent));
        let control = Control::new().map_err(|error| SetupError::ring("eventfd", &error))?;
        // Once: only the submitter that registers the ring's descriptor remembers it.
        let (mut submitter, submissions, completions) = uring.split();
        let (buffers, large) = (ManuallyDrop::new(buffers), large.map(ManuallyDrop::new));
        for ring in std::iter::once(&buffers).chain(&large) {
            // SAFETY: once registered they are freed by `Ring::drop` only, after they were
            // unregistered; where there will be no ring, never.
            unsafe { ring.register(&submitter) }
                .map_err(|error| SetupError::ring("io_uring_register(PBUF_RING)", &error))?;
        }
        let registered = features.registered_ring && submitter.register_ring_fd().is_ok();
        if features.restrictions
            && let Err(error) = restrict::confine(&submitter, tier)
        {
            tracing::warn!(%error, "the ring is not confined to what this server asks of it");
        }
        restrict::enable(&submitter)?;
        let mut ring = Ring {
            submitter,
            submissions,
            completions,
            buffers,
            large,
            sends: InFlight::default(),
            names: Names::of(&listeners),
            few_left: vec![0; listeners.len()],
            listeners: listeners.into_iter().map(Some).collect(),
            shutting: VecDeque::new(),
            tier,
            connections_max,
            registered,
            enter_flags,
            sends_unheeded: 0,
            is_last_at_once: false,
            in_flight: 0,
            done: VecDeque::new(),
            clock: Clock::start(),
            timer: Timer { at: NEVER, time: Box::default(), unread: false },
            control,
            wake: None,
            counters: Arc::default(),
            starvations: 0,
            failure: None,
            closing: false,
        };
        ring.watch_control();
        Ok(ring)
    }

    /// What handles are on this ring.
    pub fn tier(&self) -> Tier {
        self.tier
    }

    /// Connections this ring can have at once: what was configured, or what the limit on
    /// descriptors leaves of it.
    pub fn connections_max(&self) -> u32 {
        self.connections_max
    }

    /// What has been counted.
    pub fn counters(&self) -> RingCounters {
        RingCounters {
            enters: self.counters.ring_enters.value(),
            overflows: self.counters.ring_overflows.value(),
            starvations: self.starvations,
            multishots_ended: self.counters.multishots_ended.value(),
            refusals: self.counters.ring_refusals.value(),
        }
    }

    /// Counts with those of the core from here on.
    pub fn count_in(&mut self, counters: Arc<Counters>) {
        self.counters = counters;
    }

    /// How other threads get this core's attention.
    pub fn control(&self) -> Control {
        self.control.clone()
    }

    /// Takes in a connection that was not accepted here: a client's. It is this ring's until it is closed
    /// through [`Kernel::close`].
    ///
    /// # Errors
    /// [`Unsupported`](io::ErrorKind::Unsupported) on a ring with direct descriptors, whose places are
    /// given by accepting alone.
    pub fn adopt(&mut self, connection: OwnedFd) -> io::Result<Handle> {
        match self.tier {
            Tier::Direct => Err(io::ErrorKind::Unsupported.into()),
            Tier::Plain => Ok(Handle(connection.into_raw_fd().cast_unsigned())),
        }
    }

    /// Makes the descriptor that tells a host's own reactor when this ring has work; silent until
    /// [`arm_wake`](Ring::arm_wake). It never has to be read: every wake is an edge.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn register_wake(&mut self) -> Result<Arc<OwnedFd>, SetupError> {
        if let Some(wake) = &self.wake {
            return Ok(wake.clone());
        }
        let wake = Arc::new(new_eventfd().map_err(|error| SetupError::ring("eventfd", &error))?);
        self.completions.disable_eventfd();
        self.submitter
            .register_eventfd(wake.as_raw_fd())
            .map_err(|error| SetupError::ring("io_uring_register(EVENTFD)", &error))?;
        self.control.also_wake(wake.clone());
        Ok(self.wake.insert(wake).clone())
    }

    /// The descriptor [`register_wake`](Ring::register_wake) made.
    pub fn wake_fd(&self) -> Option<&Arc<OwnedFd>> {
        self.wake.as_ref()
    }

    /// Lets the wake descriptor speak. True: it is safe to sleep on it. False: there is work
    /// already, and the descriptor is silent again.
    pub fn arm_wake(&mut self) -> bool {
        self.lend();
        self.completions.enable_eventfd();
        // What the kernel noted while the descriptor was silent is seen below; what it notes later
        // is told.
        fence(Ordering::SeqCst);
        let idle = !self.has_work();
        if !idle {
            self.completions.disable_eventfd();
        }
        idle
    }

    /// Silences the wake descriptor while the core is awake.
    pub fn disarm_wake(&mut self) {
        self.completions.disable_eventfd();
    }

    /// Gives vacant buffers to the kernel.
    fn lend(&mut self) {
        self.buffers.refill();
        if let Some(large) = &mut self.large {
            large.refill();
        }
    }

    /// The ring that a buffer was lent by.
    fn lender(&mut self, buffer: u16) -> &mut BufferRing {
        match &mut self.large {
            Some(large) if large.pool().is_large(buffer) => large,
            _ => &mut self.buffers,
        }
    }

    fn watch_control(&mut self) {
        let poll =
            opcode::PollAdd::new(Fd(self.control.raw()), libc::POLLIN as u32).multi(true).build();
        self.push([poll.user_data(UserData::single(Kind::Control, 0).pack())]);
    }

    fn cancel(&mut self, operation: UserData) {
        self.push([unheeded(opcode::AsyncCancel::new(operation.pack()).build())]);
    }

    /// Queues submissions, together: a chain must not be cut. If the kernel takes none for good,
    /// they are dropped and the next `enter` fails.
    fn push<const N: usize>(&mut self, entries: [Entry; N]) {
        if self.submissions.capacity() - self.submissions.len() < N
            && let Err(failure) = self.make_room(N)
        {
            self.failure = Some(failure);
            return;
        }
        // SAFETY: what an entry refers to lives until it completes: batches in `sends`, buffers in
        // `buffers`, names in `names`, the time in `timer`, socket options in a static; descriptors are kept open by
        // their owner until closed through here.
        unsafe { self.submissions.push_multiple(&entries) }.expect("room was made");
        self.in_flight += N;
    }

    #[cold]
    fn make_room(&mut self, count: usize) -> io::Result<()> {
        self.counters.ring_submissions_full.raise();
        for _ in 0..OFFERS_MAX {
            self.enter_kernel(0)?;
            if self.submissions.capacity() - self.submissions.len() >= count {
                return Ok(());
            }
            thread::sleep(Duration::from_millis(1));
        }
        Err(error::entering(&io::Error::from_raw_os_error(libc::EAGAIN)))
    }

    /// One `io_uring_enter`: submits everything, runs what was put off, waits for `want`
    /// completions.
    fn enter_kernel(&mut self, want: u32) -> io::Result<()> {
        self.completions.sync();
        self.submissions.sync();
        let count = self.submissions.len() as u32;
        self.counters.ring_enters.raise();
        if self.submissions.cq_overflow() {
            self.counters.ring_overflows.raise();
        }
        // Events are asked for each time: what this submission itself sets off (a peer on the same
        // ring) is only a completion after the deferred work has run, and that costs no second
        // call. SAFETY: no argument is passed; the entries submitted satisfied `push`.
        let entered = unsafe {
            self.submitter.enter::<libc::sigset_t>(count, want, self.enter_flags.bits(), None)
        };
        self.sends_unheeded = 0;
        self.submissions.sync();
        self.completions.sync();
        self.timer.unread = false;
        match entered.map_err(|error| (errno(&error).0, error)) {
            // A signal woke us, or patience is over: the caller sees that nothing completed.
            Ok(_) | Err((libc::EINTR, _)) => Ok(()),
            Err((libc::EAGAIN | libc::EBUSY, _)) => {
                self.counters.ring_refusals.raise();
                // Completions that wait are what gives memory back; without any, time has to.
                if self.completions.is_empty() {
                    thread::sleep(Duration::from_millis(1));
                }
                Ok(())
            }
            Err((_, error)) => Err(error::entering(&error)),
        }
    }

    fn next_completion(&mut self) -> Option<cqueue::Entry> {
        self.completions.next().or_else(|| {
            // Gives the places taken back to the kernel, and looks again.
            self.completions.sync();
            self.completions.next()
        })
    }

    /// What a completion of the kernel says to the engine, if anything.
    fn translate(&mut self, cqe: &cqueue::Entry) -> Option<Completion> {
        let more = cqueue::more(cqe.flags());
        self.counters.ring_completions.raise();
        self.in_flight -= usize::from(!more);
        let Some(UserData { kind, token }) = UserData::unpack(cqe.user_data()) else {
            debug_assert!(false, "every submission carries user data of ours");
            return None;
        };
        let outcome = outcome(cqe.result());
        match kind {
            Kind::Unheeded => None,
            Kind::Accept => Some(self.accepted(token.slot as u16, outcome, more)),
            Kind::Receive => {
                Some(self.received(token, outcome, cqueue::buffer_select(cqe.flags()), more))
            }
            Kind::Send => self.sent(token, outcome),
            Kind::ShutDown => Some(Completion::ShutDown { connection: token }),
            Kind::InstallToShut => self.installed_to_shut(token, outcome),
            Kind::Close => Some(Completion::Closed { connection: token }),
            Kind::Install => {
                Some(Completion::Installed { connection: token, result: installed(outcome) })
            }
            Kind::Timer => {
                self.timer.at = NEVER;
                Some(Completion::Tick)
            }
            Kind::Control => Some(self.controlled(more)),
            Kind::Identify => Some(self.identified(token, outcome)),
            Kind::Watch => watched(token, outcome, more),
        }
    }

    fn accepted(&mut self, listener: u16, outcome: Result<u32, Errno>, more: bool) -> Completion {
        let left = &mut self.few_left[usize::from(listener)];
        let was_few = *left > 0;
        *left = left.saturating_sub(1);
        let more = if was_few { *left > 0 } else { more };
        if outcome.is_ok() && !more && !was_few {
            self.counters.multishots_ended.raise();
        }
        Completion::Accepted { listener: ListenerId(listener), result: outcome.map(Handle), more }
    }

    fn received(
        &mut self,
        connection: Token,
        outcome: Result<u32, Errno>,
        buffer: Option<u16>,
        more: bool,
    ) -> Completion {
        let result = match (outcome, buffer) {
            (Ok(len @ 1..), Some(buffer)) => {
                // SAFETY: this completion, taken once, says that the kernel wrote `len` bytes to
                // `buffer`.
                let bytes = unsafe { self.lender(buffer).received(buffer, len) };
                Ok(Some(bytes))
            }
            (outcome, Some(buffer)) => {
                // SAFETY: this completion, taken once, gives `buffer` back; nothing was written to
                // it.
                drop(unsafe { self.lender(buffer).reclaim(buffer) });
                outcome.map(|_| None)
            }
            (outcome, None) => {
                debug_assert!(!matches!(outcome, Ok(1..)), "bytes lie in a buffer");
                outcome.map(|_| None)
            }
        };
        self.starvations += u64::from(matches!(result, Err(Errno::NOBUFS)));
        if !more && matches!(result, Ok(Some(_)) | Err(Errno::NOBUFS)) {
            self.counters.multishots_ended.raise();
        }
        Completion::Received { connection, result, more }
    }

    fn sent(&mut self, send: Token, outcome: Result<u32, Errno>) -> Option<Completion> {
        if outcome == Err(Errno::AGAIN)
            && let Some(entry) = self.sends.retry(self.tier, send)
        {
            // The socket is full: this one waits for its peer.
            self.counters.sends_blocked.raise();
            self.push([entry]);
            return None;
        }
        let finished = self.sends.finish(send);
        debug_assert!(finished.is_some(), "a send completes once");
        let (connection, batch) = finished?;
        Some(Completion::Sent { connection, result: outcome.map(|count| count as usize), batch })
    }

    /// Shuts a connection by the ordinary descriptor it was given for that.
    fn installed_to_shut(
        &mut self,
        connection: Token,
        outcome: Result<u32, Errno>,
    ) -> Option<Completion> {
        // They complete as they were asked for: it is the first one.
        let place = self.shutting.iter().position(|(token, _)| *token == connection)?;
        let (_, handle) = self.shutting.remove(place)?;
        if let Ok(descriptor) = installed(outcome) {
            shut(descriptor.as_fd());
            return Some(Completion::ShutDown { connection });
        }
        // There is none to be had: by the slower way.
        self.push_shutdown(connection, handle);
        None
    }

    fn push_shutdown(&mut self, connection: Token, handle: Handle) {
        let user_data = UserData::new(Kind::ShutDown, connection);
        self.push([self.tier.shutdown(handle).user_data(user_data.pack())]);
    }

    fn identified(&mut self, connection: Token, outcome: Result<u32, Errno>) -> Completion {
        let address = self.names.take(connection);
        Completion::Identified { connection, result: outcome.and(address) }
    }

    fn controlled(&mut self, more: bool) -> Completion {
        self.control.reset();
        if !more && !self.closing {
            self.counters.multishots_ended.raise();
            self.watch_control();
        }
        Completion::Control
    }

    /// Cancels everything and waits, within a bound, for the last completion. True if nothing is in
    /// flight.
    fn quiesce(&mut self) -> bool {
        self.closing = true;
        if self.in_flight > 0 {
            self.push([unheeded(opcode::AsyncCancel2::new(CancelBuilder::any()).build())]);
        }
        let deadline = self.clock.now() + QUIET_MS_MAX;
        while self.in_flight > 0 {
            while let Some(completion) = self.complete() {
                self.discard(completion);
            }
            let left = deadline.saturating_sub(self.clock.now());
            if left == 0 || self.failure.is_some() {
                break;
            }
            if self.in_flight > 0 && !self.wait_at_most(Duration::from_millis(left)) {
                break;
            }
        }
        self.in_flight == 0
    }

    /// Submits and waits for a completion; false if the kernel will have no more of this ring.
    fn wait_at_most(&mut self, time: Duration) -> bool {
        self.submissions.sync();
        self.completions.sync();
        let time = Timespec::from(time);
        let waited = self.submitter.submit_with_args(1, &SubmitArgs::new().timespec(&time));
        self.submissions.sync();
        self.completions.sync();
        match waited {
            Ok(_) => true,
            Err(error) => {
                matches!(errno(&error).0, libc::ETIME | libc::EINTR | libc::EAGAIN | libc::EBUSY)
            }
        }
    }

    /// Drops a completion nobody will see, with the descriptor it may carry.
    fn discard(&self, completion: Completion) {
        if let Completion::Accepted { result: Ok(handle), .. } = completion
            && self.tier == Tier::Plain
        {
            // SAFETY: the kernel has just made this descriptor for us, and nobody has seen it.
            drop(unsafe { OwnedFd::from_raw_fd(handle.0.cast_signed()) });
        }
    }
}

impl Kernel for Ring<'_> {
    fn now(&self) -> Millis {
        self.clock.now()
    }

    fn time(&self) -> Time {
        self.clock.time()
    }

    fn unix_seconds(&self) -> u64 {
        Clock::unix_seconds()
    }

    fn unix_millis(&self) -> u64 {
        Clock::unix_millis()
    }

    fn pool(&self) -> &Pool {
        self.buffers.pool()
    }

    fn receivable(&self, size: Size) -> usize {
        match size {
            Size::Usual => self.buffers.receivable(),
            Size::Large => self.large.as_ref().map_or(0, |large| large.receivable()),
        }
    }

    fn accept(&mut self, listener: ListenerId, accepts: Accepts) {
        let index = usize::from(listener.0);
        let open = self.listeners[index].as_ref().expect("nothing is accepted on it again");
        let socket = Fd(open.as_raw_fd());
        let user_data = UserData::single(Kind::Accept, u32::from(listener.0)).pack();
        match accepts {
            Accepts::Many => self.push([self.tier.accept_many(socket).user_data(user_data)]),
            Accepts::Few => {
                self.few_left[index] = FEW;
                let entry = self.tier.accept_one(socket).user_data(user_data);
                self.push([(); FEW as usize].map(|()| entry.clone()));
            }
        }
    }

    fn stop_accept(&mut self, listener: ListenerId) {
        // All that it names: few are several.
        let operation = UserData::single(Kind::Accept, u32::from(listener.0));
        let all = CancelBuilder::user_data(operation.pack()).all();
        self.push([unheeded(opcode::AsyncCancel2::new(all).build())]);
    }

    fn has_waiting(&mut self, listener: ListenerId) -> bool {
        let Some(open) = &self.listeners[usize::from(listener.0)] else { return false };
        let mut asked = [PollFd::new(open, PollFlags::IN)];
        let at_once = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
        // It fails only for want of memory: then nobody is let in any more.
        poll(&mut asked, Some(&at_once)).is_ok_and(|ready| ready > 0)
    }

    fn close_listener(&mut self, listener: ListenerId) {
        self.listeners[usize::from(listener.0)] = None;
    }

    fn receive(&mut self, connection: Token, handle: Handle, receipts: Receipts) {
        let user_data = UserData::new(Kind::Receive, connection);
        self.push([self.tier.receive(handle, receipts).user_data(user_data.pack())]);
    }

    fn stop_receive(&mut self, connection: Token) {
        self.cancel(UserData::new(Kind::Receive, connection));
    }

    fn watch(&mut self, connection: Token, handle: Handle) {
        let user_data = UserData::new(Kind::Watch, connection);
        self.push([self.tier.watch(handle).user_data(user_data.pack())]);
    }

    fn stop_watch(&mut self, connection: Token) {
        self.cancel(UserData::new(Kind::Watch, connection));
    }

    fn send(&mut self, connection: Token, handle: Handle, batch: Box<Batch>) {
        debug_assert!(!batch.is_empty(), "a send has something to send");
        let (entry, pace) = self.sends.begin(self.tier, connection, handle, batch);
        self.push([entry]);
        self.is_last_at_once = pace == Pace::AtOnce;
    }

    fn relax(&mut self) {
        self.sends_unheeded += u32::from(mem::take(&mut self.is_last_at_once));
    }

    fn stop_send(&mut self, connection: Token) {
        if let Some(send) = self.sends.stop(connection) {
            self.cancel(send);
        }
    }

    fn shutdown(&mut self, connection: Token, handle: Handle) {
        // The ring's operation for it always goes by a worker thread of the kernel's; the call, which does
        // not, needs an ordinary descriptor.
        match self.tier {
            Tier::Direct if self.shutting.len() < SHUTTING_MAX => {
                self.shutting.push_back((connection, handle));
                let user_data = UserData::new(Kind::InstallToShut, connection);
                self.push([tier::install(handle).user_data(user_data.pack())]);
            }
            Tier::Direct => self.push_shutdown(connection, handle),
            Tier::Plain => {
                shut(plain(handle));
                self.done.push_back(Completion::ShutDown { connection });
            }
        }
    }

    fn close(&mut self, connection: Token, handle: Handle, manner: Manner) {
        let close =
            self.tier.close(handle).user_data(UserData::new(Kind::Close, connection).pack());
        match (manner, self.tier) {
            (Manner::Close, _) => self.push([close]),
            (Manner::Reset, Tier::Direct) => {
                // Hard: it is closed even if the option could not be set.
                let linger = unheeded(tier::linger_zero(handle)).flags(Flags::IO_HARDLINK);
                self.push([linger, close]);
            }
            (Manner::Reset, Tier::Plain) => {
                // A failure leaves an ordinary close: the peer is gone already.
                let _ = SockRef::from(&plain(handle)).set_linger(Some(Duration::ZERO));
                self.push([close]);
            }
        }
    }

    fn install(&mut self, connection: Token, handle: Handle) {
        match self.tier {
            Tier::Direct => {
                let user_data = UserData::new(Kind::Install, connection);
                self.push([tier::install(handle).user_data(user_data.pack())]);
            }
            Tier::Plain => {
                let copy = rustix::io::fcntl_dupfd_cloexec(plain(handle), 0);
                let result = copy.map_err(|error| Errno(error.raw_os_error()));
                self.done.push_back(Completion::Installed { connection, result });
            }
        }
    }

    fn identify(&mut self, connection: Token, handle: Handle, listener: ListenerId) {
        if self.tier == Tier::Plain {
            let result = peers::address_of(plain(handle));
            return self.done.push_back(Completion::Identified { connection, result });
        }
        let name = self.names.room(connection, listener);
        let mut entry = tier::peer_name(handle, name);
        // SAFETY: an entry is the 64 bytes of `io_uring_sqe`, whose command lies in bytes 8 to 12.
        unsafe { (&raw mut entry).cast::<u32>().add(2).write(peers::SOCKET_URING_OP_GETSOCKOPT) };
        self.push([entry.user_data(UserData::new(Kind::Identify, connection).pack())]);
    }

    fn wake_at(&mut self, when: Millis) {
        if when >= self.timer.at {
            return;
        }
        let armed = mem::replace(&mut self.timer.at, when) != NEVER;
        *self.timer.time = self.clock.absolute(when);
        if self.timer.unread {
            return;
        }
        let user_data = UserData::single(Kind::Timer, 0).pack();
        let time = &raw const *self.timer.time;
        let entry = if armed {
            // If it has just completed there is nothing to update, and the tick is on its way.
            unheeded(opcode::TimeoutUpdate::new(user_data, time).flags(TimeoutFlags::ABS).build())
        } else {
            opcode::Timeout::new(time).flags(TimeoutFlags::ABS).build().user_data(user_data)
        };
        self.push([entry]);
        self.timer.unread = true;
    }

    fn enter(&mut self, wait: Wait) -> io::Result<()> {
        if let Some(failure) = self.failure.take() {
            return Err(failure);
        }
        self.lend();
        self.completions.sync();
        let sleep = wait == Wait::ForOne && self.completions.is_empty() && self.done.is_empty();
        if sleep && self.sends_unheeded > 0 {
            // A socket may turn out to be full, and then its connection does depend on the
            // completion after all.
            self.wake_at(self.clock.now() + UNHEEDED_MS_MAX);
        }
        if sleep
            || !self.submissions.is_empty()
            || self.submissions.taskrun()
            || self.submissions.cq_overflow()
        {
            // Sends that complete within this call and change nothing do not count: it waits for
            // one event more.
            self.enter_kernel(if sleep { 1 + self.sends_unheeded } else { 0 })?;
        }
        Ok(())
    }

    fn complete(&mut self) -> Option<Completion> {
        if let Some(done) = self.done.pop_front() {
            return Some(done);
        }
        while let Some(cqe) = self.next_completion() {
            if let Some(completion) = self.translate(&cqe) {
                return Some(completion);
            }
        }
        None
    }

    fn has_work(&mut self) -> bool {
        self.completions.sync();
        !self.submissions.is_empty()
            || !self.completions.is_empty()
            || !self.done.is_empty()
            || self.submissions.taskrun()
            || self.submissions.cq_overflow()
            || self.failure.is_some()
    }

    fn starved(&mut self, size: Size) {
        match (size, &mut self.large) {
            (Size::Usual, _) => self.buffers.starved(),
            (Size::Large, Some(large)) => large.starved(),
            (Size::Large, None) => {}
        }
    }
}

impl Drop for Ring<'_> {
    fn drop(&mut self) {
        let quiet = self.quiesce();
        if quiet {
            for buffers in std::iter::once(&mut self.buffers).chain(&mut self.large) {
                if buffers.unregister(&self.submitter).is_ok() {
                    // SAFETY: dropped once, here; no operation is in flight and the kernel no longer
                    // knows the buffers.
                    unsafe { ManuallyDrop::drop(buffers) };
                }
            }
        } else {
            tracing::warn!(
                in_flight = self.in_flight,
                "operations did not end in time: their memory is given up"
            );
            mem::forget(mem::take(&mut self.sends));
            mem::forget(mem::take(&mut self.timer.time));
            mem::forget(mem::take(&mut self.names));
        }
        if self.wake.is_some() {
            let _ = self.submitter.unregister_eventfd();
        }
        if self.registered {
            let _ = self.submitter.unregister_ring_fd();
        }
    }
}

impl fmt::Debug for Ring<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Ring({:?} descriptors, {} in flight, {:?})",
            self.tier,
            self.in_flight,
            self.counters()
        )
    }
}

/// The buffers of a configuration. Large ones that are no larger are done without.
fn new_pool(config: &RingConfig) -> Pool {
    let count = |wanted: u16| wanted.clamp(1, 1 << 15).next_power_of_two();
    let is_large = config.large_buffers > 0 && config.large_bytes > config.buffer_bytes;
    let large = if is_large { count(config.large_buffers) } else { 0 };
    Pool::with_large(count(config.buffers), config.buffer_bytes, large, config.large_bytes)
}

/// What was said last of the descriptors of a ring: each ring of a process would say the same.
static WITHOUT_TABLE: AtomicU64 = AtomicU64::new(0);
static BOUND: AtomicU64 = AtomicU64::new(0);

/// Whether this was not said last.
fn is_new(last: &AtomicU64, said: u64) -> bool {
    last.swap(said, Ordering::Relaxed) != said
}

/// Direct descriptors if the kernel has them and a table can be had; and for how many connections.
fn choose_tier(uring: &IoUring, features: Features, wanted: u32) -> (Tier, u32) {
    let table = features.direct_descriptors.then(|| setup::file_table(uring, wanted));
    let (tier, possible) = match table {
        Some(Ok(possible)) => (Tier::Direct, possible),
        Some(Err(error)) => {
            if is_new(&WITHOUT_TABLE, 1) {
                tracing::warn!(%error, "ordinary descriptors are used");
            }
            (Tier::Plain, setup::plain_connections(wanted))
        }
        None => (Tier::Plain, setup::plain_connections(wanted)),
    };
    let bound = (u64::from(possible) << 32) | u64::from(wanted);
    if possible < wanted && is_new(&BOUND, bound) {
        tracing::warn!(
            possible,
            wanted,
            "the limit on descriptors bounds connections: raise it with `ulimit -n`"
        );
    }
    (tier, possible)
}

fn unheeded(entry: Entry) -> Entry {
    entry.user_data(UserData::single(Kind::Unheeded, 0).pack())
}

fn outcome(result: i32) -> Result<u32, Errno> {
    u32::try_from(result).map_err(|_| Errno(-result))
}

/// The kernel also tells of the end of the peer's direction, whether that was asked for or not.
fn watched(connection: Token, outcome: Result<u32, Errno>, more: bool) -> Option<Completion> {
    let is_lost = outcome.is_ok_and(|events| events & tier::LOST != 0);
    (is_lost || !more).then_some(Completion::Watched { connection, is_lost, more })
}

/// The ordinary descriptor of an installation.
fn installed(outcome: Result<u32, Errno>) -> Result<OwnedFd, Errno> {
    // SAFETY: the kernel has just made this descriptor for us, and nobody else knows it.
    outcome.map(|descriptor| unsafe { OwnedFd::from_raw_fd(descriptor.cast_signed()) })
}

/// Ends our direction. A failure is a peer that is gone: whoever waits for its end hears of that.
fn shut(connection: BorrowedFd<'_>) {
    let _ = rustix::net::shutdown(connection, rustix::net::Shutdown::Write);
}

/// The ordinary descriptor behind a handle of the plain tier.
fn plain<'a>(handle: Handle) -> BorrowedFd<'a> {
    // SAFETY: a handle is valid from its acceptance until it is closed, which the engine has not
    // asked for yet.
    unsafe { BorrowedFd::borrow_raw(handle.0.cast_signed()) }
}
