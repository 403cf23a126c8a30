//! What the conformance rows do not show of a connection: its endpoint's calls, limits, times, and
//! where its bytes lie.

use std::cell::RefCell;
use std::io::Write;
use std::time::Duration;

use super::*;
use crate::config::Limits;
use crate::http::{Method, Status};
use crate::resource::{Registry, Resource};
use crate::session::scene::Scene;
use crate::upgrade::CloseReason;

const KEY: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

thread_local! {
    /// What the endpoints of this thread were told, in order.
    static TOLD: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

fn told() -> Vec<String> {
    TOLD.take()
}

fn tell(what: impl Into<String>) {
    TOLD.with_borrow_mut(|told| told.push(what.into()));
}

/// Does what it is told by text, and sends everything else back.
struct Scripted;

impl Endpoint for Scripted {
    fn on_open(&mut self, _: &mut Socket<'_>) {
        tell("open");
    }

    fn on_message(&mut self, message: Message, socket: &mut Socket<'_>) {
        let words: Vec<String> =
            message.as_text().unwrap_or_default().split(' ').map(String::from).collect();
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        match words[..] {
            ["close", code, reason] => {
                let code = code.parse().ok().and_then(CloseCode::new).expect("a valid code");
                socket.close(code, reason);
                assert_eq!(socket.send_text("too late"), Sent::Closed);
            }
            ["deadline", millis] => {
                socket.set_deadline(Duration::from_millis(millis.parse().expect("a number")));
            }
            ["no-deadline"] => socket.clear_deadline(),
            ["pause"] => socket.pause(),
            ["large", bytes] => {
                let bytes: usize = bytes.parse().expect("a number");
                tell(format!("{:?}", socket.send(vec![b'x'; bytes])));
            }
            ["ping"] => tell(format!("{:?}", socket.ping(b"are you there?"))),
            ["reset"] => socket.reset(),
            ["panic"] => std::panic::resume_unwind(Box::new("as it was told")),
            _ => {
                socket.send(message);
            }
        }
    }

    fn on_drain(&mut self, _: &mut Socket<'_>) {
        tell("drain");
    }

    fn on_deadline(&mut self, socket: &mut Socket<'_>) {
        tell("deadline");
        socket.resume();
    }

    fn on_close(&mut self, close: &Close) {
        let code = close.code.map_or(0, CloseCode::number);
        tell(format!("closed {code} {:?} by {:?}", close.reason, close.by));
    }
}

/// A connection switched to [`Scripted`].
fn switched(service: WebSocket) -> Scene {
    switched_within(service, Limits::default())
}

fn switched_within(service: WebSocket, limits: Limits) -> Scene {
    told();
    let mut registry = Registry::default();
    registry.insert("/", Resource::new().upgrade(service.endpoint(|_| Scripted)));
    let mut scene = Scene::serving(registry, limits);
    scene.receive(
        "GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n",
    );
    assert!(scene.sent().starts_with("HTTP/1.1 101 "));
    assert_eq!(told(), ["open"]);
    scene
}

/// A masked frame.
fn frame(first: u8, payload: impl AsRef<[u8]>) -> Vec<u8> {
    let payload = payload.as_ref();
    let mut bytes = match payload.len() {
        len @ 0..=125 => vec![first, 0x80 | len as u8],
        len => [&[first, 0x80 | 126][..], &(len as u16).to_be_bytes()].concat(),
    };
    bytes.extend_from_slice(&KEY);
    bytes.extend(payload.iter().zip(KEY.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    bytes
}

fn text(text: impl AsRef<[u8]>) -> Vec<u8> {
    frame(0x81, text)
}

fn limits(change: impl FnOnce(&mut WebSocketLimits)) -> WebSocket {
    let mut limits = WebSocketLimits::default();
    change(&mut limits);
    WebSocket::new().limits(limits)
}

#[test]
fn a_message_that_came_whole_is_sent_from_where_the_kernel_wrote_it() {
    for (len, header_in, header_out) in
        [(0, 6, 2), (5, 6, 2), (125, 6, 2), (126, 8, 4), (4000, 8, 4)]
    {
        let mut scene = switched(WebSocket::new());
        let lease = scene.pool.take().expect("a buffer").fill(&text("m".repeat(len)));
        let payload = lease.as_ptr() as usize + header_in;
        scene.call(|session, port| session.received(lease, port));
        let batch = scene.batch.take().expect("it was answered");
        let slices: Vec<&[u8]> = batch.slices().collect();
        assert_eq!(slices.len(), 1, "one slice, header and all");
        assert_eq!(slices[0].as_ptr() as usize + header_out, payload, "{len} bytes");
        assert_eq!(slices[0][header_out..], *"m".repeat(len).as_bytes());
    }
}

#[test]
fn a_message_in_pieces_is_the_same_and_leaves_nothing_behind() {
    for len in [3, 126, 5000, 70_000] {
        let message = "m".repeat(len);
        let mut expected = Vec::new();
        for piece in [1, 100, 4096] {
            let mut scene = switched(WebSocket::new());
            let mut bytes = frame(0x01, &message[..len / 3]);
            bytes.extend(frame(0x89, "p"));
            bytes.extend(frame(0x80, &message[len / 3..len.min(len / 3 + 65_000)]));
            bytes.iter().as_slice().chunks(piece).for_each(|piece| scene.receive(piece));
            let sent = scene.sent_bytes();
            assert_eq!(sent[..3], [0x8a, 1, b'p']);
            if expected.is_empty() {
                expected.clone_from(&sent);
            }
            assert_eq!(sent.len(), expected.len(), "{len} by {piece}");
            assert!(sent == expected, "{len} by {piece}");
            assert_eq!(scene.pool.vacant(), scene.pool.count(), "every buffer is back");
        }
    }
}

#[test]
fn many_small_messages_of_one_segment_leave_in_few_slices() {
    let mut scene = switched(WebSocket::new());
    let bytes: Vec<u8> = (0..50).flat_map(|at| text(format!("message {at}"))).collect();
    scene.receive(&bytes);
    let batch = scene.batch.as_ref().expect("they were answered");
    assert_eq!(batch.slices().count(), 2, "the first by reference, the others copied");
    assert_eq!(batch.load().leases, 1);
    let sent = scene.sent_bytes();
    let expected: Vec<u8> = (0..50)
        .flat_map(|at| {
            let message = format!("message {at}");
            [&[0x81, message.len() as u8][..], message.as_bytes()].concat()
        })
        .collect();
    assert!(sent == expected);
}

// RFC 6455 §7.
#[test]
fn a_close_of_ours_waits_for_the_peers_and_not_for_ever() {
    let mut scene = switched(WebSocket::new());
    scene.receive([text("close 4000 enough"), text("ignored"), frame(0x89, "p")].concat());
    assert_eq!(scene.sent_bytes(), *b"\x88\x08\x0f\xa0enough");
    assert!(!scene.is_closing() && told().is_empty());
    scene.receive(frame(0x88, 4000_u16.to_be_bytes()));
    assert!(scene.sent_bytes().is_empty(), "one Close each");
    assert!(scene.is_closing());
    assert_eq!(told(), ["closed 4000 \"\" by Us"]);

    let mut scene = switched(WebSocket::new());
    scene.receive(text("close 1000 x"));
    scene.sent_bytes();
    assert_eq!(scene.expire(), 5000);
    assert!(scene.is_closing());
    assert_eq!(told(), ["closed 0 \"\" by Us"]);
    assert_eq!(scene.counters.websocket_close_timeouts.value(), 1);
}

#[test]
fn an_endpoint_is_told_once_how_it_ended() {
    for (bytes, expected) in [
        (frame(0x88, b"\x03\xe8bye"), "closed 1000 \"bye\" by Peer"),
        (frame(0x88, b""), "closed 0 \"\" by Peer"),
        (frame(0x83, b""), "closed 1002 \"\" by Fault(Opcode)"),
        (frame(0x81, b"\xff"), "closed 1007 \"\" by Fault(NotUtf8)"),
    ] {
        let mut scene = switched(WebSocket::new());
        scene.receive(&bytes);
        let Scene { session, core, .. } = &mut scene;
        session.close(1, CloseReason::Finished, core);
        assert_eq!(told(), [expected]);
    }
    for (reason, expected) in [
        (CloseReason::PeerReset, "closed 0 \"\" by Lost(PeerReset)"),
        (CloseReason::SendTimeout, "closed 0 \"\" by Lost(SendTimeout)"),
    ] {
        let mut scene = switched(WebSocket::new());
        let Scene { session, core, .. } = &mut scene;
        session.close(1, reason, core);
        assert_eq!(told(), [expected]);
    }
    let mut scene = switched(WebSocket::new());
    scene.call(|session, port| session.ended(port));
    assert_eq!(told(), ["closed 0 \"\" by Lost(Finished)"]);
    assert!(scene.is_closing() && scene.sent_bytes().is_empty());
}

#[test]
fn a_reason_is_cut_between_characters_to_what_a_control_frame_holds() {
    let mut scene = switched(WebSocket::new());
    scene.receive(text(format!("close 1000 {}", "\u{20ac}".repeat(60))));
    let sent = scene.sent_bytes();
    assert_eq!(sent[1], 125);
    assert_eq!(std::str::from_utf8(&sent[4..]), Ok("\u{20ac}".repeat(41).as_str()));
}

#[test]
fn messages_that_have_not_come_whole_share_the_memory_of_a_core() {
    let deflated = |bytes: &[u8]| {
        let mut deflate =
            flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::fast());
        deflate.write_all(bytes).expect("memory is enough");
        deflate.finish().expect("memory is enough")
    };
    let scene = || {
        let limits = Limits { collected_bytes_max: 10_000, ..Limits::default() };
        switched_within(WebSocket::new().compression(Compression::shared()), limits)
    };
    let held = |scene: &Scene| scene.counters.bytes_collected.value();

    let mut whole = scene();
    for (bytes, expected) in [
        (frame(0x01, "m".repeat(3000)), 3000),
        (frame(0x00, "m".repeat(3000)), 6000),
        (frame(0x80, "m"), 0),
        (frame(0x41, deflated(&[b'm'; 5000])), 8192),
        (frame(0x80, ""), 0),
    ] {
        whole.receive(bytes);
        assert_eq!(held(&whole), expected);
    }
    assert_eq!(whole.counters.websocket_messages_received.value(), 2);
    assert_eq!(whole.counters.collected_overflows.value(), 0);

    let plain = ["m".repeat(9000).into_bytes(), vec![b'm'; 2000]];
    let compressed = [deflated(&[b'm'; 5000]), deflated(&[b'm'; 5000])];
    for (first, [payload, more]) in [(0x01, plain), (0x41, compressed)] {
        let mut scene = scene();
        scene.receive(frame(first, payload));
        assert!(held(&scene) > 0 && scene.sent_bytes().is_empty());
        scene.receive(frame(0x00, more));
        assert!(scene.sent_bytes().ends_with(b"\x88\x02\x03\xf5"), "1013");
        assert_eq!(told(), ["closed 1013 \"\" by Fault(NoRoom)"]);
        assert_eq!((scene.counters.collected_overflows.value(), held(&scene)), (1, 0));
    }

    let mut lost = scene();
    lost.receive(frame(0x01, "m".repeat(3000)));
    let Scene { session, core, .. } = &mut lost;
    session.close(1, CloseReason::PeerReset, core);
    assert_eq!(held(&lost), 0);
}

#[test]
fn each_limit_has_its_code_and_its_counter() {
    let fragments = || {
        let mut bytes = frame(0x01, "a");
        (0..4).for_each(|_| bytes.extend(frame(0x00, "")));
        bytes
    };
    let pings = (0..11).flat_map(|_| frame(0x89, "")).collect::<Vec<u8>>();
    let pongs = (0..11).flat_map(|_| frame(0x8a, "")).collect::<Vec<u8>>();
    let limits = || {
        limits(|limits| {
            limits.message_bytes_max = 100;
            limits.fragments_max = 4;
            limits.control_frames_per_second_max = 10;
        })
    };
    for (bytes, code, counter) in [
        (text("m".repeat(101)), 1009, "websocket_closed_too_large"),
        (
            [frame(0x01, "m".repeat(60)), frame(0x80, "m".repeat(41))].concat(),
            1009,
            "websocket_closed_too_large",
        ),
        (fragments(), 1008, "websocket_closed_policy"),
        (pings, 1008, "websocket_closed_policy"),
        (pongs, 1008, "websocket_closed_policy"),
        (
            text("\u{e9}").into_iter().take(7).chain([0x80]).collect(),
            1007,
            "websocket_closed_invalid_data",
        ),
        (b"\x81\x01a".to_vec(), 1002, "websocket_closed_protocol_error"),
    ] {
        let mut scene = switched(limits());
        scene.receive(&bytes);
        let sent = scene.sent_bytes();
        let close = [&[0x88, 2][..], &u16::to_be_bytes(code)].concat();
        assert!(sent.ends_with(&close), "{code}: {sent:x?}");
        assert!(scene.is_closing());
        let raised: Vec<_> = scene
            .counters
            .each()
            .filter(|(name, count)| name.starts_with("websocket_closed") && *count > 0)
            .collect();
        assert_eq!(raised, [(counter, 1)]);
    }
}

#[test]
fn control_frames_are_counted_by_the_second() {
    let mut scene = switched(limits(|limits| limits.control_frames_per_second_max = 3));
    for _ in 0..10 {
        (0..3).for_each(|_| scene.receive(frame(0x89, "")));
        scene.core.now += 1200;
    }
    assert_eq!(scene.sent_bytes(), [0x8a, 0].repeat(30));
    assert!(!scene.is_closing());
}

#[test]
fn a_silent_peer_is_pinged_and_closed_if_it_stays_silent() {
    let patient = || {
        limits(|limits| {
            limits.ping_after = Duration::from_secs(10);
            limits.idle_timeout = Duration::from_secs(15);
        })
    };
    let mut scene = switched(patient());
    let (mut pings, mut passed) = (0, 0);
    while !scene.session.control().is_closing {
        passed += scene.expire();
        match &scene.sent_bytes()[..] {
            b"" => {}
            b"\x89\0" => pings += 1,
            close => {
                assert_eq!(close, b"\x88\x0e\x03\xf3ping timeout");
                assert!((15_000..15_500).contains(&passed), "{passed}");
            }
        }
    }
    assert_eq!((pings, scene.counters.websocket_idle_timeouts.value()), (1, 1));

    // One that answers stays, pinged again and again.
    let mut scene = switched(patient());
    let mut pings = 0;
    while scene.core.now < 100_000 {
        scene.expire();
        if scene.sent_bytes() == b"\x89\0" {
            pings += 1;
            scene.receive(frame(0x8a, ""));
        }
    }
    assert!((8..=10).contains(&pings), "{pings}");
    assert!(!scene.is_closing());

    // One that speaks is not pinged.
    let mut scene = switched(patient());
    while scene.core.now < 100_000 {
        if scene.session.control().deadline <= scene.core.now + 1000 {
            scene.expire();
        } else {
            scene.core.now += 1000;
        }
        assert!(scene.sent_bytes().is_empty());
        scene.receive(frame(0x8a, ""));
    }
}

#[test]
fn a_connection_has_its_lifetime_however_busy_it_is() {
    let mut scene = switched(limits(|limits| limits.lifetime_max = Duration::from_secs(30)));
    loop {
        scene.receive(text("busy"));
        assert_eq!(scene.sent_bytes(), b"\x81\x04busy");
        scene.core.now =
            scene.core.now.max(scene.session.control().deadline.min(scene.core.now + 100));
        if scene.session.control().deadline <= scene.core.now {
            scene.expire();
        }
        match &scene.sent_bytes()[..] {
            b"" => assert!(scene.core.now < 30_300, "it lives on"),
            close => {
                assert_eq!(close, b"\x88\x02\x03\xe9");
                assert_eq!(scene.counters.websocket_lifetimes.value(), 1);
                return assert!(scene.core.now >= 30_000, "{}", scene.core.now);
            }
        }
    }
}

#[test]
fn an_endpoint_has_a_deadline_of_its_own() {
    let mut scene = switched(WebSocket::new());
    scene.receive(text("deadline 70"));
    assert_eq!((scene.expire(), told()), (70, vec!["deadline".to_owned()]));
    scene.receive(text("deadline 70"));
    scene.receive(text("no-deadline"));
    scene.expire();
    assert!(told().is_empty());
    assert!(scene.session.control().deadline > scene.core.now + 10_000, "only the ping is due");
}

#[test]
fn a_paused_endpoint_gets_the_rest_of_the_segment_when_it_goes_on() {
    let mut scene = switched(WebSocket::new());
    scene.receive([text("a"), text("deadline 10"), text("pause"), text("b"), text("c")].concat());
    assert_eq!(scene.sent_bytes(), b"\x81\x01a");
    scene.receive(text("d"));
    assert_eq!((scene.sent_bytes(), scene.pool.vacant()), (vec![], 62));
    scene.expire();
    assert_eq!(scene.sent_bytes(), b"\x81\x01b\x81\x01c\x81\x01d");
    assert_eq!(scene.pool.vacant(), 64);
}

#[test]
fn what_waits_for_a_slow_peer_is_bounded_and_said() {
    let service = limits(|limits| limits.queue_bytes_max = 10_000);
    let mut scene = switched(service);
    scene.receive(text("large 9000"));
    scene.receive(text("large 6000"));
    scene.receive(text("large 3000"));
    assert_eq!(told(), ["AtOnce", "AtOnce", "OverLimit"], "one may cross it");
    assert_eq!(scene.counters.websocket_messages_refused.value(), 1);
    // The kernel holds what was written.
    drop(scene.batch.take().expect("something was written"));
    scene.in_flight = crate::buffer::Load { bytes: 9000, leases: 0 };
    scene.receive(text("large 100"));
    assert_eq!(told(), ["Queued"]);
    scene.in_flight = Default::default();
    scene.call(|session, port| session.sent(port));
    assert_eq!(told(), ["drain"]);
    scene.call(|session, port| session.sent(port));
    assert!(told().is_empty(), "once");
}

#[test]
fn a_peer_that_reads_nothing_is_not_read_either() {
    let limits = Limits { outbox_bytes_high: 1000, ..Limits::default() };
    let mut scene = switched_within(WebSocket::new(), limits);
    scene.in_flight = crate::buffer::Load { bytes: 900, leases: 0 };
    let bytes: Vec<u8> = (0..20).flat_map(|_| frame(0x89, "p".repeat(50))).collect();
    scene.receive(&bytes);
    assert_eq!(scene.sent_bytes().len(), 104, "two Pongs and no more");
    assert!(scene.session.is_blocked());
    scene.in_flight = Default::default();
    scene.call(|session, port| session.sent(port));
    assert_eq!(scene.sent_bytes().len(), 18 * 52, "the others when there is room");
}

#[test]
fn a_server_that_stops_says_1001() {
    let mut scene = switched(WebSocket::new());
    scene.call(|session, port| session.drain(Duration::from_secs(5), port));
    assert_eq!(scene.sent_bytes(), b"\x88\x02\x03\xe9");
    scene.receive(frame(0x88, b"\x03\xe9"));
    assert!(scene.is_closing());
}

#[test]
fn a_panic_or_a_reset_is_seen_by_the_peer() {
    for command in ["panic", "reset"] {
        let mut scene = switched(WebSocket::new());
        scene.receive(text(command));
        assert!(scene.session.control().is_reset, "{command}");
        assert_eq!(scene.counters.handler_panics.value(), u64::from(command == "panic"));
    }
}

#[test]
fn an_answer_of_authorize_is_plain_http() {
    let service =
        WebSocket::new().authorize(|opening| match opening.request().field("Authorization") {
            Some(_) => Ok(()),
            None => Err(Response::text(Status::UNAUTHORIZED, "who are you?")
                .with_field("WWW-Authenticate", "Bearer")
                .expect("a valid field")),
        });
    let mut registry = Registry::default();
    let ok = Response::text(Status::OK, "ok").to_ready();
    registry
        .insert("/", Resource::new().on(Method::Get, ok).upgrade(service.endpoint(|_| Scripted)));
    let handshake = |authorization: &str| {
        format!(
            "GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{authorization}\r\n"
        )
    };
    let mut scene = Scene::serving(registry, Limits::default());
    scene.receive(handshake(""));
    let refused = scene.sent();
    assert!(refused.starts_with("HTTP/1.1 401 ") && refused.contains("WWW-Authenticate: Bearer"));
    scene.receive("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(scene.statuses(), [200], "the connection goes on as HTTP");
    scene.receive(handshake("Authorization: x\r\n"));
    assert_eq!(scene.statuses(), [101]);
}

#[test]
fn compressed_messages_go_both_ways() {
    for compression in [Compression::shared(), Compression::dedicated(15)] {
        let mut scene = switched(WebSocket::new().compression(compression));
        let message = "a message that is long enough and repeats itself, ".repeat(20);
        for _ in 0..2 {
            scene.receive(text(&message));
            let sent = scene.sent_bytes();
            assert_eq!(sent[0], 0xc1, "compressed text");
            assert!(sent.len() < 120, "{} bytes of {}", sent.len(), message.len());
        }
        scene.receive(text("short"));
        assert_eq!(scene.sent_bytes(), b"\x81\x05short");
        // RFC 7692 §7.2.3.1.
        scene.receive(frame(0xc1, [0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00]));
        assert_eq!(scene.sent_bytes(), b"\x81\x05Hello");
    }
}
