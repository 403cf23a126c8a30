//! Bytes of user memory per idle switched connection. Called by `main.rs`.
//!
//! Opening the connections and reading the memory is the generator's (`upring-load idle`); here
//! each server is started anew for each profile, so that it has none left from the one before. Two
//! figures come back, because each can flatter: the *mean*, from a server that has once held the
//! connections of a warm-up, and the *slope*, from the second half of the connections alone. The
//! larger of the two is held against the limit.
//!
//! What an allocator has not given back yet comes and goes in steps of 64 KiB, nine bytes for each
//! of 7,500 connections: a row is the middle one of several rounds.
//!
//! A server that runs already cannot be started anew, and what it has once held it holds in a
//! second round and in a second profile, which would find a growth of nothing. So it has one round,
//! of the first profile it can do.
//!
//! Servers run without transparent huge pages, unless `--huge-pages` is given: see `pages.rs`.

use std::error::Error;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use clap::Args;
use serde_json::Value;

use crate::profile::{Plan, Profile};
use crate::record::Table;
use crate::target::{Policy, Server, Target};
use crate::{Finding, ending, pages, remote_option};

/// All but the first two are the generator's words.
const COLUMNS: [&str; 10] = [
    "profile",
    "target",
    "connections",
    "rss_before",
    "rss_after",
    "anon_before",
    "anon_half",
    "anon_after",
    "mean",
    "slope",
];

#[derive(Args)]
pub(crate) struct Options {
    #[command(flatten)]
    plan: Plan,
    /// Rounds, each with the server started anew; one of a server that runs already.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=100))]
    rounds: u8,
    /// The most bytes a connection may take.
    #[arg(long)]
    limit: Option<i64>,
    /// Leave transparent huge pages as the machine has them.
    #[arg(long)]
    huge_pages: bool,
}

impl Options {
    pub(crate) fn targets(&self) -> &[Target] {
        &self.plan.targets
    }
}

pub(crate) fn measure(options: &Options, generator: &Path) -> Result<Finding, Box<dyn Error>> {
    let plan = &options.plan;
    plan.check()?;
    if !options.huge_pages {
        pages::keep_to_small_pages()?;
    }
    let mut finding = Finding::new(Table::new(&COLUMNS));
    finding.profiles = plan.definitions();
    for profile in &plan.profiles {
        for target in plan.targets.iter().filter(|target| plan.fits(target, profile)) {
            if target.is_running() && has_held(plan, target, profile) {
                let left_out = format!(
                    "{}, {}: it runs already, and has the memory of the profile before",
                    target.name, profile.name
                );
                eprintln!("LEFT OUT: {left_out}");
                finding.notes.push(format!("left out: {left_out}"));
                continue;
            }
            eprintln!("{}: {}", profile.name, target.name);
            match hold_again(options.rounds, generator, target, profile) {
                Ok(report) => take_in(&report, target, profile, options.limit, &mut finding),
                Err(error) => {
                    finding.failures.push(format!("{}, {}: {error}", target.name, profile.name));
                }
            }
        }
    }
    Ok(finding)
}

/// Whether the server can do a profile that comes before.
fn has_held(plan: &Plan, target: &Target, profile: &Profile) -> bool {
    plan.profiles.iter().find(|profile| plan.fits(target, profile)) != Some(profile)
}

/// The middle one of so many reports; the first, of a server that cannot be started anew.
fn hold_again(
    rounds: u8,
    generator: &Path,
    target: &Target,
    profile: &Profile,
) -> Result<Value, Box<dyn Error>> {
    let rounds = if target.is_running() {
        eprintln!(
            "{}: one round and not {rounds}: it runs already, and has that of one",
            target.name
        );
        1
    } else {
        rounds
    };
    let reports = (0..rounds).map(|_| hold(generator, target, profile));
    let mut reports = reports.collect::<Result<Vec<_>, _>>()?;
    reports.sort_by_key(bytes);
    Ok(reports.swap_remove(reports.len() / 2))
}

/// The larger figure. Below 0 the server has given memory back meanwhile.
fn bytes(report: &Value) -> i64 {
    report["mean"].as_i64().max(report["slope"].as_i64()).unwrap_or(i64::MAX)
}

/// What the generator reports of a server it has held its connections to.
fn hold(generator: &Path, target: &Target, profile: &Profile) -> Result<Value, Box<dyn Error>> {
    let server = Server::start(target, Policy::Usual)?;
    let mut command = Command::new(generator);
    command
        .args(profile.arguments.split_whitespace())
        .args(["--target", &server.address.to_string(), "--pid", &server.pid().to_string()])
        .arg("--json")
        .args(remote_option(server.address))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let output = ending::start(&mut command)
        .and_then(Child::wait_with_output)
        .map_err(|error| format!("{}: {error}", generator.display()))?;
    let line = String::from_utf8_lossy(&output.stdout);
    match serde_json::from_str::<Value>(&line) {
        Ok(report) if report["errors"] == 0 => Ok(report),
        _ => {
            let told = String::from_utf8_lossy(&output.stderr);
            Err(format!("the generator reports: {} {}", line.trim(), told.trim()).into())
        }
    }
}

fn take_in(
    report: &Value,
    target: &Target,
    profile: &Profile,
    limit: Option<i64>,
    finding: &mut Finding,
) {
    let mut row = vec![profile.name.as_str().into(), target.name.as_str().into()];
    row.extend(COLUMNS[2..].iter().map(|column| report[column].clone()));
    finding.table.push(&row);
    let bytes = bytes(report);
    if let Some(limit) = limit.filter(|&limit| bytes > limit) {
        finding.failures.push(format!(
            "{}, {}: {bytes} bytes per connection, limit {limit}",
            target.name, profile.name
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture;

    const REPORT: &str = r#"{"mode":"idle","connections":100,"rss_before":10,"rss_after":20,"anon_before":1,"anon_half":2,"anon_after":3,"mean":150,"slope":170,"errors":0}"#;

    fn find(report: &str, limit: i64) -> Finding {
        let server = fixture::server("one");
        let generator = fixture::idle_generator(&format!("idle-{limit}"), report);
        let plan = Plan {
            profiles: vec!["echo=idle --connections 100".parse().unwrap()],
            targets: vec![server.target().parse().unwrap()],
            only: Vec::new(),
        };
        let options = Options { plan, rounds: 1, limit: Some(limit), huge_pages: true };
        measure(&options, generator.path()).unwrap()
    }

    #[test]
    fn a_server_that_runs_has_one_round_of_the_first_profile_it_can_do() {
        let server = fixture::server("one");
        // Each run finds less than the one before, as a server does that keeps what it had.
        let generator = fixture::idle_generator_that_finds_less("less", REPORT);
        let plan = Plan {
            profiles: ["a", "b", "c"].map(|name| format!("{name}=idle").parse().unwrap()).into(),
            targets: vec![server.target().parse().unwrap()],
            only: vec!["one=b,c".parse().unwrap()],
        };
        let options = Options { plan, rounds: 3, limit: None, huge_pages: true };
        let finding = measure(&options, generator.path()).unwrap();
        let rows: Vec<_> = finding.table.rows().iter().map(|row| (&row[0], &row[8])).collect();
        assert_eq!(format!("{rows:?}"), r#"[(String("b"), Number(150))]"#);
        let left_out =
            "left out: one, c: it runs already, and has the memory of the profile before";
        assert_eq!(finding.notes, [left_out]);
    }

    #[test]
    fn a_row_is_what_the_generator_found() {
        let finding = find(REPORT, 170);
        assert_eq!(finding.failures, [""; 0]);
        let row = serde_json::json!(["echo", "one", 100, 10, 20, 1, 2, 3, 150, 170]);
        assert_eq!(Value::from(finding.table.rows()[0].clone()), row);
    }

    #[test]
    fn the_larger_figure_is_held_against_the_limit() {
        let failures = find(REPORT, 169).failures;
        assert_eq!(failures, ["one, echo: 170 bytes per connection, limit 169"]);
    }

    #[test]
    fn a_lost_connection_is_a_failure_and_no_row() {
        let finding = find(&REPORT.replace(r#""errors":0"#, r#""errors":1"#), 200);
        assert!(finding.table.rows().is_empty());
        assert_eq!(finding.failures.len(), 1);
    }
}
