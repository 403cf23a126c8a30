//! What goes wrong with a backend: whose fault it is, what the client is answered, what is counted.

use std::io;

use super::{ANSWER_FIELDS_MAX, ANSWER_HEAD_BYTES_MAX, Backend, INTERIM_ANSWERS_MAX};
use crate::counters::{Counter, Counters};
use crate::http::{Response, Status};

/// Why a backend gave no answer that could be passed on. The text is for the client, and names no
/// address; the log has that.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BackendError {
    #[error("The backend took no connection: is it running? ({0})")]
    Connect(io::Error),
    #[error(
        "The backend did not take a connection in time: is it overloaded, or behind a firewall?"
    )]
    ConnectLate,
    #[error("There are as many connections to the backend as there may be.")]
    Full,
    #[error("The backend did not answer in time.")]
    AnswerLate,
    #[error("The backend was silent for too long in the midst of its answer.")]
    ContentLate,
    #[error("The backend closed the connection before it answered: does it speak HTTP/1.1?")]
    Closed,
    #[error("The connection to the backend was lost before it answered ({0}).")]
    Lost(io::Error),
    #[error("The answer of the backend ended before it was whole.")]
    ContentCut,
    #[error(
        "The head of the backend's answer has more than {ANSWER_HEAD_BYTES_MAX} bytes or \
         {ANSWER_FIELDS_MAX} fields."
    )]
    HeadTooLarge,
    #[error("The backend's answer is no HTTP/1.1: {0}.")]
    HeadFaulty(&'static str),
    #[error("Where the backend's answer ends cannot be told for sure: {0}.")]
    FramingFaulty(&'static str),
    #[error("The backend sent more than {INTERIM_ANSWERS_MAX} interim answers.")]
    InterimTooMany,
    #[error("The backend switched to another protocol than it was asked for.")]
    SwitchedElsewhere,
    #[error("The backend switched protocols, and was not asked to.")]
    SwitchedUnasked,
    #[error("The backend declined with more content than is passed on.")]
    RefusalTooLarge,
}

/// Too late for what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Late {
    /// A connection.
    Connect,
    /// The beginning of an answer.
    Answer,
    /// The next bytes of one.
    Content,
}

impl From<Late> for BackendError {
    fn from(late: Late) -> BackendError {
        match late {
            Late::Connect => BackendError::ConnectLate,
            Late::Answer => BackendError::AnswerLate,
            Late::Content => BackendError::ContentLate,
        }
    }
}

impl BackendError {
    /// RFC 9110 §15.6.3 to §15.6.5.
    pub(crate) fn status(&self) -> Status {
        match self {
            BackendError::ConnectLate | BackendError::AnswerLate | BackendError::ContentLate => {
                Status::GATEWAY_TIMEOUT
            }
            BackendError::Full => Status::SERVICE_UNAVAILABLE,
            _ => Status::BAD_GATEWAY,
        }
    }

    /// What the client is answered, if it has no answer yet.
    pub(crate) fn response(&self) -> Response {
        let mut response = Response::text(self.status(), format!("{self}\n"));
        if matches!(self, BackendError::Full)
            && let Ok(later) = response.clone().with_field("Retry-After", "1")
        {
            response = later;
        }
        response
    }

    /// Whether the backend may not have seen the request at all: the connection was closed before a
    /// byte of an answer came.
    pub(crate) fn is_unanswered(&self) -> bool {
        matches!(self, BackendError::Closed | BackendError::Lost(_))
    }

    /// Counts it, and says it where the operator looks.
    pub(crate) fn note(&self, backend: &Backend, counters: &Counters) {
        self.counter(counters).raise();
        tracing::warn!("backend {backend}: {self}");
    }

    fn counter<'a>(&self, counters: &'a Counters) -> &'a Counter {
        match self {
            BackendError::Connect(_) => &counters.backend_connects_failed,
            BackendError::ConnectLate => &counters.backend_connect_timeouts,
            BackendError::Full => &counters.backend_connections_full,
            BackendError::AnswerLate | BackendError::ContentLate => {
                &counters.backend_answer_timeouts
            }
            BackendError::Closed | BackendError::Lost(_) | BackendError::ContentCut => {
                &counters.backend_answers_cut
            }
            BackendError::HeadTooLarge | BackendError::RefusalTooLarge => {
                &counters.backend_heads_too_large
            }
            BackendError::HeadFaulty(_)
            | BackendError::FramingFaulty(_)
            | BackendError::InterimTooMany
            | BackendError::SwitchedElsewhere
            | BackendError::SwitchedUnasked => &counters.backend_answers_faulty,
        }
    }
}
