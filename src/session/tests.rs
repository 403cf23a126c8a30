//! What the conformance rows do not show of a session: counters, limits, timeouts, and turns.

mod contents;
mod logged;
mod streams;
mod tunnel;

use std::cell::RefCell;
use std::time::Duration;

use super::scene::Scene;
use super::*;
use crate::buffer::{Batch, Load, Pool};
use crate::config::NEVER;
use crate::http::{Method, Request, Response, Status};
use crate::resource::{Redirect, Registry, Reply, Resource};
use crate::upgrade::{Decision, Handler, Io, Opening, Promise, Protocol};

thread_local! {
    static DECISIONS: RefCell<Vec<Promise<Decision>>> = const { RefCell::new(Vec::new()) };
    static RESPONSES: RefCell<Vec<Promise<Response>>> = const { RefCell::new(Vec::new()) };
}

/// The fixture of most tests.
fn scene_of(limits: Limits) -> Scene {
    Scene::serving(registry(), limits)
}

struct Silent;

impl Handler for Silent {
    fn on_bytes(&mut self, _: Lease, _: &mut Io<'_>) {}
}

fn registry() -> Registry {
    let mut registry = Registry::default();
    let ok = Response::text(Status::OK, "ok").to_ready();
    let plain = Resource::new().get(ok.clone()).on(Method::Post, ok);
    registry.insert("/", plain.clone().upgrade(Protocol::callback("echo", |_| Silent)));
    registry.insert("/body", plain.clone().upgrade(with_content()));
    registry.insert("/deny", plain.clone().upgrade(Protocol::new("echo", deny)));
    registry
        .insert("/early", plain.clone().upgrade(Protocol::new("echo", deny).forbid_early_data()));
    registry.insert("/undecided", plain.upgrade(Protocol::new("echo", undecided)));
    registry.insert("/later", Resource::new().get(later));
    let whole = Resource::new().get(own_content).on(Method::Post, own_content);
    registry.insert("/whole", whole);
    registry
}

fn own_content(_: &Request<'_>, content: &[u8], reply: &mut Reply<'_>) {
    reply.send(&Response::new(Status::OK).with_body(content.to_vec()));
}

fn with_content() -> Protocol {
    Protocol::callback("echo", |_| Silent).methods(&[Method::Post]).content_bytes_max(4)
}

fn deny(_: &Opening<'_>) -> Decision {
    Decision::Answer(Response::text(Status::FORBIDDEN, "no"))
}

fn undecided(opening: &Opening<'_>) -> Decision {
    let (promise, decision) = opening.later();
    DECISIONS.with_borrow_mut(|promises| promises.push(promise));
    decision
}

fn later(_: &Request<'_>, _: &[u8], reply: &mut Reply<'_>) {
    RESPONSES.with_borrow_mut(|promises| promises.push(reply.later()));
}

/// A request with these fields, and what follows it.
fn request(line: &str, fields: &str) -> String {
    format!("{line}\r\nHost: a\r\n{fields}\r\n")
}

fn get(path: &str) -> String {
    request(&format!("GET {path} HTTP/1.1"), "")
}

fn upgrade(path: &str) -> String {
    request(&format!("GET {path} HTTP/1.1"), "Connection: Upgrade\r\nUpgrade: echo\r\n")
}

#[test]
fn a_request_that_waits_is_answered_by_the_table_it_was_found_in_and_the_next_one_by_the_new() {
    let post = |path: &str, fields: &str| {
        let fields = format!("{fields}Content-Length: 4\r\n");
        request(&format!("POST {path} HTTP/1.1"), &fields)
    };
    let offer = "Connection: Upgrade\r\nUpgrade: echo\r\n";
    for (name, begun, rest, status) in [
        ("a decision", upgrade("/undecided"), "", 101),
        ("content, then a decision", post("/both", offer) + "ab", "cd", 101),
        ("an answer", get("/later"), "", 200),
        ("content", post("/whole", "") + "ab", "cd", 200),
    ] {
        let mut registry = registry();
        let both = Protocol::new("echo", undecided).methods(&[Method::Post]).content_bytes_max(4);
        registry.insert("/both", Resource::new().upgrade(both));
        let mut scene = Scene::serving(registry, Limits::default());
        scene.receive(begun);
        assert_eq!(scene.statuses(), [0u16; 0], "{name}: it waits");
        for _ in 0..2 {
            let limits = Limits { target_bytes_max: 5, ..Limits::default() };
            scene.core.renew(Registry::default(), limits);
        }
        scene.receive(rest);
        for promise in DECISIONS.take() {
            promise.keep(Decision::switch(Silent));
        }
        for promise in RESPONSES.take() {
            promise.keep(Response::new(Status::OK));
        }
        scene.wake();
        assert_eq!(scene.statuses(), [status], "{name}");
        if status == 200 {
            scene.receive(get("/four") + &get("/six__"));
            assert_eq!(scene.statuses(), [404, 414], "{name}: what follows");
        }
    }
}

// U-111.
#[test]
fn each_result_of_an_offer_raises_exactly_one_counter() {
    let of = |line: &str, upgrade: &str| {
        request(line, &format!("Connection: Upgrade\r\nUpgrade: {upgrade}\r\n"))
    };
    let body = |length: &str| format!("Connection: Upgrade\r\nUpgrade: echo\r\n{length}\r\n");
    for (name, input, status) in [
        ("upgrades_switched", upgrade("/"), 101),
        ("upgrades_http10", of("GET / HTTP/1.0", "echo"), 200),
        ("upgrades_no_connection_option", request("GET / HTTP/1.1", "Upgrade: echo\r\n"), 200),
        ("upgrades_malformed", of("GET / HTTP/1.1", "echo;q=1"), 200),
        ("upgrades_too_long", of("GET / HTTP/1.1", &"a,".repeat(17)), 200),
        ("upgrades_unknown", of("GET / HTTP/1.1", "h2c"), 200),
        ("upgrades_unfit", of("POST / HTTP/1.1", "echo"), 200),
        ("upgrades_unfit", request("GET / HTTP/1.1", &body("Content-Length: 2")) + "hi", 200),
        ("upgrades_unfit", request("POST /body HTTP/1.1", &body("Content-Length: 5")), 413),
        (
            "upgrades_unfit",
            request("POST /body HTTP/1.1", &body("Transfer-Encoding: chunked"))
                + "5\r\nhello\r\n0\r\n\r\n",
            413,
        ),
        ("upgrades_declined", upgrade("/deny"), 403),
        ("upgrades_declined", upgrade("/deny") + "early", 403),
        ("upgrades_declined", upgrade("/early"), 403),
        ("upgrades_early_bytes_refused", upgrade("/early") + "early", 403),
    ] {
        let mut scene = scene_of(Limits::default());
        scene.receive(&input);
        assert_eq!(scene.results(), [(name, 1)], "{input:?}");
        assert_eq!(scene.statuses(), [status], "{input:?}");
    }
    let mut scene = scene_of(Limits::default());
    scene.receive(get("/"));
    scene.receive(request("GET / HTTP/1.1", "Connection: Upgrade\r\n"));
    assert_eq!(scene.results(), [], "nothing was offered");
}

// U-37.
#[test]
fn a_decision_that_does_not_come_is_a_503_and_a_timeout() {
    let mut scene = scene_of(Limits { decision_timeout_ms: 700, ..Limits::default() });
    scene.receive(upgrade("/undecided"));
    assert_eq!(scene.counters.upgrades_deciding.value(), 1);
    assert_eq!((scene.statuses(), scene.expire()), (vec![], 700));
    assert_eq!((scene.statuses(), scene.is_closing()), (vec![503], true));
    assert_eq!(scene.results(), [("upgrades_timeout", 1)]);
    assert_eq!(scene.counters.upgrades_deciding.value(), 0);
    let promise = DECISIONS.take().pop().expect("the handler was asked");
    assert!(promise.is_abandoned());
}

#[test]
fn a_promise_that_is_dropped_is_a_503_at_once() {
    for path in ["/undecided", "/later"] {
        let mut scene = scene_of(Limits::default());
        scene.receive(upgrade(path));
        drop((DECISIONS.take(), RESPONSES.take()));
        scene.wake();
        assert_eq!((scene.statuses(), scene.is_closing()), (vec![503], true), "{path}");
    }
}

// U-36.
#[test]
fn a_reset_while_the_handler_decides_leaves_nothing_behind() {
    let mut scene = scene_of(Limits::default());
    for _ in 0..10_000 {
        scene.session = Session::open(&scene.core);
        scene.receive(upgrade("/undecided") + "early");
        assert_eq!(scene.counters.upgrades_deciding.value(), 1);
        assert_eq!(scene.pool.vacant(), 63, "the early bytes wait where they were received");
        let Scene { session, core, .. } = &mut scene;
        session.close(1, CloseReason::PeerReset, core);
        let promise = DECISIONS.take().pop().expect("the handler was asked");
        assert!(promise.is_abandoned());
        promise.keep(Decision::switch(Silent));
        scene.wake();
        assert_eq!(scene.counters.upgrades_deciding.value(), 0);
        assert_eq!((scene.pool.vacant(), scene.sent().len()), (64, 0));
    }
    assert_eq!(scene.results(), []);
    assert_eq!(scene.counters.upgrades_open.value(), 0);
}

#[test]
fn answers_that_come_late_keep_their_order() {
    let mut scene = scene_of(Limits::default());
    scene.receive(get("/later") + &get("/"));
    assert!(scene.statuses().is_empty());
    let promise = RESPONSES.take().pop().expect("the handler was asked");
    promise.keep(Response::text(Status::CREATED, "late"));
    scene.wake();
    assert_eq!(scene.statuses(), [201, 200]);
}

// U-66.
#[test]
fn a_head_over_its_limit_is_refused_as_soon_as_that_is_clear() {
    let limits = Limits { head_bytes_max: 1000, target_bytes_max: 100, ..Limits::default() };
    let fields = |count: usize| request("GET / HTTP/1.1", &"X: y\r\n".repeat(count));
    for (input, status) in [
        (get(&format!("/{}", "x".repeat(99))), 404),
        (get(&format!("/{}", "x".repeat(100))), 414),
        // Longer than a whole head, and no end of the request line in sight.
        (format!("GET /{}", "x".repeat(1000)), 414),
        // A head of exactly 1000 bytes, and one more.
        (request("GET / HTTP/1.1", &format!("X: {}\r\n", "y".repeat(968))), 200),
        (request("GET / HTTP/1.1", &format!("X: {}\r\n", "y".repeat(969))), 431),
        (format!("GET / HTTP/1.1\r\nX: {}", "y".repeat(1000)), 431),
        // Host counts.
        (fields(99), 200),
        (fields(100), 431),
    ] {
        for piece in [1, 7, 4096] {
            let mut scene = scene_of(limits.clone());
            input.as_bytes().chunks(piece).for_each(|piece| scene.receive(piece));
            let told = format!("{:.40}, {} bytes in pieces of {piece}", input, input.len());
            assert_eq!(scene.statuses(), [status], "{told}");
            assert_eq!(scene.is_closing(), status > 404, "{told}");
        }
    }
}

#[test]
fn a_head_that_does_not_end_in_time_is_a_408_however_busy_its_bytes_are() {
    let mut scene = scene_of(Limits { head_timeout_ms: 900, ..Limits::default() });
    scene.core.now = 5;
    scene.receive("GET / HT");
    for byte in ["T", "P", "/"] {
        scene.core.now += 100;
        scene.receive(byte);
    }
    assert_eq!(scene.expire(), 600);
    assert_eq!((scene.statuses(), scene.is_closing()), (vec![408], true));
    let counters = &scene.counters;
    assert_eq!((counters.timeouts_heads.value(), counters.timeouts_idle.value()), (1, 0));
}

#[test]
fn content_that_does_not_end_in_time_is_a_408() {
    let mut scene =
        scene_of(Limits { content_slack_ms: 900, content_rate_min: 4000, ..Limits::default() });
    scene.receive(request("POST /whole HTTP/1.1", "Content-Length: 4\r\n"));
    scene.core.now += 500;
    scene.receive("ab");
    assert_eq!(scene.expire(), 400);
    assert_eq!((scene.statuses(), scene.is_closing()), (vec![408], true));
}

#[test]
fn a_connection_without_a_request_is_closed_without_a_word() {
    let mut scene = scene_of(Limits { idle_timeout_ms: 800, ..Limits::default() });
    scene.core.now = 300;
    scene.receive(get("/"));
    assert_eq!(scene.statuses(), [200]);
    assert_eq!(scene.expire(), 800, "the time begins anew behind each answer");
    assert_eq!((scene.statuses(), scene.is_closing()), (vec![], true));
    let counters = &scene.counters;
    assert_eq!((counters.timeouts_heads.value(), counters.timeouts_idle.value()), (0, 1));
}

// U-106.
#[test]
fn no_timeout_of_http_outlives_the_switch() {
    for input in [upgrade("/"), upgrade("/") + "GET / HT"] {
        let mut scene = scene_of(Limits::default());
        scene.receive(&input[..20]);
        scene.receive(&input[20..]);
        assert!(scene.session.is_switched());
        assert_eq!(scene.session.control().deadline, NEVER);
    }
}

#[test]
fn a_long_pipeline_takes_several_turns() {
    let mut scene = scene_of(Limits { requests_per_turn: 10, ..Limits::default() });
    scene.receive(get("/").repeat(25));
    for (count, has_more) in [(10, true), (10, true), (5, false)] {
        assert_eq!((scene.statuses().len(), scene.session.has_more()), (count, has_more));
        scene.call(|session, port| session.woken(port));
    }
    assert!(scene.statuses().is_empty());
}

#[test]
fn a_peer_that_does_not_read_is_not_answered_further_and_not_called_late() {
    let mut scene = scene_of(Limits { outbox_bytes_high: 500, ..Limits::default() });
    scene.receive(get("/").repeat(25) + "GET / HT");
    let answered = scene.statuses().len();
    assert!(answered < 10, "{answered} answers fit into the outbox");
    assert_eq!(scene.session.control().deadline, NEVER, "the engine watches the send");
    let mut total = answered;
    while total < 25 {
        scene.core.now += 1_000_000;
        scene.call(|session, port| session.sent(port));
        let more = scene.statuses();
        assert!(!more.is_empty() && more.iter().all(|status| *status == 200), "{more:?}");
        total += more.len();
    }
    scene.call(|session, port| session.sent(port));
    assert_eq!(scene.expire(), Limits::default().head_timeout_ms, "now the rest is awaited");
    assert_eq!(scene.statuses(), [408]);
}

// U-28 for plain requests.
#[test]
fn content_over_its_limit_is_a_413_and_is_not_collected() {
    let limits = Limits { content_bytes_max: 8, ..Limits::default() };
    let chunked = |chunks: &str| {
        request("POST /whole HTTP/1.1", "Transfer-Encoding: chunked\r\n") + chunks + "0\r\n\r\n"
    };
    for (input, status) in [
        (request("POST /whole HTTP/1.1", "Content-Length: 8\r\n") + "12345678", 200),
        (request("POST /whole HTTP/1.1", "Content-Length: 9\r\n"), 413),
        (request("POST /whole HTTP/1.1", "Content-Length: 9\r\nExpect: 100-continue\r\n"), 413),
        (chunked("8\r\n12345678\r\n"), 200),
        (chunked("4\r\n1234\r\n4\r\n5678\r\n"), 200),
        (chunked("9\r\n123456789\r\n"), 413),
        (chunked("8\r\n12345678\r\n1\r\n9\r\n"), 413),
    ] {
        let mut scene = scene_of(limits.clone());
        scene.receive(&input);
        assert_eq!(
            (scene.statuses(), scene.is_closing()),
            (vec![status], status == 413),
            "{input}"
        );
    }
}

#[test]
fn a_server_that_stops_lets_go_of_idle_connections_and_closes_behind_the_others_answers() {
    let mut scene = scene_of(Limits::default());
    scene.receive(get("/"));
    assert_eq!(scene.statuses(), [200]);
    scene.core.is_draining = true;
    scene.call(|session, port| session.drain(Duration::from_secs(1), port));
    assert_eq!((scene.statuses(), scene.is_closing()), (vec![], true));

    // The first request of a connection may be on its way.
    let mut scene = scene_of(Limits::default());
    scene.core.is_draining = true;
    scene.call(|session, port| session.drain(Duration::from_secs(1), port));
    assert!(!scene.is_closing());
    scene.receive(get("/"));
    assert!(scene.sent().contains("Connection: close") && scene.is_closing());

    let mut scene = scene_of(Limits::default());
    scene.core.is_draining = true;
    scene.call(|session, port| session.drain(Duration::from_secs(1), port));
    assert_eq!((scene.expire(), scene.is_closing()), (1000, true), "but not for ever");

    let mut scene = scene_of(Limits::default());
    scene.receive(get("/later"));
    scene.core.is_draining = true;
    scene.call(|session, port| session.drain(Duration::from_secs(1), port));
    assert!(!scene.is_closing());
    let promise = RESPONSES.take().pop().expect("the handler was asked");
    promise.keep(Response::text(Status::OK, "late"));
    scene.wake();
    assert!(scene.sent().contains("Connection: close") && scene.is_closing());
}

/// Keeps what it is told of a drain.
struct Drained;

thread_local! {
    static DRAINS: RefCell<Vec<Duration>> = const { RefCell::new(Vec::new()) };
}

impl Handler for Drained {
    fn on_bytes(&mut self, _: Lease, _: &mut Io<'_>) {}

    fn on_drain(&mut self, deadline: Duration, _: &mut Io<'_>) {
        DRAINS.with_borrow_mut(|drains| drains.push(deadline));
    }
}

#[test]
fn a_protocol_is_told_once_that_its_server_stops_also_if_it_begins_later() {
    let tell = |scene: &mut Scene| {
        (scene.core.is_draining, scene.core.cut_at) = (true, scene.core.now + 5000);
        scene.call(|session, port| session.drain(Duration::from_millis(5000), port));
    };
    for is_switched in [true, false] {
        let mut scene = scene_of(Limits::default());
        scene.receive(upgrade("/undecided"));
        let promise = DECISIONS.take().pop().expect("it is asked");
        let switch = |scene: &mut Scene| {
            promise.keep(Decision::switch(Drained));
            scene.wake();
        };
        if is_switched {
            switch(&mut scene);
            tell(&mut scene);
            tell(&mut scene);
            assert_eq!(DRAINS.take(), [Duration::from_millis(5000)]);
        } else {
            tell(&mut scene);
            scene.core.now += 3000;
            switch(&mut scene);
            assert_eq!(DRAINS.take(), [Duration::from_millis(2000)]);
            tell(&mut scene);
            assert!(DRAINS.take().is_empty(), "it knows");
        }
    }
}

/// A session that has received `bytes` while so many others wait to be sent.
fn received(bytes: &[u8], in_flight: usize) -> (Session, String) {
    let limits = Limits { head_bytes_max: 64, outbox_bytes_high: 10, ..Limits::default() };
    let mut core = Core::new(Registry::default(), limits, Default::default(), 0);
    let mut session = Session::open(&core);
    let mut batch: Option<Box<Batch>> = None;
    let lease = Pool::new(1, 4096).take().expect("it is vacant").fill(bytes);
    let in_flight = Load { bytes: in_flight, leases: 0 };
    let mut port = Port {
        core: &mut core,
        batch: &mut batch,
        in_flight,
        key: 1,
        secured: None,
        is_securable: false,
    };
    session.received(lease, &mut port);
    let sent = batch.iter().flat_map(|batch| batch.slices()).flatten().copied().collect();
    (session, String::from_utf8(sent).expect("answers are ASCII here"))
}

#[test]
fn no_clock_of_the_client_runs_while_its_requests_wait_for_the_outbox() {
    let (session, sent) = received(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", 10);
    assert_eq!((session.control().deadline, sent.as_str()), (NEVER, ""));
    let (session, _) = received(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", 0);
    assert_ne!(session.control().deadline, NEVER, "at rest the idle clock runs");
}

#[test]
fn behind_a_last_answer_no_clock_runs_that_would_write_another() {
    let (session, sent) = received(&[b"GET /", &[b'a'; 100][..]].concat(), 0);
    assert!(sent.starts_with("HTTP/1.1 414 "), "{sent}");
    assert!(session.control().is_closing);
    assert_eq!(session.control().deadline, NEVER);
}

// RFC 9110 §9.3.2.
#[test]
fn no_last_answer_to_head_has_content() {
    let limits = Limits { content_bytes_max: 8, ..Limits::default() };
    let head = |path: &str, fields: &str| request(&format!("HEAD {path} HTTP/1.1"), fields);
    let chunked = "Transfer-Encoding: chunked\r\n";
    for (input, waits, status) in [
        (head("/whole", "Content-Length: 9\r\n"), false, 413),
        (head("/whole", chunked) + "9\r\n123456789\r\n", false, 413),
        (head("/whole", chunked) + "x", false, 400),
        (head("/whole", "Content-Length: x\r\n"), false, 400),
        (head("/whole", "Content-Length: 2\r\n") + "h", true, 408),
        (head("/later", ""), true, 503),
    ] {
        let mut scene = scene_of(limits.clone());
        scene.receive(&input);
        if waits {
            scene.expire();
        }
        let sent = scene.sent();
        assert!(sent.starts_with(&format!("HTTP/1.1 {status} ")), "{input:?}: {sent}");
        assert!(sent.ends_with("\r\n\r\n") && scene.is_closing(), "{input:?}: {sent}");
    }
}

// RFC 9110 §9.3.2.
#[test]
fn no_answer_to_a_faulty_head_request_has_content_however_it_is_cut() {
    let limits =
        Limits { head_bytes_max: 300, target_bytes_max: 100, fields_max: 3, ..Limits::default() };
    let (long, longer) = ("x".repeat(101), "x".repeat(301));
    for (line_end, status) in [
        ("/ HTTP/1.1\r\n\r\n", 400),
        ("/ HTTP/1.1\r\nHost: a/b\r\n\r\n", 400),
        ("/ HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", 400),
        ("/ HTTP/1.1\r\nHost: a\r\nX : a\r\n\r\n", 400),
        ("/ HTTP/1.1\nHost: a\r\n\r\n", 400),
        ("/ HTTP/2.0\r\nHost: a\r\n\r\n", 505),
        ("/#x HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("\0", 408),
        ("", 408),
        (&format!("/{long} HTTP/1.1\r\nHost: a\r\n\r\n"), 414),
        (&format!("/{longer} HTTP/1.1\r\nHost: a\r\n\r\n"), 414),
        (&format!("/ HTTP/1.1\r\nHost: a\r\nX: {longer}\r\n\r\n"), 431),
        (&format!("/ HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: y\r\n".repeat(3)), 431),
    ] {
        for method in ["HEAD", "HEAR", "\r\n\r\nHEAD", "\r\n\r\nHEAR"] {
            let input = format!("{method} {line_end}");
            for cut in 0..input.len() {
                let mut scene = scene_of(limits.clone());
                scene.receive(&input[..cut]);
                scene.receive(&input[cut..]);
                if status == 408 {
                    scene.expire();
                }
                let sent = scene.exchange();
                let told = format!("{input:?} cut at {cut}: {sent}");
                assert!(sent.starts_with(&format!("HTTP/1.1 {status} ")), "{told}");
                assert!(sent.contains("\r\nContent-Length: ") && scene.is_closing(), "{told}");
                assert_eq!(sent.ends_with("\r\n\r\n"), method.ends_with("HEAD"), "{told}");
            }
        }
    }
}

// U-62; RFC 9112 §3.2.
#[test]
fn an_empty_host_passes_where_some_route_is_for_every_host() {
    let ok = || Resource::new().get(Response::text(Status::OK, "ok").to_ready());
    let (empty, absolute) = ("GET / HTTP/1.1\r\nHost:\r\n\r\n", "http://a/");
    let absolute = empty.replacen('/', absolute, 1);
    for (everywhere, on_a_host, input, status) in [
        (None, true, empty, 400),
        (None, true, "GET / HTTP/1.1\r\nHost: \t \r\n\r\n", 400),
        (None, true, "GET / HTTP/1.0\r\nHost:\r\n\r\n", 400),
        (None, true, "HEAD / HTTP/1.1\r\nHost:\r\n\r\n", 400),
        (None, true, "GET / HTTP/1.1\r\nHost: a\r\n\r\n", 200),
        (None, true, "GET / HTTP/1.1\r\nHost: b\r\n\r\n", 404),
        (None, true, "GET / HTTP/1.0\r\n\r\n", 404),
        // What the target says goes before Host.
        (None, true, &absolute, 200),
        (Some("/"), true, empty, 200),
        (Some("/other/{name}"), true, empty, 404),
        (Some("/*"), false, empty, 200),
        (None, false, empty, 404),
    ] {
        let mut registry = Registry::default();
        if on_a_host {
            registry.insert_on("a", "/", ok());
        }
        if let Some(pattern) = everywhere {
            registry.insert(pattern, ok());
        }
        let mut scene = Scene::serving(registry, Limits::default());
        scene.receive(input);
        let told = format!("{everywhere:?} {on_a_host} {input:?}");
        assert_eq!(scene.counters.requests_faulty.value(), u64::from(status == 400), "{told}");
        assert!(scene.is_closing() || status != 400, "{told}");
        assert_eq!(scene.statuses(), [status], "{told}");
    }
}

// U-31: an empty content is none.
#[test]
fn a_client_that_waits_for_the_100_gets_it_before_the_101_whatever_it_says_of_its_content() {
    for fields in ["", "Content-Length: 0\r\n"] {
        let mut scene = scene_of(Limits::default());
        let offer = "Connection: Upgrade\r\nUpgrade: echo\r\nExpect: 100-continue\r\n";
        scene.receive(request("GET / HTTP/1.1", &format!("{offer}{fields}")));
        assert_eq!(scene.statuses(), [100, 101], "{fields:?}");
    }
}

// U-25: a protocol that is not even asked, because the request does not fit it, is refused as well.
#[test]
fn early_bytes_behind_a_request_that_does_not_fit_their_protocol_are_no_request() {
    for (line, fields) in
        [("POST /early HTTP/1.1", ""), ("GET /early HTTP/1.1", "Content-Length: 2\r\n")]
    {
        let mut scene = scene_of(Limits::default());
        let offer = "Connection: Upgrade\r\nUpgrade: echo\r\n";
        let content = if fields.is_empty() { "" } else { "hi" };
        scene.receive(request(line, &format!("{offer}{fields}")) + content + &get("/"));
        assert_eq!(scene.statuses(), [200], "{line}: what follows is not answered");
        assert!(scene.is_closing(), "{line}");
    }
}

#[test]
fn a_timeout_that_never_comes_is_no_overflow() {
    let mut scene = scene_of(Limits {
        head_timeout_ms: NEVER,
        content_slack_ms: NEVER,
        idle_timeout_ms: NEVER,
        decision_timeout_ms: NEVER,
        ..Limits::default()
    });
    scene.core.now = 5;
    scene.receive(get("/") + &get("/later"));
    drop(RESPONSES.take());
    scene.wake();
    assert_eq!(scene.statuses(), [200, 503]);
    let mut other = Scene { session: Session::open(&scene.core), ..scene };
    other.receive(request("POST / HTTP/1.1", "Content-Length: 2\r\n") + "hi" + "G");
    assert_eq!(other.statuses(), [200]);
}

#[test]
fn a_redirection_fills_its_places_from_the_request() {
    let mut registry = Registry::default();
    let to = |location: &str| {
        let redirect = Redirect::new(Status::PERMANENT_REDIRECT, location).expect("a location");
        Resource::new().get(redirect.clone()).post(redirect)
    };
    registry.insert("/fixed", to("/there?x=1"));
    registry.insert("/old/{name}/{*rest}", to("/new/{name}?at={rest}"));
    registry.insert("/*", to("https://{host}{target}"));
    registry.insert("/p/*", to("//cdn{path}{query}"));
    for (line, fields, expected) in [
        ("GET /fixed?y=2", "Host: a", "/there?x=1"),
        ("GET /old/a/b/c?y", "Host: a", "/new/a?at=b/c"),
        ("HEAD /x?y=%0D%0A", "Host: a.example:80", "https://a.example:80/x?y=%0D%0A"),
        ("GET http://b/x HTTP/1.1", "Host: a", "https://b/x"),
        ("POST //c/d", "Host: a\r\nContent-Length: 2", "https://a//c/d"),
        ("GET /p/q", "Host: a", "//cdn/p/q"),
        ("GET /p/q?", "Host: a", "//cdn/p/q?"),
    ] {
        let mut scene = Scene::serving(registry.clone(), Limits::default());
        let line = line.trim_end_matches(" HTTP/1.1");
        scene.receive(format!("{line} HTTP/1.1\r\n{fields}\r\n\r\n"));
        let answer = scene.sent();
        assert!(answer.starts_with("HTTP/1.1 308 "), "{line}: {answer}");
        assert!(answer.contains(&format!("\r\nLocation: {expected}\r\n")), "{line}: {answer}");
    }
    let mut scene = Scene::serving(registry, Limits::default());
    scene.receive("GET /x HTTP/1.0\r\n\r\n");
    assert_eq!(scene.statuses(), [400], "there is no host to be sent to");
}

#[test]
fn options_say_what_a_resource_allows_unless_it_answers_them_itself() {
    let mut registry = Registry::default();
    let text = |text: &'static str| Response::text(Status::OK, text).to_ready();
    registry.insert("/", Resource::new().get(text("a")).on(Method::Delete, text("b")));
    registry.insert("/own", Resource::new().on(Method::Options, text("mine")));
    let mut scene = Scene::serving(registry, Limits::default());
    scene.receive("OPTIONS / HTTP/1.1\r\nHost: a\r\n\r\n");
    let answer = scene.sent();
    assert!(answer.starts_with("HTTP/1.1 204 "), "{answer}");
    assert!(answer.contains("\r\nAllow: GET, HEAD, DELETE, OPTIONS\r\n"), "{answer}");
    scene.receive("OPTIONS /own HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(scene.sent().ends_with("mine"));
}
