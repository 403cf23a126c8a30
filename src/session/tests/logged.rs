//! What a session tells of its requests: the lines of the access log, and the reasons of negotiations.

use std::io;
use std::sync::{Arc, Mutex};

use super::*;
use crate::access::{Recorder, Writer, feeds};
use crate::config::{AccessFormat, AccessLog};
use crate::resource::{StreamIo, Streaming, streamed};
use tracing_subscriber::fmt::MakeWriter;

/// A scene with a log, and the other end of that.
struct Logged {
    scene: Scene,
    writer: Writer,
}

impl Logged {
    fn new(format: AccessFormat, queue_bytes_max: usize) -> Logged {
        let mut registry = registry();
        registry.insert("/stream", Resource::new().get(streamed(|_, reply| reply.stream(Pieces))));
        let limits = Limits { head_timeout_ms: 900, ..Limits::default() };
        let mut scene = Scene::serving(registry, limits);
        let log = AccessLog { format, queue_bytes_max, ..AccessLog::default() };
        let (writer, feeds) = feeds(&log, 1);
        let mut recorder = Recorder::new(feeds.into_iter().next().expect("one core"));
        recorder.set_time(0, 784_111_777_000);
        scene.core.access = Some(Box::new(recorder));
        scene.core.addresses.note(1, "192.0.2.1:4000".parse().expect("an address"));
        Logged { scene, writer }
    }

    /// Lines of what happened since the last call, without what all have before their request line.
    fn lines(&mut self) -> Vec<String> {
        self.scene.core.end_turn(5_000_000);
        self.scene.core.hand_over_log();
        let mut bytes = Vec::new();
        self.writer.drain_into(&mut bytes);
        let text = String::from_utf8(bytes).expect("lines are UTF-8");
        assert!(text.is_empty() || text.ends_with('\n'));
        let begin = "192.0.2.1 - - [06/Nov/1994:08:49:37 +0000] ";
        text.lines().map(|line| line.strip_prefix(begin).unwrap_or(line).to_owned()).collect()
    }

    fn close(&mut self, reason: CloseReason) {
        let Scene { session, core, .. } = &mut self.scene;
        session.close(1, reason, core);
    }
}

/// An answer in two pieces, one of them when it is woken.
struct Pieces;

thread_local! {
    static WAKER: RefCell<Option<crate::upgrade::ConnectionWaker>> = const { RefCell::new(None) };
}

impl Streaming for Pieces {
    fn on_open(&mut self, io: &mut StreamIo<'_>) {
        WAKER.set(Some(io.waker()));
        io.start(&Response::new(Status::OK), Some(10));
        io.send(b"first".to_vec());
    }

    fn on_wake(&mut self, io: &mut StreamIo<'_>) {
        io.send(b"other".to_vec());
        io.finish();
    }
}

fn common() -> Logged {
    Logged::new(AccessFormat::Common, 1 << 20)
}

#[test]
fn every_answer_has_one_line_with_what_was_sent_however_it_came_about() {
    for (input, line, status) in [
        (get("/"), "GET / HTTP/1.1", 200),
        (get("/none?x=%0d%0a"), "GET /none?x=%0d%0a HTTP/1.1", 404),
        (request("HEAD / HTTP/1.0", ""), "HEAD / HTTP/1.0", 200),
        (upgrade("/deny"), "GET /deny HTTP/1.1", 403),
        (
            request("POST /whole HTTP/1.1", "Content-Length: 2\r\n") + "hi",
            "POST /whole HTTP/1.1",
            200,
        ),
        (request("GET / HTTP/1.1", "Content-Length: 1, 2\r\n"), "GET / HTTP/1.1", 400),
        (request("GET /\u{1}\" HTTP/1.1", ""), "GET /\\x01\\x22 HTTP/1.1", 400),
        ("\u{16}\u{3}\u{1}\r\n\r\n".to_owned(), "\\x16", 400),
        ("GET / HTTP/1.1\nHost: a".to_owned(), "GET / HTTP/1.1", 400),
        (get(&format!("/{}", "a".repeat(9000))), "GET /", 414),
        (request("BREW /pot HTTP/1.1", ""), "BREW /pot HTTP/1.1", 501),
    ] {
        for cut in [1, 5, 4096] {
            let mut logged = common();
            input.as_bytes().chunks(cut).for_each(|piece| logged.scene.receive(piece));
            let sent = logged.scene.sent_bytes().len();
            let lines = logged.lines();
            assert_eq!(lines.len(), 1, "{input:.60}: {lines:?}");
            let end = format!("\" {status} {sent}");
            let is_right = lines[0].starts_with(&format!("\"{line}")) && lines[0].ends_with(&end);
            assert!(is_right, "{input:.60} in pieces of {cut}: {:.200}, not {end}", lines[0]);
            assert!(lines[0].len() < 4200, "a line is bounded");
        }
    }
}

#[test]
fn pipelined_requests_have_their_lines_in_order_and_one_that_waits_when_it_is_answered() {
    let mut logged = common();
    logged.scene.receive(get("/") + &get("/later") + &get("/none"));
    let first = logged.scene.sent_bytes().len();
    assert_eq!(logged.lines(), [format!("\"GET / HTTP/1.1\" 200 {first}")]);
    RESPONSES.take().pop().expect("it was asked").keep(Response::text(Status::OK, "late"));
    logged.scene.wake();
    let lines = logged.lines();
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert!(lines[0].starts_with("\"GET /later HTTP/1.1\" 200 "), "{lines:?}");
    assert!(lines[1].starts_with("\"GET /none HTTP/1.1\" 404 "), "{lines:?}");
}

#[test]
fn all_pieces_of_a_streamed_answer_are_in_its_line() {
    let mut logged = common();
    logged.scene.receive(get("/stream"));
    let first = logged.scene.sent_bytes().len();
    assert_eq!(logged.lines(), [""; 0], "it is not over");
    WAKER.take().expect("it was opened").wake();
    logged.scene.wake();
    let sent = first + logged.scene.sent_bytes().len();
    assert_eq!(logged.lines(), [format!("\"GET /stream HTTP/1.1\" 200 {sent}")]);
}

#[test]
fn what_does_not_come_in_time_has_a_line_and_who_leaves_has_none() {
    let mut logged = common();
    logged.scene.receive("GET /slow HT");
    logged.scene.expire();
    let sent = logged.scene.sent_bytes().len();
    assert_eq!(logged.lines(), [format!("\"GET /slow HT\" 408 {sent}")]);
    let mut logged = common();
    logged.scene.receive(upgrade("/undecided"));
    let wait = logged.scene.expire() / 1000;
    assert_eq!((wait, logged.lines().len()), (10, 1), "503");
    let mut logged = common();
    logged.scene.receive(get("/later"));
    logged.close(CloseReason::PeerReset);
    assert_eq!(logged.lines(), [""; 0]);
}

#[test]
fn a_switch_has_a_line_and_its_end_another_with_the_reason() {
    let mut logged = Logged::new(AccessFormat::Combined, 1 << 20);
    logged.scene.receive(upgrade("/?q=\"") + "early");
    let sent = logged.scene.sent_bytes().len();
    let lines = logged.lines();
    assert_eq!(lines, [format!("\"GET /?q=\\x22 HTTP/1.1\" 101 {sent} \"-\" \"-\"")]);
    logged.scene.receive("more");
    logged.scene.core.now += 1500;
    logged.close(CloseReason::PeerReset);
    let lines = logged.lines();
    let end = "\"END /?q=\\x22 echo\" 101 - \"-\" \"reset by the peer; 1500 ms; 9 bytes received\"";
    assert_eq!(lines.len(), 1);
    assert!(lines[0].ends_with(end), "{lines:?}");
    assert!(lines[0].contains("08:49:38 +0000"), "{lines:?}");
}

#[test]
fn a_switch_that_is_decided_later_has_both_lines_too() {
    let mut logged = common();
    logged.scene.receive(upgrade("/undecided") + "early");
    assert_eq!(logged.lines(), [""; 0]);
    DECISIONS.take().pop().expect("it was asked").keep(Decision::switch(Silent));
    logged.scene.wake();
    let sent = logged.scene.sent_bytes().len();
    assert_eq!(logged.lines(), [format!("\"GET /undecided HTTP/1.1\" 101 {sent}")]);
    logged.close(CloseReason::Finished);
    assert_eq!(logged.lines(), ["\"END /undecided echo\" 101 -"]);
    logged.close(CloseReason::Finished);
    assert_eq!(logged.lines(), [""; 0], "once");
}

#[test]
fn json_has_all_that_is_known_and_is_json_whatever_clients_send() {
    let mut logged = Logged::new(AccessFormat::Json, 1 << 20);
    let agent = [b"a\"b\\c\x80\xc3\xa9 ", &[b'x'; 2000][..]].concat();
    let head = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: h2c\r\nUser-Agent: ";
    logged.scene.receive([&head[..], &agent, b"\r\n\r\n"].concat());
    logged.scene.sent();
    logged.scene.receive(upgrade("/"));
    logged.close(CloseReason::Drained);
    let lines = logged.lines();
    let lines: Vec<serde_json::Value> = lines
        .iter()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .collect();
    let [plain, switch, end] = &lines[..] else { panic!("{lines:?}") };
    let agent = plain["user_agent"].as_str().expect("text");
    assert!(agent.starts_with("a\"b\\c\u{fffd}é xx") && agent.ends_with("x..."), "{agent}");
    for (name, value) in [
        ("time", "1994-11-06T08:49:37.000Z"),
        ("event", "request"),
        ("client", "192.0.2.1"),
        ("request", "GET / HTTP/1.1"),
        ("version", "HTTP/1.1"),
        ("host", "a"),
        ("result", "unknown"),
        ("connection", "1.0"),
    ] {
        assert_eq!(plain[name], value, "{plain}");
    }
    assert!(plain["upgrade"].is_null() && plain["referer"].is_null());
    assert_eq!(
        (&plain["duration_us"], &plain["port"], &plain["core"]),
        (&5000.into(), &4000.into(), &0.into())
    );
    assert_eq!((&switch["upgrade"], &switch["result"]), (&"echo".into(), &"switched".into()));
    assert_eq!((&end["event"], &end["reason"]), (&"end".into(), &"the server stopped".into()));
}

#[test]
fn lines_without_room_are_dropped_whole_and_counted() {
    let mut logged = Logged::new(AccessFormat::Common, 200);
    (0..20).for_each(|_| logged.scene.receive(get("/")));
    let lines = logged.lines();
    let dropped = logged.scene.counters.access_lines_dropped.value();
    assert!(
        !lines.is_empty() && lines.iter().all(|line| line.starts_with("\"GET / HTTP/1.1\" 200"))
    );
    assert_eq!(lines.len() as u64 + dropped, 20);
    logged.scene.receive(get("/"));
    assert_eq!(logged.lines().len(), 1, "there is room again");
}

/// What is said on this thread, for as long as the guard is there.
#[derive(Clone, Default)]
struct Said(Arc<Mutex<Vec<u8>>>);

impl io::Write for Said {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("nobody panics").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Said {
    type Writer = Said;

    fn make_writer(&self) -> Said {
        self.clone()
    }
}

impl Said {
    fn take(&self) -> String {
        let bytes = std::mem::take(&mut *self.0.lock().expect("nobody panics"));
        String::from_utf8(bytes).expect("it is text")
    }
}

// U-111.
#[test]
fn each_result_of_an_offer_has_its_reason_at_debug_level() {
    let said = Said::default();
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter("upring::negotiation=debug")
        .with_ansi(false)
        .with_writer(said.clone())
        .finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    let of = |line: &str, upgrade: &str| {
        request(line, &format!("Connection: Upgrade\r\nUpgrade: {upgrade}\r\n"))
    };
    let content = |length: &str| {
        let fields = format!("Connection: Upgrade\r\nUpgrade: echo\r\n{length}\r\n");
        request("POST /body HTTP/1.1", &fields)
    };
    let many = "a,".repeat(17);
    for (input, offered, result) in [
        (upgrade("/"), "echo", "switched"),
        (of("GET / HTTP/1.1", "h2c, foo"), "h2c, foo", "unknown"),
        (of("GET / HTTP/1.0", "echo"), "echo", "http10"),
        (request("GET / HTTP/1.1", "Upgrade: echo\r\n"), "echo", "no_connection_option"),
        (of("GET / HTTP/1.1", "echo;q=1"), "echo;q=1", "malformed"),
        (of("GET / HTTP/1.1", &many), &many, "too_long"),
        (of("POST / HTTP/1.1", "echo"), "echo", "unfit"),
        (content("Content-Length: 5"), "echo", "unfit"),
        (upgrade("/deny"), "echo", "declined"),
        (upgrade("/early") + "early", "echo", "early_bytes_refused"),
    ] {
        let mut scene = scene_of(Limits::default());
        scene.receive(&input);
        let (told, count) = (said.take(), scene.results().len());
        let reason = format!("offered {offered}; registered echo; result {result}\n");
        assert!(told.ends_with(&reason), "{input:?}: {told:?}");
        assert_eq!((told.lines().count(), count), (1, 1), "{input:?}: {told:?}");
    }
    let mut scene = scene_of(Limits::default());
    scene.receive(upgrade("/undecided"));
    assert_eq!(said.take(), "", "nothing is decided");
    scene.expire();
    assert!(said.take().ends_with("offered echo; registered echo; result timeout\n"));
    scene.session = Session::open(&scene.core);
    scene.receive(get("/"));
    assert_eq!(said.take(), "", "nothing is offered");
    scene.receive(of("GET /later HTTP/1.1", "\u{e9}"));
    let reason = "offered \\xc3\\xa9; registered nothing; result malformed\n";
    assert!(said.take().ends_with(reason));
}
