//! The linter: this server passes all of it, servers with a fault each get the failures they deserve
//! and no other, and servers that are merely different get none.

#[path = "support/loopback.rs"]
#[allow(dead_code)] // Shared with tests that use more of it.
mod loopback;
#[path = "../loadtest/lint/peers/upring.rs"]
#[allow(dead_code)] // It has a main of its own.
mod peer;
#[path = "support/stranger/mod.rs"]
mod stranger;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::process::{Command, Output};
use std::thread;
use std::time::Duration;

use stranger::{Quirk, Stranger};
use upring::lint::{self, LintError, Options, Report, Target, Upgrade, Verdict};

fn upgrade(path: &str, token: &str) -> Upgrade {
    Upgrade { path: path.into(), token: token.into() }
}

/// A stranger has a WebSocket at `/ws`, and takes content at its plain path.
fn options(address: SocketAddr, rows: &[&str]) -> Options {
    let target = Target {
        upgrades: vec![upgrade("/ws", "websocket")],
        timeout: Duration::from_millis(500),
        ..Target::new(address)
    };
    let rows = rows.iter().map(|row| (*row).to_owned()).collect();
    Options { target, rows, rate: 0, is_remote_allowed: false }
}

fn lint(quirks: &[Quirk], rows: &[&str]) -> Report {
    let stranger = Stranger::with(quirks);
    lint::run(&options(stranger.address, rows), |_| {}).expect("it can be sent")
}

/// The rows of `report` that have this verdict.
fn rows(report: &Report, word: &str) -> Vec<&'static str> {
    let results = report.results.iter().filter(|result| result.verdict.word() == word);
    let mut rows: Vec<&str> = results.map(|result| result.vector.row).collect();
    rows.dedup();
    rows
}

/// What is not a pass, for people.
fn told(report: &Report) -> String {
    let results = report.results.iter().filter(|result| result.verdict != Verdict::Pass);
    results.map(lint::Result::text).collect()
}

#[test]
fn this_server_passes_every_vector_and_none_is_skipped() {
    let Some(running) = loopback::start(peer::served(loopback::config())) else { return };
    let mut all = options(running.addresses()[0], &[]);
    all.target.upgrades.push(upgrade("/echo", "echo"));
    all.target.timeout = Duration::from_millis(1000);
    let report = lint::run(&all, |_| {}).expect("it can be sent");
    assert_eq!(report.count("pass"), report.results.len(), "{}", told(&report));
    assert_eq!((report.server.as_str(), report.death.as_ref()), ("upring", None));
    running.stop().expect("it stops");
}

#[test]
fn a_stranger_that_does_what_standards_demand_fails_nothing() {
    let differences = [
        &[][..],
        &[Quirk::ClosesAlways],
        &[Quirk::Old],
        &[Quirk::Proxy],
        &[Quirk::Tls2817],
        &[Quirk::Immediate],
        &[Quirk::Boundless],
        &[Quirk::SkipsBadNames],
        &[Quirk::TakesLf],
        &[Quirk::CodingWins],
        &[Quirk::EqualLengths],
        &[Quirk::RefusesTokens],
        &[Quirk::NoContent],
        &[Quirk::NoChunks],
        &[Quirk::NoEcho],
        &[Quirk::ShortOfBreath],
        &[Quirk::Curt],
        &[Quirk::ManyFields],
        &[Quirk::ClosesAlways, Quirk::NoContent, Quirk::NoEcho],
    ];
    thread::scope(|scope| {
        for quirks in differences {
            scope.spawn(move || {
                let report = lint(quirks, &[]);
                let (fails, death) = (rows(&report, "FAIL"), &report.death);
                assert!(fails.is_empty() && death.is_none(), "{quirks:?}: {}", told(&report));
                assert!(report.count("pass") > 60, "{quirks:?}: {}", report.totals());
            });
        }
    });
}

#[test]
fn each_fault_fails_its_rows_and_no_other() {
    let faults: &[(Quirk, &[&str], &[&str])] = &[
        (Quirk::FiveHundred, &["U-4*", "U-6*"], &["U-62", "U-66"]),
        (Quirk::Silent, &["U-52", "U-59", "U-62"], &["U-52", "U-59", "U-62"]),
        (Quirk::Host404, &["U-6*"], &["U-62"]),
        (Quirk::Stubborn, &["U-52", "U-53"], &["U-52", "U-53"]),
        (Quirk::SpaceBeforeColon, &["U-5*", "U-6*"], &["U-59"]),
        (Quirk::LeadingSpace, &["U-5*", "U-6*"], &["U-60"]),
        (Quirk::FoldsAreFields, &["U-5*", "U-6*"], &["U-60"]),
        (Quirk::CrEndsFields, &["U-5*", "U-6*"], &["U-61"]),
        (Quirk::BothFramings, &["U-49", "U-5*"], &["U-49"]),
        (Quirk::LengthWins, &["U-49", "U-5*"], &["U-49"]),
        (Quirk::Overflows, &["U-5*"], &["U-52", "U-54"]),
        (Quirk::TakesHalf, &["U-5*"], &["U-57"]),
        (Quirk::LeavesContent, &["U-5*"], &["U-58"]),
        (Quirk::GoesOn, &["U-69", "U-34"], &["U-69"]),
        (Quirk::HeadContent, &["U-4*"], &["U-45"]),
        (Quirk::LateContinue, &["U-3*"], &["U-30"]),
        (Quirk::OldContinue, &["U-0*"], &["U-02"]),
        (Quirk::NoAllow, &["U-6*"], &["U-65"]),
        (Quirk::Reorders, &["U-6*"], &["U-69"]),
        (Quirk::AnyPort, &["U-10*"], &["U-105"]),
        (Quirk::CarelessProxy, &["U-10*"], &["U-104"]),
        (Quirk::SwitchesOld, &["U-0*", "U-7*"], &["U-74", "U-02"]),
        (Quirk::BareUpgradeRequired, &["U-4*", "U-7*"], &["U-73", "U-44", "U-45"]),
        (Quirk::NoVersion, &["U-7*"], &["U-73"]),
        (Quirk::HandshakeOk, &["U-7*"], &["U-72", "U-73"]),
        (Quirk::AnyKey, &["U-7*"], &["U-72"]),
        (Quirk::WrongAccept, &["U-7*"], &["U-71"]),
        (Quirk::Unasked, &["U-7*", "U-85"], &["U-76", "U-77", "U-85"]),
        (Quirk::AnyOffer, &["U-7*", "U-85", "U-86"], &["U-85", "U-86"]),
        (Quirk::TakesUnmasked, &["U-7*", "U-8*"], &["U-78"]),
        (Quirk::Mute, &["U-80", "U-81"], &["U-80", "U-81"]),
        (Quirk::EchoesCodes, &["U-8*"], &["U-83"]),
        (Quirk::IgnoresClose, &["U-83"], &["U-83"]),
        (Quirk::AnyText, &["U-8*"], &["U-82"]),
        (Quirk::AnyOpcode, &["U-79"], &["U-79"]),
        (Quirk::Masks, &["U-78", "U-80"], &["U-78", "U-80"]),
    ];
    let wrong: Vec<String> = thread::scope(|scope| {
        let runs: Vec<_> = faults
            .iter()
            .map(|(quirk, sent, expected)| scope.spawn(move || misjudged(*quirk, sent, expected)))
            .collect();
        runs.into_iter().filter_map(|run| run.join().expect("it ends")).collect()
    });
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// What is told of a fault whose failures are not those expected.
fn misjudged(quirk: Quirk, sent: &[&str], expected: &[&str]) -> Option<String> {
    let stranger = Stranger::with(&[quirk]);
    let mut options = options(stranger.address, sent);
    options.target.timeout = Duration::from_millis(400);
    let report = lint::run(&options, |_| {}).expect("it can be sent");
    let fails = rows(&report, "FAIL");
    let results = report.results.iter().filter(|result| result.verdict.word() == "FAIL");
    let texts: String = results.map(lint::Result::text).collect();
    let death = report.death.unwrap_or_default();
    (fails != expected).then(|| format!("{quirk:?}: {fails:?}, not {expected:?}\n{texts}{death}"))
}

#[test]
fn every_input_of_a_smuggling_row_fails_for_itself() {
    // One vector each for the field of TE and of CL, and for any other.
    assert_eq!(lint(&[Quirk::SpaceBeforeColon], &["U-59"]).count("FAIL"), 3);
    let report = lint(&[Quirk::LeadingSpace], &["U-60"]);
    assert_eq!((report.count("FAIL"), rows(&report, "FAIL")), (1, vec!["U-60"]));
    let report = lint(&[Quirk::Silent], &["U-62"]);
    assert!(report.results[0].verdict.why().contains("without the 400"), "{}", told(&report));
}

#[test]
fn where_a_close_hides_what_a_row_is_about_it_is_unclear_and_no_pass() {
    let report = lint(&[Quirk::ClosesAlways], &["U-10", "U-11", "U-54", "U-56", "U-69"]);
    assert!(rows(&report, "unclear").contains(&"U-56"), "{}", told(&report));
    for result in &report.results {
        if result.verdict.word() == "unclear" {
            assert!(result.verdict.why().contains("RFC 9112 §9.3"), "{}", result.text());
        }
    }
}

#[test]
fn a_target_that_dies_ends_the_run_with_the_vector_named() {
    let report = lint(&[Quirk::DiesOfFaults], &["U-49", "U-50", "U-62", "U-69"]);
    let death = report.death.expect("it died");
    assert!(death.contains("at U-49") && death.contains("refused"), "{death}");
    assert_eq!(report.results.len(), 1, "nothing is sent to the dead");
    assert!(matches!(report.results[0].verdict, Verdict::Died(_)));
    // What stands before it may live on.
    let report = lint(&[Quirk::LosesItsBackend], &["U-49", "U-50", "U-62", "U-69"]);
    let death = report.death.expect("it died");
    assert!(death.contains("answered with 503, and was with 200"), "{death}");
}

#[test]
fn what_a_target_does_not_do_is_skipped_aloud() {
    let report = lint(&[Quirk::NoContent], &["U-49", "U-52", "U-54"]);
    assert_eq!(report.count("skip"), report.results.len());
    for result in &report.results {
        let why = result.verdict.why();
        assert!(
            why.contains("POST / is answered with 405") && why.contains("--post-path"),
            "{why}"
        );
    }
    let report = lint(&[Quirk::NoChunks], &["U-54"]);
    assert_eq!((report.count("skip"), report.count("FAIL")), (report.results.len() - 1, 0));
    assert!(told(&report).contains("in chunks is answered with 411"), "{}", told(&report));
    let report = lint(&[Quirk::NoEcho], &["U-78", "U-80", "U-81", "U-83"]);
    assert!(report.count("skip") >= 3 && report.count("pass") > 8, "{}", told(&report));
    assert!(told(&report).contains("does not send messages back"), "{}", told(&report));
    // A path that was named has to be right.
    let stranger = Stranger::with(&[]);
    let mut options = options(stranger.address, &["U-49"]);
    options.target.post_path = Some("/nowhere".into());
    let error = lint::run(&options, |_| {}).expect_err("nothing takes content there");
    assert!(matches!(error, LintError::Unposted { .. }), "{error}");
}

#[test]
fn connect_names_a_place_that_can_be_connected_to() {
    let report = lint(&[], &["U-104"]);
    let sent = String::from_utf8_lossy(&report.results[0].exchange.sent).into_owned();
    let line = format!("CONNECT {} HTTP/1.1\r\n", report.address);
    assert!(sent.starts_with(&line), "{sent}");
}

/// Something that listens and is no server: what it says to each connection.
fn listening(says: &'static [u8]) -> SocketAddr {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port is free");
    let address = listener.local_addr().expect("it is bound");
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(says);
        }
    });
    address
}

#[test]
fn what_is_no_server_of_http_is_told_as_what_it_is() {
    for (says, told) in [
        (&b"SSH-2.0-OpenSSH_9\r\n"[..], "not HTTP"),
        (b"\x15\x03\x03\0\x02\x02\x46", "TLS"),
        (b"", "ended"),
        (b"HTTP/1.1 401 No\r\nContent-Length: 0\r\n\r\n", "status 401; --path"),
    ] {
        let error = lint::run(&options(listening(says), &[]), |_| {}).expect_err("no server");
        assert!(matches!(error, LintError::Unanswered { .. }), "{error}");
        assert!(error.to_string().contains(told), "{error}");
    }
    let closed = TcpListener::bind(("127.0.0.1", 0)).and_then(|at| at.local_addr());
    let error = lint::run(&options(closed.expect("a port"), &[]), |_| {}).expect_err("closed");
    assert!(error.to_string().contains("refused"), "{error}");
    let huge = listening(b"HTTP/1.1 200 S\r\nContent-Length: 9000000000\r\n\r\n");
    let error = lint::run(&options(huge, &[]), |_| {}).expect_err("too much");
    assert!(error.to_string().contains("9000000000 bytes; --path"), "{error}");
    let report = lint(&[Quirk::LargePage], &["U-69", "U-62"]);
    assert!(report.count("FAIL") == 0 && report.count("pass") > 10, "{}", told(&report));
}

#[test]
fn nothing_is_sent_where_it_must_not_go_and_every_address_is_tried() {
    let elsewhere = options("192.0.2.1:80".parse().expect("an address"), &[]);
    let error = lint::run(&elsewhere, |_| panic!("nothing is tried")).expect_err("not allowed");
    assert!(matches!(error, LintError::Remote { .. }), "{error}");
    assert!(error.to_string().contains("--remote"), "{error}");
    // A name has several addresses: nobody listens at the first.
    let closed = TcpListener::bind(("127.0.0.1", 0)).and_then(|at| at.local_addr());
    let stranger = Stranger::with(&[]);
    let mut both = options(stranger.address, &["U-62"]);
    both.target.addresses.insert(0, closed.expect("a port"));
    let report = lint::run(&both, |_| {}).expect("the second answers");
    assert_eq!(report.address, stranger.address);
    both.target.addresses.push("192.0.2.1:80".parse().expect("an address"));
    let error = lint::run(&both, |_| {}).expect_err("one of them is elsewhere");
    assert!(matches!(error, LintError::Remote { .. }), "{error}");
    let error = lint::run(&options(stranger.address, &["U-69", "U-999"]), |_| {});
    let error = error.expect_err("no such row");
    assert!(matches!(&error, LintError::NoRow { row } if row == "U-999"), "{error}");
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
    for vector in lint::vectors() {
        // Shown by the segmentations of all rows.
        let is_known = known.contains(&format!("row {} ", vector.row)) || vector.row == "U-34";
        assert!(is_known, "{}", vector.row);
    }
}

fn upring(arguments: &[&str]) -> (Option<i32>, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_upring")).arg("lint").args(arguments).output();
    let Output { status, stdout, stderr } = output.expect("it was built");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("it says text");
    (status.code(), text(stdout), text(stderr))
}

#[test]
fn the_command_says_by_its_exit_status_and_its_document_what_it_found() {
    let faulty = Stranger::with(&[Quirk::BothFramings]).address.to_string();
    let (status, text, _) = upring(&[&faulty, "--row", "U-49", "--timeout", "500"]);
    assert_eq!(status, Some(1));
    let line = text.lines().find(|line| line.starts_with("FAIL    U-49")).expect("a failure");
    for part in ["RFC 9112 §6.1", "smuggling", "Transfer-Encoding", "got 200, 200"] {
        assert!(line.contains(part), "{line}");
    }
    let (status, text, _) = upring(&[&faulty, "--row", "U-4*", "--timeout", "500", "--json"]);
    assert_eq!(status, Some(1));
    let document: serde_json::Value = serde_json::from_str(&text).expect("one document");
    assert_eq!(document["totals"]["fail"], 3);
    for result in document["results"].as_array().expect("a list") {
        for name in [
            "row", "level", "class", "source", "title", "verdict", "why", "sent", "received", "got",
        ] {
            assert!(result[name].is_string(), "{name}: {result}");
        }
        assert!(result["milliseconds"].is_u64() && result["ended"].is_boolean(), "{result}");
    }
    let (status, text, _) = upring(&[&faulty, "--row", "U-69", "--timeout", "500"]);
    assert_eq!(status, Some(0));
    // A pass shows what was sent, what came back, and what it is about, too.
    let line = text.lines().find(|line| line.starts_with("pass    U-69")).expect("a pass");
    for part in ["RFC 9112 §9.6", "persistence", "sent \"GET / HTTP/1.1\\r\\n", "got 200"] {
        assert!(line.contains(part), "{line}");
    }
    let dying = Stranger::with(&[Quirk::DiesOfFaults]).address.to_string();
    let (status, _, error) = upring(&[&dying, "--row", "U-62", "--timeout", "500"]);
    assert_eq!(status, Some(70));
    assert!(error.contains("died at U-62"), "{error}");
    let poor = Stranger::with(&[Quirk::NoContent]).address.to_string();
    let (status, _, error) = upring(&[&poor, "--row", "U-49"]);
    assert_eq!(status, Some(69), "{error}");
    assert!(error.contains("skipped") && error.contains("--post-path"), "{error}");
    assert_eq!(error.lines().count(), 1, "each reason is told once: {error}");
    assert_eq!(upring(&["192.0.2.1:80"]).0, Some(64));
    assert_eq!(upring(&["nowhere"]).0, Some(64));
    assert_eq!(upring(&[&faulty, "--row", "U-999"]).0, Some(64));
    assert_eq!(upring(&[]).0, Some(2));
    let (status, text, _) = upring(&["--list"]);
    assert_eq!((status, text.lines().count()), (Some(0), lint::vectors().len()));
    let line = text.lines().find(|line| line.starts_with("U-62")).expect("it is listed");
    assert!(line.contains("must") && line.contains("RFC 9112 §3.2 (host)"), "{line}");
}
