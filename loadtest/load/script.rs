//! What is said on the connections of a run: made once, before the first of them is opened, and
//! kept for as long as the program runs.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};

use upring::buffer::Payload;

use crate::content::Content;
use crate::expect::Reference;
use crate::messages::Messages;
use crate::options::{Echo, Http, Idle, Mode, Switch, Upgrade};
use crate::switching::Offer;
use crate::websocket;

/// Bytes of the one thing that is said on a connection before it is idle.
const IDLE_BYTES: usize = 16;

/// What a 101 has to name.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    /// The answer to a key is asked for, too, and what is sent are frames.
    WebSocket,
    /// Bytes are sent as they are, and have to come back as they are.
    Raw(String),
}

impl Protocol {
    pub(crate) fn named(token: &str) -> Protocol {
        if token.eq_ignore_ascii_case("websocket") {
            Protocol::WebSocket
        } else {
            Protocol::Raw(token.to_owned())
        }
    }

    pub(crate) fn token(&self) -> &str {
        match self {
            Protocol::WebSocket => "websocket",
            Protocol::Raw(token) => token,
        }
    }
}

/// The protocol that is asked for, and the request to switch to it, up to what ends it: a key is
/// each connection's own.
fn opening(upgrade: &Upgrade, target: SocketAddr) -> (Protocol, Vec<u8>) {
    let protocol = Protocol::named(&upgrade.token);
    let (usual_path, fields) = match protocol {
        Protocol::WebSocket => ("/ws", "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: "),
        Protocol::Raw(_) => ("/echo", "\r\n"),
    };
    let (path, token) = (upgrade.path.as_deref().unwrap_or(usual_path), protocol.token());
    let opening = format!(
        "GET {path} HTTP/1.1\r\nHost: {target}\r\nConnection: Upgrade\r\nUpgrade: {token}\r\n{fields}"
    );
    (protocol, opening.into_bytes())
}

/// What one connection does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Course {
    /// Requests, and after so many of them another connection.
    Requests { per_connection: u64 },
    /// A switch, and then messages for as long as the run lasts.
    Messages,
    /// A switch, one message, and the end. The message follows the request at once, or the 101.
    Once { is_late: bool },
}

/// What all connections share.
pub(crate) struct Script {
    pub(crate) course: Course,
    /// Requests or messages sent at once.
    pub(crate) depth: usize,
    pub(crate) protocol: Protocol,
    /// `depth` requests; the last on a connection; one to switch.
    requests: Vec<u8>,
    last: Vec<u8>,
    opening: Vec<u8>,
    /// What keys of opening handshakes are made of: another one in each run.
    seed: u64,
    /// Connections that ask to switch, so far, on all threads.
    connections: AtomicU64,
    /// What is said on a switched connection, and has to come back.
    pub(crate) messages: Messages,
    content: Content,
}

impl Script {
    /// What is said in a mode that consists of rounds.
    pub(crate) fn of(mode: &Mode) -> Script {
        match mode {
            Mode::Http(http) => Script::http(http, http.common.target),
            Mode::Switch(switch) => Script::switch(switch, switch.common.target),
            Mode::Echo(Echo { upgrade, bytes, depth, common, .. }) => {
                Script::talk(upgrade, *bytes, *depth, common.target)
            }
            Mode::Idle(Idle { upgrade, common, .. }) => {
                Script::talk(upgrade, IDLE_BYTES, 1, common.target)
            }
            Mode::Storm(_) => unreachable!("what it says is in its own file"),
        }
    }

    fn http(options: &Http, target: SocketAddr) -> Script {
        let request =
            |last| format!("GET {} HTTP/1.1\r\nHost: {target}\r\n{last}\r\n", options.path);
        Script {
            course: Course::Requests {
                per_connection: options.requests_per_connection.unwrap_or(u64::MAX),
            },
            depth: options.depth,
            requests: request("").into_bytes().repeat(options.depth),
            last: request("Connection: close\r\n").into_bytes(),
            content: options
                .content
                .clone()
                .map_or_else(Content::default, |text| Content::known(text.into_bytes())),
            ..Script::switched(Course::Messages, Protocol::named("-"), 1, 1)
        }
    }

    fn talk(upgrade: &Upgrade, bytes: usize, depth: usize, target: SocketAddr) -> Script {
        let (protocol, opening) = opening(upgrade, target);
        Script { opening, ..Script::switched(Course::Messages, protocol, bytes, depth) }
    }

    fn switch(options: &Switch, target: SocketAddr) -> Script {
        let (protocol, opening) = opening(&options.upgrade, target);
        let course = Course::Once { is_late: options.late };
        Script { opening, ..Script::switched(course, protocol, options.bytes, 1) }
    }

    fn switched(course: Course, protocol: Protocol, bytes: usize, depth: usize) -> Script {
        let messages = Messages::of(&protocol, bytes);
        Script {
            course,
            depth,
            protocol,
            requests: Vec::new(),
            last: Vec::new(),
            opening: Vec::new(),
            seed: RandomState::new().hash_one(0),
            connections: AtomicU64::new(0),
            messages,
            content: Content::default(),
        }
    }

    /// So many requests, at most `depth`.
    pub(crate) fn requests(&self, count: usize) -> &[u8] {
        &self.requests[..self.requests.len() / self.depth * count]
    }

    /// The request that a connection ends with.
    pub(crate) fn last_request(&self) -> &[u8] {
        &self.last
    }

    /// A number that no other connection has, and what it asks for.
    pub(crate) fn offer(&'static self) -> (u64, Payload, Offer) {
        let connection = self.connections.fetch_add(1, Ordering::Relaxed);
        let (opening, accept) = match self.protocol {
            Protocol::Raw(_) => (Payload::Static(&self.opening), String::new()),
            Protocol::WebSocket => {
                let key = websocket::key(self.seed, connection);
                let opening = [&self.opening, key.as_bytes(), b"\r\n\r\n"].concat();
                (Payload::Owned(opening), websocket::accept(&key))
            }
        };
        (connection, opening, Offer { protocol: &self.protocol, accept })
    }

    /// What a thread compares with.
    pub(crate) fn reference(&'static self) -> Reference {
        Reference::new(&self.content, &self.messages)
    }
}
