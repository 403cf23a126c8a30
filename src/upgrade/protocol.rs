//! A protocol that a connection can be switched to: its token, the requests it takes, and who
//! decides.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use super::asynchronous::{self, Upgraded};
use super::{Awaiting, ConnectionWaker, Handler, Mailbox, Promise, Spawn};
use crate::counters::TokenSlot;
use crate::http::{FieldError, Fields, Method, MethodSet, OwnedRequest, Request, Response, list};
use std::rc::Rc;

/// Which offered versions a registration takes (U-16, U-17).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProtocolVersion {
    /// The bare name only.
    Bare,
    /// Exactly this version.
    Exact(Box<str>),
    /// Any version, but not the bare name; the handler sees it and the 101 repeats it.
    Any,
}

/// Whether a client may send bytes of the new protocol before it has seen the 101.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum EarlyData {
    /// They are handed to the handler, or are the next request after a refusal.
    #[default]
    Allowed,
    /// A client that has sent some and is refused loses its connection: they could be mistaken for
    /// a request (RFC 9931).
    Forbidden,
}

/// A registered protocol.
#[derive(Clone)]
pub struct Protocol {
    name: Box<str>,
    version: ProtocolVersion,
    methods: MethodSet,
    content_bytes_max: usize,
    early_data: EarlyData,
    is_exacting: bool,
    decision_timeout: Option<Duration>,
    needs_spawn: bool,
    names_clients: bool,
    decide: Arc<dyn Decide>,
    screen: Option<Arc<dyn Screen>>,
    /// Where it is counted on the core that this copy is for.
    slot: TokenSlot,
}

/// Looks at the head of a request whose content is not there yet.
trait Screen: Send + Sync + 'static {
    fn screen(&self, opening: &Opening<'_>) -> Option<Response>;
}

impl<F> Screen for F
where
    F: Fn(&Opening<'_>) -> Option<Response> + Send + Sync + 'static,
{
    fn screen(&self, opening: &Opening<'_>) -> Option<Response> {
        self(opening)
    }
}

/// Decides on one request whose offer was chosen: switch, or answer over HTTP.
pub trait Decide: Send + Sync + 'static {
    /// Decides. Nothing has been written for this request so far.
    fn decide(&self, opening: &Opening<'_>) -> Decision;
}

impl<F> Decide for F
where
    F: Fn(&Opening<'_>) -> Decision + Send + Sync + 'static,
{
    fn decide(&self, opening: &Opening<'_>) -> Decision {
        self(opening)
    }
}

/// What was decided.
#[derive(Debug)]
pub enum Decision {
    /// The 101, or the 200 to a CONNECT, is written and the connection is the handler's.
    Switch(Switch),
    /// An ordinary answer, whatever its status; the connection goes on as HTTP (U-20), but closes
    /// behind a CONNECT (U-104).
    Answer(Response),
    /// 426 with the resource's protocols listed, and these fields and content (U-44, U-73).
    UpgradeRequired(Response),
    /// The [`Promise`] will be kept within the protocol's decision timeout.
    Later(Awaiting<Decision>),
}

/// An accepted switch.
pub struct Switch {
    /// Who gets the connection.
    pub handler: Box<dyn Handler>,
    /// Fields of the 101 beyond Connection and Upgrade, or of the 200 to a CONNECT.
    pub fields: Fields,
}

impl fmt::Debug for Switch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Switch").field("fields", &self.fields).finish_non_exhaustive()
    }
}

impl Switch {
    /// To a callback handler, with nothing in the 101 but what it must have.
    pub fn to(handler: impl Handler) -> Switch {
        Switch { handler: Box::new(handler), fields: Fields::new() }
    }

    /// To the future that `run` makes: see [`Protocol::needs_runtime`]. It begins when the
    /// connection is switched. A server that stops waits for it up to the end of the drain, also when
    /// its connection has ended before it, or was taken out of the engine.
    pub fn to_async<Task>(run: impl FnOnce(Upgraded) -> Task) -> Switch
    where
        Task: Future<Output = ()> + 'static,
    {
        Switch::to(asynchronous::handler(run))
    }

    /// With another field in the 101.
    ///
    /// # Errors
    /// If the name or value is malformed or the field is the server's own (U-39).
    pub fn with_field(
        mut self,
        name: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
    ) -> Result<Switch, FieldError> {
        self.fields.push(name.as_ref(), value.as_ref())?;
        Ok(self)
    }
}

impl From<Switch> for Decision {
    fn from(switch: Switch) -> Decision {
        Decision::Switch(switch)
    }
}

impl Decision {
    /// Switches to a callback handler, with nothing in the 101 but what it must have.
    pub fn switch(handler: impl Handler) -> Decision {
        Switch::to(handler).into()
    }
}

/// One request to switch, as the one who decides sees it.
pub struct Opening<'a> {
    pub(crate) request: &'a Request<'a>,
    pub(crate) version: Option<&'a [u8]>,
    pub(crate) content: &'a [u8],
    pub(crate) mailbox: &'a Rc<Mailbox>,
    pub(crate) key: u64,
    pub(crate) spawn: Option<&'a Spawn>,
}

impl<'a> Opening<'a> {
    /// The request: method, target, fields.
    pub fn request(&self) -> &Request<'a> {
        self.request
    }

    /// The offered version, if the token has one.
    pub fn version(&self) -> Option<&[u8]> {
        self.version
    }

    /// The request's content, whole.
    pub fn content(&self) -> &[u8] {
        self.content
    }

    /// A promise for a decision that takes time, and the [`Decision::Later`] to return now.
    pub fn later(&self) -> (Promise<Decision>, Decision) {
        let (promise, awaiting) = Promise::new(self.waker());
        (promise, Decision::Later(awaiting))
    }

    /// Wakes the connection's handler from elsewhere on this core.
    pub fn waker(&self) -> ConnectionWaker {
        self.mailbox.waker(self.key)
    }

    /// Runs a future on this core. `false` in the native mode, which has no runtime to run it. A server
    /// that stops does not wait for it.
    pub fn spawn(&self, future: impl Future<Output = ()> + 'static) -> bool {
        self.spawn.is_some_and(|spawn| {
            spawn(Box::pin(future));
            true
        })
    }
}

impl Protocol {
    /// Registers `name`, offered without a version, for GET without content; `decide` has the last
    /// word.
    ///
    /// # Panics
    /// If `name` is not a token (RFC 9110 §5.6.2).
    pub fn new(name: &str, decide: impl Decide) -> Protocol {
        assert!(list::is_token(name.as_bytes()), "a protocol's name is a token: {name:?}");
        Protocol {
            name: name.into(),
            version: ProtocolVersion::Bare,
            methods: MethodSet::of(&[Method::Get]),
            content_bytes_max: 0,
            early_data: EarlyData::Allowed,
            is_exacting: false,
            decision_timeout: None,
            needs_spawn: false,
            names_clients: false,
            decide: Arc::new(decide),
            screen: None,
            slot: TokenSlot::default(),
        }
    }

    /// Always switches, to a callback handler made for each connection.
    pub fn callback<H: Handler>(
        name: &str,
        make: impl Fn(&Opening<'_>) -> H + Send + Sync + 'static,
    ) -> Protocol {
        Protocol::new(name, move |opening: &Opening<'_>| Decision::switch(make(opening)))
    }

    /// Always switches, to a future that runs on this core's tokio-uring runtime. Needs the hosted
    /// mode.
    ///
    /// ```
    /// use upring::{OwnedRequest, Protocol, Upgraded};
    ///
    /// let lines = Protocol::asynchronous("lines", async |_: OwnedRequest, mut upgraded: Upgraded| {
    ///     while let Ok(Some(bytes)) = upgraded.recv().await {
    ///         if upgraded.send(bytes).await.is_err() {
    ///             break;
    ///         }
    ///     }
    /// });
    /// assert_eq!(lines.name(), "lines");
    /// ```
    pub fn asynchronous<F, Task>(name: &str, run: F) -> Protocol
    where
        F: Fn(OwnedRequest, Upgraded) -> Task + Send + Sync + 'static,
        Task: Future<Output = ()> + 'static,
    {
        let decide = move |opening: &Opening<'_>| {
            let request = opening.request().into_owned();
            Switch::to_async(|upgraded| run(request, upgraded)).into()
        };
        Protocol::new(name, decide).needs_runtime()
    }

    /// Says that its decision may be [`Switch::to_async`], or spawns: the native mode, which has no
    /// runtime, refuses to start with it.
    #[must_use]
    pub fn needs_runtime(mut self) -> Protocol {
        self.needs_spawn = true;
        self
    }

    /// Says whether it wants to know who its clients are ([`Request::client`]): those of a server with
    /// such a protocol are identified.
    ///
    /// [`Request::client`]: crate::http::Request::client
    #[must_use]
    pub fn naming_clients(mut self, is_wanted: bool) -> Protocol {
        self.names_clients = is_wanted;
        self
    }

    /// Takes exactly `name/version` instead of the bare name.
    ///
    /// # Panics
    /// If `version` is not a token.
    #[must_use]
    pub fn version(mut self, version: &str) -> Protocol {
        assert!(list::is_token(version.as_bytes()), "a protocol's version is a token: {version:?}");
        self.version = ProtocolVersion::Exact(version.into());
        self
    }

    /// Takes `name/` with any version instead of the bare name.
    #[must_use]
    pub fn any_version(mut self) -> Protocol {
        self.version = ProtocolVersion::Any;
        self
    }

    /// The methods it takes instead of GET alone (U-19).
    #[must_use]
    pub fn methods(mut self, methods: &[Method]) -> Protocol {
        self.methods = MethodSet::of(methods);
        self
    }

    /// Takes content up to so many bytes; the switch waits for it (U-26).
    #[must_use]
    pub fn content_bytes_max(mut self, bytes: usize) -> Protocol {
        self.content_bytes_max = bytes;
        self
    }

    /// Forbids bytes of the protocol before the 101 (U-25).
    #[must_use]
    pub fn forbid_early_data(mut self) -> Protocol {
        self.early_data = EarlyData::Forbidden;
        self
    }

    /// Answers 400 to an offer of it with another method, or with content it does not take, where it
    /// would be passed over otherwise: for protocols whose standard says so (U-29; RFC 6455 §4.2.1).
    #[must_use]
    pub fn exacting(mut self) -> Protocol {
        self.is_exacting = true;
        self
    }

    /// Asks `screen` about a request with content before the content is read: a response refuses it
    /// from the head alone, and a client that waits for a 100 keeps its content (U-32). Requests
    /// without content go to the decision at once.
    #[must_use]
    pub fn screen(
        mut self,
        screen: impl Fn(&Opening<'_>) -> Option<Response> + Send + Sync + 'static,
    ) -> Protocol {
        self.screen = Some(Arc::new(screen));
        self
    }

    /// Time for a decision, instead of the limit for all (U-37).
    #[must_use]
    pub fn decision_timeout(mut self, timeout: Duration) -> Protocol {
        self.decision_timeout = Some(timeout);
        self
    }

    /// The registered spelling of the name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The versions it takes.
    pub fn versions(&self) -> &ProtocolVersion {
        &self.version
    }

    /// Has it counted in this place.
    pub(crate) fn place(&mut self, slot: TokenSlot) {
        self.slot = slot;
    }

    /// Where it is counted.
    pub(crate) fn slot(&self) -> TokenSlot {
        self.slot
    }

    pub(crate) fn takes_method(&self, method: Method) -> bool {
        self.methods.contains(method)
    }

    pub(crate) fn content_max(&self) -> usize {
        self.content_bytes_max
    }

    pub(crate) fn early_data(&self) -> EarlyData {
        self.early_data
    }

    pub(crate) fn timeout(&self) -> Option<Duration> {
        self.decision_timeout
    }

    pub(crate) fn needs_spawn(&self) -> bool {
        self.needs_spawn
    }

    pub(crate) fn names_clients(&self) -> bool {
        self.names_clients
    }

    pub(crate) fn is_exacting(&self) -> bool {
        self.is_exacting
    }

    pub(crate) fn has_screen(&self) -> bool {
        self.screen.is_some()
    }

    pub(crate) fn refusal(&self, opening: &Opening<'_>) -> Option<Response> {
        self.screen.as_ref()?.screen(opening)
    }

    pub(crate) fn decide(&self, opening: &Opening<'_>) -> Decision {
        self.decide.decide(opening)
    }

    /// U-07: names without regard to case. U-16: versions octet by octet.
    pub(crate) fn matches(&self, name: &[u8], version: Option<&[u8]>) -> bool {
        let is_version = match (&self.version, version) {
            (ProtocolVersion::Bare, None) | (ProtocolVersion::Any, Some(_)) => true,
            (ProtocolVersion::Exact(registered), Some(offered)) => registered.as_bytes() == offered,
            _ => false,
        };
        is_version && self.name.as_bytes().eq_ignore_ascii_case(name)
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.version {
            ProtocolVersion::Bare | ProtocolVersion::Any => f.write_str(&self.name),
            ProtocolVersion::Exact(version) => write!(f, "{}/{version}", self.name),
        }
    }
}

impl fmt::Debug for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Protocol({self})")
    }
}
