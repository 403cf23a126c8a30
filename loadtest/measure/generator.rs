//! The `burst` process: opened, told to go, asked for its report, and only then allowed to close
//! its connections, so that what is counted in between is requests and nothing else.

use std::error::Error;
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde_json::Value;

/// A generator whose connections are all open.
pub(crate) struct Generator {
    child: Child,
    /// Closing it lets the generator end.
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

/// What the generator says of its run.
pub(crate) struct Report {
    pub(crate) requests: u64,
    /// Whether it was permitted to run as SCHED_FIFO.
    pub(crate) fifo: bool,
}

impl Generator {
    /// Starts it with `arguments` (mode first) and waits until its connections are open.
    pub(crate) fn open(
        burst: &Path,
        target: SocketAddr,
        arguments: &str,
    ) -> Result<Generator, Box<dyn Error>> {
        let mut child = Command::new(burst)
            .args(arguments.split_whitespace())
            .args(["--target", &target.to_string(), "--wait", "--json"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| format!("{}: {error}", burst.display()))?;
        let input = child.stdin.take();
        let output = BufReader::new(child.stdout.take().expect("it was asked for a pipe"));
        let mut generator = Generator { child, input, output };
        match generator.read_line()?.as_str() {
            "ready\n" => Ok(generator),
            line => Err(format!("the generator did not get ready: {line:?}").into()),
        }
    }

    /// Makes the rounds. An answer that is wrong is an error here: a fast wrong server has no
    /// figure.
    pub(crate) fn run(&mut self) -> Result<Report, Box<dyn Error>> {
        self.input.as_mut().expect("open until dropped").write_all(b"go\n")?;
        let line = self.read_line()?;
        let report: Value = serde_json::from_str(&line)?;
        match (report["requests"].as_u64(), report["errors"].as_u64(), report["fifo"].as_bool()) {
            (Some(requests), Some(0), Some(fifo)) if requests > 0 => Ok(Report { requests, fifo }),
            _ => Err(format!("the generator reports: {line}").into()),
        }
    }

    fn read_line(&mut self) -> Result<String, Box<dyn Error>> {
        let mut line = String::new();
        self.output.read_line(&mut line)?;
        Ok(line)
    }
}

impl Drop for Generator {
    fn drop(&mut self) {
        // At the end of its input it closes and ends; its own time limit sees to it that it does.
        self.input = None;
        let _ = self.child.wait();
    }
}
