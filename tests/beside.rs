//! Two servers of one user on one address: the kernel would let them share it, and each would answer some of the
//! clients. The second one is refused, and a restart is not.

#[path = "support/process.rs"]
mod process;

use std::fs::File;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::process::{Command, Output, Stdio};
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

use process::{PATIENCE, Served, UPRING, head, switched};
use rustix::process::Signal;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use upring::{Config, Server};

/// A free port, most likely.
fn free() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback is there");
    listener.local_addr().expect("it is bound").to_string()
}

/// What a server says that is to end by itself; killed if it does not.
fn output_of(listen: &str) -> Output {
    let mut command = Command::new(UPRING);
    command.args(["--listen", listen]).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut process = command.spawn().expect("it is built");
    let begun = Instant::now();
    while process.try_wait().expect("it was started").is_none() && begun.elapsed() < PATIENCE {
        thread::sleep(Duration::from_millis(10));
    }
    let _ = process.kill();
    process.wait_with_output().expect("it was started")
}

#[test]
fn a_second_server_on_an_address_is_refused_and_the_first_one_goes_on() {
    let address = free();
    let arguments = ["--listen", &address, "--workers", "1"];
    let Some(first) = Served::start(&arguments, &[]) else { return };
    let (_, port) = address.split_once(':').expect("an address");
    for listen in [&address, &format!("0.0.0.0:{port}")] {
        let output = output_of(listen);
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(69), "{told}");
        assert!(told.contains(&format!("bind on {listen}")), "{told}");
        assert!(told.contains("another process listens there") && told.contains("`ss -ltnp`"));
        assert_eq!((told.lines().count(), output.stdout.len()), (1, 0), "{told}");
    }
    assert_eq!(first.get("/plaintext"), "200 Hello, World!");
    assert_eq!(first.end().0, Some(0));
}

/// Both have found the address free, and have bound sockets there, before either listens.
#[test]
fn of_two_that_start_at_the_same_moment_one_is_refused() {
    let address = free().parse().expect("an address");
    let server = || Server::new(Config { workers: 1, ..Config::listening(address) });
    let (tell, told) = channel();
    let outer = server().start_behind(|| {
        // Here the outer one is about to listen.
        tell.send(server().start()?).expect("the test waits");
        Ok(())
    });
    let Ok(inner) = told.try_recv() else {
        return eprintln!("SKIPPED, the server cannot start here: {outer:?}");
    };
    let refused = outer.expect_err("the other one serves").to_string();
    assert!(refused.contains("another process listens there"), "{refused}");
    TcpStream::connect(address).expect("the inner one listens");
    inner.stop().expect("it serves");
}

/// With what a server leaves behind: connections in TIME-WAIT, and one that is open while it drains.
#[test]
fn a_restart_is_not_refused_for_what_is_left_of_the_server_before() {
    let address = free();
    let arguments = ["--listen", &address, "--workers", "2"];
    let Some(mut first) = Served::start(&arguments, &[]) else { return };
    for _ in 0..5 {
        let mut stream = first.connect();
        stream
            .write_all(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            .expect("it reads");
        assert!(head(&mut stream).starts_with("HTTP/1.1 200"));
    }
    let open = switched(&first.address);
    first.signal(Signal::TERM);
    first.hears("stopping", 1);
    let second = Served::start(&arguments, &[]).expect("the one before could");
    assert!(first.process.try_wait().expect("it was started").is_none(), "it drains");
    assert_eq!(second.get("/plaintext"), "200 Hello, World!");
    drop(open);
    assert_eq!(first.process.wait().expect("it was started").code(), Some(0));
    // And one that is killed: its sockets go a while after it.
    let mut second = second;
    second.process.kill().expect("it runs");
    second.process.wait().expect("it was started");
    let third = Served::start(&arguments, &[]).expect("the one before could");
    assert_eq!(third.get("/plaintext"), "200 Hello, World!");
    assert_eq!(third.end().0, Some(0));
}

#[test]
fn sigusr2_without_a_place_to_hand_over_starts_nobody_and_says_why() {
    let arguments = ["--listen", &free(), "--workers", "1"];
    let Some(served) = Served::start(&arguments, &[]) else { return };
    served.signal(Signal::USR2);
    served.hears("not replaced, this process goes on: `hand_over` is not set", 1);
    assert!(!served.log().contains("is to take over"), "{}", served.log());
    assert_eq!(served.get("/plaintext"), "200 Hello, World!");
    assert_eq!(served.end().0, Some(0));
}

/// Somebody keeps the name by which starts take turns, in a network namespace of its own: here it would be in
/// the way of other tests.
#[test]
fn a_turn_that_somebody_keeps_is_waited_for_once_and_it_is_said_why() {
    let script = "ip link set lo up && echo up && exec sleep 30";
    let mut command = Command::new("unshare");
    command.args(["--net", "sh", "-c", script]).stdout(Stdio::piped()).stderr(Stdio::null());
    let Ok(mut namespace) = command.spawn() else { return eprintln!("SKIPPED: no unshare here") };
    let mut said = [0; 3];
    let is_up = namespace.stdout.take().expect("piped").read_exact(&mut said).is_ok();
    if !is_up {
        let _ = namespace.wait();
        return eprintln!("SKIPPED: no network namespace can be made here");
    }
    let path = format!("/proc/{}/ns/net", namespace.id());
    // A thread is in a namespace, and what it starts.
    let started = thread::spawn(move || {
        let file = File::open(path).expect("it is there");
        let kind = Some(LinkNameSpaceType::Network);
        move_into_link_name_space(file.as_fd(), kind).expect("who made it may");
        let name = SocketAddr::from_abstract_name("upring/listen").expect("a name");
        let _kept = UnixListener::bind_addr(&name).expect("nobody has it here");
        let begun = Instant::now();
        let arguments =
            ["--listen", "127.0.0.1:7001", "--workers", "1", "--admin", "127.0.0.1:7002"];
        let served = Served::start(&arguments, &[])?;
        let took = begun.elapsed();
        served.hears("waited 2s in vain for the abstract socket @upring/listen", 1);
        Some((took, served.end()))
    });
    let started = started.join().expect("it is said");
    namespace.kill().expect("it sleeps");
    let _ = namespace.wait();
    let Some((took, (code, log))) = started else { return };
    assert!(took > Duration::from_secs(2) && took < Duration::from_millis(3800), "{took:?}");
    assert_eq!((code, log.matches("in vain").count()), (Some(0), 1), "{log}");
}
