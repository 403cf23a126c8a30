//! **upring**: a thread-per-core io_uring server for Linux edge hosts that answers HTTP/1.1 on a fast path and makes
//! the Upgrade first-class. A client asks to change protocols (RFC 9110 §7.8); upring negotiates,
//! answers 101 and hands the *same* connection, with the bytes already received, uncopied, to a
//! protocol handler in the same process.
//!
//! What a server with handlers of its own needs is named here at the root; the modules below hold
//! the rest.

pub mod access;
pub mod admin;
pub mod backend;
pub mod buffer;
pub mod config;
pub mod counters;
pub mod engine;
pub mod files;
pub mod host;
pub mod http;
pub mod lint;
pub mod metrics;
pub mod preface;
pub mod privilege;
pub mod protocols;
pub mod proxy;
pub mod resource;
pub mod ring;
pub mod scan;
pub mod server;
pub mod session;
pub mod site;
pub mod tls;
pub mod upgrade;

pub use backend::{Backend, BackendAddressError, Forwarded, SettingError, Terms};
pub use buffer::{Lease, LeaseQueue, Payload};
pub use config::{AccessFormat, AccessLog, AccessTarget};
pub use config::{Config, HostKind, Limits, ListenAddress, Listener, ProxyProtocol};
pub use http::{Fields, Method, OwnedRequest, Ready, Request, Response, Status, Trailers};
pub use metrics::Metrics;
pub use protocols::tunnel::{Tunnel, TunnelSettings};
pub use protocols::websocket;
pub use proxy::{Proxy, ProxySettings};
pub use resource::{
    Answer, Content, ContentError, ContentSender, Redirect, Reply, Resource, Responder, StreamIo,
    Streaming, ToResponse, asynchronous, from_head, returning, streamed, streaming,
};
pub use server::{Reloader, Running, Server, ServerError, Stopper};
pub use upgrade::asynchronous::{Closed, Upgraded, UpgradedStream};
pub use upgrade::{
    CloseReason, ConnectionWaker, Decision, Handler, Io, Opening, Promise, Protocol, Switch,
};
