//! A request answered piece by piece: the callback interface, and what its handler may do.
//!
//! ```text
//!   content  ──► on_content* ──► on_content_end
//!   answer   ◄── start ◄── send* ◄── finish       (or respond, all at once)
//! ```
//!
//! Both directions are independent: an answer may begin before the content has ended, and what is
//! left of the content when the answer is finished is thrown away or ends the connection.

use std::future::Future;
use std::time::Duration;

use super::outgoing::Outgoing;
use crate::buffer::{Lease, Load, Payload};
use crate::http::{Date, Fields, Response, Trailers};
use crate::upgrade::{CloseReason, ConnectionWaker, Io, moving_cost};

/// A handler of one request. Every method is called on the connection's own core, and none may
/// block it. A panic is answered with 500, or with a reset when the answer has begun.
pub trait Streaming: 'static {
    /// The request is this handler's.
    fn on_open(&mut self, io: &mut StreamIo<'_>) {
        let _ = io;
    }

    /// Content, in order, where the kernel wrote it. Not called while [paused](StreamIo::pause), nor
    /// while much of the answer waits to be sent.
    fn on_content(&mut self, bytes: Lease, io: &mut StreamIo<'_>) {
        let _ = (bytes, io);
    }

    /// The content is complete. Called for a request without content, too.
    fn on_content_end(&mut self, trailers: &Trailers, io: &mut StreamIo<'_>) {
        let _ = (trailers, io);
    }

    /// There is room, after [`StreamIo::notify_writable`].
    fn on_writable(&mut self, io: &mut StreamIo<'_>) {
        let _ = io;
    }

    /// A [`ConnectionWaker`] of this request was woken.
    fn on_wake(&mut self, io: &mut StreamIo<'_>) {
        let _ = io;
    }

    /// The core is out of receive buffers: whatever leases the handler keeps are missing to others, and
    /// it should copy what it needs of them and let them go.
    fn on_shortage(&mut self) {}

    /// The server is stopping and will cut the connection after `deadline`.
    fn on_drain(&mut self, deadline: Duration, io: &mut StreamIo<'_>) {
        let _ = (deadline, io);
    }

    /// The request is over; nothing more is called. [`CloseReason::Finished`] if the answer was
    /// finished, and handed to the kernel or about to be.
    fn on_close(&mut self, reason: CloseReason) {
        let _ = reason;
    }
}

/// A handler's grip on its request during one call.
#[derive(Debug)]
pub struct StreamIo<'a> {
    pub(crate) io: Io<'a>,
    pub(crate) outgoing: &'a mut Outgoing,
    pub(crate) date: &'a Date,
    /// The connection cannot go on behind this answer.
    pub(crate) must_close: bool,
    /// Nor can it if the handler takes no more of the content.
    pub(crate) is_much_unread: bool,
}

impl StreamIo<'_> {
    /// Answers with a whole response.
    ///
    /// # Panics
    /// If the answer has begun already.
    pub fn respond(&mut self, response: Response) {
        // It takes no more content: if much of that is left, it is the last answer, and says so.
        self.must_close |= self.is_much_unread;
        let length = response.content_len();
        self.start(&response, Some(length));
        self.send(response.into_content());
        self.finish();
    }

    /// Begins the answer with status and fields of `response`; its content follows by
    /// [`StreamIo::send`], in all exactly `length` bytes if that is known.
    ///
    /// Without a length it goes out in chunks, or to an HTTP/1.0 client up to the end of the
    /// connection. What an answer to HEAD, or a status without content, is given to send goes
    /// nowhere.
    ///
    /// # Panics
    /// If the answer has begun already.
    pub fn start(&mut self, response: &Response, length: Option<u64>) {
        let framing = self.outgoing.begin(response, length, self.must_close);
        let (form, date) = (self.outgoing.form(), self.date);
        self.io.encode(|text| response.write_head(text, date, form, framing));
    }

    /// Sends content without copying it.
    pub fn send(&mut self, payload: impl Into<Payload>) {
        let payload = payload.into();
        self.io.spend(moving_cost(payload.len()));
        self.outgoing.send(payload, &mut self.io);
    }

    /// The answer is complete. One that has fewer bytes than it announced, or has not begun, ends
    /// with a reset or a 500.
    pub fn finish(&mut self) {
        self.finish_with(&Fields::new());
    }

    /// The answer is complete, with trailers behind it if it goes out in chunks (RFC 9110 §6.5:
    /// whoever is on the way may drop them).
    pub fn finish_with(&mut self, trailers: &Fields) {
        self.outgoing.finish(trailers, &mut self.io);
    }

    /// Whether the answer has begun: its status cannot change any more.
    pub fn has_begun(&self) -> bool {
        self.outgoing.has_begun()
    }

    /// Cuts the connection, so that the client sees that the answer is not whole.
    pub fn reset(&mut self) {
        self.io.reset();
    }

    /// What waits to be sent.
    pub fn queued(&self) -> Load {
        self.io.queued()
    }

    /// Whether so much waits to be sent (`outbox_bytes_high`) that content is not delivered before some
    /// of it has left.
    pub fn is_full(&self) -> bool {
        self.io.is_full()
    }

    /// Stops the delivery of content. The client is held by TCP's window once a few buffers are
    /// full.
    pub fn pause(&mut self) {
        self.io.pause();
    }

    /// Delivers content again.
    pub fn resume(&mut self) {
        self.io.resume();
    }

    /// Calls [`Streaming::on_writable`] once, when some of what waits has left and there is room.
    pub fn notify_writable(&mut self) {
        self.io.notify_writable();
    }

    /// Wakes this request's handler from elsewhere on this core.
    pub fn waker(&self) -> ConnectionWaker {
        self.io.waker()
    }

    /// Runs a future on this core. `false` in the native mode, which has no runtime to run it.
    pub fn spawn(&self, future: impl Future<Output = ()> + 'static) -> bool {
        self.io.spawn(future)
    }

    /// The time of this turn, as the core's monotonic clock has it.
    pub fn now(&self) -> Duration {
        Duration::from_millis(self.io.now)
    }
}
