//! All listening sockets of a server, made before its workers: those that were inherited, and those that
//! are bound now; each worker has its own, and the server another descriptor of each, for whoever
//! takes its place.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};

use super::ServerError;
use super::inherit::Inherited;
use crate::config::{Config, ListenAddress, Listener};
use crate::ring::{SetupError, SharedListener, duplicate, listen, local_address, steer};
use crate::tls::Acceptor;

/// What is listened on.
#[derive(Debug, Default)]
pub(super) struct Listeners {
    /// TCP addresses, ports chosen by the kernel included.
    pub(super) addresses: Vec<SocketAddr>,
    /// Everything, in the order of the configuration.
    pub(super) listening: Vec<ListenAddress>,
    pub(super) shared: Vec<Arc<SharedListener>>,
    pub(super) by_worker: Vec<Vec<Listening>>,
    pub(super) kept: Kept,
    /// The TLS sides of those that have one.
    pub(super) acceptors: Vec<Arc<Acceptor>>,
}

/// One socket of a worker, and by what rules it accepts.
#[derive(Debug)]
pub(super) struct Listening {
    pub(super) socket: OwnedFd,
    pub(super) rules: Listener,
    /// Its TLS side, if it has one.
    pub(super) acceptor: Option<Arc<Acceptor>>,
    /// Other workers accept on it, too.
    pub(super) is_shared: bool,
}

/// Descriptors of all sockets for a process that takes over, until the server stops: as long as one is
/// open, the kernel takes connections for it.
#[derive(Debug, Clone, Default)]
pub(super) struct Kept(Arc<Mutex<Vec<OwnedFd>>>);

impl Kept {
    /// Lets go of them.
    pub(super) fn close(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Others of them; none once they were let go of.
    pub(super) fn duplicates(&self) -> std::io::Result<Vec<OwnedFd>> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.iter().map(OwnedFd::try_clone).collect()
    }

    fn keep(&self, listening: &Listening) -> Result<(), SetupError> {
        let copy = duplicate(&listening.socket, &listening.rules.address)?;
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(copy);
        Ok(())
    }
}

impl Listeners {
    /// Opens what `config` says for a worker on each of `cpus`, which over TCP prefers what its processor
    /// receives if that is wanted.
    pub(super) fn open(
        config: &Config,
        cpus: &[usize],
        inherited: &mut Inherited,
    ) -> Result<Listeners, ServerError> {
        let mut listeners = Listeners::default();
        listeners.by_worker.resize_with(cpus.len(), Vec::new);
        for rules in &config.listen {
            let own = inherited.take(&rules.address);
            let acceptor = rules.tls.clone().map(Acceptor::new).transpose()?.map(Arc::new);
            listeners.acceptors.extend(acceptor.clone());
            match &rules.address {
                ListenAddress::Tcp(address) => {
                    let cpus = config.steer.then_some(cpus);
                    listeners.open_tcp(*address, rules, acceptor, cpus, own)?;
                }
                ListenAddress::Unix(path) => {
                    let shared = match own.into_iter().next() {
                        Some(socket) => SharedListener::adopt(path, socket)?,
                        None => SharedListener::listen(path, rules)?,
                    };
                    listeners.listening.push(rules.address.clone());
                    listeners.share(rules, acceptor, &Arc::new(shared))?;
                }
            }
        }
        Ok(listeners)
    }

    /// A socket for each worker. Those that were inherited are dealt out until none is left: what waits on
    /// one that nobody accepts on would wait for ever.
    fn open_tcp(
        &mut self,
        mut address: SocketAddr,
        rules: &Listener,
        acceptor: Option<Arc<Acceptor>>,
        cpus: Option<&[usize]>,
        own: Vec<OwnedFd>,
    ) -> Result<(), ServerError> {
        let workers = self.by_worker.len();
        let mut dealt: Vec<Vec<OwnedFd>> = Vec::new();
        dealt.resize_with(workers, Vec::new);
        // Another can be bound beside them only if they allow it.
        let is_reusable = own
            .first()
            .is_none_or(|socket| socket2::SockRef::from(socket).reuse_port().unwrap_or_default());
        let copies: Vec<OwnedFd> = match is_reusable {
            true => Vec::new(),
            false => own
                .iter()
                .cycle()
                .take(workers.saturating_sub(own.len()))
                .map(|socket| duplicate(socket, &rules.address))
                .collect::<Result<_, _>>()?,
        };
        let is_shared = !copies.is_empty();
        for (index, socket) in own.into_iter().chain(copies).enumerate() {
            dealt[index % workers].push(socket);
        }
        for (worker, mut sockets) in dealt.into_iter().enumerate() {
            if sockets.is_empty() {
                let socket = listen(address, rules)?;
                if let Some(cpus) = cpus {
                    steer(&socket, cpus[worker])?;
                }
                sockets.push(socket);
            }
            for socket in sockets {
                // Port 0 is the one that the kernel has chosen for the first.
                address = local_address(&socket)?;
                let (rules, acceptor) = (rules.clone(), acceptor.clone());
                self.add(worker, Listening { socket, rules, acceptor, is_shared })?;
            }
        }
        self.addresses.push(address);
        self.listening.push(address.into());
        Ok(())
    }

    fn share(
        &mut self,
        rules: &Listener,
        acceptor: Option<Arc<Acceptor>>,
        shared: &Arc<SharedListener>,
    ) -> Result<(), ServerError> {
        for worker in 0..self.by_worker.len() {
            let (rules, acceptor) = (rules.clone(), acceptor.clone());
            let listening = Listening { socket: shared.share()?, rules, acceptor, is_shared: true };
            match worker {
                // One descriptor of it is enough.
                0 => self.add(worker, listening)?,
                _ => self.by_worker[worker].push(listening),
            }
        }
        self.shared.push(Arc::clone(shared));
        Ok(())
    }

    fn add(&mut self, worker: usize, listening: Listening) -> Result<(), ServerError> {
        self.kept.keep(&listening)?;
        self.by_worker[worker].push(listening);
        Ok(())
    }
}
