//! System calls per request, by size of burst. Called by `main.rs`, which tells why all of it runs
//! on one core.
//!
//! ```text
//!   connections open │ idle: one second counted │ go: rounds counted, the idle rate subtracted │ close
//! ```

use std::error::Error;
use std::path::Path;
use std::str::FromStr;
use std::thread;
use std::time::{Duration, Instant};

use clap::Args;

use crate::counter::Counter;
use crate::figures::round;
use crate::generator::Generator;
use crate::record::Table;
use crate::target::{Policy, Server};
use crate::{Finding, SERVER_CORE, Target};

const BURSTS: [usize; 3] = [1, 8, 64];
const IDLE_WINDOW: Duration = Duration::from_secs(1);
const SETTLE: Duration = Duration::from_millis(100);

#[derive(Args)]
pub(crate) struct Options {
    /// A server: NAME=COMMAND.
    #[arg(long = "target", required = true)]
    targets: Vec<Target>,
    /// The most calls per request NAME may make at bursts of 1, 8, 64, whatever the pause:
    /// NAME=4.0,0.6,0.12.
    #[arg(long = "limit")]
    limits: Vec<Limit>,
    /// Bursts counted at each size; strace, being slow, is given a tenth, with pauses a hundred
    /// times as long.
    #[arg(long, default_value_t = 2000, value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    rounds: u64,
    /// Microseconds between an answered burst and the next, each measured in turn: with 200 the
    /// server has gone to sleep, with 0 it meets the next burst before it can.
    #[arg(long, value_delimiter = ',', default_values_t = [200, 0])]
    pause_us: Vec<u64>,
    /// Who counts; by default perf, or strace where perf does not work.
    #[arg(long, value_enum)]
    counter: Option<Counter>,
}

impl Options {
    pub(crate) fn targets(&self) -> &[Target] {
        &self.targets
    }
}

#[derive(Clone, Debug)]
struct Limit {
    name: String,
    calls_max: [f64; BURSTS.len()],
}

impl FromStr for Limit {
    type Err = String;

    fn from_str(text: &str) -> Result<Limit, String> {
        let problem = || "a limit is NAME=4.0,0.6,0.12".to_owned();
        let (name, figures) = text.split_once('=').ok_or_else(problem)?;
        let figures: Vec<f64> =
            figures.split(',').map(str::parse).collect::<Result<_, _>>().map_err(|_| problem())?;
        let calls_max = figures.try_into().map_err(|_| problem())?;
        Ok(Limit { name: name.to_owned(), calls_max })
    }
}

pub(crate) fn measure(options: &Options, generator: &Path) -> Result<Finding, Box<dyn Error>> {
    let named = |limit: &&Limit| options.targets.iter().any(|target| target.name == limit.name);
    if let Some(limit) = options.limits.iter().find(|limit| !named(limit)) {
        return Err(format!("--limit {}: no target has this name", limit.name).into());
    }
    let mut finding = Finding::new(Table::new(&[
        "target",
        "burst",
        "pause_us",
        "calls_per_request",
        "idle_calls_per_s",
        "counter",
        "fifo",
    ]));
    for target in &options.targets {
        if let Err(error) = measure_target(options, generator, target, &mut finding) {
            finding.failures.push(format!("{}: {error}", target.name));
        }
    }
    Ok(finding)
}

fn measure_target(
    options: &Options,
    generator: &Path,
    target: &Target,
    finding: &mut Finding,
) -> Result<(), Box<dyn Error>> {
    let server = Server::start(target, Policy::Idle)?;
    let counter = options.counter.map_or_else(|| Counter::choose(&server.processes()?), Ok)?;
    let limit = options.limits.iter().find(|limit| limit.name == target.name);
    let (rounds, pause_factor) = match counter {
        Counter::Perf => (options.rounds, 1),
        Counter::Strace => (options.rounds.div_ceil(10), 100),
    };
    for pause_us in options.pause_us.iter().map(|pause_us| pause_us * pause_factor) {
        for (step, connections) in BURSTS.into_iter().enumerate() {
            let bursts = Bursts { connections, rounds, pause_us };
            let found = count(generator, &server, counter, &bursts)?;
            finding.table.push(&[
                target.name.as_str().into(),
                connections.into(),
                pause_us.into(),
                round(found.calls_per_request, 3).into(),
                round(found.idle_calls_per_s, 3).into(),
                format!("{counter:?}").to_lowercase().into(),
                found.fifo.into(),
            ]);
            let calls_max = limit.map_or(f64::INFINITY, |limit| limit.calls_max[step]);
            // Two decimals: what the control window cannot subtract exactly is a call in hundreds
            // of requests.
            if round(found.calls_per_request, 2) > calls_max {
                finding.failures.push(format!(
                    "{}, burst of {connections}, pause {pause_us} us: {:.3} calls per request, limit {calls_max}",
                    target.name, found.calls_per_request
                ));
            }
        }
    }
    Ok(())
}

struct Bursts {
    connections: usize,
    rounds: u64,
    pause_us: u64,
}

struct Found {
    calls_per_request: f64,
    idle_calls_per_s: f64,
    fifo: bool,
}

fn count(
    generator: &Path,
    server: &Server,
    counter: Counter,
    bursts: &Bursts,
) -> Result<Found, Box<dyn Error>> {
    let Bursts { connections, rounds, pause_us } = bursts;
    let requests = *connections as u64 * rounds;
    let arguments = format!(
        "http --lock-step --connections {connections} --requests {requests} --pause-us {pause_us} \
         --core {SERVER_CORE} --fifo"
    );
    let mut generator = Generator::open(generator, server.address, &arguments)?;
    // Until the server has closed the connections of the generator before.
    thread::sleep(SETTLE);

    let counting = counter.attach(&server.processes()?)?;
    thread::sleep(IDLE_WINDOW);
    let idle_calls_per_s = counting.finish()? as f64 / IDLE_WINDOW.as_secs_f64();

    let counting = counter.attach(&server.processes()?)?;
    let started = Instant::now();
    let report = generator.run()?;
    let seconds = started.elapsed().as_secs_f64();
    let calls = counting.finish()? as f64;
    Ok(Found {
        calls_per_request: (calls - idle_calls_per_s * seconds).max(0.0) / report.requests as f64,
        idle_calls_per_s,
        fifo: report.fifo,
    })
}
