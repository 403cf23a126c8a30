//! A whole server in a simulated world: clients that play scripts, handlers that know what they
//! must be told, and the account of it all at the end. `tests/simulation.rs` lives through many
//! seeds of it.
//!
//! ```text
//!   seed ──► plan (limits, kernel, faults) ──► engine on a watched kernel ◄──► actors, each with its script
//!                                                  │ handlers: players            │ what came back
//!                                                  └──────► stage (promises) ◄────┴──► verdict
//! ```

mod actor;
mod player;
mod script;
mod stage;
mod watched;
mod world;

pub(crate) use world::{Lived, live};
