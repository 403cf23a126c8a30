//! Who sends when: opens the connections, lets each start its rounds (at once, or all together),
//! and counts.
//!
//! A connection whose answer was wrong is dropped and its remaining rounds are not asked for: one
//! error each. The whole run, opening included, ends at the time limit.

use std::io;
use std::net::Ipv4Addr;
use std::thread;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use crate::Options;
use crate::client::{Client, Script, Work};
use crate::expect::Fault;
use crate::poll::{Poll, Ready};

const READY_MAX: usize = 1024;
/// Bytes one receive may bring.
const RECEIVE_BYTES: usize = 64 * 1024;
/// Slower answers count as this slow.
const LATENCY_MAX_NS: u64 = 100_000_000_000;
/// Faults that are told one by one; the rest is only counted.
const FAULTS_TOLD_MAX: usize = 8;

/// When a run ends.
#[derive(Clone, Copy)]
pub(crate) enum Span {
    /// After so many rounds of each connection.
    Rounds(u64),
    /// When the answers to what was sent within this time are in.
    Time(Duration),
}

/// What came of a run.
pub(crate) struct Outcome {
    /// Rounds answered rightly.
    pub(crate) rounds: u64,
    pub(crate) errors: u64,
    pub(crate) elapsed: Duration,
    /// From sending a round to its last byte.
    pub(crate) latencies_ns: Histogram<u64>,
    pub(crate) faults: Vec<Fault>,
}

/// All connections and what they have done so far.
pub(crate) struct Load {
    script: Script,
    poll: Poll,
    seats: Vec<Seat>,
    span: Span,
    lock_step: bool,
    pause: Duration,
    sources: u8,
    /// When the run is given up.
    give_up_at: Instant,
    /// When no round is started any more.
    starts_end_at: Instant,
    /// Rounds sent and not yet answered; while opening, switches.
    under_way: usize,
    scratch: Vec<u8>,
    outcome: Outcome,
}

/// The place of one connection, which in `Work::Switch` is a new one each round.
#[derive(Default)]
struct Seat {
    client: Option<Client>,
    rounds: u64,
    failed: bool,
}

impl Load {
    /// Opens every connection, and switches it when the work is done on switched ones.
    pub(crate) fn open(options: &Options) -> Result<Load, Box<dyn std::error::Error>> {
        let opened_at = Instant::now();
        let mut load = Load {
            script: Script::new(options.target, options.work()),
            poll: Poll::new()?,
            seats: Vec::new(),
            span: options.span(),
            lock_step: options.burst,
            pause: Duration::from_micros(options.pause_us),
            sources: options.sources,
            give_up_at: opened_at + Duration::from_secs_f64(options.limit),
            starts_end_at: opened_at,
            under_way: 0,
            scratch: vec![0; RECEIVE_BYTES],
            outcome: Outcome {
                rounds: 0,
                errors: 0,
                elapsed: Duration::ZERO,
                latencies_ns: Histogram::new_with_max(LATENCY_MAX_NS, 3)?,
                faults: Vec::new(),
            },
        };
        load.seats.resize_with(options.connections, Seat::default);
        for index in 0..options.connections {
            load.open_seat(index)?;
        }
        load.answer_all(Load::settle)?;
        Ok(load)
    }

    /// Makes the rounds and returns what came of them. The connections stay open until this value
    /// is dropped.
    pub(crate) fn run(&mut self) -> io::Result<&Outcome> {
        let begun = Instant::now();
        self.starts_end_at = match self.span {
            Span::Rounds(_) => self.give_up_at,
            Span::Time(time) => begun + time,
        };
        let settled = if self.lock_step { Load::settle } else { Load::settle_and_go_on };
        while self.start_rounds() {
            self.answer_all(settled)?;
            thread::sleep(self.pause);
        }
        self.outcome.elapsed = begun.elapsed();
        Ok(&self.outcome)
    }

    fn open_seat(&mut self, index: usize) -> io::Result<()> {
        if matches!(self.script.work, Work::Switch { .. }) {
            return Ok(());
        }
        self.connect(index)?;
        if self.script.work.switches_first() {
            self.under_way += 1;
            self.send(index, Client::send_opening);
        }
        Ok(())
    }

    fn connect(&mut self, index: usize) -> io::Result<()> {
        let source = Ipv4Addr::new(127, 0, 0, 1 + (index % usize::from(self.sources)) as u8);
        let client = Client::connect(source, self.script.target)?;
        self.poll.add(client.stream(), index)?;
        self.seats[index].client = Some(client);
        Ok(())
    }

    /// Sends the next round of every connection. False: none may have one any more.
    fn start_rounds(&mut self) -> bool {
        for index in 0..self.seats.len() {
            self.start_round(index);
        }
        self.under_way > 0
    }

    /// Sends the next round of a connection, if it may have one.
    fn start_round(&mut self, index: usize) {
        let now = Instant::now();
        let rounds_max = match self.span {
            Span::Rounds(rounds) => rounds,
            Span::Time(_) => u64::MAX,
        };
        let seat = &mut self.seats[index];
        if seat.failed || seat.rounds == rounds_max || now >= self.starts_end_at {
            return;
        }
        seat.rounds += 1;
        self.under_way += 1;
        if !matches!(self.script.work, Work::Switch { .. }) {
            self.send(index, |client, script| client.send_round(script, now));
        } else if let Err(error) = self.connect(index) {
            self.fail(index, Fault::Socket(error));
        } else {
            self.send(index, Client::send_opening);
        }
    }

    fn send(&mut self, index: usize, send: impl FnOnce(&mut Client, &Script) -> Result<(), Fault>) {
        let Some(client) = &mut self.seats[index].client else {
            return;
        };
        if let Err(fault) = send(client, &self.script) {
            self.fail(index, fault);
        }
    }

    /// Receives until nothing is under way, or time is over. `settled` hears of each round that was
    /// answered.
    fn answer_all(&mut self, settled: fn(&mut Load, usize)) -> io::Result<()> {
        let mut places = vec![Ready::NONE; READY_MAX];
        while self.under_way > 0 {
            let left = self.give_up_at.saturating_duration_since(Instant::now());
            if left.is_zero() {
                self.give_up();
                return Ok(());
            }
            for &event in self.poll.wait(&mut places, Some(left))? {
                self.serve(event, settled);
            }
        }
        Ok(())
    }

    fn serve(&mut self, event: Ready, settled: fn(&mut Load, usize)) {
        let index = event.token();
        let Some(client) = &mut self.seats[index].client else {
            return;
        };
        let was_answered = client.is_answered();
        let mut outcome = Ok(());
        if event.writable() {
            outcome = client.send(&self.script);
        }
        if event.readable() && outcome.is_ok() {
            outcome = client.receive(&self.script, &mut self.scratch);
        }
        match outcome {
            Err(fault) => self.fail(index, fault),
            Ok(()) if client.is_answered() && !was_answered => settled(self, index),
            Ok(()) => {}
        }
    }

    /// Counts a round of this connection as answered.
    fn settle(&mut self, index: usize) {
        self.under_way -= 1;
        let seat = &mut self.seats[index];
        let Some(client) = &seat.client else { return };
        // Before the first round, what was answered is the request to switch.
        if seat.rounds == 0 {
            return;
        }
        let taken_ns = u64::try_from(client.started().elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.outcome.latencies_ns.saturating_record(taken_ns);
        self.outcome.rounds += 1;
        if matches!(self.script.work, Work::Switch { .. }) {
            seat.client = None;
        }
    }

    fn settle_and_go_on(&mut self, index: usize) {
        self.settle(index);
        self.start_round(index);
    }

    /// Drops the connection and counts one error.
    fn fail(&mut self, index: usize, fault: Fault) {
        let seat = &mut self.seats[index];
        let owes = seat.client.take().is_none_or(|client| !client.is_answered());
        seat.failed = true;
        self.under_way -= usize::from(owes);
        self.outcome.errors += 1;
        if self.outcome.faults.len() < FAULTS_TOLD_MAX {
            self.outcome.faults.push(fault);
        }
    }

    /// Counts every round still under way as an error.
    fn give_up(&mut self) {
        for index in 0..self.seats.len() {
            let owes = |client: &Client| !client.is_answered();
            if self.seats[index].client.as_ref().is_some_and(owes) {
                self.fail(index, Fault::Late);
            }
        }
    }
}
