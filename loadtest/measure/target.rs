//! A server under measurement: one this tool starts, on a core of its own, or one that runs
//! already. What was started is stopped when its value is dropped, whatever happened in between;
//! what was there before is left alone.
//!
//! ```text
//!   NAME=COMMAND with PORT     started on core 0, with a free port of 127.0.0.1
//!   NAME@ADDR:PORT,PID         measured where it is
//! ```

use std::error::Error;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::str::FromStr;
use std::thread;
use std::time::{Duration, Instant};

use crate::{SERVER_CORE, clock, ending, listener, process, tree};

const START_TIMEOUT: Duration = Duration::from_secs(10);
const START_POLL: Duration = Duration::from_millis(20);

/// A server and how to come by it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) name: String,
    place: Place,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    /// Words separated by blanks, with PORT to be replaced.
    Command(String),
    Running {
        address: SocketAddr,
        pid: u32,
    },
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Target, String> {
        let problem =
            || "a target is NAME=COMMAND with PORT in it, or NAME@ADDR:PORT,PID".to_owned();
        let end = text.find(['=', '@']).ok_or_else(problem)?;
        let (name, rest) = (&text[..end], &text[end + 1..]);
        let place = if text[end..].starts_with('=') {
            Some(Place::Command(rest.to_owned())).filter(|_| rest.contains("PORT"))
        } else {
            running(rest)
        };
        match place {
            Some(place) if !name.is_empty() => Ok(Target { name: name.to_owned(), place }),
            _ => Err(problem()),
        }
    }
}

fn running(text: &str) -> Option<Place> {
    let (address, pid) = text.split_once(',')?;
    Some(Place::Running { address: address.parse().ok()?, pid: pid.parse().ok()? })
}

impl Target {
    /// Whether it was there before, and is not started here.
    pub(crate) fn is_running(&self) -> bool {
        matches!(self.place, Place::Running { .. })
    }

    /// Whether it is somewhere else than on loopback.
    pub(crate) fn is_remote(&self) -> bool {
        match self.place {
            Place::Running { address, .. } => !address.ip().is_loopback(),
            Place::Command(_) => false,
        }
    }

    /// The same server, its command started by another: `prlimit --nofile=300`.
    pub(crate) fn started_by(&self, other: &str) -> Result<Target, String> {
        match &self.place {
            Place::Command(command) => Ok(Target {
                name: self.name.clone(),
                place: Place::Command(format!("{other} {command}")),
            }),
            Place::Running { .. } => Err(format!("{} was not started here", self.name)),
        }
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
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pid: u32,
    /// Nothing if it was there before.
    child: Option<Child>,
}

impl Server {
    /// Starts the command on the server's core and waits until it accepts a connection, or finds
    /// the server that runs.
    pub(crate) fn start(target: &Target, policy: Policy) -> Result<Server, Box<dyn Error>> {
        let name = &target.name;
        match &target.place {
            Place::Command(command) => start(command, policy),
            Place::Running { .. } if policy != Policy::Usual => {
                Err(format!("{name}: only what is started here can have its policy chosen").into())
            }
            Place::Running { address, pid } => {
                find(name, *address, *pid).map_err(|error| format!("{name}: {error}").into())
            }
        }
    }

    /// The process that was started or named.
    pub(crate) fn pid(&self) -> u32 {
        self.pid
    }

    /// The same, then its descendants.
    pub(crate) fn processes(&self) -> io::Result<Vec<u32>> {
        tree::processes(self.pid)
    }

    /// Nanoseconds its processes have been on a processor, as `clock.rs` counts them.
    pub(crate) fn cpu_ns(&self) -> io::Result<u64> {
        clock::spent_ns(self.pid)
    }

    /// The same since it was `before_ns`. An error if it has become less: then a process ended
    /// whose time nobody took over, and what is left is no figure.
    pub(crate) fn cpu_ns_since(&self, before_ns: u64) -> Result<u64, Box<dyn Error>> {
        let spent_ns = self.cpu_ns()?.checked_sub(before_ns);
        spent_ns.ok_or_else(|| {
            "its processor time has shrunk: a process of it ended, and its time with it".into()
        })
    }

    /// A figure of `/proc/PID/status` that is given in kB, in bytes, of all its processes.
    pub(crate) fn status_bytes(&self, field: &str) -> io::Result<u64> {
        tree::sum(self.pid, |pid| tree::status_bytes(pid, field))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let Some(child) = &mut self.child else {
            return;
        };
        // A master without its workers starts others, so it ends first.
        let processes = tree::processes(child.id()).unwrap_or_default();
        let _ = child.kill();
        ending::end(&processes);
        let _ = child.wait();
    }
}

fn start(command: &str, policy: Policy) -> Result<Server, Box<dyn Error>> {
    let address = free_address()?;
    let command = command.replace("PORT", &address.port().to_string());
    let child = spawn_pinned(&command, policy).map_err(|error| format!("{command}: {error}"))?;
    let mut server = Server { address, pid: child.id(), child: Some(child) };
    let started = Instant::now();
    while TcpStream::connect(address).is_err() {
        if let Some(status) = server.child.as_mut().and_then(|child| child.try_wait().transpose()) {
            return Err(format!("{command}: ended with {} before it listened", status?).into());
        }
        if started.elapsed() > START_TIMEOUT {
            return Err(format!("{command}: does not listen on {address}").into());
        }
        thread::sleep(START_POLL);
    }
    let found = listener::check(&server.processes()?, address);
    found.map_err(|problem| format!("{command}: {problem}"))?;
    Ok(server)
}

/// What is named has to be what answers: time and memory of another process are nobody's figures.
fn find(name: &str, address: SocketAddr, pid: u32) -> Result<Server, Box<dyn Error>> {
    listener::check(&tree::processes(pid)?, address)
        .map_err(|problem| format!("process {pid}: {problem}"))?;
    TcpStream::connect(address)?;
    let cores = tree::cores(pid)?;
    if cores != SERVER_CORE.to_string() {
        eprintln!(
            "{name} may run on the generator's core: it has {cores}. Start it by `taskset -c {SERVER_CORE}`."
        );
    }
    Ok(Server { address, pid, child: None })
}

/// A port nobody listens on. Another process could take it before the server does; the server then
/// says so, or shares it, which is found.
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
    // A signal for this tool is not one for what it has started.
    command.process_group(0);
    let start = move || {
        process::pin_to_core(SERVER_CORE)?;
        if policy == Policy::Idle {
            process::schedule_as(libc::SCHED_IDLE, 0)?;
        }
        ending::start(&mut command)
    };
    thread::spawn(start).join().expect("starting a process does not panic")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture;

    #[test]
    fn a_target_is_a_command_or_a_server_that_runs() {
        let target = "a=./server --at 127.0.0.1:PORT --as=x@y".parse::<Target>().unwrap();
        let command = "./server --at 127.0.0.1:PORT --as=x@y".to_owned();
        assert_eq!(target, Target { name: "a".to_owned(), place: Place::Command(command) });
        let target = "b@127.0.0.1:80,17".parse::<Target>().unwrap();
        let place = Place::Running { address: "127.0.0.1:80".parse().unwrap(), pid: 17 };
        assert_eq!(target, Target { name: "b".to_owned(), place });
        for wrong in ["a", "a=server", "=PORT", "a@127.0.0.1:80", "a@localhost:80,17", "a@1:2,x"] {
            assert!(wrong.parse::<Target>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_server_that_runs_is_measured_and_left_running() {
        let running = fixture::server("a");
        let server = Server::start(&running.target().parse().unwrap(), Policy::Usual).unwrap();
        assert_eq!(server.processes().unwrap(), [running.pid()]);
        assert!(server.status_bytes("VmRSS").unwrap() > 0);
        drop(server);
        // Still there, and it still listens.
        drop(Server::start(&running.target().parse().unwrap(), Policy::Usual).unwrap());
    }

    #[test]
    fn a_process_that_does_not_listen_there_is_not_the_server() {
        let (one, two) = (fixture::server("one"), fixture::server("two"));
        let text = format!("one@{},{}", one.address(), two.pid());
        let error = Server::start(&text.parse().unwrap(), Policy::Usual).unwrap_err().to_string();
        let pid = two.pid();
        let said = format!("one: process {pid}: the process does not listen on {}", one.address());
        assert_eq!(error, said);
    }

    #[test]
    fn processor_time_that_shrinks_is_no_figure() {
        let server = Server {
            address: (Ipv4Addr::LOCALHOST, 1).into(),
            pid: std::process::id(),
            child: None,
        };
        let now_ns = server.cpu_ns().unwrap();
        assert!(server.cpu_ns_since(now_ns).unwrap() < now_ns + 1_000_000_000);
        let error = server.cpu_ns_since(u64::MAX).unwrap_err();
        assert!(error.to_string().starts_with("its processor time has shrunk"), "{error}");
    }

    #[test]
    fn the_descendants_of_a_server_end_with_it() {
        let mut parent = Command::new("sh").args(["-c", "sleep 60 & wait"]).spawn().unwrap();
        while tree::processes(parent.id()).unwrap().len() < 2 {
            assert!(parent.try_wait().unwrap().is_none());
            thread::sleep(START_POLL);
        }
        let descendant = tree::processes(parent.id()).unwrap()[1];
        let address = (Ipv4Addr::LOCALHOST, 1).into();
        drop(Server { address, pid: parent.id(), child: Some(parent) });
        let gone = || tree::status_bytes(descendant, "VmRSS").is_err();
        let begun = Instant::now();
        while !gone() && begun.elapsed() < START_TIMEOUT {
            thread::sleep(START_POLL);
        }
        assert!(gone());
    }
}
