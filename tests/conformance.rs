//! Every conformance row against the fixture server, three ways: the session alone, the whole
//! engine on the simulated kernel, and a server over loopback in both host modes. The first two
//! replay every segmentation in virtual time; the last one those that a test run on a real clock
//! can bear.

#[path = "support/conformance/mod.rs"]
mod conformance;
#[path = "support/fixture.rs"]
mod fixture;
#[path = "support/inside_tls.rs"]
mod inside_tls;
#[path = "support/served.rs"]
mod served;
#[path = "support/virtual_time/mod.rs"]
mod virtual_time;

use std::sync::{Arc, Mutex};
use std::thread;

use upring::config::HostKind;
use upring::ring::sim::{Fault, Faults};
use upring::server::ServerError;

use conformance::{Report, RowFile, Target, Variants, all, run};
use served::Served;
use virtual_time::alone::Alone;
use virtual_time::simulated::{Simulated, harmless_faults};

/// Worlds with faults that every segmentation lives through, and those that the inputs as written
/// live through.
const SEEDS: std::ops::Range<u64> = 1..3;
const SEEDS_WHOLE: std::ops::Range<u64> = 3..100;
const SEEDS_INSIDE_TLS: std::ops::Range<u64> = 100..120;

/// Threads that play over loopback at once.
const THREADS: usize = 12;

#[test]
fn a_session_alone_answers_every_row_in_every_segmentation() {
    check(&mut Alone::default(), Variants::EVERY);
}

#[test]
fn an_engine_answers_every_row_in_every_segmentation() {
    check(&mut Simulated::new(0, Faults::none()), Variants::EVERY);
}

#[test]
fn an_engine_answers_every_row_whatever_goes_wrong_that_costs_no_connection() {
    for seed in SEEDS {
        let mut target = Simulated::new(seed, harmless_faults());
        check(&mut target, Variants::EVERY);
        // One connection at a time fills no table, and costs none.
        assert_eq!(target.never_happened(), [Fault::PeerReset, Fault::TableFull], "seed {seed}");
    }
}

#[test]
fn an_engine_answers_every_row_in_a_hundred_worlds() {
    for seed in SEEDS_WHOLE {
        check(&mut Simulated::new(seed, harmless_faults()), Variants::WHOLE);
    }
}

#[test]
fn an_engine_answers_every_row_inside_tls() {
    for version in inside_tls::versions() {
        check(&mut Simulated::new(0, harmless_faults()).inside(version), Variants::WHOLE);
        for seed in SEEDS_INSIDE_TLS {
            let mut target = Simulated::new(seed, harmless_faults()).inside(version);
            check(&mut target, Variants::WHOLE);
        }
    }
}

#[test]
fn a_hosted_server_answers_every_row_over_loopback() {
    check_over_loopback(HostKind::Hosted, Variants::REAL_TIME);
}

#[test]
fn a_native_server_answers_every_row_over_loopback() {
    check_over_loopback(HostKind::Native, Variants::NEAR_HEADS);
}

fn check(target: &mut dyn Target, variants: Variants) {
    assert_passed(&run(target, &all(), variants));
}

/// Several threads, each with servers of its own, take row after row: their clients mostly wait.
fn check_over_loopback(host: HostKind, variants: Variants) {
    let rows = Arc::new(Mutex::new(rows_one_by_one()));
    let threads: Vec<_> = (0..THREADS)
        .map(|_| Arc::clone(&rows))
        .map(|rows| thread::spawn(move || play_rows(host, variants, &rows)))
        .collect();
    let mut report = Report::default();
    for thread in threads {
        match thread.join().expect("a thread ends with a report") {
            Ok(more) => report.add(more),
            Err(ServerError::Setup(error)) if error.is_denied() => {
                return eprintln!("SKIPPED, io_uring is denied here: {error}");
            }
            Err(error) => panic!("the fixture does not start: {error}"),
        }
    }
    assert_passed(&report);
}

fn play_rows(
    host: HostKind,
    variants: Variants,
    rows: &Mutex<Vec<RowFile>>,
) -> Result<Report, ServerError> {
    let mut target = Served::start(host)?;
    let mut report = Report::default();
    let next = || rows.lock().expect("nobody panics while taking a row").pop();
    while let Some(row) = next() {
        report.add(run(&mut target, &[row], variants));
    }
    target.stop();
    Ok(report)
}

/// Every row as a file of its own.
fn rows_one_by_one() -> Vec<RowFile> {
    let alone = |name: &str, row| RowFile { name: name.into(), rows: vec![row] };
    all()
        .into_iter()
        .flat_map(|file| file.rows.into_iter().map(move |row| alone(&file.name, row)))
        .collect()
}

fn assert_passed(report: &Report) {
    println!("{report}");
    assert!(report.passed(), "{report}");
}
