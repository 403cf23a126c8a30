//! The command line.

use std::net::SocketAddr;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::run::SECONDS_USUAL;

/// A load generator for HTTP/1.1, Upgrade and WebSocket servers that compares every byte.
///
/// It is a client: what comes back wrong, late or not at all is an error, and the exit status is 1
/// if there was one. Requests are made as fast as answers come (closed loop), or at a `--rate`
/// (open loop), where a latency counts from when its request was due, however late it was sent.
#[derive(Parser)]
#[command(name = "upring-load", version)]
pub(crate) struct Options {
    #[command(subcommand)]
    pub(crate) mode: Mode,
}

#[derive(Subcommand)]
pub(crate) enum Mode {
    /// GET a path on kept-alive connections, pipelined, or on new ones.
    Http(Http),
    /// Connect, ask to switch, get the 101 and the first bytes back, close.
    Switch(Switch),
    /// Messages on switched connections, all of which come back.
    Echo(Echo),
    /// Open switched connections, hold them, and say what memory they take of a server.
    Idle(Idle),
    /// Clients that are slow, rude or gone.
    Storm(Storm),
}

#[derive(Args)]
pub(crate) struct Http {
    /// The path.
    #[arg(long, default_value = "/plaintext")]
    pub(crate) path: String,
    /// The content every answer must have; by default that of the first one.
    #[arg(long)]
    pub(crate) content: Option<String>,
    /// Requests sent at once on a connection; with --rate, those that may be unanswered on it.
    #[arg(long, default_value_t = 1)]
    pub(crate) depth: usize,
    /// Requests a connection makes, the last of which asks the server to close it.
    #[arg(long)]
    pub(crate) requests_per_connection: Option<u64>,
    #[command(flatten)]
    pub(crate) run: Run,
    #[command(flatten)]
    pub(crate) common: Common,
}

#[derive(Args)]
pub(crate) struct Switch {
    #[command(flatten)]
    pub(crate) upgrade: Upgrade,
    /// Bytes of the first message.
    #[arg(long, default_value_t = 64)]
    pub(crate) bytes: usize,
    /// Send it when the 101 has come, and not in the segment of the request.
    #[arg(long)]
    pub(crate) late: bool,
    #[command(flatten)]
    pub(crate) run: Run,
    #[command(flatten)]
    pub(crate) common: Common,
}

#[derive(Args)]
pub(crate) struct Echo {
    #[command(flatten)]
    pub(crate) upgrade: Upgrade,
    /// Bytes of a message.
    #[arg(long, default_value_t = 64)]
    pub(crate) bytes: usize,
    /// Messages sent at once on a connection; with --rate, those that may be unanswered on it.
    #[arg(long, default_value_t = 1)]
    pub(crate) depth: usize,
    #[command(flatten)]
    pub(crate) run: Run,
    #[command(flatten)]
    pub(crate) common: Common,
}

#[derive(Args)]
pub(crate) struct Idle {
    /// The process of the server whose memory is read, and that of those it started.
    #[arg(long)]
    pub(crate) pid: Option<u32>,
    #[command(flatten)]
    pub(crate) upgrade: Upgrade,
    /// Connections opened and closed before, which the server's start is charged to.
    #[arg(long, default_value_t = 2000)]
    pub(crate) warm_up: usize,
    /// Seconds the connections are held.
    #[arg(long, default_value_t = 0.0)]
    pub(crate) seconds: f64,
    #[command(flatten)]
    pub(crate) common: Common,
}

#[derive(Args)]
pub(crate) struct Storm {
    /// What the clients do.
    #[arg(long, value_enum, default_value_t = Kind::All)]
    pub(crate) kind: Kind,
    /// The path of requests.
    #[arg(long, default_value = "/plaintext")]
    pub(crate) path: String,
    /// Seconds the storm lasts.
    #[arg(long, default_value_t = 5.0)]
    pub(crate) seconds: f64,
    #[command(flatten)]
    pub(crate) common: Common,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    /// Heads come a byte at a time: the right answer, 408 or a close is what they get.
    SlowHeads,
    /// Many requests, whose answers are read slowly, and compared.
    SlowReaders,
    /// A reset while a request is under way.
    Resets,
    /// FIN behind the request: the answer has to come all the same, and then the end.
    HalfCloses,
    /// All of them, in equal parts.
    All,
}

/// A switch.
#[derive(Args)]
pub(crate) struct Upgrade {
    /// What is asked for: `websocket`, or a protocol that sends back what it gets.
    #[arg(long, default_value = "echo")]
    pub(crate) token: String,
    /// Where; by default /ws for websocket, else /echo.
    #[arg(long)]
    pub(crate) path: Option<String>,
}

/// How much is asked for, and when.
#[derive(Args, Clone)]
pub(crate) struct Run {
    /// Seconds after which nothing is begun any more; 5 if --requests are not given either.
    #[arg(long)]
    pub(crate) seconds: Option<f64>,
    /// Requests, messages or switches in all, at most.
    #[arg(long)]
    pub(crate) requests: Option<u64>,
    /// Begin so many a second in all, whether or not answers have come.
    #[arg(long, conflicts_with = "lock_step")]
    pub(crate) rate: Option<f64>,
    /// All connections send, then all answers are read, and so on: the server meets that many
    /// requests at once.
    #[arg(long)]
    pub(crate) lock_step: bool,
    /// Microseconds between an answered burst and the next, in which the server can go to sleep.
    #[arg(long, default_value_t = 0, requires = "lock_step")]
    pub(crate) pause_us: u64,
    /// Threads, each with a ring and its share of the connections.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) threads: u16,
    /// Ask for SCHED_FIFO, so that sending is not interrupted on a core shared with the server.
    #[arg(long)]
    pub(crate) fifo: bool,
    /// Print `ready` once all is open, start at a line on standard input, close at its end.
    #[arg(long)]
    pub(crate) wait: bool,
    /// Give up after so many errors.
    #[arg(long, default_value_t = 100)]
    pub(crate) errors_max: u64,
}

#[derive(Args, Clone)]
pub(crate) struct Common {
    /// The server.
    #[arg(long, default_value = "127.0.0.1:8080")]
    pub(crate) target: SocketAddr,
    /// The target is a machine you answer for, though not this one.
    #[arg(long)]
    pub(crate) remote: bool,
    /// Connections.
    #[arg(long, default_value_t = 64)]
    pub(crate) connections: usize,
    /// Addresses of loopback to connect from, 127.0.0.1 on: each has 28 000 ports, and a closed
    /// connection occupies one for a second.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u8).range(1..=250))]
    pub(crate) sources: u8,
    /// Seconds after which the whole run is given up, opening included, and what is owed counts as
    /// errors; by default 30 more than the run lasts.
    #[arg(long)]
    pub(crate) limit: Option<f64>,
    /// The core of the first thread; the others have those that follow.
    #[arg(long)]
    pub(crate) core: Option<usize>,
    /// Print the report as one line of JSON.
    #[arg(long)]
    pub(crate) json: bool,
    /// No word of progress on standard error.
    #[arg(long)]
    pub(crate) quiet: bool,
}

impl Mode {
    pub(crate) fn common(&self) -> &Common {
        match self {
            Mode::Http(Http { common, .. })
            | Mode::Switch(Switch { common, .. })
            | Mode::Echo(Echo { common, .. })
            | Mode::Idle(Idle { common, .. })
            | Mode::Storm(Storm { common, .. }) => common,
        }
    }

    /// What it is called on the command line.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Mode::Http(_) => "http",
            Mode::Switch(_) => "switch",
            Mode::Echo(_) => "echo",
            Mode::Idle(_) => "idle",
            Mode::Storm(_) => "storm",
        }
    }

    /// Says what cannot be meant.
    pub(crate) fn check(&self) -> Result<(), String> {
        let common = self.common();
        if !common.target.ip().is_loopback() && !common.remote {
            return Err(format!(
                "{} is not on loopback: --remote says that it is a machine you answer for",
                common.target
            ));
        }
        let (bytes, depth, run) = match self {
            Mode::Http(http) => (1, http.depth, Some(&http.run)),
            // No bytes: the 101 is the end of it.
            Mode::Switch(switch) => (1, 1, Some(&switch.run)),
            Mode::Echo(echo) => (echo.bytes, echo.depth, Some(&echo.run)),
            Mode::Idle(_) | Mode::Storm(_) => (1, 1, None),
        };
        if common.connections == 0 || bytes == 0 || depth == 0 {
            return Err("--connections, --bytes and --depth start at 1".to_owned());
        }
        if run.is_some_and(|run| run.rate.is_some_and(|rate| !(rate > 0.0 && rate.is_finite()))) {
            return Err("--rate is a number of requests a second".to_owned());
        }
        if run.is_some_and(|run| usize::from(run.threads) > common.connections) {
            return Err("each of the --threads needs one of the --connections".to_owned());
        }
        let seconds = [Some(self.seconds()), common.limit];
        if seconds.into_iter().flatten().any(|time| Duration::try_from_secs_f64(time).is_err()) {
            return Err("--seconds and --limit are counts of seconds".to_owned());
        }
        Ok(())
    }

    fn seconds(&self) -> f64 {
        match self {
            Mode::Http(Http { run, .. })
            | Mode::Switch(Switch { run, .. })
            | Mode::Echo(Echo { run, .. }) => run.seconds.unwrap_or(SECONDS_USUAL),
            Mode::Idle(Idle { seconds, .. }) | Mode::Storm(Storm { seconds, .. }) => *seconds,
        }
    }

    /// How long the whole run may take.
    pub(crate) fn limit(&self) -> Duration {
        const SPARE_SECONDS: f64 = 30.0;
        let usual = self.seconds() + SPARE_SECONDS;
        Duration::from_secs_f64(self.common().limit.unwrap_or(usual))
    }
}
