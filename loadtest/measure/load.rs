//! What servers cost and bring under named loads, free-running. Called by `main.rs`.
//!
//! Times come from rounds in which the servers take turns (`turn.rs`), and a figure is the median
//! of its rounds. System calls are counted behind them, in a turn of their own: a traced server is
//! no server whose time is worth anything. A server that answers wrongly once has no row; nor has one
//! that is asked for so much a second (`--rate`) and does not keep up, whose queue grows for as long
//! as a turn is long.

use std::error::Error;
use std::path::Path;

use clap::Args;
use serde_json::Value;

use crate::Finding;
use crate::counter::Counter;
use crate::figures::{highest, lowest, median, round};
use crate::profile::{Plan, Profile, Servers, rounds};
use crate::record::Table;
use crate::target::Target;
use crate::turn::{self, Counters, KEPT_UP, Turn};

const COLUMNS: [&str; 12] = [
    "profile",
    "target",
    "rate",
    "p50_us",
    "p99_us",
    "p999_us",
    "cpu_us",
    "cpu_us_lowest",
    "cpu_us_highest",
    "ratio",
    "calls",
    "rss_mib",
];

#[derive(Args)]
pub(crate) struct Options {
    #[command(flatten)]
    plan: Plan,
    /// Rounds, each of which measures every target once.
    #[arg(long, default_value_t = 11, value_parser = rounds())]
    rounds: usize,
    /// Seconds of one turn of one target.
    #[arg(long, default_value_t = 0.5)]
    seconds: f64,
    /// Who counts system calls; by default perf, or strace where perf does not work.
    #[arg(long, value_enum)]
    counter: Option<Counter>,
}

impl Options {
    pub(crate) fn targets(&self) -> &[Target] {
        &self.plan.targets
    }
}

pub(crate) fn measure(options: &Options, generator: &Path) -> Result<Finding, Box<dyn Error>> {
    let servers = options.plan.start()?;
    let counters = turn::choose_counters(options.counter, &servers);
    let mut finding = Finding::new(Table::new(&COLUMNS));
    finding.profiles = options.plan.definitions();
    for profile in &options.plan.profiles {
        measure_profile(options, generator, &counters, profile, &servers, &mut finding);
    }
    Ok(finding)
}

fn measure_profile(
    options: &Options,
    generator: &Path,
    counters: &Counters<'_>,
    profile: &Profile,
    servers: &Servers<'_>,
    finding: &mut Finding,
) {
    let servers = servers.of(profile);
    if servers.is_empty() {
        return;
    }
    eprintln!("{}: {} servers, {} rounds", profile.name, servers.len(), options.rounds);
    let outcomes = turn::interleave(&servers, options.rounds, |(_, server)| {
        turn::take(generator, server, &profile.arguments, options.seconds)
    });
    let first = outcomes[0].as_deref().unwrap_or(&[]);
    if first.is_empty() && outcomes.iter().any(Result::is_ok) {
        let (name, profile) = (servers[0].0, &profile.name);
        let failure =
            format!("{profile}: {name} has no row, and so the others have no ratio to it");
        finding.failures.push(failure);
    }
    for ((name, server), outcome) in servers.iter().zip(&outcomes) {
        let count = |counter: &Counter| {
            turn::count(generator, server, &profile.arguments, options.seconds, *counter)
        };
        let row = outcome.as_ref().map_err(ToString::to_string).and_then(|turns| {
            keeps_up(turns, profile.asked_rate())?;
            let calls = counters.get(name).map(count).transpose();
            Ok(row(profile, name, turns, first, calls.map_err(|error| error.to_string())?))
        });
        match row {
            Ok(row) => finding.table.push(&row),
            Err(error) => finding.failures.push(format!("{name}, {}: {error}", profile.name)),
        }
    }
}

/// Says if a server answered too little of what was asked for a second.
fn keeps_up(turns: &[Turn], asked: Option<f64>) -> Result<(), String> {
    let rate = median(turns.iter().map(|turn| turn.report.rate));
    match asked {
        Some(asked) if rate < asked * KEPT_UP => Err(format!(
            "it answered {rate:.0} a second of the {asked:.0} that were due, which is no keeping up"
        )),
        _ => Ok(()),
    }
}

fn row(
    profile: &Profile,
    name: &str,
    turns: &[Turn],
    first: &[Turn],
    calls: Option<f64>,
) -> [Value; COLUMNS.len()] {
    let of = |figure: fn(&Turn) -> f64| median(turns.iter().map(figure));
    let cpu_us = || turns.iter().map(|turn| turn.cpu_us);
    let ratio = median(turns.iter().zip(first).map(|(turn, first)| turn.cpu_us / first.cpu_us));
    [
        profile.name.as_str().into(),
        name.into(),
        (of(|turn| turn.report.rate).round() as u64).into(),
        round(of(|turn| turn.report.p50_us), 1).into(),
        round(of(|turn| turn.report.p99_us), 1).into(),
        round(of(|turn| turn.report.p999_us), 1).into(),
        round(median(cpu_us()), 3).into(),
        round(lowest(cpu_us()), 3).into(),
        round(highest(cpu_us()), 3).into(),
        round(ratio, 2).into(),
        calls.map(|calls| round(calls, 3)).into(),
        round(of(|turn| turn.rss_bytes as f64) / f64::from(1 << 20), 1).into(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{self, report};

    fn options(targets: &[String], only: &[&str]) -> Options {
        Options {
            plan: Plan {
                profiles: ["a=http --depth 1", "b=switch"].map(|text| text.parse().unwrap()).into(),
                targets: targets.iter().map(|text| text.parse().unwrap()).collect(),
                only: only.iter().map(|text| text.parse().unwrap()).collect(),
            },
            rounds: 3,
            seconds: 0.1,
            counter: None,
        }
    }

    #[test]
    fn a_row_for_each_profile_a_server_can_do() {
        let (one, two) = (fixture::server("one"), fixture::server("two"));
        let generator = fixture::generator("rows", &report(10, 0));
        let options = options(&[one.target(), two.target()], &["two=b"]);
        let finding = measure(&options, generator.path()).unwrap();
        assert_eq!(finding.failures, [""; 0]);
        let names: Vec<_> = finding.table.rows().iter().map(|row| (&row[0], &row[1])).collect();
        assert_eq!(
            format!("{names:?}"),
            r#"[(String("a"), String("one")), (String("b"), String("one")), (String("b"), String("two"))]"#
        );
        assert_eq!(finding.profiles["a"], "http --depth 1");
        // Three rounds and the one before of three pairs, and a count where somebody may.
        let runs = generator.runs();
        assert!(runs.len() == 12 || runs.len() == 15, "{runs:?}");
        assert!(runs[0].starts_with("http --depth 1 --seconds 0.1 --core 1 --target 127.0.0.1:"));
    }

    #[test]
    fn a_wrong_answer_is_a_failure_and_never_a_row() {
        let one = fixture::server("one");
        let generator = fixture::generator("wrong", &report(10, 1));
        let finding = measure(&options(&[one.target()], &[]), generator.path()).unwrap();
        assert!(finding.table.rows().is_empty());
        assert_eq!(finding.failures.len(), 2);
        assert!(finding.failures[0].starts_with("one, a: the generator reports: {"));
    }

    #[test]
    fn without_the_first_no_row_has_a_ratio_and_that_is_said() {
        let [one, two] = ["one", "two"].map(fixture::server);
        let generator = fixture::generator_that_differs(
            "first",
            &report(10, 0),
            &one.address(),
            &report(10, 1),
        );
        let mut options = options(&[one.target(), two.target()], &[]);
        options.plan.profiles.truncate(1);
        let finding = measure(&options, generator.path()).unwrap();
        assert_eq!(finding.table.rows().len(), 1);
        assert_eq!(finding.table.rows()[0][9], Value::Null);
        let said = "a: one has no row, and so the others have no ratio to it";
        assert!(finding.failures.iter().any(|failure| failure == said), "{:?}", finding.failures);
    }

    #[test]
    fn who_does_not_keep_up_with_a_rate_is_a_failure_and_never_a_row() {
        let one = fixture::server("one");
        let generator = fixture::generator("rate", &report(10, 0));
        let mut options = options(&[one.target()], &[]);
        // It tells of a thousand a second.
        options.plan.profiles = ["a=http --rate 1020", "b=http --rate=1021", "c=echo --depth 2000"]
            .map(|text| text.parse().unwrap())
            .into();
        let finding = measure(&options, generator.path()).unwrap();
        let rows: Vec<_> = finding.table.rows().iter().map(|row| row[0].clone()).collect();
        assert_eq!(rows, ["a", "c"]);
        let said =
            "one, b: it answered 1000 a second of the 1021 that were due, which is no keeping up";
        assert_eq!(finding.failures, [said]);
    }

    #[test]
    fn a_ratio_is_the_median_of_each_rounds() {
        let profile = "a=http".parse().unwrap();
        let turns = [2.0, 9.0, 3.0].map(turn::tests::turn);
        let row = row(&profile, "x", &turns, &[1.0, 3.0, 2.0].map(turn::tests::turn), Some(0.5));
        assert_eq!(&row[6..], [3.0, 2.0, 9.0, 2.0, 0.5, 3.0].map(Value::from));
        assert_eq!(super::row(&profile, "x", &turns, &[], None)[9..11], [Value::Null, Value::Null]);
    }
}
