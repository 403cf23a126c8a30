//! Clients that others wrote, over loopback against the built binary. One that is not installed is
//! skipped, aloud.

#[path = "clients/running.rs"]
#[allow(dead_code, reason = "each test takes the part of it that it needs")]
mod running;
#[path = "support/serving.rs"]
#[allow(dead_code, reason = "each test takes the part of it that it needs")]
mod serving;

use std::process::Command;

use running::{client, on_each_host, text};

#[test]
fn curl_gets_what_is_served_by_default() {
    on_each_host(|address| {
        let get = |arguments: &[&str], path: &str| {
            let url = format!("http://{address}{path}");
            client("curl", &[&["-si"], arguments, &[&url]].concat()).map(|output| text(&output))
        };
        let Some(plaintext) = get(&[], "/plaintext") else { return };
        assert!(
            plaintext.starts_with("HTTP/1.1 200 OK\r\nServer: upring\r\nDate: "),
            "{plaintext}"
        );
        assert!(plaintext.contains("\r\nContent-Type: text/plain\r\nContent-Length: 13\r\n"));
        assert!(plaintext.ends_with("\r\n\r\nHello, World!"), "{plaintext}");
        for (arguments, path, status, has) in [
            (&[][..], "/", "200", "<title>upring</title>"),
            (&[], "/healthz", "200", "ok"),
            (&["-I"], "/", "200", "Content-Length: "),
            (&["-I"], "/plaintext", "200", "Content-Length: 13"),
            (&[], "/nothing", "404", ""),
            (&["-X", "DELETE"], "/", "405", "Allow: GET, HEAD"),
            (&["-X", "BREW"], "/", "501", ""),
            (&["--http1.0"], "/plaintext", "200", "Connection: close"),
            (&["--http2"], "/plaintext", "200", "Hello, World!"),
            (&["-H", "Connection: Upgrade", "-H", "Upgrade: foo, bar"], "/", "200", "<title>"),
            (&[], "/echo", "426", "Upgrade: echo\r\nConnection: Upgrade"),
        ] {
            let answer = get(arguments, path).expect("curl was there a moment ago");
            assert!(
                answer.starts_with(&format!("HTTP/1.1 {status} ")),
                "{arguments:?} {path}: {answer}"
            );
            assert!(answer.contains(has), "{arguments:?} {path}: {answer}");
        }
    });
}

#[test]
fn nc_switches_to_echo_with_its_first_bytes_in_the_segment_of_the_request() {
    on_each_host(|address| {
        let (ip, port) = address.split_once(':').expect("an address has a port");
        let request =
            r"GET /echo HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\nhello\n";
        let script = format!("command -v nc >/dev/null && printf '{request}' | nc -N {ip} {port}");
        let Some(output) = client("sh", &["-c", &script]) else { return };
        if output.stdout.is_empty() {
            return eprintln!("SKIPPED, nc is not installed");
        }
        let expected = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\nhello\n";
        assert_eq!(text(&output), expected);
    });
}

#[test]
fn wrk_finds_no_error() {
    on_each_host(|address| {
        let url = format!("http://{address}/plaintext");
        let Some(output) = client("wrk", &["-t1", "-c64", "-d1", &url]) else { return };
        let report = text(&output);
        assert!(report.contains("requests in"), "{report}");
        assert!(!report.contains("Socket errors") && !report.contains("Non-2xx"), "{report}");
    });
}

#[test]
fn a_second_server_on_a_port_that_is_not_shared_says_what_is_in_the_way() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let address = taken.local_addr().expect("it is bound").to_string();
    let output = Command::new(env!("CARGO_BIN_EXE_upring")).args(["--listen", &address]).output();
    let output = output.expect("the binary is built with its tests");
    let message = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(69), "{message}");
    assert!(message.contains(&address), "{message}");
}

#[test]
fn doctor_says_line_by_line_what_there_is() {
    let output = Command::new(env!("CARGO_BIN_EXE_upring")).arg("doctor").output();
    let output = output.expect("the binary is built with its tests");
    let report = text(&output);
    for line in [
        "kernel.io_uring_disabled",
        "io_uring_setup",
        "RLIMIT_NOFILE",
        "RLIMIT_MEMLOCK",
        "somaxconn",
    ] {
        assert!(report.contains(line), "{report}");
    }
}
