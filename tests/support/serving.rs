//! The built binary as a process of its own, on a port the kernel chooses.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};

/// A server that ends with the value.
pub(crate) struct Serving {
    process: Child,
    address: SocketAddr,
}

/// The exit status of a server that cannot serve here (sysexits.h, `EX_UNAVAILABLE`).
const UNAVAILABLE: i32 = 69;

impl Serving {
    /// Starts it; `None`, said aloud, if it cannot serve here.
    pub(crate) fn start(arguments: &[&str]) -> Option<Serving> {
        let mut process = Command::new(env!("CARGO_BIN_EXE_upring"))
            .args(["--listen", "127.0.0.1:0"])
            .args(arguments)
            // With huge pages memory comes two megabytes at a time: 210 bytes for each of ten
            // thousand connections.
            .env("MIMALLOC_ALLOW_THP", "0")
            .stdout(Stdio::piped())
            .spawn()
            .expect("the binary is built with its tests");
        let output = process.stdout.take().expect("it is piped");
        let mut lines = BufReader::new(output).lines().map_while(Result::ok);
        let line = lines.find(|line| line.contains("://")).unwrap_or_default();
        match line.split('/').nth(2).and_then(|address| address.parse().ok()) {
            Some(address) => Some(Serving { process, address }),
            None => {
                let status = process.wait().expect("it was started");
                assert_eq!(status.code(), Some(UNAVAILABLE), "it says that it cannot serve here");
                eprintln!("SKIPPED, the server cannot start here");
                None
            }
        }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.id()
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
