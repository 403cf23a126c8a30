//! A server: what it serves, a thread a core, and how it stops.
//!
//! ```text
//!   Server::start ──► listeners bound ──► a thread a worker: ring, engine, host ──► Running
//!   Running::stop ──► each core's control eventfd ──► drain ──► join
//! ```

mod error;
mod worker;

pub use error::ServerError;

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::mpsc;
use std::thread::JoinHandle;

use crate::config::{Config, HostKind};
use crate::counters::Counters;
use crate::engine::Remote;
use crate::ring::{Control, affinity, listen};
use crate::upgrade::{Registry, Resource};
use worker::{Started, Worker};

/// What is to be served, and how.
#[derive(Debug, Default)]
pub struct Server {
    config: Config,
    registry: Registry,
}

impl Server {
    /// A server with nothing to serve yet.
    pub fn new(config: Config) -> Server {
        Server { config, registry: Registry::default() }
    }

    /// Serves `resource` at a path, or with a `*` at the end of `pattern` at every path that begins so.
    #[must_use]
    pub fn route(mut self, pattern: &str, resource: Resource) -> Server {
        self.registry.insert(pattern, resource);
        self
    }

    /// Binds, starts every worker and returns when all of them serve.
    ///
    /// # Errors
    /// What kept it from starting, with the likely cause; nothing is left running.
    pub fn start(self) -> Result<Running, ServerError> {
        let Server { config, registry } = self;
        if let (HostKind::Native, Some(protocol)) = (config.host, registry.needs_spawn()) {
            return Err(ServerError::NeedsRuntime { protocol: protocol.to_string() });
        }
        let cpus = affinity::allowed().map_err(ServerError::Affinity)?;
        let workers = if config.workers == 0 { cpus.len() } else { config.workers };
        let mut bound = Bound::default();
        // All of them before the first thread: a refusal here leaves nothing to stop.
        let listeners =
            (0..workers).map(|_| bound.listen(&config)).collect::<Result<Vec<_>, _>>()?;
        let (tell, started) = mpsc::channel();
        let mut running = Running { addresses: bound.addresses, cores: Vec::new() };
        let mut failure = None;
        for (index, listeners) in listeners.into_iter().enumerate() {
            let worker = Worker {
                config: config.clone(),
                registry: registry.clone(),
                listeners,
                cpu: config.pin.then(|| cpus[index % cpus.len()]),
                remote: Arc::default(),
                counters: Arc::default(),
            };
            match RunningCore::spawn(index, worker, tell.clone()) {
                Ok(core) => running.cores.push(core),
                Err(error) => {
                    failure = Some(error);
                    break;
                }
            }
        }
        drop(tell);
        // Until each worker has said its word or died. After a bad one, too: only whose control is known can be stopped.
        for Started { index, control } in started {
            match control {
                Ok(control) => running.cores[index].control = Some(control),
                Err(error) => failure = failure.or(Some(error)),
            }
        }
        let is_lost = running.cores.iter().any(|core| core.control.is_none());
        match failure.or(is_lost.then_some(ServerError::WorkerLost)) {
            Some(error) => running.give_up(error),
            None => Ok(running),
        }
    }

    /// Starts and serves until the process ends or a core cannot go on.
    ///
    /// # Errors
    /// What kept it from starting, or ended it.
    pub fn run(self) -> Result<(), ServerError> {
        self.start()?.join()
    }
}

/// The addresses bound so far: a port the kernel chose for the first worker is that of all others, too.
#[derive(Default)]
struct Bound {
    addresses: Vec<SocketAddr>,
}

impl Bound {
    fn listen(&mut self, config: &Config) -> Result<Vec<TcpListener>, ServerError> {
        let is_first = self.addresses.is_empty();
        let wanted = if is_first { config.listen.clone() } else { self.addresses.clone() };
        let mut listeners = Vec::new();
        for address in wanted {
            let listener = listen(address, config.ring.backlog)?;
            if is_first {
                self.addresses.push(listener.local_addr().map_err(ServerError::Address)?);
            }
            listeners.push(listener);
        }
        Ok(listeners)
    }
}

/// A server that serves.
#[derive(Debug)]
pub struct Running {
    addresses: Vec<SocketAddr>,
    cores: Vec<RunningCore>,
}

#[derive(Debug)]
struct RunningCore {
    thread: JoinHandle<Result<(), ServerError>>,
    control: Option<Control>,
    remote: Arc<Remote>,
    counters: Arc<Counters>,
}

impl RunningCore {
    fn spawn(
        index: usize,
        worker: Worker,
        tell: mpsc::Sender<Started>,
    ) -> Result<RunningCore, ServerError> {
        let (remote, counters) = (Arc::clone(&worker.remote), Arc::clone(&worker.counters));
        let name = format!("upring-{index}");
        let spawned = std::thread::Builder::new().name(name).spawn(move || worker.run(index, tell));
        let thread = spawned.map_err(ServerError::Thread)?;
        Ok(RunningCore { thread, control: None, remote, counters })
    }

    fn stop(&self) {
        self.remote.stop();
        if let Some(control) = &self.control {
            control.notify();
        }
    }
}

/// Stops a running server from any thread.
#[derive(Debug, Clone)]
pub struct Stopper {
    cores: Vec<(Arc<Remote>, Control)>,
}

impl Stopper {
    /// Has every core drain and end. Returns at once.
    pub fn stop(&self) {
        for (remote, control) in &self.cores {
            remote.stop();
            control.notify();
        }
    }
}

impl Running {
    /// The addresses listened on, ports chosen by the kernel included.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Workers.
    pub fn workers(&self) -> usize {
        self.cores.len()
    }

    /// Every counter by name, summed over the cores now.
    pub fn counters(&self) -> Vec<(&'static str, u64)> {
        let mut sums: Vec<(&'static str, u64)> = Vec::new();
        for core in &self.cores {
            for (index, (name, value)) in core.counters.each().enumerate() {
                match sums.get_mut(index) {
                    // Gauges wrap where one core lowers what it never raised; the sum comes out right.
                    Some((_, sum)) => *sum = sum.wrapping_add(value),
                    None => sums.push((name, value)),
                }
            }
        }
        sums
    }

    /// One counter, summed over the cores now; 0 for a name there is not.
    pub fn counter(&self, name: &str) -> u64 {
        self.counters().into_iter().find(|(at, _)| *at == name).map_or(0, |(_, value)| value)
    }

    /// One counter of each core now; 0 for a name there is not.
    pub fn counter_by_core(&self, name: &str) -> Vec<u64> {
        let value = |core: &RunningCore| core.counters.each().find(|(at, _)| *at == name);
        self.cores.iter().map(|core| value(core).map_or(0, |(_, value)| value)).collect()
    }

    /// A handle that stops this server from another thread.
    pub fn stopper(&self) -> Stopper {
        let controls = self
            .cores
            .iter()
            .filter_map(|core| Some((Arc::clone(&core.remote), core.control.clone()?)));
        Stopper { cores: controls.collect() }
    }

    /// Drains, and returns when the last connection is closed or the drain timeout is over.
    ///
    /// # Errors
    /// What had ended a core before.
    pub fn stop(self) -> Result<(), ServerError> {
        self.cores.iter().for_each(RunningCore::stop);
        self.join()
    }

    /// Waits until every core has ended. When one cannot go on, the others are stopped.
    ///
    /// # Errors
    /// What ended the first one that failed.
    pub fn join(self) -> Result<(), ServerError> {
        let stopper = self.stopper();
        let mut outcome = Ok(());
        for core in self.cores {
            let ended = core.thread.join().unwrap_or(Err(ServerError::WorkerLost));
            if ended.is_err() && outcome.is_ok() {
                stopper.stop();
                outcome = ended;
            }
        }
        outcome
    }

    fn give_up(self, error: ServerError) -> Result<Running, ServerError> {
        // The error that explains the failure is the first one; what follows from stopping is not of interest.
        let _ = self.stop();
        Err(error)
    }
}
