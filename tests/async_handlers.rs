//! Async handlers over loopback, hosted: what an [`Upgraded`] promises to the future that holds it,
//! in the order and at the speed a hostile or slow peer dictates.

#[path = "support/loopback.rs"]
#[allow(dead_code)] // Shared with tests that use more of it.
mod loopback;

use std::future::Future;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::task::Poll;
use std::thread;
use std::time::{Duration, Instant};

use loopback::{
    PATIENCE, config, connect, pattern, read_head, read_to_end, request, serve, upgrade, wait_until,
};
use upring::buffer::LeaseQueue;
use upring::config::DrainTimes;
use upring::{
    CloseReason, Closed, Config, Decision, HostKind, Opening, OwnedRequest, Protocol, Response,
    Running, ServerError, Status, Switch, Upgraded,
};

const MEBIBYTE: usize = 1024 * 1024;

/// Serves one async handler as `t`.
fn hosted<Task: Future<Output = ()> + 'static>(
    run: impl Fn(Upgraded) -> Task + Send + Sync + 'static,
) -> Option<(Running, SocketAddr)> {
    hosted_with(config(), run)
}

fn hosted_with<Task: Future<Output = ()> + 'static>(
    config: Config,
    run: impl Fn(Upgraded) -> Task + Send + Sync + 'static,
) -> Option<(Running, SocketAddr)> {
    let protocol = Protocol::asynchronous("t", move |_: OwnedRequest, upgraded| run(upgraded));
    let running = serve(config, protocol)?;
    let address = running.addresses()[0];
    Some((running, address))
}

/// Both kinds of descriptors a connection can have.
fn tiers() -> [Config; 2] {
    let mut plain = config();
    plain.ring.without.direct_descriptors = true;
    [config(), plain]
}

async fn echo(mut upgraded: Upgraded) {
    while let Ok(Some(lease)) = upgraded.recv().await {
        if upgraded.send(lease).await.is_err() {
            return;
        }
    }
}

/// Writes `bytes` in pieces of these sizes, over and over, on a thread of its own.
fn write_in_pieces(client: &TcpStream, bytes: Vec<u8>, sizes: &'static [usize]) {
    let mut client = client.try_clone().expect("descriptors are left");
    thread::spawn(move || {
        let mut rest = &bytes[..];
        for size in sizes.iter().cycle() {
            let (piece, left) = rest.split_at((*size).min(rest.len()));
            client.write_all(piece).expect("the server reads");
            rest = left;
            if rest.is_empty() {
                return;
            }
        }
    });
}

fn assert_comes_back(client: &mut TcpStream, bytes: &[u8], case: &str) {
    let mut back = vec![0; bytes.len()];
    client.read_exact(&mut back).unwrap_or_else(|error| panic!("{case}: {error}"));
    if let Some(at) = (0..bytes.len()).find(|at| back[*at] != bytes[*at]) {
        panic!("{case}: byte {at} of {} is not the one that was sent", bytes.len());
    }
}

#[test]
fn a_handler_that_uses_neither_half_hears_that_its_connection_is_over() {
    let (tell, told) = channel();
    let Some((running, address)) = hosted(move |upgraded| {
        let tell = tell.clone();
        async move { tell.send(upgraded.closed().await).expect("the test waits") }
    }) else {
        return;
    };
    let client = upgrade(address, "t", b"unread");
    socket2::SockRef::from(&client).set_linger(Some(Duration::ZERO)).expect("a TCP socket");
    drop(client);
    assert_eq!(told.recv_timeout(PATIENCE), Ok(CloseReason::PeerReset));
    running.stop().expect("it stops");
}

#[test]
fn a_mebibyte_in_odd_sizes_comes_back() {
    let Some((running, address)) = hosted(echo) else { return };
    let bytes = pattern(MEBIBYTE);
    let mut client = upgrade(address, "t", &bytes[..77]);
    write_in_pieces(&client, bytes[77..].to_vec(), &[1, 3, 4095, 4097, 17, 10_007, 65_537, 2]);
    assert_comes_back(&mut client, &bytes, "echo");
    client.shutdown(Shutdown::Write).expect("it is open");
    assert_eq!(read_to_end(&mut client), b"");
    running.stop().expect("it stops");
}

#[test]
fn a_client_that_does_not_read_holds_the_sender_and_nobody_spins() {
    const TOTAL: usize = 48 * MEBIBYTE;
    const PIECE: usize = 16 * 1024;
    let sent = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&sent);
    let Some((running, address)) = hosted(move |mut upgraded| {
        let sent = Arc::clone(&counted);
        async move {
            while sent.load(Ordering::Relaxed) < TOTAL {
                upgraded.send(vec![7; PIECE]).await.expect("the client is slow, not gone");
                sent.fetch_add(PIECE, Ordering::Relaxed);
            }
        }
    }) else {
        return;
    };
    let mut client = upgrade(address, "t", b"");
    let stalled = stalls_at(&sent);
    let has_left = usize::try_from(running.counter("bytes_sent")).expect("it fits");
    assert!(stalled < TOTAL, "all of it was sent to a client that reads nothing");
    // The batch with the kernel, partly gone, and the one behind it.
    assert!(stalled - has_left <= 256 * 1024, "{} bytes wait in memory", stalled - has_left);
    let sleeps = running.counter("sleeps");
    thread::sleep(Duration::from_millis(300));
    let sleeps = running.counter("sleeps") - sleeps;
    assert!(sleeps < 30, "{sleeps} wake-ups while nothing could be done");
    assert_eq!(read_to_end(&mut client).len(), TOTAL);
    running.stop().expect("it stops");
}

/// Waits until a number no longer rises.
fn stalls_at(number: &AtomicUsize) -> usize {
    let (mut last, mut since) = (0, Instant::now());
    while since.elapsed() < Duration::from_millis(400) {
        let now = number.load(Ordering::Relaxed);
        if now != last || now == 0 {
            (last, since) = (now, Instant::now());
        }
        thread::sleep(Duration::from_millis(10));
    }
    last
}

#[test]
fn a_handler_that_does_not_receive_holds_the_client() {
    const TOTAL: usize = 48 * MEBIBYTE;
    let may_receive = Arc::new(AtomicBool::new(false));
    let gate = Arc::clone(&may_receive);
    let Some((running, address)) = hosted(move |mut upgraded| {
        let gate = Arc::clone(&gate);
        async move {
            while !gate.load(Ordering::Relaxed) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            let mut count = 0;
            while let Some(lease) = upgraded.recv().await.expect("the client is there") {
                count += lease.len();
            }
            upgraded.send(count.to_string()).await.expect("the client is there");
        }
    }) else {
        return;
    };
    let mut client = upgrade(address, "t", b"");
    let written = Arc::new(AtomicUsize::new(0));
    let (progress, mut writer) = (Arc::clone(&written), client.try_clone().unwrap());
    thread::spawn(move || {
        while progress.load(Ordering::Relaxed) < TOTAL {
            writer.write_all(&[5; 16 * 1024]).expect("the server is slow, not gone");
            progress.fetch_add(16 * 1024, Ordering::Relaxed);
        }
        writer.shutdown(Shutdown::Write).expect("it is open");
    });
    let stalled = stalls_at(&written);
    assert!(stalled < TOTAL, "all of it was taken from a client whose handler receives nothing");
    assert!(running.counter("backpressure") > 0);
    let received = usize::try_from(running.counter("bytes_received")).expect("it fits");
    assert!(received <= 64 * 4096, "{received} bytes are held for a handler that takes none");
    may_receive.store(true, Ordering::Relaxed);
    assert_eq!(read_to_end(&mut client), TOTAL.to_string().as_bytes());
    running.stop().expect("it stops");
}

#[test]
fn buffers_that_a_task_gives_back_are_received_into_though_nothing_else_happens() {
    const LEN: usize = 300_000;
    let mut config = config();
    (config.ring.buffers, config.ring.buffers_lent) = (4, 4);
    let Some((running, address)) = hosted_with(config, |mut upgraded| async move {
        let (mut count, mut hoard) = (0, Vec::new());
        while count < LEN {
            match tokio::time::timeout(Duration::from_millis(10), upgraded.recv()).await {
                Ok(received) => {
                    let lease = received.expect("the client is there").expect("and goes on");
                    count += lease.len();
                    hoard.push(lease);
                }
                // Nothing more comes while all buffers lie here.
                Err(_) => hoard.clear(),
            }
        }
        upgraded.send("all of it").await.expect("the client is there");
    }) else {
        return;
    };
    let mut client = upgrade(address, "t", b"");
    let mut neighbour = upgrade(address, "t", b"");
    client.write_all(&pattern(LEN)).expect("the server goes on");
    assert_eq!(read_to_end(&mut client), b"all of it");
    neighbour.write_all(&pattern(LEN)).expect("the server goes on");
    assert_eq!(read_to_end(&mut neighbour), b"all of it");
    assert!(running.counter("receives_starved") > 0, "the test is to exhaust the buffers");
    running.stop().expect("it stops");
}

#[test]
fn a_client_that_ends_first_still_gets_the_answer() {
    let Some((running, address)) = hosted(|mut upgraded| async move {
        let mut count = 0;
        while let Some(lease) = upgraded.recv().await.expect("the client is there") {
            count += lease.len();
        }
        assert_eq!(upgraded.recv().await.map(|lease| lease.is_none()), Ok(true), "an end stays");
        upgraded.send(format!("{count}")).await.expect("our direction is open");
    }) else {
        return;
    };
    let mut client = upgrade(address, "t", b"12345");
    client.write_all(b"678").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    assert_eq!(read_to_end(&mut client), b"8");
    running.stop().expect("it stops");
}

#[test]
fn a_handler_that_ends_first_still_receives_and_cannot_send() {
    let (tell, told) = channel();
    let Some((running, address)) = hosted(move |mut upgraded| {
        let tell: Sender<(usize, bool)> = tell.clone();
        async move {
            upgraded.send("bye").await.expect("open");
            upgraded.end();
            let is_refused = upgraded.send("late").await == Err(Closed(CloseReason::Finished));
            upgraded.flush().await.expect("what was sent before the end leaves");
            // Slower than the client: both directions have ended before the last bytes are received
            // here.
            tokio::time::sleep(Duration::from_millis(100)).await;
            let mut count = 0;
            while let Some(lease) = upgraded.recv().await.expect("an end is no loss") {
                count += lease.len();
            }
            tell.send((count, is_refused)).expect("the test waits");
        }
    }) else {
        return;
    };
    let mut client = upgrade(address, "t", b"");
    assert_eq!(read_to_end(&mut client), b"bye");
    client.write_all(&[1; 50_000]).unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    assert_eq!(told.recv_timeout(PATIENCE), Ok((50_000, true)));
    running.stop().expect("it stops");
}

#[test]
fn dropping_it_closes_in_order_even_if_bytes_were_not_received() {
    let Some((running, address)) = hosted(|mut upgraded| async move {
        upgraded.recv().await.expect("the client is there");
        upgraded.send(pattern(100_000)).await.expect("the client is there");
    }) else {
        return;
    };
    let mut client = upgrade(address, "t", b"");
    client.write_all(&[3; 60_000]).unwrap();
    assert_eq!(read_to_end(&mut client), pattern(100_000));
    running.stop().expect("it stops");
}

#[test]
fn a_panic_resets_its_own_connection_and_is_counted() {
    let Some((running, address)) = hosted(|mut upgraded| async move {
        while let Ok(Some(lease)) = upgraded.recv().await {
            assert_ne!(&*lease, b"panic", "as asked for");
            upgraded.send(lease).await.expect("the client is there");
        }
    }) else {
        return;
    };
    let mut neighbour = upgrade(address, "t", b"");
    let mut client = upgrade(address, "t", b"panic");
    let error = client.read(&mut [0; 9]).expect_err("a panic is no orderly end");
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    neighbour.write_all(b"well").unwrap();
    assert_comes_back(&mut neighbour, b"well", "the neighbour");
    assert_eq!(running.counter("handler_panics"), 1);
    running.stop().expect("it stops");
}

#[test]
fn a_panic_of_either_half_resets() {
    for half in ["receiver", "sender"] {
        let Some((running, address)) = hosted(move |upgraded| async move {
            let (receiver, sender) = upgraded.split();
            let (mut kept, mut panicking) = (None, None);
            match half {
                "receiver" => (kept, panicking) = (Some(sender), Some(receiver)),
                _ => drop(tokio_uring::spawn(async move {
                    let _sender = sender;
                    panic!("as the test wants");
                })),
            }
            if let Some(receiver) = panicking.take() {
                drop(tokio_uring::spawn(async move {
                    let _receiver = receiver;
                    panic!("as the test wants");
                }));
            }
            std::future::pending::<()>().await;
            drop(kept);
        }) else {
            return;
        };
        let mut client = upgrade(address, "t", b"");
        let error = client.read(&mut [0; 9]).expect_err(half);
        assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{half}");
        running.stop().expect("it stops");
    }
}

/// Detaches, as the case says after a receive or with something sent, and echoes all that was and
/// will be received.
async fn detach_and_echo(mut upgraded: Upgraded, receives: usize, sends: usize) {
    let mut before = LeaseQueue::default();
    for _ in 0..receives {
        if let Ok(Some(lease)) = upgraded.recv().await {
            before.push(lease);
        }
    }
    if sends > 0 {
        upgraded.send(pattern(sends)).await.expect("the client is there");
    }
    let (stream, mut unread) = upgraded.into_tokio_uring().await.expect("a descriptor is left");
    for queue in [&mut before, &mut unread] {
        while let Some(lease) = queue.pop() {
            let (written, _) = stream.write_all(lease).await;
            written.expect("the client reads");
        }
    }
    let mut bytes = vec![0; 5000];
    loop {
        let (read, filled) = stream.read(bytes).await;
        let count = read.expect("the client is there");
        if count == 0 {
            return;
        }
        let (written, piece) = stream.write_all(filled[..count].to_vec()).await;
        written.expect("the client reads");
        drop(piece);
        bytes = filled;
    }
}

#[test]
fn no_byte_is_lost_repeated_or_reordered_while_detaching() {
    const LEN: usize = 40_000;
    let bytes = pattern(LEN);
    for config in tiers() {
        for (receives, sends) in [(0, 0), (1, 0), (2, 1000), (0, 300_000)] {
            let Some((running, address)) =
                hosted_with(config.clone(), move |it| detach_and_echo(it, receives, sends))
            else {
                return;
            };
            let cuts = [0, 1, 2, 63, 1000, 3900, 4000, 4096, 4097, 8192, 20_000, LEN];
            let pauses = [None, Some(0), Some(50), Some(300), Some(1000)];
            for (cut, pause) in cuts.iter().flat_map(|cut| pauses.map(|pause| (*cut, pause))) {
                let case = format!("{receives} received, {sends} sent, cut {cut}, {pause:?} us");
                let mut client = upgrade(address, "t", &bytes[..cut]);
                let mut writer = client.try_clone().unwrap();
                let rest = bytes[cut..].to_vec();
                let writing = thread::spawn(move || {
                    for piece in rest.chunks(1 + rest.len() / 7) {
                        writer.write_all(piece).expect("the server reads");
                        if let Some(micros) = pause {
                            thread::sleep(Duration::from_micros(micros));
                        }
                    }
                    writer.shutdown(Shutdown::Write).expect("it is open");
                });
                if sends > 100_000 {
                    // The send is pending while the connection is to leave.
                    thread::sleep(Duration::from_millis(5));
                }
                assert_comes_back(&mut client, &pattern(sends), &case);
                assert_comes_back(&mut client, &bytes, &case);
                assert_eq!(read_to_end(&mut client), b"", "{case}");
                writing.join().expect("everything was written");
            }
            running.stop().expect("it stops");
        }
    }
}

#[test]
fn an_end_asked_for_before_detaching_is_not_forgotten() {
    for config in tiers() {
        let Some((running, address)) = hosted_with(config, |mut upgraded| async move {
            upgraded.send("first").await.expect("open");
            upgraded.end();
            let (stream, unread) = upgraded.into_tokio_uring().await.expect("descriptors are left");
            std::future::pending::<()>().await;
            drop((stream, unread));
        }) else {
            return;
        };
        assert_eq!(read_to_end(&mut upgrade(address, "t", b"")), b"first");
        running.stop().expect("it stops");
    }
}

#[test]
fn leases_are_written_to_a_file_from_where_they_were_received() {
    let path = std::env::temp_dir().join(format!("upring-leases-{}", std::process::id()));
    let (target, (tell, told)) = (path.clone(), channel());
    let Some((running, address)) = hosted(move |mut upgraded| {
        let (target, tell): (_, Sender<usize>) = (target.clone(), tell.clone());
        async move {
            let file = tokio_uring::fs::File::create(target).await.expect("a temporary directory");
            let mut end = 0;
            while let Some(lease) = upgraded.recv().await.expect("the client is there") {
                let (received_at, len) = (lease.as_ptr(), lease.len());
                assert!(lease.pool().contains(received_at));
                let (written, lease) = file.write_all_at(lease, end as u64).await;
                written.expect("the disk has room");
                assert_eq!((lease.as_ptr(), lease.len()), (received_at, len));
                end += len;
            }
            file.close().await.expect("it was written");
            tell.send(end).expect("the test waits");
        }
    }) else {
        return;
    };
    let bytes = pattern(300_000);
    let mut client = upgrade(address, "t", &bytes[..999]);
    client.write_all(&bytes[999..]).unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    assert_eq!(told.recv_timeout(PATIENCE), Ok(bytes.len()));
    assert!(std::fs::read(&path).expect("it was made") == bytes, "the file is what was sent");
    std::fs::remove_file(path).expect("it is ours");
    running.stop().expect("it stops");
}

#[test]
fn tokios_copy_bidirectional_runs_over_the_stream() {
    let upstream = TcpListener::bind("127.0.0.1:0").expect("loopback is there");
    let upstream_address = upstream.local_addr().expect("it is bound");
    thread::spawn(move || {
        while let Ok((mut socket, _)) = upstream.accept() {
            let mut copy = socket.try_clone().expect("descriptors are left");
            thread::spawn(move || {
                std::io::copy(&mut socket, &mut copy).expect("an echo");
                let _ = copy.shutdown(Shutdown::Write);
            });
        }
    });
    let Some((running, address)) = hosted(move |upgraded| async move {
        let mut near = upgraded.into_stream();
        let mut far = tokio::net::TcpStream::connect(upstream_address).await.expect("it listens");
        let copied = tokio::io::copy_bidirectional(&mut near, &mut far).await;
        assert_eq!(copied.expect("both end in order"), (MEBIBYTE as u64, MEBIBYTE as u64));
    }) else {
        return;
    };
    let bytes = pattern(MEBIBYTE);
    let mut client = upgrade(address, "t", &bytes[..10]);
    let mut writer = client.try_clone().unwrap();
    let rest = bytes[10..].to_vec();
    thread::spawn(move || {
        writer.write_all(&rest).expect("the server reads");
        writer.shutdown(Shutdown::Write).expect("it is open");
    });
    assert!(read_to_end(&mut client) == bytes, "the bytes come back through both");
    wait_until("no upgrade is open", || running.counter("upgrades_open") == 0);
    assert_eq!(running.counter("handler_panics"), 0);
    running.stop().expect("it stops");
}

#[test]
fn a_write_larger_than_the_outbox_is_taken_in_parts() {
    const LEN: usize = 9 * MEBIBYTE;
    let Some((running, address)) = hosted(|upgraded| async move {
        use tokio::io::AsyncWriteExt;
        let mut stream = upgraded.into_stream();
        stream.write_all(&pattern(LEN)).await.expect("the client reads");
        stream.shutdown().await.expect("the client reads");
    }) else {
        return;
    };
    assert!(read_to_end(&mut upgrade(address, "t", b"")) == pattern(LEN));
    running.stop().expect("it stops");
}

#[test]
fn the_halves_work_in_two_tasks() {
    let (tell, told) = channel();
    let Some((running, address)) = hosted(move |upgraded| {
        let tell: Sender<usize> = tell.clone();
        async move {
            let (mut receiver, mut sender) = upgraded.split();
            tokio_uring::spawn(async move {
                let mut count = 0;
                while let Some(lease) = receiver.recv().await.expect("the client is there") {
                    count += lease.len();
                }
                tell.send(count).expect("the test waits");
            });
            for number in 0..200 {
                sender.send(format!("{number};")).await.expect("the client is there");
                tokio::time::sleep(Duration::from_micros(100)).await;
            }
        }
    }) else {
        return;
    };
    let mut client = upgrade(address, "t", b"");
    client.write_all(&pattern(200_000)).unwrap();
    let expected: String = (0..200).map(|number| format!("{number};")).collect();
    assert_eq!(read_to_end(&mut client), expected.as_bytes());
    client.shutdown(Shutdown::Write).unwrap();
    assert_eq!(told.recv_timeout(PATIENCE), Ok(200_000));
    running.stop().expect("it stops");
}

#[test]
fn the_native_mode_refuses_async_handlers_and_says_why() {
    let native = Config { host: HostKind::Native, ..config() };
    let by_nature = Protocol::asynchronous("t", |_, upgraded| echo(upgraded));
    let by_word =
        Protocol::new("t", |_: &Opening<'_>| Switch::to_async(echo).into()).needs_runtime();
    for protocol in [by_nature, by_word] {
        let server = upring::Server::new(native.clone())
            .route("/", upring::Resource::new().upgrade(protocol));
        let error = server.start().expect_err("it has no runtime");
        assert!(matches!(&error, ServerError::NeedsRuntime { what } if what == "the protocol t"));
        assert!(error.to_string().contains("use the hosted mode"), "{error}");
    }
}

/// Decides in a task of its own, as the query says; counts the handlers that began.
fn decides_later(begun: Arc<AtomicUsize>) -> Protocol {
    let decide = move |opening: &Opening<'_>| {
        let query = opening.request().query().unwrap_or_default().to_vec();
        let (begun, (promise, later)) = (Arc::clone(&begun), opening.later());
        let run = move |upgraded| {
            begun.fetch_add(1, Ordering::Relaxed);
            echo(upgraded)
        };
        let is_spawned = opening.spawn(async move {
            let wait = if query == b"late" { 300 } else { 20 };
            tokio::time::sleep(Duration::from_millis(wait)).await;
            match &query[..] {
                b"no" => promise.keep(Decision::Answer(Response::text(Status::FORBIDDEN, "no"))),
                b"broken" => drop(promise),
                _ => promise.keep(
                    Switch::to_async(run_once(run)).with_field("X-A", "b").expect("valid").into(),
                ),
            }
        });
        assert!(is_spawned);
        later
    };
    Protocol::new("t", decide).needs_runtime().decision_timeout(Duration::from_millis(150))
}

/// An async handler that counts when its future is first polled.
fn run_once<Task: Future<Output = ()> + 'static>(
    run: impl FnOnce(Upgraded) -> Task + 'static,
) -> impl FnOnce(Upgraded) -> Pin<Box<dyn Future<Output = ()>>> {
    move |upgraded| Box::pin(async move { run(upgraded).await })
}

#[test]
fn a_decision_may_be_made_by_a_task() {
    let begun = Arc::new(AtomicUsize::new(0));
    let Some(running) = serve(config(), decides_later(Arc::clone(&begun))) else { return };
    let address = running.addresses()[0];
    let ask = |target: &str| {
        let mut client = connect(address);
        client.write_all(request(target, "t").as_bytes()).unwrap();
        let head = read_head(&mut client);
        (client, head)
    };
    let (mut client, head) = ask("/?no");
    assert!(head.starts_with("HTTP/1.1 403 "), "{head}");
    let mut text = [0; 2];
    client.read_exact(&mut text).unwrap();
    assert_eq!(begun.load(Ordering::Relaxed), 0);
    // The connection goes on as HTTP, and is switched by the next request, early bytes and all.
    client.write_all(&[request("/?yes", "t").as_bytes(), b"early"].concat()).unwrap();
    let head = read_head(&mut client);
    assert!(head.starts_with("HTTP/1.1 101 ") && head.contains("X-A: b\r\n"), "{head}");
    assert_comes_back(&mut client, b"early", "after a decision in time");
    assert_eq!(begun.load(Ordering::Relaxed), 1);
    for target in ["/?broken", "/?late"] {
        let (_, head) = ask(target);
        assert!(head.starts_with("HTTP/1.1 503 "), "{target}: {head}");
    }
    thread::sleep(Duration::from_millis(300));
    assert_eq!(begun.load(Ordering::Relaxed), 1, "a decision that came too late began a handler");
    assert_eq!(running.counter("upgrades_deciding"), 0);
    running.stop().expect("it stops");
}

/// Counts the futures of a test that are alive.
#[derive(Default)]
struct Alive(Arc<AtomicUsize>);

impl Alive {
    fn new(count: &Arc<AtomicUsize>) -> Alive {
        count.fetch_add(1, Ordering::Relaxed);
        Alive(Arc::clone(count))
    }
}

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Sends until the client's reading nothing holds it.
async fn send_until_held(upgraded: &mut Upgraded) {
    let piece = || vec![0; MEBIBYTE];
    let patience = Duration::from_millis(20);
    while tokio::time::timeout(patience, upgraded.send(piece())).await.is_ok() {}
}

#[test]
fn no_task_outlives_a_connection_that_dies_first() {
    let alive = Arc::new(AtomicUsize::new(0));
    let (count, (tell, told)) = (Arc::clone(&alive), channel());
    let Some((running, address)) = hosted(move |mut upgraded| {
        let (alive, tell): (_, Sender<Closed>) = (Alive::new(&count), tell.clone());
        async move {
            let _alive = alive;
            let order = upgraded.recv().await.expect("an order").expect("an order");
            let lost = match order.first() {
                Some(b'r') => upgraded.recv().await.expect_err("lost"),
                Some(b'f') => {
                    send_until_held(&mut upgraded).await;
                    upgraded.flush().await.expect_err("lost")
                }
                Some(b's') => loop {
                    if let Err(lost) = upgraded.send(vec![0; MEBIBYTE]).await {
                        break lost;
                    }
                },
                _ => {
                    send_until_held(&mut upgraded).await;
                    let error = upgraded.into_tokio_uring().await.err().expect("lost");
                    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
                    Closed(CloseReason::PeerReset)
                }
            };
            tell.send(lost).expect("the test waits");
        }
    }) else {
        return;
    };
    for order in [b"r", b"f", b"s", b"d"] {
        let client = upgrade(address, "t", order);
        thread::sleep(Duration::from_millis(150));
        // Linger zero: the close is a reset.
        socket2::SockRef::from(&client).set_linger(Some(Duration::ZERO)).unwrap();
        drop(client);
        let order = char::from(order[0]);
        assert_eq!(told.recv_timeout(PATIENCE), Ok(Closed(CloseReason::PeerReset)), "{order}");
    }
    wait_until("no task is left", || alive.load(Ordering::Relaxed) == 0);
    wait_until("no connection is left", || running.counter("connections_open") == 0);
    running.stop().expect("it stops");
}

fn stop_takes(running: Running) -> Duration {
    let begun = Instant::now();
    running.stop().expect("it stops");
    begun.elapsed()
}

#[test]
fn a_stopping_server_is_seen_and_waits_for_the_last_word() {
    let Some((running, address)) = hosted(|mut upgraded| async move {
        let mut draining = pin!(upgraded.draining());
        let mut is_drained = false;
        while !is_drained {
            let received = {
                let mut receiving = pin!(upgraded.recv());
                std::future::poll_fn(|context| {
                    if draining.as_mut().poll(context).is_ready() {
                        return Poll::Ready(None);
                    }
                    receiving.as_mut().poll(context).map(Some)
                })
                .await
            };
            is_drained = received.is_none();
        }
        assert!(upgraded.is_draining());
        tokio::time::sleep(Duration::from_millis(50)).await;
        upgraded.send("the last word").await.expect("it waits");
    }) else {
        return;
    };
    let mut client = upgrade(address, "t", b"some bytes");
    let reading = thread::spawn(move || read_to_end(&mut client));
    let taken = stop_takes(running);
    assert_eq!(reading.join().expect("an orderly end"), b"the last word");
    assert!(taken < Duration::from_secs(4), "{taken:?}");
}

#[test]
fn a_stopping_server_waits_for_what_is_done_behind_the_end_of_a_connection() {
    let has_ended = Arc::new(AtomicBool::new(false));
    let ending = Arc::clone(&has_ended);
    let Some((running, address)) = hosted(move |mut upgraded| {
        let has_ended = Arc::clone(&ending);
        async move {
            while let Ok(Some(_)) = upgraded.recv().await {}
            drop(upgraded);
            tokio::time::sleep(Duration::from_millis(200)).await;
            has_ended.store(true, Ordering::Relaxed);
        }
    }) else {
        return;
    };
    drop(upgrade(address, "t", b"some bytes"));
    wait_until("the client is gone", || running.counter("connections_open") == 0);
    let taken = stop_takes(running);
    assert!(has_ended.load(Ordering::Relaxed), "it was dropped after {taken:?}");
    assert!(taken < Duration::from_secs(4), "it ends with its last handler, not later: {taken:?}");
}

#[test]
fn handlers_that_are_cut_are_counted_whether_their_connections_have_ended_or_not() {
    let config = Config { drain: DrainTimes::within(Duration::from_millis(300)), ..config() };
    let Some((running, address)) = hosted_with(config, |mut upgraded| async move {
        while let Ok(Some(_)) = upgraded.recv().await {}
        drop(upgraded);
        std::future::pending().await
    }) else {
        return;
    };
    let stopper = running.stopper();
    drop([(); 3].map(|()| upgrade(address, "t", b"some bytes")));
    wait_until("they are gone", || running.counter("connections_open") == 0);
    let stay = [(); 2].map(|()| upgrade(address, "t", b"some bytes"));
    stopper.stop();
    wait_until("all are cut", || running.counter("drain_cuts") == 5);
    running.stop().expect("it stops");
    drop(stay);
}

#[test]
fn a_server_stops_within_its_timeout_whatever_its_tasks_wait_for() {
    let path = format!("/tmp/upring-stop-{}", std::process::id());
    for order in [b"r", b"s", b"d", b"t", b"f", b"c"] {
        let alive = Arc::new(AtomicUsize::new(0));
        let (count, path) = (Arc::clone(&alive), path.clone());
        let config = Config { drain: DrainTimes::within(Duration::from_millis(200)), ..config() };
        let Some((running, address)) = hosted_with(config, move |mut upgraded| {
            let (alive, path) = (Alive::new(&count), path.clone());
            async move {
                let _alive = alive;
                match upgraded.recv().await.expect("an order").expect("an order").first() {
                    Some(b'r') => while let Ok(Some(_)) = upgraded.recv().await {},
                    Some(b's') => while upgraded.send(vec![0; 60_000]).await.is_ok() {},
                    Some(b'd') => {
                        // An operation of tokio-uring in flight on a connection the engine no
                        // longer knows.
                        let (stream, _) = upgraded.into_tokio_uring().await.expect("descriptors");
                        let (read, _) = stream.read(vec![0; 100]).await;
                        panic!("nobody sent anything: {read:?}");
                    }
                    Some(b't') => tokio::time::sleep(Duration::from_secs(3600)).await,
                    Some(b'f') => {
                        let file =
                            tokio_uring::fs::File::create(path).await.expect("/tmp is there");
                        loop {
                            let (written, _) = file.write_all_at(vec![1; 100_000], 0).await;
                            written.expect("the disk has room");
                        }
                    }
                    _ => {
                        let nobody =
                            tokio_uring::net::TcpListener::bind("127.0.0.1:0".parse().unwrap());
                        let _ = nobody.expect("loopback is there").accept().await;
                    }
                }
            }
        }) else {
            return;
        };
        let clients: Vec<_> = (0..5).map(|_| upgrade(address, "t", order)).collect();
        thread::sleep(Duration::from_millis(50));
        assert_eq!(alive.load(Ordering::Relaxed), 5);
        let (tell, told): (_, Receiver<Duration>) = channel();
        thread::spawn(move || tell.send(stop_takes(running)));
        let order = char::from(order[0]);
        let taken = told.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("{order}: it hangs"));
        assert!(taken < Duration::from_secs(2), "{order}: {taken:?}");
        assert_eq!(alive.load(Ordering::Relaxed), 0, "{order}: tasks are left");
        drop(clients);
    }
    let _ = std::fs::remove_file(path);
}
