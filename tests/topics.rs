//! Publish and subscribe over two cores, each an engine on a simulated kernel, in virtual time: who
//! gets what, in which order, what a slow subscriber costs, and that nothing stays behind.

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use upring::config::DrainTimes;
use upring::counters::Counters;
use upring::engine::{Engine, Turn};
use upring::ring::sim::{Client, Ending, Faults, SimConfig, Simulation, World};
use upring::ring::{ListenerId, Wait};
use upring::session::Core;
use upring::upgrade::CoreWaker;
use upring::websocket::{
    Compression, Endpoint, Message, Socket, TopicLimits, Topics, WebSocket, WhenSlow,
};
use upring::{Resource, resource::Registry};

const HANDSHAKE: &str = "GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\
                         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

thread_local! {
    /// What subscribers have missed.
    static MISSED: RefCell<Vec<(String, u64)>> = const { RefCell::new(Vec::new()) };
}

/// Subscribes, leaves and publishes as it is told.
struct Member;

impl Endpoint for Member {
    fn on_message(&mut self, message: Message, socket: &mut Socket<'_>) {
        let text = message.as_text().expect("the tests speak text").to_owned();
        let mut words = text.splitn(3, ' ');
        let mut word = || words.next().unwrap_or_default();
        let answer = match (word(), word(), word()) {
            ("join", topic, "") => join(socket, topic, WhenSlow::Skip),
            ("join", topic, "closing") => join(socket, topic, WhenSlow::Close),
            ("leave", topic, _) => socket.unsubscribe(topic).to_string(),
            ("count", topic, _) => socket.subscribers(topic).to_string(),
            ("say", topic, what) => return socket.publish(topic, what.to_owned()),
            ("all", topic, what) => return socket.publish_to_all(topic, what.to_owned()),
            _ => panic!("{text}"),
        };
        assert!(socket.send(answer).is_sent());
    }

    fn on_missed(&mut self, topic: &str, count: u64, _: &mut Socket<'_>) {
        MISSED.with_borrow_mut(|missed| missed.push((topic.to_owned(), count)));
    }
}

fn join(socket: &mut Socket<'_>, topic: &str, when_slow: WhenSlow) -> String {
    match socket.subscribe_with(topic, when_slow) {
        Ok(()) => "joined".to_owned(),
        Err(error) => error.to_string(),
    }
}

struct OneCore {
    engine: Engine<Simulation>,
    world: World,
    counters: Arc<Counters>,
    is_reached: Arc<AtomicBool>,
}

struct Scene {
    cores: Vec<OneCore>,
    topics: Topics,
}

impl Scene {
    fn new(cores: usize) -> Scene {
        Scene::with(cores, TopicLimits::default(), WebSocket::new())
    }

    fn with(cores: usize, limits: TopicLimits, service: WebSocket) -> Scene {
        let topics = Topics::new(limits);
        let mut registry = Registry::default();
        let protocol = service.topics(&topics).endpoint(|_| Member);
        registry.insert("/", Resource::new().upgrade(protocol));
        let cores = (0..cores).map(|_| OneCore::new(registry.clone())).collect();
        Scene { cores, topics }
    }

    /// Everything that happens now, on all cores.
    fn settle(&mut self) {
        // One may have left something for another that turned before it.
        let is_reached = |core: &OneCore| core.is_reached.load(Ordering::SeqCst);
        while self.cores.iter_mut().fold(false, |all, core| core.goes_on() | all)
            || self.cores.iter().any(is_reached)
        {}
    }

    /// A switched connection of a core.
    fn connect(&mut self, core: usize) -> Client {
        self.connect_with(core, "")
    }

    fn connect_with(&mut self, core: usize, fields: &str) -> Client {
        let client = self.cores[core].world.connect(ListenerId(0));
        client.write(format!("{HANDSHAKE}{fields}\r\n").as_bytes());
        self.settle();
        let answer = String::from_utf8(client.read()).expect("ASCII");
        assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
        client
    }

    fn say(&mut self, client: &Client, text: &str) {
        client.write(&frame(text));
        self.settle();
    }

    /// What a client has got since the last call.
    fn ask(&mut self, client: &Client, text: &str) -> String {
        self.say(client, text);
        messages(&client.read()).pop().expect("an answer")
    }

    fn counter(&self, of: impl Fn(&Counters) -> u64) -> u64 {
        self.cores.iter().map(|core| of(&core.counters)).sum()
    }

    /// Closes everything, and shows that no topic, connection or buffer is left.
    fn end(mut self, clients: &[&Client], topics: &[&str]) {
        clients.iter().for_each(|client| client.close());
        for core in &self.cores {
            core.world.advance(10_000);
        }
        self.settle();
        for core in &mut self.cores {
            assert_eq!(core.engine.connections(), 0);
            let pool = upring::ring::Kernel::pool(core.engine.kernel()).clone();
            assert_eq!(pool.vacant() + core.world.lent(), pool.count());
        }
        topics.iter().for_each(|topic| assert_eq!(self.topics.subscribers(topic), 0, "{topic}"));
    }
}

impl OneCore {
    fn new(registry: Registry) -> OneCore {
        let config = SimConfig { faults: Faults::none(), ..SimConfig::default() };
        let (kernel, counters) = (Simulation::new(1, config), Arc::<Counters>::default());
        let world = kernel.world();
        let core = Core::new(registry, Default::default(), Arc::clone(&counters), 0);
        let is_reached = Arc::<AtomicBool>::default();
        let reached = Arc::clone(&is_reached);
        core.mailbox.set_core(CoreWaker::new(move || reached.store(true, Ordering::SeqCst)));
        let engine = Engine::new(kernel, core, 1, Arc::default(), DrainTimes::default());
        OneCore { engine, world, counters, is_reached }
    }

    /// One turn; whether something is left to do.
    fn goes_on(&mut self) -> bool {
        if self.is_reached.swap(false, Ordering::SeqCst) {
            self.world.control();
        }
        let turn = self.engine.turn(Wait::No).expect("a simulation goes on");
        turn == Turn::Again || !self.world.is_quiet()
    }
}

/// Masked by zeros.
fn frame(text: &str) -> Vec<u8> {
    let header = match text.len() {
        len @ 0..=125 => vec![0x81, 0x80 | len as u8],
        len => [&[0x81, 0x80 | 126][..], &(len as u16).to_be_bytes()].concat(),
    };
    [&header[..], &[0; 4], text.as_bytes()].concat()
}

/// The texts of unfragmented, uncompressed frames.
fn messages(mut bytes: &[u8]) -> Vec<String> {
    let mut messages = Vec::new();
    while !bytes.is_empty() {
        let (len, header) = match bytes[1] {
            126 => (usize::from(u16::from_be_bytes([bytes[2], bytes[3]])), 4),
            len => (usize::from(len), 2),
        };
        assert_eq!(bytes[0], 0x81, "{bytes:x?}");
        let text = String::from_utf8(bytes[header..header + len].to_vec()).expect("text");
        messages.push(text);
        bytes = &bytes[header + len..];
    }
    messages
}

#[test]
fn every_subscriber_on_every_core_gets_it_and_nobody_else() {
    let mut scene = Scene::new(2);
    let clients: Vec<Client> = (0..6).map(|at| scene.connect(at % 2)).collect();
    for client in &clients[..4] {
        assert_eq!(scene.ask(client, "join news"), "joined");
    }
    assert_eq!(scene.ask(&clients[4], "join sport"), "joined");
    assert_eq!(scene.ask(&clients[5], "count news"), "4");

    // Its sender is left out, unless it asks for it.
    scene.say(&clients[0], "say news first");
    scene.say(&clients[1], "all news second");
    // One that is not subscribed may publish.
    scene.say(&clients[5], "say news third");
    let got: Vec<_> = clients.iter().map(|client| messages(&client.read())).collect();
    assert_eq!(got[0], ["second", "third"]);
    for one in &got[1..4] {
        assert_eq!(*one, ["first", "second", "third"]);
    }
    assert!(got[4].is_empty() && got[5].is_empty());

    assert_eq!(scene.ask(&clients[1], "leave news"), "true");
    assert_eq!(scene.ask(&clients[1], "leave news"), "false");
    scene.say(&clients[0], "all news fourth");
    assert_eq!(messages(&clients[0].read()), ["fourth"]);
    assert!(clients[1].read().is_empty());
    assert_eq!(messages(&clients[3].read()), ["fourth"]);
    scene.end(&clients.iter().collect::<Vec<_>>(), &["news", "sport"]);
}

#[test]
fn anything_in_the_process_publishes() {
    let mut scene = Scene::new(2);
    let (one, other) = (scene.connect(0), scene.connect(1));
    scene.ask(&one, "join news");
    scene.ask(&other, "join news");
    let topics = scene.topics.clone();
    std::thread::spawn(move || topics.publish("news", "from elsewhere")).join().expect("it ends");
    scene.topics.publish("nobody is here", "lost");
    scene.settle();
    for client in [&one, &other] {
        assert_eq!(messages(&client.read()), ["from elsewhere"]);
    }
    scene.end(&[&one, &other], &["news"]);
}

#[test]
fn one_publisher_is_heard_in_order_on_every_core() {
    let mut scene = Scene::new(3);
    let clients: Vec<Client> = (0..6).map(|at| scene.connect(at % 3)).collect();
    for client in &clients {
        scene.ask(client, "join news");
    }
    let mut burst = Vec::new();
    (0..100).for_each(|at| burst.extend(frame(&format!("say news {at}"))));
    clients[0].write(&burst);
    scene.settle();
    let expected: Vec<String> = (0..100).map(|at| at.to_string()).collect();
    for client in &clients[1..] {
        assert_eq!(messages(&client.read()), expected);
    }
    assert!(clients[0].read().is_empty());
    scene.end(&clients.iter().collect::<Vec<_>>(), &["news"]);
}

#[test]
fn a_topic_that_was_left_by_all_can_be_joined_anew_by_others() {
    let mut scene = Scene::new(2);
    let (one, other) = (scene.connect(0), scene.connect(1));
    for round in 0..3 {
        scene.ask(&one, "join news");
        // The other core learns the topic by publishing to it.
        scene.say(&other, &format!("say news {round}"));
        assert_eq!(messages(&one.read()), [round.to_string()]);
        scene.ask(&one, "leave news");
        assert_eq!(scene.topics.subscribers("news"), 0);
        scene.say(&other, "say news nobody");
        assert!(one.read().is_empty());
    }
    scene.end(&[&one, &other], &["news"]);
}

#[test]
fn a_slow_subscriber_misses_the_oldest_is_told_and_costs_nobody_else_anything() {
    let limits = TopicLimits { backlog_messages_max: 10, ..TopicLimits::default() };
    let mut scene = Scene::with(1, limits, WebSocket::new());
    let (slow, quick, speaker) = (scene.connect(0), scene.connect(0), scene.connect(0));
    scene.ask(&slow, "join news");
    scene.ask(&quick, "join news");
    slow.set_window(0);
    MISSED.take();
    let mut got = Vec::new();
    // More than its connection may have waiting, each a kilobyte.
    for at in 0..200 {
        scene.say(&speaker, &format!("say news {at:>1000}"));
        got.extend(messages(&quick.read()));
    }
    assert_eq!(got.len(), 200);
    assert!(MISSED.take().is_empty(), "nothing is said before it reads");
    slow.set_window(1 << 20);
    // It is told of what it missed when there is room, and gets what is left.
    scene.settle();
    slow.read();
    scene.say(&speaker, "say news the last");
    let missed = MISSED.take();
    assert_eq!(missed.len(), 1, "{missed:?}");
    assert!(missed[0].0 == "news" && missed[0].1 > 50, "{missed:?}");
    assert_eq!(scene.counter(|counters| counters.websocket_messages_missed.value()), missed[0].1);
    let rest = messages(&slow.read());
    assert_eq!(rest.last().map(String::as_str), Some("the last"));
    scene.end(&[&slow, &quick, &speaker], &["news"]);
}

#[test]
fn a_slow_subscriber_is_closed_if_it_was_to_be() {
    let limits = TopicLimits { backlog_messages_max: 10, ..TopicLimits::default() };
    let mut scene = Scene::with(1, limits, WebSocket::new());
    let (slow, speaker) = (scene.connect(0), scene.connect(0));
    scene.ask(&slow, "join news closing");
    slow.set_window(0);
    for at in 0..200 {
        scene.say(&speaker, &format!("say news {at:>1000}"));
    }
    slow.set_window(1 << 20);
    scene.settle();
    let bytes = slow.read();
    assert!(bytes.ends_with(b"\x88\x0a\x03\xf5too slow"), "{:x?}", &bytes[bytes.len() - 20..]);
    assert_eq!(scene.topics.subscribers("news"), 0);
    scene.end(&[&slow, &speaker], &["news"]);
}

#[test]
fn a_core_that_does_not_turn_costs_a_bounded_queue() {
    let limits = TopicLimits { hops_max: 16, ..TopicLimits::default() };
    let mut scene = Scene::with(2, limits, WebSocket::new());
    let (here, there) = (scene.connect(0), scene.connect(1));
    scene.ask(&there, "join news");
    let mut burst = Vec::new();
    (0..50).for_each(|at| burst.extend(frame(&format!("say news {at}"))));
    here.write(&burst);
    // Only the core that publishes turns.
    while scene.cores[0].goes_on() {}
    assert_eq!(scene.topics.messages_lost(), 34);
    scene.settle();
    let expected: Vec<String> = (0..16).map(|at| at.to_string()).collect();
    assert_eq!(messages(&there.read()), expected);
    scene.end(&[&here, &there], &["news"]);
}

#[test]
fn topics_are_bounded_for_a_connection_and_in_all() {
    let limits = TopicLimits { topics_max: 3, ..TopicLimits::default() };
    let own = upring::websocket::WebSocketLimits { topics_max: 2, ..Default::default() };
    let mut scene = Scene::with(2, limits, WebSocket::new().limits(own));
    let (one, other) = (scene.connect(0), scene.connect(1));
    assert_eq!(scene.ask(&one, "join a"), "joined");
    assert_eq!(scene.ask(&one, "join b"), "joined");
    assert_eq!(scene.ask(&one, "join b"), "joined", "once more is no more");
    assert!(scene.ask(&one, "join c").contains("as many topics as it may be"));
    assert_eq!(scene.ask(&other, "join a"), "joined");
    assert_eq!(scene.ask(&other, "join c"), "joined");
    scene.ask(&other, "leave a");
    assert!(scene.ask(&other, "join d").contains("as many topics as there may be"));
    scene.ask(&one, "leave b");
    assert_eq!(scene.ask(&other, "join d"), "joined");
    scene.end(&[&one, &other], &["a", "b", "c", "d"]);
}

#[test]
fn who_may_be_sent_it_compressed_is_and_all_such_are_sent_the_same() {
    let service = WebSocket::new().compression(Compression::shared());
    let mut scene = Scene::with(2, TopicLimits::default(), service);
    let offer = "Sec-WebSocket-Extensions: permessage-deflate\r\n";
    let plain = scene.connect(0);
    let compressed = [scene.connect_with(0, offer), scene.connect_with(1, offer)];
    let small_window = scene.connect_with(
        0,
        "Sec-WebSocket-Extensions: permessage-deflate; server_max_window_bits=10\r\n",
    );
    let all = [&plain, &compressed[0], &compressed[1], &small_window];
    all.iter().for_each(|client| drop(scene.ask(client, "join news")));
    let news = "extra, extra, read all about it! ".repeat(20);
    scene.say(&plain, &format!("all news {news}"));
    assert_eq!(messages(&plain.read()), std::slice::from_ref(&news));
    assert_eq!(messages(&small_window.read()), std::slice::from_ref(&news));
    let (one, other) = (compressed[0].read(), compressed[1].read());
    assert_eq!(one, other);
    assert!(one[0] == 0xc1 && one.len() < 80, "{} bytes", one.len());
    scene.end(&all, &["news"]);
}

#[test]
fn a_subscriber_that_vanishes_is_forgotten_in_whatever_way_it_goes() {
    let mut scene = Scene::new(2);
    let ways: [fn(&Client); 3] = [Client::close, Client::reset, |client| {
        client.write(b"\x88\x82\0\0\0\0\x03\xe8");
    }];
    let speaker = scene.connect(0);
    for way in ways {
        let clients = [scene.connect(0), scene.connect(1)];
        for client in &clients {
            scene.ask(client, "join news");
        }
        clients.iter().for_each(way);
        scene.settle();
        assert_eq!(scene.topics.subscribers("news"), 0);
        scene.say(&speaker, "say news anybody?");
        assert!(clients.iter().all(|client| client.ending().is_none_or(|at| at != Ending::Reset)));
    }
    scene.end(&[&speaker], &["news"]);
}
