//! What is said on the connections of a run: made once, before the first of them is opened, and
//! kept for as long as the program runs.

use std::net::SocketAddr;

use crate::expect::{Pattern, Reference};
use crate::options::{Echo, Http, Idle, Mode, Switch};
use crate::websocket::{self, Messages};

/// What a 101 has to name.
#[derive(Clone, Debug, PartialEq, Eq)]
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

    /// Where upring's own server has it.
    pub(crate) fn usual_path(&self) -> &'static str {
        match self {
            Protocol::WebSocket => "/ws",
            Protocol::Raw(_) => "/echo",
        }
    }

    /// The request to switch.
    pub(crate) fn opening(&self, path: &str, target: SocketAddr) -> Vec<u8> {
        let fields = match self {
            Protocol::WebSocket => websocket::HANDSHAKE_FIELDS,
            Protocol::Raw(_) => "",
        };
        let token = self.token();
        format!(
            "GET {path} HTTP/1.1\r\nHost: {target}\r\nConnection: Upgrade\r\nUpgrade: {token}\r\n{fields}\r\n"
        )
        .into_bytes()
    }
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
    /// `depth` requests; the last on a connection; one to switch, with what is sent behind it at once.
    requests: Vec<u8>,
    last: Vec<u8>,
    pub(crate) opening: Vec<u8>,
    /// What is sent on a switched connection: messages of so many bytes, one behind the other.
    sent: Pattern,
    sent_bytes: usize,
    /// What comes back, and its bytes for each message.
    echoed: Pattern,
    pub(crate) echoed_bytes: usize,
    content: Option<Vec<u8>>,
}

impl Script {
    /// What is said in a mode that consists of rounds.
    pub(crate) fn of(mode: &Mode) -> Script {
        match mode {
            Mode::Http(http) => Script::http(http, http.common.target),
            Mode::Switch(switch) => Script::switch(switch, switch.common.target),
            Mode::Echo(echo) => Script::echo(echo, echo.common.target),
            Mode::Idle(idle) => Script::idle(idle, idle.common.target),
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
            content: options.content.clone().map(String::into_bytes),
            ..Script::switched(Course::Messages, Protocol::named("-"), 1, 1)
        }
    }

    fn echo(options: &Echo, target: SocketAddr) -> Script {
        let protocol = Protocol::named(&options.token);
        let path = options.path.as_deref().unwrap_or(protocol.usual_path());
        Script {
            opening: protocol.opening(path, target),
            ..Script::switched(Course::Messages, protocol, options.bytes, options.depth)
        }
    }

    fn idle(options: &Idle, target: SocketAddr) -> Script {
        const BYTES: usize = 16;
        let protocol = Protocol::named(&options.token);
        let path = options.path.as_deref().unwrap_or(protocol.usual_path());
        Script {
            opening: protocol.opening(path, target),
            ..Script::switched(Course::Messages, protocol, BYTES, 1)
        }
    }

    fn switch(options: &Switch, target: SocketAddr) -> Script {
        let protocol = Protocol::named(&options.token);
        let path = options.path.as_deref().unwrap_or(protocol.usual_path());
        let mut opening = protocol.opening(path, target);
        let course = Course::Once { is_late: options.late };
        let mut script = Script::switched(course, protocol, options.bytes, 1);
        if !options.late {
            opening.extend_from_slice(script.messages(0, 1));
        }
        script.opening = opening;
        script
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
            content: None,
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

    /// `count` messages, at most `depth`, of which `number` were sent before.
    pub(crate) fn messages(&self, number: u64, count: usize) -> &[u8] {
        self.sent.slice(number * self.sent_bytes as u64, self.sent_bytes * count)
    }

    /// What a thread compares with.
    pub(crate) fn reference(&'static self) -> Reference {
        Reference::new(self.content.clone(), &self.echoed, self.echoed_bytes)
    }
}
