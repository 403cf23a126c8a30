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
//! processors are not: two that share a core, or a neighbour's, are 1.5 times slower for a while,
//! and four fifths of a maximum become six. So the maximum is found anew for every round, and the
//! half of the rounds counts in which it changed least, which says nothing of latencies.
//!
//! A round in which a server did not keep up with a share counts for nothing there: its queue grew
//! for as long as the round was long, every answer waited, and p99 beside p50 looks like that of a
//! quiet server. Where fewer keep up than are to count there is no row.
//!
//! The maximum is of server and generator together, each on its core; how busy the server was is in
//! the table.

use std::error::Error;
use std::fmt;
use std::path::Path;
use std::str::FromStr;

use clap::Args;
use serde_json::Value;

use crate::Finding;
use crate::counter::Counter;
use crate::figures::{highest, median, round};
use crate::profile::{Plan, Profile, rounds};
use crate::record::Table;
use crate::target::{Server, Target};
use crate::turn::{self, KEPT_UP, Turn};

const SHARES: [f64; 2] = [0.5, 0.8];
/// The share a limit is about.
const LIMITED_SHARE: f64 = 0.8;
const COLUMNS: [&str; 14] = [
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
    "calls",
    "rss_mib",
];

#[derive(Args)]
pub(crate) struct Options {
    #[command(flatten)]
    plan: Plan,
    /// Rounds, each of which measures every target once; the steadier half of them counts.
    #[arg(long, default_value_t = 9, value_parser = rounds())]
    rounds: usize,
    /// Seconds at one share of one target's maximum; half of that to find it, before and behind.
    #[arg(long, default_value_t = 1.0)]
    seconds: f64,
    /// The most NAME's p99 may be of its p50 at 0.8 of its maximum: NAME=2.0.
    #[arg(long = "limit")]
    limits: Vec<Limit>,
    /// Who counts system calls; by default perf, or strace where perf does not work.
    #[arg(long, value_enum)]
    counter: Option<Counter>,
}

impl Options {
    pub(crate) fn targets(&self) -> &[Target] {
        &self.plan.targets
    }
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
    let counters = turn::choose_counters(options.counter, &servers);
    let mut finding = Finding::new(Table::new(&COLUMNS));
    finding.profiles = options.plan.definitions();
    for profile in &options.plan.profiles {
        let servers = servers.of(profile);
        eprintln!("{}: {} servers, {} rounds", profile.name, servers.len(), options.rounds);
        let outcomes = turn::interleave(&servers, options.rounds, |(_, server)| {
            Round::of(options, generator, server, profile)
        });
        for ((name, server), outcome) in servers.iter().zip(outcomes) {
            let counter = counters.get(name).copied();
            let subject = Subject { name, server, profile, counter };
            match outcome {
                Ok(rounds) => subject.tell(&rounds, options, generator, &mut finding),
                Err(error) => subject.fail(&*error, &mut finding),
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
            let turn = take(&profile.at_rate(rate), options.seconds)?;
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

impl At {
    /// How much of what was due was answered.
    fn kept(&self) -> f64 {
        self.turn.report.rate / self.rate
    }

    fn keeps_up(&self) -> bool {
        self.turn.report.rate >= self.rate * KEPT_UP
    }

    fn p99_over_p50(&self) -> f64 {
        self.turn.report.p99_us / self.turn.report.p50_us
    }
}

/// The half of the rounds, rounded up, that drifted least, of those in which the server kept up
/// with the share of this place. Nothing if it did in fewer.
fn steadiest(rounds: &[Round], place: usize) -> Option<Vec<Round>> {
    let mut kept: Vec<Round> =
        rounds.iter().filter(|round| round.at[place].keeps_up()).copied().collect();
    kept.sort_by(|one, other| one.unsteadiness().total_cmp(&other.unsteadiness()));
    let count = rounds.len().div_ceil(2);
    kept.truncate(count);
    (kept.len() == count).then_some(kept)
}

/// The median of a figure at the share of this place.
fn middle(rounds: &[Round], place: usize, figure: fn(&At) -> f64) -> f64 {
    median(rounds.iter().map(|round| figure(&round.at[place])))
}

fn overload(rounds: &[Round], place: usize) -> String {
    let count = rounds.iter().filter(|round| round.at[place].keeps_up()).count();
    let share = SHARES[place];
    let kept = middle(rounds, place, At::kept);
    format!(
        "at {share} of its maximum it kept up in {count} of {} rounds, in the middle one with {kept:.2} of \
         what was due",
        rounds.len()
    )
}

/// Who is told of.
struct Subject<'a> {
    name: &'a str,
    server: &'a Server,
    profile: &'a Profile,
    counter: Option<Counter>,
}

impl Subject<'_> {
    /// A row for each share, or why there is none, and what is over its limit.
    fn tell(&self, rounds: &[Round], options: &Options, generator: &Path, finding: &mut Finding) {
        for (place, share) in SHARES.into_iter().enumerate() {
            let Some(steady) = steadiest(rounds, place) else {
                self.fail(overload(rounds, place), finding);
                continue;
            };
            match self.row(&steady, place, options, generator) {
                Ok(row) => finding.table.push(&row),
                Err(error) => self.fail(error, finding),
            }
            let p99_over_p50 = middle(&steady, place, At::p99_over_p50);
            let is_exceeded =
                |limit: &&Limit| limit.name == self.name && p99_over_p50 > limit.p99_over_p50_max;
            let limit = options.limits.iter().find(is_exceeded);
            if let Some(limit) = limit.filter(|_| share == LIMITED_SHARE) {
                let most = limit.p99_over_p50_max;
                let reason = format!(
                    "p99 is {p99_over_p50:.2} of p50 at {share} of its maximum, limit {most}"
                );
                self.fail(reason, finding);
            }
        }
    }

    fn fail(&self, reason: impl fmt::Display, finding: &mut Finding) {
        finding.failures.push(format!("{}, {}: {reason}", self.name, self.profile.name));
    }

    fn row(
        &self,
        rounds: &[Round],
        place: usize,
        options: &Options,
        generator: &Path,
    ) -> Result<[Value; COLUMNS.len()], Box<dyn Error>> {
        let of = |figure| middle(rounds, place, figure);
        let rate = of(|at| at.rate).round();
        let drift = highest(rounds.iter().map(Round::unsteadiness)).exp();
        let arguments = self.profile.at_rate(rate);
        let count =
            |counter| turn::count(generator, self.server, &arguments, options.seconds, counter);
        let calls = self.counter.map(count).transpose()?;
        Ok([
            self.profile.name.as_str().into(),
            self.name.into(),
            SHARES[place].into(),
            (rate as u64).into(),
            (of(|at| at.turn.report.rate).round() as u64).into(),
            round(of(|at| at.turn.report.p50_us), 1).into(),
            round(of(|at| at.turn.report.p99_us), 1).into(),
            round(of(|at| at.turn.report.p999_us), 1).into(),
            round(of(At::p99_over_p50), 2).into(),
            round(of(|at| at.turn.cpu_us), 3).into(),
            round(of(|at| at.turn.busy()), 2).into(),
            round(drift, 2).into(),
            calls.map(|calls| round(calls, 3)).into(),
            round(of(|at| at.turn.rss_bytes as f64) / f64::from(1 << 20), 1).into(),
        ])
    }
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
            counter: None,
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
        // Three rounds, the one that warms up among them, and a count where somebody may.
        let counts = usize::from(!finding.table.rows()[0][12].is_null());
        let expected = (12 + 2 * counts, 3 + counts, 3 + counts);
        assert_eq!((runs.len(), at(" --rate 500 "), at(" --rate 800 ")), expected);
        assert_eq!((at("--seconds 0.05 "), at("--seconds 0.1 ")), (6, 6 + 2 * counts));
        assert!(finding.table.rows()[0][13].as_f64().unwrap() > 0.0, "resident memory");
    }

    #[test]
    fn the_rounds_in_which_a_maximum_changed_least_count() {
        let at = At { rate: 1.0, turn: turn::tests::turn(1.0) };
        let rounds = [1.5, 0.9, 1.02, 0.5, 1.0].map(|drift| Round { drift, at: [at; 2] });
        let kept = |place| {
            let kept = steadiest(&rounds, place)?;
            Some(kept.iter().map(|round| round.drift).collect::<Vec<_>>())
        };
        assert_eq!(kept(0), Some(vec![1.0, 1.02, 0.9]));
    }

    #[test]
    fn a_round_of_a_server_that_does_not_keep_up_does_not_count() {
        let at = |rate| At { rate, turn: turn::tests::turn(1.0) };
        let round = |drift, rate| Round { drift, at: [at(1.0), at(rate)] };
        let (well, badly) = (1.0 / KEPT_UP, 1.01 / KEPT_UP);
        let rounds = [round(1.0, badly), round(1.1, well), round(1.2, well), round(1.3, well)];
        let drifts = |rounds: &[Round], place| {
            let kept = steadiest(rounds, place)?;
            Some(kept.iter().map(|round| round.drift).collect::<Vec<_>>())
        };
        assert_eq!(drifts(&rounds, 0), Some(vec![1.0, 1.1]));
        assert_eq!(drifts(&rounds, 1), Some(vec![1.1, 1.2]));
        assert_eq!(drifts(&[rounds[0], rounds[1], rounds[0], rounds[0]], 1), None);
    }

    #[test]
    fn an_overloaded_server_has_no_row_and_holds_no_limit() {
        let server = fixture::server("one");
        let slow = report(10, 0).replace("1000.0", "780.0");
        let generator =
            fixture::generator_that_differs("overload", &report(10, 0), "--rate 800 ", &slow);
        let finding = measure(&options(&server.target(), &["one=9"]), generator.path()).unwrap();
        assert_eq!(finding.table.rows().len(), 1);
        assert_eq!(finding.table.rows()[0][2], 0.5);
        let said = "one, a: at 0.8 of its maximum it kept up in 0 of 2 rounds, in the middle one with 0.97 of what was due";
        assert_eq!(finding.failures, [said]);
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
