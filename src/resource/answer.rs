//! What a resource answers over HTTP.

use std::fmt;
use std::future::Future;
use std::rc::Rc;

use crate::http::{Date, Form, Ready, Request, Response};
use crate::upgrade::{Awaiting, Mailbox, Promise, Spawn};

/// Answers requests for a resource. One value serves every core.
pub trait Answer: Send + Sync + 'static {
    /// Answers one request; `content` is its content, whole. Writes exactly one answer, or
    /// [promises](Reply::later) one.
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
    fn answer(&self, _: &Request<'_>, _: &[u8], reply: &mut Reply<'_>) {
        reply.ready(self);
    }
}

/// Whether a request has its answer.
#[derive(Debug, Default)]
pub enum ReplyState {
    /// Nothing was written.
    #[default]
    Unanswered,
    /// The answer is written.
    Answered,
    /// The answer was promised.
    Later(Awaiting<Response>),
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
        self.state = ReplyState::Answered;
    }

    /// Answers.
    ///
    /// # Panics
    /// If the request is answered already.
    pub fn send(&mut self, response: &Response) {
        self.begin();
        response.write(self.text, self.date, self.form);
        self.state = ReplyState::Answered;
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

    /// Runs a future on this core: one that keeps a promised answer. `false` in the native mode,
    /// which has no runtime to run it.
    pub fn spawn(&self, future: impl Future<Output = ()> + 'static) -> bool {
        self.spawn.is_some_and(|spawn| {
            spawn(Box::pin(future));
            true
        })
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
