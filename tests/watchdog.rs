//! A handler that blocks its worker is noticed, named and counted; a service manager hears what it is to.

#[path = "support/process.rs"]
mod process;

use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::net::UnixDatagram;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use process::{Folder, PATIENCE, Served, get};
use rustix::process::Signal;
use upring::server::Finding;
use upring::{Config, HostKind, Reply, Request, Resource, Response, Server, ServerError, Status};

static IS_BLOCKED: AtomicBool = AtomicBool::new(false);

fn block(_: &Request<'_>, _: &[u8], reply: &mut Reply<'_>) {
    while IS_BLOCKED.load(Ordering::Acquire) {
        thread::sleep(Duration::from_millis(1));
    }
    reply.send(&Response::text(Status::OK, "done"));
}

#[test]
fn a_blocked_worker_is_found_and_one_with_nothing_to_do_is_not() {
    for host in [HostKind::Hosted, HostKind::Native] {
        let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let config = Config { workers: 1, host, ..Config::listening(listen) };
        let running = match Server::new(config).route("/", Resource::new().get(block)).start() {
            Ok(running) => running,
            Err(ServerError::Setup(error)) if error.is_denied() => {
                return eprintln!("SKIPPED, io_uring is denied here: {error}");
            }
            Err(error) => panic!("{error}"),
        };
        let mut watchdog = running.watchdog();
        let pause = Duration::from_millis(100);
        for _ in 0..4 {
            thread::sleep(pause);
            assert_eq!(watchdog.look(pause), [], "{host:?}: it is idle");
        }
        IS_BLOCKED.store(true, Ordering::Release);
        let address = running.addresses()[0];
        let client = thread::spawn(move || {
            let mut stream = TcpStream::connect(address).expect("it listens");
            get(&mut stream, "/")
        });
        let deadline = Instant::now() + PATIENCE;
        let found = loop {
            thread::sleep(pause);
            let found = watchdog.look(pause);
            if !found.is_empty() {
                break found;
            }
            assert!(Instant::now() < deadline, "{host:?}: it is not found");
        };
        let place = Some("an HTTP handler".to_owned());
        let stuck = |duration| Finding::Stuck { worker: 0, duration, place: place.clone() };
        assert_eq!(found, [stuck(pause)]);
        assert!(!watchdog.is_well());
        thread::sleep(pause);
        let duration = 2 * pause;
        let again = watchdog.look(pause);
        assert_eq!(again, [stuck(duration)]);
        assert_eq!(running.counter("stalls"), 1, "{host:?}: it is one");
        IS_BLOCKED.store(false, Ordering::Release);
        assert_eq!(client.join().expect("it is answered"), "200 done");
        thread::sleep(pause);
        assert_eq!(watchdog.look(pause), [Finding::Recovered { worker: 0, duration }]);
        assert!(watchdog.is_well());
        running.stop().expect("it drains");
        assert_eq!(watchdog.look(pause), [], "one that has ended is not stuck");
        thread::sleep(pause);
        assert_eq!(watchdog.look(pause), []);
    }
}

/// What a service manager would hear next that has `word`.
fn heard(manager: &UnixDatagram, word: &str) -> String {
    let mut bytes = [0; 1024];
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        let count = manager.recv(&mut bytes).unwrap_or_else(|error| panic!("{word}: {error}"));
        let message = String::from_utf8_lossy(&bytes[..count]);
        if message.contains(word) {
            return message.into_owned();
        }
    }
    panic!("{word} is not said");
}

#[test]
fn a_service_manager_that_wants_a_sign_of_life_gets_it_without_a_watchdog_of_our_own() {
    let folder = Folder::new("sign");
    let path = folder.0.join("socket");
    let manager = UnixDatagram::bind(&path).expect("it is ours");
    manager.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let environment =
        [("NOTIFY_SOCKET", path.to_str().expect("a name of ours")), ("WATCHDOG_USEC", "200000")];
    let file = folder
        .write("a.toml", "watchdog_ms = 0\nworkers = 1\n[[route]]\npath = '/'\nanswer = {}\n");
    let file = file.to_str().expect("a name of ours");
    let arguments = ["--config", file, "--listen", "127.0.0.1:0"];
    let Some(served) = Served::start(&arguments, &environment) else { return };
    heard(&manager, "READY=1");
    for _ in 0..3 {
        heard(&manager, "WATCHDOG=1");
    }
    assert_eq!(served.end().0, Some(0));
}

#[test]
fn a_service_manager_is_told_of_every_step() {
    let folder = Folder::new("notify");
    let path = folder.0.join("socket");
    let manager = UnixDatagram::bind(&path).expect("it is ours");
    manager.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let environment =
        [("NOTIFY_SOCKET", path.to_str().expect("a name of ours")), ("WATCHDOG_USEC", "200000")];
    let arguments = ["--listen", "127.0.0.1:0", "--workers", "1"];
    let Some(served) = Served::start(&arguments, &environment) else { return };
    heard(&manager, "READY=1");
    for _ in 0..3 {
        heard(&manager, "WATCHDOG=1");
    }
    served.signal(Signal::HUP);
    let reloading = heard(&manager, "RELOADING=1");
    assert!(reloading.contains("MONOTONIC_USEC="), "{reloading}");
    heard(&manager, "READY=1");
    let (code, log) = {
        let told = thread::spawn(move || heard(&manager, "STOPPING=1"));
        let ended = served.end();
        told.join().expect("it is said");
        ended
    };
    assert_eq!(code, Some(0), "{log}");
}

#[test]
fn a_service_manager_that_reads_nothing_keeps_no_server_from_stopping() {
    let folder = Folder::new("unread");
    let path = folder.0.join("socket");
    let manager = UnixDatagram::bind(&path).expect("it is ours");
    let filler = UnixDatagram::unbound().expect("a socket");
    filler.set_nonblocking(true).expect("a socket");
    let fill = || while filler.send_to(b"full", &path).is_ok() {};
    // Full before it serves, and behind that.
    for is_full in [true, false] {
        if is_full {
            fill();
        }
        let shown = path.to_str().expect("a name of ours");
        let environment = [("NOTIFY_SOCKET", shown), ("WATCHDOG_USEC", "20000")];
        let arguments = ["--listen", "127.0.0.1:0", "--workers", "1"];
        let Some(mut served) = Served::start(&arguments, &environment) else { return };
        fill();
        served.signal(Signal::TERM);
        let begun = Instant::now();
        let code = loop {
            if let Some(status) = served.process.try_wait().expect("it was started") {
                break status.code();
            }
            if begun.elapsed() > PATIENCE / 2 {
                let _ = served.process.kill();
                panic!("it does not hear SIGTERM: {}", served.log());
            }
            thread::sleep(Duration::from_millis(10));
        };
        assert_eq!(code, Some(0), "{}", served.log());
        manager.set_nonblocking(true).expect("a socket");
        while manager.recv(&mut [0; 16]).is_ok() {}
    }
}

/// What a process has used of processors so far, in ticks (proc_pid_stat(5)).
fn ticks(process: u32) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{process}/stat")).expect("it runs");
    let (_, behind) = text.rsplit_once(')').expect("it has a name");
    let columns: Vec<_> = behind.split_whitespace().collect();
    columns[11..13].iter().map(|column| column.parse::<u64>().expect("a number")).sum()
}

#[test]
fn a_watchdog_of_zero_is_off() {
    let folder = Folder::new("zero");
    let path = folder.0.join("socket");
    let manager = UnixDatagram::bind(&path).expect("it is ours");
    manager.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let environment =
        [("NOTIFY_SOCKET", path.to_str().expect("a name of ours")), ("WATCHDOG_USEC", "0")];
    let arguments = ["--listen", "127.0.0.1:0", "--workers", "1"];
    let Some(served) = Served::start(&arguments, &environment) else { return };
    heard(&manager, "READY=1");
    let before = ticks(served.process.id());
    manager.set_read_timeout(Some(Duration::from_secs(1))).expect("a timeout");
    let said = manager.recv(&mut [0; 64]);
    assert!(said.is_err(), "nobody wants a sign of life");
    let used = ticks(served.process.id()) - before;
    assert!(used < 50, "{used} ticks of 100 for nothing");
    assert_eq!(served.end().0, Some(0));
}
