//! The switch, which is what this server is for: a request with early bytes, cut into 1 to 8 equal
//! segments, to the 101 and the handler's echo of the early bytes. A plain request, cut the same way,
//! stands beside it.
//!
//! Each segment comes in a turn of its own. On the engine the connection was accepted before, and is
//! closed behind: neither is in the figure.

use upring::resource::Registry;

use super::{Body, Run};
use crate::support::counted::{by_the_few, repeated, timed};
use crate::support::websocket::{TEXT, echo, frame, frame_back};
use crate::support::{Alone, Engines, PLAINTEXT, SWITCH, WEBSOCKET, cut, registry};

const SEGMENTS: std::ops::RangeInclusive<usize> = 1..=8;
const EARLY: &[u8] = b"the first bytes of the protocol";

/// What a client says on a new connection, and what comes back.
#[derive(Clone, Copy)]
struct Exchange {
    name: &'static str,
    said: fn() -> Vec<u8>,
    head: &'static str,
    behind: fn() -> Vec<u8>,
}

const EXCHANGES: [Exchange; 3] = [
    Exchange {
        name: "request",
        said: || PLAINTEXT.to_vec(),
        head: "HTTP/1.1 200 OK\r\n",
        behind: || b"Hello, World!".to_vec(),
    },
    Exchange {
        name: "echo",
        said: || [SWITCH, EARLY].concat(),
        head: "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n",
        behind: || EARLY.to_vec(),
    },
    Exchange {
        name: "websocket",
        said: || [WEBSOCKET, &frame(TEXT, EARLY)].concat(),
        head: "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
               Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n",
        behind: || frame_back(TEXT, EARLY),
    },
];

pub fn bodies() -> Vec<Body> {
    let each = |place: &'static str, begin: fn(Exchange, usize) -> Run| {
        EXCHANGES.into_iter().flat_map(move |exchange| {
            SEGMENTS.map(move |segments| {
                let name = format!("{place}/{}/{segments}", exchange.name);
                Body::new("switch", name, move || begin(exchange, segments))
            })
        })
    };
    each("session", on_a_session).chain(each("engine", on_an_engine)).collect()
}

fn on_a_session(exchange: Exchange, segments: usize) -> Run {
    let segments = cut(&(exchange.said)(), segments);
    let mut alone = Alone::new(registry_with_chat());
    segments.iter().for_each(|segment| alone.receive(segment));
    let answer = exchange.checked(alone.sent());
    Box::new(move |rounds| {
        repeated(rounds, || {
            alone.open();
            segments.iter().for_each(|segment| alone.receive(segment));
            assert_eq!(alone.send(), answer);
        })
    })
}

fn on_an_engine(exchange: Exchange, segments: usize) -> Run {
    let segments = cut(&(exchange.said)(), segments);
    let mut engines = Engines::new(registry_with_chat);
    let simulated = engines.one_for(1);
    let client = simulated.connect();
    simulated.hear(&client, &segments);
    let answer = exchange.checked(client.read());
    Box::new(move |rounds| {
        by_the_few(rounds, |count| {
            let simulated = engines.one_for(count);
            let clients: Vec<_> = (0..count).map(|_| simulated.connect()).collect();
            let took = timed(|| {
                for client in &clients {
                    simulated.hear(client, &segments);
                    assert_eq!(client.read().len(), answer);
                }
            });
            clients.iter().for_each(|client| client.finish());
            simulated.settle_aside();
            took
        })
    })
}

fn registry_with_chat() -> Registry {
    let mut registry = registry();
    registry.insert("/chat", echo());
    registry
}

impl Exchange {
    /// The length of an answer, which must be what it is to be.
    fn checked(self, answer: Vec<u8>) -> usize {
        let behind = (self.behind)();
        let (head, rest) = answer.split_at(answer.len().saturating_sub(behind.len()));
        assert!(head.starts_with(self.head.as_bytes()) && head.ends_with(b"\r\n\r\n"));
        assert_eq!(rest, behind);
        answer.len()
    }
}
