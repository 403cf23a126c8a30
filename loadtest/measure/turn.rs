//! One server driven by the generator for a moment, and servers taking turns. Used by `load.rs` and
//! `tail.rs`.
//!
//! All servers run at once, idle but for the one whose turn it is, so that the noise of a machine,
//! which comes and goes over seconds, falls on all of them alike:
//!
//! ```text
//!   warm-up   a b c     round 1   c b a     round 2   b c a     round 3   a c b   ...     of each profile
//! ```
//!
//! The order changes, so that none always has the turn behind the same other one, whose end it may
//! feel.

use std::collections::BTreeMap;
use std::error::Error;
use std::path::Path;
use std::thread;
use std::time::Duration;

use crate::GENERATOR_CORE;
use crate::counter::Counter;
use crate::generator::{Generator, Report};
use crate::profile::Servers;
use crate::target::Server;

/// Until a server has closed the connections of the generator before, so that they are not counted.
const SETTLE: Duration = Duration::from_millis(100);

/// Who answers less than this part of the requests that are due does not keep up.
pub(crate) const KEPT_UP: f64 = 0.98;

/// What one turn brought.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Turn {
    pub(crate) report: Report,
    /// Server processor microseconds per request or message.
    pub(crate) cpu_us: f64,
    /// Resident while the connections were open.
    pub(crate) rss_bytes: u64,
}

/// Drives the server with `arguments` for some seconds.
pub(crate) fn take(
    generator: &Path,
    server: &Server,
    arguments: &str,
    seconds: f64,
) -> Result<Turn, Box<dyn Error>> {
    let mut generator = open(generator, server, arguments, seconds)?;
    let before_ns = server.cpu_ns()?;
    let report = generator.run()?;
    let spent_ns = server.cpu_ns_since(before_ns)?;
    let cpu_us = spent_ns as f64 / 1000.0 / report.requests as f64;
    Ok(Turn { report, cpu_us, rss_bytes: server.status_bytes("VmRSS")? })
}

impl Turn {
    /// How much of the time the server was on a processor: 1 is a core.
    pub(crate) fn busy(&self) -> f64 {
        self.cpu_us * self.report.rate / 1e6
    }
}

/// Who counts for each server, by its name; nobody where nobody may: times are worth having
/// without.
pub(crate) type Counters<'a> = BTreeMap<&'a str, Counter>;

pub(crate) fn choose_counters<'a>(
    chosen: Option<Counter>,
    servers: &'a Servers<'_>,
) -> Counters<'a> {
    let choose = |(name, server)| match choose_counter(chosen, server) {
        Ok(counter) => Some((name, counter)),
        Err(error) => {
            eprintln!("{name}: system calls are not counted: {error}");
            None
        }
    };
    servers.all().filter_map(choose).collect()
}

fn choose_counter(chosen: Option<Counter>, server: &Server) -> Result<Counter, Box<dyn Error>> {
    match chosen {
        Some(counter) => Ok(counter),
        None => Counter::choose(&server.processes()?),
    }
}

/// What `take` does, for the system calls of the server per request or message.
pub(crate) fn count(
    generator: &Path,
    server: &Server,
    arguments: &str,
    seconds: f64,
    counter: Counter,
) -> Result<f64, Box<dyn Error>> {
    let mut generator = open(generator, server, arguments, seconds)?;
    thread::sleep(SETTLE);
    let counting = counter.attach(&server.processes()?)?;
    let report = generator.run()?;
    Ok(counting.finish()? as f64 / report.requests as f64)
}

fn open(
    generator: &Path,
    server: &Server,
    arguments: &str,
    seconds: f64,
) -> Result<Generator, Box<dyn Error>> {
    let arguments = format!("{arguments} --seconds {seconds} --core {GENERATOR_CORE}");
    Generator::open(generator, server.address, &arguments)
}

/// The turns of each of some servers, or the error that ended its part.
pub(crate) type Outcomes<T> = Vec<Result<Vec<T>, Box<dyn Error>>>;

/// So many rounds in which each of `servers` has a turn, behind one that warms up and is not among
/// what is returned. Who fails once has no turn any more: what it did before is worth nothing.
pub(crate) fn interleave<S, T>(
    servers: &[S],
    rounds: usize,
    mut turn: impl FnMut(&S) -> Result<T, Box<dyn Error>>,
) -> Outcomes<T> {
    let mut outcomes: Outcomes<T> = servers.iter().map(|_| Ok(Vec::new())).collect();
    for round in 0..=rounds {
        for place in order(servers.len(), round) {
            let Ok(turns) = &mut outcomes[place] else { continue };
            match turn(&servers[place]) {
                Ok(_) if round == 0 => {}
                Ok(turn) => turns.push(turn),
                Err(error) => outcomes[place] = Err(error),
            }
        }
    }
    outcomes
}

/// The places of `len` servers in the order of a round: forth and back, and then from the next one
/// on.
fn order(len: usize, round: usize) -> Vec<usize> {
    let mut places: Vec<usize> = (0..len).map(|place| (place + round / 2) % len).collect();
    if !round.is_multiple_of(2) {
        places.reverse();
    }
    places
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A turn of a server that costs so much a request.
    pub(crate) fn turn(cpu_us: f64) -> Turn {
        let report =
            Report { requests: 1, rate: 1.0, p50_us: 1.0, p99_us: 1.0, p999_us: 1.0, fifo: false };
        Turn { report, cpu_us, rss_bytes: 3 << 20 }
    }

    #[test]
    fn a_core_is_busy_for_as_long_as_its_requests_take() {
        let report = Report { rate: 250_000.0, ..turn(1.0).report };
        assert_eq!(Turn { report, ..turn(3.0) }.busy(), 0.75);
    }

    #[test]
    fn servers_take_turns_and_the_first_round_warms_up() {
        let mut order = String::new();
        let outcomes = interleave(&["a", "b"], 2, |server| {
            order.push_str(server);
            Ok(order.len())
        });
        assert_eq!(order, "abbaba");
        let turns: Vec<_> = outcomes.into_iter().map(Result::unwrap).collect();
        assert_eq!(turns, [[4, 6], [3, 5]]);
    }

    #[test]
    fn none_has_its_turn_behind_the_same_one_always() {
        for len in 3..=11 {
            let rounds: Vec<Vec<usize>> = (0..=9).map(|round| order(len, round)).collect();
            for place in 0..len {
                let before = |round: &Vec<usize>| {
                    let at = round.iter().position(|other| *other == place)?;
                    at.checked_sub(1).map(|at| round[at])
                };
                let mut before: Vec<usize> = rounds.iter().filter_map(before).collect();
                before.sort_unstable();
                before.dedup();
                assert!(before.len() > 1, "{place} of {len} is always behind {before:?}");
            }
        }
        assert_eq!([0, 1, 2, 3].map(|round| order(2, round)), [[0, 1], [1, 0], [1, 0], [0, 1]]);
        assert_eq!(order(0, 3), [0; 0]);
    }

    #[test]
    fn who_fails_once_has_no_turn_any_more() {
        let mut turns = 0;
        let outcomes = interleave(&["a", "b"], 3, |server| {
            turns += 1;
            if turns == 3 { Err(format!("{server} is wrong").into()) } else { Ok(()) }
        });
        // a b, b and a, where b is wrong, a, a.
        assert_eq!(turns, 6);
        assert_eq!(outcomes[0].as_ref().unwrap().len(), 3);
        assert_eq!(outcomes[1].as_ref().unwrap_err().to_string(), "b is wrong");
    }
}
