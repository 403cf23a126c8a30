//! The `upring` binary: reads the command line and the configuration, introduces the handlers that ship
//! to the server, and runs it.

mod demo;
mod linting;
mod replacement;
mod self_signed;
mod serve;
mod service;
mod top;

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand, ValueEnum};
use linting::{LINT_STATUS, LintArguments};
use upring::config::{AccessTarget, Config, HostKind, LimitError, Limits, ListenAddress, Listener};
use upring::ring::doctor;
use upring::site::{Catalog, Faults, Site};

// Small, short-lived allocations of one thread are what a switch makes; mimalloc serves them
// without a lock.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// sysexits.h: something the operator can mend in the environment, or `lint` had to skip all.
const EXIT_UNAVAILABLE: u8 = 69;

/// sysexits.h: what was asked for cannot be done.
const EXIT_USAGE: u8 = 64;

/// sysexits.h: the configuration is wrong.
const EXIT_CONFIG: u8 = 78;

/// More than any host has cores. A slip of the finger is to be told at once, not after thousands of
/// threads.
const WORKERS_MAX: i64 = 1024;

/// A thread-per-core io_uring server for HTTP/1.1 and protocol upgrades.
#[derive(Debug, Parser)]
#[command(version, about, long_about = None)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    options: Options,
}

/// What goes before the configuration file.
#[derive(Debug, Clone, Args)]
struct Options {
    /// Configuration file; without one, the server has a page to try things with.
    #[arg(long, global = true, value_name = "FILE", env = "UPRING_CONFIG")]
    config: Option<PathBuf>,
    /// Address to listen on, or `unix:PATH`, instead of those of the file; may be given several times.
    #[arg(long, global = true, value_name = "ADDR", env = "UPRING_LISTEN", value_delimiter = ',')]
    listen: Vec<ListenAddress>,
    /// Worker threads, each with its own ring; 0 is one per core.
    #[arg(long, global = true, value_name = "N", env = "UPRING_WORKERS")]
    #[arg(value_parser = clap::value_parser!(u16).range(..=WORKERS_MAX))]
    workers: Option<u16>,
    /// Who turns the cores: tokio-uring (async handlers work), or a bare loop.
    #[arg(long, global = true, value_enum, env = "UPRING_HOST")]
    host: Option<Host>,
    /// Pin each worker to a core of its own.
    #[arg(long, global = true, env = "UPRING_PIN")]
    #[arg(num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    pin: Option<bool>,
    /// Pin, and have each worker accept what its core receives: for network cards that use all cores.
    #[arg(long, global = true, env = "UPRING_STEER")]
    #[arg(num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    steer: Option<bool>,
    /// Loopback address, or `unix:PATH`, at which /metrics, /healthz and /readyz are answered.
    #[arg(long, global = true, value_name = "ADDR", env = "UPRING_ADMIN")]
    admin: Option<ListenAddress>,
    /// Unix socket at which a new process takes the place of this one, without losing a connection attempt.
    #[arg(long, global = true, value_name = "PATH", env = "UPRING_HAND_OVER")]
    hand_over: Option<PathBuf>,
    /// Where the access log goes: a path, `stdout` or `stderr`; `off` is none.
    #[arg(long, global = true, value_name = "WHERE", env = "UPRING_ACCESS_LOG")]
    access_log: Option<AccessTarget>,
    /// User to become once all is listened on; takes a start as root.
    #[arg(long, global = true, value_name = "NAME", env = "UPRING_USER")]
    user: Option<String>,
    /// Its group; the one of the user if none is named.
    #[arg(long, global = true, value_name = "NAME", env = "UPRING_GROUP")]
    group: Option<String>,
    /// Directory whose files are served at every path that nothing else is at.
    #[arg(long, global = true, value_name = "DIR", env = "UPRING_ROOT")]
    root: Option<PathBuf>,
    /// Set a bound, in its own unit: `--limit idle_timeout_ms=15000`; may be given several times.
    #[arg(long, global = true, value_name = "NAME=VALUE", value_parser = limit)]
    #[arg(env = "UPRING_LIMIT", value_delimiter = ',')]
    limit: Vec<(String, u64)>,
    /// Speak TLS with a certificate that is made for the occasion, on every TCP listener that has none: to try
    /// things out.
    #[arg(long, global = true)]
    tls_self_signed: bool,
    /// Do without direct descriptors, as on kernels before 6.8.
    #[arg(long, global = true)]
    without_direct_descriptors: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve; what is done if nothing else is said.
    Serve,
    /// Say all that is wrong with a configuration: a file, and the options beside it.
    #[command(after_help = "Exit status: 0 if nothing is, 78 otherwise.")]
    Check {
        /// The file; the one of `--config` if none is named.
        #[arg(value_name = "FILE")]
        file: Option<PathBuf>,
    },
    /// Print a configuration.
    Config {
        /// The default one, each key with what it means.
        #[arg(long, required = true)]
        defaults: bool,
    },
    /// Say what this kernel and these limits offer, and how to mend what they lack.
    Doctor,
    /// Name every bound and its value: what `--limit` can set.
    Limits,
    /// Show what a server does, live: what its admin listener has, in rates and by core.
    Top(top::TopArguments),
    /// Send the requirement vectors to an HTTP/1.1 server, and say what it does with each.
    #[command(after_help = LINT_STATUS)]
    Lint(LintArguments),
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

impl Options {
    /// What is to be served: the file, and what goes before it.
    fn site(&self, catalog: &Catalog) -> Result<Site, Faults> {
        match &self.config {
            Some(path) => self.site_in(path, catalog),
            None => {
                let name = "the default configuration";
                Site::parse(name, demo::DEFAULT, catalog, |config| self.apply(config))
            }
        }
    }

    fn site_in(&self, path: &Path, catalog: &Catalog) -> Result<Site, Faults> {
        Site::read(path, catalog, |config| self.apply(config))
    }

    fn apply(&self, config: &mut Config) {
        if !self.listen.is_empty() {
            config.listen = self.listen.iter().cloned().map(Listener::from).collect();
        }
        if self.tls_self_signed {
            let tcp = config.listen.iter_mut().filter(|listener| !listener.is_unix());
            tcp.for_each(|listener| {
                listener.tls.get_or_insert_with(self_signed::settings);
            });
        }
        if let Some(workers) = self.workers {
            config.workers = usize::from(workers);
        }
        match self.host {
            None => {}
            Some(Host::Hosted) => config.host = HostKind::Hosted,
            Some(Host::Native) => config.host = HostKind::Native,
        }
        if let Some(target) = &self.access_log {
            config.access.to = target.clone();
        }
        config.user = self.user.clone().or(config.user.take());
        config.group = self.group.clone().or(config.group.take());
        config.pin = self.pin.unwrap_or(config.pin);
        config.steer = self.steer.unwrap_or(config.steer);
        config.ring.without.direct_descriptors |= self.without_direct_descriptors;
        for (name, value) in &self.limit {
            config.limits.set(name, *value).expect("it was set when it was parsed");
        }
    }
}

fn main() -> ExitCode {
    // An idle connection takes 165 bytes, a huge page two megabytes. Where it is refused, nothing but
    // memory is lost.
    let _ = rustix::thread::disable_transparent_huge_pages(true);
    // Nothing that this executes, or is made to execute, gains a right by it. It never fails: the
    // kernel has it since 3.5 (prctl(2)).
    let _ = rustix::thread::set_no_new_privs(true);
    let Arguments { command, options } = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => return misused(&error),
    };
    match command {
        None | Some(Command::Serve) => serve::run(&options),
        Some(Command::Check { file }) => check(file, &options),
        Some(Command::Config { .. }) => {
            say(io::stdout(), demo::DEFAULT);
            ExitCode::SUCCESS
        }
        Some(Command::Lint(lint)) => linting::run(&lint),
        Some(Command::Top(top)) => top::run(&top),
        Some(Command::Limits) => with_config(&options, |config| {
            let all = config.limits.each().map(|(name, value)| format!("{name}={value}\n"));
            say(io::stdout(), &all.collect::<String>());
            true
        }),
        Some(Command::Doctor) => with_config(&options, |config| {
            let report = doctor::report(config);
            say(io::stdout(), &report.to_string());
            report.healthy()
        }),
    }
}

fn check(file: Option<PathBuf>, options: &Options) -> ExitCode {
    let catalog = demo::catalog();
    let checked = match &file {
        Some(path) => {
            options.site_in(path, &catalog).map(|site| (path.display().to_string(), site))
        }
        None => options.site(&catalog).map(|site| ("the configuration".to_owned(), site)),
    };
    match checked {
        Ok((name, site)) => {
            let faults = serve::beforehand::faults(&site, options);
            if !faults.is_empty() {
                return give_up_with(&faults.join("\nupring: "), EXIT_CONFIG);
            }
            let (routes, listeners) = (site.served().len(), site.config().listen.len());
            say(io::stdout(), &format!("{name}: ok, {routes} routes, {listeners} listeners\n"));
            let (certificates, warnings) = serve::certificates::report(&site);
            certificates.iter().for_each(|line| say(io::stdout(), &format!("  {line}\n")));
            warnings
                .iter()
                .for_each(|line| say(io::stderr(), &format!("upring: warning: {line}\n")));
            ExitCode::SUCCESS
        }
        Err(faults) => misconfigured(&faults),
    }
}

fn with_config(options: &Options, tell: impl FnOnce(&Config) -> bool) -> ExitCode {
    match options.site(&demo::catalog()) {
        Ok(site) if tell(site.config()) => ExitCode::SUCCESS,
        Ok(_) => ExitCode::from(EXIT_UNAVAILABLE),
        Err(faults) => misconfigured(&faults),
    }
}

/// Help and version are asked for; all else is wrong usage. `lint` has its own status for it, as its help says.
fn misused(error: &clap::Error) -> ExitCode {
    // Whether anybody reads it is not our business.
    let _ = error.print();
    let is_lint = std::env::args_os().any(|argument| argument == "lint");
    match error.use_stderr() {
        false => ExitCode::SUCCESS,
        true if is_lint => ExitCode::from(2),
        true => ExitCode::from(EXIT_USAGE),
    }
}

fn misconfigured(faults: &Faults) -> ExitCode {
    say(io::stderr(), &format!("{faults}\n"));
    ExitCode::from(EXIT_CONFIG)
}

/// Ends with what kept it from doing what was asked, which the operator can mend.
fn give_up(why: &str) -> ExitCode {
    give_up_with(why, EXIT_UNAVAILABLE)
}

fn give_up_with(why: &str, code: u8) -> ExitCode {
    say(io::stderr(), &format!("upring: {why}\n"));
    ExitCode::from(code)
}

/// Says something to the operator. Whether anybody listens is not the server's business: the pipe
/// may be closed.
fn say(mut to: impl Write, text: &str) {
    let _ = to.write_all(text.as_bytes());
}
