//! CONNECT: who decides, what is answered, and whose the bytes behind it are.

use super::*;
use crate::upgrade::Switch;

thread_local! {
    /// Where the bytes lay that a tunnel was given.
    static GIVEN: RefCell<Vec<usize>> = const { RefCell::new(Vec::new()) };
}

/// Says each byte again.
struct Tunnel;

impl Handler for Tunnel {
    fn on_bytes(&mut self, bytes: Lease, io: &mut Io<'_>) {
        GIVEN.with_borrow_mut(|given| given.push(bytes.as_ptr().addr()));
        io.send(bytes);
    }
}

fn decide(opening: &Opening<'_>) -> Decision {
    match opening.request().target() {
        b"echo:7" => Switch::to(Tunnel).with_field("Via", "1.1 b").expect("a valid field").into(),
        b"later:7" => undecided(opening),
        // A panic that prints nothing: this one is wanted.
        b"panic:7" => std::panic::resume_unwind(Box::new("boom")),
        b"426:7" => Decision::UpgradeRequired(Response::text(Status::UPGRADE_REQUIRED, "no")),
        _ => deny(opening),
    }
}

fn scene() -> Scene {
    let mut registry = registry();
    registry.connect(Protocol::new("tunnel", decide).decision_timeout(Duration::from_millis(70)));
    Scene::serving(registry, Limits::default())
}

fn connect(target: &str, fields: &str) -> String {
    format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n{fields}\r\n")
}

/// The 200 of the tunnel to `echo:7`.
const OPENED: &str = "HTTP/1.1 200 OK\r\nServer: upring\r\nDate: Thu, 01 Jan 1970 00:00:00 GMT\r\n\
                      Via: 1.1 b\r\n\r\n";

// U-105.
#[test]
fn an_accepted_connect_is_a_200_that_nothing_frames_and_a_tunnel_however_it_is_cut() {
    for fields in [
        "",
        "Content-Length: 0\r\n",
        "Expect: 100-continue\r\n",
        "Connection: upgrade\r\nUpgrade: echo\r\n",
    ] {
        let input = connect("echo:7", fields) + "GET / HTTP/1.1\r\n\r\n";
        for cut in 0..input.len() {
            let mut scene = scene();
            scene.receive(&input[..cut]);
            scene.receive(&input[cut..]);
            assert_eq!(scene.exchange(), format!("{OPENED}GET / HTTP/1.1\r\n\r\n"), "{cut}");
            assert!(scene.session.is_switched() && !scene.is_closing());
            assert_eq!(scene.results(), [("upgrades_switched", 1)]);
            assert_eq!(scene.counters.upgrades_open.value(), 1);
            let Scene { session, core, .. } = &mut scene;
            session.close(1, CloseReason::PeerReset, core);
            assert_eq!(scene.counters.upgrades_open.value(), 0);
        }
    }
}

#[test]
fn bytes_behind_a_connect_are_the_tunnels_where_they_were_received() {
    let input = connect("echo:7", "");
    let mut scene = scene();
    let lease = scene.pool.take().expect("a buffer").fill((input.clone() + "early").as_bytes());
    let behind = lease.as_ptr().addr() + input.len();
    GIVEN.take();
    scene.call(|session, port| session.received(lease, port));
    assert_eq!(GIVEN.take(), [behind]);
    assert_eq!(scene.counters.bytes_assembled.value(), 0);
}

#[test]
fn a_connect_may_be_decided_later() {
    let mut scene = scene();
    scene.receive(connect("later:7", "") + "early");
    assert_eq!((scene.sent().as_str(), scene.counters.upgrades_deciding.value()), ("", 1));
    let promise = DECISIONS.take().pop().expect("the handler was asked");
    promise.keep(Decision::switch(Tunnel));
    scene.wake();
    let sent = scene.exchange();
    assert!(sent.starts_with("HTTP/1.1 200 OK\r\n") && sent.ends_with("\r\n\r\nearly"), "{sent}");
    assert_eq!(scene.counters.upgrades_deciding.value(), 0);
}

// U-104.
#[test]
fn a_connect_that_is_not_accepted_closes_whatever_the_reason() {
    for (target, fields, status, results) in [
        ("other:7", "", 403, &[("upgrades_declined", 1)]),
        ("panic:7", "", 500, &[("upgrades_declined", 1)]),
        ("426:7", "", 426, &[("upgrades_declined", 1)]),
        ("later:7", "", 503, &[("upgrades_timeout", 1)]),
        // RFC 9110 §9.3.6: it has no content.
        ("echo:7", "Content-Length: 5\r\n", 400, &[("upgrades_unfit", 1)]),
        ("echo:7", "Transfer-Encoding: chunked\r\n", 400, &[("upgrades_unfit", 1)]),
    ] {
        for behind in ["", "early", "GET / HTTP/1.1\r\nHost: a\r\n\r\n"] {
            let mut scene = scene();
            scene.receive(connect(target, fields) + behind);
            if status == 503 {
                assert_eq!(scene.expire(), 70, "the protocol's own time");
            }
            let sent = scene.exchange();
            assert!(sent.starts_with(&format!("HTTP/1.1 {status} ")), "{target} {fields}: {sent}");
            assert!(sent.contains("close\r\n") && scene.is_closing(), "{sent}");
            assert_eq!(sent.matches("HTTP/1.1 ").count(), 1, "{target} {fields}: {sent}");
            assert_eq!(scene.results(), results, "{target} {fields}");
        }
    }
    drop(DECISIONS.take());
}

#[test]
fn without_a_protocol_for_it_connect_is_a_501_and_a_close() {
    for fields in ["", "Content-Length: 5\r\n", "Connection: upgrade\r\nUpgrade: echo\r\n"] {
        let mut scene = scene_of(Limits::default());
        scene.receive(connect("echo:7", fields) + &get("/"));
        assert_eq!((scene.statuses(), scene.is_closing()), (vec![501], true), "{fields}");
        assert_eq!(scene.results(), []);
    }
}

#[test]
fn connect_is_asked_of_no_path() {
    let mut scene = scene();
    scene.receive("CONNECT / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!((scene.statuses(), scene.is_closing()), (vec![400], true));
    let mut registry = Registry::default();
    registry.connect(Protocol::new("tunnel", decide));
    let mut scene = Scene::serving(registry, Limits::default());
    scene.receive(get("/") + &connect("echo:7", ""));
    assert_eq!(scene.statuses(), [404, 200]);
}
