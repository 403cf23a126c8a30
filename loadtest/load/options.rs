//! The command line.

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

use clap::builder::RangedU64ValueParser;
use clap::{Args, Parser, Subcommand, ValueEnum};
use rustls::pki_types::ServerName;

use crate::run::SECONDS_USUAL;
use crate::storm::HONEST;

/// Above these a slip of the finger is meant, and not a load: they keep what a run takes of this
/// machine, of memory above all, within what it has.
const CONNECTIONS_MAX: u64 = 1_000_000;
const THREADS_MAX: i64 = 1024;
const DEPTH_MAX: u64 = 65_536;
const MESSAGE_BYTES_MAX: u64 = 16 << 20;
/// Of the messages that are sent at once on a connection.
const BURST_BYTES_MAX: usize = 64 << 20;
/// Requests or messages on all connections.
const UNDER_WAY_MAX: usize = 64 << 20;
const PAUSE_US_MAX: u64 = 60_000_000;
/// What a run may take beyond the seconds it lasts, and how long it waits when it has none.
const SPARE_SECONDS: f64 = 30.0;
/// Eleven days.
const SECONDS_MAX: f64 = 1e6;
/// Requests a second.
const RATE_MIN: f64 = 1e-3;
const RATE_MAX: f64 = 1e9;

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
    #[arg(long, default_value = "/plaintext", value_parser = path)]
    pub(crate) path: String,
    /// The content every answer must have; by default that of the first one.
    #[arg(long)]
    pub(crate) content: Option<String>,
    /// Requests sent at once on a connection; with --rate, those that may be unanswered on it.
    #[arg(long, default_value_t = 1, value_parser = within(1..=DEPTH_MAX))]
    pub(crate) depth: usize,
    /// Requests a connection makes, the last of which asks the server to close it.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
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
    #[arg(long, default_value_t = 64, value_parser = within(0..=MESSAGE_BYTES_MAX))]
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
    #[arg(long, default_value_t = 64, value_parser = within(1..=MESSAGE_BYTES_MAX))]
    pub(crate) bytes: usize,
    /// Messages sent at once on a connection; with --rate, those that may be unanswered on it.
    #[arg(long, default_value_t = 1, value_parser = within(1..=DEPTH_MAX))]
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
    #[arg(long, default_value_t = 2000, value_parser = within(0..=CONNECTIONS_MAX))]
    pub(crate) warm_up: usize,
    /// Seconds the connections are held.
    #[arg(long, default_value_t = 0.0, value_parser = seconds_or_none)]
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
    #[arg(long, default_value = "/plaintext", value_parser = path)]
    pub(crate) path: String,
    /// Seconds the storm lasts.
    #[arg(long, default_value_t = 5.0, value_parser = seconds)]
    pub(crate) seconds: f64,
    /// Half-done handshakes begun a second, each given up for the next one of its seat; by default a
    /// client comes again when it is closed, or after five seconds.
    #[arg(long, value_parser = rate)]
    pub(crate) rate: Option<f64>,
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
    /// The first message of a TLS handshake, and then nothing: a close is what they get. With --tls.
    HalfHandshakes,
    /// All of them but half-handshakes, in equal parts.
    All,
}

/// A switch.
#[derive(Args)]
pub(crate) struct Upgrade {
    /// What is asked for: `websocket`, or a protocol that sends back what it gets.
    #[arg(long, default_value = "echo", value_parser = token)]
    pub(crate) token: String,
    /// Where; by default /ws for websocket, else /echo.
    #[arg(long, value_parser = path)]
    pub(crate) path: Option<String>,
}

/// How much is asked for, and when.
#[derive(Args, Clone)]
pub(crate) struct Run {
    /// Seconds after which nothing is begun any more; 5 if --requests are not given either.
    #[arg(long, value_parser = seconds)]
    pub(crate) seconds: Option<f64>,
    /// Requests, messages or switches in all, at most.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) requests: Option<u64>,
    /// Begin so many a second in all, whether or not answers have come.
    #[arg(long, conflicts_with = "lock_step", value_parser = rate)]
    pub(crate) rate: Option<f64>,
    /// All connections send, then all answers are read, and so on: the server meets that many
    /// requests at once.
    #[arg(long)]
    pub(crate) lock_step: bool,
    /// Microseconds between an answered burst and the next, in which the server can go to sleep.
    #[arg(long, default_value_t = 0, requires = "lock_step")]
    #[arg(value_parser = clap::value_parser!(u64).range(..=PAUSE_US_MAX))]
    pub(crate) pause_us: u64,
    /// Threads, each with a ring and its share of the connections.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=THREADS_MAX))]
    pub(crate) threads: u16,
    /// Ask for SCHED_FIFO, so that sending is not interrupted on a core shared with the server.
    #[arg(long)]
    pub(crate) fifo: bool,
    /// Print `ready` once all is open, start at a line on standard input, close at its end.
    #[arg(long)]
    pub(crate) wait: bool,
    /// Give up after so many errors; what is under way then is not counted.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) errors_max: u64,
    /// Give up when nothing was answered for so many seconds though something is owed; 30 for a run
    /// of --requests alone, which has no --limit by default.
    #[arg(long, value_parser = seconds)]
    pub(crate) stall: Option<f64>,
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
    #[arg(long, default_value_t = 64, value_parser = within(1..=CONNECTIONS_MAX))]
    pub(crate) connections: usize,
    /// Addresses of loopback to connect from, 127.0.0.1 on: each has 28 000 ports, and a closed
    /// connection occupies one for a second.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u8).range(1..=250))]
    pub(crate) sources: u8,
    /// Seconds after which the whole run is given up, opening included, and each connection that
    /// something is owed on or left for counts as an error; by default 30 more than the run lasts.
    #[arg(long, value_parser = seconds)]
    pub(crate) limit: Option<f64>,
    /// The core of the first thread; the others have those that follow.
    #[arg(long)]
    pub(crate) core: Option<usize>,
    #[command(flatten)]
    pub(crate) tls: Tls,
    /// Print the report as one line of JSON.
    #[arg(long)]
    pub(crate) json: bool,
    /// No word of progress on standard error.
    #[arg(long)]
    pub(crate) quiet: bool,
}

/// Whether everything is said in TLS, and how.
#[derive(Args, Clone)]
pub(crate) struct Tls {
    /// Speak TLS. Whoever the certificate names, and whoever signed it, is believed; that the server
    /// has the key to it is verified by the signature in its handshake.
    #[arg(long)]
    pub(crate) tls: bool,
    /// The one version to speak; by default 1.3, and 1.2 with a server that has no other.
    #[arg(long, value_enum, requires = "tls")]
    pub(crate) tls_version: Option<Version>,
    /// Each client keeps the tickets it is given, and resumes its session on its next connection;
    /// without this, every handshake is a full one.
    #[arg(long, requires = "tls")]
    pub(crate) tls_resume: bool,
    /// The name that is asked for.
    #[arg(long, default_value = "localhost", requires = "tls", value_parser = server_name)]
    pub(crate) tls_name: ServerName<'static>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Version {
    #[value(name = "1.2")]
    V12,
    #[value(name = "1.3")]
    V13,
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
        if let Mode::Echo(Echo { bytes, depth, .. }) = self
            && bytes.saturating_mul(*depth) > BURST_BYTES_MAX
        {
            return Err(format!("--bytes times --depth are at most {BURST_BYTES_MAX}"));
        }
        if common.connections.saturating_mul(self.depth()) > UNDER_WAY_MAX {
            return Err(format!("--connections times --depth are at most {UNDER_WAY_MAX}"));
        }
        if let Mode::Storm(Storm { kind, rate, .. }) = self {
            if *kind == Kind::HalfHandshakes && !common.tls.tls {
                return Err("half-done handshakes are of --tls".to_owned());
            }
            if *kind != Kind::HalfHandshakes && rate.is_some() {
                return Err("--rate is of --kind half-handshakes".to_owned());
            }
        }
        if self.rounds().is_some_and(|run| usize::from(run.threads) > common.connections) {
            return Err("each of the --threads needs one of the --connections".to_owned());
        }
        Ok(())
    }

    /// What there is to say of rounds, in a mode that consists of them.
    fn rounds(&self) -> Option<&Run> {
        match self {
            Mode::Http(Http { run, .. })
            | Mode::Switch(Switch { run, .. })
            | Mode::Echo(Echo { run, .. }) => Some(run),
            Mode::Idle(_) | Mode::Storm(_) => None,
        }
    }

    fn depth(&self) -> usize {
        match self {
            Mode::Http(Http { depth, .. }) | Mode::Echo(Echo { depth, .. }) => *depth,
            Mode::Switch(_) | Mode::Idle(_) | Mode::Storm(_) => 1,
        }
    }

    /// The most connections that are open at the same time.
    pub(crate) fn connections_max(&self) -> usize {
        let connections = self.common().connections;
        match self {
            Mode::Idle(idle) => connections.max(idle.warm_up),
            Mode::Storm(_) => connections + HONEST,
            Mode::Http(_) | Mode::Switch(_) | Mode::Echo(_) => connections,
        }
    }

    /// Seconds a run lasts by itself; without end if only its requests are counted.
    fn seconds(&self) -> f64 {
        match self {
            Mode::Http(Http { run, .. })
            | Mode::Switch(Switch { run, .. })
            | Mode::Echo(Echo { run, .. }) => match (run.seconds, run.requests, run.rate) {
                (Some(seconds), ..) => seconds,
                (None, Some(requests), Some(rate)) => requests as f64 / rate,
                (None, Some(_), None) => f64::INFINITY,
                (None, None, _) => SECONDS_USUAL,
            },
            Mode::Idle(Idle { seconds, .. }) | Mode::Storm(Storm { seconds, .. }) => *seconds,
        }
    }

    /// How long the whole run may take.
    pub(crate) fn limit(&self) -> Duration {
        let usual = self.seconds() + SPARE_SECONDS;
        let limit = Duration::try_from_secs_f64(self.common().limit.unwrap_or(usual));
        limit.unwrap_or(Duration::MAX)
    }

    /// How long it goes on when nothing is answered.
    pub(crate) fn stall(&self) -> Duration {
        let usual = (self.limit() == Duration::MAX).then_some(SPARE_SECONDS);
        let stall = self.rounds().and_then(|run| run.stall).or(usual);
        stall.map_or(Duration::MAX, Duration::from_secs_f64)
    }
}

/// A number in this range.
fn within(range: RangeInclusive<u64>) -> RangedU64ValueParser<usize> {
    RangedU64ValueParser::new().range(range)
}

/// A count of seconds that is not 0.
fn seconds(text: &str) -> Result<f64, String> {
    let seconds = seconds_or_none(text)?;
    if seconds > 0.0 { Ok(seconds) } else { Err("nothing is done in 0 seconds".to_owned()) }
}

fn seconds_or_none(text: &str) -> Result<f64, String> {
    let is_fit = |seconds: &f64| (0.0..=SECONDS_MAX).contains(seconds);
    let problem = || format!("it is a count of seconds, at most {SECONDS_MAX}");
    text.parse().ok().filter(is_fit).ok_or_else(problem)
}

fn rate(text: &str) -> Result<f64, String> {
    let is_fit = |rate: &f64| (RATE_MIN..=RATE_MAX).contains(rate);
    let problem = || format!("it is a number of requests a second, from {RATE_MIN} to {RATE_MAX}");
    text.parse().ok().filter(is_fit).ok_or_else(problem)
}

/// What would end the request line, or break out of it, is not sent: what comes back would be the
/// answer to something else.
fn path(text: &str) -> Result<String, String> {
    if text.starts_with('/') && text.bytes().all(|byte| byte.is_ascii_graphic()) {
        Ok(text.to_owned())
    } else {
        Err("it begins with / and is of visible ASCII characters".to_owned())
    }
}

fn server_name(text: &str) -> Result<ServerName<'static>, String> {
    ServerName::try_from(text.to_owned())
        .map_err(|_| "it is the name of a host, or an address".to_owned())
}

// RFC 9110 §7.8: a protocol is a token, and may have a version, which is another.
fn token(text: &str) -> Result<String, String> {
    let is_token = |part: &str| {
        let is_tchar =
            |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        !part.is_empty() && part.bytes().all(is_tchar)
    };
    let (name, version) = text.split_once('/').unwrap_or((text, "1"));
    if is_token(name) && is_token(version) {
        Ok(text.to_owned())
    } else {
        Err("it is a token, or two with a / between them".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(arguments: &str) -> Mode {
        let words = ["upring-load"].into_iter().chain(arguments.split(' '));
        match Options::try_parse_from(words) {
            Ok(options) => options.mode,
            Err(error) => panic!("{error}"),
        }
    }

    #[test]
    fn a_number_of_requests_takes_as_long_as_it_takes_while_they_are_answered() {
        let bounds = |arguments| (mode(arguments).limit(), mode(arguments).stall());
        let seconds = Duration::from_secs;
        assert_eq!(bounds("http --requests 9"), (Duration::MAX, seconds(30)));
        assert_eq!(bounds("http --requests 9 --stall 2"), (Duration::MAX, seconds(2)));
        assert_eq!(bounds("http --requests 9 --limit 8"), (seconds(8), Duration::MAX));
        assert_eq!(bounds("http --requests 90 --rate 2"), (seconds(75), Duration::MAX));
        assert_eq!(bounds("http --requests 9 --seconds 7"), (seconds(37), Duration::MAX));
        assert_eq!(bounds("http"), (seconds(35), Duration::MAX));
        assert_eq!(bounds("storm --seconds 2"), (seconds(32), Duration::MAX));
    }
}
