//! What came of a run, added up by each thread and then over all of them; and how it is told.

use std::time::Duration;

use hdrhistogram::Histogram;

use crate::expect::Fault;
use crate::say;

/// Slower answers count as this slow.
const LATENCY_MAX_NS: u64 = 100_000_000_000;
/// Kinds of faults that are told; the rest is only counted.
const FAULTS_TOLD_MAX: usize = 8;

/// Figures of one thread, or of all.
pub(crate) struct Tally {
    /// Requests, messages or switches that were answered rightly.
    pub(crate) requests: u64,
    pub(crate) errors: u64,
    /// Connections the server closed when nothing was owed on them.
    pub(crate) reopened: u64,
    pub(crate) latencies_ns: Histogram<u64>,
    /// What was wrong, and how often.
    faults: Vec<(String, u64)>,
}

impl Default for Tally {
    fn default() -> Tally {
        let latencies_ns = Histogram::new_with_max(LATENCY_MAX_NS, 3);
        Tally {
            requests: 0,
            errors: 0,
            reopened: 0,
            latencies_ns: latencies_ns.expect("three digits up to a hundred seconds"),
            faults: Vec::new(),
        }
    }
}

impl Tally {
    pub(crate) fn answered(&mut self, latency_ns: u64) {
        self.requests += 1;
        self.latencies_ns.saturating_record(latency_ns);
    }

    pub(crate) fn failed(&mut self, fault: &Fault) {
        self.errors += 1;
        self.note(fault.to_string(), 1);
    }

    /// So many requests that were due so long ago could not be made.
    pub(crate) fn unsent(&mut self, due_ago_ns: u64, count: u64) {
        self.errors += count;
        self.latencies_ns.saturating_record_n(due_ago_ns, count);
        self.note(Fault::Unsent.to_string(), count);
    }

    fn note(&mut self, fault: String, count: u64) {
        if let Some((_, times)) = self.faults.iter_mut().find(|(known, _)| *known == fault) {
            *times += count;
        } else if self.faults.len() < FAULTS_TOLD_MAX {
            self.faults.push((fault, count));
        }
    }

    pub(crate) fn add(&mut self, other: Tally) {
        self.requests += other.requests;
        self.errors += other.errors;
        self.reopened += other.reopened;
        self.latencies_ns.add(&other.latencies_ns).expect("all have the same bounds");
        for (fault, count) in other.faults {
            self.note(fault, count);
        }
    }

    /// Says what was wrong.
    pub(crate) fn tell_faults(&self) {
        for (fault, count) in &self.faults {
            say::tell(&format!("error: {fault} ({count} times)\n"));
        }
    }

    pub(crate) fn fault_names(&self) -> Vec<&str> {
        self.faults.iter().map(|(fault, _)| fault.as_str()).collect()
    }

    /// A percentile of the latencies, in microseconds.
    pub(crate) fn us(&self, quantile: f64) -> f64 {
        self.latencies_ns.value_at_quantile(quantile) as f64 / 1000.0
    }

    pub(crate) fn rate(&self, elapsed: Duration) -> f64 {
        let seconds = elapsed.as_secs_f64();
        if seconds > 0.0 { self.requests as f64 / seconds } else { 0.0 }
    }
}
