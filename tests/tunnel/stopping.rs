//! Tunnels of a server that stops.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::sync::Mutex;
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

use socket2::SockRef;
use upring::config::DrainTimes;
use upring::{Backend, Running, TunnelSettings};

use super::backends::{Behind, KINDS, Kind, Peer};
use super::loopback::{
    PATIENCE, config, connect, pattern, read_head, read_to_end, request, serve, upgrade, wait_until,
};
use super::{
    MEBIBYTE, SWITCHING, assert_comes_back, echo, front, impatient, settled, switching, tunnel,
};

#[test]
fn a_server_that_stops_ends_toward_the_backend_and_passes_its_last_words_on() {
    let behind = switching(Kind::Tcp, |mut peer| {
        peer.read_to_end();
        peer.write_all(b"goodbye").expect("it is open");
    });
    let Some((running, address)) = front(&behind.backend, impatient()) else { return };
    let mut client = upgrade(address, "t", b"hello");
    wait_until("it is open", || running.counter("tunnels_open") == 1);
    let begun = Instant::now();
    let stopping = thread::spawn(move || running.stop());
    assert_eq!(read_to_end(&mut client), b"goodbye");
    drop(client);
    stopping.join().expect("no panic").expect("it stops");
    assert!(begun.elapsed() < Duration::from_secs(5), "it was not cut");
}

/// A server whose `/` is switched to a backend, and that takes two seconds to stop.
fn stopping(backend: &Backend) -> Option<(Running, SocketAddr)> {
    let mut config = config();
    config.limits.linger_timeout_ms = 50;
    let window = Duration::from_millis(10);
    config.drain = DrainTimes { timeout: Duration::from_secs(2), window };
    let running = serve(config, tunnel(backend, TunnelSettings::default()))?;
    let address = running.addresses()[0];
    Some((running, address))
}

/// How the other direction ends.
fn read_up_to_the_end(peer: &mut Peer) -> Result<usize, ErrorKind> {
    let mut bytes = vec![0; 64 * 1024];
    loop {
        match peer.read(&mut bytes) {
            Ok(1..) => {}
            end => return end.map_err(|error| error.kind()),
        }
    }
}

#[test]
fn a_conversation_goes_on_while_its_server_stops_and_ends_in_order_before_it_is_cut() {
    for kind in KINDS {
        let (tell, told) = channel();
        let behind = switching(kind, move |mut peer| {
            let mut all = Vec::new();
            let mut bytes = [0; 16];
            while let Ok(count @ 1..) = peer.read(&mut bytes) {
                all.extend_from_slice(&bytes[..count]);
                peer.write_all(&bytes[..count]).expect("it goes on");
            }
            tell.send(all).expect("the test waits");
            peer.write_all(b"goodbye").expect("its last words are taken");
        });
        let Some((running, address)) = stopping(&behind.backend) else { return };
        let mut client = upgrade(address, "t", b"");
        let begun = Instant::now();
        let stopping = thread::spawn(move || {
            let ended = running.stopper();
            ended.stop();
            wait_until("it is over", || running.counter("connections_open") == 0);
            let cuts = running.counter("drain_cuts");
            running.stop().expect("it stops");
            cuts
        });
        // Longer than its window; the end comes a quarter of the time before the cut.
        let mut said = Vec::new();
        while begun.elapsed() < Duration::from_millis(1300) {
            client.write_all(b"word").expect("it goes on");
            assert_comes_back(&mut client, b"word", "while the server stops");
            said.extend_from_slice(b"word");
            thread::sleep(Duration::from_millis(20));
        }
        assert_eq!(read_to_end(&mut client), b"goodbye");
        let ended = begun.elapsed();
        assert!(ended > Duration::from_millis(1400), "{ended:?}: that was early");
        assert_eq!(told.recv_timeout(PATIENCE).expect("it ends"), said, "{kind:?}: all of it came");
        drop(client);
        assert_eq!(stopping.join().expect("no panic"), 0, "nothing is cut");
    }
}

#[test]
fn a_tunnel_that_ends_by_itself_while_its_server_stops_keeps_nobody_waiting() {
    let behind = switching(Kind::Tcp, echo);
    let Some((running, address)) = stopping(&behind.backend) else { return };
    let mut client = upgrade(address, "t", b"");
    let begun = Instant::now();
    running.stopper().stop();
    client.write_all(b"last").expect("it goes on");
    assert_comes_back(&mut client, b"last", "while the server stops");
    client.shutdown(Shutdown::Write).expect("it goes on");
    assert_eq!(read_to_end(&mut client), b"");
    drop(client);
    running.stop().expect("it stops");
    assert!(begun.elapsed() < Duration::from_millis(1300), "{:?}", begun.elapsed());
}

#[test]
fn a_client_that_always_has_something_to_say_is_ended_while_its_server_stops() {
    let (tell, told) = channel();
    let behind = switching(Kind::Tcp, move |mut peer| {
        tell.send(read_up_to_the_end(&mut peer)).expect("the test waits");
    });
    let Some((running, address)) = stopping(&behind.backend) else { return };
    let mut client = upgrade(address, "t", b"");
    let talking = thread::spawn(move || while client.write_all(&[b'x'; 4096]).is_ok() {});
    running.stopper().stop();
    assert_eq!(told.recv_timeout(PATIENCE).expect("it ends"), Ok(0), "in order");
    talking.join().expect("no panic");
    assert_eq!(running.counter("drain_cuts"), 0);
    running.stop().expect("it stops");
}

#[test]
fn a_tunnel_that_is_switched_while_its_server_stops_is_ended_in_order_too() {
    let (tell, told) = channel();
    let behind = Behind::start(Kind::Tcp, move |mut peer, _| {
        peer.set_patience();
        peer.read_head();
        tell.send(()).expect("the test waits");
        thread::sleep(Duration::from_millis(400));
        peer.write_all(SWITCHING).expect("the server reads");
        echo(peer);
    });
    let Some((running, address)) = stopping(&behind.backend) else { return };
    let mut client = connect(address);
    client.write_all(request("/", "t").as_bytes()).expect("it is open");
    told.recv_timeout(PATIENCE).expect("it is asked");
    running.stopper().stop();
    assert!(read_head(&mut client).starts_with("HTTP/1.1 101 "));
    client.write_all(b"word").expect("it is open");
    assert_comes_back(&mut client, b"word", "while the server stops");
    assert_eq!(read_to_end(&mut client), b"", "and no reset");
    wait_until("it is over", || running.counter("connections_open") == 0);
    assert_eq!(running.counter("drain_cuts"), 0);
    running.stop().expect("it stops");
}

#[test]
fn what_a_client_has_said_before_it_left_reaches_a_slow_backend_of_a_server_that_stops() {
    for kind in KINDS {
        let (tell, told) = channel();
        let behind = switching(kind, move |mut peer| {
            peer.end();
            // Slow where it matters: the client leaves when the server still has some of it.
            let mut all = peer.read_bytes(16 * MEBIBYTE);
            let mut bytes = [0; 16 * 1024];
            while let Ok(count @ 1..) = peer.read(&mut bytes) {
                all.extend_from_slice(&bytes[..count]);
                thread::sleep(Duration::from_millis(1));
            }
            tell.send(all).expect("the test waits");
        });
        let Some((running, address)) = stopping(&behind.backend) else { return };
        let mut client = upgrade(address, "t", b"");
        assert_eq!(read_to_end(&mut client), b"", "the backend has nothing to say");
        // More than sockets hold.
        let said = pattern(24 * MEBIBYTE);
        client.write_all(&said).expect("it is taken");
        drop(client);
        wait_until("the client is gone", || running.counter("connections_open") == 0);
        running.stop().expect("it stops");
        let heard = told.recv_timeout(PATIENCE).expect("it ends");
        assert!(heard == said, "{kind:?}: {} of {} bytes", heard.len(), said.len());
    }
}

#[test]
fn a_client_that_resets_while_its_server_stops_is_a_reset_to_the_backend() {
    let (tell, told) = channel();
    let behind = switching(Kind::Tcp, move |mut peer| {
        tell.send(peer.read(&mut [0])).expect("the test waits");
    });
    let Some((running, address)) = stopping(&behind.backend) else { return };
    let client = upgrade(address, "t", b"");
    running.stopper().stop();
    SockRef::from(&client).set_linger(Some(Duration::ZERO)).expect("a TCP socket");
    drop(client);
    let end = told.recv_timeout(PATIENCE).expect("the backend hears of it");
    assert_eq!(end.map_err(|error| error.kind()), Err(ErrorKind::ConnectionReset));
    running.stop().expect("it stops");
}

/// A backend that takes nothing is no reason to wait for ever, and must not take what it gets for all.
#[test]
fn what_cannot_go_on_before_the_end_of_the_drain_is_cut_counted_and_looks_so() {
    let (tell, told) = channel();
    let (cut, is_cut) = channel();
    let is_cut = Mutex::new(is_cut);
    let behind = switching(Kind::Tcp, move |mut peer| {
        peer.end();
        is_cut.lock().expect("no panic").recv_timeout(PATIENCE).expect("the test says so");
        tell.send(read_up_to_the_end(&mut peer)).expect("the test waits");
    });
    let Some((running, address)) = stopping(&behind.backend) else { return };
    let mut client = upgrade(address, "t", b"");
    assert_eq!(read_to_end(&mut client), b"", "the backend has nothing to say");
    // More than sockets hold.
    let talking = thread::spawn(move || client.write_all(&pattern(32 * MEBIBYTE)));
    wait_until("it is held", || settled(|| running.counter("bytes_received")) > 0);
    running.stopper().stop();
    wait_until("it is cut", || running.counter("drain_cuts") == 1);
    cut.send(()).expect("the backend waits");
    assert_eq!(told.recv_timeout(PATIENCE).expect("it ends"), Err(ErrorKind::ConnectionReset));
    let _ = talking.join().expect("no panic");
    running.stop().expect("it stops");
}
