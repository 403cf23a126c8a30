//! What a server has counted, from any thread: each core's own counters, read and added up when
//! somebody asks. Who asks is [`admin`](crate::admin), or a program that serves the text itself; no
//! core hears of it.
//!
//! ```text
//!   core 0: Counters ──┐
//!   core 1: Counters ──┼──► Metrics::write ──► families ──► text (OpenMetrics | Prometheus)
//!   core n: Counters ──┘
//! ```

mod families;
mod format;
mod hits;
mod text;

pub use format::Format;
pub use hits::LIMIT_HITS;

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use crate::counters::{Counters, Described, Kind};
use crate::engine::Remote;
use crate::tls::Acceptor;

/// A server's counters and its state. Made with the server, it can be asked before it starts and
/// after it has ended; clones ask the same one.
#[derive(Clone, Default)]
pub struct Metrics(Arc<Shared>);

#[derive(Default)]
struct Shared {
    /// Known when all threads are made.
    cores: OnceLock<Box<[CoreView]>>,
    /// Cores that have said that they serve.
    serving: AtomicUsize,
    /// Another process serves in its place.
    is_succeeded: AtomicBool,
    /// Whose certificates are shown, asked at each scrape.
    acceptors: OnceLock<Vec<Arc<Acceptor>>>,
}

/// What is known of one core from elsewhere.
pub(crate) struct CoreView {
    pub(crate) counters: Arc<Counters>,
    pub(crate) remote: Arc<Remote>,
}

/// Where a server is between its start and its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Some core does not serve yet.
    Starting,
    /// All of them do.
    Ready,
    /// A core was told to stop: no new connections, and those there are come to their end.
    Draining,
}

impl Metrics {
    /// Of cores that somebody else runs, and that serve: an engine of one's own.
    pub fn of(counters: Vec<Arc<Counters>>) -> Metrics {
        let metrics = Metrics::default();
        metrics.0.serving.store(counters.len(), Ordering::Release);
        let view = |counters| CoreView { counters, remote: Arc::default() };
        metrics.install(counters.into_iter().map(view).collect());
        metrics
    }

    /// Shows when the certificates of these end, and their OCSP responses, as it is at each scrape. Once: those
    /// of a second call are another server's.
    pub fn show_certificates(&self, acceptors: Vec<Arc<Acceptor>>) {
        let _ = self.0.acceptors.set(acceptors);
    }

    /// Where the server is.
    pub fn phase(&self) -> Phase {
        let Some(cores) = self.0.cores.get() else { return Phase::Starting };
        if cores.iter().any(|core| core.remote.is_stopping()) {
            Phase::Draining
        } else if self.0.serving.load(Ordering::Acquire) < cores.len() {
            Phase::Starting
        } else {
            Phase::Ready
        }
    }

    /// Appends everything that was counted as text.
    pub fn write(&self, format: Format, out: &mut Vec<u8>) {
        out.extend_from_slice(self.text(format).as_bytes());
    }

    /// The same as a string.
    pub fn text(&self, format: Format) -> String {
        let acceptors = self.0.acceptors.get().map_or(&[][..], |acceptors| acceptors);
        families::all(self.counters(), self.phase(), &families::Ends::of(acceptors), format)
    }

    /// Every counter by name, summed over the cores now, in a fixed order.
    pub fn sums(&self) -> Vec<Described> {
        sums(&self.counters())
    }

    /// The cores, once. Those of a second start are another server's.
    pub(crate) fn install(&self, cores: Vec<CoreView>) {
        let _ = self.0.cores.set(cores.into());
    }

    /// Another core serves.
    pub(crate) fn note_serving(&self) {
        self.0.serving.fetch_add(1, Ordering::Release);
    }

    /// Another process has taken its place.
    pub(crate) fn note_succeeded(&self) {
        self.0.is_succeeded.store(true, Ordering::Release);
    }

    /// Whether another process has taken its place, and serves.
    pub fn is_succeeded(&self) -> bool {
        self.0.is_succeeded.load(Ordering::Acquire)
    }

    /// Of each core; none before the server has started.
    fn counters(&self) -> Vec<&Counters> {
        let cores = self.0.cores.get().map_or(&[][..], |cores| cores);
        cores.iter().map(|core| &*core.counters).collect()
    }
}

/// Every counter of all cores together.
fn sums(cores: &[&Counters]) -> Vec<Described> {
    let mut sums: Vec<Described> = Vec::new();
    for core in cores {
        for (index, counter) in core.each_described().enumerate() {
            match sums.get_mut(index) {
                None => sums.push(counter),
                Some(sum) if sum.kind == Kind::Least => sum.value = sum.value.min(counter.value),
                // Gauges wrap where one core lowers what it never raised; the sum comes out right.
                Some(sum) => sum.value = sum.value.wrapping_add(counter.value),
            }
        }
    }
    sums
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").field("phase", &self.phase()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_ready_when_every_core_serves_and_until_one_is_told_to_stop() {
        let metrics = Metrics::default();
        assert_eq!(metrics.phase(), Phase::Starting);
        let remotes = [Arc::<Remote>::default(), Arc::default()];
        let view = |remote: &Arc<Remote>| CoreView {
            counters: Arc::default(),
            remote: Arc::clone(remote),
        };
        metrics.install(remotes.iter().map(view).collect());
        metrics.note_serving();
        assert_eq!(metrics.phase(), Phase::Starting, "one of two");
        metrics.note_serving();
        assert_eq!(metrics.phase(), Phase::Ready);
        remotes[1].stop();
        assert_eq!(metrics.clone().phase(), Phase::Draining);
    }
}
