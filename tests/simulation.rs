//! The whole server, engine, sessions and handlers, in twenty thousand simulated worlds: whatever
//! clients do and however the kernel answers, every byte of every answer arrives once and in order,
//! and at the end nothing is left.
//!
//! A failing seed is printed with the command that replays it. `UPRING_SEEDS=200000` lives through
//! more, from `UPRING_FIRST_SEED` on.

#[path = "support/simulation/mod.rs"]
mod simulation;

use std::collections::BTreeMap;
use std::env;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use simulation::{Lived, live};

const SEEDS: u64 = 20_000;

#[test]
fn every_byte_of_every_answer_arrives_once_and_in_order_and_nothing_is_left() {
    let seeds = number("UPRING_SEEDS").unwrap_or(SEEDS);
    let first = number("UPRING_FIRST_SEED").unwrap_or(0);
    let next = AtomicU64::new(first);
    let has_failed = AtomicBool::new(false);
    let tally = Mutex::new(Tally::default());
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(2, usize::from) {
            scope.spawn(|| {
                let mut own = Tally::default();
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= first + seeds || has_failed.load(Ordering::Relaxed) {
                        break;
                    }
                    match catch_unwind(AssertUnwindSafe(|| live(seed, false))) {
                        Ok(lived) => own.add(&lived),
                        Err(_) => {
                            has_failed.store(true, Ordering::Relaxed);
                            eprintln!("seed {seed} fails; replay it with\n    UPRING_SEED={seed} cargo test --test simulation replay -- --nocapture");
                        }
                    }
                }
                tally.lock().expect("no thread panics with the tally").merge(&own);
            });
        }
    });
    let tally = tally.into_inner().expect("no thread panics with the tally");
    println!("{tally:#?}");
    assert!(!has_failed.into_inner(), "a world went wrong: see above");
    if seeds >= SEEDS {
        tally.check();
    }
}

/// Lives through one world and prints what the engine and its kernel say to each other.
#[test]
fn replay() {
    if let Some(seed) = number("UPRING_SEED") {
        let lived = live(seed, true);
        println!("seed {seed} lived through in {} turns: {:?}", lived.turns, lived.outcomes);
    }
}

#[test]
fn the_same_seed_is_the_same_world() {
    for seed in 0..50 {
        let (first, again) = (live(seed, false), live(seed, false));
        assert_eq!(first.counters, again.counters, "seed {seed}");
        assert_eq!((first.turns, first.outcomes), (again.turns, again.outcomes), "seed {seed}");
    }
}

fn number(name: &str) -> Option<u64> {
    env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is a number")))
}

/// How often everything happened.
#[derive(Debug, Default)]
struct Tally {
    worlds: u64,
    turns_max: u64,
    counts: BTreeMap<String, u64>,
}

impl Tally {
    fn add(&mut self, lived: &Lived) {
        self.worlds += 1;
        self.turns_max = self.turns_max.max(lived.turns);
        for (fault, count) in &lived.injected {
            self.count(format!("fault {fault:?}"), *count);
        }
        for (name, count) in &lived.counters {
            self.count(format!("counter {name}"), *count);
        }
        for reason in &lived.account.reasons {
            self.count(format!("reason {reason:?}"), 1);
        }
        for outcome in &lived.outcomes {
            self.count(format!("client {outcome}"), 1);
        }
        self.count("handler detached".into(), lived.account.detached);
    }

    fn count(&mut self, what: String, count: u64) {
        *self.counts.entry(what).or_default() += count;
    }

    fn merge(&mut self, other: &Tally) {
        self.worlds += other.worlds;
        self.turns_max = self.turns_max.max(other.turns_max);
        for (what, count) in &other.counts {
            self.count(what.clone(), *count);
        }
    }

    fn of(&self, what: &str) -> u64 {
        self.counts.get(what).copied().unwrap_or(0)
    }

    /// What was never tried is not shown to work.
    fn check(&self) {
        for (what, count) in self.counts.iter().filter(|(what, _)| what.starts_with("fault")) {
            assert!(*count >= 100, "{what}: {count}");
        }
        let reasons =
            ["Finished", "HandlerReset", "PeerReset", "SendTimeout", "OutboxFull", "Drained"];
        for reason in reasons {
            assert!(self.of(&format!("reason {reason}")) >= 30, "{reason}");
        }
        let counters = [
            "connections_refused",
            "clients_over_limit",
            "clients_unknown",
            "connections_cut",
            "proxy_headers_read",
            "accept_pauses",
            "requests_faulty",
            "bytes_assembled",
            "upgrades_switched",
            "upgrades_declined",
            "handler_panics",
            "timeouts_heads",
            "timeouts_idle",
            "timeouts_linger",
            "linger_overflows",
            "turns_used_up",
            "timeouts_sent",
            "outbox_overflows",
            "backpressure",
            "receives_starved",
            "rearmed",
            "wakes_across_cores",
        ];
        for counter in counters {
            assert!(self.of(&format!("counter {counter}")) >= 100, "{counter}");
        }
        assert!(self.of("handler detached") >= 100);
        let excused = ["late", "drained", "rude", "unlucky"]
            .map(|outcome| self.of(&format!("client {outcome}")));
        let (excused, whole) = (excused.iter().sum::<u64>(), self.of("client whole"));
        assert!(whole > excused, "{whole} clients got everything, and {excused} had an excuse");
    }
}
