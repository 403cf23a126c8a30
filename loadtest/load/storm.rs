//! Clients that are slow, rude or gone, and beside them honest ones whose answers are timed. Called
//! by `main.rs`.
//!
//! ```text
//!   slow heads       a byte now and then             an answer, a refusal or a close is right
//!   slow readers     many requests, a buffer at      every answer right, or the connection is cut
//!                    times
//!   resets           a request, and RST              nothing comes
//!   half-closes      a request, and FIN              the answer, and then the end
//!   half-handshakes  the first message of TLS        whatever comes is right
//!   honest           a request on a connection of    the answer, soon
//!                    its own, all the time
//! ```
//!
//! Every other slow client is done after half of the storm, if it is let; the others are so slow
//! that a server has to make up its mind about them.
//!
//! A byte that is wrong is an error whoever gets it; so is a half-close or an honest request that
//! is not answered, and a connection that is refused.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::error::Error;
use std::time::{Duration, Instant};

use upring::ring::{Errno, Manner, Receipts, setup};

use crate::clients::{Clients, Event, Patience, Place, nanoseconds, ring_config};
use crate::content::Content;
use crate::expect::{Expectation, Reference};
use crate::fault::Fault;
use crate::interrupt::Interrupt;
use crate::messages::Messages;
use crate::options::{Kind, Storm};
use crate::process;
use crate::say;
use crate::script::Protocol;
use crate::tally::Tally;

/// Between two bytes of a slow head.
const DRIP_NS: u64 = 250_000_000;
/// Between two buffers of a slow reader, and how much it has asked for.
const SIP_NS: u64 = 100_000_000;
const SLOW_READER_REQUESTS: usize = 2000;
/// As many of them as a slow reader has read in half of a second, their answers being of the usual
/// size.
const SLOW_READER_REQUESTS_PER_S: f64 = 50.0;
/// What its socket takes in of the answers: the rest is the server's to hold.
const UNREAD_BYTES: usize = 2304;
/// Longest time from a request to the reset behind it.
const RESET_NS_MAX: u64 = 3_000_000;
/// Honest clients, and how long each thinks.
pub(crate) const HONEST: usize = 8;
const THINK_NS: u64 = 10_000_000;
/// With half-done handshakes they think longer, since a whole one is work for both of us: they are to
/// meet the load, and not to be it.
const THINK_OF_HANDSHAKES_NS: u64 = 100_000_000;
/// How long a handshake is left half-done if the server leaves it so.
const HALF_DONE_NS: u64 = 5_000_000_000;
/// How long a client waits after an error: one that cannot connect is no storm.
const RETRY_NS: u64 = 100_000_000;
/// How long an answer may take once the storm is over.
const AFTERWARDS: Duration = Duration::from_secs(5);
/// Refusals that are the right answer to a client that is slow, or one of too many.
const REFUSALS: [u16; 3] = [408, 429, 503];

/// What a client is like.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Client {
    SlowHead,
    SlowReader,
    Reset,
    HalfClose,
    HalfHandshake,
    Honest,
}

const CLIENTS: [Client; 6] = [
    Client::SlowHead,
    Client::SlowReader,
    Client::Reset,
    Client::HalfClose,
    Client::HalfHandshake,
    Client::Honest,
];
/// The first so many are those of a storm of all kinds.
const KINDS: usize = 4;

impl Client {
    /// That of a seat, of those asked for.
    fn of(asked: Kind, place: Place) -> Client {
        match asked {
            _ if place < HONEST => Client::Honest,
            Kind::SlowHeads => Client::SlowHead,
            Kind::SlowReaders => Client::SlowReader,
            Kind::Resets => Client::Reset,
            Kind::HalfCloses => Client::HalfClose,
            Kind::HalfHandshakes => Client::HalfHandshake,
            Kind::All => CLIENTS[place % KINDS],
        }
    }

    fn name(self) -> &'static str {
        match self {
            Client::SlowHead => "slow-heads",
            Client::SlowReader => "slow-readers",
            Client::Reset => "resets",
            Client::HalfClose => "half-closes",
            Client::HalfHandshake => "half-handshakes",
            Client::Honest => "honest",
        }
    }
}

/// What one kind of client met with.
#[derive(Clone, Copy, Default)]
struct Counts {
    begun: u64,
    answered: u64,
    refused: u64,
    cut: u64,
    errors: u64,
}

struct Seat {
    client: Client,
    expectation: Expectation,
    begun_ns: u64,
    /// Bytes of the head sent so far.
    dripped: usize,
    /// Whether something came before that was all of it.
    is_early: bool,
    /// Which tenant of the seat this is: an alarm of an earlier one is void.
    tenant: u32,
    is_closing: bool,
    has_failed: bool,
}

impl Seat {
    /// Whether a slow client is to be done in time.
    fn finishes(place: Place) -> bool {
        (place / KINDS).is_multiple_of(2)
    }
}

struct Weather<'o> {
    options: &'o Storm,
    reference: Reference,
    request: &'static [u8],
    many: &'static [u8],
    slow: &'static [u8],
    /// The first message of a handshake, made once: the generator's time is for sending it.
    hello: &'static [u8],
    /// Of the slow clients that are done in time.
    drip_ns: u64,
    requests: usize,
    seats: Vec<Seat>,
    alarms: BinaryHeap<Reverse<(u64, Place, u32)>>,
    counts: [Counts; CLIENTS.len()],
    honest: Tally,
    is_over: bool,
    interrupt: &'static Interrupt,
    random: u64,
}

/// Whether nothing was wrong. At the `limit` it is given up.
pub(crate) fn run(
    options: &Storm,
    limit: Duration,
    interrupt: &'static Interrupt,
) -> Result<bool, Box<dyn Error>> {
    if let Some(core) = options.common.core {
        process::pin_to_core(core)?;
    }
    let mut uring = setup::build(&ring_config())?;
    let seats = options.common.connections + HONEST;
    let common = &options.common;
    let mut clients = Clients::new(&mut uring, common, seats)?;
    let hello = clients.hello().unwrap_or_default();
    let mut weather = Weather::new(options, seats, hello, interrupt);
    weather.rage(limit, &mut clients)?;
    weather.honest.tell_faults();
    if interrupt.has_come() {
        say::tell("interrupted: what was under way is not counted\n");
    } else if weather.honest.requests + weather.honest.errors == 0 {
        say::tell("error: no honest client was answered\n");
    }
    say::print(&if common.json { weather.json() } else { weather.text() })?;
    Ok(weather.honest.errors == 0 && weather.honest.requests > 0)
}

impl<'o> Weather<'o> {
    fn new(
        options: &'o Storm,
        seats: usize,
        hello: Vec<u8>,
        interrupt: &'static Interrupt,
    ) -> Weather<'o> {
        let Storm { path, common, .. } = options;
        let head = format!("GET {path} HTTP/1.1\r\nHost: {}\r\n", common.target);
        let request = format!("{head}\r\n").into_bytes();
        let leak = |bytes: Vec<u8>| -> &'static [u8] { Box::leak(bytes.into_boxed_slice()) };
        let seat = |place| Seat {
            client: Client::of(options.kind, place),
            expectation: Expectation::default(),
            begun_ns: 0,
            dripped: 0,
            is_early: false,
            tenant: 0,
            is_closing: false,
            has_failed: false,
        };
        let half_ns = nanoseconds(Duration::from_secs_f64(options.seconds / 2.0));
        let requests = (options.seconds * SLOW_READER_REQUESTS_PER_S) as usize;
        Weather {
            options,
            reference: Reference::new(
                Box::leak(Box::new(Content::default())),
                Box::leak(Box::new(Messages::of(&Protocol::named("-"), 0))),
            ),
            drip_ns: DRIP_NS.min(half_ns / request.len() as u64),
            requests: requests.clamp(1, SLOW_READER_REQUESTS),
            many: leak(request.repeat(SLOW_READER_REQUESTS)),
            request: leak(request),
            hello: leak(hello),
            slow: leak(format!("{head}X-Slow: {}\r\n\r\n", "x".repeat(200)).into_bytes()),
            seats: (0..seats).map(seat).collect(),
            alarms: BinaryHeap::new(),
            counts: Default::default(),
            honest: Tally::default(),
            is_over: false,
            interrupt,
            random: 0x9e37_79b9_7f4a_7c15,
        }
    }

    fn rage(&mut self, limit: Duration, clients: &mut Clients<'_>) -> Result<(), Box<dyn Error>> {
        let begun = Instant::now();
        let (over, limit) = (begun + Duration::from_secs_f64(self.options.seconds), begun + limit);
        for place in 0..self.seats.len() {
            match self.options.rate.filter(|_| place >= HONEST) {
                // One behind the other.
                Some(rate) => {
                    self.alarm(place, ((place - HONEST) as f64 / rate * 1e9) as u64, clients)
                }
                None => self.begin(place, clients),
            }
        }
        while Instant::now() < over.min(limit) && !self.interrupt.has_come() {
            self.turn(over.min(limit), clients)?;
        }
        self.is_over = true;
        let is_cut = limit < over;
        if !is_cut {
            self.calm(limit, clients)?;
        }
        for place in 0..self.seats.len() {
            if !self.interrupt.has_come() && (is_cut || !clients.is_vacant(place)) {
                self.note(place, &Fault::Late);
            }
        }
        Ok(())
    }

    /// Who is owed an answer is to get it; the others are not waited for.
    fn calm(&mut self, limit: Instant, clients: &mut Clients<'_>) -> Result<(), Box<dyn Error>> {
        for place in 0..self.seats.len() {
            if !matches!(self.seats[place].client, Client::Honest | Client::HalfClose) {
                self.close(place, Manner::Reset, clients);
            }
        }
        let until = limit.min(Instant::now() + AFTERWARDS);
        while Instant::now() < until
            && !self.interrupt.has_come()
            && (0..clients.len()).any(|place| !clients.is_vacant(place))
        {
            self.turn(until, clients)?;
        }
        Ok(())
    }

    fn turn(&mut self, until: Instant, clients: &mut Clients<'_>) -> Result<(), Box<dyn Error>> {
        let now_ns = clients.clock_ns();
        while let Some(Reverse((at_ns, place, tenant))) = self.alarms.peek().copied()
            && at_ns <= now_ns
        {
            self.alarms.pop();
            if self.seats[place].tenant == tenant {
                self.alarmed(place, clients);
            }
        }
        let left = until.saturating_duration_since(Instant::now());
        let next = self.alarms.peek().map_or(left, |Reverse((at_ns, ..))| {
            left.min(Duration::from_nanos(at_ns.saturating_sub(now_ns)))
        });
        clients.turn(Patience::For(next))?;
        self.honest.handshakes.add(clients.take_handshakes());
        while let Some(event) = clients.next() {
            self.hear(event, clients);
            // What is sent without end is not read beyond the limit.
            if Instant::now() >= until {
                break;
            }
        }
        Ok(())
    }

    /// A new connection.
    fn begin(&mut self, place: Place, clients: &mut Clients<'_>) {
        let seat = &mut self.seats[place];
        (seat.expectation, seat.dripped, seat.is_closing) = (Expectation::default(), 0, false);
        (seat.begun_ns, seat.has_failed) = (clients.clock_ns(), false);
        seat.is_early = false;
        let client = seat.client;
        self.counts[client as usize].begun += 1;
        let unread = (client == Client::SlowReader).then_some(UNREAD_BYTES);
        let connected = if client == Client::HalfHandshake {
            clients.connect_in_the_clear(place, unread)
        } else {
            clients.connect(place, unread)
        };
        if let Err(fault) = connected {
            self.note(place, &fault);
            return self.alarm(place, RETRY_NS, clients);
        }
        let expectation = &mut self.seats[place].expectation;
        match client {
            Client::SlowHead => {
                expectation.expect_answers(1);
                self.alarm(place, 0, clients);
            }
            Client::SlowReader => {
                let finishes = Seat::finishes(place);
                let requests = if finishes { self.requests } else { SLOW_READER_REQUESTS };
                expectation.expect_answers(requests);
                clients.receive(place, None);
                clients.send(place, &self.many[..requests * self.request.len()]);
                self.alarm(place, SIP_NS, clients);
            }
            Client::Reset => {
                expectation.expect_answers(1);
                clients.send(place, self.request);
                let soon_ns = self.random() % RESET_NS_MAX;
                self.alarm(place, soon_ns, clients);
            }
            Client::HalfClose => {
                expectation.expect_answers(1);
                clients.send(place, self.request);
                clients.finish(place);
            }
            Client::HalfHandshake => {
                clients.send(place, self.hello);
                self.alarm(place, self.half_done_ns(), clients);
            }
            Client::Honest => {
                expectation.expect_answers(1);
                clients.send(place, self.request);
            }
        }
    }

    /// For how long a handshake is left half-done.
    fn half_done_ns(&self) -> u64 {
        let connections = self.options.common.connections as f64;
        self.options.rate.map_or(HALF_DONE_NS, |rate| (connections / rate * 1e9) as u64)
    }

    fn alarmed(&mut self, place: Place, clients: &mut Clients<'_>) {
        if clients.is_vacant(place) {
            if !self.is_over {
                self.begin(place, clients);
            }
            return;
        }
        match self.seats[place].client {
            Client::SlowHead => {
                let (head, drip_ns) = self.slow_head(place);
                let seat = &mut self.seats[place];
                if let Some(byte) = head.get(seat.dripped..=seat.dripped) {
                    seat.dripped += 1;
                    clients.send(place, byte);
                    self.alarm(place, drip_ns, clients);
                }
            }
            Client::SlowReader => {
                clients.receive(place, Some(Receipts::One));
                self.alarm(place, SIP_NS, clients);
            }
            Client::Reset | Client::HalfHandshake => self.close(place, Manner::Reset, clients),
            Client::HalfClose | Client::Honest => {}
        }
    }

    /// What a slow client sends, and how long it waits behind each byte.
    fn slow_head(&self, place: Place) -> (&'static [u8], u64) {
        if Seat::finishes(place) { (self.request, self.drip_ns) } else { (self.slow, DRIP_NS) }
    }

    fn hear(&mut self, event: Event, clients: &mut Clients<'_>) {
        match event {
            // Half of a handshake is no answer, and nobody goes on with it.
            Event::Received(place, _) if self.is_half_handshake(place) => {}
            Event::Received(place, bytes) => {
                let head_bytes = self.slow_head(place).0.len();
                let seat = &mut self.seats[place];
                seat.is_early |= seat.client == Client::SlowHead && seat.dripped < head_bytes;
                match seat.expectation.receive(&bytes, &mut self.reference) {
                    Ok(_) => self.received(place, clients),
                    Err(fault) => self.refused(place, &fault, clients),
                }
            }
            Event::Ended(place) => self.ended(place, &Fault::Closed, clients),
            Event::Lost(place, fault) => self.ended(place, &fault, clients),
            Event::Closed(place) => {
                let seat = &mut self.seats[place];
                seat.tenant += 1;
                if !self.is_over {
                    let think_ns = match seat.client {
                        _ if seat.has_failed => RETRY_NS,
                        Client::Honest if self.options.kind == Kind::HalfHandshakes => {
                            THINK_OF_HANDSHAKES_NS
                        }
                        Client::Honest => THINK_NS,
                        // It is its turn when it would have been if the server had not closed.
                        Client::HalfHandshake if self.options.rate.is_some() => {
                            let due_ns = seat.begun_ns + self.half_done_ns();
                            due_ns.saturating_sub(clients.clock_ns())
                        }
                        _ => 0,
                    };
                    self.alarm(place, think_ns, clients);
                }
            }
        }
    }

    fn is_half_handshake(&self, place: Place) -> bool {
        self.seats[place].client == Client::HalfHandshake
    }

    fn received(&mut self, place: Place, clients: &mut Clients<'_>) {
        let seat = &self.seats[place];
        // Behind its answer, a half-closed connection has to end by itself.
        if !seat.expectation.is_met() || seat.client == Client::HalfClose {
            return;
        }
        if seat.is_early {
            // A refusal may come at any time; what was not asked for yet has no right answer.
            return self.fail(place, &Fault::Early, clients);
        }
        self.answered(place, clients);
        self.close(place, Manner::Close, clients);
    }

    fn answered(&mut self, place: Place, clients: &mut Clients<'_>) {
        let seat = &self.seats[place];
        self.counts[seat.client as usize].answered += 1;
        if seat.client == Client::Honest {
            self.honest.answered(clients.now_ns().saturating_sub(seat.begun_ns));
        }
    }

    /// What came is not the answer: it may be what a slow client deserves.
    fn refused(&mut self, place: Place, fault: &Fault, clients: &mut Clients<'_>) {
        let client = self.seats[place].client;
        let is_slow = matches!(client, Client::SlowHead | Client::SlowReader);
        if is_slow && matches!(fault, Fault::Status(status) if REFUSALS.contains(status)) {
            self.counts[client as usize].refused += 1;
            self.close(place, Manner::Close, clients);
        } else {
            self.fail(place, fault, clients);
        }
    }

    /// The connection is gone, for the reason `fault` has.
    fn ended(&mut self, place: Place, fault: &Fault, clients: &mut Clients<'_>) {
        let seat = &self.seats[place];
        let is_refused = matches!(fault, Fault::Socket(Errno(libc::ECONNREFUSED)) | Fault::Clear);
        match seat.client {
            _ if seat.is_closing => {}
            // In TLS, an end that was not announced may be anyone's.
            Client::HalfClose
                if seat.expectation.is_met() && !matches!(fault, Fault::Truncated) =>
            {
                self.answered(place, clients);
                self.close(place, Manner::Close, clients);
            }
            Client::HalfClose | Client::Honest => self.fail(place, fault, clients),
            _ if is_refused => self.fail(place, fault, clients),
            Client::SlowHead | Client::SlowReader | Client::Reset | Client::HalfHandshake => {
                self.counts[seat.client as usize].cut += 1;
                self.close(place, Manner::Close, clients);
            }
        }
    }

    fn fail(&mut self, place: Place, fault: &Fault, clients: &mut Clients<'_>) {
        self.note(place, fault);
        self.close(place, Manner::Reset, clients);
    }

    fn note(&mut self, place: Place, fault: &Fault) {
        let seat = &mut self.seats[place];
        seat.has_failed = true;
        self.counts[seat.client as usize].errors += 1;
        self.honest.failed(fault);
    }

    fn close(&mut self, place: Place, manner: Manner, clients: &mut Clients<'_>) {
        self.seats[place].is_closing = true;
        clients.close(place, manner);
    }

    fn alarm(&mut self, place: Place, in_ns: u64, clients: &Clients<'_>) {
        let at_ns = clients.clock_ns() + in_ns;
        self.alarms.push(Reverse((at_ns, place, self.seats[place].tenant)));
    }

    /// The same every run (xorshift).
    fn random(&mut self) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random
    }

    fn json(&self) -> String {
        let clients = CLIENTS.iter().map(|client| {
            let Counts { begun, answered, refused, cut, errors } = self.counts[*client as usize];
            let counts = serde_json::json!({
                "begun": begun, "answered": answered, "refused": refused, "cut": cut,
                "errors": errors,
            });
            (client.name().to_owned(), counts)
        });
        serde_json::json!({
            "mode": "storm",
            "connections": self.options.common.connections,
            "clients": clients.collect::<serde_json::Map<_, _>>(),
            "errors": self.honest.errors,
            "tls": self.honest.handshakes.json(&self.options.common.tls),
            "interrupted": self.interrupt.has_come(),
            "honest_p50_us": self.honest.us(0.5),
            "honest_p99_us": self.honest.us(0.99),
            "honest_max_us": self.honest.us(1.0),
            "faults": self.honest.faults(),
        })
        .to_string()
    }

    fn text(&self) -> String {
        let mut lines = vec![format!(
            "{:>15}  {:>9}  {:>9}  {:>9}  {:>9}  {:>9}",
            "client", "begun", "answered", "refused", "cut", "errors"
        )];
        for client in CLIENTS {
            let Counts { begun, answered, refused, cut, errors } = self.counts[client as usize];
            if begun > 0 {
                lines.push(format!(
                    "{:>15}  {begun:9}  {answered:9}  {refused:9}  {cut:9}  {errors:9}",
                    client.name()
                ));
            }
        }
        lines.push(format!(
            "an honest answer on a new connection: p50 {:.1}, p99 {:.1}, max {:.1} us{}",
            self.honest.us(0.5),
            self.honest.us(0.99),
            self.honest.us(1.0),
            self.honest.handshakes.text(&self.options.common)
        ));
        lines.join("\n")
    }
}
