//! Measures servers side by side in one run: system calls per request, processor time per request,
//! memory per connection. It starts each server command itself, drives it with the `burst`
//! generator next to it, and stops only what it started.
//!
//! ```text
//!   syscalls   server and generator on ONE core   counts: the same on every machine
//!   cpu        server on core 0, generator on 1   times: compare within one run only
//!   memory     10 000 idle switched connections   bytes: the same on every machine of one page size
//!   faults     honest traffic beside an attack    latencies: compare before and during
//! ```
//!
//! **Why one core for system calls.** How many calls a server makes depends on how many requests it finds when it wakes.
//! On two cores it wakes at the first of them and races the generator for the rest, and the figure
//! is noise. So both run on core 0, the server as SCHED_IDLE and the generator as SCHED_FIFO where
//! that is permitted: a waking server does not interrupt the generator, whose N writes are all in
//! the server's sockets before the server sees the first. Every size of burst is counted twice:
//! with a pause between bursts, so that each meets a server that has gone to sleep, and without, so
//! that each comes before the server is done with the last.
//!
//! `target.rs` is a server, `generator.rs` the burst process, `counter.rs` perf or strace,
//! `record.rs` the tables; one file each for the four measures, and `attack.rs` for what faults are
//! made by.

use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::record::Table;
use crate::target::Target;

mod attack;
mod counter;
mod cpu;
mod faults;
mod generator;
mod memory;
#[allow(unsafe_code)] // calls prctl, which the standard library does not offer
mod pages;
#[path = "../process.rs"]
#[allow(unsafe_code)] // calls the scheduler, which the standard library does not offer
mod process;
mod record;
mod syscalls;
mod target;

/// The core of the server.
const SERVER_CORE: usize = 0;
/// The core of the generator where it has one to itself, and of this tool.
const GENERATOR_CORE: usize = 1;

/// Measures servers side by side. In a server's command, PORT stands for a free port of 127.0.0.1.
#[derive(Parser)]
struct Options {
    /// Write the table, and where and how it came to be, to this file as JSON.
    #[arg(long, global = true)]
    record: Option<PathBuf>,
    /// The generator; by default the `burst` next to this program.
    #[arg(long, global = true)]
    burst: Option<PathBuf>,
    #[command(subcommand)]
    measure: Measure,
}

#[derive(Subcommand)]
enum Measure {
    /// System calls per request for bursts of 1, 8 and 64.
    Syscalls(syscalls::Options),
    /// Processor microseconds per request with 1, 64 and 512 connections.
    Cpu(cpu::Options),
    /// Bytes per idle switched connection.
    Memory(memory::Options),
    /// Latency of honest requests before, during and after attacks.
    Faults(faults::Options),
}

/// What a measure found: the table, and which limits do not hold.
struct Finding {
    table: Table,
    exceeded: Vec<String>,
}

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let options = Options::parse();
    process::raise_open_files_max()?;
    // Away from the server, so that neither this tool nor perf takes its time.
    process::pin_to_core(GENERATOR_CORE)?;
    let burst = match options.burst {
        Some(burst) => burst,
        None => std::env::current_exe()?.with_file_name("burst"),
    };
    let finding = match &options.measure {
        Measure::Syscalls(options) => syscalls::measure(options, &burst)?,
        Measure::Cpu(options) => cpu::measure(options, &burst)?,
        Measure::Memory(options) => memory::measure(options)?,
        Measure::Faults(options) => faults::measure(options)?,
    };
    print!("{}", finding.table);
    for limit in &finding.exceeded {
        eprintln!("exceeded: {limit}");
    }
    if let Some(path) = options.record {
        record::write(&path, &finding.table)?;
    }
    Ok(if finding.exceeded.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
