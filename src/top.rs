//! `upring top`: what a server does, from its admin listener, once a second. Blocking and on one
//! thread; the server notices nothing but a scrape.
//!
//! ```text
//!   GET /metrics ──► Sample ──┐
//!                  a second   ├──► frame ──► the terminal, or once, as plain text
//!   GET /metrics ──► Sample ──┘
//! ```

mod frame;
mod sample;
mod terminal;

use std::io;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use clap::Args;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use upring::config::ListenAddress;

use super::{give_up, say};
use frame::frame;
use sample::Sample;
use terminal::{Key, Terminal};

/// Between two scrapes.
const PERIOD: Duration = Duration::from_secs(1);

#[derive(Debug, Args)]
pub(super) struct TopArguments {
    /// The server's admin listener: what it was given with --admin, an address or `unix:PATH`.
    #[arg(value_name = "ADDR", default_value = "127.0.0.1:9180")]
    address: ListenAddress,
    /// Show what happens in one second as plain text, and end.
    #[arg(long)]
    once: bool,
}

pub(super) fn run(arguments: &TopArguments) -> ExitCode {
    match try_run(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => give_up(&format!("no metrics from {}: {error}", arguments.address)),
    }
}

fn try_run(arguments: &TopArguments) -> io::Result<()> {
    let first = Sample::take(&arguments.address)?;
    if arguments.once {
        thread::sleep(PERIOD);
        let second = Sample::take(&arguments.address)?;
        say(io::stdout(), &frame(&arguments.address, &first, &second));
        return Ok(());
    }
    let is_over = Arc::new(AtomicBool::new(false));
    for signal in [SIGHUP, SIGINT, SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(&is_over))?;
    }
    show(&arguments.address, first, &is_over)
}

/// Shows what happens until somebody has seen enough.
fn show(address: &ListenAddress, first: Sample, is_over: &AtomicBool) -> io::Result<()> {
    let mut terminal = Terminal::take()?;
    let mut last = first;
    terminal.show(&format!("upring top: {address} ...\n"));
    loop {
        let next = Instant::now() + PERIOD;
        while let left @ 1.. = next.saturating_duration_since(Instant::now()).as_millis() {
            let wait = Duration::from_millis(u64::try_from(left).unwrap_or(1));
            if terminal.key_within(wait) == Some(Key::Quit) || is_over.load(Ordering::Relaxed) {
                return Ok(());
            }
        }
        match Sample::take(address) {
            Ok(sample) => {
                terminal.show(&(frame(address, &last, &sample) + "\nq ends\n"));
                last = sample;
            }
            // It may come back: what was seen last is compared with then.
            Err(error) => terminal.show(&format!("no answer from {address}: {error}\n\nq ends\n")),
        }
    }
}
