//! What an operator can do wrong, against the built binary: it ends, says why, and stops when it is
//! told to.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Resource, Rlimit, prlimit};

const PATIENCE: Duration = Duration::from_secs(10);
const UPRING: &str = env!("CARGO_BIN_EXE_upring");

/// Starts it on a port of its own, under a limit on descriptors if there is one.
fn start(descriptors: Option<u32>, arguments: &[&str]) -> Child {
    let limit = descriptors.map_or(String::new(), |most| format!("ulimit -n {most} && "));
    Command::new("sh")
        .args(["-c", &format!("{limit}exec \"$0\" --listen 127.0.0.1:0 \"$@\""), UPRING])
        .args(arguments)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("there is a shell")
}

/// Waits until it ends; kills one that does not in time.
fn end(mut process: Child, told: &str) -> Output {
    let deadline = Instant::now() + PATIENCE;
    while process.try_wait().expect("it was started").is_none() {
        if Instant::now() > deadline {
            process.kill().expect("it runs");
            panic!("{told}: it does not end");
        }
        thread::sleep(Duration::from_millis(10));
    }
    process.wait_with_output().expect("it was started")
}

fn signal(process: &Child, name: &str) {
    let id = process.id().to_string();
    let sent = Command::new("kill").args(["-s", name, &id]).status().expect("kill is there");
    assert!(sent.success());
}

/// Waits for its first line; false if it ended without one.
fn is_serving(process: &mut Child) -> bool {
    address(process).is_some()
}

/// Where it listens, by its first line.
fn address(process: &mut Child) -> Option<String> {
    let output = process.stdout.take().expect("it is piped");
    let mut lines = BufReader::new(output).lines().map_while(Result::ok);
    let line = lines.find(|line| line.contains("http://"))?;
    let (_, address) = line.split_once("http://")?;
    address.split(|byte: char| byte.is_whitespace() || byte == '/').next().map(str::to_owned)
}

// Some workers start and others cannot: the ones that did must not keep the process alive, nor
// serve alone. Which call is the one that fails depends on what whoever started us has left open, so that
// all limits are tried.
#[test]
fn a_start_that_runs_out_of_descriptors_ends_and_says_so() {
    for host in ["hosted", "native"] {
        for descriptors in 12..=50 {
            let told = format!("{host}, {descriptors} descriptors");
            let server = start(Some(descriptors), &["--workers", "16", "--host", host]);
            let output = end(server, &told);
            let message = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(69), "{told}: {message}");
            assert!(!message.contains("panicked"), "{told}: {message}");
            let is_denied = message.contains("io_uring_setup: Operation not permitted");
            assert!(is_denied || message.contains("ulimit -n"), "{told}: {message}");
        }
    }
}

// Direct descriptors need no place in the table, but a FIN takes one for a moment, if it can.
#[test]
fn a_server_without_a_descriptor_left_ends_connections_as_gently_as_others() {
    for host in ["hosted", "native"] {
        let mut server = start(None, &["--workers", "1", "--host", host]);
        let Some(address) = address(&mut server) else {
            return eprintln!("SKIPPED, the server cannot start here");
        };
        let id = Pid::from_child(&server);
        for limit in [None, Some(3)] {
            if limit.is_some() {
                let bound = Rlimit { current: limit, maximum: limit };
                prlimit(Some(id), Resource::Nofile, bound).expect("it is our child");
            }
            let told = format!("{host}, at most {limit:?} descriptors");
            let mut client = TcpStream::connect(&address).expect("it listens");
            client.set_read_timeout(Some(PATIENCE)).expect("a timeout");
            client
                .write_all(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
                .expect("it reads");
            let mut answer = String::new();
            client.read_to_string(&mut answer).unwrap_or_else(|error| panic!("{told}: {error}"));
            assert!(answer.starts_with("HTTP/1.1 200 "), "{told}: {answer}");
            // Ours is still open: what is said now is read, and no reason for a reset.
            for _ in 0..2 {
                client
                    .write_all(b"said too late")
                    .unwrap_or_else(|error| panic!("{told}: {error}"));
                thread::sleep(Duration::from_millis(20));
            }
        }
        signal(&server, "TERM");
        assert_eq!(end(server, host).status.code(), Some(0), "{host}");
    }
}

#[test]
fn a_server_whose_output_nobody_reads_any_more_still_stops_on_sigterm() {
    for host in ["hosted", "native"] {
        let mut server = start(None, &["--workers", "1", "--host", host]);
        if !is_serving(&mut server) {
            return eprintln!("SKIPPED, the server cannot start here");
        }
        drop(server.stderr.take());
        signal(&server, "TERM");
        assert_eq!(end(server, host).status.code(), Some(0), "{host}");
    }
}

#[test]
fn doctor_takes_the_options_of_the_server_behind_its_name_and_a_closed_pipe() {
    let arguments = ["doctor", "--listen", "192.0.2.1:1"];
    let output = Command::new(UPRING).args(arguments).output().expect("it is built");
    let report = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(69), "{report}");
    assert!(report.contains("bind on 192.0.2.1:1") && report.contains("`ip address`"), "{report}");
    let mut doctor = Command::new(UPRING);
    let doctor = doctor.args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut doctor = doctor.spawn().expect("it is built");
    drop(doctor.stdout.take());
    assert_eq!(end(doctor, "doctor").status.code(), Some(69));
}
