//! Latency at a load a server can bear: at shares of its own maximum, open loop, so that a request
//! counts from when it was due. Called by `main.rs`.
//!
//! ```text
//!   closed loop   every server, round by round      its maximum: the median rate
//!   open loop     at 0.5 and at 0.8 of that          latencies, and how far the tail is from the middle
//! ```
//!
//! The maximum is of server and generator together, each on its core; what is said on the way tells
//! how busy the server was at it.

use std::error::Error;
use std::path::Path;
use std::str::FromStr;

use clap::Args;
use serde_json::Value;

use crate::Finding;
use crate::figures::{median, round};
use crate::profile::{Plan, Profile};
use crate::record::Table;
use crate::target::Server;
use crate::turn::{self, Turn};

const SHARES: [f64; 2] = [0.5, 0.8];
/// The share a limit is about.
const LIMITED_SHARE: f64 = 0.8;
const COLUMNS: [&str; 10] = [
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
];

#[derive(Args)]
pub(crate) struct Options {
    #[command(flatten)]
    plan: Plan,
    /// Rounds, each of which measures every target once.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Seconds of one turn of one target.
    #[arg(long, default_value_t = 2.0)]
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
        let pace = Pace { options, generator, profile };
        let bounded = pace.maxima(&servers.of(profile), &mut finding);
        for share in SHARES {
            pace.measure_share(share, &bounded, &mut finding);
        }
    }
    Ok(finding)
}

/// A server and the most requests a second it answered.
struct Bounded<'a> {
    name: &'a str,
    server: &'a Server,
    rate_max: f64,
}

/// One profile, at whatever rate.
struct Pace<'a> {
    options: &'a Options,
    generator: &'a Path,
    profile: &'a Profile,
}

impl Pace<'_> {
    fn maxima<'a>(
        &self,
        servers: &[(&'a str, &'a Server)],
        finding: &mut Finding,
    ) -> Vec<Bounded<'a>> {
        eprintln!("{}: {} servers, as fast as they can", self.profile.name, servers.len());
        let Options { rounds, seconds, .. } = self.options;
        let outcomes = turn::interleave(servers, *rounds, |(_, server)| {
            turn::take(self.generator, server, &self.profile.arguments, *seconds)
        });
        let mut bounded = Vec::new();
        for ((name, server), outcome) in servers.iter().zip(outcomes) {
            match outcome {
                Ok(turns) => {
                    let rate_max = median(turns.iter().map(|turn| turn.report.rate));
                    let busy =
                        median(turns.iter().map(|turn| turn.report.rate * turn.cpu_us / 1e6));
                    eprintln!("  {name}: {rate_max:.0} a second, its core {busy:.2} busy");
                    bounded.push(Bounded { name, server, rate_max });
                }
                Err(error) => self.fail(name, &*error, finding),
            }
        }
        bounded
    }

    fn measure_share(&self, share: f64, servers: &[Bounded<'_>], finding: &mut Finding) {
        eprintln!("{}: at {share} of that", self.profile.name);
        let Options { rounds, seconds, .. } = self.options;
        let outcomes = turn::interleave(servers, *rounds, |bounded| {
            let rate = (bounded.rate_max * share).round();
            let arguments = format!("{} --rate {rate}", self.profile.arguments);
            turn::take(self.generator, bounded.server, &arguments, *seconds)
        });
        for (bounded, outcome) in servers.iter().zip(outcomes) {
            let Bounded { name, rate_max, .. } = bounded;
            match outcome {
                Ok(turns) => {
                    finding.table.push(&row(self.profile, name, share, *rate_max, &turns));
                    self.hold_limit(name, share, p99_over_p50(&turns), finding);
                }
                Err(error) => self.fail(name, &*error, finding),
            }
        }
    }

    fn hold_limit(&self, name: &str, share: f64, p99_over_p50: f64, finding: &mut Finding) {
        let exceeded = |limit: &&Limit| limit.name == name && p99_over_p50 > limit.p99_over_p50_max;
        let limit = self.options.limits.iter().find(exceeded);
        if let Some(limit) = limit.filter(|_| share == LIMITED_SHARE) {
            finding.failures.push(format!(
                "{name}, {}: p99 is {p99_over_p50:.2} of p50 at {share} of its maximum, limit {}",
                self.profile.name, limit.p99_over_p50_max
            ));
        }
    }

    fn fail(&self, name: &str, error: &dyn Error, finding: &mut Finding) {
        finding.failures.push(format!("{name}, {}: {error}", self.profile.name));
    }
}

/// The median of each round's.
fn p99_over_p50(turns: &[Turn]) -> f64 {
    median(turns.iter().map(|turn| turn.report.p99_us / turn.report.p50_us))
}

fn row(
    profile: &Profile,
    name: &str,
    share: f64,
    rate_max: f64,
    turns: &[Turn],
) -> [Value; COLUMNS.len()] {
    let of = |figure: fn(&Turn) -> f64| median(turns.iter().map(figure));
    [
        profile.name.as_str().into(),
        name.into(),
        share.into(),
        ((rate_max * share).round() as u64).into(),
        (of(|turn| turn.report.rate).round() as u64).into(),
        round(of(|turn| turn.report.p50_us), 1).into(),
        round(of(|turn| turn.report.p99_us), 1).into(),
        round(of(|turn| turn.report.p999_us), 1).into(),
        round(p99_over_p50(turns), 2).into(),
        round(of(|turn| turn.cpu_us), 3).into(),
    ]
}

#[cfg(test)]
mod tests {
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
        let row = |share: f64, rate: u64| -> Vec<Value> {
            let rate = Value::from(rate);
            let figures = [10.0, 30.0, 90.0, 3.0].map(Value::from);
            [vec![share.into(), rate, 1000.into()], figures.to_vec()].concat()
        };
        assert_eq!(rows, [row(0.5, 500), row(0.8, 800)]);
        let runs = generator.runs();
        let at = |text: &str| runs.iter().filter(|run| run.contains(text)).count();
        assert_eq!((runs.len(), at(" --rate 500 "), at(" --rate 800 ")), (9, 3, 3));
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
