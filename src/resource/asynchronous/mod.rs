//! Async answers: a future on the core's tokio-uring runtime gets the request and its content, and
//! answers at once or piece by piece. Built on the callback interface alone: a bridge of a
//! [`Streaming`](super::Streaming) handler and the future share one channel, on one thread.
//!
//! ```text
//!   session ──► Bridge (callback handler) ──► channel ──► Content::recv().await
//!   session ◄── mailbox ◄── ConnectionWaker ◄── channel ◄── ContentSender::send().await
//! ```

mod bridge;

use std::cell::RefCell;
use std::fmt;
use std::future::{Future, poll_fn};
use std::rc::Rc;

use super::{Answer, Reply, Takes, ToResponse};
use crate::buffer::{Lease, Payload};
use crate::http::{Fields, OwnedRequest, Request, Response, Status, Trailers};
use crate::upgrade::asynchronous::Closed;
use bridge::{Bridge, Channel, Start};

/// An answer that is a future of a whole response: `run` gets the request and its content, which
/// arrives as it is asked for. Needs the hosted mode.
///
/// Once its client is gone, or was answered without it because it took too long, the future gets an error
/// if it waits for content; if it waits for something else, it is dropped there. What must be done in
/// any case it spawns as a task of its own.
///
/// ```
/// use upring::{Content, OwnedRequest, Resource, asynchronous};
///
/// let upload = asynchronous(async |_: OwnedRequest, mut content: Content| {
///     let mut bytes = 0;
///     while let Some(piece) = content.recv().await? {
///         bytes += piece.len();
///     }
///     Ok::<_, upring::Closed>(format!("{bytes} bytes\n"))
/// });
/// let resource = Resource::new().post(upload);
/// ```
pub fn asynchronous<F, Task, R>(run: F) -> impl Answer
where
    F: Fn(OwnedRequest, Content) -> Task + Send + Sync + 'static,
    Task: Future<Output = R> + 'static,
    R: ToResponse,
{
    streaming(move |request, content, responder: Responder| {
        let task = run(request, content);
        async move { responder.respond(task.await) }
    })
}

/// An answer that is a future which answers piece by piece. Needs the hosted mode. It is dropped as that
/// of [`asynchronous`] is.
///
/// ```
/// use upring::{Content, OwnedRequest, Resource, Responder, Response, Status, streaming};
///
/// let counting = streaming(async |_: OwnedRequest, _: Content, responder: Responder| {
///     let mut answer = responder.start(Response::new(Status::OK), None);
///     for number in 0..1000 {
///         if answer.send(format!("{number}\n")).await.is_err() {
///             return;
///         }
///     }
///     answer.finish();
/// });
/// let resource = Resource::new().get(counting);
/// ```
pub fn streaming<F, Task>(run: F) -> impl Answer
where
    F: Fn(OwnedRequest, Content, Responder) -> Task + Send + Sync + 'static,
    Task: Future<Output = ()> + 'static,
{
    Asynchronous(run)
}

struct Asynchronous<F>(F);

impl<F, Task> Answer for Asynchronous<F>
where
    F: Fn(OwnedRequest, Content, Responder) -> Task + Send + Sync + 'static,
    Task: Future<Output = ()> + 'static,
{
    fn takes(&self) -> Takes {
        Takes::Streamed
    }

    fn needs_runtime(&self) -> bool {
        true
    }

    fn answer(&self, request: &Request<'_>, _: &[u8], reply: &mut Reply<'_>) {
        begin(reply, |content, responder| (self.0)(request.into_owned(), content, responder));
    }
}

/// Leaves the request of `reply` to the future that `run` makes.
pub(crate) fn begin<Task>(reply: &mut Reply<'_>, run: impl FnOnce(Content, Responder) -> Task)
where
    Task: Future<Output = ()> + 'static,
{
    let channel = Rc::<RefCell<Channel>>::default();
    let content = Content { channel: Rc::clone(&channel) };
    let responder = Responder { channel: Some(Rc::clone(&channel)) };
    let task = run(content, responder);
    reply.stream(Bridge::new(channel, Box::pin(task)));
}

/// The content of a request, as it comes. Nothing is read before it is asked for; dropped, what is
/// left is thrown away or ends the connection.
pub struct Content {
    channel: Rc<RefCell<Channel>>,
}

/// Content that could not be collected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ContentError {
    /// There is more than was asked for. As an answer: 413.
    #[error("the content is larger than {bytes_max} bytes")]
    TooLarge {
        /// What was asked for.
        bytes_max: usize,
    },
    /// The rest did not come: the client is gone, or sent what it may not.
    #[error(transparent)]
    Lost(#[from] Closed),
}

impl Content {
    /// The next bytes, where the kernel wrote them; `None` when the content is complete. A wait that
    /// is given up takes nothing. A client that waits for a 100 gets it with the first call.
    ///
    /// Leases are the core's receive buffers, lent: one that is kept is missing to every connection
    /// of the core.
    ///
    /// # Errors
    /// The content did not come whole; the client has its answer, or is gone.
    pub async fn recv(&mut self) -> Result<Option<Lease>, Closed> {
        poll_fn(|context| self.channel.borrow_mut().poll_recv(context)).await
    }

    /// All of it, copied into one piece.
    ///
    /// # Errors
    /// There is more than `bytes_max`, or it did not come whole.
    pub async fn collect(&mut self, bytes_max: usize) -> Result<Vec<u8>, ContentError> {
        let mut collected = Vec::new();
        while let Some(bytes) = self.recv().await? {
            if bytes.len() > bytes_max - collected.len() {
                return Err(ContentError::TooLarge { bytes_max });
            }
            collected.extend_from_slice(&bytes);
        }
        Ok(collected)
    }

    /// The trailers behind the content: empty before [`Content::recv`] has given `None`.
    pub fn trailers(&self) -> Trailers {
        self.channel.borrow().trailers.clone()
    }
}

/// The right to answer one request. Dropped, the answer is 500.
pub struct Responder {
    channel: Option<Rc<RefCell<Channel>>>,
}

impl Responder {
    /// Answers with a whole response.
    pub fn respond(self, response: impl ToResponse) {
        let response = response.to_response();
        self.into_channel().borrow_mut().start(Start::Whole(response));
    }

    /// Begins an answer with status and fields of `response`; exactly `length` bytes of content
    /// follow, or, without a length, any number in chunks.
    pub fn start(self, response: Response, length: Option<u64>) -> ContentSender {
        let channel = self.into_channel();
        channel.borrow_mut().start(Start::Head(response, length));
        ContentSender { channel, is_finished: false }
    }

    fn into_channel(mut self) -> Rc<RefCell<Channel>> {
        self.channel.take().expect("it is taken once, here")
    }
}

impl Drop for Responder {
    fn drop(&mut self) {
        if let Some(channel) = &self.channel {
            channel.borrow_mut().give_up();
        }
    }
}

/// An answer that has begun. Dropped before it is finished, the connection is cut, so that the
/// client sees that the answer is not whole.
pub struct ContentSender {
    channel: Rc<RefCell<Channel>>,
    is_finished: bool,
}

impl ContentSender {
    /// Sends bytes by ownership, uncopied. Waits while 64 KiB or sixteen leases are unsent, then hands them over and
    /// returns. A wait that is given up sends nothing.
    ///
    /// # Errors
    /// The connection was lost.
    pub async fn send(&mut self, payload: impl Into<Payload>) -> Result<(), Closed> {
        poll_fn(|context| self.channel.borrow_mut().flow.poll_room(context)).await?;
        self.channel.borrow_mut().flow.send(payload.into());
        Ok(())
    }

    /// Returns when everything sent has left.
    ///
    /// # Errors
    /// The connection was lost.
    pub async fn flush(&mut self) -> Result<(), Closed> {
        poll_fn(|context| self.channel.borrow_mut().flow.poll_sent(context)).await
    }

    /// The answer is complete.
    pub fn finish(self) {
        self.finish_with(Fields::new());
    }

    /// The answer is complete, with trailers behind it if it goes out in chunks.
    pub fn finish_with(mut self, trailers: Fields) {
        self.is_finished = true;
        self.channel.borrow_mut().finish(trailers);
    }
}

impl Drop for ContentSender {
    fn drop(&mut self) {
        if !self.is_finished {
            self.channel.borrow_mut().give_up();
        }
    }
}

impl ToResponse for ContentError {
    fn to_response(self) -> Response {
        match self {
            ContentError::TooLarge { .. } => {
                Response::text(Status::CONTENT_TOO_LARGE, format!("{self}\n"))
            }
            ContentError::Lost(closed) => closed.to_response(),
        }
    }
}

/// The client has its answer or is gone: nobody reads this one.
impl ToResponse for Closed {
    fn to_response(self) -> Response {
        Response::text(Status::BAD_REQUEST, format!("{self}\n"))
    }
}

impl fmt::Debug for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Content").finish_non_exhaustive()
    }
}

impl fmt::Debug for Responder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Responder").finish_non_exhaustive()
    }
}

impl fmt::Debug for ContentSender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ContentSender").field("is_finished", &self.is_finished).finish()
    }
}
