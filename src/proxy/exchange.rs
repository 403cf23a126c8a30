//! One request and its answer, over one connection to the backend; or two, if the first was kept
//! and turns out to be dead.

use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;

use super::Plan;
use super::upload::{Patience, Uploaded, upload};
use crate::backend::{
    AnswerContent, AnswerHead, BackendError, Connection, Either, Extent, Late, Pool, Pooled, Side,
    beside, final_head, first,
};
use crate::buffer::Spares;
use crate::counters::Counters;
use crate::http::{Framing, Status};
use crate::resource::{Content, ContentSender, Responder};
use crate::upgrade::asynchronous::Closed;

/// What one core has of a proxy.
pub(super) struct Local {
    pub(super) plan: Arc<Plan>,
    pub(super) pool: Rc<Pool>,
    pub(super) spares: Rc<Spares>,
    pub(super) counters: Arc<Counters>,
}

/// A request, as the backend gets it.
pub(super) struct Asked {
    pub(super) head: Vec<u8>,
    pub(super) framing: Framing,
    /// Its client sends the content when it is asked for it.
    pub(super) is_waiting: bool,
    pub(super) is_head: bool,
    /// It may be sent twice (RFC 9110 §9.2.2), and nothing of it is gone once it was sent.
    pub(super) is_repeatable: bool,
}

/// What a connection is good for behind an answer.
enum Behind {
    /// Another request.
    Ready,
    /// Nothing.
    Spent,
}

/// Why a client has no answer, or not all of one.
enum Failure {
    /// The backend is at fault.
    Backend(BackendError),
    /// The connection was closed before a byte of an answer came: if it was a kept one, a request
    /// that may be sent twice is.
    Dead(BackendError),
    /// Nobody waits for it.
    Unwanted,
}

impl From<BackendError> for Failure {
    fn from(error: BackendError) -> Failure {
        Failure::Backend(error)
    }
}

impl From<Closed> for Failure {
    fn from(_: Closed) -> Failure {
        Failure::Unwanted
    }
}

/// Has the backend answer.
pub(super) async fn answer(
    local: Rc<Local>,
    asked: Asked,
    mut content: Content,
    responder: Responder,
) {
    let mut responder = Some(responder);
    let mut outcome = local.exchange(&asked, &mut content, &mut responder, false).await;
    if let Err(Failure::Dead(_)) = outcome {
        local.counters.backend_retries.raise();
        outcome = local.exchange(&asked, &mut content, &mut responder, true).await;
    }
    match outcome {
        Ok(()) => {}
        Err(Failure::Unwanted) => local.counters.backend_answers_unwanted.raise(),
        Err(Failure::Backend(error) | Failure::Dead(error)) => {
            error.note(&local.plan.backend, &local.counters);
            // An answer that has begun is cut: its sender was dropped before it was finished.
            if let Some(responder) = responder {
                responder.respond(error.response());
            }
        }
    }
}

impl Local {
    /// Sends the request and passes the answer on; `responder` is taken when that begins.
    async fn exchange(
        &self,
        asked: &Asked,
        content: &mut Content,
        responder: &mut Option<Responder>,
        is_again: bool,
    ) -> Result<(), Failure> {
        let (pooled, is_kept) = self.connection(is_again).await?;
        match self.converse(asked, content, responder, &pooled.connection).await {
            Ok(Behind::Ready) => pooled.keep(),
            Ok(Behind::Spent) => {}
            Err(Failure::Dead(error)) if !(is_kept && asked.is_repeatable) => {
                return Err(error.into());
            }
            Err(failure) => return Err(failure),
        }
        Ok(())
    }

    async fn converse(
        &self,
        asked: &Asked,
        content: &mut Content,
        responder: &mut Option<Responder>,
        connection: &Connection,
    ) -> Result<Behind, Failure> {
        let patience = Patience::new();
        let mut upload = pin!(upload(asked, content, connection, &patience));
        let mut upload = Side::new(upload.as_mut());
        let mut received = Vec::new();
        let begun = {
            let late = pin!(patience.ends(self.plan.settings.answer_timeout_ms));
            let head = pin!(final_head(connection, &mut received, || patience.invite()));
            beside(first(head, late), &mut upload).await?
        };
        let head = match begun {
            Either::Second(()) => return Err(BackendError::from(Late::Answer).into()),
            Either::First(Ok(head)) => head,
            Either::First(Err(error)) if received.is_empty() && error.is_unanswered() => {
                return Err(Failure::Dead(error));
            }
            Either::First(Err(error)) => return Err(error.into()),
        };
        let extent = head.extent(asked.is_head)?;
        let mut answer = AnswerContent::new(extent, received);
        let sender = self.begin(&head, extent, responder)?;
        beside(pin!(self.pass_on(&mut answer, connection, sender)), &mut upload).await??;
        let is_whole = matches!(upload.output, Some(Uploaded::Whole));
        let is_ready = is_whole && head.is_persistent() && answer.is_over_cleanly();
        Ok(if is_ready { Behind::Ready } else { Behind::Spent })
    }

    /// A kept connection, or a new one; and whether it was kept.
    async fn connection(&self, is_again: bool) -> Result<(Pooled, bool), BackendError> {
        if !is_again && let Some(pooled) = self.pool.take() {
            self.counters.backend_connections_reused.raise();
            return Ok((pooled, true));
        }
        let place = self.pool.place().ok_or(BackendError::Full)?;
        let Plan { backend, settings, .. } = &*self.plan;
        let opened = Connection::open(backend, settings.connect_timeout_ms, &self.counters);
        Ok((place.with(opened.await?), false))
    }

    /// Begins the client's answer.
    fn begin(
        &self,
        head: &AnswerHead,
        extent: Extent,
        responder: &mut Option<Responder>,
    ) -> Result<ContentSender, BackendError> {
        if head.status() == Status::SWITCHING_PROTOCOLS {
            return Err(BackendError::SwitchedUnasked);
        }
        let response = head.response(self.plan.settings.terms.via.as_deref())?;
        let response = head.with_protocols(response);
        let length = match extent {
            Extent::Length(bytes) => Some(bytes),
            // What a GET would get, as far as it is said.
            Extent::Without => head.length(),
            Extent::Chunked(_) | Extent::UntilClose => None,
        };
        let responder = responder.take().ok_or(BackendError::ContentCut)?;
        Ok(responder.start(response, length))
    }

    /// Passes the content of an answer on, each piece when there is room for it.
    async fn pass_on(
        &self,
        answer: &mut AnswerContent,
        connection: &Connection,
        mut sender: ContentSender,
    ) -> Result<(), Failure> {
        let silence_ms = self.plan.settings.idle_timeout_ms;
        while let Some(piece) = answer.next(connection, &self.spares, silence_ms).await? {
            sender.send(piece).await?;
        }
        sender.finish_with(answer.trailers());
        Ok(())
    }
}
