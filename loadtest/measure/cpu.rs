//! Processor microseconds of the server per request or message, kernel work included, free-running.
//! Called by `main.rs`.
//!
//! All targets run at once, idle but for the one whose turn it is, so that the noise of a machine,
//! which comes and goes over seconds, falls on all of them alike:
//!
//! ```text
//!   warm-up   a b c     round 1   a b c     round 2   a b c   ...     of each load
//! ```

use std::error::Error;
use std::path::Path;

use clap::Args;

use crate::generator::Generator;
use crate::record::Table;
use crate::target::{Policy, Server};
use crate::{Finding, GENERATOR_CORE, Target};

#[derive(Args)]
pub(crate) struct Options {
    /// A server: NAME=COMMAND. The others are compared with the first.
    #[arg(long = "target", required = true)]
    targets: Vec<Target>,
    /// Rounds, each of which measures every target once.
    #[arg(long, default_value_t = 15)]
    rounds: usize,
    /// Seconds of one turn of one target.
    #[arg(long, default_value_t = 0.3)]
    seconds: f64,
    /// Numbers of connections.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 64, 512])]
    connections: Vec<usize>,
    /// What the generator does: plaintext, echo, or websocket.
    #[arg(long, default_value = "plaintext")]
    mode: String,
    /// Numbers of requests or messages a connection sends at once.
    #[arg(long, value_delimiter = ',', default_values_t = [1])]
    depth: Vec<usize>,
    /// Bytes of a message (echo, websocket).
    #[arg(long, value_delimiter = ',', default_values_t = [64])]
    bytes: Vec<usize>,
}

/// What the generator does to a server in one turn.
#[derive(Clone, Copy)]
struct Load {
    connections: usize,
    depth: usize,
    bytes: usize,
}

impl Options {
    /// Each size at each depth over each number of connections.
    fn loads(&self) -> impl Iterator<Item = Load> {
        self.bytes.iter().flat_map(move |&bytes| {
            self.connections.iter().flat_map(move |&connections| {
                self.depth.iter().map(move |&depth| Load { connections, depth, bytes })
            })
        })
    }
}

pub(crate) fn measure(options: &Options, burst: &Path) -> Result<Finding, Box<dyn Error>> {
    let start = |target| Server::start(target, Policy::Usual);
    let servers = options.targets.iter().map(start).collect::<Result<Vec<_>, _>>()?;
    let mut table = Table::new(&[
        "target",
        "connections",
        "depth",
        "bytes",
        "us_per_request",
        "us_lowest",
        "us_highest",
        "ratio",
    ]);
    for load in options.loads() {
        let rounds = measure_rounds(options, burst, &servers, load)?;
        for (index, target) in options.targets.iter().enumerate() {
            let mut figures: Vec<f64> = rounds.iter().map(|round| round[index]).collect();
            let mut ratios: Vec<f64> = rounds.iter().map(|round| round[index] / round[0]).collect();
            let (figure, ratio) = (median(&mut figures), median(&mut ratios));
            table.push(&[
                target.name.as_str().into(),
                load.connections.into(),
                load.depth.into(),
                load.bytes.into(),
                round(figure).into(),
                round(figures[0]).into(),
                round(figures[figures.len() - 1]).into(),
                round(ratio).into(),
            ]);
        }
    }
    Ok(Finding { table, exceeded: Vec::new() })
}

/// One row a round, one figure a server. The first round warms up and is not among them.
fn measure_rounds(
    options: &Options,
    burst: &Path,
    servers: &[Server],
    load: Load,
) -> Result<Vec<Vec<f64>>, Box<dyn Error>> {
    let turn = |server| us_per_request(options, burst, server, load);
    let round = |_| servers.iter().map(turn).collect::<Result<Vec<_>, _>>();
    let mut rounds = (0..=options.rounds).map(round).collect::<Result<Vec<_>, _>>()?;
    rounds.remove(0);
    Ok(rounds)
}

fn us_per_request(
    options: &Options,
    burst: &Path,
    server: &Server,
    load: Load,
) -> Result<f64, Box<dyn Error>> {
    let Load { connections, depth, bytes } = load;
    let arguments = format!(
        "{} --connections {connections} --depth {depth} --bytes {bytes} --seconds {} --core {GENERATOR_CORE}",
        options.mode, options.seconds
    );
    let mut generator = Generator::open(burst, server.address, &arguments)?;
    let before_ns = server.cpu_ns()?;
    let report = generator.run()?;
    let spent_ns = server.cpu_ns()? - before_ns;
    Ok(spent_ns as f64 / 1000.0 / report.requests as f64)
}

/// Sorts the figures.
fn median(figures: &mut [f64]) -> f64 {
    figures.sort_by(f64::total_cmp);
    let middle = figures.len() / 2;
    if figures.len().is_multiple_of(2) {
        f64::midpoint(figures[middle - 1], figures[middle])
    } else {
        figures[middle]
    }
}

/// To a hundredth.
fn round(figure: f64) -> f64 {
    (figure * 100.0).round() / 100.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_median_is_the_middle_or_between_the_two() {
        assert_eq!(median(&mut [3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&mut [4.0, 1.0, 3.0, 2.0]), 2.5);
    }
}
