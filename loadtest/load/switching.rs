//! The 101 that a connection must get, to the protocol it asked for and to its key. Called by
//! `expect.rs`.

use httparse::Response;

use crate::answers::{FIELDS_MAX, elements, fields, has_option, read_head};
use crate::fault::Fault;
use crate::script::Protocol;

/// What was asked for.
pub(crate) struct Offer {
    pub(crate) protocol: &'static Protocol,
    /// What Sec-WebSocket-Accept has to be; nothing on other protocols.
    pub(crate) accept: String,
}

/// What came of an answer to it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Reply {
    Cut,
    /// So many bytes in front of it, which may be passed over (RFC 9110 §15.2).
    Interim(usize),
    /// The 101, of so many bytes.
    Switched(usize),
}

impl Offer {
    /// Reads a 101 that switches to what was asked for (RFC 9110 §7.8, §8.6; RFC 6455 §4.1).
    pub(crate) fn read(&self, bytes: &[u8]) -> Result<Reply, Fault> {
        let mut fields = [httparse::EMPTY_HEADER; FIELDS_MAX];
        let mut response = Response::new(&mut fields);
        let Some(bytes) = read_head(&mut response, bytes)? else {
            return Ok(Reply::Cut);
        };
        match response.code {
            Some(101) => self.check(&response).map(|()| Reply::Switched(bytes)),
            Some(100 | 102..=199) => Ok(Reply::Interim(bytes)),
            status => Err(Fault::Status(status.unwrap_or_default())),
        }
    }

    fn check(&self, response: &Response<'_, '_>) -> Result<(), Fault> {
        let has = |name| fields(response, name).next().is_some();
        if response.version != Some(1) {
            return Err(Fault::Version);
        }
        if !has_option(response, b"upgrade") {
            return Err(Fault::Option);
        }
        // One protocol was offered, and what is switched to has to be of that (RFC 9110 §7.8).
        let mut tokens = elements(response, "upgrade");
        let token = self.protocol.token().as_bytes();
        if !tokens.next().is_some_and(|found| found.eq_ignore_ascii_case(token))
            || tokens.next().is_some()
        {
            return Err(Fault::Token);
        }
        if has("content-length") || has("transfer-encoding") {
            return Err(Fault::Framed);
        }
        if *self.protocol == Protocol::WebSocket {
            let mut accepts = fields(response, "sec-websocket-accept");
            if accepts.next() != Some(self.accept.as_bytes()) || accepts.next().is_some() {
                return Err(Fault::Accept);
            }
            if has("sec-websocket-extensions") || has("sec-websocket-protocol") {
                return Err(Fault::Unasked);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(protocol: Protocol, head: &str) -> Result<Reply, Fault> {
        let accept = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=".to_owned();
        let offer = Offer { protocol: Box::leak(Box::new(protocol)), accept };
        offer.read(format!("{head}\r\n\r\n").as_bytes())
    }

    fn raw(fields: &str) -> Result<Reply, Fault> {
        reply(Protocol::named("echo"), &format!("HTTP/1.1 101 \r\n{fields}"))
    }

    #[test]
    fn a_101_that_is_not_quite_one_is_a_fault() {
        let right = raw("Connection: x\r\nConnection: y, UPGRADE\r\nUpgrade: Echo");
        assert!(matches!(right, Ok(Reply::Switched(_))));
        assert!(matches!(raw("Upgrade: echo"), Err(Fault::Option)));
        assert!(matches!(raw("Connection: Upgrade"), Err(Fault::Token)));
        for more in ["Upgrade: echo\r\nUpgrade: other", "Upgrade: echo, other", "Upgrade: other"] {
            let found = raw(&format!("Connection: Upgrade\r\n{more}"));
            assert!(matches!(found, Err(Fault::Token)), "{more}");
        }
        let framed = raw("Connection: Upgrade\r\nUpgrade: echo\r\nContent-Length: 5");
        assert!(matches!(framed, Err(Fault::Framed)));
        let old = "HTTP/1.0 101 \r\nConnection: Upgrade\r\nUpgrade: echo";
        assert!(matches!(reply(Protocol::named("echo"), old), Err(Fault::Version)));
    }

    #[test]
    fn a_101_to_websocket_has_the_answer_to_the_key_and_nothing_else() {
        let websocket = |accept: &str| {
            let fields = "Connection: Upgrade\r\nUpgrade: WebSocket\r\nSec-WebSocket-Accept: ";
            reply(Protocol::WebSocket, &format!("HTTP/1.1 101 \r\n{fields}{accept}"))
        };
        let accept = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";
        assert!(matches!(websocket(accept), Ok(Reply::Switched(_))));
        assert!(matches!(websocket("wrong"), Err(Fault::Accept)));
        for other in [accept, "other"] {
            let twice = websocket(&format!("{accept}\r\nSec-WebSocket-Accept: {other}"));
            assert!(matches!(twice, Err(Fault::Accept)), "{other}");
        }
        for unasked in ["Extensions: permessage-deflate", "Protocol: chat"] {
            let found = websocket(&format!("{accept}\r\nSec-WebSocket-{unasked}"));
            assert!(matches!(found, Err(Fault::Unasked)), "{unasked}");
        }
    }

    #[test]
    fn what_comes_in_front_of_the_101_is_passed_over() {
        let reply = |head| reply(Protocol::named("echo"), head);
        assert_eq!(reply("HTTP/1.1 103 Early Hints\r\nLink: </a>").expect("right"), {
            Reply::Interim("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n".len())
        });
        assert!(matches!(reply("HTTP/1.1 200 OK"), Err(Fault::Status(200))));
    }
}
