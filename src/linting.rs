//! `upring lint`: sends the requirement vectors to a server and says what it does with each.

use std::io;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use upring::lint;

use crate::{EXIT_UNAVAILABLE, EXIT_USAGE, say};

/// sysexits.h: what ought to work does not. The target died.
const EXIT_SOFTWARE: u8 = 70;

#[derive(Debug, Args)]
pub(crate) struct LintArguments {
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

/// What `upring lint --help` says of it.
pub(crate) const LINT_STATUS: &str = "\
Exit status: 0 if the server does nothing that a standard forbids, 1 if it does, 2 for wrong usage,
64 if nothing could be sent, 69 if all that was asked for was skipped, 70 if the server died.";

pub(crate) fn run(arguments: &LintArguments) -> ExitCode {
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
