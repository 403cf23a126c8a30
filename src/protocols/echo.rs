//! `echo`: every byte comes back, sent from the buffer it was received in. The smallest handler
//! there is.

use crate::buffer::Lease;
use crate::upgrade::{Handler, Io, Protocol};

/// Returns every byte; when the peer ends its direction, ends ours behind the last byte.
#[derive(Debug, Default, Clone, Copy)]
pub struct Echo;

impl Handler for Echo {
    fn on_bytes(&mut self, bytes: Lease, io: &mut Io<'_>) {
        io.send(bytes);
    }

    fn on_end(&mut self, io: &mut Io<'_>) {
        io.end();
    }
}

/// The protocol `echo`, as the server registers it.
pub fn protocol() -> Protocol {
    Protocol::callback("echo", |_| Echo)
}
