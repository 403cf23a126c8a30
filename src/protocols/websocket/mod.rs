//! `websocket`: RFC 6455 whole, with permessage-deflate (RFC 7692), publish and subscribe.
//!
//! ```text
//!   handshake ──► Connection (a callback handler) ──► Reader: leases to messages ──► Endpoint::on_message
//!                        │                                                               │
//!                        └── Pongs, Close, pings, times                  Socket::send ◄──┘
//! ```
//!
//! A message that came whole lies where the kernel wrote it, is unmasked there, and is sent from there
//! if it is sent back: a server's header is shorter than a client's and goes before the payload where
//! that was. Only what comes in pieces is copied. Between messages a connection owns no buffer.

// Nothing a peer sends may end in a panic: what could is refused here, and each exception says why it cannot.
#![cfg_attr(
    not(test),
    deny(
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic,
        clippy::string_slice,
        clippy::unreachable,
        clippy::unwrap_used
    )
)]

mod asynchronous;
mod connection;
mod deflate;
mod endpoint;
mod extension;
mod frame;
mod handshake;
mod mask;
mod message;
mod reader;
mod service;
mod settings;
mod socket;
#[cfg(test)]
// In a file of their own: they show what the files do together.
mod tests;
mod topics;
mod utf8;

pub use asynchronous::{
    AsyncSocket, Disconnected, MessageReceiver, MessageSender, Missed, SendError,
};
pub use endpoint::{Close, ClosedBy, Endpoint};
pub use frame::{CloseCode, Fault};
pub use handshake::Origins;
pub use mask::unmask;
pub use message::{Binary, Message, Text};
#[doc(hidden)]
pub use reader::read_messages;
pub use settings::{Compression, Context, WebSocketLimits};
pub use socket::{Sent, Socket};
pub use topics::{SubscribeError, TopicLimits, Topics, WhenSlow};

use std::future::Future;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use crate::config::{Millis, NEVER};
use crate::http::{OwnedRequest, Response};
use crate::upgrade::{Decision, Opening, Protocol, Switch};
use connection::Connection;
use deflate::Deflate;
use handshake::Accepted;
use service::{Local, Service};

/// A WebSocket service, to be registered at a resource:
///
/// ```
/// use upring::websocket::{Endpoint, Message, Socket, WebSocket};
/// use upring::Resource;
///
/// struct Echo;
///
/// impl Endpoint for Echo {
///     fn on_message(&mut self, message: Message, socket: &mut Socket<'_>) {
///         socket.send(message);
///     }
/// }
///
/// let resource = Resource::new().upgrade(WebSocket::new().endpoint(|_| Echo));
/// ```
#[derive(Debug, Default)]
pub struct WebSocket {
    service: Service,
    authorize: Option<Authorize>,
}

type Judge = dyn Fn(&Opening<'_>) -> Result<(), Response> + Send + Sync;

struct Authorize(Box<Judge>);

impl std::fmt::Debug for Authorize {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Authorize")
    }
}

impl WebSocket {
    /// A service with default limits, for pages of any origin, without sub-protocols or compression.
    pub fn new() -> WebSocket {
        WebSocket::default()
    }

    /// Sub-protocols it speaks, best first: the first of them that a client offers is answered.
    ///
    /// # Panics
    /// If one is no token.
    #[must_use]
    pub fn subprotocols<'a>(mut self, names: impl IntoIterator<Item = &'a str>) -> WebSocket {
        self.service.terms.subprotocols = names
            .into_iter()
            .inspect(|name| {
                assert!(crate::http::list::is_token(name.as_bytes()), "a sub-protocol is a token");
            })
            .map(Box::from)
            .collect();
        self
    }

    /// Which pages may open connections; others are refused with 403.
    #[must_use]
    pub fn origins(mut self, origins: Origins) -> WebSocket {
        self.service.terms.origins = origins;
        self
    }

    /// Compresses messages of clients that offer it. Off by default: it costs time and, with a
    /// dedicated context, memory for each connection.
    ///
    /// # Panics
    /// If a window has not 9 to 15 bits, or the level is above 9.
    #[must_use]
    pub fn compression(mut self, compression: Compression) -> WebSocket {
        let fault = compression.fault();
        assert!(fault.is_none(), "{}", fault.unwrap_or_default());
        self.service.terms.compression = Some(compression);
        self
    }

    /// Bounds other than the default ones.
    #[must_use]
    pub fn limits(mut self, limits: WebSocketLimits) -> WebSocket {
        self.service.limits = limits;
        self
    }

    /// Uses these topics, which others may use as well, instead of topics of its own.
    #[must_use]
    pub fn topics(mut self, topics: &Topics) -> WebSocket {
        self.service.topics = topics.clone();
        self
    }

    /// Asks `authorize` about each opening handshake, once it is known to be valid: an error is the
    /// answer, with whatever status and fields, and the connection goes on as HTTP.
    #[must_use]
    pub fn authorize(
        mut self,
        authorize: impl Fn(&Opening<'_>) -> Result<(), Response> + Send + Sync + 'static,
    ) -> WebSocket {
        self.authorize = Some(Authorize(Box::new(authorize)));
        self
    }

    /// The protocol `websocket`, with an endpoint that `make` makes for each connection. One that has
    /// to know its sub-protocol is made by [`WebSocket::decide`]:
    ///
    /// ```
    /// use upring::websocket::{Endpoint, Message, Socket, WebSocket};
    ///
    /// struct Chat {
    ///     is_binary: bool,
    /// }
    /// # impl Endpoint for Chat {
    /// #     fn on_message(&mut self, _: Message, _: &mut Socket<'_>) {
    /// #         let _ = self.is_binary;
    /// #     }
    /// # }
    ///
    /// let chat = WebSocket::new().subprotocols(["chat.v2", "chat.v1"]).decide(|_, handshake| {
    ///     let is_binary = handshake.subprotocol() == Some("chat.v2");
    ///     handshake.accept(Chat { is_binary }).into()
    /// });
    /// # let _ = chat;
    /// ```
    pub fn endpoint<E: Endpoint>(
        self,
        make: impl Fn(&Opening<'_>) -> E + Send + Sync + 'static,
    ) -> Protocol {
        self.decide(move |opening, handshake| handshake.accept(make(opening)).into())
    }

    /// The protocol `websocket`, with a future for each connection, which runs on its core's
    /// tokio-uring runtime. Needs the hosted mode.
    ///
    /// ```
    /// use upring::OwnedRequest;
    /// use upring::websocket::{AsyncSocket, WebSocket};
    ///
    /// let echo = WebSocket::new().asynchronous(async |_: OwnedRequest, mut socket: AsyncSocket| {
    ///     while let Ok(Some(message)) = socket.recv().await {
    ///         if socket.send(message).await.is_err() {
    ///             break;
    ///         }
    ///     }
    /// });
    /// # let _ = echo;
    /// ```
    pub fn asynchronous<F, Task>(self, run: F) -> Protocol
    where
        F: Fn(OwnedRequest, AsyncSocket) -> Task + Send + Sync + 'static,
        Task: Future<Output = ()> + 'static,
    {
        let decide = move |opening: &Opening<'_>, handshake: Handshake| {
            let request = opening.request().into_owned();
            handshake.accept_async(|socket| run(request, socket)).into()
        };
        self.decide(decide).needs_runtime()
    }

    /// The protocol `websocket`, with `decide` to have the last word on each valid opening handshake:
    /// at once, or [later](Opening::later).
    pub fn decide(
        self,
        decide: impl Fn(&Opening<'_>, Handshake) -> Decision + Send + Sync + 'static,
    ) -> Protocol {
        let WebSocket { service, authorize } = self;
        let service = Arc::new(service);
        let decide = move |opening: &Opening<'_>| {
            let accepted = match handshake::look_at(opening.request(), &service.terms) {
                Ok(accepted) => accepted,
                Err(refusal) => return refusal,
            };
            if let Some(Authorize(authorize)) = &authorize
                && let Err(response) = authorize(opening)
            {
                return Decision::Answer(response);
            }
            let local = Local::of(&service, opening.mailbox);
            decide(opening, Handshake { local, accepted })
        };
        // RFC 6455 §4.2.1: a GET without content. Its bytes follow the 101 (U-25).
        Protocol::new("websocket", decide).exacting().forbid_early_data()
    }
}

/// A valid opening handshake, to be accepted or not.
#[derive(Debug)]
pub struct Handshake {
    local: Rc<Local>,
    accepted: Accepted,
}

impl Handshake {
    /// The sub-protocol that was chosen.
    pub fn subprotocol(&self) -> Option<&str> {
        self.local.service.terms.subprotocol(self.accepted.subprotocol)
    }

    /// Switches to the future that `run` makes; it begins when the connection is switched. The protocol
    /// has to say that it [needs a runtime](Protocol::needs_runtime).
    pub fn accept_async<Task>(self, run: impl FnOnce(AsyncSocket) -> Task) -> Switch
    where
        Task: Future<Output = ()> + 'static,
    {
        let (local, subprotocol) = (Rc::clone(&self.local), self.accepted.subprotocol);
        self.accept(asynchronous::endpoint(local, subprotocol, run))
    }

    /// Switches to `endpoint`.
    pub fn accept(self, endpoint: impl Endpoint) -> Switch {
        let Handshake { local, accepted } = self;
        let deflate = accepted.deflate.map(|agreed| Box::new(Deflate::new(agreed)));
        let handler = Box::new(Connection::new(local, deflate, endpoint));
        Switch { handler, fields: accepted.fields }
    }
}

/// A time as the core's clock has it.
fn millis(duration: Duration) -> Millis {
    Millis::try_from(duration.as_millis()).unwrap_or(NEVER)
}
