//! The connections of one thread of the generator, over upring's own ring: they connect, send,
//! receive and close, and what comes of it is an [`Event`]. Nothing here knows what is said on
//! them, and nobody else that it may be said in TLS.
//!
//! ```text
//!   connect, send, finish, close ──► settled at the end of a turn ──► ring ──► next() ──► Event
//!                                                │ sealed                        ▲ opened
//!                                                └────────── secured.rs ─────────┘
//! ```
//!
//! A seat is the place of one connection. It is vacant again once its connection is closed, and
//! that is when nothing of it is in flight any more.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::ops::Deref;
use std::time::{Duration, Instant};

use io_uring::IoUring;
use upring::buffer::{Batch, Lease, Payload, Size};
use upring::config::{Limits, RingConfig, Without};
use upring::ring::{
    Completion, Errno, Handle, Kernel, Manner, Receipts, Ring, SetupError, Token, Wait,
};

use crate::fault::Fault;
use crate::options::Common;
use crate::secured::{Handshakes, Secured, Security};
use crate::source;

/// Large enough that an echo of some size comes in few of them.
const BUFFER_BYTES: u32 = 16 * 1024;
const BUFFERS: u16 = 1024;
const BUFFERS_LENT: u16 = 64;
/// Longer sleeps end in between: whoever waits looks at the time.
const SLEEP_MAX: Duration = Duration::from_millis(500);

/// The ring a generator's connections are on: of ordinary descriptors, as those that connect are.
pub(crate) fn ring_config() -> RingConfig {
    RingConfig {
        submissions: 4096,
        completions: 32 * 1024,
        buffers: BUFFERS,
        buffer_bytes: BUFFER_BYTES,
        buffers_lent: BUFFERS_LENT,
        large_buffers: 0,
        without: Without { direct_descriptors: true, ..Without::default() },
        ..RingConfig::default()
    }
}

/// A seat, by its number.
pub(crate) type Place = usize;

/// What happened to the connection of a seat.
pub(crate) enum Event {
    /// Bytes came.
    Received(Place, Bytes),
    /// The peer has ended its direction; nothing more comes.
    Ended(Place),
    /// The connection is lost, or was never had.
    Lost(Place, Fault),
    /// The seat is vacant again.
    Closed(Place),
}

/// What was received, where it was, or what it was opened to.
pub(crate) enum Bytes {
    Lent(Lease),
    Owned(Vec<u8>),
}

impl Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Bytes::Lent(bytes) => bytes,
            Bytes::Owned(bytes) => bytes,
        }
    }
}

/// How long the next turn may wait for an event.
#[derive(Clone, Copy)]
pub(crate) enum Patience {
    /// Not at all: something is due within a millisecond or two.
    None,
    /// So long.
    For(Duration),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Vacant,
    Open,
    /// It closes in this manner once nothing of it is in flight.
    Ending(Manner),
    /// The kernel closes it.
    Closing,
}

struct Seat {
    phase: Phase,
    handle: Handle,
    generation: u32,
    /// In TLS, what is in it is said in the clear in `batch`, and sealed in `rest`.
    secured: Option<Secured>,
    is_handshaking: bool,
    /// What is to be sent, and the rest of a send that came out short, which goes before it.
    batch: Option<Box<Batch>>,
    rest: Option<Box<Batch>>,
    /// What is armed, and what is wanted.
    is_receiving: bool,
    receipts: Option<Receipts>,
    is_sending: bool,
    is_shutting: bool,
    /// Our direction ends once all is sent.
    is_finishing: bool,
    is_stopped: bool,
    is_touched: bool,
}

impl Seat {
    fn vacant() -> Seat {
        Seat {
            phase: Phase::Vacant,
            handle: Handle(0),
            generation: 0,
            secured: None,
            is_handshaking: false,
            batch: None,
            rest: None,
            is_receiving: false,
            receipts: None,
            is_sending: false,
            is_shutting: false,
            is_finishing: false,
            is_stopped: false,
            is_touched: false,
        }
    }

    fn is_in_flight(&self) -> bool {
        self.is_receiving || self.is_sending || self.is_shutting
    }
}

/// Seats, and the ring their connections are on.
pub(crate) struct Clients<'r> {
    ring: Ring<'r>,
    target: SocketAddr,
    sources: u8,
    security: Option<Security>,
    /// Those that are over, and how many are under way.
    handshakes: Handshakes,
    handshaking: usize,
    seats: Vec<Seat>,
    touched: Vec<Place>,
    /// What else came of the last completion.
    events: VecDeque<Event>,
    spare: Vec<Box<Batch>>,
    origin: Instant,
    now_ns: u64,
}

impl<'r> Clients<'r> {
    /// `seats` vacant ones. Their connections come from some addresses of loopback, if the target is
    /// there, and are in TLS, as the options have it.
    ///
    /// # Errors
    /// The kernel refuses the ring.
    pub(crate) fn new(
        uring: &'r mut IoUring,
        options: &Common,
        seats: usize,
    ) -> Result<Clients<'r>, SetupError> {
        let connections_max = u32::try_from(seats).unwrap_or(u32::MAX);
        let limits = Limits { connections_max, ..Limits::default() };
        let ring = Ring::new(uring, &ring_config(), &limits, Vec::new())?;
        Ok(Clients {
            ring,
            target: options.target,
            sources: options.sources,
            security: Security::of(&options.tls, seats),
            handshakes: Handshakes::default(),
            handshaking: 0,
            seats: (0..seats).map(|_| Seat::vacant()).collect(),
            touched: Vec::new(),
            events: VecDeque::new(),
            spare: Vec::new(),
            origin: Instant::now(),
            now_ns: 0,
        })
    }

    pub(crate) fn len(&self) -> usize {
        self.seats.len()
    }

    /// Nanoseconds since these clients were made, as of the last turn: when what it brought had
    /// come.
    pub(crate) fn now_ns(&self) -> u64 {
        self.now_ns
    }

    /// The same, read now.
    pub(crate) fn clock_ns(&self) -> u64 {
        nanoseconds(self.origin.elapsed())
    }

    /// Handshakes that are over, since this was last asked.
    pub(crate) fn take_handshakes(&mut self) -> Handshakes {
        std::mem::take(&mut self.handshakes)
    }

    /// Those under way.
    pub(crate) fn handshaking(&self) -> usize {
        self.handshaking
    }

    /// A first message of TLS, if that is what is spoken.
    pub(crate) fn hello(&mut self) -> Option<Vec<u8>> {
        self.security.as_mut().map(Security::hello)
    }

    pub(crate) fn is_vacant(&self, place: Place) -> bool {
        self.seats[place].phase == Phase::Vacant
    }

    /// Connects a vacant seat, and receives on it. What is sent before the connection stands is
    /// sent once it does. `unread_bytes` are what its socket takes in of what is not received, if
    /// that is not the kernel's to choose.
    ///
    /// # Errors
    /// The kernel refuses at once; a peer that refuses later is [`Event::Lost`].
    pub(crate) fn connect(
        &mut self,
        place: Place,
        unread_bytes: Option<usize>,
    ) -> Result<(), Fault> {
        self.connect_in_the_clear(place, unread_bytes)?;
        self.seats[place].secured = self.security.as_mut().map(|security| security.begin(place));
        self.seats[place].is_handshaking = self.security.is_some();
        self.handshaking += usize::from(self.security.is_some());
        Ok(())
    }

    /// The same, whatever the options say of TLS.
    ///
    /// # Errors
    /// The same.
    pub(crate) fn connect_in_the_clear(
        &mut self,
        place: Place,
        unread_bytes: Option<usize>,
    ) -> Result<(), Fault> {
        debug_assert!(self.is_vacant(place), "a seat has one connection");
        let socket = source::connect(self.target, place, self.sources, unread_bytes)
            .map_err(Fault::Connect)?;
        let handle = self.ring.adopt(socket).map_err(Fault::Connect)?;
        let generation = (self.seats[place].generation + 1) & Token::GENERATION_MASK;
        let receipts = Some(Receipts::Many);
        self.seats[place] =
            Seat { phase: Phase::Open, handle, generation, receipts, ..Seat::vacant() };
        self.touch(place);
        Ok(())
    }

    /// Sends `bytes` behind what is being sent.
    pub(crate) fn send(&mut self, place: Place, bytes: impl Into<Payload>) {
        let seat = &mut self.seats[place];
        let spare = &mut self.spare;
        let batch = seat.batch.get_or_insert_with(|| spare.pop().unwrap_or_default());
        batch.push(bytes.into());
        self.touch(place);
    }

    /// How much is received from now on: nothing, a buffer, or all that comes.
    pub(crate) fn receive(&mut self, place: Place, receipts: Option<Receipts>) {
        self.seats[place].receipts = receipts;
        self.touch(place);
    }

    /// Ends our direction behind all that is to be sent.
    pub(crate) fn finish(&mut self, place: Place) {
        self.seats[place].is_finishing = true;
        self.touch(place);
    }

    /// Closes the connection, whatever is under way on it. [`Event::Closed`] follows, if there is
    /// one.
    pub(crate) fn close(&mut self, place: Place, manner: Manner) {
        if self.seats[place].phase == Phase::Open {
            self.seats[place].phase = Phase::Ending(manner);
            self.leave_handshake(place);
            self.touch(place);
        }
    }

    /// Gives everything asked for to the kernel, and waits for something to happen.
    ///
    /// # Errors
    /// The kernel will have no more of this ring.
    pub(crate) fn turn(&mut self, patience: Patience) -> std::io::Result<()> {
        while let Some(place) = self.touched.pop() {
            self.settle(place);
        }
        let wait = match patience {
            Patience::None => Wait::No,
            Patience::For(time) => {
                // The ring's clock counts milliseconds: no wake comes too early.
                let time_ms = time.min(SLEEP_MAX).as_millis() as u64 + 1;
                self.ring.wake_at(self.ring.now() + time_ms);
                Wait::ForOne
            }
        };
        self.ring.enter(wait)?;
        self.now_ns = self.clock_ns();
        Ok(())
    }

    /// The next thing that happened.
    pub(crate) fn next(&mut self) -> Option<Event> {
        loop {
            // Whoever heard the first of them may have closed the connection.
            while let Some(event) = self.events.pop_front() {
                match event {
                    Event::Received(place, _) | Event::Ended(place) if !self.is_open(place) => {}
                    event => return Some(event),
                }
            }
            let completion = self.ring.complete()?;
            if let Some(event) = self.translate(completion) {
                return Some(event);
            }
        }
    }

    fn is_open(&self, place: Place) -> bool {
        self.seats[place].phase == Phase::Open
    }

    fn translate(&mut self, completion: Completion) -> Option<Event> {
        match completion {
            Completion::Received { connection, result, more } => {
                self.received(connection.slot as Place, result, more)
            }
            Completion::Sent { connection, result, batch } => {
                self.sent(connection.slot as Place, result, batch)
            }
            Completion::ShutDown { connection } => {
                self.seats[connection.slot as Place].is_shutting = false;
                self.touch(connection.slot as Place);
                None
            }
            Completion::Closed { connection } => {
                let place = connection.slot as Place;
                let seat = &mut self.seats[place];
                seat.phase = Phase::Vacant;
                seat.secured = None;
                for batch in [seat.batch.take(), seat.rest.take()].into_iter().flatten() {
                    self.recycle(batch);
                }
                Some(Event::Closed(place))
            }
            // Nothing else was asked for but the tick, which has done its work by waking us.
            _ => None,
        }
    }

    fn received(
        &mut self,
        place: Place,
        result: Result<Option<Lease>, Errno>,
        more: bool,
    ) -> Option<Event> {
        let seat = &mut self.seats[place];
        seat.is_receiving = more;
        let is_open = seat.phase == Phase::Open;
        if seat.receipts == Some(Receipts::One) && !more {
            // Whoever receives a buffer at a time asks for each.
            seat.receipts = None;
        }
        self.touch(place);
        match result {
            Ok(Some(bytes)) if is_open => self.opened(place, bytes),
            Ok(Some(_)) => None,
            Ok(None) => {
                let seat = &mut self.seats[place];
                seat.receipts = None;
                match seat.secured.as_ref().filter(|_| is_open) {
                    // It has been told of when it was said.
                    Some(secured) if secured.has_ended() => None,
                    Some(secured) => {
                        let fault = secured.cut();
                        self.lost(place, fault)
                    }
                    None => is_open.then_some(Event::Ended(place)),
                }
            }
            // Armed again when this turn is settled.
            Err(Errno::NOBUFS) => {
                self.ring.starved(Size::Usual);
                None
            }
            Err(Errno::CANCELED) => None,
            Err(errno) => self.lost(place, Fault::Socket(errno)),
        }
    }

    /// What is said in what was received.
    fn opened(&mut self, place: Place, received: Lease) -> Option<Event> {
        let seat = &mut self.seats[place];
        let Some(secured) = &mut seat.secured else {
            return Some(Event::Received(place, Bytes::Lent(received)));
        };
        if secured.has_ended() {
            return None;
        }
        let said = match secured.receive(&received) {
            Ok(said) => said,
            Err(fault) => return self.lost(place, fault),
        };
        let has_ended = secured.has_ended();
        if seat.is_handshaking && !secured.is_handshaking() {
            let resumed = u64::from(secured.is_resumed());
            self.handshakes.add(Handshakes { all: 1, resumed });
            self.leave_handshake(place);
        }
        if !said.is_empty() {
            self.events.push_back(Event::Received(place, Bytes::Owned(said)));
        }
        if has_ended {
            self.events.push_back(Event::Ended(place));
        }
        self.events.pop_front()
    }

    fn leave_handshake(&mut self, place: Place) {
        if std::mem::take(&mut self.seats[place].is_handshaking) {
            self.handshaking -= 1;
        }
    }

    fn sent(
        &mut self,
        place: Place,
        result: Result<usize, Errno>,
        mut batch: Box<Batch>,
    ) -> Option<Event> {
        let seat = &mut self.seats[place];
        seat.is_sending = false;
        if let Ok(count) = result {
            batch.advance(count);
        }
        let is_open = seat.phase == Phase::Open;
        let is_lost = is_open && !matches!(result, Ok(_) | Err(Errno::CANCELED));
        if is_open && !is_lost && !batch.is_empty() {
            seat.rest = Some(batch);
        } else {
            self.recycle(batch);
        }
        self.touch(place);
        let errno = result.err().filter(|_| is_lost)?;
        self.lost(place, Fault::Socket(errno))
    }

    fn lost(&mut self, place: Place, fault: Fault) -> Option<Event> {
        if !self.is_open(place) {
            return None;
        }
        self.leave_handshake(place);
        let seat = &mut self.seats[place];
        seat.phase = Phase::Ending(Manner::Close);
        // There is nobody to say goodbye to.
        seat.secured = None;
        Some(Event::Lost(place, fault))
    }

    /// What a seat now wants of the kernel.
    fn settle(&mut self, place: Place) {
        let Clients { ring, seats, spare, .. } = self;
        let seat = &mut seats[place];
        seat.is_touched = false;
        let token = Token { slot: place as u32, generation: seat.generation };
        match seat.phase {
            Phase::Vacant | Phase::Closing => {}
            Phase::Open => seat.go_on(token, ring, spare),
            Phase::Ending(manner) => {
                if !std::mem::replace(&mut seat.is_stopped, true) {
                    seat.stop(token, ring);
                    if manner == Manner::Close {
                        seat.say_close(token, ring, spare);
                    }
                }
                if !seat.is_in_flight() {
                    seat.phase = Phase::Closing;
                    ring.close(token, seat.handle, manner);
                }
            }
        }
    }

    fn recycle(&mut self, mut batch: Box<Batch>) {
        batch.clear();
        self.spare.push(batch);
    }

    fn touch(&mut self, place: Place) {
        if !std::mem::replace(&mut self.seats[place].is_touched, true) {
            self.touched.push(place);
        }
    }
}

/// What does not fit is for ever.
pub(crate) fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

impl Seat {
    fn go_on(&mut self, token: Token, ring: &mut Ring<'_>, spare: &mut Vec<Box<Batch>>) {
        if !self.is_sending && self.rest.is_none() {
            self.seal(spare);
        }
        if !self.is_sending
            && let Some(batch) = self.rest.take().or_else(|| self.batch.take())
        {
            self.is_sending = true;
            ring.send(token, self.handle, batch);
            // The answer to what is sent matters, not that it has left.
            ring.relax();
        }
        // What is asked for while something is being sent is settled again when that is over.
        let has_said_all = self.secured.as_ref().is_none_or(Secured::has_said_close);
        if self.is_finishing && has_said_all && !self.is_sending {
            (self.is_finishing, self.is_shutting) = (false, true);
            ring.shutdown(token, self.handle);
        }
        let receipts = match &self.secured {
            // Whoever does not want to read yet has to be somebody first.
            Some(secured) if secured.is_handshaking() => self.receipts.or(Some(Receipts::One)),
            _ => self.receipts,
        };
        match receipts {
            Some(receipts) if !self.is_receiving => {
                self.is_receiving = true;
                ring.receive(token, self.handle, receipts);
            }
            _ => {}
        }
    }

    /// Has the batch be what is said in it, sealed, and whatever else TLS has to say.
    fn seal(&mut self, spare: &mut Vec<Box<Batch>>) {
        let Some(secured) = &mut self.secured else { return };
        let said = self.batch.take();
        if let Some(said) = &said {
            secured.write(said);
        }
        if self.is_finishing {
            secured.finish();
        }
        let mut batch = said.or_else(|| spare.pop()).unwrap_or_default();
        batch.clear();
        match secured.output() {
            Some(sealed) => {
                batch.push(sealed.into());
                self.batch = Some(batch);
            }
            None => spare.push(batch),
        }
    }

    /// Says goodbye in TLS, unless something else is still being said.
    fn say_close(&mut self, token: Token, ring: &mut Ring<'_>, spare: &mut Vec<Box<Batch>>) {
        if self.is_sending || self.rest.is_some() || self.secured.is_none() {
            return;
        }
        self.is_finishing = true;
        self.seal(spare);
        if let Some(batch) = self.batch.take() {
            self.is_sending = true;
            ring.send(token, self.handle, batch);
        }
    }

    fn stop(&mut self, token: Token, ring: &mut Ring<'_>) {
        if self.is_receiving {
            ring.stop_receive(token);
        }
        if self.is_sending {
            ring.stop_send(token);
        }
    }
}
