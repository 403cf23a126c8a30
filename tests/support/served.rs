//! The runner's target over loopback: the fixture as a real server, with a second one beside it for
//! the cases that need another setting.

#![allow(unreachable_pub, reason = "a private module of the test, and its interface all the same")]

use std::time::Duration;

use upring::config::{Config, HostKind, Limits};
use upring::server::{Running, Server, ServerError};

use crate::conformance::tcp::Loopback;
use crate::conformance::{Case, Peer, Step, Target};
use crate::fixture::{Routed, routes};

/// The setting of `needs=keep_alive_200ms`.
const KEEP_ALIVE: &str = "keep_alive_200ms";

/// Two servers with a core each, and their clients.
pub struct Served {
    name: String,
    host: HostKind,
    usual: (Running, Loopback<'static>),
    impatient: (Running, Loopback<'static>),
    is_impatient: bool,
}

impl Served {
    /// Starts the fixture.
    ///
    /// # Errors
    /// What keeps it from starting: on some machines, that io_uring is denied.
    pub fn start(host: HostKind) -> Result<Served, ServerError> {
        Ok(Served {
            name: format!("a server over loopback, {host:?}"),
            host,
            usual: serve(host, Limits::default())?,
            impatient: serve(host, Limits { idle_timeout_ms: 200, ..Limits::default() })?,
            is_impatient: false,
        })
    }

    /// Ends both servers in order. No row makes them lose a connection to a bound of theirs.
    pub fn stop(self) {
        for (server, _) in [self.usual, self.impatient] {
            let counted: Vec<_> = ["completions_stale", "outbox_overflows", "timeouts_sent"]
                .map(|name| (name, server.counter(name)))
                .into();
            assert!(counted.iter().all(|(_, count)| *count == 0), "{}: {counted:?}", self.name);
            server.stop().expect("a server that served stops in order");
        }
    }

    fn chosen(&mut self) -> &mut Loopback<'static> {
        if self.is_impatient { &mut self.impatient.1 } else { &mut self.usual.1 }
    }
}

fn serve(host: HostKind, limits: Limits) -> Result<(Running, Loopback<'static>), ServerError> {
    let routed = Routed::default();
    let listen = vec![([127, 0, 0, 1], 0).into()];
    let drain_timeout = Duration::from_secs(1);
    let config = Config { listen, workers: 1, host, limits, drain_timeout, ..Config::default() };
    let server = routes(&routed)
        .into_iter()
        .fold(Server::new(config), |server, (pattern, resource)| server.route(pattern, resource));
    let running = server.start()?;
    let mut clients = Loopback::new(running.addresses()[0], move || routed.take());
    clients.settings.push(KEEP_ALIVE.into());
    Ok((running, clients))
}

impl Target for Served {
    fn name(&self) -> &str {
        &self.name
    }

    fn supports(&self, case: &Case) -> Result<(), String> {
        if self.host == HostKind::Native && needs_runtime(case) {
            return Err(format!("no runtime in the native mode: {} {}", case.row, case.name));
        }
        self.usual.1.supports(case)
    }

    fn prepare(&mut self, case: &Case) {
        self.is_impatient = case.needs.as_deref() == Some(KEEP_ALIVE);
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
        text.contains("/slow") || text.contains("?wait=")
    };
    case.delayed && sent.into_iter().any(|step| matches!(step, Step::Send(bytes) if waits(bytes)))
}
