//! Measures servers side by side in one run: rates, latencies, processor time and system calls per
//! request, memory per connection. It starts each server command itself, or measures one that runs,
//! drives it with the generator `upring-load`, and stops only what it started, also when a signal
//! ends it.
//!
//! ```text
//!   load       server on core 0, generator on 1   times: compare within one run only
//!   tail       the same, at half and four fifths of each server's maximum
//!   syscalls   server and generator on ONE core   counts: the same on every machine
//!   memory     10 000 idle switched connections   bytes: the same on every machine of one page size
//!   faults     honest traffic beside an attack    latencies: compare before and during
//!   machine    work that only fills a core        how far times on this machine are to be trusted
//! ```
//!
//! **Why one core for system calls.** How many calls a server makes depends on how many requests it finds when it wakes.
//! On two cores it wakes at the first of them and races the generator for the rest, and the figure
//! is noise. So `syscalls` runs both on core 0, the server as SCHED_IDLE and the generator as
//! SCHED_FIFO where that is permitted: a waking server does not interrupt the generator, whose N
//! writes are all in the server's sockets before the server sees the first. Every size of burst is
//! counted twice: with a pause between bursts, so that each meets a server that has gone to sleep,
//! and without, so that each comes before the server is done with the last. What `load` counts is
//! calls under its load, whatever came together.
//!
//! `target.rs` is a server, `../tree.rs` its processes, `clock.rs` their time and
//! `../listener.rs` their port, `generator.rs` the generator's process,
//! `counter.rs` perf or strace, `record.rs` the tables; `profile.rs` says which server does what,
//! `turn.rs` who is driven when; one file each for the six measures, and `attack.rs` for what
//! faults are made by.

use std::collections::BTreeMap;
use std::error::Error;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::record::Table;
use crate::target::Target;

mod attack;
#[allow(unsafe_code)] // reads the clocks of processes, which the standard library does not offer
mod clock;
mod counter;
mod ending;
mod faults;
mod figures;
#[cfg(test)]
mod fixture;
mod generator;
#[path = "../listener.rs"]
mod listener;
mod load;
mod machine;
mod memory;
#[allow(unsafe_code)] // calls prctl, which the standard library does not offer
mod pages;
#[path = "../process.rs"]
#[allow(unsafe_code)] // calls the scheduler, which the standard library does not offer
mod process;
mod profile;
mod record;
mod syscalls;
mod tail;
mod target;
#[path = "../tree.rs"]
mod tree;
mod turn;

/// The core of the server.
const SERVER_CORE: usize = 0;
/// The core of the generator where it has one to itself, and of this tool.
const GENERATOR_CORE: usize = 1;

/// Measures servers side by side. In a server's command, PORT stands for a free port of 127.0.0.1.
#[derive(Parser)]
struct Options {
    /// Write the table, and when, where and how it came to be, to this file as JSON.
    #[arg(long, global = true)]
    record: Option<PathBuf>,
    /// What the record says it is about; by default the measure.
    #[arg(long, global = true)]
    topic: Option<String>,
    /// What else the record is to say, such as a server's version.
    #[arg(long = "note", global = true)]
    notes: Vec<String>,
    /// A server that runs may be reached at an address that is not on loopback.
    #[arg(long, global = true)]
    remote: bool,
    /// The generator; by default the `upring-load` built with this program.
    #[arg(long, global = true)]
    generator: Option<PathBuf>,
    #[command(subcommand)]
    measure: Measure,
}

#[derive(Subcommand)]
enum Measure {
    /// Rate, latency, processor time, system calls and memory under named loads.
    Load(load::Options),
    /// Latency at half and four fifths of each server's own maximum.
    Tail(tail::Options),
    /// System calls per request for bursts of 1, 8 and 64.
    Syscalls(syscalls::Options),
    /// Bytes per idle switched connection.
    Memory(memory::Options),
    /// Latency of honest requests before, during and after attacks.
    Faults(faults::Options),
    /// How fast each core is alone, and while the other works: nanoseconds of a fixed step.
    Machine(machine::Options),
}

impl Measure {
    fn name(&self) -> &'static str {
        match self {
            Measure::Load(_) => "load",
            Measure::Tail(_) => "tail",
            Measure::Syscalls(_) => "syscalls",
            Measure::Memory(_) => "memory",
            Measure::Faults(_) => "faults",
            Measure::Machine(_) => "machine",
        }
    }

    fn targets(&self) -> &[Target] {
        match self {
            Measure::Load(options) => options.targets(),
            Measure::Tail(options) => options.targets(),
            Measure::Syscalls(options) => options.targets(),
            Measure::Memory(options) => options.targets(),
            Measure::Faults(options) => options.targets(),
            Measure::Machine(_) => &[],
        }
    }

    /// Says, before anybody connects, which target is not on loopback.
    fn check_loopback(&self) -> Result<(), String> {
        match self.targets().iter().find(|target| target.is_remote()) {
            Some(target) => Err(format!(
                "{} is not on loopback: --remote says that it is a server you answer for",
                target.name
            )),
            None => Ok(()),
        }
    }
}

/// What a measure found.
struct Finding {
    table: Table,
    /// Servers that have no row, and limits that do not hold.
    failures: Vec<String>,
    /// What was left out, and why.
    notes: Vec<String>,
    /// The arguments of each load by its name, where loads have names.
    profiles: BTreeMap<String, String>,
}

impl Finding {
    fn new(table: Table) -> Finding {
        Finding { table, failures: Vec::new(), notes: Vec::new(), profiles: BTreeMap::new() }
    }
}

fn main() -> ExitCode {
    match run(Options::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("measure: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: Options) -> Result<ExitCode, Box<dyn Error>> {
    if let Some(path) = &options.record {
        record::check(path)?;
    }
    if !options.remote {
        options.measure.check_loopback()?;
    }
    process::raise_open_files_max()?;
    // Away from the server, so that neither this tool nor perf takes its time.
    process::pin_to_core(GENERATOR_CORE).map_err(|error| {
        format!("core {GENERATOR_CORE}, of this tool and the generator: {error}")
    })?;
    let _ending = ending::end_with_signals()?;
    let generator = match options.generator {
        Some(generator) => generator,
        None => beside_examples("upring-load")?,
    };
    let finding = match &options.measure {
        Measure::Load(options) => load::measure(options, &generator)?,
        Measure::Tail(options) => tail::measure(options, &generator)?,
        Measure::Syscalls(options) => syscalls::measure(options, &generator)?,
        Measure::Memory(options) => memory::measure(options, &generator)?,
        Measure::Faults(options) => faults::measure(options)?,
        Measure::Machine(options) => machine::measure(options)?,
    };
    print!("{}", finding.table);
    for failure in &finding.failures {
        eprintln!("failed: {failure}");
    }
    if let Some(path) = options.record {
        let topic = options.topic.as_deref().unwrap_or(options.measure.name());
        record::write(&path, topic, &options.notes, &finding)?;
    }
    Ok(if finding.failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What the generator is told of a server at this address: that it is elsewhere was allowed before.
fn remote_option(address: SocketAddr) -> Option<&'static str> {
    (!address.ip().is_loopback()).then_some("--remote")
}

/// A program of the package: this one is an example, one folder below.
fn beside_examples(name: &str) -> Result<PathBuf, Box<dyn Error>> {
    let examples = std::env::current_exe()?;
    let built = examples.parent().and_then(|examples| examples.parent());
    Ok(built.ok_or("this program lies in no folder")?.join(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_elsewhere_is_refused_before_anybody_connects() {
        let check = |target: &str| {
            let words = ["measure", "faults", "--target", target];
            Options::try_parse_from(words).expect("it can be meant").measure.check_loopback()
        };
        check("a@127.0.0.9:80,1").expect("it is here");
        check("a=server PORT").expect("it is started here");
        let said = check("a@192.0.2.1:80,1").expect_err("it is elsewhere");
        assert!(said.starts_with("a is not on loopback"), "{said}");
        assert_eq!(remote_option(SocketAddr::from(([127, 0, 0, 9], 80))), None);
        assert_eq!(remote_option(SocketAddr::from(([192, 0, 2, 1], 80))), Some("--remote"));
    }
}
