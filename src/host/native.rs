//! The native host: the engine turns itself, one `io_uring_enter` a turn. For servers whose
//! handlers are all callbacks.

use std::io;

use crate::engine::{Engine, Turn};
use crate::ring::{Kernel, Wait};

/// Turns the engine until the server has stopped.
///
/// # Errors
/// The kernel refused to go on.
pub fn run<K: Kernel>(engine: &mut Engine<K>) -> io::Result<()> {
    // Sleeping while something is left to do is the engine's to refuse, and it submits before it
    // sleeps.
    while engine.turn(Wait::ForOne)? != Turn::Stopped {}
    Ok(())
}
