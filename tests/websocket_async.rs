//! Async WebSocket handlers over loopback, hosted, with tokio-tungstenite as the client: what an
//! [`AsyncSocket`] promises to the future that holds it, whatever its peer does or leaves.

#[path = "support/loopback.rs"]
#[allow(dead_code)] // Shared with tests that use more of it.
mod loopback;

use std::fmt::Debug;
use std::future::Future;
use std::io::Write;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use futures_util::future::{Either, FutureExt, select};
use futures_util::{SinkExt, StreamExt};
use loopback::{PATIENCE, config, connect, pattern, read_head, serve, wait_until};
use socket2::SockRef;
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::Frame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};
use tokio_tungstenite::tungstenite::{Error, Message, Utf8Bytes};
use upring::websocket::{
    AsyncSocket, Close, CloseCode, ClosedBy, Disconnected, Fault, SendError, SubscribeError,
    TopicLimits, Topics, WebSocket, WebSocketLimits, WhenSlow,
};
use upring::{CloseReason, Config, OwnedRequest, Running};

const MEBIBYTE: usize = 1024 * 1024;

type Client = WebSocketStream<TcpStream>;

/// A server with one handler, and where it listens.
struct Served {
    running: Running,
    address: SocketAddr,
}

impl Served {
    /// `None` where io_uring is denied.
    fn start<Task: Future<Output = ()> + 'static>(
        config: Config,
        service: WebSocket,
        run: impl Fn(AsyncSocket) -> Task + Send + Sync + 'static,
    ) -> Option<Served> {
        let run = move |_: OwnedRequest, socket| run(socket);
        let running = serve(config, service.asynchronous(run))?;
        let address = running.addresses()[0];
        Some(Served { running, address })
    }

    /// The same, with something to tell the test by.
    fn telling<Told: Send + 'static, Task: Future<Output = ()> + 'static>(
        service: WebSocket,
        run: impl Fn(AsyncSocket, Sender<Told>) -> Task + Send + Sync + 'static,
    ) -> Option<(Served, Receiver<Told>)> {
        let (tell, told) = channel();
        let run = move |socket| run(socket, tell.clone());
        Some((Served::start(config(), service, run)?, told))
    }

    async fn open(&self) -> Client {
        let stream = TcpStream::connect(self.address).await.expect("it listens");
        let url = format!("ws://{}/", self.address);
        tokio_tungstenite::client_async(url, stream).await.expect("it switches").0
    }

    fn counter(&self, name: &str) -> usize {
        usize::try_from(self.running.counter(name)).expect("it fits")
    }

    fn stop(self) {
        assert_eq!(self.running.counter("handler_panics"), 0);
        self.running.stop().expect("it stops");
    }
}

/// Runs a client.
fn run(client: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let timed = async { tokio::time::timeout(2 * PATIENCE, client).await };
    runtime.expect("a runtime").block_on(timed).expect("it does not wait in vain");
}

fn heard<Told: Debug>(told: &Receiver<Told>) -> Told {
    told.recv_timeout(PATIENCE).expect("the handler gets there")
}

async fn say(client: &mut Client, text: &str) {
    client.send(Message::text(text)).await.expect("it is open");
}

/// The next message, as text; `close CODE REASON` and `ping PAYLOAD` if there is one instead.
async fn hear(client: &mut Client) -> String {
    match client.next().await.expect("a message or a Close").expect("it is not lost") {
        Message::Text(text) => text.as_str().to_owned(),
        Message::Ping(payload) => format!("ping {}", String::from_utf8_lossy(&payload)),
        Message::Close(Some(close)) => format!("close {} {}", u16::from(close.code), close.reason),
        other => panic!("{other:?}"),
    }
}

async fn ask(client: &mut Client, text: &str) -> String {
    say(client, text).await;
    hear(client).await
}

/// The other half of the closing handshake, and the end.
async fn assert_ends(client: &mut Client) {
    let end = client.next().await;
    assert!(end.is_none(), "{end:?}");
}

fn limits(change: impl FnOnce(&mut WebSocketLimits)) -> WebSocket {
    let mut limits = WebSocketLimits::default();
    change(&mut limits);
    WebSocket::new().limits(limits)
}

async fn echo(mut socket: AsyncSocket) {
    while let Ok(Some(message)) = socket.recv().await {
        if socket.send(message).await.is_err() {
            return;
        }
    }
}

/// Waits until a number no longer rises.
fn stalls_at(number: impl Fn() -> usize) -> usize {
    let (mut last, mut since) = (0, Instant::now());
    while since.elapsed() < Duration::from_millis(400) {
        let now = number();
        if now != last || now == 0 {
            (last, since) = (now, Instant::now());
        }
        thread::sleep(Duration::from_millis(10));
    }
    last
}

#[test]
fn messages_of_every_kind_and_size_come_back() {
    let Some(served) = Served::start(config(), WebSocket::new(), echo) else { return };
    run(async {
        let mut client = served.open().await;
        for len in [0, 1, 125, 126, 65_535, 65_536, 1_000_000] {
            for message in [Message::text("a".repeat(len)), Message::binary(pattern(len))] {
                client.send(message.clone()).await.expect("it is open");
                let back = client.next().await.expect("it is open").expect("a message");
                assert!(back == message, "{} bytes", message.len());
            }
        }
        for (kind, whole) in
            [(Data::Text, Message::text("abc")), (Data::Binary, Message::binary(b"abc".to_vec()))]
        {
            for (payload, data, is_final) in
                [("a", kind, false), ("", Data::Continue, false), ("bc", Data::Continue, true)]
            {
                let frame = Frame::message(payload, OpCode::Data(data), is_final);
                client.send(Message::Frame(frame)).await.expect("it is open");
            }
            assert_eq!(client.next().await.expect("it is open").expect("a message"), whole);
        }
    });
    served.stop();
}

/// More than any socket buffer holds, and in which pieces it is sent.
const TOTAL: usize = 48 * MEBIBYTE;
const PIECE: usize = 32 * 1024;

async fn read_all(client: &mut Client) {
    let mut read = 0;
    while read < TOTAL {
        read += client.next().await.expect("it is open").expect("a message").len();
    }
}

#[test]
fn send_waits_while_its_client_does_not_read_and_goes_on_when_it_does() {
    let sent = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&sent);
    let Some(served) = Served::start(config(), WebSocket::new(), move |mut socket| {
        let sent = Arc::clone(&counted);
        async move {
            while sent.load(Ordering::Relaxed) < TOTAL {
                socket.send(vec![7; PIECE]).await.expect("the client is slow, not gone");
                sent.fetch_add(PIECE, Ordering::Relaxed);
            }
        }
    }) else {
        return;
    };
    run(async {
        let mut client = served.open().await;
        let stalled = stalls_at(|| sent.load(Ordering::Relaxed));
        assert!(stalled < TOTAL, "all of it was sent to a client that reads nothing");
        let waiting = stalled.saturating_sub(served.counter("bytes_sent"));
        // The batch with the kernel, partly gone, and the one behind it.
        assert!(waiting <= 256 * 1024, "{waiting} bytes wait in memory");
        read_all(&mut client).await;
        assert_eq!(hear(&mut client).await, "close 1000 ");
    });
    served.stop();
}

#[test]
fn flush_waits_until_all_has_left() {
    // More than the socket buffers hold, handed over in one piece.
    const LEN: usize = 12 * MEBIBYTE;
    let mut config = config();
    config.limits.outbox_bytes_max = 2 * LEN;
    let service = limits(|limits| limits.queue_bytes_max = 2 * LEN);
    let (tell, told) = channel();
    let Some(served) = Served::start(config, service, move |mut socket| {
        let tell = tell.clone();
        async move {
            socket.flush().await.expect("nothing was sent");
            socket.send(vec![7; LEN]).await.expect("the client is slow, not gone");
            tell.send("sent").expect("the test waits");
            socket.flush().await.expect("the client is slow, not gone");
            tell.send("flushed").expect("the test waits");
        }
    }) else {
        return;
    };
    run(async {
        let mut client = served.open().await;
        assert_eq!(heard(&told), "sent");
        stalls_at(|| served.counter("bytes_sent"));
        assert!(told.try_recv().is_err(), "it is not flushed while its client does not read");
        let message = client.next().await.expect("it is open").expect("a message");
        assert_eq!(message.len(), LEN);
        assert_eq!(heard(&told), "flushed");
    });
    served.stop();
}

#[test]
fn a_message_larger_than_the_queue_is_refused_and_the_next_is_sent() {
    let service = limits(|limits| limits.queue_bytes_max = 1000);
    let Some((served, told)) = Served::telling(service, |mut socket, tell| async move {
        tell.send(socket.send(vec![0; 1001]).await).expect("the test waits");
        tell.send(socket.send(vec![0; 1000]).await).expect("the test waits");
        let _ = socket.recv().await;
    }) else {
        return;
    };
    run(async {
        let mut client = served.open().await;
        assert_eq!(heard(&told), Err(SendError::TooLarge));
        assert_eq!(heard(&told), Ok(()));
        let message = client.next().await.expect("it is open").expect("a message");
        assert_eq!(message.len(), 1000);
    });
    served.stop();
}

/// What a handler learns of the end of its connection.
type End = (Result<(), Disconnected>, Option<Close>, SendError, SubscribeError, SendError);

async fn watch_the_end(mut socket: AsyncSocket, tell: Sender<End>) {
    assert_eq!(socket.closed(), None);
    socket.send("well?").await.expect("the client is there");
    let received = socket.recv().await.map(|message| assert!(message.is_none(), "no message"));
    let end = (
        received,
        socket.closed(),
        socket.send("too late").await.expect_err("it is over"),
        socket.subscribe("late").await.expect_err("it is over"),
        socket.publish("late", "too late").await.expect_err("it is over"),
    );
    assert_eq!(socket.missed().await, None);
    socket.draining().await;
    assert_eq!(socket.flush().await, Ok(()), "all that was sent had left");
    tell.send(end).expect("the test waits");
}

#[test]
fn a_handler_learns_how_its_connection_ended() {
    let Some((served, told)) = Served::telling(WebSocket::new(), watch_the_end) else { return };
    let over = (SendError::Closed, SubscribeError::Closed, SendError::Closed);
    let assert_told = |how: &str, close: Close, is_loss: bool| {
        let (received, closed, send, subscribe, publish) = heard(&told);
        let expected = if is_loss { Err(Disconnected(close.clone())) } else { Ok(()) };
        assert_eq!((received, closed), (expected, Some(close)), "{how}");
        assert_eq!((send, subscribe, publish), over, "{how}");
    };
    let without_close = |by| Close { code: None, reason: Box::default(), by };
    run(async {
        let mut client = served.open().await;
        assert_eq!(hear(&mut client).await, "well?");
        let close = CloseFrame { code: 4000.into(), reason: Utf8Bytes::from_static("so long") };
        client.close(Some(close)).await.expect("it is open");
        assert_eq!(hear(&mut client).await, "close 4000 ");
        assert_ends(&mut client).await;
        let (code, reason) = (CloseCode::new(4000), "so long".into());
        assert_told("a Close", Close { code, reason, by: ClosedBy::Peer }, false);

        let mut client = served.open().await;
        assert_eq!(hear(&mut client).await, "well?");
        SockRef::from(client.get_ref()).set_linger(Some(Duration::ZERO)).expect("a TCP socket");
        drop(client);
        assert_told("a reset", without_close(ClosedBy::Lost(CloseReason::PeerReset)), true);

        let mut client = served.open().await;
        assert_eq!(hear(&mut client).await, "well?");
        drop(client);
        assert_told("an end", without_close(ClosedBy::Lost(CloseReason::Finished)), true);

        let mut client = served.open().await;
        assert_eq!(hear(&mut client).await, "well?");
        let frame = Frame::message("", OpCode::Data(Data::Continue), true);
        client.send(Message::Frame(frame)).await.expect("it is open");
        assert_eq!(hear(&mut client).await, "close 1002 ");
        let by = ClosedBy::Fault(Fault::NothingToContinue);
        let close = Close { code: Some(Fault::NothingToContinue.code()), ..without_close(by) };
        assert_told("a fault", close, true);
    });
    served.stop();
}

#[test]
fn nothing_is_sent_behind_our_close_and_nothing_waits_for_the_answer() {
    let topics = Topics::default();
    let service = WebSocket::new().topics(&topics);
    let Some((served, told)) = Served::telling(service, |mut socket, tell| async move {
        socket.subscribe("news").await.expect("one topic");
        socket.send("before").await.expect("the client is there");
        socket.close(CloseCode::new(4001).expect("a code"), "enough");
        socket.close(CloseCode::NORMAL, "the first stands");
        let sent = socket.send("behind").await;
        let subscribed = socket.subscribe("news").await;
        let published = socket.publish_to_all("news", "behind").await;
        tell.send(Err((sent, subscribed, published))).expect("the test waits");
        let received = socket.recv().await;
        assert!(matches!(received, Ok(None)), "{received:?}");
        tell.send(Ok(socket.closed())).expect("the test waits");
    }) else {
        return;
    };
    run(async {
        let mut client = served.open().await;
        let begun = Instant::now();
        let refused = (Err(SendError::Closed), Err(SubscribeError::Closed), Ok(()));
        assert_eq!(heard(&told), Err(refused));
        // The client has not answered: without an answer it would be five.
        assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
        topics.publish("news", "behind");
        assert_eq!(hear(&mut client).await, "before");
        assert_eq!(hear(&mut client).await, "close 4001 enough");
        assert_ends(&mut client).await;
        let close = heard(&told).expect("the end").expect("it is over");
        assert_eq!((close.code, close.by), (CloseCode::new(4001), ClosedBy::Us));
    });
    served.stop();
}

#[test]
fn a_reset_is_one_though_the_connection_is_closing() {
    let Some((served, told)) = Served::telling(WebSocket::new(), |mut socket, tell| async move {
        socket.close(CloseCode::NORMAL, "");
        let refused = socket.subscribe("too late").await;
        socket.reset();
        tell.send(refused).expect("the test waits");
    }) else {
        return;
    };
    let mut client = connect(served.address);
    client.write_all(opening().as_bytes()).expect("it is open");
    read_head(&mut client);
    assert_eq!(heard(&told), Err(SubscribeError::Closed));
    // Long before the five seconds a client has to answer a Close.
    let begun = Instant::now();
    wait_until("no upgrade is open", || served.running.counter("upgrades_open") == 0);
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
    served.stop();
}

fn opening() -> String {
    let key = "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    loopback::request("/", "websocket").replace("\r\n\r\n", &format!("\r\n{key}"))
}

#[test]
fn a_wait_for_a_message_that_is_given_up_loses_none() {
    const COUNT: usize = 3000;
    let Some((served, told)) = Served::telling(WebSocket::new(), |mut socket, tell| async move {
        let (mut received, mut given_up) = (0, 0);
        while received < COUNT {
            let tick = pin!(tokio::time::sleep(Duration::from_micros(200)));
            match select(pin!(socket.recv()), tick).await {
                Either::Left((message, _)) => {
                    let message = message.expect("the client is there").expect("and goes on");
                    assert_eq!(message.as_text(), Some(&*received.to_string()));
                    received += 1;
                }
                Either::Right(_) => given_up += 1,
            }
        }
        tell.send(given_up).expect("the test waits");
    }) else {
        return;
    };
    run(async {
        let mut client = served.open().await;
        for number in 0..COUNT {
            client.feed(Message::text(number.to_string())).await.expect("it is open");
            if number % 100 == 0 {
                client.flush().await.expect("it is open");
                tokio::time::sleep(Duration::from_millis(3)).await;
            }
        }
        client.flush().await.expect("it is open");
        assert!(heard(&told) > 0, "the test is to give up waits");
    });
    served.stop();
}

/// A binary message, masked by zeros.
fn frame(len: usize) -> Vec<u8> {
    let mut frame = match len {
        0..=125 => vec![0x82, 0x80 | len as u8],
        126..=0xffff => [&[0x82, 0x80 | 126][..], &(len as u16).to_be_bytes()].concat(),
        _ => [&[0x82, 0x80 | 127][..], &(len as u64).to_be_bytes()].concat(),
    };
    frame.resize(frame.len() + 4 + len, 0);
    frame
}

#[test]
fn a_handler_that_does_not_receive_holds_the_client() {
    for len in [100, 16 * 1024, 1_000_000] {
        let frame = frame(len);
        let count = 24 * MEBIBYTE / frame.len();
        let may_receive = Arc::new(AtomicBool::new(false));
        let gate = Arc::clone(&may_receive);
        let Some(served) = Served::start(config(), WebSocket::new(), move |mut socket| {
            let gate = Arc::clone(&gate);
            async move {
                while !gate.load(Ordering::Relaxed) {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                for _ in 0..count {
                    let message = socket.recv().await.expect("the client is there");
                    assert_eq!(message.expect("and goes on").len(), len);
                }
                socket.close(CloseCode::NORMAL, "");
            }
        }) else {
            return;
        };
        let mut client = connect(served.address);
        client.write_all(opening().as_bytes()).expect("it is open");
        read_head(&mut client);
        let writer = thread::spawn(move || {
            for frames in vec![frame; count].chunks(64) {
                client.write_all(&frames.concat()).expect("the server is slow, not gone");
            }
            client
        });
        // The kernel holds some for the server: what the server has taken of it is what counts.
        let received = stalls_at(|| served.counter("bytes_received"));
        let most = 64 * 1024 + len + 64 * 4096;
        assert!(received <= most, "{received} bytes are held, in messages of {len}");
        may_receive.store(true, Ordering::Relaxed);
        let mut client = writer.join().expect("the server goes on");
        assert_eq!(read_close(&mut client), 1000, "messages of {len}");
        // The server need not wait for its Close.
        drop(client);
        served.stop();
    }
}

/// The code of the Close that comes next.
fn read_close(client: &mut std::net::TcpStream) -> u16 {
    use std::io::Read;
    let mut close = [0; 4];
    client.read_exact(&mut close).expect("it is not lost");
    assert_eq!(close[..2], [0x88, 2]);
    u16::from_be_bytes([close[2], close[3]])
}

#[test]
fn the_halves_work_in_two_tasks() {
    const COUNT: usize = 500;
    let topics = Topics::default();
    let service = WebSocket::new().topics(&topics);
    let Some((served, told)) = Served::telling(service, |socket, tell| async move {
        let (mut receiver, mut sender) = socket.split();
        tokio_uring::spawn(async move {
            let mut count = 0;
            while let Some(message) = receiver.recv().await.expect("the client is there") {
                assert_eq!(message.as_text(), Some("up"));
                count += 1;
            }
            tell.send(count).expect("the test waits");
        });
        sender.subscribe("news").await.expect("one topic");
        for _ in 0..COUNT {
            sender.send("down").await.expect("the client is there");
            tokio::time::sleep(Duration::from_micros(50)).await;
        }
        assert_eq!(sender.subscribers("news"), 1);
        sender.publish_to_all("news", "the last").await.expect("the client is there");
        // Until the connection is over: without it, it would be closed here.
        sender.draining().await;
    }) else {
        return;
    };
    run(async {
        let (mut up, mut down) = served.open().await.split();
        let sending = async {
            for _ in 0..COUNT {
                up.send(Message::text("up")).await.expect("it is open");
                tokio::time::sleep(Duration::from_micros(70)).await;
            }
        };
        let receiving = async {
            for _ in 0..COUNT {
                assert_eq!(down.next().await.expect("open").expect("open"), Message::text("down"));
            }
            let last = down.next().await.expect("open").expect("open");
            assert_eq!(last, Message::text("the last"));
        };
        futures_util::future::join(sending, receiving).await;
        up.close().await.expect("it is open");
        assert_eq!(heard(&told), COUNT);
    });
    wait_until("nobody is subscribed", || topics.subscribers("news") == 0);
    served.stop();
}

#[test]
fn a_sender_goes_on_without_its_receiver() {
    let Some(served) = Served::start(config(), WebSocket::new(), |mut socket| async move {
        socket.recv().await.expect("the client is there");
        let (receiver, mut sender) = socket.split();
        drop(receiver);
        for number in 0..100 {
            sender.send(number.to_string()).await.expect("the client is there");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        // Until the connection is over: a Close would have what comes discarded, too.
        sender.draining().await;
    }) else {
        return;
    };
    run(async {
        let mut client = served.open().await;
        // More than any socket buffer holds.
        for _ in 0..TOTAL / PIECE {
            client.feed(Message::binary(vec![1; PIECE])).await.expect("it is open");
        }
        client.flush().await.expect("what comes is discarded");
        for number in 0..100 {
            assert_eq!(hear(&mut client).await, number.to_string());
        }
    });
    served.stop();
}

/// Subscribes, leaves and publishes as it is told.
async fn member(mut socket: AsyncSocket) {
    while let Ok(Some(message)) = socket.recv().await {
        let text = message.as_text().expect("the tests speak text").to_owned();
        let mut words = text.splitn(3, ' ');
        let mut word = || words.next().unwrap_or_default();
        let answer = match (word(), word(), word()) {
            ("join", topic, _) => match socket.subscribe(topic).await {
                Ok(()) => "joined".to_owned(),
                Err(error) => error.to_string(),
            },
            ("leave", topic, _) => socket.unsubscribe(topic).await.to_string(),
            ("count", topic, _) => socket.subscribers(topic).to_string(),
            ("say", topic, what) => {
                let what = what.to_owned();
                socket
                    .publish(topic, what)
                    .await
                    .map_or_else(|error| error.to_string(), |()| "said".into())
            }
            ("all", topic, what) => {
                let what = what.to_owned();
                socket.publish_to_all(topic, what).await.expect("it is open");
                continue;
            }
            _ => panic!("{text}"),
        };
        socket.send(answer).await.expect("the client is there");
    }
}

/// Clients on both of two cores.
async fn on_both_cores(served: &Served) -> Vec<Client> {
    let mut clients = Vec::new();
    while clients.len() < 4 || served.running.counter_by_core("upgrades_switched").contains(&0) {
        assert!(clients.len() < 64, "the kernel gives all connections to one core");
        clients.push(served.open().await);
        // The core may count after its 101 has come.
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    clients
}

#[test]
fn what_is_published_reaches_subscribers_on_all_cores_and_nobody_else() {
    let topics = Topics::default();
    let service = WebSocket::new().topics(&topics);
    let config = Config { workers: 2, ..config() };
    let Some(served) = Served::start(config, service, member) else { return };
    run(async {
        let mut clients = on_both_cores(&served).await;
        let mut outsider = clients.pop().expect("there are some");
        for client in &mut clients {
            assert_eq!(ask(client, "join news").await, "joined");
            assert_eq!(ask(client, "join news").await, "joined", "once more is no more");
        }
        assert_eq!(ask(&mut outsider, "count news").await, clients.len().to_string());
        assert_eq!(ask(&mut outsider, "count sport").await, "0");

        // Its sender is left out, unless it asks for it; one that is not subscribed may publish.
        assert_eq!(ask(&mut clients[0], "say news first").await, "said");
        for client in &mut clients[1..] {
            assert_eq!(hear(client).await, "first");
        }
        say(&mut clients[0], "all news second").await;
        for client in &mut clients {
            assert_eq!(hear(client).await, "second");
        }
        assert_eq!(ask(&mut outsider, "say news third").await, "said");
        for client in &mut clients {
            assert_eq!(hear(client).await, "third");
        }

        assert_eq!(ask(&mut clients[1], "leave news").await, "true");
        assert_eq!(ask(&mut clients[1], "leave news").await, "false");
        topics.publish("news", "fourth");
        for (at, client) in clients.iter_mut().enumerate().filter(|(at, _)| *at != 1) {
            assert_eq!(hear(client).await, "fourth", "client {at}");
        }
        // Had one of these been sent anything, it would come before the answer.
        for client in [&mut outsider, &mut clients[1]] {
            assert_eq!(ask(client, "count sport").await, "0");
        }
        for client in &mut clients {
            client.close(None).await.expect("it is open");
        }
    });
    wait_until("nobody is subscribed", || topics.subscribers("news") == 0);
    served.stop();
}

#[test]
fn topics_of_a_connection_are_bounded() {
    let service = limits(|limits| limits.topics_max = 1);
    let Some(served) = Served::start(config(), service, member) else { return };
    run(async {
        let mut client = served.open().await;
        assert_eq!(ask(&mut client, "join a").await, "joined");
        let refused = SubscribeError::TooManyOfConnection.to_string();
        assert_eq!(ask(&mut client, "join b").await, refused);
    });
    served.stop();
}

#[test]
fn a_subscription_that_is_given_up_is_made_and_its_outcome_is_not_the_next_ones() {
    let service = limits(|limits| limits.topics_max = 2);
    let Some((served, told)) = Served::telling(service, |mut socket, tell| async move {
        socket.subscribe("a").await.expect("one topic");
        assert!(socket.subscribe("b").now_or_never().is_none(), "it takes a turn");
        assert!(socket.subscribe("c").now_or_never().is_none(), "it takes a turn");
        let was_subscribed = socket.unsubscribe("never").await;
        let counts = ["a", "b", "c"].map(|topic| socket.subscribers(topic));
        // The outcome of `c` is its own, and so is the order.
        assert!(socket.unsubscribe("a").now_or_never().is_none(), "it takes a turn");
        let subscribed = socket.subscribe("d").await;
        tell.send((was_subscribed, counts, subscribed)).expect("the test waits");
    }) else {
        return;
    };
    run(async {
        let _client = served.open().await;
        assert_eq!(heard(&told), (false, [1, 1, 0], Ok(())));
    });
    served.stop();
}

const NEWS: usize = 3000;
const NEWS_BYTES: usize = 16 * 1024;

/// Publishes more than any socket buffer holds, no faster than the queue between cores takes it.
fn publish_news(topics: &Topics) {
    for number in 0..NEWS {
        topics.publish("news", vec![0; NEWS_BYTES]);
        if number % 10 == 0 {
            thread::sleep(Duration::from_millis(1));
        }
    }
    assert_eq!(topics.messages_lost(), 0, "the test is to lose them at the client");
}

#[test]
fn a_slow_subscriber_hears_how_many_it_missed() {
    let topics = Topics::new(TopicLimits { backlog_messages_max: 10, ..TopicLimits::default() });
    let service = WebSocket::new().topics(&topics);
    let Some((served, told)) = Served::telling(service, |mut socket, tell| async move {
        socket.subscribe("news").await.expect("one topic");
        tell.send(()).expect("the test waits");
        loop {
            let missed = socket.missed();
            let missed = match select(pin!(socket.recv()), pin!(missed)).await {
                Either::Right((Some(missed), _)) => missed,
                _ => return,
            };
            assert_eq!(&*missed.topic, "news");
            let _ = socket.send(missed.count.to_string()).await;
        }
    }) else {
        return;
    };
    run(async {
        let mut client = served.open().await;
        heard(&told);
        publish_news(&topics);
        let (mut got, mut missed) = (0, 0);
        // Every one of them is accounted for.
        while got + missed < NEWS {
            match client.next().await.expect("it is open").expect("a message") {
                Message::Binary(_) => got += 1,
                Message::Text(count) => missed += count.parse::<usize>().expect("a number"),
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(got + missed, NEWS);
        assert!(missed > 100, "{missed} were missed");
        assert_eq!(served.counter("websocket_messages_missed"), missed);
    });
    served.stop();
}

#[test]
fn a_slow_subscriber_is_closed_if_it_was_to_be() {
    let topics = Topics::new(TopicLimits { backlog_messages_max: 10, ..TopicLimits::default() });
    let service = WebSocket::new().topics(&topics);
    let Some((served, told)) = Served::telling(service, |mut socket, tell| async move {
        socket.subscribe_with("news", WhenSlow::Close).await.expect("one topic");
        tell.send(None).expect("the test waits");
        let received = socket.recv().await;
        assert!(matches!(received, Ok(None)), "{received:?}");
        tell.send(socket.closed()).expect("the test waits");
    }) else {
        return;
    };
    run(async {
        let mut client = served.open().await;
        assert_eq!(heard(&told), None);
        publish_news(&topics);
        let mut got = 0;
        let close = loop {
            match client.next().await.expect("it is open").expect("a message") {
                Message::Binary(_) => got += 1,
                Message::Close(close) => break close.expect("a code"),
                other => panic!("{other:?}"),
            }
        };
        assert!(got < NEWS);
        assert_eq!((u16::from(close.code), close.reason.as_str()), (1013, "too slow"));
        assert_ends(&mut client).await;
        assert_eq!(heard(&told).map(|close| close.by), Some(ClosedBy::Us));
    });
    served.stop();
}

#[test]
fn a_ping_leaves_behind_what_was_sent_before_it() {
    let Some(served) = Served::start(config(), WebSocket::new(), |mut socket| async move {
        socket.send("first").await.expect("the client is there");
        socket.ping(b"are you there?").await.expect("the client is there");
        socket.ping(&[b'x'; 200]).await.expect("the client is there");
        socket.send("last").await.expect("the client is there");
        // The Pongs are no messages.
        let message = socket.recv().await.expect("the client is there").expect("and goes on");
        socket.send(message).await.expect("the client is there");
        socket.close(CloseCode::NORMAL, "");
        assert_eq!(socket.ping(b"too late").await, Err(SendError::Closed));
    }) else {
        return;
    };
    run(async {
        let mut client = served.open().await;
        assert_eq!(hear(&mut client).await, "first");
        assert_eq!(hear(&mut client).await, "ping are you there?");
        assert_eq!(hear(&mut client).await, format!("ping {}", "x".repeat(125)));
        assert_eq!(hear(&mut client).await, "last");
        assert_eq!(ask(&mut client, "yes").await, "yes");
        assert_eq!(hear(&mut client).await, "close 1000 ");
    });
    served.stop();
}

#[test]
fn the_handler_knows_the_sub_protocol() {
    let service = WebSocket::new().subprotocols(["chat.v2", "chat.v1"]);
    let Some(served) = Served::start(config(), service, |mut socket| async move {
        let name = socket.subprotocol().unwrap_or("none").to_owned();
        socket.send(name).await.expect("the client is there");
    }) else {
        return;
    };
    run(async {
        assert_eq!(hear(&mut served.open().await).await, "none");
        let url = format!("ws://{}/", served.address);
        let mut request = url.into_client_request().expect("a target");
        let offer = "chat.v0, chat.v1".parse().expect("a value");
        request.headers_mut().insert("Sec-WebSocket-Protocol", offer);
        let stream = TcpStream::connect(served.address).await.expect("it listens");
        let switched = tokio_tungstenite::client_async(request, stream).await;
        assert_eq!(hear(&mut switched.expect("it switches").0).await, "chat.v1");
    });
    served.stop();
}

/// Stops a server and shows that its connection, one that `hello` came from, hears this and ends.
fn assert_stops_with(served: Served, expected: &[&str]) {
    run(async {
        let mut client = served.open().await;
        assert_eq!(hear(&mut client).await, "hello");
        served.running.stopper().stop();
        for expected in expected {
            assert_eq!(hear(&mut client).await, *expected);
        }
        assert_ends(&mut client).await;
    });
    served.stop();
}

#[test]
fn a_handler_that_does_not_wait_for_the_stop_is_closed_with_1001() {
    let Some(served) = Served::start(config(), WebSocket::new(), |mut socket| async move {
        drop(socket.draining());
        socket.send("hello").await.expect("the client is there");
        assert!(matches!(socket.recv().await, Ok(None)));
        assert_eq!(socket.closed().map(|close| close.by), Some(ClosedBy::Us));
    }) else {
        return;
    };
    assert_stops_with(served, &["close 1001 "]);
}

#[test]
fn every_task_that_waits_for_the_stop_hears_of_it() {
    let Some((served, told)) = Served::telling(WebSocket::new(), |socket, tell| async move {
        let (receiver, mut sender) = socket.split();
        let given_up = receiver.draining();
        let mut waits = Vec::new();
        for draining in [receiver.draining(), receiver.draining()] {
            let tell = tell.clone();
            waits.push(tokio_uring::spawn(async move {
                draining.await;
                tell.send(()).expect("the test waits");
            }));
        }
        assert!(given_up.now_or_never().is_none(), "it is not stopping");
        sender.send("hello").await.expect("the client is there");
        sender.draining().await;
        for wait in waits {
            wait.await.expect("it ends");
        }
        sender.send("good bye").await.expect("the client is there");
        sender.close(CloseCode::RESTART, "later");
    }) else {
        return;
    };
    assert_stops_with(served, &["good bye", "close 1012 later"]);
    assert_eq!(told.try_iter().count(), 2);
}

#[test]
fn a_loop_that_is_elsewhere_when_the_server_stops_finds_out_the_next_time() {
    let Some(served) = Served::start(config(), WebSocket::new(), |mut socket| async move {
        assert!(socket.draining().now_or_never().is_none(), "it is not stopping");
        socket.send("hello").await.expect("the client is there");
        // Nobody waits while the server begins to stop.
        tokio::time::sleep(Duration::from_millis(300)).await;
        socket.send("still here").await.expect("it was not closed by others");
        socket.draining().now_or_never().expect("it is stopping");
        socket.close(CloseCode::RESTART, "later");
    }) else {
        return;
    };
    assert_stops_with(served, &["still here", "close 1012 later"]);
}

#[test]
fn a_panic_resets_its_own_connection_and_is_counted() {
    let run_it = |mut socket: AsyncSocket| async move {
        while let Ok(Some(message)) = socket.recv().await {
            assert_ne!(message.as_text(), Some("panic"), "as asked for");
            socket.send(message).await.expect("the client is there");
        }
    };
    let Some(served) = Served::start(config(), WebSocket::new(), run_it) else { return };
    run(async {
        let mut neighbour = served.open().await;
        let mut client = served.open().await;
        say(&mut client, "panic").await;
        let lost = client.next().await.expect("no end").expect_err("no message");
        let is_reset = matches!(
            &lost,
            Error::Io(error) if error.kind() == std::io::ErrorKind::ConnectionReset
        ) || matches!(lost, Error::Protocol(_));
        assert!(is_reset, "{lost:?}");
        assert_eq!(ask(&mut neighbour, "well").await, "well");
    });
    assert_eq!(served.running.counter("handler_panics"), 1);
    served.running.stop().expect("it stops");
}

#[test]
fn dropping_it_closes_behind_what_was_sent_and_its_future_goes_on() {
    let Some((served, told)) = Served::telling(WebSocket::new(), |mut socket, tell| async move {
        for number in 0..3 {
            socket.send(number.to_string()).await.expect("the client is there");
        }
        drop(socket);
        tokio::time::sleep(Duration::from_millis(20)).await;
        tell.send(()).expect("the test waits");
    }) else {
        return;
    };
    run(async {
        let mut client = served.open().await;
        for number in 0..3 {
            assert_eq!(hear(&mut client).await, number.to_string());
        }
        assert_eq!(hear(&mut client).await, "close 1000 ");
        assert_ends(&mut client).await;
    });
    heard(&told);
    wait_until("no upgrade is open", || served.running.counter("upgrades_open") == 0);
    served.stop();
}

#[test]
fn a_handler_that_returns_at_once_closes_in_order() {
    let Some(served) = Served::start(config(), WebSocket::new(), |_| async {}) else { return };
    run(async {
        let mut client = served.open().await;
        assert_eq!(hear(&mut client).await, "close 1000 ");
        assert_ends(&mut client).await;
    });
    served.stop();
}
