//! What a resource answers over HTTP.

use std::fmt;
use std::future::Future;
use std::rc::Rc;

use super::Streaming;
use crate::http::{Date, FieldError, Form, Ready, Request, Response, ResponseWriter, Status};
use crate::upgrade::{Awaiting, Mailbox, Promise, Spawn};

/// What an answer does with the content of its request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Takes {
    /// Gets it whole, bounded, with the request.
    #[default]
    Whole,
    /// Gets it piece by piece: the answer is asked when the head is there, and may refuse from the
    /// head alone. It goes on with [`Reply::stream`] if it wants the content.
    Streamed,
    /// Does without: answers from the head, and what comes is thrown away.
    Nothing,
}

/// Answers requests for a resource. One value serves every core.
pub trait Answer: Send + Sync + 'static {
    /// What it does with content.
    fn takes(&self) -> Takes {
        Takes::Whole
    }

    /// Whether it needs a runtime to run futures on: the native mode, which has none, refuses to
    /// start with it.
    fn needs_runtime(&self) -> bool {
        false
    }

    /// Whether it wants to know who its clients are ([`Request::client`]): those of a server with such
    /// an answer are identified.
    fn names_clients(&self) -> bool {
        false
    }

    /// Answers one request; `content` is its content if it [takes](Answer::takes) it whole. Writes
    /// exactly one answer, or [promises](Reply::later) one, or [streams](Reply::stream) it.
    fn answer(&self, request: &Request<'_>, content: &[u8], reply: &mut Reply<'_>);
}

impl<F> Answer for F
where
    F: Fn(&Request<'_>, &[u8], &mut Reply<'_>) + Send + Sync + 'static,
{
    fn answer(&self, request: &Request<'_>, content: &[u8], reply: &mut Reply<'_>) {
        self(request, content, reply);
    }
}

impl Answer for Ready {
    fn takes(&self) -> Takes {
        Takes::Nothing
    }

    fn answer(&self, _: &Request<'_>, _: &[u8], reply: &mut Reply<'_>) {
        reply.ready(self);
    }
}

/// An answer made from the head alone: content is thrown away unread.
///
/// ```
/// use upring::{Reply, Request, Resource, Response, Status, from_head};
///
/// let gone = from_head(|_: &Request<'_>, reply: &mut Reply<'_>| {
///     reply.send(&Response::text(Status::GONE, "It was here.\n"));
/// });
/// let resource = Resource::new().get(gone);
/// ```
pub fn from_head<F>(run: F) -> impl Answer + Clone
where
    F: Fn(&Request<'_>, &mut Reply<'_>) + Clone + Send + Sync + 'static,
{
    OfHead { run, takes: Takes::Nothing }
}

/// An answer that is asked when the head is there: it answers, or leaves the request to a
/// [`Streaming`] handler with [`Reply::stream`].
pub fn streamed<F>(run: F) -> impl Answer + Clone
where
    F: Fn(&Request<'_>, &mut Reply<'_>) + Clone + Send + Sync + 'static,
{
    OfHead { run, takes: Takes::Streamed }
}

#[derive(Clone)]
struct OfHead<F> {
    run: F,
    takes: Takes,
}

impl<F> Answer for OfHead<F>
where
    F: Fn(&Request<'_>, &mut Reply<'_>) + Send + Sync + 'static,
{
    fn takes(&self) -> Takes {
        self.takes
    }

    fn answer(&self, request: &Request<'_>, _: &[u8], reply: &mut Reply<'_>) {
        (self.run)(request, reply);
    }
}

/// Whether a request has its answer.
#[derive(Default)]
pub enum ReplyState {
    /// Nothing was written.
    #[default]
    Unanswered,
    /// The answer is written, with this status.
    Answered(Status),
    /// The answer was promised.
    Later(Awaiting<Response>),
    /// The answer comes piece by piece.
    Streaming(Box<dyn Streaming>),
}

impl fmt::Debug for ReplyState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ReplyState::Unanswered => "Unanswered",
            ReplyState::Answered(_) => "Answered",
            ReplyState::Later(_) => "Later",
            ReplyState::Streaming(_) => "Streaming",
        })
    }
}

/// Where the answer to one request goes: straight into the connection's outbox.
pub struct Reply<'a> {
    text: &'a mut Vec<u8>,
    date: &'a Date,
    form: Form<'a>,
    state: ReplyState,
    mailbox: &'a Rc<Mailbox>,
    key: u64,
    spawn: Option<&'a Spawn>,
}

impl<'a> Reply<'a> {
    pub(crate) fn new(
        text: &'a mut Vec<u8>,
        date: &'a Date,
        form: Form<'a>,
        mailbox: &'a Rc<Mailbox>,
        key: u64,
        spawn: Option<&'a Spawn>,
    ) -> Reply<'a> {
        Reply { text, date, form, state: ReplyState::Unanswered, mailbox, key, spawn }
    }

    /// Answers with a ready-made response.
    ///
    /// # Panics
    /// If the request is answered already.
    pub fn ready(&mut self, response: &Ready) {
        self.begin();
        response.write(self.text, self.date, self.form);
        self.state = ReplyState::Answered(response.status());
    }

    /// Answers.
    ///
    /// # Panics
    /// If the request is answered already.
    pub fn send(&mut self, response: &Response) {
        self.begin();
        response.write(self.text, self.date, self.form);
        self.state = ReplyState::Answered(response.status());
    }

    /// Answers without allocating: writes status and fields where they will be sent from, and has
    /// `complete` add the body. A field that cannot be sent makes the answer 500 (U-39).
    ///
    /// ```
    /// use upring::{Reply, Request, Status};
    ///
    /// fn hello(request: &Request<'_>, _: &[u8], reply: &mut Reply<'_>) {
    ///     let path = request.path();
    ///     reply.write(Status::OK, |answer| {
    ///         answer.field("Content-Type", "text/plain").body_with(|out| {
    ///             out.extend_from_slice(b"hello from ");
    ///             out.extend_from_slice(path);
    ///         })
    ///     });
    /// }
    /// ```
    ///
    /// # Panics
    /// If the request is answered already.
    pub fn write(
        &mut self,
        status: Status,
        complete: impl FnOnce(ResponseWriter<'_>) -> Result<(), FieldError>,
    ) {
        self.begin();
        // U-42: an interim status cannot be the answer, and is not sent as one.
        let status = if status.is_interim() { Status::INTERNAL_SERVER_ERROR } else { status };
        match complete(ResponseWriter::new(self.text, self.date, status, self.form)) {
            Ok(()) => self.state = ReplyState::Answered(status),
            Err(fault) => {
                tracing::error!("an answer was not sent: {fault}");
                self.send(&Response::new(Status::INTERNAL_SERVER_ERROR));
            }
        }
    }

    /// Promises an answer that takes time; requests behind this one wait.
    ///
    /// # Panics
    /// If the request is answered already.
    pub fn later(&mut self) -> Promise<Response> {
        self.begin();
        let (promise, awaiting) = Promise::new(self.mailbox.waker(self.key));
        self.state = ReplyState::Later(awaiting);
        promise
    }

    /// Leaves the request to `handler`: it gets the content as it comes, if the answer
    /// [takes](Takes::Streamed) it so, and answers piece by piece.
    ///
    /// # Panics
    /// If the request is answered already.
    pub fn stream(&mut self, handler: impl Streaming) {
        self.begin();
        self.state = ReplyState::Streaming(Box::new(handler));
    }

    /// Runs a future on this core: one that keeps a promised answer. `false` in the native mode,
    /// which has no runtime to run it.
    pub fn spawn(&self, future: impl Future<Output = ()> + 'static) -> bool {
        self.spawn.is_some_and(|spawn| {
            spawn(Box::pin(future));
            true
        })
    }

    /// The core's mailbox, and what is kept there.
    pub(crate) fn mailbox(&self) -> &Rc<Mailbox> {
        self.mailbox
    }

    pub(crate) fn into_state(self) -> ReplyState {
        self.state
    }

    fn begin(&self) {
        assert!(matches!(self.state, ReplyState::Unanswered), "a request has one answer");
    }
}

impl fmt::Debug for Reply<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reply").field("state", &self.state).finish_non_exhaustive()
    }
}
