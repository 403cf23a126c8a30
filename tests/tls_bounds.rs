//! What a connection inside TLS may take of its core, on the simulated kernel: time, receive buffers, memory for
//! what waits sealed, and places for handshakes.

#[path = "support/certificates.rs"]
mod certificates;
#[path = "tls_bounds/handshakes.rs"]
mod handshakes;
#[path = "support/inside_tls.rs"]
mod inside_tls;
#[path = "support/tls_scene.rs"]
mod tls_scene;

use std::cell::RefCell;

use rustls::AlertDescription;

use inside_tls::{Authority, InsideTls, NAME, versions};
use tls_scene::{Scene, records};
use upring::engine::Turn;
use upring::resource::{Registry, from_head};
use upring::ring::ListenerId;
use upring::ring::sim::{Client, Ending, Faults, SimConfig};
use upring::upgrade::ConnectionWaker;
use upring::{
    CloseReason, Handler, Io, Lease, Limits, Protocol, Reply, Request, Resource, Response, Status,
};

const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";

/// A request with this token for a protocol.
fn offer(token: &str) -> Vec<u8> {
    format!("GET /{token} HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: {token}\r\n\r\n")
        .into()
}

fn registry() -> Registry {
    let ok = from_head(|_: &Request<'_>, reply: &mut Reply<'_>| {
        reply.send(&Response::text(Status::OK, "ok"));
    });
    let mut registry = Registry::default();
    registry.insert("/", Resource::new().get(ok));
    registry.insert("/raw", Resource::new().upgrade(Protocol::callback("raw", |_| Raw)));
    registry.insert("/pause", Resource::new().upgrade(Protocol::callback("pause", |_| Paused)));
    registry
}

thread_local! {
    /// Pieces that handlers were given, by their lengths.
    static HANDED: RefCell<Vec<usize>> = RefCell::default();
    /// Those who wait to be woken.
    static PAUSED: RefCell<Vec<ConnectionWaker>> = RefCell::default();
    /// How the handler's connections have ended.
    static SEEN: RefCell<Vec<&'static str>> = RefCell::default();
}

/// Says what it hears.
struct Raw;

impl Handler for Raw {
    fn on_bytes(&mut self, bytes: Lease, io: &mut Io<'_>) {
        HANDED.with_borrow_mut(|handed| handed.push(bytes.len()));
        io.send(bytes);
    }
}

/// Hears nothing before it is woken; then it says what it hears.
struct Paused;

impl Handler for Paused {
    fn on_open(&mut self, io: &mut Io<'_>) {
        PAUSED.with_borrow_mut(|paused| paused.push(io.waker()));
        io.pause();
    }

    fn on_wake(&mut self, io: &mut Io<'_>) {
        io.resume();
    }

    fn on_bytes(&mut self, bytes: Lease, io: &mut Io<'_>) {
        HANDED.with_borrow_mut(|handed| handed.push(bytes.len()));
        io.send(bytes);
    }

    fn on_close(&mut self, reason: CloseReason) {
        SEEN.with_borrow_mut(|seen| seen.push(reason.as_str()));
    }
}

fn wake_all() {
    PAUSED.take().iter().for_each(ConnectionWaker::wake);
}

/// What is inside of it, as records of their own.
fn sealed(tls: &mut InsideTls, parts: &[&[u8]]) -> Vec<u8> {
    parts.iter().for_each(|part| tls.write(part));
    let sealed = tls.output();
    assert_eq!(records(&sealed).len(), parts.len());
    sealed
}

impl Scene {
    fn within(limits: Limits, buffers: u16) -> Scene {
        let faults = Faults::none();
        let config = SimConfig { faults, buffers, buffers_lent: buffers, ..SimConfig::default() };
        Scene::of(Some(Authority::usual().acceptor()), registry(), limits, (1, config))
    }

    fn usual() -> Scene {
        Scene::within(Limits::default(), 64)
    }

    /// A client whose handler hears nothing as yet, and which has said this in the receive of its request.
    fn pause(&mut self, behind: &[&[u8]]) -> (Client, InsideTls) {
        let (client, mut tls) = self.connect();
        self.pause_it(&client, &mut tls, behind);
        (client, tls)
    }

    fn pause_it(&mut self, client: &Client, tls: &mut InsideTls, behind: &[&[u8]]) {
        let offer = offer("pause");
        let said = sealed(tls, &[&[&offer[..]], behind].concat());
        client.write_exactly(&said);
        self.settle();
        tls.feed(&client.read());
        assert!(tls.read().starts_with(b"HTTP/1.1 101 "));
    }

    /// Whether a request on a connection that is there is answered without any time passing.
    fn is_answered(&mut self, client: &Client, tls: &mut InsideTls) -> bool {
        tls.write(GET);
        self.converse(client, tls);
        tls.read().starts_with(b"HTTP/1.1 200 ")
    }

    /// Turns until nothing is left to do; false if that takes more than so many turns.
    fn is_still_within(&mut self, turns: usize) -> bool {
        (0..turns).any(|_| self.turn() != Turn::Again && self.world.is_quiet())
    }
}

/// A record of a handshake message's bytes.
fn handshake_record(bytes: &[u8]) -> Vec<u8> {
    let [high, low] = u16::try_from(bytes.len()).expect("a record").to_be_bytes();
    [&[22, 3, 1, high, low], bytes].concat()
}

#[test]
fn a_handshake_that_never_comes_to_its_end_is_refused_at_80_kib() {
    const BYTES_MAX: usize = 80 * 1024;
    // A hello as long as rustls takes one, in records that carry little beside their headers.
    let mut scene = Scene::usual();
    let client = scene.world.connect(ListenerId(0));
    let first = handshake_record(&[1, 0, 0xff, 0xf0]);
    let next = handshake_record(&[0; 10]);
    client.write(&first);
    let count = (BYTES_MAX - first.len()) / next.len();
    for at in 0..count {
        client.write(&next);
        if at % 50 == 0 {
            scene.settle();
        }
    }
    scene.settle();
    let sent = first.len() + count * next.len();
    assert_eq!((client.read(), scene.counters.tls_faults.value()), (vec![], 0), "{sent} bytes");
    client.write(&next);
    scene.settle();
    let alert = [21, 3, 3, 0, 2, 2, AlertDescription::DecodeError.into()];
    assert_eq!((client.read(), client.ending()), (alert.into(), Some(Ending::Finished)));
    assert_eq!(scene.counters.tls_faults.value(), 1);
    scene.everything_is_given_back(&[client]);
}

#[test]
fn of_many_hellos_at_once_one_is_answered_a_turn_and_who_is_there_does_not_wait_for_them() {
    const COUNT: usize = 20;
    for version in versions() {
        let mut scene = Scene::usual();
        let (established, mut tls) = scene.connect();
        let config = Authority::usual().client_config(version);
        let strangers: Vec<_> = (0..COUNT)
            .map(|_| (scene.world.connect(ListenerId(0)), InsideTls::new(&config, NAME)))
            .collect();
        scene.settle();
        let strangers: Vec<_> = strangers
            .into_iter()
            .map(|(client, mut tls)| {
                client.write(&tls.output());
                client
            })
            .collect();
        let (mut begun, mut answers, mut turns) = (0, 0, 0);
        while begun < COUNT {
            if turns % 4 == 0 {
                established.write(&sealed(&mut tls, &[GET]));
            }
            scene.turn();
            turns += 1;
            let before = begun;
            begun = strangers.iter().filter(|client| client.arrived() > 0).count();
            assert!(begun <= before + 1, "{} in a turn", begun - before);
            assert!(turns < 10 * COUNT, "{begun} of them after {turns} turns");
            tls.feed(&established.read());
            answers += String::from_utf8_lossy(&tls.read()).matches("200 OK").count();
            assert!(answers >= turns / 4, "{answers} answers in {turns} turns");
        }
        let clients = [strangers, vec![established]].concat();
        scene.everything_is_given_back(&clients);
    }
}

#[test]
fn a_new_key_that_is_asked_for_is_used_and_asks_for_none() {
    let mut scene = Scene::usual();
    let (client, mut tls) = scene.connect();
    for _ in 0..3 {
        // That of rustls asks for ours (RFC 8446 §4.6.3).
        tls.connection().refresh_traffic_keys().expect("it is TLS 1.3");
        client.write(&tls.output());
        scene.settle();
        let answer = client.read();
        // Header, message, type and tag.
        assert_eq!(records(&answer), [5 + 5 + 1 + 16], "a KeyUpdate, and nothing else");
        tls.feed(&answer);
        assert_eq!((tls.output(), tls.fault()), (vec![], None), "it asks for nothing");
        assert!(scene.is_answered(&client, &mut tls), "{:?}", tls.fault());
    }
    scene.everything_is_given_back(&[client]);
}

#[test]
fn what_waits_sealed_in_one_buffer_gives_it_back_to_who_needs_one() {
    const BUFFERS: u16 = 8;
    let mut scene = Scene::within(Limits::default(), BUFFERS);
    let (other, mut other_tls) = scene.connect();
    // The rest of its one receive is all that each of them holds.
    let mut waiting: Vec<_> = (0..BUFFERS).map(|_| scene.connect()).collect();
    for (client, tls) in &mut waiting {
        scene.pause_it(client, tls, &[b"in the same", b", and another"]);
    }
    assert_eq!(scene.counters.receives_starved.value(), 0);
    assert!(scene.is_answered(&other, &mut other_tls));
    assert!(scene.counters.receives_starved.value() > 0, "there was a shortage");
    assert_eq!(scene.counters.connections_cut.value(), 0);
    wake_all();
    for (client, tls) in &mut waiting {
        scene.converse(client, tls);
        assert_eq!((tls.read(), tls.fault()), (b"in the same, and another".to_vec(), None));
    }
    waiting.push((other, other_tls));
    let clients: Vec<_> = waiting.into_iter().map(|(client, _)| client).collect();
    scene.everything_is_given_back(&clients);
}

#[test]
fn what_waits_sealed_in_many_buffers_gives_them_back_and_no_more_is_taken_until_it_is_opened() {
    let mut scene = Scene::within(Limits::default(), 8);
    let (other, mut other_tls) = scene.connect();
    let (client, mut tls) = scene.pause(&[]);
    let mut said = Vec::new();
    let mut say = |scene: &mut Scene, tls: &mut InsideTls, count: u8| {
        for at in 0..count {
            let part = vec![b'a' + at; 20 + usize::from(at)];
            client.write_exactly(&sealed(tls, &[&part]));
            said.extend(part);
            scene.settle();
        }
    };
    say(&mut scene, &mut tls, 12);
    assert!(client.unread() > 0, "it has all of the buffers");
    assert!(scene.is_answered(&other, &mut other_tls));
    assert!(scene.counters.bytes_set_aside.value() > 0);
    assert_eq!(scene.counters.connections_cut.value(), 0);
    // What was copied counts, however few pieces it is: nothing more is received for now.
    let received = scene.counters.bytes_received.value();
    let before = client.unread();
    say(&mut scene, &mut tls, 12);
    assert!(client.unread() > before, "{before} bytes");
    assert_eq!(scene.counters.bytes_received.value(), received);
    wake_all();
    scene.converse(&client, &mut tls);
    assert_eq!((tls.read(), tls.fault()), (said, None), "nothing was lost, and all in order");
    scene.everything_is_given_back(&[client, other]);
}

#[test]
fn as_much_waits_sealed_as_may_wait_in_the_clear() {
    const PIECES: usize = 100;
    let mut scene = Scene::usual();
    let limit = usize::from(Limits::default().leases_max);
    let (client, mut tls) = scene.pause(&[]);
    let received = scene.counters.bytes_received.value();
    let mut said = Vec::new();
    let piece = |at: usize| vec![at as u8; 100];
    let mut lengths = Vec::new();
    for at in 0..PIECES {
        let record = sealed(&mut tls, &[&piece(at)]);
        client.write_exactly(&record);
        lengths.push(record.len());
        said.extend(piece(at));
        scene.settle();
        scene.world.advance(5);
    }
    let received = (scene.counters.bytes_received.value() - received) as usize;
    let pieces = received / lengths[0];
    assert!((limit..=limit + 1).contains(&pieces), "{pieces} pieces are received");
    assert!(scene.counters.backpressure.value() > 0);
    assert_eq!(client.unread(), (PIECES - pieces) * lengths[0], "the rest is the kernel's");
    wake_all();
    scene.converse(&client, &mut tls);
    assert_eq!((tls.read(), tls.fault()), (said, None));
    scene.everything_is_given_back(&[client]);
}

#[test]
fn who_has_had_its_share_of_a_turn_waits_for_the_next_one() {
    const PIECES: usize = 40;
    let limits = Limits { requests_per_turn: 1, ..Limits::default() };
    let mut scene = Scene::within(limits, 64);
    let (client, mut tls) = scene.connect();
    tls.write(&offer("raw"));
    scene.converse(&client, &mut tls);
    assert!(tls.read().starts_with(b"HTTP/1.1 101 "));
    let (other, mut other_tls) = scene.connect();
    // In one receive.
    client.write_exactly(&sealed(&mut tls, &[&b"x"[..]; PIECES]));
    other.write(&sealed(&mut other_tls, &[GET]));
    HANDED.take();
    let (mut handed, mut handed_at_answer) = (0, None);
    for _ in 0..2 * PIECES {
        scene.turn();
        let news = HANDED.take().len();
        // A record costs 3, a piece 2, and a share is 8 with a request a turn: two, when they come and once
        // more with what was left over.
        assert!(news <= 4, "{news} in a turn");
        handed += news;
        if handed_at_answer.is_none() && other.arrived() > 0 {
            handed_at_answer = Some(handed);
        }
    }
    assert_eq!(handed, PIECES);
    assert!(handed_at_answer.is_some_and(|handed| handed < PIECES / 2), "{handed_at_answer:?}");
    scene.converse(&client, &mut tls);
    assert_eq!(tls.read(), [b'x'; PIECES]);
    scene.everything_is_given_back(&[client, other]);
}

#[test]
fn behind_the_end_of_what_is_beneath_nothing_is_received() {
    let mut scene = Scene::usual();
    let (client, _) = scene.pause(&[b"waits"]);
    client.finish();
    assert!(scene.is_still_within(100), "it is asked for more again and again");
    assert_eq!((SEEN.take(), client.ending()), (vec![], None), "who is paused hears of no end");
    wake_all();
    assert!(scene.is_still_within(100));
    assert_eq!(HANDED.take(), [b"waits".len()], "what has come before the end is heard");
    assert_eq!(SEEN.take(), ["the peer ended the connection without ending TLS"]);
    assert_eq!(scene.counters.tls_truncated.value(), 1);
    // No time has passed: nobody lingers for an end that has come.
    assert_eq!((scene.engine.connections(), scene.world.open_handles()), (0, 0));
}

#[test]
fn only_what_came_in_pieces_is_copied_and_each_of_its_bytes_counts_once() {
    let mut scene = Scene::usual();
    let (client, mut tls) = scene.connect();
    tls.write(&offer("raw"));
    scene.converse(&client, &mut tls);
    tls.read();
    for len in [1, 100, 700] {
        let text = vec![b'x'; len];
        // Whole; cut in its header, behind it, in the middle; in three.
        for cuts in [&[][..], &[2], &[5], &[12], &[3, 20], &[6, 7]] {
            let record = sealed(&mut tls, &[&text]);
            let before = scene.counters.bytes_assembled.value();
            let mut from = 0;
            for to in cuts.iter().copied().chain([record.len()]) {
                client.write_exactly(&record[from..to]);
                scene.settle();
                from = to;
            }
            let expected = if cuts.is_empty() { 0 } else { record.len() as u64 };
            let assembled = scene.counters.bytes_assembled.value() - before;
            assert_eq!(assembled, expected, "{len}, cut at {cuts:?}");
            tls.feed(&client.read());
            assert_eq!((tls.read(), tls.fault()), (text.clone(), None));
        }
    }
    // A whole one behind a part in the same receive is not copied.
    let (first, second) = (sealed(&mut tls, &[b"first"]), sealed(&mut tls, &[b"second"]));
    let before = scene.counters.bytes_assembled.value();
    client.write_exactly(&first[..9]);
    scene.settle();
    client.write_exactly(&[&first[9..], &second].concat());
    scene.settle();
    assert_eq!(scene.counters.bytes_assembled.value() - before, first.len() as u64);
    tls.feed(&client.read());
    assert_eq!((tls.read(), tls.fault()), (b"firstsecond".to_vec(), None));
    scene.everything_is_given_back(&[client]);
}

#[test]
fn a_hello_that_waits_for_its_time_keeps_no_receive_buffer() {
    const COUNT: usize = 20;
    let mut scene = Scene::usual();
    let config = Authority::usual().client_config(versions()[0]);
    let strangers: Vec<_> = (0..COUNT).map(|_| scene.world.connect(ListenerId(0))).collect();
    scene.settle();
    for client in &strangers {
        client.write(&InsideTls::new(&config, NAME).output());
    }
    scene.turn();
    scene.turn();
    assert!(strangers.iter().all(|client| client.unread() == 0), "all is received");
    assert_eq!(scene.counters.buffers_held.value(), 0, "and copied to where the handshake has it");
    scene.settle();
    scene.everything_is_given_back(&strangers);
}
