//! Latency at a load a server can bear: at shares of its own maximum, open loop, so that a request
//! counts from when it was due. Called by `main.rs`.
//!
//! ```text
//!   round by round, of every server:
//!     closed loop   its maximum now
//!     open loop     at 0.5 and at 0.8 of that: latencies, and how far the tail is from the middle
//!     closed loop   its maximum again
//! ```
//!
//! A share means something only while the machine is as fast as when the maximum was found. Virtual
//! processors are not: two that share a core, or a neighbour's, are 1.5 times slower for a while, and four
//! fifths of a maximum become six. So the maximum is found anew for every round, and the half of the rounds
//! counts in which it changed least, which says nothing of latencies.
//!
//! The maximum is of server and generator together, each on its core; how busy the server was is in the
//! table.

use std::error::Error;
use std::path::Path;
use std::str::FromStr;

use crate::Finding;
use crate::figures::{median, round};
use crate::profile::{Plan, Profile};
use crate::record::Table;
use crate::target::Server;
use crate::turn::{self, Turn};
use clap::Args;

const SHARES: [f64; 2] = [0.5, 0.8];
/// The share a limit is about.
const LIMITED_SHARE: f64 = 0.8;
const COLUMNS: [&str; 12] = [
    "profile",
    "target",
    "share",
    "rate",
    "achieved",
    "p50_us",
    "p99_us",
    "p999_us",
    "p99_over_p50",
    "cpu_us",
    "busy",
    "drift",
];

#[derive(Args)]
pub(crate) struct Options {
    #[command(flatten)]
    plan: Plan,
    /// Rounds, each of which measures every target once; the steadier half of them counts.
    #[arg(long, default_value_t = 9)]
    rounds: usize,
    /// Seconds at one share of one target's maximum; half of that to find it, before and behind.
    #[arg(long, default_value_t = 1.0)]
    seconds: f64,
    /// The most NAME's p99 may be of its p50 at 0.8 of its maximum: NAME=2.0.
    #[arg(long = "limit")]
    limits: Vec<Limit>,
}

#[derive(Clone, Debug)]
struct Limit {
    name: String,
    p99_over_p50_max: f64,
}

impl FromStr for Limit {
    type Err = String;

    fn from_str(text: &str) -> Result<Limit, String> {
        let (name, figure) = text.split_once('=').ok_or("a limit is NAME=2.0")?;
        let p99_over_p50_max = figure.parse().map_err(|_| "a limit is NAME=2.0")?;
        Ok(Limit { name: name.to_owned(), p99_over_p50_max })
    }
}

pub(crate) fn measure(options: &Options, generator: &Path) -> Result<Finding, Box<dyn Error>> {
    let named =
        |limit: &&Limit| options.plan.targets.iter().any(|target| target.name == limit.name);
    if let Some(limit) = options.limits.iter().find(|limit| !named(limit)) {
        return Err(format!("--limit {}: no target has this name", limit.name).into());
    }
    let servers = options.plan.start()?;
    let mut finding = Finding::new(Table::new(&COLUMNS));
    finding.profiles = options.plan.definitions();
    for profile in &options.plan.profiles {
        let servers = servers.of(profile);
        eprintln!("{}: {} servers, {} rounds", profile.name, servers.len(), options.rounds);
        let outcomes = turn::interleave(&servers, options.rounds, |(_, server)| {
            Round::of(options, generator, server, profile)
        });
        for ((name, _), outcome) in servers.iter().zip(outcomes) {
            match outcome {
                Ok(rounds) => tell(name, profile, &steadiest(rounds), options, &mut finding),
                Err(error) => finding.failures.push(format!("{name}, {}: {error}", profile.name)),
            }
        }
    }
    Ok(finding)
}

/// What one server did in one round.
#[derive(Clone, Copy, Debug)]
struct Round {
    /// Its maximum behind the shares, of that before them.
    drift: f64,
    at: [At; SHARES.len()],
}

/// A share of the maximum: what was asked for a second, and what came of it.
#[derive(Clone, Copy, Debug)]
struct At {
    rate: f64,
    turn: Turn,
}

impl Round {
    fn of(
        options: &Options,
        generator: &Path,
        server: &Server,
        profile: &Profile,
    ) -> Result<Round, Box<dyn Error>> {
        let take = |arguments: &str, seconds| turn::take(generator, server, arguments, seconds);
        let maximum = || {
            Ok::<_, Box<dyn Error>>(take(&profile.arguments, options.seconds / 2.0)?.report.rate)
        };
        let before = maximum()?;
        let share = |share: f64| {
            let rate = (before * share).round();
            let turn = take(&format!("{} --rate {rate}", profile.arguments), options.seconds)?;
            Ok::<_, Box<dyn Error>>(At { rate, turn })
        };
        let at = [share(SHARES[0])?, share(SHARES[1])?];
        Ok(Round { drift: maximum()? / before, at })
    }

    /// How far it drifted, up or down.
    fn unsteadiness(&self) -> f64 {
        self.drift.ln().abs()
    }
}

/// The half of the rounds, rounded up, that drifted least.
fn steadiest(mut rounds: Vec<Round>) -> Vec<Round> {
    rounds.sort_by(|one, other| one.unsteadiness().total_cmp(&other.unsteadiness()));
    rounds.truncate(rounds.len().div_ceil(2));
    rounds
}

/// A row for each share, and what is over its limit.
fn tell(name: &str, profile: &Profile, rounds: &[Round], options: &Options, finding: &mut Finding) {
    let most = rounds.iter().map(Round::unsteadiness).fold(0.0, f64::max);
    for (place, share) in SHARES.into_iter().enumerate() {
        let of =
            |figure: fn(&At) -> f64| median(rounds.iter().map(|round| figure(&round.at[place])));
        let p99_over_p50 = of(|at| at.turn.report.p99_us / at.turn.report.p50_us);
        finding.table.push(&[
            profile.name.as_str().into(),
            name.into(),
            share.into(),
            (of(|at| at.rate).round() as u64).into(),
            (of(|at| at.turn.report.rate).round() as u64).into(),
            round(of(|at| at.turn.report.p50_us), 1).into(),
            round(of(|at| at.turn.report.p99_us), 1).into(),
            round(of(|at| at.turn.report.p999_us), 1).into(),
            round(p99_over_p50, 2).into(),
            round(of(|at| at.turn.cpu_us), 3).into(),
            round(of(|at| at.turn.busy()), 2).into(),
            round(most.exp(), 2).into(),
        ]);
        let is_exceeded =
            |limit: &&Limit| limit.name == name && p99_over_p50 > limit.p99_over_p50_max;
        let limit = options.limits.iter().find(is_exceeded);
        if let Some(limit) = limit.filter(|_| share == LIMITED_SHARE) {
            finding.failures.push(format!(
                "{name}, {}: p99 is {p99_over_p50:.2} of p50 at {share} of its maximum, limit {}",
                profile.name, limit.p99_over_p50_max
            ));
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::fixture::{self, report};

    fn options(target: &str, limits: &[&str]) -> Options {
        Options {
            plan: Plan {
                profiles: vec!["a=http".parse().unwrap()],
                targets: vec![target.parse().unwrap()],
                only: Vec::new(),
            },
            rounds: 2,
            seconds: 0.1,
            limits: limits.iter().map(|text| text.parse().unwrap()).collect(),
        }
    }

    #[test]
    fn rates_are_shares_of_the_servers_own_maximum() {
        let server = fixture::server("one");
        let generator = fixture::generator("shares", &report(10, 0));
        let finding = measure(&options(&server.target(), &[]), generator.path()).unwrap();
        assert_eq!(finding.failures, [""; 0]);
        let rows: Vec<_> = finding.table.rows().iter().map(|row| row[2..9].to_vec()).collect();
        assert!(finding.table.rows().iter().all(|row| row[11] == 1.0), "the maximum is the same");
        let row = |share: f64, rate: u64| -> Vec<Value> {
            let rate = Value::from(rate);
            let figures = [10.0, 30.0, 90.0, 3.0].map(Value::from);
            [vec![share.into(), rate, 1000.into()], figures.to_vec()].concat()
        };
        assert_eq!(rows, [row(0.5, 500), row(0.8, 800)]);
        let runs = generator.runs();
        let at = |text: &str| runs.iter().filter(|run| run.contains(text)).count();
        assert_eq!((runs.len(), at(" --rate 500 "), at(" --rate 800 ")), (12, 3, 3));
        assert_eq!((at("--seconds 0.05 "), at("--seconds 0.1 ")), (6, 6));
    }

    #[test]
    fn the_rounds_in_which_a_maximum_changed_least_count() {
        let at = At { rate: 1.0, turn: turn::tests::turn(1.0) };
        let rounds = [1.5, 0.9, 1.02, 0.5, 1.0].map(|drift| Round { drift, at: [at; 2] });
        let kept: Vec<_> = steadiest(rounds.to_vec()).iter().map(|round| round.drift).collect();
        assert_eq!(kept, [1.0, 1.02, 0.9]);
    }

    #[test]
    fn a_limit_is_held_against_the_higher_share_only() {
        let server = fixture::server("one");
        let generator = fixture::generator("limit", &report(10, 0));
        let failures = |limit| {
            let options = options(&server.target(), &[limit]);
            measure(&options, generator.path()).unwrap().failures
        };
        assert_eq!(failures("one=3.0"), [""; 0]);
        assert_eq!(
            failures("one=2.9"),
            ["one, a: p99 is 3.00 of p50 at 0.8 of its maximum, limit 2.9"]
        );
    }

    #[test]
    fn a_limit_for_nobody_is_refused() {
        let server = fixture::server("one");
        assert!(measure(&options(&server.target(), &["two=2"]), Path::new("none")).is_err());
    }
}
