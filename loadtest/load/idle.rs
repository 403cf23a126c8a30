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
use crate::memory::{self, Memory};
use crate::options::{Idle, Mode};
use crate::pace::Pace;
use crate::process;
use crate::rounds::{Plan, Rounds};
use crate::run::News;
use crate::script::Script;
use crate::tally::Tally;

/// Between one connection's message and the next one's: all at once they would be as many answers to be held
/// at a time, which is another question.
const SPEAK_EVERY_NS: f64 = 50_000.0;
/// Connections that open at the same time: what is weighed are connections, not handshakes under way.
const OPENING_MAX: usize = 1;
/// While connections are held, those that were lost are looked for so often.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Connections that are open, and what came on them.
struct Held {
    clients: Clients<'static>,
    rounds: Rounds,
    news: Receiver<News>,
}

/// What was found.
struct Found {
    before: Memory,
    half: Memory,
    after: Memory,
    tally: Tally,
}

/// Whether all connections stood from their beginning to the end.
pub(crate) fn run(mode: &'static Mode, options: &Idle) -> Result<bool, Box<dyn Error>> {
    if let Some(core) = options.common.core {
        process::pin_to_core(core)?;
    }
    let script: &'static Script = Box::leak(Box::new(Script::of(mode)));
    let found = hold(mode, options, script)?;
    let is_right = found.tally.errors == 0;
    found.tally.tell_faults();
    println!("{}", if options.common.json { found.json(options) } else { found.text(options) });
    Ok(is_right)
}

fn hold(
    mode: &'static Mode,
    options: &Idle,
    script: &'static Script,
) -> Result<Found, Box<dyn Error>> {
    let tell = |what: &str| {
        if !options.common.quiet && !options.common.json {
            eprintln!("{what}");
        }
    };
    let memory = || options.pid.map_or(Ok(Memory::default()), memory::settled);
    let connections = options.common.connections;
    let mut tally = Tally::default();
    if options.warm_up > 0 {
        tell(&format!("{} connections to warm up", options.warm_up));
        let mut warm = Held::open(mode, script, options.warm_up)?;
        warm.rounds.close(&mut warm.clients)?;
        tally.add(warm.tally());
    }
    let before = memory()?;
    tell(&format!("{connections} connections"));
    let mut held = vec![Held::open(mode, script, connections - connections / 2)?];
    let half = memory()?;
    if connections > 1 {
        held.push(Held::open(mode, script, connections / 2)?);
    }
    let after = memory()?;
    tell(&format!("held for {} s", options.seconds));
    let until = Instant::now() + Duration::from_secs_f64(options.seconds);
    while Instant::now() < until {
        held.iter_mut().try_for_each(Held::look)?;
    }
    for mut held in held {
        held.speak()?;
        held.rounds.close(&mut held.clients)?;
        tally.add(held.tally());
    }
    Ok(Found { before, half, after, tally })
}

impl Held {
    /// Connections that have switched, and said one thing that came back.
    fn open(
        mode: &'static Mode,
        script: &'static Script,
        seats: usize,
    ) -> Result<Held, Box<dyn Error>> {
        let common = mode.common();
        // One ring each, for as long as the program runs: they are few.
        let uring = Box::leak(Box::new(setup::build(&ring_config())?));
        let clients = Clients::new(uring, common.target, common.sources, seats)?;
        let plan = Plan {
            pace: Pace::Open { first_ns: 0.0, interval_ns: SPEAK_EVERY_NS },
            requests_max: seats as u64,
            time: Duration::MAX,
            errors_max: 100,
            opening_max: OPENING_MAX,
            limit: mode.limit(),
        };
        let (tell, news) = channel();
        let mut held = Held { clients, rounds: Rounds::new(script, plan, seats, tell), news };
        held.rounds.open(&mut held.clients)?;
        held.speak()?;
        Ok(held)
    }

    /// One message on each connection, and its echo.
    fn speak(&mut self) -> Result<(), Box<dyn Error>> {
        self.rounds.run(&mut self.clients)?;
        Ok(())
    }

    /// Looks for connections that were lost, and for what nobody asked for.
    fn look(&mut self) -> Result<(), Box<dyn Error>> {
        Ok(self.rounds.turn(&mut self.clients, Patience::For(LOOK_EVERY))?)
    }

    fn tally(&self) -> Tally {
        let mut all = Tally::default();
        for news in self.news.try_iter() {
            if let News::Progress(tally) = news {
                all.add(tally);
            }
        }
        all
    }
}

impl Found {
    fn mean(&self, options: &Idle) -> u64 {
        let connections = options.common.connections as u64;
        self.after.anon_bytes.saturating_sub(self.before.anon_bytes) / connections
    }

    fn slope(&self, options: &Idle) -> u64 {
        let connections = options.common.connections as u64;
        self.after.anon_bytes.saturating_sub(self.half.anon_bytes) / (connections / 2).max(1)
    }

    fn json(&self, options: &Idle) -> String {
        let Found { before, half, after, tally } = self;
        serde_json::json!({
            "mode": "idle",
            "connections": options.common.connections,
            "rss_before": before.rss_bytes,
            "rss_after": after.rss_bytes,
            "anon_before": before.anon_bytes,
            "anon_half": half.anon_bytes,
            "anon_after": after.anon_bytes,
            "mean": self.mean(options),
            "slope": self.slope(options),
            "errors": tally.errors,
            "faults": tally.fault_names(),
        })
        .to_string()
    }

    fn text(&self, options: &Idle) -> String {
        let connections = options.common.connections;
        let stood = format!("{connections} connections, {} errors", self.tally.errors);
        if options.pid.is_none() {
            return stood;
        }
        let mib = |bytes: u64| bytes as f64 / 1_048_576.0;
        format!(
            "{stood}\nmemory {:.1} MiB before, {:.1} after (resident {:.1} and {:.1}): \
             {} bytes a connection in the mean, {} for each of the second half",
            mib(self.before.anon_bytes),
            mib(self.after.anon_bytes),
            mib(self.before.rss_bytes),
            mib(self.after.rss_bytes),
            self.mean(options),
            self.slope(options)
        )
    }
}
