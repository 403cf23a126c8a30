//! What a server has at its paths: resources, each with its answers over HTTP and the protocols it
//! can be switched to.
//!
//! The session finds the resource of a request in the [`Registry`] and has it answer; a handler sees
//! the request, its content and a [`Reply`], and knows no connection.

mod answer;
mod asynchronous;
mod outgoing;
mod redirect;
mod registry;
mod routes;
mod streaming;
mod to_response;

pub use answer::{Answer, Reply, ReplyState, Takes, from_head, streamed};
pub(crate) use asynchronous::begin;
pub use asynchronous::{Content, ContentError, ContentSender, Responder, asynchronous, streaming};
pub(crate) use outgoing::Outgoing;
pub use redirect::{Redirect, RedirectError};
pub use registry::{Registry, Resource};
pub use routes::{Match, RouteError, RouteFault};
pub use streaming::{StreamIo, Streaming};
pub use to_response::{ToResponse, returning};
