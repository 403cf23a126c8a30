//! The `upring` binary: reads the command line, introduces the handlers that ship to the server,
//! and runs it.

mod site;

use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use upring::config::{Config, HostKind, LimitError, Limits};
use upring::files::Files;
use upring::lint;
use upring::resource::Resource;
use upring::ring::doctor;
use upring::server::{Running, Server, ServerError};

// Small, short-lived allocations of one thread are what a switch makes; mimalloc serves them
// without a lock.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// sysexits.h: something the operator can mend in the environment, or `lint` had to skip all.
const EXIT_UNAVAILABLE: u8 = 69;

/// sysexits.h: what was asked for cannot be done.
const EXIT_USAGE: u8 = 64;

/// sysexits.h: what ought to work does not. The target of `lint` died.
const EXIT_SOFTWARE: u8 = 70;

/// More than any host has cores. A slip of the finger is to be told at once, not after thousands of
/// threads.
const WORKERS_MAX: i64 = 1024;

/// A thread-per-core io_uring server for HTTP/1.1 and protocol upgrades.
#[derive(Debug, Parser)]
#[command(version, about, long_about = None)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    /// Address to listen on; may be given several times.
    #[arg(long, global = true, value_name = "ADDR", default_value = "127.0.0.1:8080")]
    listen: Vec<SocketAddr>,
    /// Worker threads, each with its own ring; 0 is one per core.
    #[arg(long, global = true, value_name = "N", default_value_t = 0)]
    #[arg(value_parser = clap::value_parser!(u16).range(..=WORKERS_MAX))]
    workers: u16,
    /// Who turns the cores: tokio-uring (async handlers work), or a bare loop.
    #[arg(long, global = true, value_enum, default_value_t = Host::Hosted)]
    host: Host,
    /// Pin each worker to a core of its own.
    #[arg(long, global = true)]
    pin: bool,
    /// Pin, and have each worker accept what its core receives: for network cards that use all cores.
    #[arg(long, global = true)]
    steer: bool,
    /// Directory whose files are served at every path that nothing else is at.
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
    /// Set a bound, in its own unit: `--limit idle_timeout_ms=15000`; may be given several times.
    #[arg(long, global = true, value_name = "NAME=VALUE", value_parser = limit)]
    limit: Vec<(String, u64)>,
    /// Do without direct descriptors, as on kernels before 6.8.
    #[arg(long, global = true)]
    without_direct_descriptors: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Say what this kernel and these limits offer, and how to mend what they lack.
    Doctor,
    /// Name every bound and its value: what `--limit` can set.
    Limits,
    /// Send the requirement vectors to an HTTP/1.1 server, and say what it does with each.
    #[command(after_help = LINT_STATUS)]
    Lint(LintArguments),
}

#[derive(Debug, Args)]
struct LintArguments {
    /// The server.
    #[arg(value_name = "HOST:PORT", required_unless_present = "list")]
    target: Option<String>,
    /// A path that answers GET.
    #[arg(long, default_value = "/")]
    path: String,
    /// A path that reads the content of POST; without one, the path that answers GET is tried.
    #[arg(long)]
    post_path: Option<String>,
    /// A path that switches protocols; given twice, for a WebSocket and for another protocol.
    #[arg(long)]
    upgrade_path: Vec<String>,
    /// The protocol it switches to, in the order of the paths; `websocket` if it is not said.
    #[arg(long)]
    token: Vec<String>,
    /// The host to ask for, instead of the target.
    #[arg(long, value_name = "NAME")]
    host_name: Option<String>,
    /// A row to try, `U-5*` for all that begin so; may be given several times.
    #[arg(long, value_name = "ROW")]
    row: Vec<String>,
    /// Vectors a second at most.
    #[arg(long, value_name = "N", default_value_t = 0)]
    rate: u32,
    /// Milliseconds to wait for an answer, or for the end of a connection.
    #[arg(long, value_name = "MS", default_value_t = 2000)]
    timeout: u64,
    /// One JSON document instead of text.
    #[arg(long)]
    json: bool,
    /// The target may be another machine: one you answer for.
    #[arg(long)]
    remote: bool,
    /// Name the vectors and send nothing.
    #[arg(long)]
    list: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Host {
    Hosted,
    Native,
}

/// A bound by its name, and a value that fits it.
fn limit(text: &str) -> Result<(String, u64), String> {
    let (name, value) = text.split_once('=').ok_or("a limit is set by NAME=VALUE")?;
    let value = value.parse().map_err(|_| format!("{value:?} is no number"))?;
    Limits::default().set(name, value).map_err(|error| match error {
        LimitError::Unknown => format!("{error}; `upring limits` names all"),
        LimitError::TooLarge => error.to_string(),
    })?;
    Ok((name.to_owned(), value))
}

impl Arguments {
    fn config(&self) -> Config {
        let mut config = Config {
            listen: self.listen.clone(),
            workers: usize::from(self.workers),
            host: match self.host {
                Host::Hosted => HostKind::Hosted,
                Host::Native => HostKind::Native,
            },
            pin: self.pin,
            steer: self.steer,
            ..Config::default()
        };
        config.ring.without.direct_descriptors = self.without_direct_descriptors;
        for (name, value) in &self.limit {
            config.limits.set(name, *value).expect("it was set when it was parsed");
        }
        config
    }
}

fn main() -> ExitCode {
    // An idle connection takes 165 bytes, a huge page two megabytes. Where it is refused, nothing but
    // memory is lost.
    let _ = rustix::thread::disable_transparent_huge_pages(true);
    let filter =
        tracing_subscriber::EnvFilter::try_from_env("UPRING_LOG").unwrap_or_else(|_| "info".into());
    // Whether anybody reads the log is not the server's business: told of a failure it would print
    // it, and panic at that.
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    log.log_internal_errors(false).init();
    let arguments = Arguments::parse();
    let config = arguments.config();
    if let Some(Command::Lint(lint)) = &arguments.command {
        return run_lint(lint);
    }
    if let Some(Command::Limits) = arguments.command {
        let all = config.limits.each().map(|(name, value)| format!("{name}={value}\n"));
        say(io::stdout(), &all.collect::<String>());
        return ExitCode::SUCCESS;
    }
    if let Some(Command::Doctor) = arguments.command {
        let report = doctor::report(&config);
        say(io::stdout(), &report.to_string());
        return if report.healthy() { ExitCode::SUCCESS } else { ExitCode::from(EXIT_UNAVAILABLE) };
    }
    let files = match arguments.root.as_ref().map(|root| (root, Files::new(root))).map(opened) {
        None => None,
        Some(Ok(files)) => Some(files),
        Some(Err(error)) => return give_up(&error),
    };
    match serve(config, files) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => give_up(&error.to_string()),
    }
}

fn opened((root, files): (&PathBuf, io::Result<Files>)) -> Result<Files, String> {
    files.map_err(|error| format!("cannot serve the files of {}: {error}", root.display()))
}

fn give_up(why: &str) -> ExitCode {
    say(io::stderr(), &format!("upring: {why}\n"));
    ExitCode::from(EXIT_UNAVAILABLE)
}

/// What `upring lint --help` says of it.
const LINT_STATUS: &str = "\
Exit status: 0 if the server does nothing that a standard forbids, 1 if it does, 2 for wrong usage,
64 if nothing could be sent, 69 if all that was asked for was skipped, 70 if the server died.";

fn run_lint(arguments: &LintArguments) -> ExitCode {
    if arguments.list {
        for vector in lint::vectors() {
            let lint::Vector { row, level, source, class, title, .. } = vector;
            let level = level.word();
            say(io::stdout(), &format!("{row:<5} {level:<6} {source} ({class}) | {title}\n"));
        }
        return ExitCode::SUCCESS;
    }
    match try_lint(arguments) {
        Ok(report) => {
            let text = if arguments.json { report.json() } else { report.totals() };
            say(io::stdout(), &text);
            judged(&report)
        }
        Err(error) => {
            say(io::stderr(), &format!("upring: {error}\n"));
            ExitCode::from(EXIT_USAGE)
        }
    }
}

fn judged(report: &lint::Report) -> ExitCode {
    if let Some(death) = &report.death {
        say(io::stderr(), &format!("upring: {death}\n"));
        return ExitCode::from(EXIT_SOFTWARE);
    }
    if let Some(why) = report.untried() {
        say(io::stderr(), &format!("upring: nothing was tried, all was skipped: {why}\n"));
        return ExitCode::from(EXIT_UNAVAILABLE);
    }
    ExitCode::from(u8::from(!report.is_clean()))
}

fn try_lint(arguments: &LintArguments) -> Result<lint::Report, lint::LintError> {
    let text = arguments.target.as_deref().unwrap_or_default();
    let tokens = arguments.token.iter().map(String::as_str);
    let tokens = tokens.chain(std::iter::repeat("websocket"));
    let upgrades = arguments.upgrade_path.iter().zip(tokens);
    let upgrades =
        upgrades.map(|(path, token)| lint::Upgrade { path: path.clone(), token: token.to_owned() });
    let target = lint::Target {
        addresses: lint::resolve(text)?,
        host: arguments.host_name.clone().unwrap_or_else(|| text.to_owned()),
        authority: text.to_owned(),
        path: arguments.path.clone(),
        post_path: arguments.post_path.clone(),
        upgrades: upgrades.collect(),
        timeout: Duration::from_millis(arguments.timeout.max(1)),
    };
    let (rows, rate) = (arguments.row.clone(), arguments.rate);
    let options = lint::Options { target, rows, rate, is_remote_allowed: arguments.remote };
    lint::run(&options, |result| {
        if !arguments.json {
            say(io::stdout(), &result.text());
        }
    })
}

/// Serves until a signal says to stop.
fn serve(config: Config, files: Option<Files>) -> Result<(), ServerError> {
    let host = config.host;
    // Before anybody can connect: from then on a signal has the server drain.
    let mut signals = Signals::new([SIGINT, SIGTERM]).map_err(ServerError::Signals)?;
    let mut server = site::routes(Server::new(config));
    if let Some(files) = files {
        server = server.route("/*", Resource::new().get(files));
    }
    let running = server.start()?;
    say(io::stdout(), &introduction(&running, host));
    let stopper = running.stopper();
    std::thread::spawn(move || {
        if signals.forever().next().is_some() {
            stopper.stop();
            say(io::stderr(), "upring: stopping; connections have a few seconds to end\n");
        }
        if signals.forever().next().is_some() {
            std::process::exit(1);
        }
    });
    running.join()
}

/// Says something to the operator. Whether anybody listens is not the server's business: the pipe
/// may be closed.
fn say(mut to: impl Write, text: &str) {
    let _ = to.write_all(text.as_bytes());
}

/// What is served, and what to try.
fn introduction(running: &Running, host: HostKind) -> String {
    let host = match host {
        HostKind::Hosted => "hosted by tokio-uring",
        HostKind::Native => "native",
    };
    let version = env!("CARGO_PKG_VERSION");
    let mut text = format!("upring {version}: {} workers, {host}\n", running.workers());
    for address in running.addresses() {
        for (path, what) in site::SERVED {
            text += &format!("  {:<32} {what}\n", format!("http://{address}{path}"));
        }
    }
    if let Some(address) = running.addresses().first() {
        let (ip, port) = (address.ip(), address.port());
        text += &format!(
            "try:\n  curl -i http://{address}/plaintext\n  {TRY_SWITCH} | nc -N {ip} {port}\n"
        );
    }
    text
}

const TRY_SWITCH: &str = concat!(
    r"printf 'GET /echo HTTP/1.1\r\nHost: a\r\n",
    r"Connection: Upgrade\r\nUpgrade: echo\r\n\r\nhello\n'"
);
