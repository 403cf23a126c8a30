//! What a configuration file can name: upgrade handlers and HTTP handlers that are registered in this
//! process, each with what makes it of its options.

use std::fmt;
use std::sync::Arc;

use super::backend;
use super::fault::suggestion;
use super::section::{Placed, Section};
use super::websocket;
use crate::protocols::echo;
use crate::resource::Resource;
use crate::upgrade::Protocol;
use crate::websocket::{Endpoint, Message, Socket};

type Make<T> = Box<dyn Fn(&mut Section<'_>) -> Result<T, String> + Send + Sync>;
/// Adds answers to a resource.
pub(super) type Put = Arc<dyn Fn(Resource) -> Resource + Send + Sync>;

/// Handlers by name.
///
/// ```
/// use upring::Protocol;
/// use upring::protocols::echo::Echo;
/// use upring::site::{Catalog, Site};
///
/// let catalog = Catalog::with_own().upgrade("loud", "every byte comes back, loudly", |options| {
///     let _volume = options.number("volume", 0..=11);
///     Ok(Protocol::callback("loud", |_| Echo))
/// });
/// let text = "[[route]]\npath = '/loud'\nupgrade = 'loud'\noptions = { volume = 12 }\n";
/// let faults = Site::parse("loud.toml", text, &catalog, |_| {}).expect_err("12 is too loud");
/// assert!(faults.to_string().contains("loud.toml:4:22: `volume` is a number from 0 to 11"));
/// ```
#[derive(Default)]
pub struct Catalog {
    upgrades: Vec<Named<Make<Protocol>>>,
    handlers: Vec<Named<Put>>,
}

struct Named<T> {
    name: &'static str,
    about: &'static str,
    make: T,
}

impl Catalog {
    /// The handlers that ship: `echo`, `websocket-echo` and `tunnel`.
    pub fn with_own() -> Catalog {
        Catalog::default()
            .upgrade("echo", "Upgrade: echo, every byte comes back", |_| Ok(echo::protocol()))
            .upgrade("websocket-echo", "WebSocket: every message comes back", |options| {
                Ok(websocket::service(options, |_| {}).endpoint(|_| Messages))
            })
            .upgrade("tunnel", "a tunnel to another server", backend::tunnel)
    }

    /// Registers an upgrade handler. `make` takes the options it knows; a wrong one is noted where it
    /// stands, one that is left over is unknown. An `Err` is said of the handler as a whole; an empty one has
    /// nothing to say beside what was noted.
    #[must_use]
    pub fn upgrade(
        mut self,
        name: &'static str,
        about: &'static str,
        make: impl Fn(&mut Section<'_>) -> Result<Protocol, String> + Send + Sync + 'static,
    ) -> Catalog {
        self.upgrades.retain(|known| known.name != name);
        self.upgrades.push(Named { name, about, make: Box::new(make) });
        self
    }

    /// Registers an HTTP handler: `put` adds its answers to the resource of a route.
    #[must_use]
    pub fn handler(
        mut self,
        name: &'static str,
        about: &'static str,
        put: impl Fn(Resource) -> Resource + Send + Sync + 'static,
    ) -> Catalog {
        self.handlers.retain(|known| known.name != name);
        self.handlers.push(Named { name, about, make: Arc::new(put) });
        self
    }

    /// Makes the protocol that is named, of its options, and says what it is.
    pub(super) fn protocol(
        &self,
        name: &Placed<String>,
        options: &mut Section<'_>,
    ) -> Option<(Protocol, &'static str)> {
        let known = find(&self.upgrades, name, "upgrade handler", options)?;
        match (known.make)(options) {
            Ok(protocol) => Some((protocol, known.about)),
            Err(why) if why.is_empty() => None,
            Err(why) => {
                options.fault_at(name, format!("the upgrade handler `{}`: {why}", known.name));
                None
            }
        }
    }

    /// What adds the answers of the handler that is named, and what it is.
    pub(super) fn handler_named(
        &self,
        name: &Placed<String>,
        section: &Section<'_>,
    ) -> Option<(Put, &'static str)> {
        let known = find(&self.handlers, name, "handler", section)?;
        Some((Arc::clone(&known.make), known.about))
    }
}

fn find<'a, T>(
    all: &'a [Named<T>],
    name: &Placed<String>,
    kind: &str,
    section: &Section<'_>,
) -> Option<&'a Named<T>> {
    let found = all.iter().find(|known| known.name == name.value);
    if found.is_none() {
        let near = suggestion(&name.value, all.iter().map(|known| known.name));
        let names: Vec<_> = all.iter().map(|known| format!("`{}`", known.name)).collect();
        let hint = match (near.is_empty(), names.is_empty()) {
            (false, _) => near,
            (true, false) => format!("; there are {}", names.join(", ")),
            (true, true) => "; there is none in this program".to_owned(),
        };
        section.fault_at(name, format!("no {kind} is called `{}`{hint}", name.value));
    }
    found
}

impl fmt::Debug for Catalog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let upgrades: Vec<_> = self.upgrades.iter().map(|known| known.name).collect();
        let handlers: Vec<_> = self.handlers.iter().map(|known| known.name).collect();
        f.debug_struct("Catalog").field("upgrades", &upgrades).field("handlers", &handlers).finish()
    }
}

/// Sends every message back from where it was received.
struct Messages;

impl Endpoint for Messages {
    fn on_message(&mut self, message: Message, socket: &mut Socket<'_>) {
        socket.send(message);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use crate::config::DrainTimes;
    use crate::counters::Counters;
    use crate::engine::{Engine, Turn};
    use crate::ring::sim::{Faults, SimConfig, Simulation};
    use crate::ring::{ListenerId, Wait};
    use crate::session::Core;

    use super::*;
    use crate::site::Site;

    const HANDSHAKE: &[u8] =
        b"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\
        Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

    /// A binary message of at least 126 bytes, masked by zeros.
    fn message(len: usize) -> Vec<u8> {
        let len_bytes = match u16::try_from(len) {
            Ok(len) => [&[0x80 | 126][..], &len.to_be_bytes()].concat(),
            Err(_) => [&[0x80 | 127][..], &(len as u64).to_be_bytes()].concat(),
        };
        [&[0x82][..], &len_bytes, &[0; 4], &vec![0; len]].concat()
    }

    #[test]
    fn the_largest_message_comes_back_behind_what_a_slow_client_has_not_read() {
        let config = SimConfig { faults: Faults::none(), ..SimConfig::default() };
        let kernel = Simulation::new(1, config);
        let text = "[[route]]\npath = '/'\nupgrade = 'websocket-echo'\n";
        let site = Site::parse("-", text, &Catalog::with_own(), |_| {}).expect("it is right");
        let core = Core::new(site.registry, Default::default(), Arc::<Counters>::default(), 0);
        let world = kernel.world();
        let mut engine = Engine::new(kernel, core, 1, Arc::default(), DrainTimes::default());
        let mut settle = || {
            while engine.turn(Wait::No).expect("a simulation goes on") == Turn::Again
                || !world.is_quiet()
            {}
        };
        let client = world.connect(ListenerId(0));
        client.set_window(30_000);
        client.write(HANDSHAKE);
        settle();
        let sizes = [60_000, 1024 * 1024];
        for size in sizes {
            client.write(&message(size));
            settle();
        }
        let mut came = 0;
        while client.arrived() > 0 {
            came += client.read().len();
            settle();
        }
        // Behind a head, and each behind a header.
        let messages: usize = sizes.iter().sum();
        assert!((messages..messages + 500).contains(&came), "{came} bytes");
    }
}
