//! Before the switch: the request is replayed, and the backend's answer decides.

use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

use super::Plan;
use super::relay::{Ends, relay};
use crate::backend::{
    AnswerContent, AnswerHead, BackendError, Connection, Either, Late, Purpose, client_of,
    final_head, first, spares,
};
use crate::buffer::Spares;
use crate::counters::Counters;
use crate::http::list::members;
use crate::http::{Fields, Method, Response, Status};
use crate::upgrade::{Decision, Opening, Switch};

/// Bytes of content passed on with an answer that is no 101; with more the client is answered 502.
pub(super) const REFUSAL_BYTES_MAX: usize = 64 * 1024;

/// What the opening of one tunnel needs of its core, and of its request.
struct Asked {
    plan: Arc<Plan>,
    head: Vec<u8>,
    content: Vec<u8>,
    is_head: bool,
    version: Option<Vec<u8>>,
    counters: Arc<Counters>,
    spares: Rc<Spares>,
}

/// What a backend has answered.
enum Answered {
    /// It switches; `early` came behind its 101.
    Switched { fields: Fields, connection: Connection, early: Vec<u8> },
    /// It does not.
    Declined(Response),
}

/// Has the backend decide.
pub(super) fn decide(plan: &Arc<Plan>, opening: &Opening<'_>) -> Decision {
    let (request, content) = (*opening.request(), opening.content());
    let purpose = Purpose::Switch {
        protocol: &plan.protocol,
        version: opening.version(),
        content_bytes: content.len(),
    };
    let head = match plan.settings.terms.head(request, purpose, client_of(request)) {
        Ok(head) => head,
        Err(unfit) => return Decision::Answer(unfit.response()),
    };
    let asked = Asked {
        plan: Arc::clone(plan),
        head,
        content: content.to_vec(),
        is_head: request.method() == Method::Head,
        version: opening.version().map(<[u8]>::to_vec),
        counters: Arc::clone(opening.mailbox.counters()),
        spares: spares(opening.mailbox),
    };
    let (promise, later) = opening.later();
    opening.spawn(async move {
        // A client that is gone meanwhile takes its connection to the backend with it.
        let answered = first(pin!(asked.ask()), pin!(promise.abandoned())).await;
        match answered {
            Either::First(answered) => {
                let decision = asked.decision(answered);
                promise.keep(decision);
            }
            Either::Second(()) => asked.counters.backend_answers_unwanted.raise(),
        }
    });
    later
}

impl Asked {
    /// Connects, replays, and waits for the answer.
    async fn ask(&self) -> Result<Answered, BackendError> {
        let settings = &self.plan.settings;
        let connection =
            Connection::open(&self.plan.backend, settings.connect_timeout_ms, &self.counters)
                .await?;
        let answer_timeout = Duration::from_millis(settings.answer_timeout_ms);
        let answered = timeout(answer_timeout, self.converse(connection)).await;
        answered.map_err(|_| BackendError::from(Late::Answer))?
    }

    async fn converse(&self, connection: Connection) -> Result<Answered, BackendError> {
        // A failure may have an answer before it: one is looked for in any case.
        let sent = async {
            connection.send(&self.head).await?;
            connection.send(&self.content).await
        };
        let is_sent = sent.await;
        let mut received = Vec::new();
        let head =
            final_head(&connection, &mut received, || {}).await.map_err(|error| match is_sent {
                Err(lost) if error.is_unanswered() => BackendError::Lost(lost),
                _ => error,
            })?;
        if head.status() != Status::SWITCHING_PROTOCOLS {
            return self.declined(&connection, &head, received).await.map(Answered::Declined);
        }
        if !self.is_agreed(&head) {
            return Err(BackendError::SwitchedElsewhere);
        }
        let fields = head.switching_fields()?;
        Ok(Answered::Switched { fields, connection, early: received })
    }

    /// Whether the 101 is for the protocol that was asked for, and no other (RFC 9110 §7.8).
    fn is_agreed(&self, head: &AnswerHead) -> bool {
        let mut named = head.fields_named("upgrade").flat_map(members);
        let is_it = named.next().is_some_and(|token| self.is_asked_for(token));
        head.is_switching() && is_it && named.next().is_none()
    }

    fn is_asked_for(&self, token: &[u8]) -> bool {
        let name = self.plan.protocol.as_bytes();
        let Some((own, rest)) = token.split_at_checked(name.len()) else { return false };
        let version = self.version.as_deref();
        own.eq_ignore_ascii_case(name)
            && match (rest.split_first(), version) {
                (None, None) => true,
                (Some((b'/', offered)), Some(version)) => offered == version,
                _ => false,
            }
    }

    /// The answer whole, as this server can give it.
    async fn declined(
        &self,
        connection: &Connection,
        head: &AnswerHead,
        received: Vec<u8>,
    ) -> Result<Response, BackendError> {
        let response = head.response(None)?;
        let mut content = AnswerContent::new(head.extent(self.is_head)?, received);
        let mut body = Vec::new();
        while let Some(piece) = content.next(connection, &self.spares, u64::MAX).await? {
            if piece.len() > REFUSAL_BYTES_MAX - body.len() {
                return Err(BackendError::RefusalTooLarge);
            }
            body.extend_from_slice(piece.bytes());
        }
        Ok(response.with_body(body))
    }

    /// What becomes of the client's request.
    fn decision(&self, answered: Result<Answered, BackendError>) -> Decision {
        match answered {
            Ok(Answered::Switched { fields, connection, early }) => {
                let ends = Ends {
                    connection,
                    early,
                    counters: Arc::clone(&self.counters),
                    spares: Rc::clone(&self.spares),
                    plan: Arc::clone(&self.plan),
                };
                let mut switch = Switch::to_async(move |upgraded| relay(upgraded, ends));
                switch.fields = fields;
                switch.into()
            }
            Ok(Answered::Declined(response)) => {
                self.counters.tunnels_declined.raise();
                match response.status() {
                    Status::UPGRADE_REQUIRED => Decision::UpgradeRequired(response),
                    _ => Decision::Answer(response),
                }
            }
            Err(error) => {
                error.note(&self.plan.backend, &self.counters);
                Decision::Answer(error.response())
            }
        }
    }
}
