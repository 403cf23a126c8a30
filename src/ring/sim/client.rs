//! The other end of the wire, driven by a test: [`World`] is everything the server cannot see,
//! [`Client`] is one peer of it. Nothing here reaches the engine but through completions of the
//! simulated kernel.

use std::cell::{Ref, RefCell, RefMut};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::Rc;

use super::super::{ListenerId, Millis};
use super::Fault;
use super::state::State;
use crate::buffer::Size;

/// The port that every simulated client connects from: one of those for it (RFC 6335 §6).
pub const CLIENT_PORT: u16 = 50_000;

/// The world around one simulated kernel. Cloning gives another handle on the same world.
#[derive(Clone)]
pub struct World {
    state: Rc<RefCell<State>>,
}

impl World {
    pub(super) fn new(state: Rc<RefCell<State>>) -> World {
        World { state }
    }

    /// A client connects; it waits in the listen queue until it is accepted, and may write before
    /// that.
    pub fn connect(&self, listener: ListenerId) -> Client {
        self.connect_from(listener, IpAddr::V4(Ipv4Addr::LOCALHOST))
    }

    /// As [`connect`](World::connect), from this address, and [`CLIENT_PORT`].
    pub fn connect_from(&self, listener: ListenerId, address: IpAddr) -> Client {
        let address = SocketAddr::new(address, CLIENT_PORT);
        let index = self.state.borrow_mut().connect(listener, address);
        Client { state: Rc::clone(&self.state), index }
    }

    /// Another thread speaks: the engine gets a
    /// [`Completion::Control`](super::super::Completion::Control).
    pub fn control(&self) {
        self.state.borrow_mut().control();
    }

    /// Milliseconds since the world began.
    pub fn now(&self) -> Millis {
        self.state.borrow().now()
    }

    /// Lets time pass. What falls due by it completes with the engine's next `enter`.
    pub fn advance(&self, millis: Millis) {
        self.state.borrow_mut().advance(millis);
    }

    /// Whether nothing is left to complete at this time.
    pub fn is_quiet(&self) -> bool {
        self.state.borrow().is_quiet()
    }

    /// When the next thing happens by itself: now or before, if something waits; `None`, if nothing
    /// ever does.
    pub fn next_event_at(&self) -> Option<Millis> {
        self.state.borrow().next_event_at()
    }

    /// Connections in the descriptor table: accepted and not closed.
    pub fn open_handles(&self) -> usize {
        self.state.borrow().open_handles()
    }

    /// Operations on connections whose final completion the engine has not taken. Accepts do not
    /// count: they never have to end.
    pub fn in_flight(&self) -> usize {
        self.state.borrow().in_flight()
    }

    /// Buffers lent to receives. When nothing holds a lease, these and the pool's vacant ones are
    /// all.
    pub fn lent(&self) -> usize {
        self.state.borrow().lent(Size::Usual)
    }

    /// How often a fault has happened.
    pub fn injected(&self, fault: Fault) -> u64 {
        self.state.borrow().injected(fault)
    }
}

impl fmt::Debug for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "World(at {} ms, next at {:?})", self.now(), self.next_event_at())
    }
}

/// What a client has seen of the server's end. Bytes that came before it may still have to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// The server has ended its direction: FIN.
    Finished,
    /// The connection was reset; bytes not read by then are lost.
    Reset,
}

/// A peer. Dropping the value does nothing to the connection; cloning gives another handle on it.
#[derive(Clone)]
pub struct Client {
    state: Rc<RefCell<State>>,
    index: usize,
}

impl Client {
    /// Writes bytes, which the server receives in order, cut by chance and joined with those before
    /// and behind. On a connection that was reset they vanish; if the server has closed they cause
    /// a reset.
    ///
    /// # Panics
    /// After [`finish`](Client::finish): a script that writes behind its own end is wrong.
    pub fn write(&self, bytes: &[u8]) {
        self.state_mut().act(self.index, |connection| connection.write(bytes, false));
    }

    /// Writes bytes as a segment that is neither cut nor joined: one receive brings them, if they
    /// fit a buffer.
    ///
    /// # Panics
    /// As [`write`](Client::write).
    pub fn write_exactly(&self, bytes: &[u8]) {
        self.state_mut().act(self.index, |connection| connection.write(bytes, true));
    }

    /// Ends this direction: FIN behind everything written. The other direction goes on.
    pub fn finish(&self) {
        self.state_mut().act(self.index, |connection| connection.finish_by_client());
    }

    /// Closes both directions: FIN, or a reset if something sent was left unread or is sent later.
    pub fn close(&self) {
        self.state_mut().act(self.index, |connection| connection.close_by_client());
    }

    /// Resets the connection. What was written before can still be received, as on Linux; behind it
    /// the first operation to notice gets `ECONNRESET`, later receives an end of input, later sends
    /// `EPIPE`.
    pub fn reset(&self) {
        self.state_mut().act(self.index, |connection| connection.reset_the_server());
    }

    /// Takes everything that has arrived.
    pub fn read(&self) -> Vec<u8> {
        self.read_slowly(usize::MAX)
    }

    /// Takes at most `bytes_max` of what has arrived, so that the window opens by as much.
    pub fn read_slowly(&self, bytes_max: usize) -> Vec<u8> {
        self.state_mut().act(self.index, |connection| {
            if bytes_max >= connection.arrived.len() {
                return std::mem::take(&mut connection.arrived);
            }
            connection.arrived.drain(..bytes_max).collect()
        })
    }

    /// Sets how many bytes this client takes without reading them: 0 lets every send wait.
    pub fn set_window(&self, bytes: usize) {
        self.state_mut().act(self.index, |connection| connection.window_bytes = bytes);
    }

    /// Bytes that have arrived and were not read.
    pub fn arrived(&self) -> usize {
        self.state_ref().connection(self.index).arrived.len()
    }

    /// Bytes this client wrote that the server has not received: what backpressure leaves in the
    /// kernel.
    pub fn unread(&self) -> usize {
        self.state_ref().connection(self.index).unread()
    }

    /// How the server's end has ended, if it has.
    pub fn ending(&self) -> Option<Ending> {
        self.state_ref().connection(self.index).ending
    }

    /// Whether the server holds this connection: accepted and not closed.
    pub fn is_open(&self) -> bool {
        self.state_ref().connection(self.index).handle.is_some()
    }

    fn state_ref(&self) -> Ref<'_, State> {
        self.state.borrow()
    }

    fn state_mut(&self) -> RefMut<'_, State> {
        self.state.borrow_mut()
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Client {} ({} arrived, {:?})", self.index, self.arrived(), self.ending())
    }
}
