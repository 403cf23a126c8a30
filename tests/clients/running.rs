//! Runs clients that others wrote. One that is not installed is skipped, aloud.

use std::ffi::OsStr;
use std::fmt::Debug;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use crate::serving::Serving;

pub(crate) const HOSTS: [&str; 2] = ["hosted", "native"];

/// Seconds that a client may take: many times what it does.
const SECONDS_MAX: &str = "240";

/// Runs a client to its end; `None`, said aloud, if it is not installed.
pub(crate) fn client(program: &str, arguments: &[&str]) -> Option<Output> {
    is_there("sh", &["-c", &format!("command -v {program}")], program).then(|| {
        let mut client = Command::new("timeout");
        client.args([SECONDS_MAX, program]).args(arguments).stdin(Stdio::null());
        output(&mut client)
    })
}

/// Whether a command succeeds; said aloud that `what` is missing if it does not.
pub(crate) fn is_there(program: &str, arguments: &[&str], what: &str) -> bool {
    let found = output_of(Command::new(program).args(arguments));
    let is_there = found.is_some_and(|found| found.status.success());
    if !is_there {
        eprintln!("SKIPPED, {what} is not installed");
    }
    is_there
}

/// Runs a script of `tests/clients`, which has to say that all is well.
pub(crate) fn script(program: &str, name: &str, arguments: &[impl AsRef<OsStr> + Debug]) {
    script_with(&[], program, name, arguments);
}

/// The same, with these variables in its environment.
pub(crate) fn script_with(
    environment: &[(&str, &str)],
    program: &str,
    name: &str,
    arguments: &[impl AsRef<OsStr> + Debug],
) {
    let path = root().join("tests/clients").join(name);
    let mut script = Command::new("timeout");
    script.args([SECONDS_MAX, program]).arg(path).args(arguments).stdin(Stdio::null());
    script.envs(environment.iter().copied());
    let output = output(&mut script);
    assert!(
        output.status.success() && output.stdout.ends_with(b"all is well\n"),
        "{program} {name} {arguments:?} ended with {}\n{}{}",
        output.status,
        text(&output),
        String::from_utf8_lossy(&output.stderr),
    );
}

pub(crate) fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Calls `test` with the address of a server on each host.
pub(crate) fn on_each_host(test: impl Fn(&str)) {
    for host in HOSTS {
        if let Some(server) = Serving::start(&["--workers", "1", "--host", host]) {
            test(&server.address().to_string());
        }
    }
}

fn output(command: &mut Command) -> Output {
    output_of(command).expect("timeout is part of coreutils")
}

/// In an environment in which loopback is reached without a proxy, scripts leave no compiled files
/// beside themselves, and Node finds what `.ci/run` has installed.
fn output_of(command: &mut Command) -> Option<Output> {
    let modules = std::env::var_os("NODE_PATH").unwrap_or_default();
    let modules = std::env::split_paths(&modules).filter(|path| !path.as_os_str().is_empty());
    let modules = modules.chain([root().join("target/clients/node_modules")]);
    command
        .envs([("NO_PROXY", "*"), ("no_proxy", "*"), ("PYTHONDONTWRITEBYTECODE", "1")])
        .env("NODE_PATH", std::env::join_paths(modules).expect("no colon is in a path of ours"))
        .output()
        .ok()
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}
