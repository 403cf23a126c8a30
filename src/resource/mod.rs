//! What a server has at its paths: resources, each with its answers over HTTP and the protocols it
//! can be switched to.
//!
//! The session finds the resource of a request in the [`Registry`] and has it answer; a handler sees
//! the request, its content and a [`Reply`], and knows no connection.

mod answer;
mod registry;

pub use answer::{Answer, Reply, ReplyState};
pub use registry::{Registry, Resource};
