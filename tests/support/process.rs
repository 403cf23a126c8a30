//! The built binary as a process: started, heard, told by signals, ended.

// Each test takes what it needs.
#![allow(dead_code, unused_imports)]

#[path = "folder.rs"]
mod folder;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::fd::AsFd;
use std::process::{Child, ChildStderr, Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

pub(crate) use folder::Folder;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, Signal, kill_process};

pub(crate) const PATIENCE: Duration = Duration::from_secs(10);
pub(crate) const UPRING: &str = env!("CARGO_BIN_EXE_upring");

/// A server that was started, what it has said, and where it is.
pub(crate) struct Served {
    pub(crate) process: Child,
    pub(crate) address: String,
    said: Arc<Mutex<Said>>,
}

/// What a process says, as far as it was read.
struct Said {
    errors: ChildStderr,
    bytes: Vec<u8>,
}

impl Said {
    /// Reads what has come, and says whether more may.
    fn read(&mut self) -> bool {
        let (mut bytes, at_once) = ([0; 4096], Timespec::default());
        while poll(&mut [PollFd::new(&self.errors, PollFlags::IN)], Some(&at_once)) == Ok(1) {
            let Ok(count @ 1..) = self.errors.read(&mut bytes) else { return false };
            self.bytes.extend(&bytes[..count]);
        }
        true
    }
}

impl Served {
    /// `None`, aloud, where io_uring is not to be had.
    pub(crate) fn start(arguments: &[&str], environment: &[(&str, &str)]) -> Option<Served> {
        let mut command = Command::new(UPRING);
        command.args(arguments).envs(environment.iter().copied());
        Served::of(command)
    }

    /// The same of a command that starts it.
    pub(crate) fn of(mut command: Command) -> Option<Served> {
        let mut process =
            command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it is built");
        let errors = process.stderr.take().expect("piped");
        let coming = errors.as_fd().try_clone_to_owned().expect("a descriptor");
        let said = Arc::new(Mutex::new(Said { errors, bytes: Vec::new() }));
        let heard = Arc::clone(&said);
        // Whoever speaks never waits, whether somebody asks for what was said or not.
        thread::spawn(move || {
            while poll(&mut [PollFd::new(&coming, PollFlags::IN)], None).is_ok() {
                if !heard.lock().expect("nobody panics").read() {
                    return;
                }
            }
        });
        let mut lines = BufReader::new(process.stdout.take().expect("piped")).lines();
        let line = lines.find_map(|line| line.ok().filter(|line| line.contains("://")));
        let Some(line) = line else {
            let _ = process.wait();
            eprintln!("SKIPPED, the server cannot start here: {}", told(&said));
            return None;
        };
        thread::spawn(move || lines.for_each(drop));
        let address = line.split("://").nth(1).and_then(|rest| rest.split('/').next());
        let address = address.expect("a line has an address").to_owned();
        Some(Served { process, address, said })
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.process), signal).expect("it runs");
    }

    /// Waits until it has said something so many times.
    pub(crate) fn hears(&self, words: &str, times: usize) {
        let deadline = Instant::now() + PATIENCE;
        while self.log().matches(words).count() < times {
            assert!(Instant::now() < deadline, "it never says {words:?}: {}", self.log());
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Everything it has said until now; if it has ended, all it ever says.
    pub(crate) fn log(&self) -> String {
        told(&self.said)
    }

    pub(crate) fn connect(&self) -> TcpStream {
        connect(&self.address)
    }

    pub(crate) fn get(&self, path: &str) -> String {
        get(&mut self.connect(), path)
    }

    pub(crate) fn end(mut self) -> (Option<i32>, String) {
        self.signal(Signal::TERM);
        let status = self.process.wait().expect("it was started");
        (status.code(), self.log())
    }
}

fn told(said: &Mutex<Said>) -> String {
    let mut said = said.lock().expect("nobody panics");
    said.read();
    String::from_utf8_lossy(&said.bytes).into_owned()
}

/// Also of a test that fails: it leaves nobody behind who listens.
impl Drop for Served {
    fn drop(&mut self) {
        // Of one that was waited for nothing is left, and nothing is done.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Runs it until it serves, or has ended by itself: whether it did serve, and then was ended by a signal, and what
/// it has said.
pub(crate) fn outcome(command: &mut Command, signal: Signal) -> (bool, Output) {
    let spawned = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut process = spawned.expect("the program is there");
    let mut output = process.stdout.take().expect("it is piped");
    let is_served = output.read(&mut [0]).expect("a pipe") > 0;
    if is_served {
        kill_process(Pid::from_child(&process), signal).expect("it runs");
    }
    (is_served, process.wait_with_output().expect("it was started"))
}

pub(crate) fn connect(address: &str) -> TcpStream {
    let stream = TcpStream::connect(address).expect("it listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    stream
}

/// A connection that was switched to an echo: it keeps its process until it is dropped.
pub(crate) fn switched(address: &str) -> TcpStream {
    let mut stream = connect(address);
    let offer = b"GET /echo HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n";
    stream.write_all(offer).expect("it reads");
    assert!(head(&mut stream).starts_with("HTTP/1.1 101"));
    stream
}

/// Asks on a connection that stays, and gives back the status and the content.
pub(crate) fn get(stream: &mut TcpStream, path: &str) -> String {
    write!(stream, "GET {path} HTTP/1.1\r\nHost: a\r\n\r\n").expect("it reads");
    let head = head(stream);
    let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: "));
    let length = length.map_or(0, |length| length.parse().expect("a number"));
    let mut content = vec![0; length];
    stream.read_exact(&mut content).expect("the content");
    format!("{} {}", &head[9..12], String::from_utf8_lossy(&content))
}

pub(crate) fn head(stream: &mut TcpStream) -> String {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).expect("an answer");
        head.extend(byte);
    }
    String::from_utf8(head).expect("it is text")
}
