//! Streamed content and streamed answers: what the handler is told, what the client gets, and what
//! becomes of the connection.

use super::*;
use crate::http::{Fields, Trailers};
use crate::resource::{StreamIo, Streaming, streamed};

thread_local! {
    /// What the handlers of this thread were told, in order.
    static TOLD: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
    static WAKER: RefCell<Option<crate::upgrade::ConnectionWaker>> = const { RefCell::new(None) };
}

/// A handler that does what its query says and notes what it is told.
struct Scripted {
    query: String,
    received: usize,
}

impl Scripted {
    fn says(&self, word: &str) -> bool {
        self.query.split('&').any(|part| part == word)
    }

    fn number(&self, name: &str) -> Option<u64> {
        let part = self.query.split('&').find_map(|part| part.strip_prefix(name))?;
        part.strip_prefix('=')?.parse().ok()
    }

    fn tell(&self, what: impl Into<String>) {
        let what = what.into();
        assert!(!self.says(&format!("panic={what}")), "as the query asked");
        TOLD.with_borrow_mut(|told| told.push(what));
    }

    fn start(&self, io: &mut StreamIo<'_>) {
        let status = self.number("status").map_or(200, |status| status as u16);
        let response = Response::new(Status::new(status).expect("the tests name valid ones"));
        io.start(&response, self.number("length"));
    }
}

impl Streaming for Scripted {
    fn on_open(&mut self, io: &mut StreamIo<'_>) {
        self.tell("open");
        WAKER.set(Some(io.waker()));
        if self.says("pause") {
            io.pause();
        }
        if self.says("early") {
            io.respond(Response::text(Status::OK, "early"));
        }
        if self.says("begin") {
            self.start(io);
        }
        if self.says("finish") {
            io.finish();
        }
        if self.says("writable") {
            io.notify_writable();
        }
    }

    fn on_content(&mut self, bytes: Lease, io: &mut StreamIo<'_>) {
        self.tell("content");
        self.received += bytes.len();
        if !io.has_begun() {
            self.start(io);
        }
        io.send(bytes);
    }

    fn on_content_end(&mut self, trailers: &Trailers, io: &mut StreamIo<'_>) {
        self.tell("end");
        if self.says("silent") {
            return;
        }
        if !io.has_begun() {
            self.start(io);
        }
        let mut sent = Fields::new();
        sent.push("X-Bytes", self.received.to_string()).expect("a valid field");
        if let Some(sum) = trailers.field("X-Sum") {
            sent.push("X-Sum", sum).expect("a valid field");
        }
        io.finish_with(&sent);
    }

    fn on_writable(&mut self, _: &mut StreamIo<'_>) {
        self.tell("writable");
    }

    fn on_wake(&mut self, io: &mut StreamIo<'_>) {
        self.tell("wake");
        io.resume();
    }

    fn on_drain(&mut self, _: Duration, _: &mut StreamIo<'_>) {
        self.tell("drain");
    }

    fn on_close(&mut self, reason: CloseReason) {
        self.tell(format!("{reason:?}"));
    }
}

fn scene(limits: Limits) -> Scene {
    TOLD.take();
    let scripted = streamed(|request: &Request<'_>, reply: &mut Reply<'_>| {
        let query = String::from_utf8_lossy(request.query().unwrap_or_default()).into_owned();
        reply.stream(Scripted { query, received: 0 });
    });
    let resource = Resource::new().get(scripted.clone()).on(Method::Post, scripted.clone());
    let mut registry = super::registry();
    registry.insert("/s", resource.clone());
    registry.insert("/small", resource.content_bytes_max(4));
    Scene::serving(registry, limits)
}

/// What the handlers were told since the last call, content in one word however many pieces.
fn told() -> Vec<String> {
    let mut told = TOLD.take();
    told.dedup();
    told
}

fn post(target: &str, fields: &str) -> String {
    request(&format!("POST {target} HTTP/1.1"), fields)
}

fn chunked(target: &str, content: &str) -> String {
    post(target, "Transfer-Encoding: chunked\r\n") + content
}

/// The parts of an answer in chunks, put together: content and trailers.
fn unchunked(answer: &str) -> (String, String) {
    let (head, mut rest) = answer.split_once("\r\n\r\n").expect("a head ends");
    assert!(head.contains("\r\nTransfer-Encoding: chunked") && !head.contains("Content-Length"));
    let mut content = String::new();
    loop {
        let (size, behind) = rest.split_once("\r\n").expect("a size ends");
        let size = usize::from_str_radix(size, 16).expect("a size");
        if size == 0 {
            return (content, behind.to_owned());
        }
        content += &behind[..size];
        rest = behind[size..].strip_prefix("\r\n").expect("a chunk ends");
    }
}

#[test]
fn content_streams_through_however_it_is_framed_and_cut() {
    let counted = post("/s", "Content-Length: 11\r\n") + "hello world";
    let in_chunks = chunked("/s", "5;x=y\r\nhello\r\n6\r\n world\r\n0\r\nX-Sum: 42\r\n\r\n");
    for (input, sum) in [(counted, ""), (in_chunks, "X-Sum: 42\r\n")] {
        let input = input + &get("/");
        let cuts = (0..input.len()).map(|cut| vec![&input[..cut], &input[cut..]]);
        let single = (0..input.len()).map(|at| &input[at..=at]).collect();
        for pieces in cuts.chain([single]) {
            let mut scene = scene(Limits::default());
            let mut sent = String::new();
            for piece in pieces {
                scene.receive(piece);
                sent += &scene.exchange();
            }
            let (answer, next) = sent.split_once("HTTP/1.1 200 OK\r\nServer: upring\r\nDate: Thu, 01 Jan 1970 00:00:00 GMT\r\nContent-Type").expect("a second answer");
            let (content, trailers) = unchunked(answer);
            assert_eq!(content, "hello world");
            assert_eq!(trailers, format!("X-Bytes: 11\r\n{sum}\r\n"));
            assert!(next.ends_with("\r\n\r\nok"), "{next}");
            assert_eq!(told(), ["open", "content", "end", "Finished"]);
            assert!(!scene.is_closing());
        }
    }
}

#[test]
fn content_is_delivered_where_it_was_received() {
    struct Where(*const u8);
    impl Streaming for Where {
        fn on_content(&mut self, bytes: Lease, _: &mut StreamIo<'_>) {
            assert_eq!(bytes.as_ptr(), self.0);
            TOLD.with_borrow_mut(|told| told.push(bytes.len().to_string()));
        }
        fn on_content_end(&mut self, _: &Trailers, io: &mut StreamIo<'_>) {
            io.respond(Response::new(Status::NO_CONTENT));
        }
    }
    for (fields, before) in [("Content-Length: 4\r\n", 0), ("Transfer-Encoding: chunked\r\n", 3)] {
        let mut scene = scene(Limits::default());
        let input =
            post("/where", fields) + if before > 0 { "4\r\nbody\r\n0\r\n\r\n" } else { "body" };
        let lease = scene.pool.take().expect("a buffer").fill(input.as_bytes());
        let head = input.find("\r\n\r\n").expect("a head ends") + 4;
        let at = lease[head + before..].as_ptr() as usize;
        let answer = streamed(move |_: &Request<'_>, reply: &mut Reply<'_>| {
            reply.stream(Where(at as *const u8));
        });
        let mut registry = Registry::default();
        registry.insert("/where", Resource::new().post(answer));
        scene.core.registry = std::rc::Rc::new(registry);
        scene.call(|session, port| session.received(lease, port));
        assert_eq!((scene.statuses(), told()), (vec![204], vec!["4".to_owned()]));
    }
}

#[test]
fn the_100_comes_once_and_only_if_content_is_wanted() {
    let expecting = |target: &str| post(target, "Content-Length: 2\r\nExpect: 100-continue\r\n");
    let mut scene = scene(Limits::default());
    scene.receive(expecting("/s"));
    assert_eq!(scene.statuses(), [100]);
    scene.receive("o");
    scene.receive("k");
    assert_eq!(scene.statuses(), [200]);

    // It refuses from the head: whether content follows cannot be told.
    scene.receive(expecting("/s?early"));
    let sent = scene.sent();
    assert!(
        sent.starts_with("HTTP/1.1 200 ") && sent.contains("\r\nConnection: close\r\n"),
        "{sent}"
    );
    assert!(scene.is_closing());

    let mut scene = self::scene(Limits::default());
    scene.receive(expecting("/s?pause"));
    assert_eq!(scene.sent(), "");
    WAKER.take().expect("it was opened").wake();
    scene.wake();
    assert_eq!(scene.statuses(), [100]);

    let mut scene = self::scene(Limits::default());
    scene.receive(expecting("/s?begin"));
    assert_eq!(scene.statuses(), [200], "an answer that has begun says it all");
}

#[test]
fn content_nobody_reads_is_thrown_away_up_to_its_bound() {
    let limits = || Limits { unread_bytes_max: 5, ..Limits::default() };
    for (input, goes_on) in [
        (post("/s?early", "Content-Length: 5\r\n") + "12345", true),
        (post("/s?early", "Content-Length: 6\r\n") + "123456", false),
        (chunked("/s?early", "5\r\n12345\r\n0\r\n\r\n"), true),
        (chunked("/s?early", "5\r\n12345\r\n1\r\n6\r\n0\r\n\r\n"), false),
        (chunked("/s?early", "x"), false),
        (post("/", "Content-Length: 5\r\n") + "12345", true),
        (post("/nowhere", "Content-Length: 5\r\n") + "12345", true),
        (post("/nowhere", "Content-Length: 6\r\n") + "123456", false),
    ] {
        let mut scene = scene(limits());
        scene.receive(input.clone() + &get("/"));
        let statuses = scene.statuses();
        assert_eq!(statuses.len(), if goes_on { 2 } else { 1 }, "{input}");
        assert_eq!(scene.is_closing(), !goes_on, "{input}");
        assert_eq!(scene.counters.contents_unread.value(), 1, "{input}");
    }
}

#[test]
fn too_much_content_is_a_413_or_a_cut() {
    for (input, told_before, status) in [
        (post("/small", "Content-Length: 5\r\n"), vec![], 413),
        (chunked("/small?pause=no", "5\r\n12345\r\n"), vec!["open", "ContentTooLarge"], 413),
        (chunked("/small", "4\r\n1234\r\n1\r\n5"), vec!["open", "content", "ContentTooLarge"], 200),
    ] {
        let mut scene = scene(Limits::default());
        scene.receive(&input);
        assert_eq!((scene.statuses(), told()), (vec![status], strings(&told_before)), "{input}");
        assert_eq!(scene.session.control().is_reset, status == 200, "{input}");
        assert_eq!(scene.counters.contents_too_large.value(), 1, "{input}");
    }
}

fn strings(words: &[&str]) -> Vec<String> {
    words.iter().copied().map(str::to_owned).collect()
}

#[test]
fn faulty_or_unfinished_content_ends_the_request() {
    let mut scene = scene(Limits::default());
    scene.receive(chunked("/s", "x"));
    assert_eq!((scene.statuses(), told()), (vec![400], strings(&["open", "ContentFaulty"])));
    assert!(scene.is_closing());

    let mut scene = self::scene(Limits::default());
    scene.receive(chunked("/s", "1\r\nax"));
    let expected = strings(&["open", "content", "ContentFaulty"]);
    assert_eq!((scene.statuses(), told()), (vec![200], expected));
    assert!(scene.session.control().is_reset, "the client must see that the answer is not whole");

    let mut scene = self::scene(Limits::default());
    scene.receive(post("/s", "Content-Length: 3\r\n") + "ab");
    scene.call(|session, port| session.ended(port));
    assert_eq!(told(), ["open", "content", "ContentIncomplete"]);
    assert!(scene.session.control().is_reset);
    assert_eq!(scene.counters.answers_broken.value(), 1);
}

#[test]
fn a_client_has_to_keep_the_slowest_rate_while_it_is_waited_for() {
    let limits = || Limits { content_slack_ms: 1000, content_rate_min: 10, ..Limits::default() };
    let mut scene = scene(limits());
    scene.receive(post("/s?silent", "Content-Length: 100\r\n"));
    for _ in 0..9 {
        scene.core.now += 110;
        scene.receive("x");
    }
    // Ten bytes a second were owed, nine came in 990 ms and bought 900.
    assert_eq!(scene.expire(), 910);
    assert_eq!(told().last().map(String::as_str), Some("ContentTooSlow"));
    assert_eq!(scene.counters.timeouts_content.value(), 1);

    // What a fast client saves up is no more than the slack.
    let mut scene = self::scene(limits());
    scene.receive(post("/s?begin", "Content-Length: 100\r\n") + &"x".repeat(90));
    assert_eq!(scene.expire(), 1000);

    // A handler that pauses makes nobody late but itself.
    let mut scene = self::scene(Limits { answer_timeout_ms: 5000, ..limits() });
    scene.receive(post("/s?pause", "Content-Length: 100\r\n"));
    assert_eq!(scene.expire(), 5000);
    assert_eq!(told(), ["open", "AnswerTimeout"]);
    assert_eq!((scene.statuses(), scene.counters.timeouts_answers.value()), (vec![503], 1));
}

#[test]
fn an_answer_that_does_not_begin_is_a_503_and_one_that_has_may_take_its_time() {
    let mut scene = scene(Limits { answer_timeout_ms: 700, ..Limits::default() });
    scene.receive(get("/s?silent"));
    assert_eq!((scene.expire(), scene.statuses()), (700, vec![503]));
    assert_eq!(told(), ["open", "end", "AnswerTimeout"]);

    let mut scene = self::scene(Limits::default());
    scene.receive(get("/s?silent&begin"));
    assert_eq!(scene.session.control().deadline, NEVER);
}

#[test]
fn an_answer_of_another_length_than_announced_is_cut() {
    for length in [3, 5] {
        let mut scene = scene(Limits::default());
        scene.receive(post(&format!("/s?length={length}"), "Content-Length: 4\r\n") + "abcd");
        assert!(scene.session.control().is_reset, "{length}");
        assert_eq!(scene.counters.answers_broken.value(), 1, "{length}");
        assert_eq!(
            told(),
            ["open", "content", "end", "HandlerReset"][..]
                .to_vec()
                .into_iter()
                .filter(|word| length > 4 || *word != "end")
                .collect::<Vec<_>>(),
            "{length}"
        );
    }
    let mut scene = scene(Limits::default());
    scene.receive(post("/s?length=4", "Content-Length: 4\r\n") + "abcd" + &get("/"));
    let sent = scene.exchange();
    assert!(sent.contains("\r\nContent-Length: 4\r\n\r\nabcdHTTP/1.1 200 "), "{sent}");
}

#[test]
fn a_handler_that_panics_or_says_nothing_is_a_500_or_a_cut() {
    for (query, status, is_reset, panics) in [
        ("finish", 500, false, 0),
        ("panic=open", 500, false, 1),
        ("panic=content", 500, false, 1),
        ("begin&panic=content", 200, true, 1),
        ("begin&panic=end", 200, true, 1),
        ("panic=Finished", 200, false, 1),
    ] {
        let mut scene = scene(Limits::default());
        scene.receive(post(&format!("/s?{query}"), "Content-Length: 2\r\n") + "ab");
        assert_eq!(scene.statuses(), [status], "{query}");
        assert_eq!(scene.session.control().is_reset, is_reset, "{query}");
        assert_eq!(scene.counters.handler_panics.value(), panics, "{query}");
        told();
    }
}

#[test]
fn answers_without_content_send_none_of_it() {
    for (line, target) in [
        ("HEAD", "/s"),
        ("HEAD", "/s?length=5"),
        ("POST", "/s?status=204"),
        ("POST", "/s?status=304"),
        ("POST", "/s?status=205"),
    ] {
        let mut scene = scene(Limits::default());
        let input =
            request(&format!("{line} {target} HTTP/1.1"), "Content-Length: 5\r\n") + "hello";
        scene.receive(input + &get("/nowhere"));
        let sent = scene.exchange();
        let (head, next) = sent.split_once("\r\n\r\n").expect("a head ends");
        assert!(next.starts_with("HTTP/1.1 404 "), "{line} {target}: {sent}");
        assert!(target != "/s?length=5" || head.contains("Content-Length: 5"), "{head}");
        assert!(target != "/s?status=205" || head.contains("Content-Length: 0"), "{head}");
    }
}

#[test]
fn http_1_0_gets_content_without_a_length_up_to_the_close() {
    let mut scene = scene(Limits::default());
    let fields = "Content-Length: 5\r\nConnection: keep-alive\r\nExpect: 100-continue\r\n";
    scene.receive(request("POST /s HTTP/1.0", fields));
    assert_eq!(scene.sent(), "", "no 1xx goes to HTTP/1.0");
    scene.receive("hello");
    let sent = scene.sent();
    assert!(
        sent.ends_with("Connection: close\r\n\r\nhello") && !sent.contains("chunked"),
        "{sent}"
    );
    assert!(scene.is_closing());
}

#[test]
fn what_a_handler_wanted_of_its_connection_does_not_hold_for_the_next_request() {
    let mut scene = scene(Limits::default());
    scene.receive(post("/s?pause&early&writable", "Content-Length: 2\r\n") + "ab" + &get("/"));
    assert_eq!(scene.statuses(), [200, 200]);
    let control = scene.session.control();
    assert!(!control.is_paused && !control.wants_writable && !control.is_closing);
}

#[test]
fn the_last_request_a_connection_may_have_is_answered_with_a_close() {
    for target in ["/", "/s", "/nowhere", "/whole"] {
        let limits = Limits { requests_per_connection_max: 2, ..Limits::default() };
        let mut scene = scene(limits);
        scene.receive(get("/") + &get(target) + &get("/"));
        let sent = scene.exchange();
        assert_eq!(sent.matches("HTTP/1.1 ").count(), 2, "{sent}");
        assert_eq!(sent.matches("Connection: close\r\n").count(), 1, "{sent}");
        assert!(scene.is_closing());
        assert_eq!(scene.counters.connections_used_up.value(), 1);
        told();
    }
}

#[test]
fn content_waits_while_the_answer_fills_the_outbox() {
    let limits = Limits { outbox_bytes_high: 100, ..Limits::default() };
    let mut scene = scene(limits);
    scene.in_flight = Load { bytes: 100, leases: 0 };
    scene.receive(post("/s?length=8", "Content-Length: 8\r\n") + "abcd");
    assert_eq!((told(), scene.session.is_blocked()), (strings(&[]), true), "not even the head");
    scene.in_flight = Load::default();
    scene.call(|session, port| session.sent(port));
    assert_eq!(told(), ["open", "content"]);
    scene.in_flight = Load { bytes: 100, leases: 0 };
    scene.receive("efgh");
    assert_eq!((told(), scene.session.is_blocked()), (strings(&[]), true));
    assert_eq!(scene.session.control().deadline, NEVER, "it is not the client who is late");
    scene.in_flight = Load::default();
    scene.call(|session, port| session.sent(port));
    assert_eq!(told(), ["content", "end", "Finished"]);
}

#[test]
fn a_handler_is_told_of_the_drain_and_of_a_lost_connection() {
    let mut scene = scene(Limits::default());
    scene.receive(get("/s?silent"));
    scene.call(|session, port| session.drain(Duration::from_secs(1), port));
    scene.session.close(1, CloseReason::PeerReset, &mut scene.core);
    assert_eq!(told(), ["open", "end", "drain", "PeerReset"]);
}
