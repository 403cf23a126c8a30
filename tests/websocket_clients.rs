//! WebSocket clients that others wrote, over loopback: against the built binary on each host, and
//! against a server that compresses. What each checks is in its script in `tests/clients`. One that is
//! not installed is skipped, aloud.

#[path = "support/loopback.rs"]
#[allow(dead_code, reason = "each test takes the part of it that it needs")]
mod loopback;
#[path = "clients/running.rs"]
#[allow(dead_code, reason = "each test takes the part of it that it needs")]
mod running;
#[path = "support/serving.rs"]
#[allow(dead_code, reason = "each test takes the part of it that it needs")]
mod serving;

use running::{HOSTS, is_there, on_each_host, script};
use serving::Serving;
use upring::websocket::{Compression, Endpoint, Message, Socket, WebSocket};
use upring::{Config, HostKind, Protocol, Resource, Response, Running, Server, Status};

fn has_python(module: &str) -> bool {
    is_there("python3", &["-c", &format!("import {module}")], &format!("python3 with {module}"))
}

fn has_node_ws() -> bool {
    is_there("node", &["-e", "require('ws')"], "node with ws")
}

fn has_chromium() -> bool {
    is_there("python3", &["--version"], "python3, which drives Chromium,")
        && is_there("chromium", &["--version"], "chromium")
}

#[test]
fn pythons_websockets_is_echoed() {
    if has_python("websockets.sync.client") {
        on_each_host(|address| {
            script("python3", "websockets_echo.py", &[format!("ws://{address}/ws")]);
        });
    }
}

#[test]
fn pythons_wsproto_is_echoed_and_refused_what_breaks_a_rule() {
    if has_python("wsproto") {
        on_each_host(|address| {
            script("python3", "wsproto_echo.py", &[format!("ws://{address}/ws")]);
        });
    }
}

#[test]
fn nodes_ws_is_echoed() {
    if has_node_ws() {
        on_each_host(|address| script("node", "ws_echo.js", &[format!("ws://{address}/ws")]));
    }
}

#[test]
fn pythons_websockets_compresses_in_every_mode() {
    if has_python("websockets.sync.client") {
        script_with_compression(HostKind::Hosted, "python3", "websockets_deflate.py");
    }
}

#[test]
fn nodes_ws_compresses_in_every_mode() {
    if has_node_ws() {
        script_with_compression(HostKind::Native, "node", "ws_deflate.js");
    }
}

#[test]
fn chromium_is_echoed_and_compresses() {
    if !has_chromium() {
        return;
    }
    let servers: Vec<Serving> = HOSTS
        .iter()
        .filter_map(|host| Serving::start(&["--workers", "1", "--host", host]))
        .collect();
    let hosts = [HostKind::Hosted, HostKind::Native];
    let compressing: Vec<Running> = hosts.into_iter().filter_map(compressing).collect();
    let mut urls: Vec<String> =
        servers.iter().map(|server| format!("ws://{}/ws", server.address())).collect();
    for (server, path) in compressing.iter().zip(["shared", "dedicated"]) {
        urls.extend([format!("ws://{}/{path}", server.addresses()[0]), "deflate".to_owned()]);
    }
    if !urls.is_empty() {
        script("python3", "chromium_echo.py", &urls);
    }
    for server in compressing {
        server.stop().expect("it stops");
    }
}

#[test]
fn chromium_shows_the_page_which_echoes_measures_and_chats_across_cores() {
    if !has_chromium() {
        return;
    }
    let servers: Vec<Serving> = HOSTS
        .iter()
        .filter_map(|host| Serving::start(&["--workers", "2", "--host", host]))
        .collect();
    let urls: Vec<String> =
        servers.iter().map(|server| format!("http://{}", server.address())).collect();
    if !urls.is_empty() {
        script("python3", "chromium_page.py", &urls);
    }
}

struct Echo;

impl Endpoint for Echo {
    fn on_message(&mut self, message: Message, socket: &mut Socket<'_>) {
        assert!(socket.send(message).is_sent());
    }
}

fn echo(compression: Compression) -> Protocol {
    WebSocket::new().compression(compression).endpoint(|_| Echo)
}

/// A server whose echoes compress.
fn compressing(host: HostKind) -> Option<Running> {
    let page = Response::text(Status::OK, "ok\n");
    let server = Server::new(Config { host, ..loopback::config() })
        .route("/healthz", Resource::new().get(page.to_ready()))
        .route("/shared", Resource::new().upgrade(echo(Compression::shared())))
        .route("/dedicated", Resource::new().upgrade(echo(Compression::dedicated(15))))
        .route("/narrow", Resource::new().upgrade(echo(Compression::dedicated(9))));
    loopback::start(server)
}

/// Runs a script against one: who turns the engine makes no difference to what is compressed.
fn script_with_compression(host: HostKind, program: &str, name: &str) {
    if let Some(server) = compressing(host) {
        script(program, name, &[format!("ws://{}", server.addresses()[0])]);
        server.stop().expect("it stops");
    }
}
