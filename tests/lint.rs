//! The linter: this server passes all of it, and servers with a fault each get the failure they
//! deserve.

#[path = "support/fixture.rs"]
mod fixture;
#[path = "support/loopback.rs"]
#[allow(dead_code)] // Shared with tests that use more of it.
mod loopback;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::thread;
use std::time::Duration;

use upring::Server;
use upring::lint::{self, LintError, Options, Report, Target};

fn options(address: SocketAddr, rows: &[&str]) -> Options {
    let target = Target {
        post_path: Some("/".into()),
        upgrade_path: Some("/ws".into()),
        timeout: Duration::from_millis(1000),
        ..Target::new(address)
    };
    let rows = rows.iter().map(|row| (*row).to_owned()).collect();
    Options { target, rows, rate: 0, is_remote_allowed: false }
}

fn lint(address: SocketAddr, rows: &[&str]) -> Report {
    lint::run(&options(address, rows), |_| {}).expect("it can be sent")
}

/// The rows of `report` that have this verdict.
fn rows(report: &Report, word: &str) -> Vec<&'static str> {
    let mut rows: Vec<&str> = report
        .results
        .iter()
        .filter(|result| result.verdict.word() == word)
        .map(|result| result.vector.row)
        .collect();
    rows.dedup();
    rows
}

#[test]
fn this_server_passes_every_vector() {
    let routes = fixture::routes(&fixture::Routed::default());
    let mut server = Server::new(loopback::config());
    for (pattern, resource) in routes {
        server = server.route(pattern, resource);
    }
    let Some(running) = loopback::start(server) else { return };
    let mut all = options(running.addresses()[0], &[]);
    // Its staged close waits as long for the end of the client as the linter for its own.
    all.target.timeout = Duration::from_secs(4);
    let report = lint::run(&all, |_| {}).expect("it can be sent");
    let bad: Vec<String> = report
        .results
        .iter()
        .filter(|result| result.verdict.word() != "pass")
        .map(lint::Result::text)
        .collect();
    assert!(bad.is_empty(), "{}", bad.join("\n"));
    assert_eq!(report.server, "upring");
    running.stop().expect("it stops");
}

/// What a request looks like to a server that is none too strict.
struct Seen<'a> {
    head: &'a str,
    /// Bytes of head and content.
    length: usize,
}

/// A server that answers each request it believes to see as `answer` says: bytes, and whether the
/// connection goes on.
fn faulty(answer: impl Fn(&Seen<'_>) -> (String, bool) + Send + Sync + 'static) -> SocketAddr {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port is free");
    let address = listener.local_addr().expect("it is bound");
    // Ends with the test's process.
    thread::spawn(move || {
        thread::scope(|scope| {
            for stream in listener.incoming().flatten() {
                scope.spawn(|| converse(stream, &answer));
            }
        });
    });
    address
}

fn converse(mut stream: TcpStream, answer: &dyn Fn(&Seen<'_>) -> (String, bool)) {
    let _ = stream.set_read_timeout(Some(Duration::from_secs(3)));
    let (mut bytes, mut piece) = (Vec::new(), [0; 4096]);
    loop {
        while let Some(seen) = see(&bytes) {
            let (text, goes_on) = answer(&seen);
            let length = seen.length;
            if stream.write_all(text.as_bytes()).is_err() || !goes_on {
                let _ = stream.shutdown(std::net::Shutdown::Write);
                let _ = std::io::copy(&mut stream, &mut std::io::sink());
                return;
            }
            bytes.drain(..length);
        }
        match stream.read(&mut piece) {
            Ok(count) if count > 0 => bytes.extend_from_slice(&piece[..count]),
            _ => return,
        }
    }
}

/// The first request: content by Content-Length alone.
fn see(bytes: &[u8]) -> Option<Seen<'_>> {
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
    let head = std::str::from_utf8(&bytes[..end]).ok()?;
    let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: "));
    let length = end + length.and_then(|length| length.parse::<usize>().ok()).unwrap_or(0);
    (bytes.len() >= length).then_some(Seen { head, length })
}

fn ok() -> String {
    "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok".to_owned()
}

fn refused() -> String {
    "HTTP/1.1 400 Bad\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".to_owned()
}

fn is_last(seen: &Seen<'_>) -> bool {
    seen.head.contains("Connection: close")
}

#[test]
fn a_server_that_takes_both_framings_fails() {
    let both = faulty(|seen| (ok(), !is_last(seen)));
    assert_eq!(rows(&lint(both, &["U-49"]), "FAIL"), ["U-49"]);
    let careful = faulty(|seen| {
        let is_bad = seen.head.contains("Content-Length") && seen.head.contains("Transfer-");
        if is_bad { (refused(), false) } else { (ok(), !is_last(seen)) }
    });
    assert_eq!(rows(&lint(careful, &["U-49"]), "pass"), ["U-49"]);
    // A refusal alone is not enough: what stands behind must not be answered.
    let stubborn = faulty(|seen| {
        let is_bad = seen.head.contains("Content-Length") && seen.head.contains("Transfer-");
        if is_bad { (refused().replace("close", "x"), true) } else { (ok(), !is_last(seen)) }
    });
    assert_eq!(rows(&lint(stubborn, &["U-49"]), "FAIL"), ["U-49"]);
    // One that answers and closes is within the standard, if not as strict as it could be.
    let lenient = faulty(|seen| {
        let is_bad = seen.head.contains("Content-Length") && seen.head.contains("Transfer-");
        (ok(), !is_bad && !is_last(seen))
    });
    let report = lint(lenient, &["U-49"]);
    assert_eq!((report.count("FAIL"), report.count("differs"), report.count("pass")), (0, 2, 2));
}

#[test]
fn a_server_that_switches_whoever_asks_fails_where_nobody_may() {
    let eager = faulty(|seen| {
        if !seen.head.contains("Upgrade: websocket") {
            return (ok(), !is_last(seen));
        }
        let text = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n\
                    Upgrade: websocket\r\n\
                    Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
        (text.to_owned(), true)
    });
    let report = lint(eager, &["U-01", "U-02", "U-03", "U-05", "U-12", "U-29", "U-72", "U-73"]);
    assert_eq!(rows(&report, "FAIL"), ["U-02", "U-12", "U-72", "U-73", "U-29"]);
    assert_eq!(rows(&report, "differs"), ["U-03"], "the standard leaves it open");
    assert_eq!(rows(&report, "pass"), ["U-05", "U-01"]);
    // Whoever computes the key wrongly fails where it may.
    let wrong = faulty(|seen| {
        let text = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n\
                    Upgrade: websocket\r\nSec-WebSocket-Accept: nonsense\r\n\r\n";
        if seen.head.contains("Upgrade") { (text.to_owned(), true) } else { (ok(), false) }
    });
    assert_eq!(rows(&lint(wrong, &["U-01"]), "FAIL"), ["U-01"]);
}

#[test]
fn a_server_that_answers_nothing_or_no_http_or_drops_unknown_tokens_fails() {
    let silent = faulty(|seen| {
        let is_offer = seen.head.contains("Upgrade: ");
        if is_offer { (String::new(), false) } else { (ok(), !is_last(seen)) }
    });
    assert_eq!(rows(&lint(silent, &["U-10"]), "FAIL"), ["U-10"]);
    let garbled = faulty(|seen| {
        let is_offer = seen.head.contains("Upgrade: ");
        if is_offer { ("220 mail ready\r\n".into(), false) } else { (ok(), !is_last(seen)) }
    });
    let report = lint(garbled, &["U-10"]);
    assert!(report.results.iter().all(|result| result.verdict.why().contains("not HTTP")));
}

#[test]
fn a_server_that_goes_on_behind_a_close_fails() {
    let careless = faulty(|_| (ok(), true));
    let mut options = options(careless, &["U-69"]);
    options.target.timeout = Duration::from_millis(300);
    let report = lint::run(&options, |_| {}).expect("it can be sent");
    assert_eq!(rows(&report, "FAIL"), ["U-69"]);
}

#[test]
fn nothing_is_sent_where_it_must_not_go_or_nobody_answers() {
    let elsewhere = options("192.0.2.1:80".parse().expect("an address"), &[]);
    let error = lint::run(&elsewhere, |_| panic!("nothing is tried")).expect_err("not allowed");
    assert!(matches!(error, LintError::Remote { .. }), "{error}");
    assert!(error.to_string().contains("--remote"), "{error}");
    let closed = TcpListener::bind(("127.0.0.1", 0)).and_then(|at| at.local_addr());
    let error = lint::run(&options(closed.expect("a port"), &[]), |_| {}).expect_err("closed");
    assert!(matches!(error, LintError::Unanswered { .. }), "{error}");
    let broken = faulty(|_| (refused(), false));
    let error = lint::run(&options(broken, &[]), |_| {}).expect_err("it refuses everything");
    assert!(error.to_string().contains("--path"), "{error}");
    let error = lint::run(&options(broken, &["U-999"]), |_| {}).expect_err("no such row");
    assert!(matches!(error, LintError::NoRows { .. }), "{error}");
}

#[test]
fn every_vector_is_of_a_row_that_the_conformance_tests_hold() {
    let mut known = String::new();
    for file in std::fs::read_dir("tests/conformance").expect("it is there") {
        let path = file.expect("it can be read").path();
        if path.extension().is_some_and(|extension| extension == "txt") {
            known += &std::fs::read_to_string(path).expect("it is text");
        }
    }
    // Shown by the segmentations of all rows, and by the rows of WebSocket, which are to come.
    let elsewhere = ["U-34", "U-72", "U-73"];
    for vector in lint::vectors() {
        let is_known = known.contains(&format!("row {} ", vector.row));
        assert!(is_known || elsewhere.contains(&vector.row), "{}", vector.row);
    }
}

#[test]
fn the_command_says_by_its_exit_status_and_its_document_what_it_found() {
    let upring = |arguments: &[&str]| {
        let output =
            Command::new(env!("CARGO_BIN_EXE_upring")).arg("lint").args(arguments).output();
        let output = output.expect("it was built");
        (output.status.code(), String::from_utf8(output.stdout).expect("it says text"))
    };
    let both = faulty(|seen| (ok(), !is_last(seen))).to_string();
    let (status, text) = upring(&[&both, "--row", "U-49", "--timeout", "500"]);
    assert_eq!(status, Some(1));
    assert!(text.contains("FAIL    U-49") && text.contains("Transfer-Encoding"), "{text}");
    let (status, text) = upring(&[&both, "--row", "U-4*", "--timeout", "500", "--json"]);
    assert_eq!(status, Some(1));
    let document: serde_json::Value = serde_json::from_str(&text).expect("one document");
    assert_eq!(document["totals"]["fail"], 2);
    for result in document["results"].as_array().expect("a list") {
        for name in ["row", "level", "class", "source", "title", "verdict", "why", "sent"] {
            assert!(result[name].is_string(), "{name}: {result}");
        }
        assert!(result["milliseconds"].is_u64() && result["ended"].is_boolean(), "{result}");
    }
    assert_eq!(upring(&[&both, "--row", "U-69", "--timeout", "500"]).0, Some(0));
    assert_eq!(upring(&["192.0.2.1:80"]).0, Some(64));
    assert_eq!(upring(&["nowhere"]).0, Some(64));
    let (status, text) = upring(&["--list"]);
    assert_eq!((status, text.lines().count()), (Some(0), lint::vectors().len()));
}
