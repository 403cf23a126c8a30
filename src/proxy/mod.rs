//! A reverse proxy: a resource whose answers are another server's. Content goes both ways as it
//! comes, through few buffers; connections to the backend are kept and used again.
//!
//! ```text
//!   request ──► head made anew ──► a kept connection, or a new one ──► backend
//!   content ──► leases, uncopied ─────────────┘                           │
//!   answer  ◄── buffers, used again ◄── its head read strictly ◄──────────┘
//! ```
//!
//! Both messages are framed anew, each in one way: what is read as one message here is one message
//! there.

// Nothing a peer sends may end in a panic: what could is refused here, and each exception says why
// it cannot.
#![cfg_attr(
    not(test),
    deny(
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic,
        clippy::string_slice,
        clippy::unreachable,
        clippy::unwrap_used
    )
)]

mod exchange;
mod trace;
mod upload;

use std::fmt;
use std::rc::Rc;
use std::sync::Arc;

use crate::backend::{
    Backend, Forwarded, Pool, Purpose, SettingError, Terms, client_of, hops_left, spares,
};
use crate::http::{Framing, Method, MethodSet, Request, Response, Status, framing};
use crate::resource::{Answer, Reply, Resource, Takes, begin};
use crate::upgrade::Mailbox;
use exchange::{Asked, Local, answer};

/// What an operator may set of a proxy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProxySettings {
    /// Milliseconds for a connection to the backend, over all of its addresses. Over it: 504.
    /// Default 3000: one lost SYN is sent again after 1000.
    pub connect_timeout_ms: u64,
    /// Milliseconds from the end of the request, or from when the backend takes no more of it, to
    /// the beginning of the answer. Over it: 504. Default 30 000; behind the limit
    /// `answer_timeout_ms` of the server, 60 000, it comes too late.
    pub answer_timeout_ms: u64,
    /// Milliseconds in which nothing more of an answer comes. Over it: the connection of the client
    /// is cut. Default 60 000.
    pub idle_timeout_ms: u64,
    /// Connections that one core has to the backend at once. Over it: 503 with Retry-After. Default
    /// 1024.
    pub connections_max: usize,
    /// Connections that one core keeps for later requests. Over it, the one that waits the longest
    /// is closed. Default 32; with 0 each request has a connection of its own.
    pub idle_connections_max: usize,
    /// Milliseconds for which they are kept. Default 4000: less than the backends that close theirs
    /// first, most of which wait for 5 s or more.
    pub idle_connection_timeout_ms: u64,
    /// How requests go to the backend.
    pub terms: Terms,
}

impl Default for ProxySettings {
    fn default() -> ProxySettings {
        ProxySettings {
            connect_timeout_ms: 3000,
            answer_timeout_ms: 30_000,
            idle_timeout_ms: 60_000,
            connections_max: 1024,
            idle_connections_max: 32,
            idle_connection_timeout_ms: 4000,
            terms: Terms::default(),
        }
    }
}

/// An answer that is a backend's. Needs the hosted mode.
///
/// ```
/// use upring::{Proxy, Tunnel};
///
/// let backend: upring::Backend = "unix:/run/app.sock".parse()?;
/// let sockets = Tunnel::to(backend.clone()).protocol("websocket");
/// let everything = Proxy::to(backend).resource().upgrade(sockets);
/// # Ok::<(), upring::BackendAddressError>(())
/// ```
#[derive(Clone)]
pub struct Proxy {
    plan: Arc<Plan>,
}

/// What all cores share.
struct Plan {
    backend: Backend,
    settings: ProxySettings,
}

impl Proxy {
    /// Of this backend, with the usual settings.
    pub fn to(backend: Backend) -> Proxy {
        Proxy { plan: Arc::new(Plan { backend, settings: ProxySettings::default() }) }
    }

    /// With these settings.
    ///
    /// # Errors
    /// One of them cannot be sent to a backend.
    pub fn with(self, settings: ProxySettings) -> Result<Proxy, SettingError> {
        settings.terms.check()?;
        let backend = self.plan.backend.clone();
        Ok(Proxy { plan: Arc::new(Plan { backend, settings }) })
    }

    /// A resource that leaves every method to the backend, but CONNECT and those that the server
    /// does not know.
    pub fn resource(&self) -> Resource {
        self.add_to(Resource::new())
    }

    /// The same for a resource that has more to it.
    pub(crate) fn add_to(&self, resource: Resource) -> Resource {
        methods().fold(resource, |resource, method| resource.on(method, self.clone()))
    }

    pub(crate) fn backend(&self) -> &Backend {
        &self.plan.backend
    }
}

fn methods() -> impl Iterator<Item = Method> {
    Method::NAMED.into_iter().filter(|method| *method != Method::Connect)
}

impl Answer for Proxy {
    fn takes(&self) -> Takes {
        Takes::Streamed
    }

    fn needs_runtime(&self) -> bool {
        true
    }

    fn names_clients(&self) -> bool {
        self.plan.settings.terms.forwarded != Forwarded::Off
    }

    fn answer(&self, request: &Request<'_>, _: &[u8], reply: &mut Reply<'_>) {
        if request.method().is_hop_counted() && hops_left(*request) == Some(0) {
            return reply.send(&last_hop(*request));
        }
        // It was read, or the request would not have come here.
        let framing = framing(request.head()).unwrap_or(Framing::None);
        let has_content = !matches!(framing, Framing::None | Framing::Length(0));
        let is_waiting = has_content && request.head().expects_continue;
        let purpose = Purpose::Answer { framing, is_waiting };
        let terms = &self.plan.settings.terms;
        let head = match terms.head(*request, purpose, client_of(*request)) {
            Ok(head) => head,
            Err(unfit) => return reply.send(&unfit.response()),
        };
        let asked = Asked {
            head,
            framing,
            is_waiting,
            is_head: request.method() == Method::Head,
            is_repeatable: request.method().is_idempotent() && !has_content,
        };
        let local = self.local(reply.mailbox());
        begin(reply, |content, responder| answer(local, asked, content, responder));
    }
}

impl Proxy {
    /// What this core has of it.
    fn local(&self, mailbox: &Mailbox) -> Rc<Local> {
        mailbox.resident_of_registration(Arc::as_ptr(&self.plan) as usize, || {
            let ProxySettings { connections_max, idle_connections_max, .. } = self.plan.settings;
            let kept_ms = self.plan.settings.idle_connection_timeout_ms;
            Local {
                plan: Arc::clone(&self.plan),
                pool: Rc::new(Pool::new(connections_max, idle_connections_max, kept_ms)),
                spares: spares(mailbox),
                counters: Arc::clone(mailbox.counters()),
            }
        })
    }
}

/// RFC 9110 §7.6.2: a request that may go no further is answered here, as its final recipient does.
/// It is an OPTIONS or a TRACE.
fn last_hop(request: Request<'_>) -> Response {
    if request.method() == Method::Trace {
        return trace::reflection(request);
    }
    // §10.2.1: what this route supports, TRACE among it.
    let allow = methods().fold(MethodSet::default(), MethodSet::with).to_string();
    let response = Response::new(Status::NO_CONTENT);
    response.clone().with_field("Allow", allow).unwrap_or(response)
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Proxy({})", self.plan.backend)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proxy_answers_every_method_a_resource_can() {
        let resource = Proxy::to("127.0.0.1:9".parse().unwrap()).resource();
        assert_eq!(resource.allow(), "GET, HEAD, POST, PUT, DELETE, OPTIONS, TRACE, PATCH");
        assert!(resource.answer(Method::Patch).unwrap().needs_runtime());
    }

    #[test]
    fn settings_that_cannot_be_sent_are_refused() {
        let proxy = Proxy::to("127.0.0.1:9".parse().unwrap());
        let terms = Terms { via: Some("a b".to_owned()), ..Terms::default() };
        let settings = ProxySettings { terms, ..ProxySettings::default() };
        assert_eq!(proxy.with(settings).unwrap_err().name, "via");
    }
}
