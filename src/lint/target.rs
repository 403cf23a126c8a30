//! Who is linted, and what is known of it.

use std::net::SocketAddr;
use std::time::Duration;

/// A server, and where on it to send what.
#[derive(Debug, Clone)]
pub struct Target {
    /// Where it listens.
    pub address: SocketAddr,
    /// The host it is asked for.
    pub host: String,
    /// A path that answers GET below 400.
    pub path: String,
    /// A path that reads the content of POST and answers below 400, if there is one.
    pub post_path: Option<String>,
    /// A path that switches protocols, if there is one.
    pub upgrade_path: Option<String>,
    /// The protocol it switches to.
    pub token: String,
    /// How long an answer, or the end of a connection, is waited for.
    pub timeout: Duration,
}

impl Target {
    /// A server of which nothing is known but that it answers `/`.
    pub fn new(address: SocketAddr) -> Target {
        Target {
            address,
            host: address.to_string(),
            path: "/".into(),
            post_path: None,
            upgrade_path: None,
            token: "websocket".into(),
            timeout: Duration::from_secs(2),
        }
    }

    /// Whether the protocol is the one whose opening handshake is known.
    pub fn is_websocket(&self) -> bool {
        self.token.eq_ignore_ascii_case("websocket")
    }
}
