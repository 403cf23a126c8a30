//! What reading a head strictly costs beside plain httparse: a table of ratios, each the median of
//! rounds in which all take turns, so that what else the machine does falls on all alike.
//!
//! The strict reader finds where the head ends, refuses what httparse lets through, and notes every
//! fact the server acts on. `two passes` is the reader that the first leaves everything unusual to:
//! `scan::head_end`, then `read_head`. `narrow` is the one pass as on a processor without AVX2.

#[path = "support/mod.rs"]
mod support;

use std::hint::black_box;
use std::mem::MaybeUninit;
use std::time::Instant;

use upring::http::{Field, Head, HeadLimits, read_head, read_whole_head};
use upring::scan::{Scanned, head_end};

const ROUNDS: usize = 301;
const READS: u32 = 2000;

fn main() {
    let is_test = !std::env::args().any(|argument| argument == "--bench");
    let (rounds, reads) = if is_test { (1, 1) } else { (ROUNDS, READS) };
    println!(
        "{:<22} {:>6} {:>24} {:>8} {:>12}",
        "ratios to httparse", "bytes", "one pass", "narrow", "two passes"
    );
    println!("{:<22} {:>6} {:>8} {:>7} {:>7}", "", "", "MB/s", "ns", "ratio");
    for (name, head) in support::HEADS {
        let mut fields = Vec::new();
        let mut head_read = Head::EMPTY;
        let mut one_pass = Vec::new();
        let mut narrow = Vec::new();
        let mut two_passes = Vec::new();
        let mut times = Vec::new();
        for _ in 0..rounds {
            let ours = nanoseconds(reads, || {
                read_in_one_pass(black_box(head), &mut head_read, &mut fields)
            });
            let plain = nanoseconds(reads, || read_plainly(black_box(head)));
            let older = nanoseconds(reads, || read_in_two_passes(black_box(head), &mut fields));
            let narrowly =
                nanoseconds(reads, || read_narrowly(black_box(head), &mut head_read, &mut fields));
            times.push(ours);
            narrow.push(narrowly / plain);
            one_pass.push(ours / plain);
            two_passes.push(older / plain);
        }
        let ours = median(&mut times);
        println!(
            "{name:<22} {:>6} {:>8.0} {ours:>7.1} {:>7.2} {:>8.2} {:>12.2}",
            head.len(),
            head.len() as f64 / ours * 1000.0,
            median(&mut one_pass),
            median(&mut narrow),
            median(&mut two_passes),
        );
    }
}

fn read_in_one_pass(bytes: &[u8], head: &mut Head, fields: &mut Vec<Field>) -> Option<usize> {
    let len = read_whole_head(bytes, head, fields, &HeadLimits::default());
    black_box(head);
    len
}

#[cfg(target_arch = "x86_64")]
fn read_narrowly(bytes: &[u8], head: &mut Head, fields: &mut Vec<Field>) -> Option<usize> {
    let len = upring::http::read_whole_head_narrowly(bytes, head, fields, &HeadLimits::default());
    black_box(head);
    len
}

#[cfg(not(target_arch = "x86_64"))]
fn read_narrowly(bytes: &[u8], _: &mut Head, fields: &mut Vec<Field>) -> Option<usize> {
    read_in_two_passes(bytes, fields).map(|_| bytes.len())
}

fn read_in_two_passes(bytes: &[u8], fields: &mut Vec<Field>) -> Option<Head> {
    match head_end(bytes, 0) {
        Scanned::Complete(len) => read_head(&bytes[..len], fields, &HeadLimits::default()).ok(),
        _ => None,
    }
}

fn read_plainly(bytes: &[u8]) -> bool {
    let mut slots = [const { MaybeUninit::uninit() }; 100];
    let mut request = httparse::Request::new(&mut []);
    let parsed = request.parse_with_uninit_headers(bytes, &mut slots);
    black_box(&request);
    parsed.is_ok()
}

/// Nanoseconds for each of so many reads.
fn nanoseconds<T>(reads: u32, mut read: impl FnMut() -> T) -> f64 {
    let begin = Instant::now();
    for _ in 0..reads {
        black_box(read());
    }
    begin.elapsed().as_nanos() as f64 / f64::from(reads)
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
