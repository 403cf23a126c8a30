//! Handlers that ship with the server. None of them imports another.

pub mod echo;
pub mod tunnel;
pub mod websocket;
