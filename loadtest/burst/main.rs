//! A closed-loop load generator over loopback that believes nothing: every byte of every answer is
//! compared.
//!
//! It is one thread on epoll. `client.rs` is one connection, `expect.rs` what it must receive,
//! `message.rs` WebSocket messages, `load.rs` who sends when, and this file the command line and the
//! report. It opens all connections first; only what follows is timed.
//!
//! ```text
//!   free-running   each connection sends again as soon as its own answer is whole
//!   --burst        all send, all answers are read, all send: the server meets N requests at once
//! ```
//!
//! Exit status: 0 when every answer was right, 1 otherwise.

use std::error::Error;
use std::io::{self, BufRead, Write};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, ValueEnum};

use crate::client::Work;
use crate::load::{Load, Outcome, Span};
use crate::message::Messages;

mod client;
mod expect;
mod load;
mod message;
#[path = "../poll.rs"]
#[allow(unsafe_code)] // calls epoll, which the standard library does not offer
mod poll;
#[path = "../process.rs"]
#[allow(unsafe_code)] // calls the scheduler, which the standard library does not offer
mod process;
#[allow(unsafe_code)] // sets a socket option that neither the standard library nor socket2 offers
mod source;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// A closed-loop load generator that verifies every byte.
#[derive(Parser)]
struct Options {
    /// What one request is.
    #[arg(value_enum)]
    mode: Mode,
    /// The server, on loopback.
    #[arg(long, default_value = "127.0.0.1:8080")]
    target: SocketAddr,
    /// Connections, all open before the first request.
    #[arg(long, default_value_t = 64)]
    connections: usize,
    /// Rounds each connection makes.
    #[arg(long, conflicts_with = "seconds", required_unless_present = "seconds")]
    rounds: Option<u64>,
    /// Seconds after which no request is sent any more.
    #[arg(long)]
    seconds: Option<f64>,
    /// Lock-step: all connections send, then all answers are read.
    #[arg(long)]
    burst: bool,
    /// Microseconds between an answered burst and the next, in which the server can go to sleep.
    #[arg(long, default_value_t = 0, requires = "burst")]
    pause_us: u64,
    /// Requests a connection sends at once in each round.
    #[arg(long, default_value_t = 1)]
    depth: usize,
    /// The path of plaintext requests.
    #[arg(long, default_value = "/plaintext")]
    path: String,
    /// The content the path must answer with.
    #[arg(long, default_value = "Hello, World!")]
    content: String,
    /// Bytes of one message (echo, websocket) or of the early bytes behind the head (switch).
    #[arg(long, default_value_t = 64)]
    bytes: usize,
    /// Loopback source addresses to spread connections over, from 127.0.0.1 on. Each has about 28
    /// 000 ports, and a closed connection occupies one for a second.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=250))]
    sources: u8,
    /// Seconds after which the run is given up and what is still owed counts as errors.
    #[arg(long, default_value_t = 60.0)]
    limit: f64,
    /// The core to run on.
    #[arg(long)]
    core: Option<usize>,
    /// Ask for SCHED_FIFO, so that sending a burst is not interrupted on a core shared with the
    /// server.
    #[arg(long)]
    fifo: bool,
    /// Print `ready` once all is open, start at a line on standard input, close at its end.
    #[arg(long)]
    wait: bool,
    /// Print the report as one line of JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum Mode {
    /// GET the path on a kept-alive connection.
    Plaintext,
    /// Switch /echo to `echo` once, then play ping-pong.
    Echo,
    /// Connect, switch with early bytes in the same segment, read them back, close.
    Switch,
    /// Open a WebSocket at /ws once, then send masked messages and read them back.
    Websocket,
}

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let options = Options::parse();
    check(&options)?;
    process::raise_open_files_max()?;
    if let Some(core) = options.core {
        process::pin_to_core(core)?;
    }
    let fifo = options.fifo && process::schedule_as(libc::SCHED_FIFO, 1).is_ok();

    let mut load = Load::open(&options)?;
    let mut input = io::stdin().lock();
    if options.wait {
        println!("ready");
        input.read_line(&mut String::new())?;
    }
    let outcome = load.run()?;
    report(&options, outcome, fifo)?;
    if options.wait {
        io::copy(&mut input, &mut io::sink())?;
    }
    Ok(if outcome.errors == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn check(options: &Options) -> Result<(), String> {
    if !options.target.ip().is_loopback() {
        return Err(format!("{} is not a loopback address", options.target));
    }
    let positive = options.connections > 0 && options.depth > 0 && options.bytes > 0;
    if !positive {
        return Err("--connections, --depth and --bytes start at 1".to_owned());
    }
    let spans = [Some(options.limit), options.seconds];
    if spans.into_iter().flatten().any(|seconds| Duration::try_from_secs_f64(seconds).is_err()) {
        return Err("--seconds and --limit are counts of seconds".to_owned());
    }
    Ok(())
}

impl Options {
    fn work(&self) -> Work {
        match self.mode {
            Mode::Plaintext => {
                let request =
                    format!("GET {} HTTP/1.1\r\nHost: {}\r\n\r\n", self.path, self.target);
                Work::Plaintext {
                    requests: request.into_bytes().repeat(self.depth),
                    content: self.content.clone().into_bytes(),
                    depth: self.depth,
                }
            }
            Mode::Echo => Work::Echo { round_bytes: self.bytes * self.depth },
            Mode::Switch => Work::Switch { early_bytes: self.bytes },
            Mode::Websocket => Work::WebSocket(Messages::new(self.bytes, self.depth)),
        }
    }

    fn span(&self) -> Span {
        match (self.rounds, self.seconds) {
            (Some(rounds), _) => Span::Rounds(rounds),
            (None, seconds) => Span::Time(Duration::from_secs_f64(seconds.unwrap_or(1.0))),
        }
    }

    /// Requests one round of one connection counts as.
    fn requests_per_round(&self) -> u64 {
        match self.mode {
            Mode::Plaintext | Mode::Echo | Mode::Websocket => self.depth as u64,
            Mode::Switch => 1,
        }
    }
}

fn report(options: &Options, outcome: &Outcome, fifo: bool) -> io::Result<()> {
    let requests = outcome.rounds * options.requests_per_round();
    let seconds = outcome.elapsed.as_secs_f64();
    let rate = requests as f64 / seconds;
    let microseconds = |quantile| outcome.latencies_ns.value_at_quantile(quantile) as f64 / 1000.0;
    let (p50, p99, p999) = (microseconds(0.5), microseconds(0.99), microseconds(0.999));
    for fault in &outcome.faults {
        eprintln!("error: {fault}");
    }
    if options.json {
        let report = serde_json::json!({
            "requests": requests, "errors": outcome.errors, "seconds": seconds, "rate": rate,
            "p50_us": p50, "p99_us": p99, "p999_us": p999, "fifo": fifo,
        });
        println!("{report}");
    } else {
        println!(
            "{requests} requests, {} errors, {seconds:.3} s, {rate:.0} requests/s; \
             answer after p50 {p50:.1}, p99 {p99:.1}, p99.9 {p999:.1} us",
            outcome.errors
        );
    }
    io::stdout().flush()
}
