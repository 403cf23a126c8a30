//! The real ring against real sockets on loopback, once on each tier of descriptors. Skipped,
//! loudly, where io_uring is denied. The peers are plain `std::net` streams: what they see is what
//! any client sees.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use socket2::SockRef;

use super::*;
use crate::config::{Limits, RingConfig, Without};

const PATIENCE: Duration = Duration::from_secs(10);

fn token(slot: u32) -> Token {
    Token { slot, generation: 5 }
}

fn config(tier: Tier) -> RingConfig {
    let without = Without { direct_descriptors: tier == Tier::Plain, ..Without::default() };
    RingConfig {
        submissions: 64,
        completions: 1024,
        buffers: 64,
        buffer_bytes: 4096,
        without,
        ..RingConfig::default()
    }
}

/// Runs `test` with a ring that accepts on loopback, on both tiers.
fn on_each_tier(test: impl Fn(&mut Ring<'_>, SocketAddr)) {
    for tier in [Tier::Direct, Tier::Plain] {
        with_ring(&config(tier), |ring, address| {
            eprintln!("tier asked for: {tier:?}, got: {:?}", ring.tier());
            test(ring, address);
        });
    }
}

fn with_ring(config: &RingConfig, test: impl FnOnce(&mut Ring<'_>, SocketAddr)) {
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let listener = listen(any, &any.into()).expect("loopback is there");
    with_ring_on(config, listener, test);
}

fn with_ring_on(
    config: &RingConfig,
    listener: OwnedFd,
    test: impl FnOnce(&mut Ring<'_>, SocketAddr),
) {
    let limits = Limits { connections_max: 256, ..Limits::default() };
    let address = local_address(&listener).expect("it is bound");
    let mut uring = match setup::build(config) {
        Ok(uring) => uring,
        Err(error) if error.is_denied() => {
            return eprintln!("SKIPPED, io_uring is denied here: {error}");
        }
        Err(error) => panic!("{error}"),
    };
    let mut ring =
        Ring::new(&mut uring, config, &limits, vec![listener]).expect("a ring is allowed");
    ring.accept(ListenerId(0), Accepts::Many);
    test(&mut ring, address);
}

/// The next completion, waited for within [`PATIENCE`].
fn next(ring: &mut Ring<'_>) -> Completion {
    let start = Instant::now();
    loop {
        if let Some(completion) = ring.complete() {
            return completion;
        }
        assert!(start.elapsed() < PATIENCE, "nothing completed: {ring:?}");
        ring.enter(Wait::ForOne).expect("the ring goes on");
    }
}

fn accepted(ring: &mut Ring<'_>) -> Handle {
    match next(ring) {
        Completion::Accepted { listener: ListenerId(0), result: Ok(handle), more: true } => handle,
        other => panic!("{other:?}"),
    }
}

fn connect(ring: &mut Ring<'_>, address: SocketAddr) -> (TcpStream, Handle) {
    let client = TcpStream::connect(address).expect("it listens");
    client.set_read_timeout(Some(PATIENCE)).expect("not zero");
    let handle = accepted(ring);
    (client, handle)
}

fn closed(ring: &mut Ring<'_>, connection: Token, handle: Handle, manner: Manner) {
    ring.close(connection, handle, manner);
    match next(ring) {
        Completion::Closed { connection: closed } => assert_eq!(closed, connection),
        other => panic!("{other:?}"),
    }
}

fn batch(payloads: impl IntoIterator<Item = Vec<u8>>) -> Box<Batch> {
    let mut batch = Batch::default();
    for payload in payloads {
        batch.push(payload.into());
    }
    Box::new(batch)
}

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|index| (index % 251) as u8).collect()
}

#[test]
fn received_bytes_are_those_sent_and_lie_in_the_pool_until_the_peer_ends() {
    on_each_tier(|ring, address| {
        let (mut client, handle) = connect(ring, address);
        let sent = pattern(100_000);
        ring.receive(token(1), handle, Receipts::Many);
        let expected = sent.clone();
        let writer = thread::spawn(move || {
            client.write_all(&sent).expect("the ring reads");
            client.shutdown(Shutdown::Write).expect("it is open");
            client
        });
        let mut received = Vec::new();
        loop {
            match next(ring) {
                Completion::Received { connection, result: Ok(Some(lease)), more } => {
                    assert_eq!(connection, token(1));
                    assert!(ring.pool().contains(lease.as_ptr()));
                    received.extend_from_slice(&lease);
                    drop(lease);
                    if !more {
                        ring.receive(token(1), handle, Receipts::Many);
                    }
                }
                Completion::Received { result: Ok(None), more: false, .. } => break,
                other => panic!("{other:?}"),
            }
        }
        assert!(received == expected);
        drop(writer.join().expect("it wrote all"));
        closed(ring, token(1), handle, Manner::Close);
    });
}

#[test]
fn one_receipt_is_one_buffer_and_the_end_of_the_receive() {
    on_each_tier(|ring, address| {
        let (mut client, handle) = connect(ring, address);
        let sent = pattern(10_000);
        client.write_all(&sent).expect("it fits the socket");
        let mut received = Vec::new();
        while received.len() < sent.len() {
            ring.receive(token(1), handle, Receipts::One);
            match next(ring) {
                Completion::Received { result: Ok(Some(lease)), more: false, .. } => {
                    assert!(ring.pool().contains(lease.as_ptr()));
                    received.extend_from_slice(&lease);
                }
                other => panic!("{other:?}"),
            }
        }
        assert!(received == sent);
        drop(client);
        ring.receive(token(1), handle, Receipts::One);
        assert!(matches!(next(ring), Completion::Received { result: Ok(None), more: false, .. }));
        closed(ring, token(1), handle, Manner::Close);
    });
}

#[test]
fn a_watch_hears_of_a_reset_with_bytes_unread_and_not_of_an_end() {
    on_each_tier(|ring, address| {
        for is_stopped in [false, true] {
            let (mut client, handle) = connect(ring, address);
            ring.watch(token(1), handle);
            client.write_all(b"unread").expect("it fits the socket");
            client.shutdown(Shutdown::Write).expect("it is open");
            ring.enter(Wait::No).expect("the kernel goes on");
            thread::sleep(Duration::from_millis(20));
            ring.enter(Wait::No).expect("the kernel goes on");
            let told = ring.complete();
            assert!(told.is_none(), "an end is no loss: {told:?}");
            if is_stopped {
                ring.stop_watch(token(1));
            } else {
                SockRef::from(&client).set_linger(Some(Duration::ZERO)).expect("a TCP socket");
                drop(client);
            }
            let Completion::Watched { connection, is_lost, more } = next(ring) else {
                panic!("nothing else is in flight");
            };
            assert_eq!((connection, is_lost), (token(1), !is_stopped));
            if more {
                ring.stop_watch(token(1));
                assert!(matches!(next(ring), Completion::Watched { more: false, .. }));
            }
            closed(ring, token(1), handle, Manner::Close);
        }
    });
}

#[test]
fn a_send_that_waits_for_its_peer_keeps_no_receive_buffer() {
    on_each_tier(|ring, address| {
        let (mut client, handle) = connect(ring, address);
        client.write_all(b"received").expect("it fits the socket");
        ring.receive(token(1), handle, Receipts::One);
        let lease = match next(ring) {
            Completion::Received { result: Ok(Some(lease)), .. } => lease,
            other => panic!("{other:?}"),
        };
        // Far more than a socket takes that nobody reads, and what was received behind it.
        ring.send(token(1), handle, batch([vec![0; 8 << 20]]));
        let mut batch = match next(ring) {
            Completion::Sent { result: Ok(count), mut batch, .. } => {
                batch.advance(count);
                batch
            }
            other => panic!("{other:?}"),
        };
        batch.clear();
        let held = ring.receivable(Size::Usual);
        batch.push(lease.into());
        ring.send(token(1), handle, batch);
        let begun = std::time::Instant::now();
        while ring.receivable(Size::Usual) == held {
            assert!(begun.elapsed() < PATIENCE, "it waits for nobody");
            ring.enter(Wait::No).expect("the kernel goes on");
            assert!(ring.complete().is_none(), "it is not sent");
        }
        ring.stop_send(token(1));
        assert!(matches!(next(ring), Completion::Sent { result: Err(Errno::CANCELED), .. }));
        drop(client);
        closed(ring, token(1), handle, Manner::Reset);
    });
}

#[test]
fn a_large_receive_brings_once_what_has_come_until_no_large_buffer_is_left() {
    for tier in [Tier::Direct, Tier::Plain] {
        let few = RingConfig { large_buffers: 1, large_lent: 1, ..config(tier) };
        with_ring(&few, |ring, address| {
            let (mut client, handle) = connect(ring, address);
            // The second time it waits for what comes: bytes in several pieces may come in several.
            for count in [20_000, 100] {
                client.write_all(&pattern(count)).expect("it fits the socket");
                ring.receive(token(1), handle, Receipts::Large);
                match next(ring) {
                    Completion::Received { result: Ok(Some(lease)), more: false, .. } => {
                        assert!(lease.is_large() && *lease == pattern(count)[..]);
                        assert_eq!(ring.receivable(Size::Large), 0);
                    }
                    other => panic!("{other:?}"),
                }
            }
            let taken: Vec<_> = std::iter::from_fn(|| ring.pool().take_of(Size::Large)).collect();
            assert_eq!(taken.len(), 1);
            client.write_all(b"more").expect("it fits the socket");
            ring.receive(token(1), handle, Receipts::Large);
            assert!(matches!(
                next(ring),
                Completion::Received { result: Err(Errno::NOBUFS), more: false, .. }
            ));
        });
    }
}

#[test]
fn one_slice_and_many_are_sent_in_order_and_the_batch_comes_back() {
    on_each_tier(|ring, address| {
        let (mut client, handle) = connect(ring, address);
        for slices in [1, 2, 16] {
            let parts: Vec<Vec<u8>> =
                (0..slices).map(|part| vec![part as u8; 100 + part]).collect();
            let expected = parts.concat();
            ring.send(token(1), handle, batch(parts));
            match next(ring) {
                Completion::Sent { connection, result: Ok(count), batch } => {
                    assert_eq!(
                        (connection, count, batch.len()),
                        (token(1), expected.len(), expected.len())
                    );
                }
                other => panic!("{other:?}"),
            }
            let mut read = vec![0; expected.len()];
            client.read_exact(&mut read).expect("it was sent");
            assert_eq!(read, expected);
        }
        closed(ring, token(1), handle, Manner::Close);
    });
}

#[test]
fn a_batch_of_more_slices_than_one_send_takes_leaves_in_two() {
    on_each_tier(|ring, address| {
        let (mut client, handle) = connect(ring, address);
        let mut rest = batch((0..20u8).map(|part| vec![part; 10]));
        for expected in [160, 40] {
            ring.send(token(1), handle, rest);
            match next(ring) {
                Completion::Sent { result: Ok(count), batch, .. } => {
                    assert_eq!(count, expected);
                    rest = batch;
                    rest.advance(count);
                }
                other => panic!("{other:?}"),
            }
        }
        let mut read = [0; 200];
        client.read_exact(&mut read).expect("it was sent");
        assert!(
            rest.is_empty()
                && read.iter().enumerate().all(|(index, &byte)| usize::from(byte) == index / 10)
        );
        closed(ring, token(1), handle, Manner::Close);
    });
}

#[test]
fn a_megabyte_to_a_slow_reader_is_one_send() {
    on_each_tier(|ring, address| {
        for parts in [1, 4] {
            let (mut client, handle) = connect(ring, address);
            let sent = pattern(1 << 20);
            let reader = thread::spawn(move || {
                let (mut read, mut chunk) = (Vec::new(), [0; 32 * 1024]);
                while read.len() < 1 << 20 {
                    thread::sleep(Duration::from_millis(1));
                    let count = client.read(&mut chunk).expect("more is sent");
                    read.extend_from_slice(&chunk[..count]);
                }
                read
            });
            let payloads = sent.chunks(sent.len() / parts).map(<[u8]>::to_vec);
            let enters = ring.counters().enters;
            ring.send(token(1), handle, batch(payloads));
            match next(ring) {
                Completion::Sent { result: Ok(count), .. } => assert_eq!(count, sent.len()),
                other => panic!("{other:?}"),
            }
            eprintln!(
                "1 MiB in {parts} slices to a slow reader: {} enters",
                ring.counters().enters - enters
            );
            assert!(reader.join().expect("it read all") == sent);
            closed(ring, token(1), handle, Manner::Close);
        }
    });
}

#[test]
fn a_stopped_receive_still_gives_its_final_completion() {
    on_each_tier(|ring, address| {
        let (client, handle) = connect(ring, address);
        ring.receive(token(1), handle, Receipts::Many);
        ring.enter(Wait::No).expect("the ring goes on");
        ring.stop_receive(token(1));
        match next(ring) {
            Completion::Received { connection, result: Err(Errno::CANCELED), more: false } => {
                assert_eq!(connection, token(1));
            }
            other => panic!("{other:?}"),
        }
        closed(ring, token(1), handle, Manner::Close);
        drop(client);
    });
}

#[test]
fn a_stopped_send_says_how_much_had_left() {
    on_each_tier(|ring, address| {
        let (mut client, handle) = connect(ring, address);
        let sent = pattern(16 << 20);
        ring.send(token(9), handle, batch([sent.clone()]));
        ring.enter(Wait::No).expect("the ring goes on");
        ring.stop_send(token(8));
        ring.stop_send(token(9));
        let left = match next(ring) {
            Completion::Sent { connection, result: Ok(count), .. } if connection == token(9) => {
                count
            }
            other => panic!("{other:?}"),
        };
        assert!(left > 0 && left < sent.len(), "{left}");
        closed(ring, token(9), handle, Manner::Close);
        let mut read = Vec::new();
        client.read_to_end(&mut read).expect("a close lets what was sent arrive");
        assert!(read == sent[..left]);
    });
}

#[test]
fn a_peer_can_tell_a_close_from_a_reset() {
    on_each_tier(|ring, address| {
        for manner in [Manner::Close, Manner::Reset] {
            let (mut client, handle) = connect(ring, address);
            closed(ring, token(1), handle, manner);
            let read = client.read(&mut [0; 16]).map_err(|error| error.kind());
            match manner {
                Manner::Close => assert_eq!(read, Ok(0)),
                Manner::Reset => assert_eq!(read, Err(io::ErrorKind::ConnectionReset)),
            }
        }
    });
}

#[test]
fn a_shutdown_ends_our_direction_and_leaves_the_peers() {
    on_each_tier(|ring, address| {
        let (mut client, handle) = connect(ring, address);
        ring.receive(token(1), handle, Receipts::Many);
        ring.shutdown(token(1), handle);
        assert!(
            matches!(next(ring), Completion::ShutDown { connection } if connection == token(1))
        );
        assert_eq!(client.read(&mut [0; 16]).expect("an end, not an error"), 0);
        client.write_all(b"still heard").expect("this direction is open");
        match next(ring) {
            Completion::Received { result: Ok(Some(lease)), more: true, .. } => {
                assert_eq!(&*lease, b"still heard")
            }
            other => panic!("{other:?}"),
        }
        drop(client);
        assert!(matches!(next(ring), Completion::Received { result: Ok(None), more: false, .. }));
        closed(ring, token(1), handle, Manner::Close);
    });
}

#[test]
fn many_shutdowns_at_once_take_few_descriptors_and_all_are_heard_of() {
    with_ring(&config(Tier::Direct), |ring, address| {
        if ring.tier() == Tier::Plain {
            return eprintln!("SKIPPED, this kernel has no direct descriptors");
        }
        let mut clients: Vec<_> = (0..20).map(|_| connect(ring, address)).collect();
        assert_eq!(ordinary(address), 0, "the connections are direct");
        for (slot, (_, handle)) in (0..).zip(&clients) {
            ring.shutdown(token(slot), *handle);
        }
        ring.enter(Wait::No).expect("the ring goes on");
        assert!((1..=8).contains(&ordinary(address)), "{} descriptors", ordinary(address));
        let mut shut: Vec<_> = (0..clients.len())
            .map(|_| match next(ring) {
                Completion::ShutDown { connection } => connection.slot,
                other => panic!("{other:?}"),
            })
            .collect();
        shut.sort_unstable();
        assert!(shut.into_iter().eq(0..20));
        assert_eq!(ordinary(address), 0);
        for (client, _) in &mut clients {
            assert_eq!(client.read(&mut [0; 16]).expect("an end, not an error"), 0);
        }
    });
}

/// Ordinary descriptors of this process that are connections accepted at `address`.
fn ordinary(address: SocketAddr) -> usize {
    let sockets = std::fs::read_to_string("/proc/net/tcp").expect("it is there");
    let port = format!(":{:04X}", address.port());
    let inodes = sockets.lines().filter_map(|line| {
        let fields: Vec<_> = line.split_whitespace().collect();
        let is_accepted = fields.get(1)?.ends_with(&port) && *fields.get(3)? != "0A";
        is_accepted.then_some(format!("socket:[{}]", fields.get(9)?))
    });
    let inodes: Vec<_> = inodes.collect();
    let descriptors = std::fs::read_dir("/proc/self/fd").expect("it is there").flatten();
    let links = descriptors.filter_map(|entry| std::fs::read_link(entry.path()).ok());
    links.filter(|link| inodes.iter().any(|inode| link.as_os_str() == inode.as_str())).count()
}

#[test]
fn an_installed_descriptor_outlives_the_handle_and_is_closed_on_exec() {
    on_each_tier(|ring, address| {
        let (mut client, handle) = connect(ring, address);
        ring.install(token(1), handle);
        let descriptor = match next(ring) {
            Completion::Installed { connection, result: Ok(descriptor) }
                if connection == token(1) =>
            {
                descriptor
            }
            other => panic!("{other:?}"),
        };
        let flags = rustix::io::fcntl_getfd(&descriptor).expect("it is open");
        assert!(flags.contains(rustix::io::FdFlags::CLOEXEC));
        closed(ring, token(1), handle, Manner::Close);
        let mut stream = TcpStream::from(descriptor);
        assert!(stream.nodelay().expect("a TCP socket"), "inherited from the listener");
        stream.write_all(b"by another way").expect("it is open");
        let mut read = [0; 14];
        client.read_exact(&mut read).expect("it was sent");
        assert_eq!(&read, b"by another way");
    });
}

#[test]
fn a_peer_is_known_by_its_address() {
    on_each_tier(|ring, address| {
        let (client, handle) = connect(ring, address);
        ring.identify(token(1), handle, ListenerId(0));
        let Completion::Identified { connection, result } = next(ring) else {
            panic!("the peer was asked for")
        };
        assert_eq!((connection, result), (token(1), client.local_addr().map_err(|_| Errno(0))));
        closed(ring, token(1), handle, Manner::Close);
    });
}

#[test]
fn a_peer_of_an_ipv6_listener_is_known_by_its_address_of_either_family() {
    let any = SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0));
    let Ok(listener) = listen(any, &any.into()) else {
        return eprintln!("SKIPPED: there is no IPv6 here");
    };
    let port = local_address(&listener).expect("it is bound").port();
    for tier in [Tier::Direct, Tier::Plain] {
        let listener = listener.try_clone().expect("a descriptor");
        with_ring_on(&config(tier), listener, |ring, _| {
            for peer in [IpAddr::from(Ipv6Addr::LOCALHOST), IpAddr::from(Ipv4Addr::LOCALHOST)] {
                let (client, handle) = connect(ring, SocketAddr::from((peer, port)));
                ring.identify(token(1), handle, ListenerId(0));
                let Completion::Identified { result, .. } = next(ring) else {
                    panic!("the peer was asked for")
                };
                let known = result.map(|at| (at.ip().to_canonical(), at.port()));
                let port = client.local_addr().expect("it is connected").port();
                assert_eq!(known, Ok((peer, port)), "{tier:?}");
                closed(ring, token(1), handle, Manner::Close);
            }
        });
    }
}

#[test]
fn a_tick_comes_at_the_earliest_time_asked_for_and_never_before_it() {
    on_each_tier(|ring, _| {
        let start = ring.now();
        ring.wake_at(start + 60_000);
        ring.enter(Wait::No).expect("the ring goes on");
        // Both while the update is unread, and after the first was submitted.
        ring.wake_at(start + 50);
        ring.wake_at(start + 30);
        ring.wake_at(start + 90_000);
        assert!(matches!(next(ring), Completion::Tick));
        let ticked = ring.now();
        assert!((start + 30..start + 1000).contains(&ticked), "{start} {ticked}");
        ring.wake_at(ticked);
        assert!(matches!(next(ring), Completion::Tick), "a time that is past ticks at once");
        ring.wake_at(NEVER);
        ring.enter(Wait::No).expect("the ring goes on");
        assert!(ring.complete().is_none() && !ring.has_work());
    });
}

#[test]
fn another_thread_wakes_the_ring_again_and_again() {
    on_each_tier(|ring, _| {
        for _ in 0..100 {
            let control = ring.control();
            let notifier = thread::spawn(move || control.notify());
            assert!(matches!(next(ring), Completion::Control));
            notifier.join().expect("it notified");
        }
        let control = ring.control();
        (0..10).for_each(|_| control.notify());
        assert!(matches!(next(ring), Completion::Control));
    });
}

/// Sleeps on the wake descriptor as a reactor would; false if nothing came.
fn sleep(ring: &Ring<'_>, time: Duration) -> bool {
    let wake = ring.wake_fd().expect("it is registered");
    let timeout =
        Timespec { tv_sec: time.as_secs().cast_signed(), tv_nsec: time.subsec_nanos().into() };
    let woken =
        poll(&mut [PollFd::new(wake, PollFlags::IN)], Some(&timeout)).expect("poll works") == 1;
    // `poll` is level-triggered: the test forgets each edge by reading it.
    let _ = rustix::io::read(wake.as_fd(), &mut [0u8; 8]);
    woken
}

#[test]
fn ten_thousand_sleeps_on_the_wake_descriptor_lose_no_wake() {
    const CYCLES: usize = 10_000;
    on_each_tier(|ring, address| {
        ring.register_wake().expect("an eventfd can be registered");
        let (mut client, handle) = connect(ring, address);
        ring.receive(token(1), handle, Receipts::Many);
        let echo = thread::spawn(move || {
            for cycle in 0..CYCLES {
                client.write_all(&[cycle as u8]).expect("the ring reads");
                let mut byte = [0];
                client.read_exact(&mut byte).expect("the ring answers");
                assert_eq!(usize::from(byte[0]), cycle & 0xff);
            }
        });
        let before = ring.counters().enters;
        let (mut sleeps, mut refused, mut spurious, mut ended) = (0, 0, 0, false);
        while !ended {
            ring.enter(Wait::No).expect("the ring goes on");
            let mut any = false;
            while let Some(completion) = ring.complete() {
                any = true;
                match completion {
                    Completion::Received { result: Ok(Some(lease)), more, .. } => {
                        let mut batch = Box::<Batch>::default();
                        batch.push(lease.into());
                        ring.send(token(1), handle, batch);
                        assert!(more);
                    }
                    Completion::Received { result: Ok(None), .. } => ended = true,
                    Completion::Sent { result, .. } => assert_eq!(result, Ok(1)),
                    other => panic!("{other:?}"),
                }
            }
            spurious += usize::from(!any);
            if ended || ring.has_work() {
                continue;
            }
            if ring.arm_wake() {
                sleeps += 1;
                assert!(sleep(ring, PATIENCE), "a wake was lost: {ring:?}");
                ring.disarm_wake();
            } else {
                refused += 1;
            }
        }
        echo.join().expect("every byte came back");
        let enters = ring.counters().enters - before;
        eprintln!(
            "hosted: {:.3} enters, {:.3} sleeps, {:.3} refused, {:.3} empty turns for each echo",
            enters as f64 / CYCLES as f64,
            sleeps as f64 / CYCLES as f64,
            refused as f64 / CYCLES as f64,
            spurious as f64 / CYCLES as f64,
        );
        closed(ring, token(1), handle, Manner::Close);
    });
}

#[test]
fn the_wake_descriptor_is_silent_until_armed_and_control_reaches_it() {
    on_each_tier(|ring, address| {
        ring.register_wake().expect("an eventfd can be registered");
        ring.enter(Wait::No).expect("the ring goes on");
        let client = TcpStream::connect(address).expect("it listens");
        assert!(!sleep(ring, Duration::from_millis(20)), "it speaks though disabled");
        assert!(!ring.arm_wake(), "a connection waits: it is not safe to sleep");
        accepted(ring);
        drop(client);
        while ring.complete().is_some() {}
        assert!(ring.arm_wake());
        let mut slowest = Duration::ZERO;
        for _ in 0..50 {
            let control = ring.control();
            let start = Instant::now();
            let notifier = thread::spawn(move || control.notify());
            assert!(sleep(ring, PATIENCE), "control wakes a sleeping host");
            slowest = slowest.max(start.elapsed());
            ring.disarm_wake();
            notifier.join().expect("it notified");
            assert!(matches!(next(ring), Completion::Control));
            while !ring.arm_wake() {
                ring.enter(Wait::No).expect("the ring goes on");
                assert!(ring.complete().is_none());
            }
        }
        eprintln!("control to a sleeping host: {slowest:?} at most, thread start included");
    });
}

#[test]
fn a_native_echo_takes_two_enters() {
    const CYCLES: usize = 2000;
    on_each_tier(|ring, address| {
        let (mut client, handle) = connect(ring, address);
        ring.receive(token(1), handle, Receipts::Many);
        let before = ring.counters().enters;
        let echo = thread::spawn(move || {
            for _ in 0..CYCLES {
                client.write_all(b"ping").expect("the ring reads");
                client.read_exact(&mut [0; 4]).expect("the ring answers");
            }
        });
        loop {
            match next(ring) {
                Completion::Received { result: Ok(Some(lease)), .. } => {
                    let mut batch = Box::<Batch>::default();
                    batch.push(lease.into());
                    ring.send(token(1), handle, batch);
                }
                Completion::Received { result: Ok(None), .. } => break,
                Completion::Sent { .. } => {}
                other => panic!("{other:?}"),
            }
        }
        echo.join().expect("every byte came back");
        let each = (ring.counters().enters - before) as f64 / CYCLES as f64;
        eprintln!("native: {each:.3} enters for each echo: one that sends, one that sleeps");
        assert!(each < 2.5, "{each}");
        closed(ring, token(1), handle, Manner::Close);
    });
}

#[test]
fn a_receive_that_starves_goes_on_when_it_is_armed_after_a_buffer_is_back() {
    for tier in [Tier::Direct, Tier::Plain] {
        let one = RingConfig { buffers: 1, buffers_lent: 1, ..config(tier) };
        with_ring(&one, |ring, address| {
            let (mut client, handle) = connect(ring, address);
            ring.receive(token(1), handle, Receipts::Many);
            client.write_all(&pattern(8192)).expect("it fits the socket");
            let held = match next(ring) {
                Completion::Received { result: Ok(Some(lease)), .. } => lease,
                other => panic!("{other:?}"),
            };
            assert!(matches!(
                next(ring),
                Completion::Received { result: Err(Errno::NOBUFS), more: false, .. }
            ));
            assert_eq!(ring.counters().starvations, 1);
            let mut received = held.to_vec();
            drop(held);
            ring.starved(Size::Usual);
            while received.len() < 8192 {
                ring.receive(token(1), handle, Receipts::Many);
                loop {
                    match next(ring) {
                        Completion::Received { result: Ok(Some(lease)), more, .. } => {
                            received.extend_from_slice(&lease);
                            if !more || received.len() == 8192 {
                                break;
                            }
                        }
                        Completion::Received { result: Err(Errno::NOBUFS), .. } => break,
                        other => panic!("{other:?}"),
                    }
                }
            }
            assert!(received == pattern(8192));
        });
    }
}

#[test]
fn a_submission_queue_that_is_full_is_submitted_on_the_way() {
    let small = RingConfig { submissions: 8, ..config(Tier::Direct) };
    with_ring(&small, |ring, address| {
        let connections: Vec<_> = (0..40).map(|_| connect(ring, address)).collect();
        for (slot, (_, handle)) in (0..).zip(&connections) {
            ring.receive(token(slot), *handle, Receipts::Many);
        }
        for (slot, _) in (0..).zip(&connections) {
            ring.stop_receive(token(slot));
        }
        let ended: Vec<Completion> = connections.iter().map(|_| next(ring)).collect();
        assert!(
            ended
                .iter()
                .all(|completion| matches!(completion, Completion::Received { more: false, .. }))
        );
        for (slot, (_, handle)) in (0..).zip(&connections) {
            ring.close(token(slot), *handle, Manner::Reset);
        }
        for (mut client, _) in connections {
            assert!(matches!(next(ring), Completion::Closed { .. }));
            // All of them are submitted by now, save those of the last seven places.
            ring.enter(Wait::No).expect("the ring goes on");
            let read = client.read(&mut [0; 1]).map_err(|error| error.kind());
            assert_eq!(read, Err(io::ErrorKind::ConnectionReset), "no chain was cut");
        }
    });
}

#[test]
fn a_small_completion_queue_that_overflows_loses_nothing() {
    let small = RingConfig { submissions: 8, completions: 8, ..config(Tier::Direct) };
    with_ring(&small, |ring, address| {
        let clients: Vec<_> =
            (0..64).map(|_| TcpStream::connect(address).expect("it listens")).collect();
        let mut handles = Vec::new();
        while handles.len() < clients.len() {
            match next(ring) {
                Completion::Accepted { result: Ok(handle), more, .. } => {
                    handles.push(handle);
                    if !more {
                        ring.accept(ListenerId(0), Accepts::Many);
                    }
                }
                other => panic!("{other:?}"),
            }
        }
        eprintln!("64 connections through 8 completions: {:?}", ring.counters());
    });
}

#[test]
fn without_its_optional_features_a_ring_works_the_same() {
    let without = Without {
        direct_descriptors: true,
        registered_ring: true,
        no_sqarray: true,
        restrictions: true,
    };
    with_ring(&RingConfig { without, ..config(Tier::Plain) }, |ring, address| {
        assert_eq!(ring.tier(), Tier::Plain);
        let (mut client, handle) = connect(ring, address);
        ring.receive(token(1), handle, Receipts::Many);
        client.write_all(b"hello").expect("it is open");
        assert!(
            matches!(next(ring), Completion::Received { result: Ok(Some(lease)), .. } if &*lease == b"hello")
        );
    });
}

#[test]
fn a_ring_dropped_with_everything_in_flight_ends_all_of_it_in_time() {
    on_each_tier(|ring, address| {
        // Left in flight: the accept, the control poll, a timer, two receives, a send nobody reads,
        // a connection that was never accepted. The ring is dropped when this returns.
        let (client, handle) = connect(ring, address);
        let (idle, second) = connect(ring, address);
        ring.receive(token(1), handle, Receipts::Many);
        ring.receive(token(2), second, Receipts::Many);
        ring.wake_at(ring.now() + 60_000);
        ring.send(token(1), handle, batch([pattern(16 << 20)]));
        ring.enter(Wait::No).expect("the ring goes on");
        let late = TcpStream::connect(address).expect("it listens");
        thread::spawn(move || {
            thread::sleep(Duration::from_millis(50));
            drop((client, idle, late));
        });
    });
    let start = Instant::now();
    with_ring(&config(Tier::Direct), |_, _| {});
    assert!(start.elapsed() < Duration::from_millis(900), "nothing had to be given up");
}

#[test]
fn a_ring_dropped_while_it_shuts_leaves_no_descriptor() {
    let mut target = None;
    with_ring(&config(Tier::Direct), |ring, address| {
        let clients = [(); 3].map(|()| connect(ring, address));
        for (slot, (_, handle)) in (0..).zip(&clients) {
            ring.shutdown(token(slot), *handle);
            // The first has its descriptor, the last is not asked for yet.
            if slot == 1 {
                ring.enter(Wait::No).expect("the ring goes on");
            }
        }
        if ring.tier() == Tier::Direct {
            target = Some((address, clients.map(|(client, _)| client)));
        }
    });
    if let Some((address, clients)) = target {
        assert_eq!(ordinary(address), 0);
        drop(clients);
    }
}

#[test]
fn memory_of_a_dropped_ring_can_outlive_it_in_a_lease() {
    let mut kept = None;
    with_ring(&config(Tier::Direct), |ring, address| {
        let (mut client, handle) = connect(ring, address);
        ring.receive(token(1), handle, Receipts::Many);
        client.write_all(b"kept").expect("it is open");
        if let Completion::Received { result: Ok(Some(lease)), .. } = next(ring) {
            kept = Some(lease);
        }
    });
    if let Some(lease) = kept {
        assert_eq!(&*lease, b"kept");
    }
}
