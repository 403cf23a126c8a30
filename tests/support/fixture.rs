//! The fixture server of `tests/conformance/README.md`, as resources on upring's public interface.
//! Tests put its routes into a `Server`, an engine's `Registry` or a bare session's core; nothing
//! here knows which of them it is.
//!
//! Delayed answers are futures on the core's runtime. Where a test has a clock of its own instead,
//! [`Tasks`] is the runtime and time passes when the test says so.

#![allow(dead_code, reason = "each integration test that includes this file uses a part of it")]
#![allow(unreachable_pub, reason = "a private module of each test, and its interface all the same")]

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use upring::buffer::Lease;
use upring::config::Limits;
use upring::http::{Method, Ready, Request, Response, Status};
use upring::resource::{Answer, Registry, Reply, Resource, from_head};
use upring::upgrade::{Decision, Handler, Io, Opening, Promise, Protocol, Spawn};
use upring::websocket::{
    Compression, Endpoint, Message, Origins, Socket, WebSocket, WebSocketLimits,
};

/// Content that `echo` takes with its request.
const CONTENT_BYTES_MAX: usize = 1024;
const GREETING_BYTES: usize = 1024 * 1024;
/// Every method a resource can have.
const METHODS: [Method; 8] = [
    Method::Get,
    Method::Head,
    Method::Post,
    Method::Put,
    Method::Delete,
    Method::Options,
    Method::Trace,
    Method::Patch,
];

/// The paths of `/log` and `/evil` that were routed.
#[derive(Debug, Clone, Default)]
pub struct Routed(Arc<Mutex<Vec<String>>>);

impl Routed {
    /// Takes what was recorded since the last call.
    pub fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.0.lock().expect("nobody panics while recording"))
    }

    fn record(&self, path: &[u8]) {
        let path = String::from_utf8_lossy(path).into_owned();
        self.0.lock().expect("nobody panics while recording").push(path);
    }
}

/// Pattern and resource of everything the fixture serves.
pub fn routes(routed: &Routed) -> Vec<(&'static str, Resource)> {
    vec![
        ("/", Resource::new().get(text("ok")).on(Method::Post, own_content)),
        ("/slow", Resource::new().get(slow)),
        ("/e*", echoes(plain())),
        ("/ec", echoes(plain()).prefer_client()),
        ("/e-adv", echoes(plain()).advertise()),
        ("/ws", plain().upgrade(websocket().endpoint(|_| Messages))),
        ("/wz", plain().upgrade(deflating().endpoint(|_| Messages))),
        ("/only", only()),
        ("/moved", on_all_methods(Resource::new(), from_head(moved))),
        ("/log", recording(routed)),
        ("/evil", recording(routed)),
        ("/never", plain().upgrade(never())),
        ("/late", plain().upgrade(Protocol::callback("echo", |_| Late))),
        ("/greet", plain().upgrade(Protocol::callback("echo", |_| Greeting))),
        ("/boom", plain().upgrade(Protocol::callback("echo", |_| Fragile::default()))),
    ]
}

/// What the fixture is set to: a case may need another setting than the usual one (`needs=NAME`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Setting {
    #[default]
    Usual,
    /// `keep_alive_200ms`
    KeepAlive200Ms,
    /// `host_a_only`
    HostAOnly,
}

/// What a case needs that is about connections outside of TLS: what is at `https` is not there.
pub const IN_THE_CLEAR: &str = "in_the_clear";

impl Setting {
    pub fn named(name: Option<&str>) -> Result<Setting, String> {
        match name {
            None => Ok(Setting::Usual),
            // Of the connection, not of what is served.
            Some(IN_THE_CLEAR) => Ok(Setting::Usual),
            Some("keep_alive_200ms") => Ok(Setting::KeepAlive200Ms),
            Some("host_a_only") => Ok(Setting::HostAOnly),
            Some(other) => Err(format!("the fixture lacks {other}")),
        }
    }

    pub fn limits(self) -> Limits {
        match self {
            Setting::KeepAlive200Ms => Limits { idle_timeout_ms: 200, ..Limits::default() },
            Setting::Usual | Setting::HostAOnly => Limits::default(),
        }
    }

    /// The host to which every route is bound, if they are.
    pub fn host(self) -> Option<&'static str> {
        (self == Setting::HostAOnly).then_some("a")
    }

    /// Everything the fixture serves, as a registry.
    pub fn registry(self, routed: &Routed) -> Registry {
        let mut registry = Registry::default();
        for (pattern, resource) in routes(routed) {
            match self.host() {
                Some(host) => registry.insert_on(host, pattern, resource),
                None => registry.insert(pattern, resource),
            }
        }
        registry.connect(tunnel());
        registry
    }
}

fn text(text: &'static str) -> Ready {
    Response::text(Status::OK, text).to_ready()
}

fn on_all_methods(resource: Resource, answer: impl Answer + Clone) -> Resource {
    METHODS.iter().fold(resource, |resource, method| resource.on(*method, answer.clone()))
}

fn plain() -> Resource {
    on_all_methods(Resource::new(), text("plain"))
}

fn own_content(_: &Request<'_>, content: &[u8], reply: &mut Reply<'_>) {
    reply.send(&Response::new(Status::OK).with_body(content.to_vec()));
}

fn slow(_: &Request<'_>, _: &[u8], reply: &mut Reply<'_>) {
    let promise = reply.later();
    // Where nothing can run it, the promise is dropped, and the answer is 503.
    reply.spawn(async move {
        sleep(Duration::from_millis(300)).await;
        promise.keep(Response::text(Status::OK, "slow"));
    });
}

fn moved(_: &Request<'_>, reply: &mut Reply<'_>) {
    let response = Response::new(Status::PERMANENT_REDIRECT).with_field("Location", "/");
    reply.send(&response.expect("a valid field"));
}

fn recording(routed: &Routed) -> Resource {
    let routed = routed.clone();
    on_all_methods(
        Resource::new(),
        move |request: &Request<'_>, _: &[u8], reply: &mut Reply<'_>| {
            routed.record(request.path());
            reply.send(&Response::text(Status::OK, "routed"));
        },
    )
}

/// The tokens of `/e*`, best first.
fn echoes(resource: Resource) -> Resource {
    resource
        .upgrade(echo("echo2").version("2.1"))
        .upgrade(echo("echo2").version("2.0"))
        .upgrade(echo("rta").any_version())
        .upgrade(echo("echo"))
}

fn echo(name: &str) -> Protocol {
    Protocol::new(name, decide_echo)
        .methods(&[Method::Get, Method::Post, Method::Options])
        .content_bytes_max(CONTENT_BYTES_MAX)
        .screen(|opening| denied(opening.request()))
}

fn denied(request: &Request<'_>) -> Option<Response> {
    let is_denied = request.query() == Some(b"deny=403");
    is_denied.then(|| Response::text(Status::FORBIDDEN, "no"))
}

fn decide_echo(opening: &Opening<'_>) -> Decision {
    let echo = Echo::answering(opening.content());
    if let Some(response) = denied(opening.request()) {
        return Decision::Answer(response);
    }
    match opening.request().query() {
        Some(b"wait=200") => after_200_ms(opening, || Decision::switch(echo)),
        _ => Decision::switch(echo),
    }
}

fn after_200_ms(opening: &Opening<'_>, decide: impl FnOnce() -> Decision + 'static) -> Decision {
    let (promise, decision) = opening.later();
    opening.spawn(async move {
        sleep(Duration::from_millis(200)).await;
        promise.keep(decide());
    });
    decision
}

/// What CONNECT is asked of.
pub fn tunnel() -> Protocol {
    Protocol::new("tunnel", |opening: &Opening<'_>| {
        let no = || Decision::Answer(Response::text(Status::FORBIDDEN, "no"));
        let yes = || Decision::switch(Echo::answering(b""));
        match opening.request().target() {
            b"tunnel:80" => yes(),
            b"later:80" => after_200_ms(opening, yes),
            b"later-no:80" => after_200_ms(opening, no),
            _ => no(),
        }
    })
}

/// Echoes messages of at most 64 KiB.
fn websocket() -> WebSocket {
    let limits = WebSocketLimits { message_bytes_max: 64 * 1024, ..WebSocketLimits::default() };
    WebSocket::new()
        .limits(limits)
        .subprotocols(["superchat"])
        .origins(Origins::only(["https://ok"]))
}

/// The same with permessage-deflate, for messages long enough.
fn deflating() -> WebSocket {
    websocket().compression(Compression::dedicated(15))
}

fn only() -> Resource {
    let websocket = websocket().endpoint(|_| Messages);
    Resource::new().upgrade(websocket).upgrade(echo("echo")).upgrade_required()
}

struct Messages;

impl Endpoint for Messages {
    fn on_message(&mut self, message: Message, socket: &mut Socket<'_>) {
        socket.send(message);
    }
}

fn never() -> Protocol {
    Protocol::new("echo", |opening: &Opening<'_>| {
        let (promise, decision) = opening.later();
        UNKEPT.with_borrow_mut(|unkept| {
            unkept.retain(|promise| !promise.is_abandoned());
            unkept.push(promise);
        });
        decision
    })
    .decision_timeout(Duration::from_millis(100))
}

thread_local! {
    /// Promises of `/never`: dropping one would decide.
    static UNKEPT: RefCell<Vec<Promise<Decision>>> = const { RefCell::new(Vec::new()) };
}

/// Says what content its request had, then returns every byte.
#[derive(Default)]
struct Echo {
    greeting: Vec<u8>,
}

impl Echo {
    fn answering(content: &[u8]) -> Echo {
        Echo { greeting: [b"B=", content, b";"].concat() }
    }
}

impl Handler for Echo {
    fn on_open(&mut self, io: &mut Io<'_>) {
        io.send(std::mem::take(&mut self.greeting));
    }

    fn on_bytes(&mut self, bytes: Lease, io: &mut Io<'_>) {
        io.send(bytes);
    }

    fn on_end(&mut self, io: &mut Io<'_>) {
        io.end();
    }
}

struct Late;

impl Handler for Late {
    fn on_bytes(&mut self, _: Lease, _: &mut Io<'_>) {}

    fn on_end(&mut self, io: &mut Io<'_>) {
        io.set_deadline(Duration::from_millis(300));
    }

    fn on_deadline(&mut self, io: &mut Io<'_>) {
        io.write(b"late");
        io.end();
    }
}

struct Greeting;

impl Handler for Greeting {
    fn on_open(&mut self, io: &mut Io<'_>) {
        io.send(vec![b'g'; GREETING_BYTES]);
    }

    fn on_bytes(&mut self, _: Lease, _: &mut Io<'_>) {}
}

/// Panics at a word, however it is cut.
#[derive(Default)]
struct Fragile {
    heard: Vec<u8>,
}

impl Handler for Fragile {
    fn on_bytes(&mut self, bytes: Lease, _: &mut Io<'_>) {
        self.heard.extend_from_slice(&bytes);
        if self.heard.ends_with(b"boom") {
            // A panic that prints nothing: this one is wanted.
            std::panic::resume_unwind(Box::new("boom"));
        }
    }
}

thread_local! {
    /// Virtual time in milliseconds, on threads that have it.
    static NOW: Cell<Option<u64>> = const { Cell::new(None) };
    /// The earliest end of a sleep that the task polled now has met.
    static DUE: Cell<u64> = const { Cell::new(u64::MAX) };
}

/// Waits in virtual time where there is one, else in tokio's.
async fn sleep(duration: Duration) {
    let Some(start) = NOW.get() else { return tokio::time::sleep(duration).await };
    let end = start + u64::try_from(duration.as_millis()).expect("delays are short");
    poll_fn(|_| match NOW.get() {
        Some(now) if now >= end => Poll::Ready(()),
        _ => {
            DUE.set(DUE.get().min(end));
            Poll::Pending
        }
    })
    .await;
}

/// A core's runtime in virtual time: its tasks do nothing but sleep.
#[derive(Clone, Default)]
pub struct Tasks(Rc<RefCell<Vec<Task>>>);

struct Task {
    future: Pin<Box<dyn Future<Output = ()>>>,
    due: u64,
}

impl Tasks {
    /// For `Core::spawn`.
    pub fn spawn(&self) -> Spawn {
        let tasks = Rc::clone(&self.0);
        Rc::new(move |future| tasks.borrow_mut().push(Task { future, due: 0 }))
    }

    /// Runs what is due at `now`.
    pub fn run(&self, now: u64) {
        NOW.set(Some(now));
        self.0.borrow_mut().retain_mut(|task| task.due > now || task.goes_on());
    }

    /// When the next task is due.
    pub fn next_at(&self) -> Option<u64> {
        self.0.borrow().iter().map(|task| task.due).min()
    }
}

impl Task {
    fn goes_on(&mut self) -> bool {
        DUE.set(u64::MAX);
        let polled = self.future.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        self.due = DUE.get();
        polled.is_pending()
    }
}
