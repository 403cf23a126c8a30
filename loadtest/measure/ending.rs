//! The end by a signal: what this tool started ends before it does, servers with their workers, the
//! generator, and whoever counts. Set up by `main.rs`.

use std::error::Error;
use std::io::{self, Write};
use std::process::{Child, Command};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;

use rustix::process::{Pid, Signal, kill_process};
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::tree;

/// Held by who starts a process, and from the signal to the end.
static STARTING: Mutex<()> = Mutex::new(());

/// While there is one, signals end what was started first. When it goes, and a signal has come, it
/// waits for that end: who finds its servers gone might else be sooner, and leave the others.
#[must_use]
pub(crate) struct Ending;

impl Drop for Ending {
    fn drop(&mut self) {
        drop(starting());
    }
}

/// From now on the first of SIGHUP, SIGINT, SIGQUIT and SIGTERM ends all descendants of this
/// process and then the process itself, with the exit status a shell would give it.
pub(crate) fn end_with_signals() -> Result<Ending, Box<dyn Error>> {
    let mut signals = Signals::new([SIGHUP, SIGINT, SIGQUIT, SIGTERM])?;
    thread::Builder::new().name("ending".to_owned()).spawn(move || {
        if let Some(signal) = signals.forever().next() {
            let _nothing_is_started = starting();
            if let Err(error) = end_descendants() {
                // With a terminal that has closed there is nobody to tell.
                let _ = writeln!(io::stderr(), "measure: what was started may still run: {error}");
            }
            std::process::exit(128 + signal);
        }
    })?;
    Ok(Ending)
}

/// Starts a process that a signal is to end, too. Once one has come, nothing is started any more.
///
/// # Errors
/// It cannot be started.
pub(crate) fn start(command: &mut Command) -> io::Result<Child> {
    let _ending_waits = starting();
    command.spawn()
}

fn starting() -> MutexGuard<'static, ()> {
    STARTING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Ends all descendants of this process. Who is stopped starts nobody: so they are all known when
/// no more are found.
fn end_descendants() -> io::Result<()> {
    let mut stopped: Vec<u32> = Vec::new();
    loop {
        let mut found = tree::processes(std::process::id())?.split_off(1);
        found.retain(|pid| !stopped.contains(pid));
        if found.is_empty() {
            break;
        }
        send(Signal::STOP, &found);
        stopped.append(&mut found);
    }
    send(Signal::KILL, &stopped);
    Ok(())
}

/// Ends these processes, none of which sees another end: it would say so. A worker outlives its
/// master if that has no time to say so, and belongs to nobody then: so all of a tree are to be
/// known before the first one ends.
pub(crate) fn end(processes: &[u32]) {
    send(Signal::STOP, processes);
    send(Signal::KILL, processes);
}

fn send(signal: Signal, processes: &[u32]) {
    for pid in processes {
        if let Some(pid) = Pid::from_raw(pid.cast_signed()) {
            // It may have ended by itself; there is nobody left to tell.
            let _ = kill_process(pid, signal);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::unix::process::CommandExt;
    use std::process::Stdio;
    use std::time::{Duration, Instant};

    use super::*;

    /// Long enough to be seen to run, and no longer if nobody ends it.
    const CHILD_SECONDS: &str = "60";

    #[test]
    fn who_is_ended_does_not_say_that_another_has_ended() {
        for _ in 0..3 {
            let mut one = Command::new("sleep").arg("60").stdout(Stdio::piped()).spawn().unwrap();
            let held = one.stdout.take().unwrap();
            let mut other = Command::new("sh")
                .args(["-c", "echo ready; read -r nothing; echo it has ended"])
                .stdin(held)
                .stdout(Stdio::piped())
                .spawn()
                .unwrap();
            let mut output = other.stdout.take().unwrap();
            let mut said = [0; 6];
            output.read_exact(&mut said).unwrap();
            // Between the two there is time to notice.
            let mut all = vec![one.id(); 50_000];
            all.push(other.id());
            end(&all);
            let mut said = String::new();
            output.read_to_string(&mut said).unwrap();
            assert_eq!(said, "");
            one.wait().unwrap();
            other.wait().unwrap();
        }
    }
    #[test]
    #[ignore = "the process that the next test ends"]
    fn a_process_that_has_a_child_and_waits() {
        let _ending = end_with_signals().unwrap();
        let mut child = Command::new("sh");
        child.args(["-c", "echo ready; sleep \"$0\"; echo it went on", CHILD_SECONDS]);
        start(child.process_group(0)).unwrap().wait().unwrap();
    }

    #[test]
    fn a_signal_ends_what_was_started_first() {
        const THIS: &str = "ending::tests::a_process_that_has_a_child_and_waits";
        // The last two come of a terminal: it closes, and somebody presses a key.
        for signal in [Signal::INT, Signal::TERM, Signal::HUP, Signal::QUIT] {
            let mut process = Command::new(std::env::current_exe().unwrap())
                .args(["--exact", THIS, "--ignored", "--nocapture"])
                .stdout(Stdio::piped())
                .spawn()
                .unwrap();
            let mut output = process.stdout.take().unwrap();
            let mut said = Vec::new();
            while !said.ends_with(b"ready\n") {
                let mut byte = [0];
                output.read_exact(&mut byte).unwrap();
                said.push(byte[0]);
            }
            let began = Instant::now();
            kill_process(Pid::from_child(&process), signal).unwrap();
            assert_eq!(process.wait().unwrap().code(), Some(128 + signal.as_raw()), "{signal:?}");
            // The child has the same output, which ends when the last of both has.
            let mut said = String::new();
            output.read_to_string(&mut said).unwrap();
            assert!(!said.contains("it went on"), "{signal:?}: {said}");
            assert!(began.elapsed() < Duration::from_secs(30), "{signal:?}");
        }
    }
}
