//! Clients that others wrote, inside TLS, over loopback against the built binary with its usual page. Each
//! checks the server's certificate, but Chromium, which is told not to. One that is not installed is skipped,
//! aloud.

#[path = "support/beside_tls.rs"]
mod beside_tls;

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use rustls::version::{TLS12, TLS13};

use beside_tls::{certificates, has_openssl, process, running, serving};
use certificates::{Authority, connect, root_file, shown};
use process::{Folder, Served, UPRING};
use running::{HOSTS, client, is_there, script_with, text};

const MEGABYTE: usize = 1 << 20;

/// The page that is served by default, inside TLS, and what its clients need.
struct Site {
    served: Served,
    folder: Folder,
    authority: Authority,
    root: PathBuf,
}

impl Site {
    /// With `more` beside the certificates, as `tls` has it; `None`, aloud, where io_uring is not to be had.
    fn start(name: &str, host: &str, more: &str) -> Option<Site> {
        let folder = Folder::new(&format!("tls-{name}-{host}"));
        let authority = Authority::new();
        let root = root_file(&folder.0, &authority);
        authority.issue(&["localhost", "127.0.0.1"]).write(&folder.0, "own");
        fs::create_dir_all(folder.0.join("files")).expect("it is ours");
        fs::write(folder.0.join("files/megabyte"), megabyte()).expect("it is ours");
        let defaults = Command::new(UPRING).args(["config", "--defaults"]).output();
        let defaults = String::from_utf8(defaults.expect("it is built").stdout).expect("text");
        let (before, after) = ("\"127.0.0.1:8080\"", "\"127.0.0.1:0\"");
        assert!(defaults.contains(&format!("address = {before}")));
        let certificates = "{ chain = 'own.pem', key = 'own.key' }";
        let listen = format!("{after}\ntls = {{ certificates = [{certificates}], {more} }}");
        let route = "\n[[route]]\npath = '/files/*'\nfiles = 'files'\n";
        let text = defaults.replacen(before, &listen, 1) + route;
        let file = folder.write("upring.toml", &text);
        let arguments = ["--config", shown(&file), "--host", host, "--workers", "1"];
        let served = Served::start(&arguments, &[("UPRING_LOG", "info,upring::tls=debug")])?;
        Some(Site { served, folder, authority, root })
    }

    fn url(&self, path: &str) -> String {
        format!("https://{}{path}", self.served.address)
    }

    fn root(&self) -> &str {
        shown(&self.root)
    }

    /// Speaks by `openssl s_client`, whose input stays open until the server closes; all that it prints,
    /// and whether it succeeds.
    fn s_client(&self, arguments: &[&str], input: &str) -> (String, bool) {
        let mut command = Command::new("timeout");
        command.args(["60", "openssl", "s_client", "-connect", &self.served.address]);
        command.args(["-CAfile", self.root(), "-verify_return_error"]).args(arguments);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut process = command.spawn().expect("timeout is part of coreutils");
        let mut stdin = process.stdin.take().expect("it is piped");
        // It may have failed before it reads.
        let _ = stdin.write_all(input.as_bytes());
        let keeps_open = !arguments.contains(&"-no_ign_eof");
        let kept = keeps_open.then_some(stdin);
        let output = process.wait_with_output().expect("it was started");
        drop(kept);
        let said = [output.stdout, output.stderr].concat();
        (String::from_utf8_lossy(&said).into_owned(), output.status.success())
    }
}

fn megabyte() -> Vec<u8> {
    (0..MEGABYTE).map(|at| (at % 251) as u8).collect()
}

fn on_each_host(name: &str, more: &str, test: impl Fn(&Site)) {
    for host in HOSTS {
        if let Some(site) = Site::start(name, host, more) {
            test(&site);
            let (status, log) = site.served.end();
            assert_eq!(status, Some(0), "{log}");
        }
    }
}

const LAST_GET: &str = "GET /plaintext HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";

#[test]
fn curl_speaks_both_versions_keeps_its_connection_and_moves_a_megabyte_each_way() {
    on_each_host("curl", "", |site| {
        for (least, most, version) in [("--tlsv1.2", "1.2", "1.2"), ("--tlsv1.3", "1.3", "1.3")] {
            let curl = |more: &[&str]| {
                let always = ["-sS", "--fail", "--cacert", site.root(), least, "--tls-max", most];
                client("curl", &[&always[..], more].concat())
            };
            let (plain, file) = (site.url("/plaintext"), site.folder.0.join("files/megabyte"));
            let wrote = " %{num_connects} %{http_version} %{scheme}\\n";
            let Some(twice) = curl(&["-w", wrote, &plain, &plain]) else { return };
            let expected = "Hello, World! 1 1.1 HTTPS\nHello, World! 0 1.1 HTTPS\n";
            assert_eq!(text(&twice), expected, "TLS {version}: {twice:?}");
            let body = format!("@{}", shown(&file));
            let up = curl(&["--data-binary", &body, &site.url("/content")]).expect("as before");
            assert_eq!(text(&up), format!("{MEGABYTE} bytes\n"), "TLS {version}: {up:?}");
            let down = curl(&[&site.url("/files/megabyte")]).expect("as before");
            assert!(down.stdout == megabyte(), "TLS {version}: {} bytes", down.stdout.len());
        }
        // The oldest that is spoken is 1.2.
        let old = ["-sS", "--cacert", site.root(), "--tlsv1.0", "--tls-max", "1.1"];
        let old = client("curl", &[&old[..], &[&site.url("/")]].concat()).expect("as before");
        assert_eq!(old.status.code(), Some(35), "{old:?}");
    });
}

#[test]
fn openssl_goes_on_by_a_ticket_agrees_on_http_1_and_hears_the_end() {
    if !has_openssl() {
        return;
    }
    on_each_host("openssl", "", |site| {
        for version in ["-tls1_2", "-tls1_3"] {
            let ticket = site.folder.0.join(version);
            let names = ["-servername", "localhost", "-verify_hostname", "localhost"];
            let always = [&[version, "-ign_eof", "-alpn", "h2,http/1.1"], &names[..]].concat();
            let first = [&always[..], &["-sess_out", shown(&ticket)]].concat();
            let again = [&always[..], &["-sess_in", shown(&ticket)]].concat();
            for (arguments, kind) in [(&first, "New, TLSv1."), (&again, "Reused, TLSv1.")] {
                let (said, is_well) = site.s_client(arguments, LAST_GET);
                assert!(is_well, "{version}: {said}");
                for words in [kind, "ALPN protocol: http/1.1", "Hello, World!"] {
                    assert!(said.contains(words), "{version}, {words}: {said}");
                }
                // A close_notify, and not an end of the connection beneath alone.
                assert!(said.contains("closed\n"), "{version}: {said}");
                assert!(!said.contains("read:errno"), "{version}: {said}");
            }
        }
        // Both of its ends in order: none of them is a fault.
        assert!(!site.served.log().contains("upring::tls"), "{}", site.served.log());
    });
}

#[test]
fn openssl_that_ends_its_direction_hears_the_echo_of_all_before() {
    if !has_openssl() {
        return;
    }
    on_each_host("echo", "", |site| {
        let offer = "GET /echo HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n";
        for version in ["-tls1_2", "-tls1_3"] {
            let mut command = Command::new("sh");
            let script = "(printf '%s' \"$1\"; printf hello; sleep 1) | timeout 60 openssl s_client -quiet \
                          -no_ign_eof \"$2\" -connect \"$3\" -CAfile \"$4\" -verify_return_error";
            command.args(["-c", script, "sh", offer, version, &site.served.address, site.root()]);
            let output = command.output().expect("there is a shell");
            let expected = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\nhello";
            assert_eq!(text(&output), expected, "{version}: {output:?}");
        }
    });
}

#[test]
fn openssl_is_refused_a_renegotiation() {
    if !has_openssl() {
        return;
    }
    on_each_host("renegotiation", "", |site| {
        let (said, is_well) = site.s_client(&["-tls1_2"], "R\n");
        assert!(!is_well && said.contains("RENEGOTIATING"), "{said}");
        assert!(said.contains("no renegotiation"), "{said}");
        site.served.hears("no_renegotiation: renegotiation is not spoken", 1);
    });
}

#[test]
fn openssl_shows_a_certificate_where_it_must_and_is_refused_without() {
    if !has_openssl() {
        return;
    }
    on_each_host("client", "client_roots = 'root.pem'", |site| {
        site.authority.issue(&["a client"]).write(&site.folder.0, "client");
        let elsewhere = Authority::named("an authority elsewhere");
        elsewhere.issue(&["a stranger"]).write(&site.folder.0, "stranger");
        for version in ["-tls1_2", "-tls1_3"] {
            let by = |name: &str| {
                let file =
                    |end: &str| shown(&site.folder.0.join(format!("{name}.{end}"))).to_owned();
                let (chain, key) = (file("pem"), file("key"));
                site.s_client(&[version, "-ign_eof", "-cert", &chain, "-key", &key], LAST_GET)
            };
            let (said, _) = by("client");
            assert!(said.contains("Hello, World!"), "{version}: {said}");
            let (said, _) = by("stranger");
            assert!(!said.contains("Hello, World!"), "{version}: {said}");
            assert!(said.contains("alert unknown ca"), "{version}: {said}");
            let (said, _) = site.s_client(&[version, "-ign_eof"], LAST_GET);
            assert!(!said.contains("Hello, World!"), "{version}: {said}");
            assert!(said.contains("alert certificate required"), "{version}: {said}");
        }
        for words in ["unknown_ca", "certificate_required"] {
            site.served.hears(words, 2);
        }
    });
}

#[test]
fn http_without_tls_is_answered_in_the_clear() {
    on_each_host("plain", "", |site| {
        let mut client = TcpStream::connect(&site.served.address).expect("it listens");
        client.write_all(LAST_GET.as_bytes()).expect("it reads");
        let mut answer = String::new();
        client.read_to_string(&mut answer).expect("it is text, and ends in order");
        assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
        assert!(answer.contains("This port speaks TLS"), "{answer}");
    });
}

#[test]
fn a_bad_request_inside_tls_is_not_told_that_tls_was_spoken_to_a_plain_port() {
    on_each_host("bad", "", |site| {
        let config = site.authority.client(&[&TLS13, &TLS12]);
        let mut inside = connect(&site.served.address, "localhost", &config).expect("it listens");
        inside.write_all(b"{\"a\": 1}\r\n\r\n").expect("it reads");
        let mut answer = String::new();
        inside.read_to_string(&mut answer).expect("it is text, and ends in order");
        assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
        assert!(answer.contains("The method is not a token"), "{answer}");
        assert!(!answer.contains("TLS"), "{answer}");
    });
}

#[test]
fn pythons_websockets_is_echoed() {
    let module = ["-c", "import websockets.asyncio.client"];
    if is_there("python3", &module, "python3 with websockets.asyncio") {
        on_each_host("python", "", |site| {
            let trust = [("SSL_CERT_FILE", site.root())];
            let url = site.url("/ws").replace("https", "wss");
            script_with(&trust, "python3", "websockets_inside_tls.py", &[url]);
        });
    }
}

#[test]
fn nodes_ws_is_echoed() {
    if is_there("node", &["-e", "require('ws')"], "node with ws") {
        on_each_host("node", "", |site| {
            let trust = [("NODE_EXTRA_CA_CERTS", site.root())];
            let url = site.url("/ws").replace("https", "wss");
            script_with(&trust, "node", "ws_echo.js", &[url]);
        });
    }
}

#[test]
fn chromium_shows_the_page_which_echoes_measures_and_chats() {
    if is_there("python3", &["--version"], "python3, which drives Chromium,")
        && is_there("chromium", &["--version"], "chromium")
    {
        on_each_host("chromium", "", |site| {
            script_with(&[], "python3", "chromium_page.py", &[site.url("")]);
        });
    }
}

/// A process that ends with the test, whatever becomes of it.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The lines of an introduction from `first` on, of which there are `count`; `None`, aloud, where io_uring is
/// not to be had.
fn introduction(process: &mut Child, first: &str, count: usize) -> Option<Vec<String>> {
    let output = process.stdout.take().expect("it is piped");
    let lines = BufReader::new(output).lines().map_while(Result::ok);
    let lines = lines.skip_while(|line| line != first).take(count + 1);
    let lines: Vec<_> = lines.skip(1).collect();
    if lines.len() < count {
        eprintln!("SKIPPED, the server cannot start here");
    }
    (lines.len() == count).then_some(lines)
}

#[test]
fn what_a_server_with_a_certificate_of_its_own_says_to_try_works() {
    if !has_openssl() || !is_there("curl", &["--version"], "curl") {
        return;
    }
    let mut command = Command::new(UPRING);
    command.args(["--tls-self-signed", "--listen", "127.0.0.1:0", "--workers", "1"]);
    let mut process = Ended(command.stdout(Stdio::piped()).spawn().expect("it is built"));
    let run = |line: &str| {
        let output = Command::new("timeout").args(["60", "sh", "-c", line]).output();
        text(&output.expect("timeout is part of coreutils"))
    };
    if let Some(lines) = introduction(&mut process.0, "try:", 2) {
        let plain = run(&lines[0]);
        assert!(lines[0].starts_with("  curl -ik https://127.0.0.1:"), "{lines:?}");
        assert!(plain.starts_with("HTTP/1.1 200 OK\r\n"), "{lines:?}: {plain}");
        assert!(plain.ends_with("Hello, World!"), "{lines:?}: {plain}");
        let switched = run(&lines[1]);
        assert!(switched.starts_with("HTTP/1.1 101 "), "{lines:?}: {switched}");
        assert!(switched.ends_with("\r\n\r\nhello\n"), "{lines:?}: {switched}");
        let address = lines[1].rsplit(' ').next().expect("an address");
        let names = run(&format!(
            "openssl s_client -connect {address} </dev/null 2>/dev/null \
             | openssl x509 -noout -ext subjectAltName"
        ));
        let expected = "DNS:localhost, IP Address:127.0.0.1, IP Address:0:0:0:0:0:0:0:1";
        assert!(names.contains(expected), "{names}");
    }
}
