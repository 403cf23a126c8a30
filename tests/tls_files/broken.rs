//! Files that are broken: each way of asking for them says which file, and what is wrong with it.

use std::fs;
use std::process::{Command, Output};
use std::time::SystemTime;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustix::process::Signal;
use rustls::version::TLS13;

use super::beside_tls::has_openssl;
use super::certificates::{Authority, DAY, shown};
use super::process::{Folder, Served, UPRING};
use super::staples::{Said, answer, answer_so};
use super::{ROUTE, check, openssl, shown_to};

/// Lines 5 to 7 and 9 name a file each.
const TLS: &str = "[[listen.tls.certificates]]\nchain = 'own.pem'\nkey = 'own.key'\nocsp = 'own.der'\n\
                   [listen.tls]\nclient_roots = 'roots.pem'\nclient_certificate = 'optional'\nwatch = true\n";

const REVOKED: &str = "it says that the certificate is revoked";

fn configuration() -> String {
    format!("workers = 1\n[[listen]]\naddress = '127.0.0.1:0'\n{TLS}{ROUTE}")
}

fn pem(label: &str, der: &[u8]) -> String {
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", STANDARD.encode(der))
}

/// What replaces a good file, at which place of the configuration it is told, and in which words.
struct Broken {
    file: &'static str,
    bytes: Vec<u8>,
    place: &'static str,
    told: &'static str,
}

impl Broken {
    fn new(file: &'static str, bytes: impl Into<Vec<u8>>, told: &'static str) -> Broken {
        let place = match file {
            "own.pem" => ":5:9: ",
            "own.key" => ":6:7: ",
            "own.der" => ":7:8: ",
            _ => ":9:16: ",
        };
        Broken { file, bytes: bytes.into(), place, told }
    }
}

/// Has OCSP answer for the certificate `own` otherwise: that it is revoked, that its number is unknown, and as
/// two other authorities of which one has the same name, and another key.
fn other_answers(folder: &Folder, authority: &Authority) {
    answer_so(folder, authority, "own", "revoked", Said::Revoked);
    answer_so(folder, authority, "own", "unknown", Said::Unknown);
    answer_so(folder, &Authority::named("another authority"), "own", "other", Said::Good);
    answer_so(folder, &Authority::new(), "own", "rekeyed", Said::Good);
}

/// Right files in the folder, and what breaks each of them.
fn scene(folder: &Folder, authority: &Authority) -> Vec<Broken> {
    let own = authority.issue(&["localhost"]);
    own.write(&folder.0, "own");
    other_answers(folder, authority);
    // With its issuer, whose key is known so.
    folder.write("own.pem", &(own.chain.clone() + &authority.root()));
    folder.write("roots.pem", &authority.root());
    answer(folder, authority, "own");
    // Once more: the same names, another number.
    authority.issue(&["localhost"]).write(&folder.0, "next");
    answer(folder, authority, "next");
    let right = fs::read(folder.0.join("own.der")).expect("it was made");
    let der = |more: &[u8]| pem("CERTIFICATE", &[&own.der[..], more].concat());
    let (cut, none) = ("-----BEGIN CERTIFICATE-----\nAAAA\n", pem("CERTIFICATE", b"none"));
    let (pass, key) = ("-aes256 -passout pass:a", "-in own.key -out");
    openssl(folder, &format!("pkey {key} encrypted.key {pass}"));
    openssl(folder, &format!("pkey {key} older.key {pass} -traditional"));
    let file = |name: &str| fs::read(folder.0.join(name)).expect("it was made");
    let (second, key) =
        ("certificate 2 of the file cannot be read", "the private key is encrypted");
    vec![
        Broken::new("own.pem", own.chain.clone() + &none, second),
        Broken::new("own.pem", own.chain.clone() + cut, second),
        Broken::new(
            "own.pem",
            der(&[]) + &der(&[0]),
            "certificate 2 of the file cannot be read: 1",
        ),
        Broken::new("own.pem", der(&[0]), "the certificate cannot be read: 1 bytes are behind it"),
        Broken::new("own.key", file("encrypted.key"), key),
        Broken::new("own.key", file("older.key"), key),
        Broken::new("own.der", "", "the file is empty"),
        Broken::new("own.der", "no answer\n", "an OCSPResponse"),
        Broken::new("own.der", *b"\x30\x03\x0a\x01\x03", "its responseStatus is tryLater"),
        Broken::new("own.der", [&right[..], b"\n"].concat(), "1 bytes are behind an OCSPResponse"),
        Broken::new("own.der", &right[..right.len() - 1], "an OCSPResponse cannot be read"),
        Broken::new("own.der", file("next.der"), "it is about another certificate"),
        Broken::new("own.der", file("revoked.der"), REVOKED),
        Broken::new("own.der", file("unknown.der"), "it says that the certificate is unknown"),
        Broken::new("own.der", file("other.der"), "of another issuer, of the same number"),
        Broken::new("own.der", file("rekeyed.der"), "same number, whose issuer has another key"),
        Broken::new("roots.pem", authority.root() + &none, second),
    ]
}

fn put(folder: &Folder, name: &str, bytes: &[u8]) {
    fs::write(folder.0.join(name), bytes).expect("it is ours");
}

#[test]
fn a_broken_file_is_told_at_its_line_by_check_and_by_a_start() {
    if !has_openssl() {
        return;
    }
    let folder = Folder::new("tls-broken");
    let authority = Authority::new();
    let all = scene(&folder, &authority);
    let (status, _, faults) = check(&folder, &configuration());
    assert_eq!((status, &*faults), (Some(0), ""), "all of it is right");
    let path = folder.0.join("upring.toml");
    for Broken { file, bytes, place, told } in all {
        let before = fs::read(folder.0.join(file)).expect("it is there");
        put(&folder, file, &bytes);
        let is_told = |line: &str| line.contains(place) && line.contains(told);
        let (status, _, faults) = check(&folder, &configuration());
        assert_eq!(status, Some(78), "{file}, {told}: {faults}");
        assert!(faults.lines().any(is_told) && faults.contains(file), "{told}: {faults}");
        let mut start = Command::new("timeout");
        start.args(["20", UPRING, "--config", shown(&path)]);
        let Output { status, stderr, .. } = start.output().expect("timeout is part of coreutils");
        let faults = String::from_utf8_lossy(&stderr);
        assert_eq!(status.code(), Some(78), "{file}, {told}: {faults}");
        assert!(faults.lines().any(is_told), "{told}: {faults}");
        put(&folder, file, &before);
    }
}

#[test]
fn a_broken_file_is_refused_by_a_reload_and_by_a_watch() {
    if !has_openssl() {
        return;
    }
    let folder = Folder::new("tls-broken-later");
    let authority = Authority::new();
    let mut all = scene(&folder, &authority);
    // Of each file one, and the answer that matters most.
    all.dedup_by(|next, one| next.file == one.file && next.told != REVOKED);
    let file = folder.write("upring.toml", &configuration());
    let Some(served) = Served::start(&["--config", shown(&file)], &[]) else { return };
    let config = authority.client(&[&TLS13]);
    let own = shown_to(&served, "localhost", &config);
    for (count, Broken { file, bytes, told, .. }) in (1..).zip(all) {
        let before = fs::read(folder.0.join(file)).expect("it is there");
        let times = served.log().matches(told).count();
        put(&folder, file, &bytes);
        served.signal(Signal::HUP);
        served.hears("not reloaded, everything stays as it was", count);
        served.hears("certificates have changed, the former ones are kept: ", count);
        served.hears(told, times + 2);
        assert!(shown_to(&served, "localhost", &config) == own, "{file}");
        put(&folder, file, &before);
    }
    served.end();
}

#[test]
fn tickets_that_are_asked_for_beside_roots_of_clients_are_refused() {
    let folder = Folder::new("tls-tickets");
    let authority = Authority::new();
    authority.issue_until(&["localhost"], SystemTime::now() + 40 * DAY).write(&folder.0, "own");
    folder.write("roots.pem", &authority.root());
    for (tickets, is_right) in [("", true), ("tickets = false", true), ("tickets = true", false)] {
        let tls = TLS.replace("ocsp = 'own.der'", "").replace("watch = true", tickets);
        let text = configuration().replace(TLS, &tls);
        let (status, _, faults) = check(&folder, &text);
        assert_eq!(status, Some(if is_right { 0 } else { 78 }), "{tickets}: {faults}");
        let told = faults.contains(":9:16: ") && faults.contains("no tickets are given");
        assert!(is_right || told, "{faults}");
    }
}
