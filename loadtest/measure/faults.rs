//! What an attack does to honest traffic: latency before, during and after it, in one run. Called
//! by `main.rs`.
//!
//! Honest traffic is 8 kept-alive connections that send a request each millisecond, in turn,
//! whatever became of the one before; a latency counts from the time a request was due. Half of
//! them are opened while the attack is under way, if the server has descriptors left. It runs as
//! SCHED_FIFO on the generator's core, the attack beside it as any thread, the server alone on its
//! own. What an attack costs the machine is the machine's; a server that lets it through to others
//! has requests that fail or wait for hundreds of milliseconds.

use std::error::Error;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};
use hdrhistogram::Histogram;

use crate::attack::{Attack, Kind};
use crate::record::Table;
use crate::target::{Policy, Server};
use crate::{Finding, Target, process};

const CONNECTIONS: usize = 8;
const PERIOD: Duration = Duration::from_millis(1);
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a connection that is opened behind an attack may take to be answered.
const RECOVERY_MAX: Duration = Duration::from_secs(10);
/// Files a server may open that is to run out of them.
const FILES_FEW: u32 = 300;

#[derive(Args)]
pub(crate) struct Options {
    /// A server: NAME=COMMAND, or NAME@ADDR:PORT,PID of one that runs.
    #[arg(long = "target", required = true)]
    targets: Vec<Target>,
    /// The attacks; all by default.
    #[arg(long = "attack", value_enum)]
    attacks: Vec<Kind>,
    /// Seconds of each attack; honest traffic is measured as long before it.
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    /// Connections of the attacks that hold some.
    #[arg(long, default_value_t = 10_000)]
    connections: usize,
    /// The most honest requests that may fail.
    #[arg(long)]
    failed_max: Option<u64>,
}

impl Options {
    pub(crate) fn targets(&self) -> &[Target] {
        &self.targets
    }
}

pub(crate) fn measure(options: &Options) -> Result<Finding, Box<dyn Error>> {
    let span = Duration::try_from_secs_f64(options.seconds)?;
    let mut finding = Finding::new(Table::new(&[
        "target",
        "attack",
        "when",
        "acts",
        "requests",
        "failed",
        "p50_us",
        "p99_us",
        "max_us",
        "server_cpu",
        "rss_mb",
    ]));
    let attacks = match options.attacks.as_slice() {
        [] => Kind::value_variants(),
        some => some,
    };
    // Only so that the attack does not take the time of those that are measured.
    let _ = process::schedule_as(libc::SCHED_FIFO, 1);
    for target in &options.targets {
        for kind in attacks {
            let failed = endure(target, *kind, options.connections, span, &mut finding.table);
            let failed = match failed {
                Ok(failed) => failed,
                Err(error) => {
                    let (name, kind) = (&target.name, kind.name());
                    finding.failures.push(format!("{name} under {kind}: {error}"));
                    continue;
                }
            };
            if let Some(limit) = options.failed_max.filter(|limit| failed > *limit) {
                let (name, kind) = (&target.name, kind.name());
                let failure = format!("{name}: {failed} requests failed by {kind}, limit {limit}");
                finding.failures.push(failure);
            }
        }
    }
    Ok(finding)
}

/// Honest requests that failed during and after the attack.
fn endure(
    target: &Target,
    kind: Kind,
    connections: usize,
    span: Duration,
    table: &mut Table,
) -> Result<u64, Box<dyn Error>> {
    let server = match kind {
        Kind::Descriptors => {
            let few = target.started_by(&format!("prlimit --nofile={FILES_FEW}"))?;
            Server::start(&few, Policy::Usual)?
        }
        _ => Server::start(target, Policy::Usual)?,
    };
    let mut honest = Honest::open(server.address)?;
    let mut row = |when: &str, acts: u64, account: &Account| -> Result<(), Box<dyn Error>> {
        table.push(&[
            target.name.as_str().into(),
            kind.name().into(),
            when.into(),
            acts.into(),
            account.latencies.len().into(),
            account.failed.into(),
            account.latencies.value_at_quantile(0.5).into(),
            account.latencies.value_at_quantile(0.99).into(),
            account.latencies.max().into(),
            format!("{:.2}", account.server_cpu).into(),
            (server.status_bytes("VmRSS")? >> 20).into(),
        ]);
        Ok(())
    };
    // What is done once is done: lazily bound symbols, first buffers, page faults.
    honest.run(&server, Duration::from_millis(200))?;
    row("before", 0, &honest.run(&server, span)?)?;
    let attack = Attack::start(kind, server.address, connections)?;
    if kind != Kind::Descriptors {
        honest.renew(CONNECTIONS / 2)?;
    }
    let during = honest.run(&server, span)?;
    row("during", attack.acts(), &during)?;
    let acts = attack.stop()?;
    let recovery = recover(server.address)?;
    let after = honest.run(&server, Duration::from_millis(500))?;
    row(&format!("after, new in {} ms", recovery.as_millis()), acts, &after)?;
    Ok(during.failed + after.failed)
}

/// How long it takes until a new connection is answered with 200.
fn recover(address: SocketAddr) -> io::Result<Duration> {
    let begin = Instant::now();
    loop {
        let answer = Client::open(address).and_then(|mut client| client.ask());
        match answer {
            Ok(()) => return Ok(begin.elapsed()),
            Err(error) if begin.elapsed() > RECOVERY_MAX => return Err(error),
            Err(_) => thread::sleep(Duration::from_millis(1)),
        }
    }
}

/// Who only wants to be served.
struct Honest {
    address: SocketAddr,
    clients: Vec<Client>,
}

struct Account {
    /// In microseconds.
    latencies: Histogram<u64>,
    failed: u64,
    /// Seconds of processor time the server took for each second.
    server_cpu: f64,
}

impl Honest {
    fn open(address: SocketAddr) -> io::Result<Honest> {
        let clients = (0..CONNECTIONS).map(|_| Client::open(address)).collect::<io::Result<_>>()?;
        Ok(Honest { address, clients })
    }

    /// Replaces the first `count` by such as come late.
    fn renew(&mut self, count: usize) -> io::Result<()> {
        self.clients.iter_mut().take(count).try_for_each(|client| {
            *client = Client::open(self.address)?;
            Ok(())
        })
    }

    fn run(&mut self, server: &Server, span: Duration) -> Result<Account, Box<dyn Error>> {
        let mut latencies = Histogram::new(3)?;
        let mut failed = 0;
        let (begin, cpu_ns) = (Instant::now(), server.cpu_ns()?);
        for number in 0.. {
            let due = begin + PERIOD * number;
            if due > begin + span {
                break;
            }
            thread::sleep(due.saturating_duration_since(Instant::now()));
            let client = &mut self.clients[number as usize % CONNECTIONS];
            if client.ask().is_err() {
                failed += 1;
                // Who loses a connection opens another, if it gets one.
                if let Ok(another) = Client::open(self.address) {
                    *client = another;
                }
            }
            latencies.record(u64::try_from(due.elapsed().as_micros())?)?;
        }
        let spent_ns = server.cpu_ns_since(cpu_ns)?;
        let server_cpu = spent_ns as f64 / begin.elapsed().as_nanos() as f64;
        Ok(Account { latencies, failed, server_cpu })
    }
}

struct Client {
    stream: TcpStream,
}

impl Client {
    fn open(address: SocketAddr) -> io::Result<Client> {
        let stream = TcpStream::connect_timeout(&address, ANSWER_TIMEOUT)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(ANSWER_TIMEOUT))?;
        Ok(Client { stream })
    }

    fn ask(&mut self) -> io::Result<()> {
        self.stream.write_all(b"GET /plaintext HTTP/1.1\r\nHost: honest.example\r\n\r\n")?;
        let (mut answer, mut len) = ([0; 1024], 0);
        while !answer[..len].ends_with(b"Hello, World!") {
            match self.stream.read(&mut answer[len..])? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                count => len += count,
            }
        }
        if answer.starts_with(b"HTTP/1.1 200 ") { Ok(()) } else { Err(io::Error::other("no 200")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_cannot_be_measured_is_a_failure_of_the_record() {
        let options = Options {
            targets: vec!["one=false PORT".parse().unwrap()],
            attacks: vec![Kind::Resets, Kind::Descriptors],
            seconds: 0.1,
            connections: 1,
            failed_max: None,
        };
        let failures = measure(&options).unwrap().failures;
        assert_eq!(failures.len(), 2);
        assert!(failures[0].starts_with("one under resets: false "), "{failures:?}");
        assert!(failures[0].contains("before it listened"), "{failures:?}");
    }
}
