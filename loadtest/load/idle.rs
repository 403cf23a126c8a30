//! Connections that switch, say one thing and are idle, and the memory they take of a server.
//! Called by `main.rs`.
//!
//! Two figures, because each can flatter. The *mean* counts from a server that has once held the
//! connections of the warm-up, so that start-up and the first use of its buffers are not charged to
//! anyone, but connections that go where those had been are free. The *slope* compares half of the
//! connections with all of them, and knows nothing of either.
//!
//! ```text
//!   warm-up, closed │ before │ first half, one message each │ half │ second half │ after │ held │ one message each
//! ```

use std::error::Error;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use upring::ring::setup;

use crate::clients::{Clients, Patience, ring_config};
use crate::interrupt::Interrupt;
use crate::listener;
use crate::memory::{self, Memory};
use crate::options::{Idle, Mode};
use crate::pace::Pace;
use crate::process;
use crate::rounds::{Plan, Rounds};
use crate::run::News;
use crate::say;
use crate::script::Script;
use crate::tally::Tally;
use crate::tree;

/// Between one connection's message and the next one's: all at once they would be as many answers
/// to be held at a time, which is another question.
const SPEAK_EVERY_NS: f64 = 50_000.0;
/// Connections that open at the same time: what is weighed are connections, not handshakes under
/// way.
const OPENING_MAX: usize = 1;
/// While connections are held, those that were lost are looked for so often.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// What connections are opened for, and until when.
struct Holding {
    mode: &'static Mode,
    options: &'static Idle,
    script: &'static Script,
    interrupt: &'static Interrupt,
    begun: Instant,
}

/// Connections that are open, and what came on them.
struct Held {
    clients: Clients<'static>,
    rounds: Rounds,
    news: Receiver<News>,
}

/// What was found; the memory as far as it was read.
#[derive(Default)]
struct Found {
    before: Option<Memory>,
    half: Option<Memory>,
    after: Option<Memory>,
    tally: Tally,
    is_interrupted: bool,
}

/// Whether all connections stood from their beginning to the end.
pub(crate) fn run(
    mode: &'static Mode,
    options: &'static Idle,
    interrupt: &'static Interrupt,
) -> Result<bool, Box<dyn Error>> {
    if let Some(core) = options.common.core {
        process::pin_to_core(core)?;
    }
    if let Some(pid) = options.pid {
        memory::now(pid)?;
        listener::check(&tree::processes(pid)?, options.common.target)
            .map_err(|problem| format!("--pid {pid}: {problem}"))?;
    }
    let script: &'static Script = Box::leak(Box::new(Script::of(mode)));
    let holding = Holding { mode, options, script, interrupt, begun: Instant::now() };
    let mut found = Found::default();
    holding.find(&mut found)?;
    found.tally.tell_faults();
    if interrupt.has_come() {
        found.is_interrupted = true;
        say::tell("interrupted: not all was done\n");
    }
    say::print(&if options.common.json { found.json(options) } else { found.text(options) })?;
    Ok(found.tally.errors == 0)
}

impl Holding {
    fn find(&self, found: &mut Found) -> Result<(), Box<dyn Error>> {
        let options = self.options;
        let connections = options.common.connections;
        if options.warm_up > 0 {
            self.tell(&format!("{} connections to warm up", options.warm_up));
            self.open(options.warm_up)?.close(&mut found.tally)?;
        }
        found.before = self.memory()?;
        self.tell(&format!("{connections} connections"));
        let mut held = vec![self.open(connections - connections / 2)?];
        found.half = self.memory()?;
        if connections > 1 {
            held.push(self.open(connections / 2)?);
        }
        found.after = self.memory()?;
        self.tell(&format!("held for {} s", options.seconds));
        let until = Instant::now() + Duration::from_secs_f64(options.seconds);
        while Instant::now() < until && !held.iter().any(|held| held.rounds.is_given_up()) {
            held.iter_mut().try_for_each(Held::look)?;
        }
        for mut held in held {
            held.speak()?;
            held.close(&mut found.tally)?;
        }
        Ok(())
    }

    fn tell(&self, what: &str) {
        let common = &self.options.common;
        if !common.quiet && !common.json && !self.interrupt.has_come() {
            say::tell(&format!("{what}\n"));
        }
    }

    /// That of the server, if it is asked for and nothing was cut short.
    fn memory(&self) -> Result<Option<Memory>, Box<dyn Error>> {
        let pid = self.options.pid.filter(|_| !self.interrupt.has_come());
        let memory = pid.map(|pid| memory::settled(pid, self.interrupt)).transpose()?;
        Ok(memory.filter(|_| !self.interrupt.has_come()))
    }

    /// Connections that have switched, and said one thing that came back.
    fn open(&self, seats: usize) -> Result<Held, Box<dyn Error>> {
        let common = &self.options.common;
        // One ring each, for as long as the program runs: they are few.
        let uring = Box::leak(Box::new(setup::build(&ring_config())?));
        let clients = Clients::new(uring, common, seats)?;
        let plan = Plan {
            pace: Pace::Open { first_ns: 0.0, interval_ns: SPEAK_EVERY_NS },
            requests_max: seats as u64,
            time: Duration::MAX,
            errors_max: 100,
            opening_max: OPENING_MAX,
            // Of the whole, what is left.
            limit: self.mode.limit().saturating_sub(self.begun.elapsed()),
            stall: self.mode.stall(),
            interrupt: self.interrupt,
        };
        let (tell, news) = channel();
        let rounds = Rounds::new(self.script, plan, seats, tell);
        let mut held = Held { clients, rounds, news };
        held.rounds.open(&mut held.clients)?;
        held.speak()?;
        Ok(held)
    }
}

impl Held {
    /// One message on each connection, and its echo.
    fn speak(&mut self) -> Result<(), Box<dyn Error>> {
        self.rounds.run(&mut self.clients)?;
        Ok(())
    }

    /// Looks for connections that were lost, and for what nobody asked for.
    fn look(&mut self) -> Result<(), Box<dyn Error>> {
        Ok(self.rounds.turn(&mut self.clients, Patience::For(LOOK_EVERY))?)
    }

    /// Closes all of them, and adds what came on them.
    fn close(&mut self, all: &mut Tally) -> Result<(), Box<dyn Error>> {
        self.rounds.close(&mut self.clients)?;
        for news in self.news.try_iter() {
            if let News::Progress(tally) = news {
                all.add(tally);
            }
        }
        Ok(())
    }
}

impl Found {
    /// Bytes a connection. Below 0 the server has given memory back meanwhile, and it is not known
    /// what a connection takes.
    fn mean(&self, options: &Idle) -> Option<i64> {
        growth(self.before, self.after, options.common.connections)
    }

    /// The same of the second half.
    fn slope(&self, options: &Idle) -> Option<i64> {
        growth(self.half, self.after, options.common.connections / 2)
    }

    fn json(&self, options: &Idle) -> String {
        let Found { before, half, after, tally, is_interrupted } = self;
        let rss = |memory: &Option<Memory>| memory.map(|memory| memory.rss_bytes);
        let anon = |memory: &Option<Memory>| memory.map(|memory| memory.anon_bytes);
        serde_json::json!({
            "mode": "idle",
            "connections": options.common.connections,
            "rss_before": rss(before),
            "rss_after": rss(after),
            "anon_before": anon(before),
            "anon_half": anon(half),
            "anon_after": anon(after),
            "mean": self.mean(options),
            "slope": self.slope(options),
            "errors": tally.errors,
            "tls": tally.handshakes.json(&options.common.tls),
            "interrupted": is_interrupted,
            "faults": tally.faults(),
        })
        .to_string()
    }

    fn text(&self, options: &Idle) -> String {
        let connections = options.common.connections;
        let secured = self.tally.handshakes.text(&options.common);
        let stood = format!("{connections} connections, {} errors{secured}", self.tally.errors);
        let (Some(before), Some(after)) = (self.before, self.after) else {
            return stood;
        };
        let mib = |bytes: u64| bytes as f64 / 1_048_576.0;
        let each = |bytes: Option<i64>| bytes.map_or("?".to_owned(), |bytes| bytes.to_string());
        format!(
            "{stood}\nmemory {:.1} MiB before, {:.1} after (resident {:.1} and {:.1}): \
             {} bytes a connection in the mean, {} for each of the second half",
            mib(before.anon_bytes),
            mib(after.anon_bytes),
            mib(before.rss_bytes),
            mib(after.rss_bytes),
            each(self.mean(options)),
            each(self.slope(options))
        )
    }
}

/// Bytes for each of so many connections.
fn growth(before: Option<Memory>, after: Option<Memory>, connections: usize) -> Option<i64> {
    let bytes = |memory: Memory| i64::try_from(memory.anon_bytes).ok();
    let grown = bytes(after?)? - bytes(before?)?;
    Some(grown / i64::try_from(connections.max(1)).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_that_was_given_back_is_told_as_such() {
        let memory = |anon_bytes| Some(Memory { rss_bytes: 0, anon_bytes });
        assert_eq!(growth(memory(37_000), memory(26_000), 100), Some(-110));
        assert_eq!(growth(memory(26_000), memory(37_000), 100), Some(110));
        assert_eq!(growth(memory(26_000), None, 100), None);
    }
}
