//! The end by a signal: what this tool started ends before it does, servers with their workers, the
//! generator, and whoever counts. Set up by `main.rs`.

use std::error::Error;
use std::thread;

use rustix::process::{Pid, Signal, kill_process};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::tree;

/// From now on the first of SIGHUP, SIGINT and SIGTERM ends all descendants of this process and
/// then the process itself, with the exit status a shell would give it.
pub(crate) fn end_with_signals() -> Result<(), Box<dyn Error>> {
    let mut signals = Signals::new([SIGHUP, SIGINT, SIGTERM])?;
    thread::Builder::new().name("ending".to_owned()).spawn(move || {
        if let Some(signal) = signals.forever().next() {
            match tree::processes(std::process::id()) {
                Ok(own) => end(&own[1..]),
                Err(error) => eprintln!("measure: what was started may still run: {error}"),
            }
            std::process::exit(128 + signal);
        }
    })?;
    Ok(())
}

/// Ends these processes, none of which sees another end: it would say so. A worker outlives its master if that has no time to say so, and belongs to
/// nobody then: so all of a tree are to be known before the first one ends.
pub(crate) fn end(processes: &[u32]) {
    for signal in [Signal::STOP, Signal::KILL] {
        for pid in processes {
            if let Some(pid) = Pid::from_raw(pid.cast_signed()) {
                // It may have ended by itself; there is nobody left to tell.
                let _ = kill_process(pid, signal);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::process::{Command, Stdio};

    use super::*;

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
}
