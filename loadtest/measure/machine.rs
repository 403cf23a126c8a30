//! What the machine itself does to times: work that only fills a core, on one core alone and on
//! both at once. Called by `main.rs`.
//!
//! A virtual processor may be one thread of a core whose other thread is this machine's second
//! processor, or a stranger. While that one works, what keeps a core's units busy takes half as
//! long again or more, what waits for memory takes as long as before, and times of two servers that
//! differ in that shift against each other.

use std::error::Error;
use std::hint::black_box;
use std::sync::Barrier;
use std::thread;
use std::time::Instant;

use clap::Args;
use serde_json::Value;

use crate::figures::{highest, lowest, median, round};
use crate::profile::rounds;
use crate::record::Table;
use crate::{Finding, GENERATOR_CORE, SERVER_CORE, process};

const COLUMNS: [&str; 6] = ["cores", "core", "lowest", "median", "highest", "ratio"];

/// Steps of a turn: some ten milliseconds.
const STEPS: u32 = 30_000_000;

#[derive(Args)]
pub(crate) struct Options {
    /// Rounds, each of which has a turn of each core alone, and one of both.
    #[arg(long, default_value_t = 100, value_parser = rounds())]
    rounds: usize,
}

pub(crate) fn measure(options: &Options) -> Result<Finding, Box<dyn Error>> {
    let cores = [SERVER_CORE, GENERATOR_CORE];
    let (mut alone, mut together) = ([Vec::new(), Vec::new()], [Vec::new(), Vec::new()]);
    for _ in 0..options.rounds {
        for (place, core) in cores.into_iter().enumerate() {
            alone[place].extend(nanoseconds(&[core])?);
        }
        for (place, figure) in nanoseconds(&cores)?.into_iter().enumerate() {
            together[place].push(figure);
        }
    }
    let mut finding = Finding::new(Table::new(&COLUMNS));
    let best = lowest(alone.iter().flatten().copied());
    for (name, figures) in [("one", &alone), ("both", &together)] {
        for (core, figures) in cores.into_iter().zip(figures) {
            finding.table.push(&row(name, core, figures, best));
        }
    }
    Ok(finding)
}

/// Nanoseconds of a step on each of these cores, all of them at once.
fn nanoseconds(cores: &[usize]) -> Result<Vec<f64>, Box<dyn Error>> {
    let start = Barrier::new(cores.len());
    let work = |core| {
        process::pin_to_core(core)?;
        start.wait();
        let begun = Instant::now();
        fill_a_core(STEPS);
        Ok::<_, std::io::Error>(begun.elapsed().as_nanos() as f64 / f64::from(STEPS))
    };
    thread::scope(|scope| {
        let threads: Vec<_> = cores.iter().map(|core| scope.spawn(move || work(*core))).collect();
        let joined = threads.into_iter().map(|thread| thread.join().expect("it has no fault"));
        joined.collect::<Result<_, _>>().map_err(Into::into)
    })
}

/// Six operations that need only what was there a step before, so that a wide core does all of them
/// in one cycle. They differ, which keeps compilers from doing several in one instruction.
fn fill_a_core(steps: u32) {
    let [mut a, mut b, mut c, mut d, mut e, mut f]: [u64; 6] = black_box([1, 2, 3, 4, 5, 6]);
    for _ in 0..steps {
        a ^= b;
        b = b.wrapping_add(c);
        c = c.wrapping_sub(d);
        d ^= e;
        e = e.wrapping_add(f);
        f = f.rotate_left(1);
    }
    black_box([a, b, c, d, e, f]);
}

fn row(name: &str, core: usize, figures: &[f64], best: f64) -> [Value; COLUMNS.len()] {
    let figures = || figures.iter().copied();
    let median = median(figures());
    [
        name.into(),
        core.into(),
        round(lowest(figures()), 2).into(),
        round(median, 2).into(),
        round(highest(figures()), 2).into(),
        round(median / best, 2).into(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_for_each_core_alone_and_with_the_other() {
        if !has_cores(&[SERVER_CORE, GENERATOR_CORE]) {
            eprintln!("SKIPPED, this machine lacks core {SERVER_CORE} or {GENERATOR_CORE}");
            return;
        }
        let finding = measure(&Options { rounds: 2 }).unwrap();
        let rows = finding.table.rows();
        let names: Vec<_> = rows.iter().map(|row| (&row[0], &row[1])).collect();
        assert_eq!(
            format!("{names:?}"),
            r#"[(String("one"), Number(0)), (String("one"), Number(1)), (String("both"), Number(0)), (String("both"), Number(1))]"#
        );
        for row in rows {
            let [lowest, median, highest] = [2, 3, 4].map(|at| row[at].as_f64().unwrap());
            assert!(0.0 < lowest && lowest <= median && median <= highest, "{row:?}");
        }
    }

    /// Whether a thread may run on each of them.
    fn has_cores(cores: &[usize]) -> bool {
        let pin = |core| thread::spawn(move || process::pin_to_core(core)).join().unwrap();
        cores.iter().all(|core| pin(*core).is_ok())
    }

    #[test]
    fn a_core_that_is_not_there_is_noticed() {
        assert!(!has_cores(&[libc::CPU_SETSIZE.cast_unsigned() as usize - 1]));
    }

    #[test]
    fn a_ratio_is_to_the_best_there_was() {
        assert_eq!(
            row("one", 0, &[3.0, 2.0, 9.0], 2.0)[2..],
            [2.0, 3.0, 9.0, 1.5].map(Value::from)
        );
    }
}
