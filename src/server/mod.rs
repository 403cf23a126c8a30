//! A server: what it serves, a thread a core, and how it stops.
//!
//! ```text
//!   Server::start ──► listeners bound ──► a thread a worker: ring, engine ──► the user's rights alone ──► Running
//!   Running::stop ──► each core's control eventfd ──► drain ──► join
//! ```

mod claims;
mod error;
mod hand_over;
mod inherit;
mod listeners;
mod watchdog;
mod worker;

pub use error::ServerError;
pub use hand_over::{HandOverTimes, Offer, Offered, OpenOffer, Predecessor, take_over};
pub use inherit::{Abandoned, Inherited};
pub use watchdog::{Finding, Watchdog};

use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::JoinHandle;

use crate::access::{Feed, Reopener, Writer, Writing, feeds};
use crate::config::{Config, HostKind, ListenAddress, Listener};
use crate::counters::Counters;
use crate::engine::{Remote, Renewal};
use crate::metrics::{CoreView, Metrics};
use crate::privilege::Account;
use crate::resource::{Registry, Resource};
use crate::ring::{Control, SharedListener, affinity};
use crate::tls::{Acceptor, Expiry, Watch};
use crate::upgrade::Protocol;
use claims::Claimed;
use listeners::{Kept, Listeners, Listening};
use worker::{Started, Worker};

/// What is to be served, and how.
#[derive(Debug, Default)]
pub struct Server {
    config: Config,
    registry: Registry,
    metrics: Metrics,
    inherited: Inherited,
}

impl Server {
    /// A server with nothing to serve yet.
    pub fn new(config: Config) -> Server {
        Server { config, ..Server::default() }
    }

    /// A server with all that is in `registry`.
    pub(crate) fn with(config: Config, registry: Registry) -> Server {
        Server { config, registry, ..Server::default() }
    }

    /// Serves `resource` at `pattern` on every host: a path, a path with parameters (`{name}` is a
    /// segment, `{*name}` at the end all that is left), or with a `*` at its end every path that
    /// begins so. See [`Registry::insert`] for what goes before what. A pattern that cannot be
    /// served is an error of [`Server::start`].
    #[must_use]
    pub fn route(mut self, pattern: &str, resource: Resource) -> Server {
        self.registry.insert(pattern, resource);
        self
    }

    /// Serves `resource` at `pattern` on one host: a name, or `*.` and a name for all below it.
    #[must_use]
    pub fn route_on(mut self, host: &str, pattern: &str, resource: Resource) -> Server {
        self.registry.insert_on(host, pattern, resource);
        self
    }

    /// Has `protocol` decide on each CONNECT. Its target is a host and a port (RFC 9110 §9.3.6), and no
    /// route is asked. A switch is answered 200, with the fields of the switch, and the connection is
    /// its handler's; any other answer closes the connection, since what follows may be meant for the
    /// tunnel (RFC 9931 §8). Of what the protocol says of itself, the time for its decision counts
    /// and whether it needs a runtime. Without one, CONNECT is answered 501.
    ///
    /// ```
    /// use upring::http::{Response, Status};
    /// use upring::protocols::echo::Echo;
    /// use upring::upgrade::{Decision, Opening};
    /// use upring::{Config, Protocol, Server};
    ///
    /// let tunnel = Protocol::new("tunnel", |opening: &Opening<'_>| {
    ///     match opening.request().target() {
    ///         b"echo.example:7" => Decision::switch(Echo),
    ///         _ => Decision::Answer(Response::text(Status::FORBIDDEN, "Not from here.\n")),
    ///     }
    /// });
    /// let server = Server::new(Config::default()).connect(tunnel);
    /// # let _ = server;
    /// ```
    #[must_use]
    pub fn connect(mut self, protocol: Protocol) -> Server {
        self.registry.connect(protocol);
        self
    }

    /// Has it accept on these sockets where it is configured to listen on their addresses, instead of
    /// binding others.
    #[must_use]
    pub fn inherit(mut self, inherited: Inherited) -> Server {
        self.inherited = inherited;
        self
    }

    /// What it will have counted, and whether it serves: to be asked from any thread, from now on.
    pub fn metrics(&self) -> Metrics {
        self.metrics.clone()
    }

    /// Binds, starts every worker and returns when all of them serve.
    ///
    /// # Errors
    /// What kept it from starting, with the likely cause; nothing is left running.
    pub fn start(self) -> Result<Running, ServerError> {
        self.start_behind(|| Ok(()))
    }

    /// The same, with `last` called when all workers are ready and it runs as whom it is to: while nobody
    /// was let in yet, whatever else a server cannot do without can still keep it from starting.
    ///
    /// # Errors
    /// As of [`Server::start`], and that of `last`.
    pub fn start_behind(
        self,
        last: impl FnOnce() -> Result<(), ServerError>,
    ) -> Result<Running, ServerError> {
        self.check()?;
        let Server { config, registry, metrics, mut inherited } = self;
        let account = Account::find(&config)?;
        account.as_ref().map_or(Ok(()), Account::may_be_assumed)?;
        let cpus = affinity::allowed().map_err(ServerError::Affinity)?;
        let workers = if config.workers == 0 { cpus.len() } else { config.workers };
        let cpus: Vec<_> = (0..workers).map(|index| cpus[index % cpus.len()]).collect();
        let claimed = inherited.claimed();
        let listeners = Listeners::open(&config, &cpus, &mut inherited)?;
        let Listeners { addresses, listening, shared, by_worker, kept, acceptors } = listeners;
        let (tell, started) = mpsc::channel();
        let (end, ended) = mpsc::channel();
        let mut cores = Vec::new();
        let gate = Gate::default();
        let mut closed = gate.close();
        let (writer, mut feeds) = access_log(&config, workers);
        let mut spawn = |(index, listeners): (usize, Vec<Listening>)| {
            let worker = Worker {
                config: config.clone(),
                registry: registry.clone(),
                listeners,
                shared: shared.clone(),
                cpu: (config.pin || config.steer).then_some(cpus[index]),
                remote: Arc::default(),
                counters: Arc::default(),
                feed: feeds.next(),
                gate: gate.clone(),
            };
            cores.push(RunningCore::spawn(index, worker, tell.clone(), end.clone())?);
            Ok(())
        };
        let spawned = by_worker.into_iter().enumerate().try_for_each(&mut spawn);
        // With the last sender gone, a worker that dies without a word ends the wait, too.
        drop((tell, end));
        metrics.install(cores.iter().map(RunningCore::view).collect());
        metrics.show_certificates(acceptors.clone());
        let (ended, access) = (Mutex::new(ended), None);
        let mut running = Running {
            config,
            addresses,
            listening,
            shared,
            kept,
            acceptors,
            cores,
            metrics,
            ended,
            access,
        };
        let made = spawned.and(running.hear(&started));
        let ready = made
            .and_then(|()| account.as_ref().map_or(Ok(()), assume))
            .and_then(|()| running.write_access_log(writer))
            .and_then(|()| last())
            .and_then(|()| running.take_connections(&claimed));
        *closed = if ready.is_ok() { Verdict::Serve } else { Verdict::End };
        drop(closed);
        match ready {
            Ok(()) => Ok(running),
            Err(error) => running.give_up(error),
        }
    }

    /// Whether it can be served at all.
    fn check(&self) -> Result<(), ServerError> {
        let Server { config, registry, .. } = self;
        if let (HostKind::Native, Some(what)) = (config.host, registry.needs_runtime()) {
            return Err(ServerError::NeedsRuntime { what });
        }
        if let Some(fault) = registry.fault() {
            return Err(fault.clone().into());
        }
        if let Some(name) = config.limits.unusable() {
            return Err(ServerError::Limit { name });
        }
        let faulty = |at: &Listener| Some((at.address.clone(), at.fault()?));
        match config.listen.iter().find_map(faulty) {
            Some((address, fault)) => Err(ServerError::Listener { address, fault }),
            None => Ok(()),
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

/// Becomes the user that was configured, while every worker waits.
fn assume(account: &Account) -> Result<(), ServerError> {
    account.assume()?;
    tracing::info!("runs as {account} from here on");
    Ok(())
}

/// A queue for each worker and the writer at the other end, if there is an access log.
fn access_log(config: &Config, workers: usize) -> (Option<Writer>, std::vec::IntoIter<Feed>) {
    if !config.access.is_on() {
        return (None, Vec::new().into_iter());
    }
    let (writer, feeds) = feeds(&config.access, workers);
    (Some(writer), feeds.into_iter())
}

/// What every worker waits at until all of them can serve, and until nothing of root is left.
#[derive(Debug, Clone, Default)]
struct Gate(Arc<Mutex<Verdict>>);

/// Whether workers are to serve.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Verdict {
    /// They end, and have accepted nobody: on sockets of a process that goes on, they are its clients.
    #[default]
    End,
    Serve,
}

impl Gate {
    /// Closed until this is dropped. What it holds then is for all who wait.
    fn close(&self) -> MutexGuard<'_, Verdict> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns once it is open.
    fn pass(&self) -> Verdict {
        *self.close()
    }
}

/// A server that serves.
#[derive(Debug)]
pub struct Running {
    /// What it was started with.
    config: Config,
    addresses: Vec<SocketAddr>,
    listening: Vec<ListenAddress>,
    shared: Vec<Arc<SharedListener>>,
    kept: Kept,
    acceptors: Vec<Arc<Acceptor>>,
    cores: Vec<RunningCore>,
    metrics: Metrics,
    /// How each core has ended, in the order in which they do. Locked by nobody: it lets threads
    /// share the rest.
    ended: Mutex<Receiver<Result<(), ServerError>>>,
    access: Option<Writing>,
}

#[derive(Debug)]
struct RunningCore {
    thread: JoinHandle<()>,
    control: Option<Control>,
    remote: Arc<Remote>,
    counters: Arc<Counters>,
}

impl RunningCore {
    fn spawn(
        index: usize,
        worker: Worker,
        tell: Sender<Started>,
        end: Sender<Result<(), ServerError>>,
    ) -> Result<RunningCore, ServerError> {
        let (remote, counters) = (Arc::clone(&worker.remote), Arc::clone(&worker.counters));
        let name = format!("upring-{index}");
        let ending = Arc::clone(&remote);
        let run = move || {
            let ended = catch_unwind(AssertUnwindSafe(|| worker.run(index, tell)));
            ending.end();
            // Nobody may care any more.
            let _ = end.send(ended.unwrap_or(Err(ServerError::WorkerLost)));
        };
        let spawned = std::thread::Builder::new().name(name).spawn(run);
        let thread = spawned.map_err(ServerError::Thread)?;
        Ok(RunningCore { thread, control: None, remote, counters })
    }

    fn reach(&self) -> Option<Reach> {
        let (remote, counters) = (Arc::clone(&self.remote), Arc::clone(&self.counters));
        Some(Reach { remote, control: self.control.clone()?, counters })
    }

    fn view(&self) -> CoreView {
        let (counters, remote) = (Arc::clone(&self.counters), Arc::clone(&self.remote));
        CoreView { counters, remote }
    }

    fn stop(&self) {
        self.remote.stop();
        if let Some(control) = &self.control {
            control.notify();
        }
    }
}

/// What other threads reach a core by.
#[derive(Debug, Clone)]
struct Reach {
    remote: Arc<Remote>,
    control: Control,
    counters: Arc<Counters>,
}

/// Stops a running server from any thread.
#[derive(Debug, Clone)]
pub struct Stopper {
    cores: Vec<Reach>,
    kept: Kept,
    shared: Vec<Weak<SharedListener>>,
}

impl Stopper {
    /// Has every core drain and end. Returns at once: nobody finds a path of its Unix sockets any more, and
    /// who waits on them is still let in.
    pub fn stop(&self) {
        // First: a successor that was given them before has been left the paths as well.
        self.kept.close();
        self.shared.iter().filter_map(Weak::upgrade).for_each(|shared| shared.close());
        for Reach { remote, control, .. } in &self.cores {
            remote.stop();
            control.notify();
        }
    }
}

/// Gives a running server something else to serve, from any thread.
#[derive(Debug, Clone)]
pub struct Reloader {
    config: Config,
    acceptors: Vec<Arc<Acceptor>>,
    cores: Vec<Reach>,
}

impl Reloader {
    /// Has every core serve the routes of `server`, within its limits, from its next turn on. Connections
    /// stay as they are: a request that is being answered is answered by what it was found in, a
    /// handler keeps its connection, and limits hold for what begins. Returns at once.
    ///
    /// # Errors
    /// It cannot be served, or differs in what a running server cannot change; everything stays as it
    /// was.
    pub fn reload(&self, server: Server) -> Result<(), ServerError> {
        server.check()?;
        let Server { config, registry, .. } = server;
        if let Some(what) = self.config.fixed_difference(&config) {
            return Err(ServerError::NeedsRestart { what });
        }
        // Whatever can fail comes first.
        let acceptors = &self.acceptors;
        let read = acceptors.iter().map(|one| one.read_anew()).collect::<Result<Vec<_>, _>>()?;
        acceptors.iter().zip(read).for_each(|(acceptor, read)| acceptor.renew(read));
        let (limits, drain) = (config.limits, config.drain);
        for Reach { remote, control, .. } in &self.cores {
            let (registry, limits) = (registry.clone(), limits.clone());
            remote.renew(Renewal { registry, limits, drain });
            control.notify();
        }
        Ok(())
    }

    /// When each certificate ends, by listener and in its order.
    pub fn certificates(&self) -> Vec<Expiry> {
        self.acceptors.iter().flat_map(|acceptor| acceptor.expiries()).collect()
    }

    /// For who looks after files of certificates: those of listeners that ask for it.
    pub fn watch(&self) -> Watch {
        Watch::of(&self.acceptors)
    }
}

impl Running {
    /// The addresses listened on over TCP, ports chosen by the kernel included.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Has the kernel take connections on all that it listens on. First where it can fail: what it was given
    /// is still another's, and is left as it is by a start that comes to nothing.
    fn take_connections(&self, claimed: &Claimed) -> Result<(), ServerError> {
        self.kept.take_new(claimed)?;
        self.adapt_paths()?;
        Ok(self.kept.take_given()?)
    }

    /// Gives what it was given at paths the options of its configuration.
    fn adapt_paths(&self) -> Result<(), ServerError> {
        let rules = |shared: &SharedListener| {
            self.config.listen.iter().find(|rules| rules.address == shared.path().into())
        };
        let adapted = self.shared.iter().filter(|shared| shared.is_adopted());
        for (shared, rules) in adapted.filter_map(|shared| Some((shared, rules(shared)?))) {
            shared.adapt(rules)?;
        }
        Ok(())
    }

    /// Takes over the paths of the Unix sockets that it was given: they are removed when it ends. For who has
    /// taken the place of another process; until then they are the other's.
    pub fn claim_paths(&self) {
        self.shared.iter().for_each(|shared| shared.claim());
    }

    /// Everything listened on, in the order of the configuration, ports chosen by the kernel included.
    pub fn listening(&self) -> &[ListenAddress] {
        &self.listening
    }

    /// Workers.
    pub fn workers(&self) -> usize {
        self.cores.len()
    }

    /// What it has counted, and whether it serves, as [`Server::metrics`].
    pub fn metrics(&self) -> Metrics {
        self.metrics.clone()
    }

    /// Every counter by name, summed over the cores now.
    pub fn counters(&self) -> Vec<(&'static str, u64)> {
        self.metrics.sums().into_iter().map(|counter| (counter.name, counter.value)).collect()
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
        let shared = self.shared.iter().map(Arc::downgrade).collect();
        Stopper { cores: self.within_reach(), kept: self.kept.clone(), shared }
    }

    /// A handle that gives this server something else to serve.
    pub fn reloader(&self) -> Reloader {
        let (config, acceptors) = (self.config.clone(), self.acceptors.clone());
        Reloader { config, acceptors, cores: self.within_reach() }
    }

    /// A handle that has the file of the access log opened anew; `None` if there is no log.
    pub fn access_log(&self) -> Option<Reopener> {
        self.access.as_ref().map(Writing::reopener)
    }

    /// Opens the access log, as whoever the server runs as.
    fn write_access_log(&mut self, writer: Option<Writer>) -> Result<(), ServerError> {
        let (Some(writer), Some(core)) = (writer, self.cores.first()) else { return Ok(()) };
        let writing = writer.start(Arc::clone(&core.counters));
        self.access = Some(writing.map_err(|error| match error.error.raw_os_error() {
            // Not of the file, which is opened before its thread starts.
            Some(libc::EAGAIN) => ServerError::Thread(error.error),
            _ => error.into(),
        })?);
        Ok(())
    }

    /// Who notices a core that does not turn.
    pub fn watchdog(&self) -> Watchdog {
        Watchdog::of(self)
    }

    fn within_reach(&self) -> Vec<Reach> {
        self.cores.iter().filter_map(RunningCore::reach).collect()
    }

    /// Drains, and returns when the last connection is closed or the drain timeout is over.
    ///
    /// # Errors
    /// What had ended a core before.
    pub fn stop(self) -> Result<(), ServerError> {
        self.stopper().stop();
        // Those, too, that have not come to be within reach.
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
        // In the order in which they end: the first core may serve for ever while another has
        // failed.
        for ended in self.ended.into_inner().unwrap_or_else(PoisonError::into_inner) {
            if ended.is_err() && outcome.is_ok() {
                stopper.stop();
                outcome = ended;
            }
        }
        for core in self.cores {
            // Its panic has come as an outcome already.
            let _ = core.thread.join();
        }
        // No core has another line.
        self.access.into_iter().for_each(Writing::end);
        outcome
    }

    /// Waits for the word of every worker, even when one has failed: without its control none can
    /// be stopped.
    fn hear(&mut self, started: &Receiver<Started>) -> Result<(), ServerError> {
        let mut outcome = Ok(());
        for Started { index, control } in started {
            match control {
                Ok(control) => {
                    self.cores[index].control = Some(control);
                    self.metrics.note_serving();
                }
                Err(error) => outcome = outcome.and(Err(error)),
            }
        }
        let is_lost = self.cores.iter().any(|core| core.control.is_none());
        outcome.and(if is_lost { Err(ServerError::WorkerLost) } else { Ok(()) })
    }

    fn give_up(self, error: ServerError) -> Result<Running, ServerError> {
        // The error that explains the failure is the first one; what follows from stopping is not
        // of interest.
        let _ = self.stop();
        Err(error)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn nobody_passes_a_gate_before_it_is_open() {
        let gate = Gate::default();
        let mut closed = gate.close();
        let (tell, told) = mpsc::channel();
        let waits = gate.clone();
        std::thread::spawn(move || tell.send(waits.pass()));
        let waited = told.recv_timeout(Duration::from_millis(50));
        assert_eq!(waited, Err(mpsc::RecvTimeoutError::Timeout));
        *closed = Verdict::Serve;
        drop(closed);
        assert_eq!(told.recv_timeout(Duration::from_secs(10)), Ok(Verdict::Serve));
        assert_eq!(Gate::default().pass(), Verdict::End, "who says nothing has failed");
    }

    #[test]
    fn when_a_later_core_fails_the_first_one_is_stopped() {
        let listen = vec![SocketAddr::from(([127, 0, 0, 1], 0)).into()];
        let config = Config { listen, workers: 2, ..Config::default() };
        let mut running = match Server::new(config).start() {
            Ok(running) => running,
            Err(ServerError::Setup(error)) if error.is_denied() => {
                return eprintln!("SKIPPED, io_uring is denied here: {error}");
            }
            Err(error) => panic!("{error}"),
        };
        // As if a third one had failed while these two serve.
        let (end, ended) = mpsc::channel();
        let others = running.ended.get_mut().expect("nobody locks it");
        let others = std::mem::replace(others, ended);
        end.send(Err(ServerError::WorkerLost)).expect("it is listened to");
        std::thread::spawn(move || others.into_iter().try_for_each(|ended| end.send(ended)));
        let (tell, told) = mpsc::channel();
        std::thread::spawn(move || tell.send(running.join()));
        let outcome = told.recv_timeout(Duration::from_secs(10)).expect("it ends");
        assert!(matches!(outcome, Err(ServerError::WorkerLost)), "{outcome:?}");
    }
}
