//! One server driven by the generator for a moment, and servers taking turns. Used by `load.rs` and
//! `tail.rs`.
//!
//! All servers run at once, idle but for the one whose turn it is, so that the noise of a machine,
//! which comes and goes over seconds, falls on all of them alike:
//!
//! ```text
//!   warm-up   a b c     round 1   a b c     round 2   a b c   ...     of each profile
//! ```

use std::error::Error;
use std::path::Path;
use std::thread;
use std::time::Duration;

use crate::GENERATOR_CORE;
use crate::counter::Counter;
use crate::generator::{Generator, Report};
use crate::target::Server;

/// Until a server has closed the connections of the generator before, so that they are not counted.
const SETTLE: Duration = Duration::from_millis(100);

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
    let spent_ns = server.cpu_ns()? - before_ns;
    let cpu_us = spent_ns as f64 / 1000.0 / report.requests as f64;
    Ok(Turn { report, cpu_us, rss_bytes: server.status_bytes("VmRSS")? })
}

impl Turn {
    /// How much of the time the server was on a processor: 1 is a core.
    pub(crate) fn busy(&self) -> f64 {
        self.cpu_us * self.report.rate / 1e6
    }
}

/// The same, for the system calls of the server per request or message.
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
        for (server, outcome) in servers.iter().zip(&mut outcomes) {
            let Ok(turns) = outcome else { continue };
            match turn(server) {
                Ok(_) if round == 0 => {}
                Ok(turn) => turns.push(turn),
                Err(error) => *outcome = Err(error),
            }
        }
    }
    outcomes
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
        assert_eq!(order, "ababab");
        let turns: Vec<_> = outcomes.into_iter().map(Result::unwrap).collect();
        assert_eq!(turns, [[3, 5], [4, 6]]);
    }

    #[test]
    fn who_fails_once_has_no_turn_any_more() {
        let mut turns = 0;
        let outcomes = interleave(&["a", "b"], 3, |server| {
            turns += 1;
            if turns == 4 { Err(format!("{server} is wrong").into()) } else { Ok(()) }
        });
        assert_eq!(turns, 6);
        assert_eq!(outcomes[0].as_ref().unwrap().len(), 3);
        assert_eq!(outcomes[1].as_ref().unwrap_err().to_string(), "b is wrong");
    }
}
