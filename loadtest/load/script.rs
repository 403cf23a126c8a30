//! What is said on the connections of a run: made once, before the first of them is opened, and
//! kept for as long as the program runs.

use std::net::SocketAddr;
use std::sync::OnceLock;

use crate::expect::{Pattern, Reference};
use crate::options::{Echo, Http, Idle, Mode, Switch, Upgrade};
use crate::websocket::{self, Messages};

/// Bytes of the one thing that is said on a connection before it is idle.
const IDLE_BYTES: usize = 16;

/// What a 101 has to name.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    /// The answer to the key of RFC 6455 §1.3 is asked for, too, and what is sent are messages.
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

/// The protocol that is asked for, and the request to switch to it.
fn opening(upgrade: &Upgrade, target: SocketAddr) -> (Protocol, Vec<u8>) {
    let protocol = Protocol::named(&upgrade.token);
    let (usual_path, fields) = match protocol {
        Protocol::WebSocket => ("/ws", websocket::HANDSHAKE_FIELDS),
        Protocol::Raw(_) => ("/echo", ""),
    };
    let (path, token) = (upgrade.path.as_deref().unwrap_or(usual_path), protocol.token());
    let opening = format!(
        "GET {path} HTTP/1.1\r\nHost: {target}\r\nConnection: Upgrade\r\nUpgrade: {token}\r\n{fields}\r\n"
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
    pub(crate) opening: Vec<u8>,
    /// What is sent on a switched connection: messages of so many bytes, one behind the other.
    sent: Pattern,
    sent_bytes: usize,
    /// What comes back, and its bytes for each message.
    echoed: Pattern,
    pub(crate) echoed_bytes: usize,
    content: OnceLock<Vec<u8>>,
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
                .map(|text| text.into_bytes().into())
                .unwrap_or_default(),
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
        let (sent_bytes, echoed_bytes, sent, echoed) = match protocol {
            Protocol::WebSocket => {
                let messages = Messages::new(bytes);
                let (sent, echoed) = (messages.sent(depth), messages.echoed(depth));
                (messages.sent_bytes, messages.echoed_bytes, sent, echoed)
            }
            Protocol::Raw(_) => {
                (bytes, bytes, Pattern::new(bytes * depth), Pattern::new(bytes * depth))
            }
        };
        Script {
            course,
            depth,
            protocol,
            requests: Vec::new(),
            last: Vec::new(),
            opening: Vec::new(),
            sent,
            sent_bytes,
            echoed,
            echoed_bytes,
            content: OnceLock::new(),
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

    /// Where in what is sent the `number`-th connection begins, and in what comes back. No two
    /// begin at the same place until all places had their turn: an echo that belongs to another is
    /// found out.
    fn start(&self, number: u64) -> (u64, u64) {
        match self.protocol {
            Protocol::WebSocket => {
                (number * self.sent_bytes as u64, number * self.echoed_bytes as u64)
            }
            Protocol::Raw(_) => (number, number),
        }
    }

    /// What comes back on the `number`-th connection begins at this place of the pattern.
    pub(crate) fn echo_start(&self, number: u64) -> u64 {
        self.start(number).1
    }

    /// `count` messages of the `number`-th connection, at most `depth`, of which `said` were sent
    /// before.
    pub(crate) fn messages(&self, number: u64, said: u64, count: usize) -> &[u8] {
        let at = self.start(number).0 + said * self.sent_bytes as u64;
        self.sent.slice(at, self.sent_bytes * count)
    }

    /// What a thread compares with.
    pub(crate) fn reference(&'static self) -> Reference {
        Reference::new(&self.content, &self.echoed, self.echoed_bytes)
    }
}
