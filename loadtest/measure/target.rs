//! A server under measurement: its command, its process, and what `/proc` says about it. It is
//! stopped when its value is dropped, whatever happened in between.

use std::error::Error;
use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::str::FromStr;
use std::thread;
use std::time::{Duration, Instant};

use crate::{SERVER_CORE, process};

const START_TIMEOUT: Duration = Duration::from_secs(10);
const START_POLL: Duration = Duration::from_millis(20);

/// `NAME=COMMAND`, where the words of the command are separated by blanks and PORT is replaced.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) name: String,
    command: String,
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Target, String> {
        match text.split_once('=') {
            Some((name, command)) if command.contains("PORT") => {
                Ok(Target { name: name.to_owned(), command: command.to_owned() })
            }
            _ => Err("a target is NAME=COMMAND, with PORT in the command".to_owned()),
        }
    }
}

impl Target {
    pub(crate) fn new(name: &str, command: &str) -> Target {
        Target { name: name.to_owned(), command: command.to_owned() }
    }

    pub(crate) fn command(&self) -> &str {
        &self.command
    }
}

/// How the server shares its core.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Policy {
    /// As any process.
    Usual,
    /// SCHED_IDLE: runs only when nobody else on its core wants to.
    Idle,
}

/// A running server.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    child: Child,
}

impl Server {
    /// Starts the command on the server's core and waits until it accepts a connection.
    pub(crate) fn start(target: &Target, policy: Policy) -> Result<Server, Box<dyn Error>> {
        let address = free_address()?;
        let command = target.command.replace("PORT", &address.port().to_string());
        let child =
            spawn_pinned(&command, policy).map_err(|error| format!("{command}: {error}"))?;
        let mut server = Server { address, child };
        let started = Instant::now();
        while TcpStream::connect(address).is_err() {
            if let Some(status) = server.child.try_wait()? {
                return Err(format!("{command}: ended with {status} before it listened").into());
            }
            if started.elapsed() > START_TIMEOUT {
                return Err(format!("{command}: does not listen on {address}").into());
            }
            thread::sleep(START_POLL);
        }
        Ok(server)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Nanoseconds all its threads have been on a processor, the kernel's work for them included.
    pub(crate) fn cpu_ns(&self) -> io::Result<u64> {
        let mut total = 0;
        for thread in fs::read_dir(format!("/proc/{}/task", self.pid()))? {
            // A thread may end between the listing and the reading; its time is lost, and it was
            // little.
            let Ok(schedstat) = fs::read_to_string(thread?.path().join("schedstat")) else {
                continue;
            };
            let on_cpu_ns =
                schedstat.split_whitespace().next().and_then(|field| field.parse::<u64>().ok());
            total += on_cpu_ns.ok_or(io::ErrorKind::InvalidData)?;
        }
        Ok(total)
    }

    /// A figure of `/proc/PID/status` that is given in kB, in bytes.
    pub(crate) fn status_bytes(&self, field: &str) -> io::Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid()))?;
        let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
        let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
        Ok(kib.ok_or(io::ErrorKind::InvalidData)? * 1024)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It has either ended by itself or ends now; there is nobody left to tell.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A port nobody listens on. Another process could take it before the server does; the server then
/// says so.
fn free_address() -> io::Result<SocketAddr> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()
}

/// A child inherits core and policy from the thread that starts it, so a thread is made to be
/// inherited from.
fn spawn_pinned(command: &str, policy: Policy) -> io::Result<Child> {
    let mut words = command.split_whitespace();
    let program = words.next().ok_or(io::ErrorKind::InvalidInput)?;
    let mut command = Command::new(program);
    command.args(words).stdin(Stdio::null()).stdout(Stdio::null());
    let start = move || {
        process::pin_to_core(SERVER_CORE)?;
        if policy == Policy::Idle {
            process::schedule_as(libc::SCHED_IDLE, 0)?;
        }
        command.spawn()
    };
    thread::spawn(start).join().expect("starting a process does not panic")
}
