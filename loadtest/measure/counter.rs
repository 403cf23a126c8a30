//! Counts the system calls of processes between two points in time, by `perf stat` or, where that
//! is missing or refused, by `strace`. perf costs the server nothing worth mentioning; strace stops
//! it at each call, which changes every time but no count.

use std::error::Error;
use std::fs;
use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use clap::ValueEnum;

use crate::ending;

const ATTACH_TIMEOUT: Duration = Duration::from_secs(5);
/// Names the files of the counts.
static COUNTINGS: AtomicU64 = AtomicU64::new(0);

/// Who counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Counter {
    Perf,
    Strace,
}

impl Counter {
    /// The cheapest that works here on these processes.
    pub(crate) fn choose(pids: &[u32]) -> Result<Counter, Box<dyn Error>> {
        for counter in [Counter::Perf, Counter::Strace] {
            match counter.attach(pids).and_then(Counting::finish) {
                Ok(_) => return Ok(counter),
                Err(error) => eprintln!("{counter:?} does not count here: {error}"),
            }
        }
        Err("install perf or strace, or run with the right to trace (kernel.perf_event_paranoid)"
            .into())
    }

    /// Counts from the return of this call on.
    pub(crate) fn attach(self, pids: &[u32]) -> Result<Counting, Box<dyn Error>> {
        let number = COUNTINGS.fetch_add(1, Ordering::Relaxed);
        let output = std::env::temp_dir().join(format!("measure-{}-{number}", std::process::id()));
        let child = match self {
            Counter::Perf => attach_perf(pids, &output),
            Counter::Strace => attach_strace(pids, &output),
        }?;
        Ok(Counting { counter: self, child, output })
    }
}

/// A count under way.
pub(crate) struct Counting {
    counter: Counter,
    child: Child,
    output: PathBuf,
}

impl Counting {
    /// Ends the count.
    pub(crate) fn finish(mut self) -> Result<u64, Box<dyn Error>> {
        match self.counter {
            // perf ends with the command it runs, which ends with its input.
            Counter::Perf => drop(self.child.stdin.take()),
            Counter::Strace => interrupt(self.child.id())?,
        }
        self.child.wait()?;
        let text = fs::read_to_string(&self.output)?;
        fs::remove_file(&self.output)?;
        let count = match self.counter {
            Counter::Perf => perf_count(&text),
            Counter::Strace => strace_count(&text),
        };
        count.ok_or_else(|| format!("no count in {text:?}").into())
    }
}

/// perf switches its counters on before it starts the command it is given; so once `cat` has sent
/// back a line, they are on.
fn attach_perf(pids: &[u32], output: &PathBuf) -> Result<Child, Box<dyn Error>> {
    let pids = pids.iter().map(u32::to_string).collect::<Vec<_>>().join(",");
    let mut command = Command::new("perf");
    command
        .args(["stat", "-x", ",", "-e", "raw_syscalls:sys_enter", "-p", &pids, "-o"])
        .arg(output)
        .args(["--", "cat"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    let mut child = ending::start(&mut command)?;
    // A refused perf has ended, and its pipe is broken.
    let (Some(input), Some(answer)) = (&mut child.stdin, &mut child.stdout) else {
        return Err("perf was given no pipes".into());
    };
    let echoed = input.write_all(b"x").and_then(|()| answer.read_exact(&mut [0]));
    if let Err(error) = echoed {
        child.wait()?;
        return Err(error.into());
    }
    Ok(child)
}

/// The first field of the line of the event: `97,,raw_syscalls:sys_enter,...`. A process that made
/// no call at all is `<not counted>`.
fn perf_count(text: &str) -> Option<u64> {
    let line = text.lines().find(|line| line.contains("raw_syscalls:sys_enter"))?;
    match line.split(',').next()? {
        "<not counted>" => Some(0),
        count => count.parse().ok(),
    }
}

fn attach_strace(pids: &[u32], output: &PathBuf) -> Result<Child, Box<dyn Error>> {
    let mut command = Command::new("strace");
    command
        .args(["-f", "-c", "-U", "calls,name", "-o"])
        .arg(output)
        .args(pids.iter().map(|pid| format!("--attach={pid}")))
        .stdin(Stdio::null())
        .stderr(Stdio::null());
    let mut child = ending::start(&mut command)?;
    let started = Instant::now();
    while !is_traced(pids)? {
        if child.try_wait()?.is_some() || started.elapsed() > ATTACH_TIMEOUT {
            child.kill()?;
            child.wait()?;
            return Err("it does not attach".into());
        }
        thread::sleep(Duration::from_millis(5));
    }
    Ok(child)
}

/// Whether every thread has a tracer.
fn is_traced(pids: &[u32]) -> Result<bool, Box<dyn Error>> {
    for pid in pids {
        for thread in fs::read_dir(format!("/proc/{pid}/task"))? {
            let status = fs::read_to_string(thread?.path().join("status"))?;
            if status.lines().any(|line| line == "TracerPid:\t0") {
                return Ok(false);
            }
        }
    }
    Ok(true)
}

/// strace prints its summary when it is interrupted; the standard library can only kill.
fn interrupt(pid: u32) -> Result<(), Box<dyn Error>> {
    let status = Command::new("kill").args(["-INT", &pid.to_string()]).status()?;
    if status.success() { Ok(()) } else { Err("kill -INT failed".into()) }
}

/// The line `   1234 total`; a process that made no call has no summary.
fn strace_count(text: &str) -> Option<u64> {
    if text.trim().is_empty() {
        return Some(0);
    }
    let total = text.lines().find_map(|line| line.strip_suffix(" total"))?;
    total.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_perf_and_strace_print() {
        assert_eq!(
            perf_count("# started\n\n97,,raw_syscalls:sys_enter,2556713,100.00,,\n"),
            Some(97)
        );
        assert_eq!(perf_count("<not counted>,,raw_syscalls:sys_enter,0,0.00,,\n"), Some(0));
        assert_eq!(perf_count("event syntax error"), None);
        assert_eq!(
            strace_count(
                "    calls syscall\n--------- ------\n      120 read\n--- ---\n      123 total\n"
            ),
            Some(123)
        );
        assert_eq!(strace_count(""), Some(0));
    }
}
