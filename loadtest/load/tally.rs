//! What came of a run, added up by each thread and then over all of them; and how it is told.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde_json::{Value, json};

use crate::fault::Fault;
use crate::say;
use crate::secured::Handshakes;

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
    pub(crate) handshakes: Handshakes,
    pub(crate) latencies_ns: Histogram<u64>,
    faults: Vec<Seen>,
}

/// A kind of fault, and how often it was seen.
struct Seen {
    /// As the first of them says it.
    fault: String,
    /// Echoes that differ are one kind, wherever they do.
    is_echo: bool,
    count: u64,
}

impl Seen {
    fn of(fault: &Fault, count: u64) -> Seen {
        let is_echo = matches!(fault, Fault::Echo { .. });
        Seen { fault: fault.to_string(), is_echo, count }
    }

    fn is_like(&self, other: &Seen) -> bool {
        self.fault == other.fault || (self.is_echo && other.is_echo)
    }
}

impl Default for Tally {
    fn default() -> Tally {
        let latencies_ns = Histogram::new_with_max(LATENCY_MAX_NS, 3);
        Tally {
            requests: 0,
            errors: 0,
            reopened: 0,
            handshakes: Handshakes::default(),
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
        self.note(Seen::of(fault, 1));
    }

    /// So many requests that were due so long ago could not be made.
    pub(crate) fn unsent(&mut self, due_ago_ns: u64, count: u64) {
        self.errors += count;
        self.latencies_ns.saturating_record_n(due_ago_ns, count);
        self.note(Seen::of(&Fault::Unsent, count));
    }

    fn note(&mut self, seen: Seen) {
        if let Some(known) = self.faults.iter_mut().find(|known| known.is_like(&seen)) {
            known.count += seen.count;
        } else if self.faults.len() < FAULTS_TOLD_MAX {
            self.faults.push(seen);
        }
    }

    pub(crate) fn add(&mut self, other: Tally) {
        self.requests += other.requests;
        self.errors += other.errors;
        self.reopened += other.reopened;
        self.handshakes.add(other.handshakes);
        self.latencies_ns.add(&other.latencies_ns).expect("all have the same bounds");
        other.faults.into_iter().for_each(|seen| self.note(seen));
    }

    /// Says what was wrong.
    pub(crate) fn tell_faults(&self) {
        for Seen { fault, count, .. } in &self.faults {
            say::tell(&format!("error: {fault} ({count} times)\n"));
        }
    }

    /// The same for machines: kinds of faults, and how often each was seen.
    pub(crate) fn faults(&self) -> Value {
        self.faults.iter().map(|seen| json!({ "fault": seen.fault, "count": seen.count })).collect()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_threads_tell_is_added_up() {
        let mut all = Tally::default();
        for latency_ns in [1_000, 2_000] {
            let mut one = Tally { reopened: 2, ..Tally::default() };
            one.answered(latency_ns);
            one.unsent(2_000, 4);
            one.failed(&Fault::Closed);
            one.failed(&Fault::Closed);
            one.failed(&Fault::Echo { at: latency_ns });
            all.add(one);
        }
        assert_eq!((all.requests, all.errors, all.reopened), (2, 14, 4));
        assert_eq!((all.latencies_ns.len(), all.us(0.5), all.us(1.0)), (10, 2.0, 2.0));
        let faults = [
            (Fault::Unsent.to_string(), 8),
            (Fault::Closed.to_string(), 4),
            ("byte 1000 of the echo differs".to_owned(), 2),
        ];
        let faults = faults.map(|(fault, count)| json!({ "fault": fault, "count": count }));
        assert_eq!(all.faults(), json!(faults));
    }
}
