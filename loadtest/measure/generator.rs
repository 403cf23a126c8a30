//! The `upring-load` process: opened, told to go, asked for its report, and only then allowed to
//! close its connections, so that what is measured in between is requests and nothing else.

use std::error::Error;
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde_json::Value;

use crate::{ending, remote_option};

/// A generator whose connections are all open.
pub(crate) struct Generator {
    child: Child,
    /// Closing it lets the generator end.
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

/// What the generator says of its run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Report {
    pub(crate) requests: u64,
    /// Requests a second.
    pub(crate) rate: f64,
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
    pub(crate) p999_us: f64,
    /// Whether it was permitted to run as SCHED_FIFO.
    pub(crate) fifo: bool,
}

impl Report {
    /// Nothing of a report that tells of an error, or of no request: a fast wrong server has no
    /// figure.
    fn of(line: &str) -> Option<Report> {
        let report: Value = serde_json::from_str(line).ok()?;
        let requests = report["requests"].as_u64().filter(|requests| *requests > 0)?;
        report["errors"].as_u64().filter(|errors| *errors == 0)?;
        Some(Report {
            requests,
            rate: report["rate"].as_f64()?,
            p50_us: report["p50_us"].as_f64()?,
            p99_us: report["p99_us"].as_f64()?,
            p999_us: report["p999_us"].as_f64()?,
            fifo: report["fifo"].as_bool()?,
        })
    }
}

impl Generator {
    /// Starts it with `arguments` (mode first) and waits until its connections are open.
    pub(crate) fn open(
        program: &Path,
        target: SocketAddr,
        arguments: &str,
    ) -> Result<Generator, Box<dyn Error>> {
        let mut command = Command::new(program);
        command
            .args(arguments.split_whitespace())
            .args(["--target", &target.to_string(), "--wait", "--json"])
            .args(remote_option(target))
            // A signal for this tool is not one for what it has started.
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut child = ending::start(&mut command)
            .map_err(|error| format!("{}: {error}", program.display()))?;
        let input = child.stdin.take();
        let output = BufReader::new(child.stdout.take().expect("it was asked for a pipe"));
        let mut generator = Generator { child, input, output };
        match generator.read_line()?.as_str() {
            "ready\n" => Ok(generator),
            line => Err(format!("the generator did not get ready: {line:?}").into()),
        }
    }

    /// Lets it make its requests. An answer that is wrong is an error here.
    pub(crate) fn run(&mut self) -> Result<Report, Box<dyn Error>> {
        self.input.as_mut().expect("open until dropped").write_all(b"go\n")?;
        let line = self.read_line()?;
        Report::of(&line).ok_or_else(|| format!("the generator reports: {}", line.trim()).into())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_with_an_error_or_without_a_request_is_none() {
        let report = |requests: u64, errors: u64| {
            Report::of(&format!(
                r#"{{"requests":{requests},"errors":{errors},"rate":20.5,"p50_us":1.5,"p99_us":2.0,"p999_us":3.0,"fifo":false,"more":[]}}"#
            ))
        };
        let right = Report {
            requests: 10,
            rate: 20.5,
            p50_us: 1.5,
            p99_us: 2.0,
            p999_us: 3.0,
            fifo: false,
        };
        assert_eq!(report(10, 0), Some(right));
        assert_eq!(report(10, 1), None);
        assert_eq!(report(0, 0), None);
        assert_eq!(Report::of(""), None);
    }
}
