//! OCSP responses beside certificates: which are stapled, which are not, and who is told.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::beside_tls::has_openssl;
use super::certificates::{Authority, root_file, shown};
use super::process::{Folder, PATIENCE, Served};
use super::{OWN, check, configuration, openssl, start};

const WITH: &str = "certificates = [{ chain = 'own.pem', key = 'own.key', ocsp = 'own.der' }]";

const NOTHING: &str = "OCSP response: no response sent";

/// What an authority says of a certificate.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Said {
    Good,
    /// Without a time at which it would say something newer; asked for by SHA-256.
    GoodForEver,
    Revoked,
    Unknown,
}

/// Has the authority answer by OCSP for the certificate of this name: `NAME.der`.
pub(crate) fn answer(folder: &Folder, authority: &Authority, name: &str) {
    answer_so(folder, authority, name, name, Said::Good);
}

/// The same, into the file `into.der`.
pub(crate) fn answer_so(
    folder: &Folder,
    authority: &Authority,
    name: &str,
    into: &str,
    said: Said,
) {
    root_file(&folder.0, authority);
    folder.write("root.key", &authority.key());
    let serial = openssl(folder, &format!("x509 -in {name}.pem -noout -serial"));
    let serial = serial.trim_end().strip_prefix("serial=").expect("a number");
    // ca(1ssl): valid or revoked, until when, since when, number, file, subject.
    let index = match said {
        Said::Good | Said::GoodForEver => "V\t400101000000Z\t\t",
        Said::Revoked => "R\t400101000000Z\t260101000000Z\t",
        Said::Unknown => "",
    };
    let line = || format!("{index}{serial}\tunknown\t/CN=localhost\n");
    folder.write("index.txt", &if index.is_empty() { String::new() } else { line() });
    let responder = "-index index.txt -rsigner root.pem -rkey root.key -CA root.pem";
    let responder = responder.to_owned() + if said == Said::GoodForEver { "" } else { " -ndays 3" };
    let hash = if said == Said::GoodForEver { "-sha256" } else { "-sha1" };
    let asked = format!("{hash} -issuer root.pem -serial 0x{serial} -respout {into}.der");
    openssl(folder, &format!("ocsp {responder} {asked}"));
}

/// Makes `own.der` say that it is good from one time to another. That breaks its signature, which
/// a server does not look at.
fn date(folder: &Folder, begin: &str, end: &str) {
    let path = folder.0.join("own.der");
    let mut response = fs::read(&path).expect("it was made");
    let is_time = |at: &usize| response[*at..].starts_with(b"\x18\x0f20");
    let times: Vec<usize> = (0..response.len()).filter(is_time).map(|at| at + 2).collect();
    // The first one says when it was made.
    for (at, time) in times[1..3].iter().zip([begin, end]) {
        response[*at..at + 15].copy_from_slice(time.as_bytes());
    }
    fs::write(path, response).expect("it is ours");
}

/// What a client is told that asks for an OCSP response.
fn told(folder: &Folder, served: &Served, version: &str) -> String {
    let always = "-status -CAfile root.pem -verify_return_error -servername localhost";
    openssl(folder, &format!("s_client {version} {always} -connect {}", served.address))
}

#[test]
fn an_ocsp_response_is_stapled() {
    if !has_openssl() {
        return;
    }
    let folder = Folder::new("tls-ocsp");
    let authority = Authority::new();
    authority.issue(&["localhost"]).write(&folder.0, "own");
    for (tls, said, says) in [
        (WITH, Said::Good, "Cert Status: good"),
        (WITH, Said::GoodForEver, "Cert Status: good"),
        (OWN, Said::Good, NOTHING),
    ] {
        answer_so(&folder, &authority, "own", "own", said);
        let Some(served) = start(&folder, tls) else { return };
        for version in ["-tls1_2", "-tls1_3"] {
            let told = told(&folder, &served, version);
            assert!(told.contains(says), "{tls}, {version}: {told}");
        }
        let told = told(&folder, &served, "-tls1_3");
        assert_eq!(told.contains("Hash Algorithm: sha256"), said == Said::GoodForEver, "{told}");
        assert_eq!(told.contains("Next Update: "), tls == WITH && said == Said::Good, "{told}");
        assert!(!served.log().contains("OCSP"), "{}", served.log());
        served.end();
    }
}

/// Whose key is not that of its issuer for that.
#[test]
fn one_is_right_for_a_certificate_that_is_named_as_its_issuer_is() {
    if !has_openssl() {
        return;
    }
    let folder = Folder::new("tls-ocsp-named");
    let authority = Authority::named("localhost");
    let own = authority.issue(&["localhost"]);
    own.write(&folder.0, "own");
    answer(&folder, &authority, "own");
    for behind in [String::new(), authority.root()] {
        folder.write("own.pem", &(own.chain.clone() + &behind));
        let (status, _, faults) = check(&folder, &configuration(WITH));
        assert_eq!((status, &*faults), (Some(0), ""));
    }
}

#[test]
fn one_that_has_ended_or_begins_later_is_not_stapled_which_is_told_once() {
    if !has_openssl() {
        return;
    }
    let folder = Folder::new("tls-ocsp-ended");
    let authority = Authority::new();
    authority.issue(&["localhost"]).write(&folder.0, "own");
    for (begin, end, words) in [
        ("20200101000000Z", "20200108000000Z", "has ended, and is not stapled: Wed, 08 Jan 2020"),
        ("20900101000000Z", "20900108000000Z", "begins in the future, and is not stapled: Sun, 01"),
    ] {
        answer(&folder, &authority, "own");
        date(&folder, begin, end);
        let warning = format!("the OCSP response for localhost {words}");
        let (status, _, warned) = check(&folder, &configuration(WITH));
        assert_eq!(status, Some(0), "a warning is no fault: {warned}");
        assert!(warned.starts_with(&format!("upring: warning: {warning}")), "{warned}");
        assert_eq!(warned.lines().count(), 1, "{warned}");
        let Some(served) = start(&folder, WITH) else { return };
        served.hears(&warning, 1);
        assert!(told(&folder, &served, "-tls1_3").contains(NOTHING));
        answer(&folder, &authority, "own");
        served.signal(Signal::HUP);
        served.hears("reloaded: 1 routes", 1);
        assert!(told(&folder, &served, "-tls1_3").contains("Cert Status: good"));
        assert_eq!(served.log().matches(&warning).count(), 1, "{}", served.log());
        // And the other way round.
        date(&folder, begin, end);
        served.signal(Signal::HUP);
        served.hears("reloaded: 1 routes", 2);
        assert!(told(&folder, &served, "-tls1_2").contains(NOTHING));
        assert_eq!(served.log().matches(&warning).count(), 2, "{}", served.log());
        served.end();
    }
}

#[test]
fn one_that_ends_while_the_server_runs_is_stapled_up_to_then_and_one_that_begins_from_then_on() {
    if !has_openssl() {
        return;
    }
    let folder = Folder::new("tls-ocsp-ends");
    let authority = Authority::new();
    authority.issue(&["localhost"]).write(&folder.0, "own");
    answer(&folder, &authority, "own");
    // Clocks may differ by five minutes when one begins.
    for (begins_in, ends_in, is_first) in [(-1000, 5, true), (305, 1_000_000, false)] {
        let (begin, end) = (in_seconds(begins_in), in_seconds(ends_in));
        date(&folder, &begin, &end);
        let Some(served) = start(&folder, WITH) else { return };
        let is_stapled = || told(&folder, &served, "-tls1_3").contains("Cert Status: good");
        assert_eq!(is_stapled(), is_first);
        let deadline = Instant::now() + PATIENCE;
        while is_stapled() == is_first {
            assert!(Instant::now() < deadline, "{begin} to {end}: nothing changes");
            thread::sleep(Duration::from_millis(100));
        }
        served.end();
    }
}

/// So long from now, as a response has it (RFC 5280 §4.1.2.5.2).
fn in_seconds(count: i64) -> String {
    let mut date = Command::new("date");
    date.args(["-u", "+%Y%m%d%H%M%SZ", "-d", &format!("{count} seconds")]);
    let output = date.output().expect("date is part of coreutils");
    String::from_utf8(output.stdout).expect("digits").trim_end().to_owned()
}

#[test]
fn the_end_of_one_is_shown_by_the_metrics_whether_it_is_stapled_or_not() {
    if !has_openssl() {
        return;
    }
    let folder = Folder::new("tls-ocsp-metrics");
    let authority = Authority::new();
    authority.issue(&["localhost"]).write(&folder.0, "own");
    answer(&folder, &authority, "own");
    let file = folder.write("upring.toml", &configuration(&format!("{WITH}, watch = true")));
    let admin = format!("unix:{}", shown(&folder.socket()));
    date(&folder, "20200101000000Z", "20900101000000Z");
    let Some(served) = Served::start(&["--config", shown(&file), "--admin", &admin], &[]) else {
        return;
    };
    let line =
        |end| format!("\nupring_tls_staple_next_update_seconds{{name=\"localhost\"}} {end}\n");
    // date -u -d 2090-01-01 +%s, and of 2020-01-08.
    let text = scraped(&folder);
    assert!(text.contains(&line(3_786_912_000_u64)), "{text}");
    date(&folder, "20200101000000Z", "20200108000000Z");
    served.hears("certificates have changed and are used: localhost", 1);
    let text = scraped(&folder);
    assert!(text.contains(&line(1_578_441_600)), "{text}");
    assert_eq!(served.log().matches("the OCSP response for localhost has ended").count(), 1);
    served.end();
}

fn scraped(folder: &Folder) -> String {
    let mut metrics = UnixStream::connect(folder.socket()).expect("it listens");
    let request = b"GET /metrics HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    metrics.write_all(request).expect("it reads");
    let mut text = String::new();
    metrics.read_to_string(&mut text).expect("it ends in order");
    text
}
