//! The admin listener: a second, small server of this very code on a thread and a ring of its own, so
//! that no core that serves clients answers a scrape. It outlives the server it tells of: it answers
//! while that drains, and is stopped behind it. It listens on loopback or on a Unix socket only: it asks
//! nobody who he is.
//!
//! | path | answer |
//! |---|---|
//! | `/metrics` | everything counted: OpenMetrics 1.0 for who accepts it, else the text format of Prometheus |
//! | `/healthz` | 200: the process lives |
//! | `/readyz` | 200 while every core serves, or those of a process that has taken the place of this one; 503 and why
//! |           | before that and while draining |

use std::net::SocketAddr;
use std::time::Duration;

use crate::config::{Config, DrainTimes, HostKind, Limits, ListenAddress, Listener, RingConfig};
use crate::http::{Request, Response, Status};
use crate::metrics::{Format, Metrics, Phase};
use crate::resource::{Reply, Resource, from_head};
use crate::ring::SharedListener;
use crate::server::{Inherited, OpenOffer, Running, Server, ServerError};

/// Connections at once: scrapes and probes, of a few who ask.
const CONNECTIONS_MAX: u32 = 64;

/// An admin listener that serves.
#[derive(Debug)]
pub struct Admin {
    running: Running,
}

/// Why there is none. The operator is at fault, or the kernel refuses.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AdminError {
    /// What it shows is nobody else's business, and it asks nobody who he is.
    #[error(
        "{0} is no loopback address: the admin listener is for this machine alone; listen on \
         127.0.0.1, [::1] or unix:PATH, and have something that knows its clients in front of it"
    )]
    NotLoopback(SocketAddr),
    /// It could not start.
    #[error("the admin listener: {0}")]
    Server(#[from] ServerError),
}

impl Admin {
    /// Serves what `metrics` has on an address of this machine, or on a Unix socket for its owner and group.
    /// Port 0 is one that the kernel chooses.
    ///
    /// ```no_run
    /// use upring::admin::Admin;
    /// use upring::{Config, Server};
    ///
    /// let server = Server::new(Config::default());
    /// // Before the server starts, so that `/readyz` is answered while it does.
    /// let admin = Admin::start("127.0.0.1:9180".parse()?, server.metrics())?;
    /// server.start()?.join()?;
    /// admin.stop()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// The address is no loopback address or is taken, or the server of it cannot start.
    pub fn start(address: ListenAddress, metrics: Metrics) -> Result<Admin, AdminError> {
        Admin::start_on(address, metrics, Inherited::default())
    }

    /// The same on sockets that are there already, if they are of its address.
    ///
    /// # Errors
    /// As of [`Admin::start`].
    pub fn start_on(
        address: ListenAddress,
        metrics: Metrics,
        inherited: Inherited,
    ) -> Result<Admin, AdminError> {
        Admin::check(&address)?;
        let running = routes(Server::new(config(address)), &metrics).inherit(inherited).start()?;
        Ok(Admin { running })
    }

    /// Whether it could be at this address, as far as that can be seen without listening there.
    ///
    /// # Errors
    /// It is no loopback address, or the folder of its path is not there.
    pub fn check(address: &ListenAddress) -> Result<(), AdminError> {
        match address {
            ListenAddress::Tcp(address) if !address.ip().is_loopback() => {
                Err(AdminError::NotLoopback(*address))
            }
            ListenAddress::Tcp(_) => Ok(()),
            ListenAddress::Unix(path) => {
                Ok(SharedListener::check(path).map_err(ServerError::from)?)
            }
        }
    }

    /// Has its sockets handed over with those of the server it tells of.
    #[must_use]
    pub fn offered_by(&self, offer: OpenOffer) -> OpenOffer {
        offer.with(&self.running)
    }

    /// Takes over the path of its Unix socket, as [`Running::claim_paths`].
    pub fn claim_paths(&self) {
        self.running.claim_paths();
    }

    /// Where it listens.
    pub fn listening(&self) -> &ListenAddress {
        &self.running.listening()[0]
    }

    /// Stops it: for when what it tells of has ended.
    ///
    /// # Errors
    /// What had ended it before.
    pub fn stop(self) -> Result<(), ServerError> {
        self.running.stop()
    }
}

/// One worker with a ring that is small: some scrapes a minute.
fn config(address: ListenAddress) -> Config {
    let ring = RingConfig {
        submissions: 128,
        completions: 1024,
        buffers: 128,
        buffers_lent: 32,
        large_buffers: 0,
        ..RingConfig::default()
    };
    Config {
        workers: 1,
        host: HostKind::Native,
        drain: DrainTimes::within(Duration::from_secs(1)),
        limits: Limits { connections_max: CONNECTIONS_MAX, ..Limits::default() },
        ring,
        listen: vec![Listener { backlog: 128, ..address.into() }],
        ..Config::default()
    }
}

fn routes(server: Server, metrics: &Metrics) -> Server {
    let (shown, state) = (metrics.clone(), metrics.clone());
    let metrics = from_head(move |request: &Request<'_>, reply: &mut Reply<'_>| {
        let format = Format::accepted(request.fields_named("Accept"));
        reply.write(Status::OK, |answer| {
            let answer =
                answer.field("Content-Type", format.content_type()).field("Vary", "Accept");
            answer.body_with(|out| shown.write(format, out))
        });
    });
    let ready = from_head(move |_: &Request<'_>, reply: &mut Reply<'_>| {
        reply.send(&readiness(&state));
    });
    let healthy = Response::text(Status::OK, "ok\n").to_ready();
    server
        .route("/metrics", Resource::new().get(metrics))
        .route("/healthz", Resource::new().get(healthy))
        .route("/readyz", Resource::new().get(ready))
}

fn readiness(state: &Metrics) -> Response {
    match state.phase() {
        // First: it begins to drain behind that.
        Phase::Draining if state.is_succeeded() => {
            Response::text(Status::OK, "ready: another process has taken over\n")
        }
        Phase::Ready => Response::text(Status::OK, "ready\n"),
        Phase::Starting => {
            Response::text(Status::SERVICE_UNAVAILABLE, "starting: not every core serves yet\n")
        }
        Phase::Draining => {
            Response::text(Status::SERVICE_UNAVAILABLE, "draining: the server is stopping\n")
        }
    }
}
