//! Who is linted: what the operator says of a server. What is found out is in `facts`.

use std::net::SocketAddr;
use std::time::Duration;

/// A server, and where on it to send what.
#[derive(Debug, Clone)]
pub struct Target {
    /// Where it may listen: each is tried, and the first that answers is taken.
    pub addresses: Vec<SocketAddr>,
    /// The host it is asked for.
    pub host: String,
    /// Its own host and port: where a CONNECT asks to be connected to.
    pub authority: String,
    /// A path that answers GET below 400.
    pub path: String,
    /// A path that reads the content of POST and answers below 400. Without one, `path` is tried.
    pub post_path: Option<String>,
    /// Paths that switch protocols. One of a WebSocket and one of another protocol are of use.
    pub upgrades: Vec<Upgrade>,
    /// How long an answer, or the end of a connection, is waited for.
    pub timeout: Duration,
}

/// A path, and the protocol it switches to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upgrade {
    /// Where.
    pub path: String,
    /// To what.
    pub token: String,
}

impl Upgrade {
    /// Whether the protocol is the one whose opening handshake and frames are known.
    pub fn is_websocket(&self) -> bool {
        self.token.eq_ignore_ascii_case("websocket")
    }
}

impl Target {
    /// A server of which nothing is known but that it answers `/`.
    pub fn new(address: SocketAddr) -> Target {
        Target {
            addresses: vec![address],
            host: address.to_string(),
            authority: address.to_string(),
            path: "/".into(),
            post_path: None,
            upgrades: Vec::new(),
            timeout: Duration::from_secs(2),
        }
    }
}
