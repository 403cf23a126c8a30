//! How the built binary ends: in order, told little by little, within its time, and at once if it must.

#[path = "support/process.rs"]
mod process;

use std::io::{PipeReader, PipeWriter, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixDatagram;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use process::{Folder, PATIENCE, Served, UPRING, get, head};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, kill_process, setrlimit};

const HANDSHAKE: &str = "GET /ws HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

/// A Close frame that says 1001: the server goes away.
const GOING_AWAY: [u8; 4] = [0x88, 2, 0x03, 0xe9];

/// Room for so many sockets here; fewer, aloud, if that is refused.
fn room_for(sockets: u64) -> u64 {
    let limit = getrlimit(Resource::Nofile);
    let hard = limit.maximum.unwrap_or(u64::MAX);
    let wanted = (sockets + 100).min(hard);
    setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), ..limit }).expect("it is allowed");
    let room = wanted.saturating_sub(100).min(sockets);
    if room < sockets {
        eprintln!("only {room} connections instead of {sockets}: see `ulimit -Hn`");
    }
    room
}

fn websocket(served: &Served) -> TcpStream {
    let mut stream = served.connect();
    stream.write_all(HANDSHAKE.as_bytes()).expect("it reads");
    assert!(head(&mut stream).starts_with("HTTP/1.1 101"));
    stream
}

#[test]
fn five_thousand_websockets_end_in_order_spread_over_the_window() {
    let count = usize::try_from(room_for(5000)).expect("a number of sockets");
    for host in ["hosted", "native"] {
        let folder = Folder::new("drain");
        let text = "workers = 2\ndrain_window_ms = 800\ndrain_timeout_ms = 20000\n\
            [[listen]]\naddress = '127.0.0.1:0'\n\
            [[route]]\npath = '/ws'\nupgrade = 'websocket-echo'\n";
        let file = folder.write("a.toml", text);
        let file = file.to_str().expect("a name of ours");
        let arguments = ["--config", file, "--host", host];
        let Some(mut served) = Served::start(&arguments, &[]) else { return };
        let mut clients: Vec<_> = (0..count).map(|_| websocket(&served)).collect();
        served.signal(Signal::TERM);
        let told_at = Instant::now();
        let (mut last, mut early) = (Duration::ZERO, 0);
        for client in &mut clients {
            let mut close = [0; 4];
            client.read_exact(&mut close).expect("a frame");
            assert_eq!(close, GOING_AWAY, "{host}");
            last = told_at.elapsed();
            early += usize::from(last < Duration::from_millis(80));
            // The same back, masked with zeros.
            client.write_all(&[0x88, 0x82, 0, 0, 0, 0, 0x03, 0xe9]).expect("it reads");
        }
        for client in &mut clients {
            let rest = client.read(&mut [0; 16]).expect("no reset");
            assert_eq!(rest, 0, "{host}: nothing behind the frame");
        }
        drop(clients);
        let status = served.process.wait().expect("it was started");
        assert_eq!(status.code(), Some(0), "{host}: {}", served.log());
        assert!(last >= Duration::from_millis(700), "{host}: all were told within {last:?}");
        assert!(early < count / 2, "{host}: {early} of {count} within a tenth of the window");
    }
}

#[test]
fn what_is_left_at_the_hard_deadline_is_cut_and_said() {
    let arguments = ["--listen", "127.0.0.1:0", "--workers", "1"];
    let folder = Folder::new("cut");
    let text = "drain_timeout_ms = 300\n[[route]]\npath = '/ws'\nupgrade = 'websocket-echo'\n";
    let file = folder.write("a.toml", text);
    let file = file.to_str().expect("a name of ours");
    let Some(mut served) = Served::start(&[&arguments[..], &["--config", file]].concat(), &[])
    else {
        return;
    };
    let mut client = websocket(&served);
    served.signal(Signal::TERM);
    let mut close = [0; 4];
    client.read_exact(&mut close).expect("a frame");
    assert_eq!(close, GOING_AWAY);
    // It does not answer.
    let status = served.process.wait().expect("it was started");
    assert_eq!(status.code(), Some(0), "{}", served.log());
    served.hears("1 connections were left at the end of the drain, and cut", 1);
    assert!(client.read(&mut close).is_err(), "a reset");
}

#[test]
fn while_it_ends_nobody_is_let_in_and_whoever_was_is_answered() {
    for host in ["hosted", "native"] {
        let arguments = ["--listen", "127.0.0.1:0", "--workers", "1", "--host", host];
        let Some(mut served) = Served::start(&arguments, &[]) else { return };
        let mut used = served.connect();
        assert!(get(&mut used, "/plaintext").starts_with("200 "));
        // Accepted, and its request not there yet.
        let mut fresh = served.connect();
        std::thread::sleep(Duration::from_millis(50));
        served.signal(Signal::TERM);
        assert_eq!(used.read(&mut [0; 16]).expect("no reset"), 0, "{host}: an idle one is closed");
        let deadline = Instant::now() + PATIENCE;
        while TcpStream::connect(&served.address).is_ok() {
            assert!(Instant::now() < deadline, "{host}: it still accepts");
            std::thread::sleep(Duration::from_millis(5));
        }
        fresh.write_all(b"GET /plaintext HTTP/1.1\r\nHost: a\r\n\r\n").expect("it reads");
        let mut answer = String::new();
        fresh.read_to_string(&mut answer).expect("no reset");
        assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("Connection: close"));
        drop((used, fresh));
        assert_eq!(served.process.wait().expect("it was started").code(), Some(0), "{host}");
    }
}

#[test]
fn whoever_has_sent_half_a_head_has_a_second_for_the_rest_of_it() {
    for host in ["hosted", "native"] {
        let arguments = ["--listen", "127.0.0.1:0", "--workers", "1", "--host", host];
        let Some(mut served) = Served::start(&arguments, &[]) else { return };
        let [mut quick, mut silent] = [(); 2].map(|()| served.connect());
        for stream in [&mut quick, &mut silent] {
            stream.write_all(b"GET /plaintext HT").expect("it reads");
        }
        // One that begins behind the signal has no more.
        let mut later = served.connect();
        thread::sleep(Duration::from_millis(50));
        served.signal(Signal::TERM);
        served.hears("stopping", 1);
        later.write_all(b"GET /plaintext HT").expect("it reads");
        quick.write_all(b"TP/1.1\r\nHost: a\r\n\r\n").expect("it reads");
        for (stream, status) in [(&mut quick, "200"), (&mut silent, "408"), (&mut later, "408")] {
            let mut answer = String::new();
            stream.read_to_string(&mut answer).expect("no reset");
            assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{host}: {answer}");
        }
        drop((quick, silent, later));
        assert_eq!(served.process.wait().expect("it was started").code(), Some(0), "{host}");
        assert!(!served.log().contains("were left"), "{host}: {}", served.log());
    }
}

/// With nobody to serve it ends at once: what is logged last must be written before that.
#[test]
fn the_last_words_of_a_process_are_heard() {
    for _ in 0..20 {
        let arguments = ["--listen", "127.0.0.1:0", "--workers", "1"];
        let Some(mut served) = Served::start(&arguments, &[]) else { return };
        served.signal(Signal::TERM);
        assert!(served.process.wait().expect("it was started").success(), "{}", served.log());
        served.hears("stopping", 1);
    }
}

/// A pipe that takes no byte more: whoever is to read it does not.
fn full_pipe() -> (PipeReader, PipeWriter) {
    let (reader, mut writer) = std::io::pipe().expect("a pipe");
    let flags = fcntl_getfl(&writer).expect("a pipe");
    fcntl_setfl(&writer, flags | OFlags::NONBLOCK).expect("a pipe");
    while writer.write(&[b'x'; 4096]).is_ok() {}
    while writer.write(b"x").is_ok() {}
    fcntl_setfl(&writer, flags).expect("a pipe");
    (reader, writer)
}

#[test]
fn a_server_whose_output_nobody_reads_serves_and_hears_every_signal() {
    let folder = Folder::new("full-output");
    let (manager, place) = (folder.0.join("manager"), folder.0.join("place"));
    let heard = UnixDatagram::bind(&manager).expect("it is free");
    heard.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let (_reader, writer) = full_pipe();
    let mut process = Command::new(UPRING)
        .args(["--listen", "127.0.0.1:0", "--workers", "1", "--hand-over"])
        .arg(&place)
        .env("NOTIFY_SOCKET", &manager)
        .stdout(writer)
        .stderr(Stdio::null())
        .spawn()
        .expect("it is built");
    let mut said = [0; 64];
    let Ok(count) = heard.recv(&mut said) else {
        let _ = process.kill();
        let ended = process.wait().expect("it was started");
        assert_eq!(ended.code(), Some(69), "it never says that it serves");
        return eprintln!("SKIPPED, the server cannot start here");
    };
    assert!(said[..count].starts_with(b"READY=1"), "{:?}", &said[..count]);
    assert!(place.exists(), "it can be succeeded");
    kill_process(Pid::from_child(&process), Signal::TERM).expect("it runs");
    let begun = Instant::now();
    while process.try_wait().expect("it was started").is_none() {
        if begun.elapsed() > PATIENCE {
            process.kill().expect("it runs");
            panic!("it does not hear SIGTERM");
        }
        thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(process.wait().expect("it was started").code(), Some(0));
}

#[test]
fn a_second_signal_ends_it_at_once_with_status_1() {
    let arguments = ["--listen", "127.0.0.1:0", "--workers", "1"];
    let Some(mut served) = Served::start(&arguments, &[]) else { return };
    let _client = websocket(&served);
    served.signal(Signal::TERM);
    served.hears("stopping", 1);
    served.signal(Signal::INT);
    assert_eq!(served.process.wait().expect("it was started").code(), Some(1));
}
