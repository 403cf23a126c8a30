//! What the tests of the measures stand on: a server that only listens, and a generator that says
//! what it is told to say.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

/// A server that runs, listens and does nothing.
pub(crate) struct Server {
    name: String,
    address: SocketAddr,
    process: Child,
}

/// A script in the place of `upring-load`.
pub(crate) struct Script {
    path: PathBuf,
}

pub(crate) fn server(name: &str) -> Server {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    // It is the standard input of a process that does not read it.
    let process = Command::new("sleep").arg("60").stdin(OwnedFd::from(listener)).spawn().unwrap();
    Server { name: name.to_owned(), address, process }
}

/// It gets ready, notes its arguments, reports, and ends with its input. `name` is the test's own.
pub(crate) fn generator(name: &str, report: &str) -> Script {
    let tell = format!("echo \"$@\" >>\"$0.runs\"\necho '{report}'");
    script(name, &format!("echo ready\nread -r go\n{tell}\ncat >/dev/null\n"))
}

/// The same, which reports something else where its arguments have `word` in them.
pub(crate) fn generator_that_differs(name: &str, report: &str, word: &str, other: &str) -> Script {
    let tell = format!("case \"$*\" in *\"{word}\"*) echo '{other}' ;; *) echo '{report}' ;; esac");
    script(name, &format!("echo ready\nread -r go\n{tell}\ncat >/dev/null\n"))
}

/// One that waits for nobody.
pub(crate) fn idle_generator(name: &str, report: &str) -> Script {
    script(name, &format!("echo '{report}'\n"))
}

/// The same, whose second report and all behind it tell of a mean and a slope of zero.
pub(crate) fn idle_generator_that_finds_less(name: &str, report: &str) -> Script {
    let less = report.replace(r#""mean":150,"slope":170"#, r#""mean":0,"slope":0"#);
    let first = format!("[ -e \"$0.runs\" ] || {{ echo '{report}'; touch \"$0.runs\"; exit; }}");
    script(name, &format!("{first}\necho '{less}'\n"))
}

fn script(name: &str, body: &str) -> Script {
    let path = std::env::temp_dir().join(format!("measure-test-{}-{name}", std::process::id()));
    fs::write(&path, format!("#!/bin/sh\n{body}")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
    Script { path }
}

/// A report as the generator writes it.
pub(crate) fn report(requests: u64, errors: u64) -> String {
    format!(
        r#"{{"requests":{requests},"errors":{errors},"rate":1000.0,"p50_us":10.0,"p99_us":30.0,"p999_us":90.0,"fifo":false}}"#
    )
}

impl Server {
    pub(crate) fn target(&self) -> String {
        format!("{}@{},{}", self.name, self.address(), self.process.id())
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.id()
    }

    pub(crate) fn address(&self) -> String {
        self.address.to_string()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

impl Script {
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The arguments of each run.
    pub(crate) fn runs(&self) -> Vec<String> {
        let text = fs::read_to_string(self.path.with_extension("runs")).unwrap();
        text.lines().map(str::to_owned).collect()
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
        let _ = fs::remove_file(self.path.with_extension("runs"));
    }
}
