//! Load balancers that others wrote, in front of a server that takes their PROXY protocol headers. One
//! that is not installed is skipped, aloud; so is all of it where io_uring is denied.

#[path = "support/folder.rs"]
mod folder;
#[path = "support/loopback.rs"]
#[allow(dead_code, reason = "each test takes the part of it that it needs")]
mod loopback;

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use folder::Folder;
use loopback::{PATIENCE, start, wait_until};
use upring::config::{ListenAddress, Listener, ProxyProtocol};
use upring::http::{Request, Response, Status};
use upring::resource::{Reply, Resource, from_head};
use upring::{Config, HostKind, Running, Server};

const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";

/// A load balancer, ended with the test.
struct Balancer(Child);

impl Drop for Balancer {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A server on a free port and on a Unix socket, which tells whoever asks who they are.
fn serve(host: HostKind, protocol: ProxyProtocol, unix: &Path) -> Option<Running> {
    let who = from_head(|request: &Request<'_>, reply: &mut Reply<'_>| {
        let client = request.client().map_or("nobody".to_owned(), |at| at.to_string());
        reply.send(&Response::text(Status::OK, client));
    });
    let proxied = |address: ListenAddress| Listener {
        proxy_protocol: protocol,
        proxy_from: vec!["127.0.0.1/32".parse().expect("a network")],
        ..address.into()
    };
    let tcp = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let listen = vec![proxied(tcp.into()), proxied(unix.into())];
    let config = Config { listen, workers: 1, host, ..Config::default() };
    start(Server::new(config).route("/", Resource::new().get(who)))
}

/// A port that was free a moment ago.
fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port is free");
    listener.local_addr().expect("it is bound").port()
}

fn is_installed(program: &str) -> bool {
    let is_there = Command::new("sh").args(["-c", &format!("command -v {program}")]).output();
    let is_there = is_there.is_ok_and(|output| output.status.success());
    if !is_there {
        eprintln!("SKIPPED, {program} is not installed");
    }
    is_there
}

/// Asks through the load balancer, which may not be up yet; what is answered, and who asked.
fn ask(to: SocketAddr) -> (String, String) {
    let begun = Instant::now();
    let mut client = loop {
        match TcpStream::connect(to) {
            Ok(client) => break client,
            Err(error) => assert!(begun.elapsed() < PATIENCE, "no load balancer at {to}: {error}"),
        }
        thread::sleep(Duration::from_millis(10));
    };
    let own = client.local_addr().expect("it is connected").to_string();
    (answer(&mut client), own)
}

fn answer(mut client: impl Read + Write) -> String {
    client.write_all(GET).expect("it is open");
    let mut answer = String::new();
    client.read_to_string(&mut answer).expect("it ends in order");
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    answer.rsplit("\r\n\r\n").next().unwrap_or_default().to_owned()
}

/// Runs HAProxy between a port of each family, or a Unix socket, and the server.
fn haproxy(folder: &Folder, port: u16, server: &str, options: &str) -> Balancer {
    let front = folder.0.join("front");
    let text = format!(
        "defaults\n  mode tcp\n  timeout connect 5s\n  timeout client 5s\n  timeout server 5s\n\
         frontend front\n  bind 127.0.0.1:{port}\n  bind ::1:{port}\n  bind unix@{}\n  \
         unique-id-format %{{+X}}o%ci:%cp-%rt\n  default_backend back\n\
         backend back\n  server upring {server} {options}\n",
        front.display()
    );
    let file = folder.0.join("haproxy.cfg");
    fs::write(&file, text).expect("the folder is there");
    let mut haproxy = Command::new("haproxy");
    let haproxy = haproxy.args(["-db", "-q", "-f"]).arg(file).stderr(Stdio::null());
    Balancer(haproxy.spawn().expect("it is installed"))
}

#[test]
fn haproxy_names_its_clients_in_either_version_with_every_vector_it_has() {
    if !is_installed("haproxy") {
        return;
    }
    let folder = Folder::new("proxies-haproxy");
    for (protocol, options) in [
        (ProxyProtocol::V1, "send-proxy"),
        (ProxyProtocol::V2, "send-proxy-v2"),
        (ProxyProtocol::Any, "send-proxy-v2 proxy-v2-options crc32c,unique-id"),
        (ProxyProtocol::Any, "send-proxy-v2-ssl-cn proxy-v2-options crc32c,authority"),
    ] {
        let unix = folder.0.join("back");
        let Some(running) = serve(HostKind::Hosted, protocol, &unix) else { return };
        for server in [running.addresses()[0].to_string(), format!("unix@{}", unix.display())] {
            let told = format!("{options} {server}");
            let port = free_port();
            let _haproxy = haproxy(&folder, port, &server, options);
            for ip in [Ipv4Addr::LOCALHOST.into(), std::net::IpAddr::from(Ipv6Addr::LOCALHOST)] {
                let (answered, own) = ask(SocketAddr::new(ip, port));
                assert_eq!(answered, own, "{told}");
            }
            // Of a client that it cannot name, the peer is as good as there is.
            let client = UnixStream::connect(folder.0.join("front")).expect("it is up");
            let answered = answer(client);
            match server.starts_with("unix@") {
                true => assert_eq!(answered, "nobody", "{told}"),
                false => assert!(answered.starts_with("127.0.0.1:"), "{told}: {answered}"),
            }
        }
        assert_eq!(running.counter("proxy_headers_faulty"), 0, "{options}");
        running.stop().expect("it stops in order");
    }
}

#[test]
fn haproxy_looks_whether_the_server_is_there_without_being_a_fault() {
    if !is_installed("haproxy") {
        return;
    }
    let folder = Folder::new("proxies-checks");
    for (protocol, options) in
        [(ProxyProtocol::V1, "send-proxy"), (ProxyProtocol::V2, "send-proxy-v2")]
    {
        let unix = folder.0.join("back");
        let Some(running) = serve(HostKind::Native, protocol, &unix) else { return };
        let server = running.addresses()[0].to_string();
        let options = format!("{options} check inter 20ms");
        let port = free_port();
        let haproxy = haproxy(&folder, port, &server, &options);
        wait_until("it has looked", || running.counter("connections_accepted") >= 5);
        let (answered, own) = ask(SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
        assert_eq!(answered, own);
        drop(haproxy);
        wait_until("all are gone", || running.counter("connections_open") == 0);
        for fault in ["proxy_headers_faulty", "proxy_sources_refused", "timeouts_heads"] {
            assert_eq!(running.counter(fault), 0, "{fault}, {options}");
        }
        running.stop().expect("it stops in order");
    }
}

#[test]
fn nginx_names_its_clients() {
    if !is_installed("nginx") {
        return;
    }
    let folder = Folder::new("proxies-nginx");
    let module = "/usr/lib/nginx/modules/ngx_stream_module.so";
    let load = match Path::new(module).exists() {
        true => format!("load_module {module};\n"),
        false => String::new(),
    };
    let unix = folder.0.join("back");
    let Some(running) = serve(HostKind::Hosted, ProxyProtocol::Any, &unix) else { return };
    for server in [running.addresses()[0].to_string(), format!("unix:{}", unix.display())] {
        let port = free_port();
        let text = format!(
            "{load}daemon off;\nmaster_process off;\npid {0}/nginx.pid;\nerror_log {0}/log;\n\
             events {{}}\nstream {{ server {{ listen 127.0.0.1:{port}; listen [::1]:{port}; \
             proxy_pass {server}; proxy_protocol on; }} }}\n",
            folder.0.display()
        );
        let file = folder.0.join("nginx.conf");
        fs::write(&file, text).expect("the folder is there");
        let nginx = |more: &[&str]| {
            let mut nginx = Command::new("nginx");
            nginx.arg("-c").arg(&file).args(more).stderr(Stdio::null());
            nginx
        };
        if !nginx(&["-t"]).status().expect("it is installed").success() {
            return eprintln!("SKIPPED, this nginx has no stream module");
        }
        let _nginx = Balancer(nginx(&[]).spawn().expect("it is installed"));
        for ip in [Ipv4Addr::LOCALHOST.into(), std::net::IpAddr::from(Ipv6Addr::LOCALHOST)] {
            let (answered, own) = ask(SocketAddr::new(ip, port));
            assert_eq!(answered, own, "{server}");
        }
    }
    assert_eq!(running.counter("proxy_headers_faulty"), 0);
    running.stop().expect("it stops in order");
}
