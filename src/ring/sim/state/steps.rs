//! One step of each operation: what it does to its connection, what it says, and what goes wrong
//! with it. Called when the step falls due; schedules the next one if the operation goes on.

use std::fs::File;
use std::os::fd::OwnedFd;

use super::super::Fault;
use super::super::connection::{Outgoing, Peer, Receiving, Sending, Watching};
use super::{Accepting, State, Step};
use crate::buffer::{Lease, Size};
use crate::ring::{Completion, Errno, Handle, ListenerId, Manner, Receipts, Token};

/// One cut in this many is a short one, of at most so many bytes: heads break in their first bytes,
/// too.
const SHORT_CUT_EVERY: u64 = 4;
const SHORT_CUT_BYTES: usize = 4;

/// What an operation reports: the result, and whether it goes on.
type Outcome<T> = (Result<T, Errno>, bool);

enum SendOutcome {
    Waits,
    Ends,
    Fails(Errno),
}

impl State {
    pub(super) fn take(&mut self, step: Step) {
        match step {
            Step::Accept(listener) => self.step_accept(listener),
            Step::Receive(index) => self.step_receive(index),
            Step::Send(index) => self.step_send(index),
            Step::ShutDown(index) => {
                self.connections[index].shut();
                self.completed.push_back(Completion::ShutDown { connection: self.token(index) });
            }
            Step::Install(index) => self.step_install(index),
            Step::Identify(index) => self.step_identify(index),
            Step::Watch(index) => self.step_watch(index),
            Step::Close(index) => self.step_close(index),
            Step::Control => self.completed.push_back(Completion::Control),
        }
    }

    fn token(&self, index: usize) -> Token {
        self.connections[index].token.expect("an operation has bound its connection")
    }

    fn step_accept(&mut self, index: usize) {
        let Accepting::Armed { due, left, stopping } = &mut self.listeners[index].accepting else {
            return;
        };
        *due = false;
        let (left, stopping) = (*left, *stopping);
        // One of few is tried as it is asked for: a stop that was asked for behind it finds it done.
        let is_tried = left.is_some() && !self.listeners[index].queue.is_empty();
        let is_canceled = stopping && !is_tried;
        let Some((result, more)) = self.accept_outcome(index, is_canceled) else { return };
        // Each of few ends for itself: others may follow an error.
        let left = left.map(|left| left - 1);
        let more = left.map_or(more, |left| left > 0);
        self.listeners[index].accepting = Accepting::Armed { due: false, left, stopping };
        if !more {
            self.listeners[index].accepting = Accepting::Posted;
        } else if stopping || !self.listeners[index].queue.is_empty() {
            self.nudge_accept(index);
        }
        let listener =
            ListenerId(u16::try_from(index).expect("a listener is named by sixteen bits"));
        self.completed.push_back(Completion::Accepted { listener, result, more });
    }

    /// What an accept says now; `None` while nobody connects. Any error ends it, as on Linux.
    fn accept_outcome(&mut self, index: usize, is_canceled: bool) -> Option<Outcome<Handle>> {
        if is_canceled {
            return Some((Err(Errno::CANCELED), false));
        }
        if self.listeners[index].queue.is_empty() {
            return None;
        }
        if self.strikes(Fault::AcceptCanceled) {
            return Some((Err(Errno::CANCELED), false));
        }
        if self.random.chance(self.config.faults.accept_errors) {
            let (fault, errno) = [
                (Fault::AcceptEmfile, libc::EMFILE),
                (Fault::AcceptEnfile, libc::ENFILE),
                (Fault::AcceptEnomem, libc::ENOMEM),
                (Fault::AcceptAborted, libc::ECONNABORTED),
            ][self.random.index(4)];
            self.count(fault);
            return Some((Err(Errno(errno)), false));
        }
        let client = self.listeners[index].queue.pop_front()?;
        if self.open == self.config.descriptors_max {
            // Linux has taken the connection from the queue when it finds no slot for it, and drops
            // it.
            self.count(Fault::TableFull);
            self.connections[client].close_by_server(Manner::Close);
            return Some((Err(Errno(libc::ENFILE)), false));
        }
        let handle = self.open_handle(client);
        Some((Ok(handle), !self.strikes(Fault::AcceptEnds)))
    }

    fn open_handle(&mut self, index: usize) -> Handle {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.table.push(None);
            u32::try_from(self.table.len() - 1).expect("handles are 32 bits")
        });
        self.table[slot as usize] = Some(index);
        self.connections[index].handle = Some(Handle(slot));
        self.open += 1;
        Handle(slot)
    }

    fn step_receive(&mut self, index: usize) {
        let Receiving::Armed { receipts, stopping, due } = &mut self.connections[index].receiving
        else {
            unreachable!("a step is scheduled only while its receive is armed");
        };
        *due = false;
        let (stopping, is_last) = (*stopping, *receipts != Receipts::Many);
        let size = receipts.size();
        let outcome = self.receive_outcome(index, size, stopping);
        if self.is_reset(index) {
            // A send that waits for room hears of it, and a watch, too.
            self.nudge_send(index);
            self.nudge_watch(index);
        }
        let Some((result, more)) = outcome else { return };
        let more = more && !is_last;
        if !more {
            self.connections[index].receiving = Receiving::Posted;
        } else if stopping || self.connections[index].is_readable() {
            self.nudge_receive(index);
        }
        self.completed.push_back(Completion::Received {
            connection: self.token(index),
            result,
            more,
        });
    }

    /// What a receive says now; `None` while the peer is silent.
    fn receive_outcome(
        &mut self,
        index: usize,
        size: Size,
        stopping: bool,
    ) -> Option<Outcome<Option<Lease>>> {
        // The kernel takes a buffer before it looks for bytes, an end or an error.
        if self.lent(size) == 0 {
            self.count(Fault::NoBuffers);
            return Some((Err(Errno::NOBUFS), false));
        }
        if self.strikes(Fault::NoBuffersSpurious) {
            return Some((Err(Errno::NOBUFS), false));
        }
        if !stopping && self.strikes(Fault::ReceiveCanceled) {
            return Some((Err(Errno::CANCELED), false));
        }
        self.maybe_reset_by_peer(index);
        if stopping && (!self.connections[index].is_readable() || self.random.chance(0.5)) {
            return Some((Err(Errno::CANCELED), false));
        }
        if self.connections[index].unread() > 0 {
            let lease = self.receive_bytes(index, size);
            return Some((Ok(Some(lease)), stopping || !self.strikes(Fault::ReceiveEnds)));
        }
        self.connections[index].take_end().map(|end| (end.map(|()| None), false))
    }

    fn receive_bytes(&mut self, index: usize, size: Size) -> Lease {
        let buffer_bytes = match size {
            Size::Usual => self.config.buffer_bytes as usize,
            Size::Large => self.config.large_bytes as usize,
        };
        let (bytes, exact) = self.connections[index].next_inbound();
        let mut count = bytes.len().min(buffer_bytes);
        if !exact && count > 1 && self.strikes(Fault::PartialReceive) {
            count = self.cut(count);
        }
        let vacant = self.lent_of(size).pop().expect("the receive has looked for a buffer");
        let connection = &mut self.connections[index];
        let lease = vacant.fill(&connection.next_inbound().0[..count]);
        connection.take_inbound(count);
        lease
    }

    /// Fewer than `count` bytes, which is above one, but at least one.
    fn cut(&mut self, count: usize) -> usize {
        let short = self.random.below(SHORT_CUT_EVERY) == 0;
        let bound = if short { SHORT_CUT_BYTES.min(count - 1) } else { count - 1 };
        1 + self.random.index(bound)
    }

    fn maybe_reset_by_peer(&mut self, index: usize) {
        if self.is_reset(index) || !self.strikes(Fault::PeerReset) {
            return;
        }
        let loses = self.random.chance(0.5);
        let connection = &mut self.connections[index];
        if loses {
            connection.lose_inbound();
        }
        // The network broke: both ends see it, and the test can tell that this client was hurt.
        connection.reset_the_client();
        connection.reset_the_server();
    }

    fn is_reset(&self, index: usize) -> bool {
        matches!(self.connections[index].peer, Peer::Reset { .. })
    }

    fn step_send(&mut self, index: usize) {
        let Sending::Active(send) = &mut self.connections[index].sending else {
            unreachable!("a step is scheduled only while its send is in flight");
        };
        send.due = false;
        let stopping = send.stopping;
        let outcome = self.send_outcome(index, stopping);
        if self.is_reset(index) {
            // A receive that waits for bytes hears of it, and a watch, too.
            self.nudge_receive(index);
            self.nudge_watch(index);
        }
        let Sending::Active(send) = &mut self.connections[index].sending else {
            unreachable!("only this step ends the send");
        };
        let (done, left) = (send.done, send.batch.len() - send.done);
        let result = match outcome {
            SendOutcome::Waits => {
                // While it waits for its peer it keeps no receive buffer.
                send.batch.give_buffers_back();
                return;
            }
            // Bytes that left count for more than what happened behind them, as in the kernel.
            SendOutcome::Fails(errno) if done == 0 && left > 0 => Err(errno),
            SendOutcome::Fails(_) | SendOutcome::Ends => Ok(done),
        };
        let sending = std::mem::replace(&mut self.connections[index].sending, Sending::Posted);
        if let Sending::Active(Outgoing { batch, .. }) = sending {
            self.completed.push_back(Completion::Sent {
                connection: self.token(index),
                result,
                batch,
            });
        }
    }

    /// Carries what the client has room for, and says how the send goes on.
    fn send_outcome(&mut self, index: usize, stopping: bool) -> SendOutcome {
        self.maybe_reset_by_peer(index);
        let connection = &mut self.connections[index];
        if let Some(errno) = connection.take_send_error() {
            return SendOutcome::Fails(errno);
        }
        let room = connection.room();
        let Sending::Active(send) = &connection.sending else { unreachable!("the caller looked") };
        let left = send.batch.len() - send.done;
        let fits = room.min(left);
        if stopping && (fits == 0 || self.random.chance(0.5)) {
            return SendOutcome::Fails(Errno::CANCELED);
        }
        if fits > 0 && self.strikes(Fault::SendWaits) {
            let count = self.random.index(fits);
            self.connections[index].carry(count);
            self.wait_to_send(index);
            return SendOutcome::Waits;
        }
        if fits > 1 && self.strikes(Fault::PartialSend) {
            let count = self.cut(fits);
            self.connections[index].carry(count);
            return SendOutcome::Ends;
        }
        self.connections[index].carry(fits);
        if fits == left {
            return SendOutcome::Ends;
        }
        self.count(Fault::WindowFull);
        // A send that was asked to end does not wait for room.
        if stopping || (fits > 0 && self.strikes(Fault::PartialSend)) {
            return SendOutcome::Ends;
        }
        // The client's next read goes on with it.
        SendOutcome::Waits
    }

    fn step_watch(&mut self, index: usize) {
        let is_lost = self.connections[index].is_lost();
        let goes_on = self.random.chance(0.5);
        let Watching::Armed { is_told, stopping, due } = &mut self.connections[index].watching
        else {
            unreachable!("a step is scheduled only while its watch is in flight");
        };
        *due = false;
        let is_news = is_lost && !std::mem::replace(is_told, is_lost);
        if !is_news && !*stopping {
            return;
        }
        let more = is_news && goes_on && !*stopping;
        if !more {
            self.connections[index].watching = Watching::Posted;
        }
        let connection = self.token(index);
        self.completed.push_back(Completion::Watched { connection, is_lost: is_news, more });
    }

    fn wait_to_send(&mut self, index: usize) {
        if let Sending::Active(send) = &mut self.connections[index].sending {
            send.due = true;
        }
        let at = self.now + 1 + self.random.below(self.config.faults.delay_ms_max + 1);
        self.schedule_at(at, 0, Step::Send(index));
    }

    fn step_install(&mut self, index: usize) {
        let result = match self.config.install_errno {
            Some(errno) => Err(errno),
            None => {
                Ok(OwnedFd::from(File::open("/dev/null").expect("every Linux has a /dev/null")))
            }
        };
        self.connections[index].installed |= result.is_ok();
        self.completed.push_back(Completion::Installed { connection: self.token(index), result });
    }

    fn step_identify(&mut self, index: usize) {
        let connection = &self.connections[index];
        let result = match connection.peer {
            // Linux forgets the name with the connection.
            Peer::Reset { .. } => Err(Errno(libc::ENOTCONN)),
            Peer::Open | Peer::Finished => Ok(connection.address),
        };
        self.completed.push_back(Completion::Identified { connection: self.token(index), result });
    }

    fn step_close(&mut self, index: usize) {
        let connection = &mut self.connections[index];
        let manner = connection.closing.expect("a close is under way");
        connection.close_by_server(manner);
        let handle = connection.handle.take().expect("an open connection has a handle");
        self.table[handle.0 as usize] = None;
        self.free.push(handle.0);
        self.open -= 1;
        self.completed.push_back(Completion::Closed { connection: self.token(index) });
    }
}
