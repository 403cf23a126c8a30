//! A seeded, deterministic kernel in virtual time, for tests, fuzzing and benches: the same seed,
//! calls and client acts give the same completions on every machine. It does what io_uring and
//! Linux TCP may do, at the worst moment, and panics when the engine breaks a rule of the seam.
//!
//! ```text
//!   engine ──Kernel──► Simulation ──┐                   ┌── World ◄── test: time, control, accounts
//!                                   ├──► one State ◄────┤
//!                      completions ◄┘                   └── Client ◄── test: write, finish, reset, read
//! ```
//!
//! Nothing here sleeps, and no socket is opened. Files: `state` decides when and what, `connection`
//! knows TCP, `client` is the test's end, `faults` what may go wrong, `random` the only source of
//! chance.

mod client;
mod connection;
mod faults;
mod random;
mod state;
#[cfg(test)]
// In a file of their own, since what they show takes all the files together.
mod tests;

pub use client::{CLIENT_PORT, Client, Ending, World};
pub use faults::{Fault, Faults, SimConfig};
pub use random::Random;

use std::cell::RefCell;
use std::fmt;
use std::io;
use std::rc::Rc;

use super::{
    Accepts, Completion, Handle, Kernel, ListenerId, Manner, Millis, Receipts, Token, Wait,
};
use crate::buffer::{Batch, Pool, Size};
use state::State;

/// The time of day at which every world begins: the example of RFC 9110 §5.6.7, Sun, 06 Nov 1994
/// 08:49:37 GMT.
const UNIX_SECONDS_AT_START: u64 = 784_111_777;

/// The engine's end of a simulated world.
pub struct Simulation {
    state: Rc<RefCell<State>>,
    pool: Pool,
}

impl Simulation {
    /// A world in which chance comes from `seed` alone.
    pub fn new(seed: u64, config: SimConfig) -> Simulation {
        let SimConfig { buffers, buffer_bytes, large_buffers, large_bytes, .. } = config;
        let pool = Pool::with_large(buffers, buffer_bytes, large_buffers, large_bytes);
        Simulation { state: Rc::new(RefCell::new(State::new(seed, config))), pool }
    }

    /// The test's end of it.
    pub fn world(&self) -> World {
        World::new(Rc::clone(&self.state))
    }
}

impl Kernel for Simulation {
    fn now(&self) -> Millis {
        self.state.borrow().now()
    }

    fn unix_seconds(&self) -> u64 {
        UNIX_SECONDS_AT_START + self.now() / 1000
    }

    fn unix_millis(&self) -> u64 {
        UNIX_SECONDS_AT_START * 1000 + self.now()
    }

    fn pool(&self) -> &Pool {
        &self.pool
    }

    fn receivable(&self, size: Size) -> usize {
        self.pool.vacant_of(size) + self.state.borrow().lent(size)
    }

    fn accept(&mut self, listener: ListenerId, accepts: Accepts) {
        self.state.borrow_mut().accept(listener, accepts);
    }

    fn stop_accept(&mut self, listener: ListenerId) {
        self.state.borrow_mut().stop_accept(listener);
    }

    fn has_waiting(&mut self, listener: ListenerId) -> bool {
        self.state.borrow_mut().has_waiting(listener)
    }

    fn close_listener(&mut self, listener: ListenerId) {
        self.state.borrow_mut().close_listener(listener);
    }

    fn receive(&mut self, connection: Token, handle: Handle, receipts: Receipts) {
        self.state.borrow_mut().receive(connection, handle, receipts);
    }

    fn stop_receive(&mut self, connection: Token) {
        self.state.borrow_mut().stop_receive(connection);
    }

    fn watch(&mut self, connection: Token, handle: Handle) {
        self.state.borrow_mut().watch(connection, handle);
    }

    fn stop_watch(&mut self, connection: Token) {
        self.state.borrow_mut().stop_watch(connection);
    }

    fn send(&mut self, connection: Token, handle: Handle, batch: Box<Batch>) {
        self.state.borrow_mut().send(connection, handle, batch);
    }

    fn stop_send(&mut self, connection: Token) {
        self.state.borrow_mut().stop_send(connection);
    }

    fn shutdown(&mut self, connection: Token, handle: Handle) {
        self.state.borrow_mut().shutdown(connection, handle);
    }

    fn close(&mut self, connection: Token, handle: Handle, manner: Manner) {
        self.state.borrow_mut().close(connection, handle, manner);
    }

    fn install(&mut self, connection: Token, handle: Handle) {
        self.state.borrow_mut().install(connection, handle);
    }

    fn identify(&mut self, connection: Token, handle: Handle, _: ListenerId) {
        self.state.borrow_mut().identify(connection, handle);
    }

    fn wake_at(&mut self, when: Millis) {
        self.state.borrow_mut().wake_at(when);
    }

    /// With nothing pending, [`Wait::ForOne`] lets time pass up to the next event; it returns
    /// without a completion when nothing would ever happen by itself.
    fn enter(&mut self, wait: Wait) -> io::Result<()> {
        self.state.borrow_mut().enter(&self.pool, wait);
        Ok(())
    }

    fn complete(&mut self) -> Option<Completion> {
        self.state.borrow_mut().complete()
    }

    fn has_work(&mut self) -> bool {
        !self.state.borrow().is_quiet()
    }

    fn starved(&mut self, size: Size) {
        self.state.borrow_mut().starved(size);
    }
}

impl fmt::Debug for Simulation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Simulation({:?}, {:?})", self.world(), self.pool)
    }
}
