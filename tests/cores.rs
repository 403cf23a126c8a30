//! U-113: connection, buffers and handler stay on the core that accepted, and no thread wakes
//! another to switch: the one way by which a core can be reached from another thread, its control,
//! is counted where it arrives. Two workers, ten thousand switches over loopback, and each core's own account
//! of them.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use upring::config::{Config, HostKind};
use upring::protocols::echo;
use upring::resource::Resource;
use upring::server::{Running, Server, ServerError};

const SWITCHES: u64 = 10_000;
const CLIENTS: u64 = 4;

const REQUEST: &[u8] =
    b"GET /e HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\nping";

/// Two workers; none where io_uring is denied.
fn start(host: HostKind) -> Option<Running> {
    let config = Config {
        listen: vec![SocketAddr::from(([127, 0, 0, 1], 0)).into()],
        workers: 2,
        host,
        ..Config::default()
    };
    let resource = Resource::new().upgrade(echo::protocol());
    match Server::new(config).route("/e", resource).start() {
        Ok(running) => Some(running),
        Err(ServerError::Setup(error)) if error.is_denied() => {
            eprintln!("SKIPPED, io_uring is denied here: {error}");
            None
        }
        Err(error) => panic!("{error}"),
    }
}

/// Switches, has its early bytes echoed, and leaves.
fn switch(address: SocketAddr) {
    let mut stream = TcpStream::connect(address).expect("the server listens");
    stream.write_all(REQUEST).expect("the server reads");
    let (mut answer, mut len) = ([0; 512], 0);
    while !answer[..len].ends_with(b"\r\n\r\nping") {
        let read = stream.read(&mut answer[len..]).expect("the server answers");
        assert!(read > 0, "an echo does not end before its peer");
        len += read;
    }
}

#[test]
fn u_113_ten_thousand_switches_wake_no_other_core() {
    for host in [HostKind::Native, HostKind::Hosted] {
        let Some(running) = start(host) else { return };
        let address = running.addresses()[0];
        thread::scope(|scope| {
            for _ in 0..CLIENTS {
                scope.spawn(|| (0..SWITCHES / CLIENTS).for_each(|_| switch(address)));
            }
        });
        assert_eq!(running.counter("wakes_across_cores"), 0);
        let accepted = running.counter_by_core("connections_accepted");
        let switched = running.counter_by_core("upgrades_switched");
        println!("{host:?}: switched by core {switched:?}");
        assert_eq!(switched.iter().sum::<u64>(), SWITCHES);
        assert_eq!(accepted, switched, "each core switches what it has accepted, and no other");
        assert_eq!(running.counter_by_core("requests"), switched);
        assert_bytes_stay(&running, &accepted);
        assert_eq!(running.counter("handler_panics"), 0);
        running.stop().expect("it served to the end");
    }
}

/// Every core has received and sent exactly what belongs to its own connections, and holds no
/// buffer of theirs.
fn assert_bytes_stay(running: &Running, accepted: &[u64]) {
    let answer =
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\nping";
    let expected = |bytes: &[u8]| -> Vec<u64> {
        accepted.iter().map(|count| count * bytes.len() as u64).collect()
    };
    let deadline = Instant::now() + Duration::from_secs(5);
    while running.counter("connections_open") > 0 || running.counter("buffers_held") > 0 {
        assert!(Instant::now() < deadline, "every connection ends with its peer");
        thread::sleep(Duration::from_millis(1));
    }
    assert_eq!(running.counter_by_core("bytes_received"), expected(REQUEST));
    assert_eq!(running.counter_by_core("bytes_sent"), expected(answer));
}
