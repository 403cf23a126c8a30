//! `upring-load`: a load generator on upring's own ring that believes nothing, every byte of every
//! answer is compared.
//!
//! ```text
//!   options ──► script (what is said) ─┐
//!                                      ├──► rounds (who says it when; is it right?) ──► clients (ring)
//!               pace (when) ───────────┘         │                                    └─ secured (TLS)
//!                                                └──► tally ──► report
//! ```
//!
//! Whether it is right says `expect.rs`: `switching.rs` of a 101, `answers.rs` and `content.rs` of
//! an answer, `echo.rs` of messages, which are made in `messages.rs`; why it is not is in
//! `fault.rs`.
//!
//! `idle.rs` holds connections, `storm.rs` misbehaves; both are on `clients.rs`, too, and with it in TLS if
//! that is asked for: `secured.rs`.
//!
//! Exit status: 0 when there were answers and every one was right, 1 otherwise, 2 for wrong usage;
//! 130 and 143 when SIGINT or SIGTERM ended the run, which is reported all the same.

use std::error::Error;
use std::process::ExitCode;

use clap::Parser;
use clap::error::ErrorKind;
use rustix::process::{Resource, getrlimit};

use crate::interrupt::Interrupt;
use crate::options::{Echo, Http, Mode, Options, Switch};

mod answers;
mod clients;
mod content;
mod echo;
mod expect;
mod fault;
mod idle;
mod interrupt;
#[path = "../listener.rs"]
mod listener;
mod memory;
mod messages;
mod options;
mod pace;
#[path = "../process.rs"]
#[allow(unsafe_code)] // calls the scheduler, which the standard library does not offer
#[allow(dead_code, reason = "each program takes the part of it that it needs")]
mod process;
mod report;
mod rounds;
mod run;
mod say;
mod script;
mod secured;
#[allow(unsafe_code)] // sets a socket option that neither the standard library nor socket2 offers
mod source;
mod storm;
mod switching;
mod tally;
#[path = "../tree.rs"]
#[allow(dead_code, reason = "each program takes the part of it that it needs")]
mod tree;
mod websocket;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let options = Options::parse();
    if let Err(problem) = options.mode.check() {
        clap::Error::raw(ErrorKind::ValueValidation, format!("{problem}\n")).exit();
    }
    // What is asked for lasts as long as the program, and so does what ends it.
    let mode = &Box::leak(Box::new(options)).mode;
    let interrupt: &'static Interrupt = match Interrupt::watch() {
        Ok(interrupt) => Box::leak(Box::new(interrupt)),
        Err(error) => return fail(&error),
    };
    let status = match load(mode, interrupt) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => fail(&*error),
    };
    interrupt.status().map_or(status, ExitCode::from)
}

fn fail(error: &dyn Error) -> ExitCode {
    say::tell(&format!("error: {error}\n"));
    ExitCode::FAILURE
}

/// Whether all was right.
fn load(mode: &'static Mode, interrupt: &'static Interrupt) -> Result<bool, Box<dyn Error>> {
    process::raise_open_files_max()?;
    check_open_files(mode)?;
    match mode {
        Mode::Http(Http { run, .. })
        | Mode::Switch(Switch { run, .. })
        | Mode::Echo(Echo { run, .. }) => run::run(mode, run, interrupt),
        Mode::Idle(options) => idle::run(mode, options, interrupt),
        Mode::Storm(options) => storm::run(options, mode.limit(), interrupt),
    }
}

/// Says so before the first connection if there are more to come than files may be open.
fn check_open_files(mode: &Mode) -> Result<(), String> {
    /// Beside connections: standard streams, rings, and what their libraries open.
    const SPARE: u64 = 64;
    let needed = mode.connections_max() as u64 + SPARE;
    match getrlimit(Resource::Nofile).current {
        Some(open_max) if open_max < needed => Err(format!(
            "{needed} files have to be open at once, and this process may open {open_max} \
             (ulimit -n)"
        )),
        _ => Ok(()),
    }
}
