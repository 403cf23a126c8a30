//! One worker: a thread with its ring, its engine and its host. Everything is made on the thread
//! that uses it.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::Sender;

use super::listeners::Listening;
use super::{Gate, ServerError, Verdict};
use crate::access::{Feed, Recorder};
use crate::config::{Config, HostKind};
use crate::counters::Counters;
use crate::engine::{Engine, Remote};
use crate::host;
use crate::resource::Registry;
use crate::ring::{Control, Kernel, Ring, SharedListener, affinity, setup};
use crate::session::Core;
use crate::tls::{Acceptor, Offload};
use crate::upgrade::CoreWaker;

pub(super) struct Worker {
    pub(super) config: Config,
    pub(super) registry: Registry,
    pub(super) listeners: Vec<Listening>,
    /// Those that all workers share: a path is removed when the last of them has ended.
    pub(super) shared: Vec<Arc<SharedListener>>,
    pub(super) cpu: Option<usize>,
    pub(super) remote: Arc<Remote>,
    pub(super) counters: Arc<Counters>,
    /// Where the lines of its access log go, if there is one.
    pub(super) feed: Option<Feed>,
    pub(super) gate: Gate,
}

/// A worker's word that it serves, or why not.
pub(super) struct Started {
    pub(super) index: usize,
    pub(super) control: Result<Control, ServerError>,
}

impl Worker {
    pub(super) fn run(self, index: usize, tell: Sender<Started>) -> Result<(), ServerError> {
        let Worker { config, registry, listeners, shared, cpu, remote, counters, feed, gate } =
            self;
        // Dropped with the worker: the last one removes the paths.
        let _shared = shared;
        // Said once, and by a worker that panics before it the end of the sender says it: the
        // server waits for either.
        let ready = move |control| {
            let _ = tell.send(Started { index, control });
            drop(tell);
        };
        let cpus = affinity::allowed();
        if let Some(Err(error)) = cpu.map(affinity::pin) {
            ready(Err(ServerError::Affinity(error)));
            return Ok(());
        }
        let mut uring = match setup::build(&config.ring) {
            Ok(uring) => uring,
            Err(error) => {
                ready(Err(error.into()));
                return Ok(());
            }
        };
        let count = u16::try_from(listeners.len()).unwrap_or(u16::MAX);
        let is_shared: Vec<_> = listeners.iter().map(|listening| listening.is_shared).collect();
        let acceptors: Vec<_> = listeners.iter().map(|one| one.acceptor.clone()).collect();
        let (sockets, rules): (Vec<_>, Vec<_>) =
            listeners.into_iter().map(|Listening { socket, rules, .. }| (socket, rules)).unzip();
        let ring = Ring::new(&mut uring, &config.ring, &config.limits, sockets)
            .and_then(|mut ring| Ok((ring.register_wake()?, ring)));
        let (wake, mut ring) = match ring {
            Ok(made) => made,
            Err(error) => {
                ready(Err(error.into()));
                return Ok(());
            }
        };
        let runtime = match config.host {
            HostKind::Native => None,
            HostKind::Hosted => match host::hosted::runtime() {
                Ok(runtime) => Some(runtime),
                Err(error) => {
                    ready(Err(error.into()));
                    return Ok(());
                }
            },
        };
        ring.count_in(Arc::clone(&counters));
        let control = ring.control();
        let mut limits = config.limits;
        limits.connections_max = limits.connections_max.min(ring.connections_max());
        let mut core = Core::new(registry, limits, counters, ring.unix_seconds());
        core.access = feed.map(|feed| Box::new(Recorder::new(feed)));
        let is_identifying = config.identify_clients || core.access.is_some();
        core.offload = beside(index, &acceptors, cpus, control.clone());
        core.mailbox.set_core(waker(control.clone()));
        let mut engine = Engine::new(ring, core, count, remote, config.drain)
            .admitting(&rules, is_identifying)
            .sharing(&is_shared)
            .securing(&acceptors);
        ready(Ok(control));
        if gate.pass() == Verdict::End {
            return Ok(());
        }
        match runtime {
            None => host::native::run(&mut engine),
            Some(runtime) => host::hosted::run(&runtime, &mut engine, wake),
        }
        .map_err(ServerError::Core)
    }
}

fn waker(control: Control) -> CoreWaker {
    CoreWaker::new(move || control.notify())
}

/// The thread beside a worker that makes handshakes, if there are any to make; without one, the worker makes them
/// itself.
fn beside(
    index: usize,
    acceptors: &[Option<Arc<Acceptor>>],
    cpus: io::Result<Vec<usize>>,
    control: Control,
) -> Option<Offload> {
    acceptors.iter().find(|acceptor| acceptor.is_some())?;
    let name = format!("upring-tls-{index}");
    let started = cpus.and_then(|cpus| Offload::start(name, cpus, move || control.notify()));
    let told = |error: &io::Error| {
        tracing::warn!(
            target: "upring::tls",
            "handshakes take time from established connections: worker {index} has no thread for them: {error}"
        );
    };
    started.inspect_err(told).ok()
}
