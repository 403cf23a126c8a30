//! `upring-load`: a load generator on upring's own ring that believes nothing, every byte of every
//! answer is compared.
//!
//! ```text
//!   options ──► script (what is said) ─┐
//!                                      ├──► rounds (who says it when; is it right?) ──► clients (ring)
//!               pace (when) ───────────┘         │
//!                                                └──► tally ──► report
//! ```
//!
//! `idle.rs` holds connections, `storm.rs` misbehaves; both are on `clients.rs`, too.
//!
//! Exit status: 0 when every answer was right, 1 otherwise, 2 for wrong usage.

use std::error::Error;
use std::process::ExitCode;

use clap::Parser;
use clap::error::ErrorKind;

use crate::options::{Echo, Http, Mode, Options, Switch};

mod clients;
mod expect;
mod idle;
mod memory;
mod options;
mod pace;
#[path = "../process.rs"]
#[allow(unsafe_code)] // calls the scheduler, which the standard library does not offer
#[allow(dead_code, reason = "each program takes the part of it that it needs")]
mod process;
mod report;
mod rounds;
mod run;
mod script;
#[allow(unsafe_code)] // sets a socket option that neither the standard library nor socket2 offers
mod source;
mod storm;
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
    // What is asked for lasts as long as the program.
    match load(&Box::leak(Box::new(options)).mode) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Whether all was right.
fn load(mode: &'static Mode) -> Result<bool, Box<dyn Error>> {
    process::raise_open_files_max()?;
    match mode {
        Mode::Http(Http { run, .. })
        | Mode::Switch(Switch { run, .. })
        | Mode::Echo(Echo { run, .. }) => run::run(mode, run),
        Mode::Idle(options) => idle::run(mode, options),
        Mode::Storm(options) => storm::run(options),
    }
}
