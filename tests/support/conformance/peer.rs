//! The seam between the runner and a server: [`Target`] opens connections, [`Peer`] is one of them,
//! seen from the client. `tcp` implements both over loopback; a test without a kernel implements
//! them over a session and virtual time.

use super::case::Case;

/// One server under test.
pub trait Target {
    /// For messages.
    fn name(&self) -> &str;

    /// `Err` is the reason to count the case as skipped.
    fn supports(&self, case: &Case) -> Result<(), String>;

    /// The connections from here on are for this case: a target may set up its fixture for it.
    fn prepare(&mut self, case: &Case) {
        let _ = case;
    }

    /// A fresh connection.
    fn connect(&mut self) -> Box<dyn Peer>;

    /// Paths recorded by `/log` and `/evil` since the last call.
    fn routed_log(&mut self) -> Vec<String>;
}

/// The client's end of one connection.
pub trait Peer {
    /// One write. A server that has closed meanwhile is no error: `collect` will tell.
    fn send(&mut self, bytes: &[u8]);

    fn wait_ms(&mut self, ms: u64);

    /// Half-close of the sending side.
    fn finish(&mut self);

    /// Everything received on this connection since it was opened. Reads on as long as `wait`,
    /// asked with all bytes so far, says so. A peer in virtual time may ignore `wait` and run until
    /// nothing is left to do.
    fn collect(&mut self, wait: &dyn Fn(&[u8]) -> Wait) -> Collected;
}

/// How long reading is worth while.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    /// The expectation is not met yet: until the peer loses its patience.
    ForMore,
    /// It is met if nothing else comes: for the short quiet time.
    ForSilence,
    /// It is met, or can no longer be met.
    NoLonger,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Collected {
    pub bytes: Vec<u8>,
    pub ending: Ending,
}

/// The state of the server's sending side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    Open,
    Finished,
    Reset,
}
