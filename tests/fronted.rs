//! Servers that others wrote, behind this one: Python's `websockets`, reached by its own client
//! through a tunnel, and Python's file server, reached by curl through the proxy. What is not
//! installed is skipped, aloud.

#[path = "support/backends.rs"]
#[allow(dead_code, reason = "each test takes the part of it that it needs")]
mod backends;
#[path = "support/loopback.rs"]
#[allow(dead_code, reason = "each test takes the part of it that it needs")]
mod loopback;
#[path = "clients/running.rs"]
#[allow(dead_code, reason = "each test takes the part of it that it needs")]
mod running;
#[path = "support/serving.rs"]
#[allow(dead_code, reason = "each test takes the part of it that it needs")]
mod serving;

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use backends::free_path;
use loopback::{config, pattern, start, wait_until};
use running::{client, is_there, script, text};
use upring::{Backend, Proxy, Resource, Server, Tunnel};

/// A server that ends with the value.
struct Other(Child);

impl Drop for Other {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A TCP port that was free a moment ago.
fn free_address() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    listener.local_addr().expect("it is bound").to_string()
}

fn python(arguments: &[&str]) -> Command {
    let mut python = Command::new("python3");
    python.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    python.env("PYTHONDONTWRITEBYTECODE", "1");
    python
}

#[test]
fn pythons_websockets_is_fronted_over_tcp_and_over_a_unix_socket() {
    let module = "import websockets.sync.server";
    if !is_there("python3", &["-c", module], "python3 with websockets.sync") {
        return;
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients/websockets_behind.py");
    let path = path.to_str().expect("a path that is text");
    for place in [free_address(), format!("unix:{}", free_path().display())] {
        let mut behind = Other(python(&[path, "serve", &place]).spawn().expect("it is there"));
        let output = behind.0.stdout.take().expect("it is piped");
        let line = BufReader::new(output).lines().next().expect("it says when it listens");
        assert!(line.expect("it is text").starts_with("listening"));
        let backend: Backend = place.parse().expect("a backend");
        let tunnel = Tunnel::to(backend).protocol("websocket");
        let server = Server::new(config()).route("/*", Resource::new().upgrade(tunnel));
        let Some(running) = start(server) else { return };
        script(
            "python3",
            "websockets_behind.py",
            &["try".to_owned(), format!("ws://{}", running.addresses()[0])],
        );
        assert_eq!(running.counter("tunnels_declined"), 1);
        wait_until("all are over", || running.counter("tunnels_open") == 0);
        assert_eq!(running.counter("tunnels_reset"), 0);
        running.stop().expect("it stops");
        if let Some(path) = place.strip_prefix("unix:") {
            let _ = fs::remove_file(path);
        }
    }
}

#[test]
fn curl_reads_pythons_file_server_through_the_proxy() {
    if !is_there("python3", &["-c", "import http.server"], "python3") {
        return;
    }
    let folder = free_path().with_extension("served");
    fs::create_dir_all(&folder).expect("a folder");
    let bytes = pattern(3 << 20);
    fs::write(folder.join("large.bin"), &bytes).expect("room for a file");
    let address = free_address();
    let (host, port) = address.split_once(':').expect("an address with a port");
    let directory = folder.to_str().expect("a path that is text");
    let arguments =
        ["-u", "-m", "http.server", "--protocol", "HTTP/1.1", "-b", host, "-d", directory, port];
    let mut behind = Other(python(&arguments).spawn().expect("it is there"));
    let output = behind.0.stdout.take().expect("it is piped");
    let line = BufReader::new(output).lines().next().expect("it says when it listens");
    assert!(line.expect("it is text").starts_with("Serving"));
    let proxy = Proxy::to(address.parse().expect("a backend"));
    let Some(running) = start(Server::new(config()).route("/*", proxy.resource())) else { return };
    let url = format!("http://{}", running.addresses()[0]);
    let file = format!("{url}/large.bin");
    if let Some(output) = client("curl", &["-sS", "--noproxy", "*", &file, &file]) {
        assert!(
            output.stdout == [&bytes[..], &bytes].concat(),
            "{} bytes came",
            output.stdout.len()
        );
        let head = client("curl", &["-sSI", "--noproxy", "*", &file]).expect("it is there");
        let head = text(&head);
        assert!(
            head.contains("HTTP/1.1 200") && head.contains("Content-Length: 3145728"),
            "{head}"
        );
        assert!(head.contains("Via: 1.1 upring") && head.contains("Last-Modified: "), "{head}");
        let put = ["-sS", "--noproxy", "*", "-T", "/etc/hostname", "-w", "%{http_code}", &file];
        assert!(text(&client("curl", &put).expect("it is there")).ends_with("501"));
    }
    running.stop().expect("it stops");
    let _ = fs::remove_dir_all(&folder);
}
