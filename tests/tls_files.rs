//! Certificates in a configuration, against the built binary: what is wrong with them, which one is shown to
//! whom, and how new ones take the place of the old ones.

#[path = "support/beside_tls.rs"]
mod beside_tls;
#[path = "tls_files/broken.rs"]
mod broken;
#[path = "support/loopback.rs"]
#[allow(dead_code, reason = "each test takes the part of it that it needs")]
mod loopback;
#[path = "tls_files/staples.rs"]
mod staples;
#[path = "tls_files/trusted.rs"]
mod trusted;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use rustix::process::Signal;
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, HandshakeKind};

use beside_tls::{certificates, process, serving};
use certificates::{Authority, DAY, Inside, Issued, ask, connect, root_file, shown};
use process::{Folder, PATIENCE, Served, UPRING};
use upring::config::{Pem, TlsSettings};
use upring::{Resource, Server};

const OWN: &str = "certificates = [{ chain = 'own.pem', key = 'own.key' }]";

const ROUTE: &str = "[[route]]\npath = '/a'\nanswer = { text = 'a' }\n";

fn configuration(tls: &str) -> String {
    format!("workers = 1\n[[listen]]\naddress = '127.0.0.1:0'\ntls = {{ {tls} }}\n{ROUTE}")
}

fn check(folder: &Folder, text: &str) -> (Option<i32>, String, String) {
    let file = folder.write("upring.toml", text);
    let output = Command::new(UPRING).args(["check", shown(&file)]).output();
    let Output { status, stdout, stderr } = output.expect("it is built");
    let text = |bytes| String::from_utf8(bytes).expect("it is text");
    (status.code(), text(stdout), text(stderr))
}

fn start(folder: &Folder, tls: &str) -> Option<Served> {
    let file = folder.write("upring.toml", &configuration(tls));
    Served::start(&["--config", shown(&file)], &[])
}

/// The certificate that is shown to who asks for this name.
fn shown_to(served: &Served, name: &str, config: &Arc<ClientConfig>) -> Vec<u8> {
    let stream = connect(&served.address, name, config).expect("it has one for this name");
    stream.conn.peer_certificates().expect("a server shows one")[0].to_vec()
}

fn kind(stream: &Inside) -> HandshakeKind {
    stream.conn.handshake_kind().expect("it is over")
}

#[test]
fn what_is_wrong_with_certificates_is_told_each_at_its_line_with_status_78() {
    let folder = Folder::new("tls-faults");
    let authority = Authority::new();
    authority.issue(&["localhost"]).write(&folder.0, "own");
    authority.issue(&["localhost"]).write(&folder.0, "other");
    folder.write("empty.pem", "nothing in PEM\n");
    folder.write("broken.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
    let own = "chain = 'own.pem'\nkey = 'own.key'";
    // Below are lines 5 and on.
    for (text, place, told) in [
        (own, "", ""),
        ("chain = 'none.pem'\nkey = 'own.key'", ":5:9: ", "none.pem: No such file"),
        ("chain = 'own.pem'\nkey = 'none.key'", ":6:7: ", "none.key: No such file"),
        ("chain = 'empty.pem'\nkey = 'own.key'", ":5:9: ", "no certificate in PEM is there"),
        ("chain = 'broken.pem'\nkey = 'own.key'", ":5:9: ", "the certificate cannot be read"),
        ("chain = 'own.pem'\nkey = 'own.pem'", ":6:7: ", "no private key in PEM is there"),
        ("chain = 'own.pem'\nkey = 'other.key'", ":6:7: ", "the key is not the certificate's"),
        ("key = 'own.key'", ":4:1: ", "a certificate says its `chain` and its `key`"),
        ("chain = 'own.pem'\nky = 'own.key'", ":6:1: ", "unknown key `ky`; did you mean `key`?"),
        (&format!("{own}\nocsp = 'none.der'"), ":7:8: ", "none.der: No such file"),
        (&format!("{own}\n[listen.tls]\nwacth = true"), ":8:1: ", "did you mean `watch`?"),
        (&format!("{own}\n[listen.tls]\noldest = '1.1'"), ":8:10: ", "is one of \"1.2\", \"1.3\""),
        (&format!("{own}\n[listen.tls]\ntickets = 1"), ":8:11: ", "`tickets` is true or false"),
        (
            &format!("{own}\n[listen.tls]\nclient_roots = 'empty.pem'"),
            ":8:16: ",
            "no certificate in",
        ),
        (&format!("{own}\n[listen.tls]\nclient_roots = 'no.pem'"), ":8:16: ", "no.pem: No such"),
    ] {
        let begin =
            "workers = 1\n[[listen]]\naddress = '127.0.0.1:0'\n[[listen.tls.certificates]]\n";
        let (status, said, faults) = check(&folder, &format!("{begin}{text}\n{ROUTE}"));
        if told.is_empty() {
            assert_eq!((status, &*faults), (Some(0), ""), "{text}: {said}");
            continue;
        }
        assert_eq!(status, Some(78), "{text}: {faults}");
        let is_told = |line: &str| line.contains(place) && line.contains(told);
        assert!(faults.lines().any(is_told), "{text}: {faults}");
        assert_eq!(faults.matches("upring.toml:").count(), 1 + usize::from(text.contains("ky =")));
    }
    // All of them at once, and what is there of them.
    let two = "certificates = [{ chain = 'none.pem', key = 'own.key' }, { chain = 'own.pem', key = 'other.key' }]";
    let (status, _, faults) = check(&folder, &configuration(two));
    assert_eq!(status, Some(78));
    for words in ["none.pem: No such file", "other.key: the key is not the certificate's"] {
        assert!(faults.contains(words), "{faults}");
    }
    let (status, _, faults) = check(&folder, &configuration("watch = true"));
    assert!(status == Some(78) && faults.contains("TLS takes `certificates`"), "{faults}");
}

#[test]
fn check_says_when_each_certificate_ends_and_warns_of_those_that_are_about_to() {
    let folder = Folder::new("tls-ends");
    let (authority, now) = (Authority::new(), SystemTime::now());
    authority.issue_until(&["long.example", "b.example"], now + 40 * DAY).write(&folder.0, "long");
    authority.issue_until(&["soon.example"], now + 13 * DAY).write(&folder.0, "soon");
    authority.issue_until(&["late.example"], now - DAY).write(&folder.0, "late");
    // RFC 5280 §4.2.1.6: an address is no DNS name; whom it names stands for it.
    authority.issue_until(&["127.0.0.1"], now + 40 * DAY).write(&folder.0, "address");
    let each = ["long", "soon", "late", "address"]
        .map(|name| format!("{{ chain = '{name}.pem', key = '{name}.key' }}"));
    let text = configuration(&format!("certificates = [{}]", each.join(", ")));
    let (status, said, warned) = check(&folder, &text);
    assert_eq!(status, Some(0), "a warning is no fault: {warned}");
    let date = |end: SystemTime| httpdate::fmt_http_date(end);
    let line =
        |name: &str, end| format!("  127.0.0.1:0: certificate of {name}, ends {}\n", date(end));
    let lines = [
        line("long.example", now + 40 * DAY),
        line("soon.example", now + 13 * DAY),
        line("late.example", now - DAY),
        line("CN=127.0.0.1", now + 40 * DAY),
    ];
    assert!(said.ends_with(&lines.concat()), "{said}{lines:?}");
    let expected = [
        format!("the certificate of soon.example ends within 14 days: {}\n", date(now + 13 * DAY)),
        format!("the certificate of late.example has ended: {}\n", date(now - DAY)),
    ];
    assert_eq!(warned, expected.map(|line| format!("upring: warning: {line}")).concat());
    // A server serves with it all the same, and says so.
    let file = shown(&folder.0.join("upring.toml")).to_owned();
    let Some(served) = Served::start(&["--config", &file], &[]) else { return };
    served.hears("the certificate of late.example has ended", 1);
    served.hears("the certificate of soon.example ends within 14 days", 1);
    assert!(!served.log().contains("long.example"), "{}", served.log());
    served.end();
}

#[test]
fn each_name_is_shown_its_certificate_and_others_the_first() {
    let folder = Folder::new("tls-names");
    let authority = Authority::new();
    let issued: Vec<Issued> = [&["a.example"][..], &["*.b.example", "b.example"], &["x.b.example"]]
        .iter()
        .map(|names| authority.issue(names))
        .collect();
    fs::create_dir(folder.0.join("below")).expect("it is ours");
    issued[0].write(&folder.0.join("below"), "0");
    (1..3).for_each(|at| issued[at].write(&folder.0, &at.to_string()));
    // Paths are relative to the file, wherever the server is started.
    let each =
        ["below/0", "1", "2"].map(|name| format!("{{ chain = '{name}.pem', key = '{name}.key' }}"));
    let Some(served) = start(&folder, &format!("certificates = [{}]", each.join(", "))) else {
        return;
    };
    let config = authority.client(&[&TLS13, &TLS12]);
    for (name, at) in [
        ("a.example", 0),
        ("A.EXAMPLE", 0),
        ("b.example", 1),
        ("y.b.example", 1),
        // Of its own, although the wildcard would do.
        ("x.b.example", 2),
    ] {
        assert!(shown_to(&served, name, &config) == issued[at].der.to_vec(), "{name}");
    }
    // RFC 6125 §6.4.3: a wildcard is one label.
    for name in ["y.x.b.example", "c.example", "example"] {
        let error = connect(&served.address, name, &config).expect_err("it has none for this");
        assert!(error.to_string().contains("a.example"), "{name}: {error}");
    }
    served.end();
}

#[test]
fn an_optional_certificate_may_be_missing_and_a_required_one_may_not() {
    let folder = Folder::new("tls-roots");
    let authority = Authority::new();
    root_file(&folder.0, &authority);
    authority.issue(&["localhost"]).write(&folder.0, "own");
    for (said, is_let_in) in [
        ("client_roots = 'root.pem'", false),
        ("client_roots = 'root.pem', client_certificate = 'required'", false),
        ("client_roots = 'root.pem', client_certificate = 'optional'", true),
        // Without roots nobody is asked.
        ("client_certificate = 'required'", true),
    ] {
        let file = folder.write("upring.toml", &configuration(&format!("{OWN}, {said}")));
        let log = [("UPRING_LOG", "upring::tls=debug")];
        let Some(served) = Served::start(&["--config", shown(&file)], &log) else { return };
        for (count, version) in [&TLS13, &TLS12].into_iter().enumerate() {
            let stream = connect(&served.address, "localhost", &authority.client(&[version]));
            // With TLS 1.3 the client has its end of the handshake before the server has seen that.
            let answer = stream.and_then(|mut stream| ask(&mut stream, "/a"));
            match answer {
                Ok(answer) => assert!(is_let_in && answer == "200 a", "{said}: {answer}"),
                Err(error) => {
                    assert!(!is_let_in, "{said}: {error}");
                    // rustls' stream may lose why: it hears it while it writes.
                    served.hears("certificate_required: peer sent no certificates", count + 1);
                }
            }
        }
        served.end();
    }
}

#[test]
fn the_oldest_version_and_tickets_are_as_configured() {
    let folder = Folder::new("tls-options");
    let authority = Authority::new();
    authority.issue(&["localhost"]).write(&folder.0, "own");
    for (said, speaks_12, gives_tickets) in [
        ("oldest = '1.2'", true, true),
        ("oldest = '1.3'", false, true),
        ("tickets = false", true, false),
        ("tickets = true", true, true),
    ] {
        let Some(served) = start(&folder, &format!("{OWN}, {said}")) else { return };
        for version in [&TLS13, &TLS12] {
            let config = authority.client(&[version]);
            let first = connect(&served.address, "localhost", &config);
            if version.version == TLS12.version && !speaks_12 {
                let error = first.expect_err("it is too old").to_string();
                assert!(error.contains("ProtocolVersion"), "{said}: {error}");
                continue;
            }
            let mut first = first.expect("it is spoken");
            assert_eq!(ask(&mut first, "/a").expect("it answers"), "200 a");
            let mut second = connect(&served.address, "localhost", &config).expect("as before");
            assert_eq!(ask(&mut second, "/a").expect("it answers"), "200 a");
            let expected = match gives_tickets {
                true => HandshakeKind::Resumed,
                false => HandshakeKind::Full,
            };
            assert_eq!(kind(&second), expected, "{said}, {:?}", version.version);
        }
        served.end();
    }
}

/// Runs `openssl` in a folder; what it prints.
fn openssl(folder: &Folder, arguments: &str) -> String {
    let mut command = Command::new("timeout");
    command.args(["60", "openssl"]).args(arguments.split(' ')).current_dir(&folder.0);
    let output = command.stdin(Stdio::null()).output().expect("timeout is part of coreutils");
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    assert!(output.status.success(), "openssl {arguments}: {said}");
    said
}

#[test]
fn a_reload_changes_certificates_for_those_who_come_and_for_nobody_else() {
    let folder = Folder::new("tls-reload");
    let authority = Authority::new();
    let old = authority.issue(&["localhost"]);
    old.write(&folder.0, "own");
    let Some(served) = start(&folder, OWN) else { return };
    let versions = [&TLS13, &TLS12];
    let clients = versions.map(|version| authority.client(&[version]));
    let mut before: Vec<_> = clients
        .iter()
        .map(|config| connect(&served.address, "localhost", config).expect("it listens"))
        .collect();
    let mut go_on = || {
        for stream in &mut before {
            assert_eq!(ask(stream, "/a").expect("it goes on"), "200 a");
        }
    };
    go_on();
    let fresh = || authority.client(&versions);
    // A broken one is not taken, and what is there stays.
    folder.write("own.key", "no key\n");
    served.signal(Signal::HUP);
    served.hears("not reloaded, everything stays as it was", 1);
    served.hears("own.key: no private key in PEM is there", 1);
    go_on();
    assert!(shown_to(&served, "localhost", &fresh()) == old.der.to_vec());
    let new = authority.issue(&["localhost"]);
    new.write(&folder.0, "own");
    served.signal(Signal::HUP);
    served.hears("reloaded: 1 routes", 1);
    go_on();
    assert!(shown_to(&served, "localhost", &fresh()) == new.der.to_vec());
    // Tickets that were given before it are good.
    for config in &clients {
        let mut stream = connect(&served.address, "localhost", config).expect("it listens");
        assert_eq!(ask(&mut stream, "/a").expect("it answers"), "200 a");
        assert_eq!(kind(&stream), HandshakeKind::Resumed);
    }
    served.end();
}

#[test]
fn files_that_are_watched_are_read_when_they_have_changed_and_a_broken_one_is_told_once() {
    let folder = Folder::new("tls-watch");
    let authority = Authority::new();
    authority.issue(&["localhost"]).write(&folder.0, "own");
    let Some(served) = start(&folder, &format!("{OWN}, watch = true")) else { return };
    let fresh = || authority.client(&[&TLS13]);
    let mut before = connect(&served.address, "localhost", &fresh()).expect("it listens");
    let used = "certificates have changed and are used: localhost";
    let kept = "certificates have changed, the former ones are kept: ";
    let new = authority.issue(&["localhost"]);
    new.write(&folder.0, "own");
    served.hears(used, 1);
    assert!(shown_to(&served, "localhost", &fresh()) == new.der.to_vec());
    // Put in its place, as those do who must not be read by halves.
    folder.write("new.pem", "half of it\n");
    fs::rename(folder.0.join("new.pem"), folder.0.join("own.pem")).expect("both are there");
    served.hears(kept, 1);
    served.hears("own.pem: no certificate in PEM is there", 1);
    fs::remove_file(folder.0.join("own.pem")).expect("it is there");
    served.hears(kept, 2);
    // Two more looks.
    thread::sleep(Duration::from_secs(5));
    assert_eq!(served.log().matches(kept).count(), 2, "{}", served.log());
    assert!(shown_to(&served, "localhost", &fresh()) == new.der.to_vec());
    let last = authority.issue(&["localhost"]);
    last.write(&folder.0, "own");
    served.hears(used, 2);
    assert!(shown_to(&served, "localhost", &fresh()) == last.der.to_vec());
    assert_eq!(ask(&mut before, "/a").expect("it goes on"), "200 a");
    served.end();
}

/// By a server in this process, whose looks are the test's.
#[test]
fn a_chain_and_its_key_with_a_look_between_are_taken_together_and_a_half_is_refused_once() {
    let folder = Folder::new("tls-halves");
    let authority = Authority::new();
    let mut current = authority.issue(&["localhost"]);
    current.write(&folder.0, "own");
    let [chain, key] = ["own.pem", "own.key"].map(|name| Pem::File(folder.0.join(name)));
    let mut config = loopback::config();
    config.listen[0].tls = Some(TlsSettings { watch: true, ..TlsSettings::of(chain, key) });
    let Some(running) = loopback::start(Server::new(config).route("/a", Resource::new())) else {
        return;
    };
    let address = running.addresses()[0].to_string();
    let shown = || {
        let stream = connect(&address, "localhost", &authority.client(&[&TLS13]));
        let stream = stream.expect("it has one, and its key");
        stream.conn.peer_certificates().expect("a server shows one")[0].to_vec()
    };
    let mut watch = running.reloader().watch();
    assert!(watch.look().is_empty(), "nothing has changed");
    for is_slow in [false, true] {
        let next = authority.issue(&["localhost"]);
        folder.write("own.pem", &next.chain);
        assert!(watch.look().is_empty(), "it has changed just now");
        if is_slow {
            let looked = watch.look();
            assert!(matches!(&looked[..], [Err(_)]), "it stays at half of it: {looked:?}");
            assert!(watch.look().is_empty(), "that is told once");
        }
        folder.write("own.key", &next.key);
        assert!(watch.look().is_empty(), "it has changed once more");
        assert!(shown() == current.der.to_vec(), "that before is used as long");
        let looked = watch.look();
        assert!(matches!(&looked[..], [Ok(ends)] if ends.len() == 1), "{looked:?}");
        assert!(shown() == next.der.to_vec(), "both are there");
        assert!(watch.look().is_empty(), "that is told once");
        current = next;
    }
    running.stop().expect("it stops in order");
}

/// What a start as root may read, and the user that the server becomes may not.
#[test]
fn a_key_that_is_roots_alone_is_good_for_the_start_and_not_for_a_reload() {
    if !rustix::process::geteuid().is_root() {
        return eprintln!("SKIPPED, this is for root");
    }
    let folder = Folder::new("tls-user");
    let authority = Authority::new();
    let old = authority.issue(&["localhost"]);
    old.write(&folder.0, "own");
    let allow = |mode| {
        let key = folder.0.join("own.key");
        fs::set_permissions(key, fs::Permissions::from_mode(mode)).expect("it is ours");
    };
    allow(0o600);
    let text = format!("user = 'nobody'\n{}", configuration(OWN));
    let file = folder.write("upring.toml", &text);
    let Some(served) = Served::start(&["--config", shown(&file)], &[]) else { return };
    served.signal(Signal::HUP);
    served.hears("own.key: Permission denied", 1);
    let config = authority.client(&[&TLS13]);
    assert!(shown_to(&served, "localhost", &config) == old.der.to_vec());
    allow(0o644);
    served.signal(Signal::HUP);
    served.hears("reloaded: 1 routes", 1);
    served.end();
}

#[test]
fn files_that_are_not_watched_wait_for_a_reload() {
    let folder = Folder::new("tls-unwatched");
    let authority = Authority::new();
    let old = authority.issue(&["localhost"]);
    old.write(&folder.0, "own");
    let Some(served) = start(&folder, OWN) else { return };
    authority.issue(&["localhost"]).write(&folder.0, "own");
    let end = Instant::now() + PATIENCE / 2;
    while Instant::now() < end {
        let shown = shown_to(&served, "localhost", &authority.client(&[&TLS13]));
        assert!(shown == old.der.to_vec());
        thread::sleep(Duration::from_millis(500));
    }
    served.end();
}

#[test]
fn a_server_ends_with_its_test_also_with_one_that_fails() {
    let folder = Folder::new("tls-left");
    Authority::new().issue(&["localhost"]).write(&folder.0, "own");
    let Some(served) = start(&folder, OWN) else { return };
    let process = PathBuf::from(format!("/proc/{}", served.process.id()));
    assert!(process.exists());
    drop(served);
    assert!(!process.exists());
}
