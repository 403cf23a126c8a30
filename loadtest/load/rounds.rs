//! Requests, switches and messages on the connections of one thread: who says what when, and
//! whether what comes back is right.
//!
//! ```text
//!                 connect            101                    all is answered
//!   Vacant ──────────────► Opening ──────► Open ──────────────────────────────► Ending ──► Vacant
//!      ▲    (requests: Open at once)        │ ▲    (last request, one message)              │
//!      │                                    └─┘ a round, its answers                        │
//!      └──────────────────────────── closed, rightly or after a fault ◄─────────────────────┘
//! ```
//!
//! A connection that goes wrong is one error, is reset, and its seat begins anew; after too many of
//! them the run is given up.

use std::collections::VecDeque;
use std::io;
use std::sync::mpsc::Sender;
use std::thread;
use std::time::Duration;

use upring::ring::Manner;

use crate::clients::{Clients, Event, Patience, Place, nanoseconds};
use crate::expect::{Expectation, Met, Reference};
use crate::fault::Fault;
use crate::interrupt::Interrupt;
use crate::pace::{self, Pace, patience};
use crate::run::News;
use crate::script::{Course, Protocol, Script};
use crate::tally::Tally;
use crate::websocket;

const TELL_EVERY_NS: u64 = 1_000_000_000;
/// Events after which the time is looked at: what one brings is checked in a fraction of a
/// millisecond.
const LOOK_EVERY: u64 = 32;

/// How much one thread does.
#[derive(Clone, Copy)]
pub(crate) struct Plan {
    pub(crate) pace: Pace,
    pub(crate) requests_max: u64,
    pub(crate) time: Duration,
    pub(crate) errors_max: u64,
    /// Connections that open at the same time before the run: a listener's queue is bounded.
    pub(crate) opening_max: usize,
    /// When the run is given up, counted from when its clients were made.
    pub(crate) limit: Duration,
    /// It is given up, too, when nothing was answered for so long though something is owed.
    pub(crate) stall: Duration,
    pub(crate) interrupt: &'static Interrupt,
}

/// Why a run ends before it is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Late,
    Stalled,
    TooManyErrors,
    Interrupted,
    /// What was owed then is counted.
    Told,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Vacant,
    /// The 101 is owed.
    Opening,
    Open,
    /// It says nothing any more, and closes.
    Ending,
}

struct Seat {
    stage: Stage,
    expectation: Expectation,
    /// When each of the requests or messages under way was due.
    due_ns: VecDeque<u64>,
    /// Which connection of the run it is, if it asks to switch.
    number: u64,
    /// Requests or messages sent on this connection.
    said: u64,
    /// Those that wait for the 101.
    waiting: usize,
    /// Whether it is on the list of those that can be given something to do.
    is_free: bool,
}

impl Seat {
    fn vacant() -> Seat {
        Seat {
            stage: Stage::Vacant,
            expectation: Expectation::default(),
            due_ns: VecDeque::new(),
            number: 0,
            said: 0,
            waiting: 0,
            is_free: false,
        }
    }
}

/// The seats of one thread and what they have done so far.
pub(crate) struct Rounds {
    script: &'static Script,
    plan: Plan,
    reference: Reference,
    seats: Vec<Seat>,
    free: VecDeque<Place>,
    begun_ns: u64,
    /// When requests were due that a server closed in front of: they are made again.
    again: VecDeque<u64>,
    /// Requests or messages begun, and those not answered yet.
    begun: u64,
    under_way: usize,
    /// Seats that are opening, and that are ending.
    opening: usize,
    ending: usize,
    /// Connections whose handshake is under way.
    handshaking: usize,
    given_up: Option<End>,
    tally: Tally,
    errors: u64,
    /// When something was answered last, or nothing was owed.
    moved_ns: u64,
    told_ns: u64,
    tell: Sender<News>,
}

impl Rounds {
    pub(crate) fn new(
        script: &'static Script,
        plan: Plan,
        seats: usize,
        tell: Sender<News>,
    ) -> Rounds {
        Rounds {
            script,
            plan,
            reference: script.reference(),
            seats: (0..seats).map(|_| Seat::vacant()).collect(),
            free: VecDeque::new(),
            begun_ns: 0,
            again: VecDeque::new(),
            begun: 0,
            under_way: 0,
            opening: 0,
            ending: 0,
            handshaking: 0,
            given_up: None,
            tally: Tally::default(),
            errors: 0,
            moved_ns: 0,
            told_ns: 0,
            tell,
        }
    }

    /// Opens every connection that more than one round is made on.
    ///
    /// # Errors
    /// The kernel will have no more of the ring.
    pub(crate) fn open(&mut self, clients: &mut Clients<'_>) -> io::Result<()> {
        let opens_before = match self.script.course {
            Course::Requests { per_connection } => per_connection == u64::MAX,
            Course::Messages => true,
            Course::Once { .. } => false,
        };
        let mut places = 0..self.seats.len();
        while self.given_up.is_none() {
            while self.opening.max(clients.handshaking()) < self.plan.opening_max
                && let Some(place) = places.next()
            {
                if opens_before {
                    self.connect(place, clients);
                } else {
                    self.offer(place);
                }
            }
            // Handshakes are no part of what is asked on connections that stay.
            if places.is_empty() && self.opening + clients.handshaking() == 0 {
                break;
            }
            self.turn(clients, patience(None))?;
        }
        // What was opened is the server's by the time the run begins.
        clients.turn(patience(Some(0)))?;
        Ok(())
    }

    /// Makes the rounds; what time they took. The connections stay open.
    ///
    /// # Errors
    /// The kernel will have no more of the ring.
    pub(crate) fn run(&mut self, clients: &mut Clients<'_>) -> io::Result<Duration> {
        self.begun = 0;
        self.begun_ns = clients.clock_ns();
        (self.told_ns, self.moved_ns) = (self.begun_ns, self.begun_ns);
        let mut now_ns = self.begun_ns;
        self.look_up(now_ns);
        while self.given_up.is_none() {
            let next_ns = self.begin(now_ns, clients);
            let is_over = next_ns.is_none() && self.may_begin(now_ns) == 0;
            if is_over && self.under_way + self.ending == 0 {
                break;
            }
            self.turn(clients, patience(next_ns))?;
            now_ns = clients.now_ns();
        }
        let now_ns = clients.now_ns();
        let taken_ns = now_ns.saturating_sub(self.begun_ns);
        if matches!(self.given_up, Some(End::Late | End::Stalled)) && self.take_free().is_none() {
            self.note_unsent(now_ns);
        }
        let is_cut = self.given_up.is_some();
        self.give_up(clients);
        self.tell();
        // At a rate the run lasts until the next would be due, however soon the last was answered.
        let due_ns = self.plan.pace.due_ns(self.begun).unwrap_or_default();
        let asked_ns = due_ns.min(self.ends_ns().saturating_sub(self.begun_ns));
        Ok(Duration::from_nanos(if is_cut { taken_ns } else { taken_ns.max(asked_ns) }))
    }

    /// Has the limit come later: so much of it went by while nothing was done on purpose.
    pub(crate) fn postpone_limit(&mut self, waited: Duration) {
        self.plan.limit = self.plan.limit.saturating_add(waited);
    }

    /// Whether it goes on no more.
    pub(crate) fn is_given_up(&self) -> bool {
        self.given_up.is_some()
    }

    /// Closes every connection.
    ///
    /// # Errors
    /// The kernel will have no more of the ring.
    pub(crate) fn close(&mut self, clients: &mut Clients<'_>) -> io::Result<()> {
        for place in 0..self.seats.len() {
            if matches!(self.seats[place].stage, Stage::Open) {
                self.end(place);
                clients.close(place, Manner::Close);
            }
        }
        while self.ending > 0 && self.given_up.is_none() {
            self.turn(clients, patience(None))?;
        }
        self.tell();
        Ok(())
    }

    /// Begins what is due; in how many nanoseconds the next is.
    fn begin(&mut self, now_ns: u64, clients: &mut Clients<'_>) -> Option<u64> {
        match self.plan.pace {
            Pace::Closed => self.begin_all(now_ns, clients),
            Pace::LockStep { pause } => {
                if self.under_way + self.ending == 0 && self.may_begin(now_ns) > 0 {
                    self.pause(pause, clients);
                    self.begin_all(clients.clock_ns(), clients);
                    // It may have been over before the pause was: there is nothing to wait for.
                    return (self.under_way == 0).then_some(0);
                }
            }
            Pace::Open { .. } => return self.begin_due(now_ns, clients),
        }
        None
    }

    /// Sleeps for so long, but not past the end of the run.
    fn pause(&mut self, pause: Duration, clients: &Clients<'_>) {
        let until_ns = clients.clock_ns().saturating_add(nanoseconds(pause)).min(self.ends_ns());
        while let left_ns @ 1.. = until_ns.saturating_sub(clients.clock_ns())
            && self.given_up.is_none()
        {
            thread::sleep(pace::SLICE.min(Duration::from_nanos(left_ns)));
            self.look_up(clients.clock_ns());
        }
    }

    fn begin_all(&mut self, now_ns: u64, clients: &mut Clients<'_>) {
        for _ in 0..self.free.len() {
            let count = self.may_begin(now_ns);
            if count == 0 {
                break;
            }
            let Some(place) = self.take_free() else { break };
            self.say(place, now_ns, count, clients);
        }
    }

    fn begin_due(&mut self, now_ns: u64, clients: &mut Clients<'_>) -> Option<u64> {
        while let Some(due_ns) = self.again.front().copied() {
            let Some(place) = self.take_free() else { return Some(u64::MAX) };
            self.again.pop_front();
            self.begun -= 1;
            self.say(place, due_ns, 1, clients);
        }
        loop {
            let due_ns = self.begun_ns.saturating_add(self.plan.pace.due_ns(self.begun)?);
            if self.begun == self.plan.requests_max || due_ns >= self.ends_ns() {
                return None;
            }
            if due_ns > now_ns {
                return Some(due_ns - now_ns);
            }
            // None is free: it is late, and its latency counts from when it was due.
            let Some(place) = self.take_free() else { return Some(u64::MAX) };
            self.say(place, due_ns, 1, clients);
        }
    }

    fn ends_ns(&self) -> u64 {
        self.begun_ns.saturating_add(nanoseconds(self.plan.time))
    }

    /// How many a connection may begin at once.
    fn may_begin(&self, now_ns: u64) -> usize {
        let is_open = matches!(self.plan.pace, Pace::Open { .. });
        if is_open || now_ns >= self.ends_ns() || self.given_up.is_some() {
            return 0;
        }
        let left = self.plan.requests_max - self.begun;
        left.min(self.script.depth as u64) as usize
    }

    /// Sends up to `count` requests or messages that were due at a time.
    fn say(&mut self, place: Place, due_ns: u64, count: usize, clients: &mut Clients<'_>) {
        let count = match self.script.course {
            Course::Requests { per_connection } => {
                count.min(usize::try_from(per_connection - self.seats[place].said).unwrap_or(count))
            }
            Course::Messages => count,
            Course::Once { .. } => 1,
        };
        self.begun += count as u64;
        self.under_way += count;
        self.seats[place].due_ns.extend(std::iter::repeat_n(due_ns, count));
        if self.seats[place].stage == Stage::Vacant && !self.connect(place, clients) {
            return;
        }
        match self.script.course {
            Course::Requests { per_connection } => {
                self.request(place, count, per_connection, clients);
            }
            Course::Messages if self.seats[place].stage == Stage::Opening => {
                self.seats[place].waiting += count;
            }
            Course::Messages => self.message(place, count, clients),
            // It was sent behind the request to switch, or is sent when the 101 has come.
            Course::Once { .. } => {}
        }
        self.offer(place);
    }

    fn request(
        &mut self,
        place: Place,
        count: usize,
        per_connection: u64,
        clients: &mut Clients<'_>,
    ) {
        let seat = &mut self.seats[place];
        seat.expectation.expect_answers(count);
        seat.said += count as u64;
        let is_last = seat.said == per_connection;
        let usual = count - usize::from(is_last);
        if usual > 0 {
            clients.send(place, self.script.requests(usual));
        }
        if is_last {
            clients.send(place, self.script.last_request());
        }
    }

    fn message(&mut self, place: Place, count: usize, clients: &mut Clients<'_>) {
        let seat = &mut self.seats[place];
        let messages = &self.script.messages;
        if messages.are_nothing() {
            return;
        }
        seat.expectation.expect_messages(count);
        messages.send(seat.number, seat.said, count, |bytes| clients.send(place, bytes));
        seat.said += count as u64;
    }

    /// Connects a vacant seat, and asks to switch. False: it could not.
    fn connect(&mut self, place: Place, clients: &mut Clients<'_>) -> bool {
        if let Err(fault) = clients.connect(place, None) {
            self.note(place, fault);
            self.offer(place);
            return false;
        }
        let seat = &mut self.seats[place];
        seat.stage = match self.script.course {
            Course::Requests { .. } => Stage::Open,
            Course::Messages | Course::Once { .. } => Stage::Opening,
        };
        if seat.stage == Stage::Open {
            self.offer(place);
            return true;
        }
        self.opening += 1;
        let (number, opening, offer) = self.script.offer();
        seat.number = number;
        seat.expectation.expect_switch(offer, number);
        clients.send(place, opening);
        if self.script.course == (Course::Once { is_late: false }) {
            self.message(place, 1, clients);
        }
        true
    }

    /// Waits for something to happen, and sees to it.
    ///
    /// # Errors
    /// The kernel will have no more of the ring.
    pub(crate) fn turn(&mut self, clients: &mut Clients<'_>, patience: Patience) -> io::Result<()> {
        clients.turn(patience)?;
        // What is sent without end is not read beyond the limit.
        let limit_ns = nanoseconds(self.plan.limit);
        for count in 1_u64.. {
            let Some(event) = clients.next() else { break };
            self.hear(event, clients);
            if count.is_multiple_of(LOOK_EVERY) && clients.clock_ns() >= limit_ns {
                break;
            }
        }
        let now_ns = clients.now_ns();
        self.tally.handshakes.add(clients.take_handshakes());
        if clients.handshaking() < self.handshaking {
            self.moved_ns = now_ns;
        }
        self.handshaking = clients.handshaking();
        if now_ns - self.told_ns >= TELL_EVERY_NS {
            self.told_ns = now_ns;
            self.tell();
        }
        self.look_up(now_ns);
        Ok(())
    }

    /// Gives the run up if there is a reason to.
    fn look_up(&mut self, now_ns: u64) {
        if self.under_way + self.opening + self.ending + self.handshaking == 0 {
            self.moved_ns = now_ns;
        }
        let still_ns = now_ns.saturating_sub(self.moved_ns);
        self.given_up = self.given_up.or(if self.plan.interrupt.has_come() {
            Some(End::Interrupted)
        } else if self.errors >= self.plan.errors_max {
            Some(End::TooManyErrors)
        } else if now_ns >= nanoseconds(self.plan.limit) {
            Some(End::Late)
        } else if still_ns >= nanoseconds(self.plan.stall) {
            Some(End::Stalled)
        } else {
            None
        });
    }

    fn hear(&mut self, event: Event, clients: &mut Clients<'_>) {
        match event {
            Event::Received(place, bytes) => {
                let expectation = &mut self.seats[place].expectation;
                match expectation.receive(&bytes, &mut self.reference) {
                    Ok(met) => {
                        let pongs = expectation.take_pongs();
                        if !pongs.is_empty() {
                            clients.send(place, pongs);
                        }
                        self.met(place, met, clients);
                    }
                    Err(fault) => self.fail(place, fault, clients),
                }
            }
            Event::Ended(place) => {
                let seat = &self.seats[place];
                match seat.stage {
                    Stage::Ending if seat.expectation.is_met() => {
                        clients.close(place, Manner::Close);
                    }
                    Stage::Open if self.is_idle(place) => {
                        self.tally.reopened += 1;
                        self.end(place);
                        clients.close(place, Manner::Close);
                    }
                    _ => self.fail(place, Fault::Closed, clients),
                }
            }
            Event::Lost(place, fault) => self.fail(place, fault, clients),
            Event::Closed(place) => {
                self.ending -= usize::from(self.seats[place].stage == Stage::Ending);
                self.seats[place] = Seat { is_free: self.seats[place].is_free, ..Seat::vacant() };
                self.offer(place);
            }
        }
    }

    /// Whether nothing is owed on a connection of requests: the server may close it.
    fn is_idle(&self, place: Place) -> bool {
        let is_requests = matches!(self.script.course, Course::Requests { .. });
        is_requests && self.seats[place].due_ns.is_empty()
    }

    fn met(&mut self, place: Place, met: Met, clients: &mut Clients<'_>) {
        let now_ns = clients.now_ns();
        if met.units > 0 || met.has_switched {
            self.moved_ns = now_ns;
        }
        for _ in 0..met.units {
            self.answered(place, now_ns);
        }
        if met.has_switched {
            self.switched(place, clients);
        }
        let seat = &self.seats[place];
        if seat.stage != Stage::Open {
            return;
        }
        match self.script.course {
            Course::Requests { per_connection } => {
                if met.is_last || (seat.said == per_connection && seat.expectation.is_met()) {
                    // The server closes now.
                    self.ask_again(place);
                    self.end(place);
                } else {
                    self.offer(place);
                }
            }
            Course::Messages => self.offer(place),
            Course::Once { .. } if seat.expectation.is_met() => self.finish(place, clients),
            Course::Once { .. } => {}
        }
    }

    /// What was asked for behind the last answer will not be answered here, which is no error (RFC
    /// 9112 §9.6): it is asked for anew, at a rate as of when it was due.
    fn ask_again(&mut self, place: Place) {
        let seat = &mut self.seats[place];
        seat.expectation.expect_no_more();
        self.under_way -= seat.due_ns.len();
        match self.plan.pace {
            Pace::Open { .. } => self.again.extend(seat.due_ns.drain(..)),
            Pace::Closed | Pace::LockStep { .. } => {
                self.begun -= seat.due_ns.drain(..).len() as u64;
            }
        }
    }

    fn answered(&mut self, place: Place, now_ns: u64) {
        if let Some(due_ns) = self.seats[place].due_ns.pop_front() {
            self.under_way -= 1;
            self.tally.answered(now_ns.saturating_sub(due_ns));
        }
    }

    fn switched(&mut self, place: Place, clients: &mut Clients<'_>) {
        self.opening -= 1;
        let seat = &mut self.seats[place];
        seat.stage = Stage::Open;
        match self.script.course {
            Course::Once { .. } if self.script.messages.are_nothing() => {
                self.answered(place, clients.now_ns());
            }
            Course::Once { is_late: true } => self.message(place, 1, clients),
            _ => {
                let waiting = std::mem::take(&mut seat.waiting);
                if waiting > 0 {
                    self.message(place, waiting, clients);
                }
            }
        }
    }

    /// The one message is back: the connection ends in the order of its protocol.
    fn finish(&mut self, place: Place, clients: &mut Clients<'_>) {
        match self.script.protocol {
            Protocol::WebSocket => {
                self.seats[place].expectation.expect_close();
                clients.send(place, websocket::CLOSE);
            }
            Protocol::Raw(_) => clients.finish(place),
        }
        self.end(place);
    }

    fn end(&mut self, place: Place) {
        self.ending += 1;
        self.seats[place].stage = Stage::Ending;
    }

    /// One error, and the end of this connection.
    fn fail(&mut self, place: Place, fault: Fault, clients: &mut Clients<'_>) {
        self.note(place, fault);
        match self.seats[place].stage {
            Stage::Opening => self.opening -= 1,
            Stage::Ending | Stage::Vacant => self.ending -= 1,
            Stage::Open => {}
        }
        self.end(place);
        clients.close(place, Manner::Reset);
    }

    /// Counts an error, and what was under way as not to come any more.
    fn note(&mut self, place: Place, fault: Fault) {
        self.errors += 1;
        self.tally.failed(&fault);
        let seat = &mut self.seats[place];
        self.under_way -= seat.due_ns.len();
        seat.due_ns.clear();
        seat.waiting = 0;
    }

    /// At a rate: what was due, and found no connection until the limit, has failed, and has taken
    /// until then.
    fn note_unsent(&mut self, now_ns: u64) {
        /// So many at most are told one by one: beyond that, runs of them as if due at once.
        const STEPS: u64 = 1000;
        let until_ns = now_ns.min(self.ends_ns().saturating_sub(1)).saturating_sub(self.begun_ns);
        let due = self.plan.pace.due_by(until_ns).min(self.plan.requests_max);
        let again = std::mem::take(&mut self.again);
        for due_ns in &again {
            self.tally.unsent(now_ns.saturating_sub(*due_ns), 1);
        }
        let count = due.saturating_sub(self.begun);
        let step = count.div_ceil(STEPS).max(1);
        for first in (self.begun..self.begun + count).step_by(step as usize) {
            let due_ns = self.plan.pace.due_ns(first).unwrap_or_default();
            let some = step.min(self.begun + count - first);
            self.tally.unsent(now_ns.saturating_sub(self.begun_ns.saturating_add(due_ns)), some);
        }
        self.errors += count + again.len() as u64;
        self.begun += count;
    }

    /// At a limit every connection that something is owed on, or left for, is an error. What is
    /// under way when there were too many, or when somebody has had enough, is nobody's fault.
    fn give_up(&mut self, clients: &mut Clients<'_>) {
        let fault = match self.given_up {
            None | Some(End::Late) => || Fault::Late,
            Some(End::Stalled) => || Fault::Stalled,
            Some(End::TooManyErrors | End::Interrupted | End::Told) => return,
        };
        let is_over = self.given_up.is_none() || clients.now_ns() >= self.ends_ns();
        let left = if is_over { 0 } else { self.plan.requests_max - self.begun };
        let mut left = usize::try_from(left).unwrap_or(usize::MAX);
        for place in 0..self.seats.len() {
            let seat = &self.seats[place];
            let is_owed = match seat.stage {
                Stage::Vacant => false,
                Stage::Opening | Stage::Ending => true,
                Stage::Open => !seat.due_ns.is_empty(),
            };
            if is_owed {
                self.fail(place, fault(), clients);
            } else if left > 0 {
                left -= 1;
                self.note(place, fault());
            }
        }
        self.given_up = self.given_up.and(Some(End::Told));
    }

    /// Puts a seat on the list of those that can be given something to do, if it can.
    fn offer(&mut self, place: Place) {
        if self.has_room(place) && !std::mem::replace(&mut self.seats[place].is_free, true) {
            self.free.push_back(place);
        }
    }

    /// At a rate, as much may be unanswered on a connection as is sent at once otherwise. Behind
    /// its last request nothing is said on it.
    fn has_room(&self, place: Place) -> bool {
        let seat = &self.seats[place];
        let room = match self.plan.pace {
            Pace::Open { .. } => self.script.depth,
            Pace::Closed | Pace::LockStep { .. } => 1,
        };
        let is_used_up = match self.script.course {
            Course::Requests { per_connection } => seat.said == per_connection,
            Course::Messages | Course::Once { .. } => false,
        };
        let can_begin = matches!(seat.stage, Stage::Vacant | Stage::Open);
        can_begin && seat.due_ns.len() < room && !is_used_up
    }

    /// The seat that has been free longest and still is.
    fn take_free(&mut self) -> Option<Place> {
        while let Some(place) = self.free.pop_front() {
            self.seats[place].is_free = false;
            if self.has_room(place) {
                return Some(place);
            }
        }
        None
    }

    /// Has whoever reports know what came since the last time.
    fn tell(&mut self) {
        // Nobody may be there to hear it any more.
        let _ = self.tell.send(News::Progress(std::mem::take(&mut self.tally)));
    }
}
