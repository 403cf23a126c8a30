//! All listening sockets of a server, made before its workers: those that were inherited, and those that
//! are bound now; each worker has its own, and the server another descriptor of each, for whoever
//! takes its place.
//!
//! Over TCP what is bound takes connections when all workers are ready, and not before: where another
//! process is still served at the address, some of its clients would else wait for a server that may not
//! come. A Unix socket is new at its path, and listens at once: that holds the path.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::ServerError;
use super::claims::{Claimed, Listened, Turn};
use super::inherit::{Given, Inherited};
use crate::config::{Config, ListenAddress, Listener};
use crate::ring::{
    SetupError, SharedListener, adapt, bind, duplicate, local_address, steer, take_connections,
};
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
    pub(super) origin: Origin,
}

/// Where a socket is from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    /// Bound by this process, at an address at which nobody listens.
    Own,
    /// Bound by this process, beside what it was given.
    Beside,
    /// Another process of this program made it.
    Predecessor,
    /// A service manager made it.
    Manager,
}

impl Origin {
    fn of(is_managed: bool) -> Origin {
        if is_managed { Origin::Manager } else { Origin::Predecessor }
    }
}

/// Descriptors of all sockets for a process that takes over, until the server stops: as long as one is
/// open, the kernel takes connections for it.
#[derive(Debug, Clone, Default)]
pub(super) struct Kept(Arc<Mutex<Vec<KeptSocket>>>);

#[derive(Debug)]
struct KeptSocket {
    socket: OwnedFd,
    rules: Listener,
    origin: Origin,
}

impl Kept {
    /// Lets go of them.
    pub(super) fn close(&self) {
        self.all().clear();
    }

    /// Others of them; none once they were let go of.
    pub(super) fn duplicates(&self) -> std::io::Result<Vec<Given>> {
        let duplicate = |kept: &KeptSocket| {
            let is_managed = kept.origin == Origin::Manager;
            Ok(Given { socket: kept.socket.try_clone()?, is_managed })
        };
        self.all().iter().map(duplicate).collect()
    }

    /// Has the kernel take connections where nobody does yet. Who else starts now waits for it, and is
    /// refused behind it; where somebody has come to listen meanwhile, this one is.
    pub(super) fn take_new(&self, claimed: &Claimed) -> Result<(), SetupError> {
        let all = self.all();
        let new = || all.iter().filter(|kept| kept.origin == Origin::Own && !kept.rules.is_unix());
        if new().next().is_none() {
            return Ok(());
        }
        let _turn = Turn::wait();
        // Each worker has one: an address is asked about once.
        let (mut asked, listened) = (Vec::new(), Listened::default());
        for KeptSocket { socket, rules, .. } in new() {
            let address = local_address(socket)?;
            if !asked.contains(&address) {
                claimed.recheck(address, rules.only_v6, &listened)?;
                asked.push(address);
            }
        }
        new().try_for_each(|KeptSocket { socket, rules, .. }| {
            take_connections(socket, &rules.address, rules.backlog)
        })
    }

    /// The same beside what was given, which gets the options of this configuration.
    pub(super) fn take_given(&self) -> Result<(), SetupError> {
        let all = self.all();
        let tcp = all.iter().filter(|kept| !kept.rules.is_unix());
        // Clients come at once to the last ones.
        for origin in [Origin::Predecessor, Origin::Beside] {
            for KeptSocket { socket, rules, .. } in tcp.clone().filter(|at| at.origin == origin) {
                if origin == Origin::Predecessor {
                    adapt(socket, rules)?;
                }
                take_connections(socket, &rules.address, rules.backlog)?;
            }
        }
        Ok(())
    }

    fn keep(&self, listening: &Listening) -> Result<(), SetupError> {
        let Listening { socket, rules, origin, .. } = listening;
        let socket = duplicate(socket, &rules.address)?;
        self.all().push(KeptSocket { socket, rules: rules.clone(), origin: *origin });
        Ok(())
    }

    fn all(&self) -> MutexGuard<'_, Vec<KeptSocket>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
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
        check_addresses(config, inherited)?;
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
                    let given = own.into_iter().next();
                    let origin =
                        given.as_ref().map_or(Origin::Own, |given| Origin::of(given.is_managed));
                    let shared = match given {
                        Some(given) => inherited.adopt(path, given),
                        None => SharedListener::listen(path, rules)?,
                    };
                    listeners.listening.push(rules.address.clone());
                    listeners.share(rules, acceptor, &Arc::new(shared), origin)?;
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
        given: Vec<Given>,
    ) -> Result<(), ServerError> {
        let workers = self.by_worker.len();
        let origin = given.first().map(|given| Origin::of(given.is_managed));
        let own: Vec<OwnedFd> = given.into_iter().map(|given| given.socket).collect();
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
            let is_bound = sockets.is_empty();
            if is_bound {
                let socket = bind(address, rules)?;
                if let Some(cpus) = cpus {
                    steer(&socket, cpus[worker])?;
                }
                sockets.push(socket);
            }
            for socket in sockets {
                // Port 0 is the one that the kernel has chosen for the first.
                address = local_address(&socket)?;
                let (rules, acceptor) = (rules.clone(), acceptor.clone());
                let origin = match origin {
                    Some(_) if is_bound => Origin::Beside,
                    Some(origin) => origin,
                    None => Origin::Own,
                };
                self.add(worker, Listening { socket, rules, acceptor, is_shared, origin })?;
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
        origin: Origin,
    ) -> Result<(), ServerError> {
        for worker in 0..self.by_worker.len() {
            let (rules, acceptor) = (rules.clone(), acceptor.clone());
            let socket = shared.share()?;
            let listening = Listening { socket, rules, acceptor, is_shared: true, origin };
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

/// Whether nobody else listens where sockets are to be bound.
fn check_addresses(config: &Config, inherited: &Inherited) -> Result<(), SetupError> {
    let (claimed, listened) = (inherited.claimed(), Listened::default());
    let is_given = |rules: &Listener| inherited.addresses().any(|at| *at == rules.address);
    let new = config.listen.iter().filter(|rules| !is_given(rules));
    let mut tcp = new.filter_map(|rules| match rules.address {
        ListenAddress::Tcp(address) => Some((address, rules.only_v6)),
        ListenAddress::Unix(_) => None,
    });
    tcp.try_for_each(|(address, only_v6)| match address.port() {
        // The kernel chooses a free one.
        0 => Ok(()),
        _ => claimed.check(address, only_v6, &listened),
    })
}
