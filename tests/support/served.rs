//! The runner's target over loopback: the fixture as a real server, with others beside it for the
//! cases that need another setting.

#![allow(unreachable_pub, reason = "a private module of the test, and its interface all the same")]

use std::net::SocketAddr;
use std::time::Duration;

use upring::config::{Config, DrainTimes, HostKind};
use upring::server::{Running, Server, ServerError};

use crate::conformance::tcp::Loopback;
use crate::conformance::{Case, Peer, Step, Target};
use crate::fixture::{Routed, Setting, routes, tunnel};

/// Servers with a core each, and their clients: one for each setting that was needed so far.
pub struct Served {
    name: String,
    host: HostKind,
    servers: Vec<(Setting, Running, Loopback<'static>)>,
    setting: Setting,
}

impl Served {
    /// Starts the fixture.
    ///
    /// # Errors
    /// What keeps it from starting: on some machines, that io_uring is denied.
    pub fn start(host: HostKind) -> Result<Served, ServerError> {
        let name = format!("a server over loopback, {host:?}");
        let setting = Setting::default();
        Ok(Served { name, host, servers: vec![serve(host, setting)?], setting })
    }

    /// Ends the servers in order. No row makes them lose a connection to a bound of theirs.
    pub fn stop(self) {
        for (_, server, _) in self.servers {
            let counted: Vec<_> = ["completions_stale", "outbox_overflows", "timeouts_sent"]
                .map(|name| (name, server.counter(name)))
                .into();
            assert!(counted.iter().all(|(_, count)| *count == 0), "{}: {counted:?}", self.name);
            server.stop().expect("a server that served stops in order");
        }
    }

    fn chosen(&mut self) -> &mut Loopback<'static> {
        let chosen = self.servers.iter_mut().find(|(setting, ..)| *setting == self.setting);
        &mut chosen.expect("the case was prepared").2
    }
}

fn serve(
    host: HostKind,
    setting: Setting,
) -> Result<(Setting, Running, Loopback<'static>), ServerError> {
    let routed = Routed::default();
    let (listen, limits) = (vec![SocketAddr::from(([127, 0, 0, 1], 0)).into()], setting.limits());
    let drain = DrainTimes::within(Duration::from_secs(1));
    let config = Config { listen, workers: 1, host, limits, drain, ..Config::default() };
    let server = Server::new(config).connect(tunnel());
    let server = routes(&routed).into_iter().fold(server, |server, (pattern, resource)| {
        match setting.host() {
            Some(host) => server.route_on(host, pattern, resource),
            None => server.route(pattern, resource),
        }
    });
    let running = server.start()?;
    let clients = Loopback::new(running.addresses()[0], move || routed.take());
    Ok((setting, running, clients))
}

impl Target for Served {
    fn name(&self) -> &str {
        &self.name
    }

    fn supports(&self, case: &Case) -> Result<(), String> {
        if self.host == HostKind::Native && needs_runtime(case) {
            return Err(format!("no runtime in the native mode: {} {}", case.row, case.name));
        }
        match &case.pending {
            Some(change) => Err(format!("pending: {change}")),
            None => Setting::named(case.needs.as_deref()).map(|_| ()),
        }
    }

    fn prepare(&mut self, case: &Case) {
        self.setting = Setting::named(case.needs.as_deref()).expect("the case is supported");
        if self.servers.iter().all(|(setting, ..)| *setting != self.setting) {
            let server = serve(self.host, self.setting).expect("it starts as the first one did");
            self.servers.push(server);
        }
    }

    fn connect(&mut self) -> Box<dyn Peer> {
        self.chosen().connect()
    }

    fn routed_log(&mut self) -> Vec<String> {
        self.chosen().routed_log()
    }
}

/// Whether some answer of the fixture is a future.
fn needs_runtime(case: &Case) -> bool {
    let sent = case.exchanges.iter().flat_map(|exchange| &exchange.input);
    let waits = |bytes: &[u8]| {
        let text = String::from_utf8_lossy(bytes);
        ["/slow", "?wait=", "CONNECT later"].iter().any(|mark| text.contains(mark))
    };
    case.delayed && sent.into_iter().any(|step| matches!(step, Step::Send(bytes) if waits(bytes)))
}
