//! The admin listener over loopback, beside a server that serves, drains and ends; and `upring top`.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use upring::admin::{Admin, AdminError};
use upring::config::{Config, DrainTimes, HostKind, ListenAddress};
use upring::protocols::echo;
use upring::resource::Resource;
use upring::server::{Running, Server, ServerError};
use upring::{Response, Status};

const PATIENCE: Duration = Duration::from_secs(10);
const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0";
const SWITCH: &str =
    "GET /echo HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n";

/// A server that is still to be started, and what tells of it; `None`, said aloud, if it cannot here.
fn admin_of(host: HostKind) -> Option<(Server, Admin)> {
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let drain = DrainTimes::within(Duration::from_secs(30));
    let config = Config { workers: 2, host, drain, ..Config::listening(any) };
    let server = Server::new(config)
        .route("/", Resource::new().get(Response::text(Status::OK, "ok\n").to_ready()))
        .route("/echo", Resource::new().upgrade(echo::protocol()).upgrade_required());
    match Admin::start(any.into(), server.metrics()) {
        Ok(admin) => Some((server, admin)),
        Err(AdminError::Server(ServerError::Setup(error))) if error.is_denied() => {
            eprintln!("SKIPPED, io_uring is denied here: {error}");
            None
        }
        Err(error) => panic!("{error}"),
    }
}

fn address(admin: &Admin) -> SocketAddr {
    match admin.listening() {
        ListenAddress::Tcp(address) => *address,
        ListenAddress::Unix(path) => panic!("nobody asked for {}", path.display()),
    }
}

fn connected(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).expect("it listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    stream
}

/// Status, head and content of an answer.
fn ask(address: SocketAddr, path: &str, accept: &str) -> (u16, String, String) {
    let mut stream = connected(address);
    let request =
        format!("GET {path} HTTP/1.1\r\nHost: a\r\nAccept: {accept}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).expect("it reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("it answers");
    let (head, content) = answer.split_once("\r\n\r\n").expect("a head");
    (head[9..12].parse().expect("a status"), head.to_owned(), content.to_owned())
}

/// What a sample is, in the format of Prometheus.
fn sample(address: SocketAddr, name: &str) -> f64 {
    let (_, _, text) = ask(address, "/metrics", "text/plain");
    let line = text.lines().find(|line| line.rsplit_once(' ').is_some_and(|(at, _)| at == name));
    let value = line.and_then(|line| line.rsplit(' ').next());
    value.unwrap_or_else(|| panic!("{name}\n{text}")).parse().expect("a number")
}

/// A connection that was switched to `echo`, and has said something and heard it again.
fn switched(running: &Running) -> TcpStream {
    let mut stream = connected(running.addresses()[0]);
    stream.write_all(format!("{SWITCH}hello").as_bytes()).expect("it reads");
    let mut seen = Vec::new();
    while !seen.ends_with(b"hello") {
        let mut bytes = [0; 512];
        let count = stream.read(&mut bytes).expect("it answers");
        assert!(count > 0, "{}", String::from_utf8_lossy(&seen));
        seen.extend_from_slice(&bytes[..count]);
    }
    stream
}

#[test]
fn readiness_is_that_of_the_server_from_before_its_start_until_behind_its_end() {
    for host in [HostKind::Hosted, HostKind::Native] {
        let Some((server, admin)) = admin_of(host) else { return };
        let address = address(&admin);
        let (status, _, why) = ask(address, "/readyz", "*/*");
        assert_eq!((status, &*why), (503, "starting: not every core serves yet\n"));
        let running = server.start().expect("the admin listener could start");
        assert_eq!(ask(address, "/readyz", "*/*").0, 200);
        // It ends its connection at the drain, which our end keeps open.
        let mut open = switched(&running);
        assert_eq!(sample(address, "upring_ready"), 1.0);
        running.stopper().stop();
        let (status, _, why) = ask(address, "/readyz", "*/*");
        assert_eq!((status, &*why), (503, "draining: the server is stopping\n"));
        assert_eq!(ask(address, "/healthz", "*/*").0, 200, "it lives");
        assert_eq!(sample(address, "upring_draining"), 1.0);
        let mut rest = Vec::new();
        open.read_to_end(&mut rest).expect("the connection ends in order");
        drop(open);
        running.join().expect("it ends in order");
        assert_eq!(sample(address, "upring_draining"), 1.0, "behind the last core");
        assert_eq!(sample(address, "upring_switched_connection_seconds_count"), 1.0);
        admin.stop().expect("it ends in order");
        assert!(TcpStream::connect(address).is_err(), "nobody listens any more");
    }
}

#[test]
fn a_scrape_shows_what_clients_did_and_how_the_ring_is() {
    let Some((server, admin)) = admin_of(HostKind::Native) else { return };
    let running = server.start().expect("the admin listener could start");
    let (address, served) = (address(&admin), running.addresses()[0]);
    for _ in 0..20 {
        assert_eq!(ask(served, "/", "*/*").0, 200);
    }
    assert_eq!(ask(served, "/none", "*/*").0, 404);
    let open = switched(&running);
    for (name, value) in [
        ("upring_requests_total{status=\"200\"}", 20.0),
        ("upring_requests_total{status=\"404\"}", 1.0),
        ("upring_requests_total{status=\"101\"}", 1.0),
        ("upring_upgrades_total{token=\"echo\",result=\"switched\"}", 1.0),
        ("upring_upgrades_open{token=\"echo\"}", 1.0),
        ("upring_request_seconds_count", 22.0),
        ("upring_ring_overflows_total", 0.0),
        ("upring_completions_stale_total", 0.0),
    ] {
        assert_eq!(sample(address, name), value, "{name}");
    }
    let (enters, completions) = (
        sample(address, "upring_ring_enters_total"),
        sample(address, "upring_ring_completions_total"),
    );
    // Each connection was accepted, received on, sent to, shut and closed, and 22 came.
    assert!(
        enters > 22.0 && completions > 5.0 * 22.0,
        "{enters} enters, {completions} completions"
    );
    let time = sample(address, "upring_request_seconds_sum");
    assert!(time > 0.0 && time < 22.0, "{time} s for 22 requests");
    let low = sample(address, "upring_buffers_low");
    assert!((1000.0..2048.0).contains(&low), "{low} buffers at least");
    // A scrape is no request of the server it tells of.
    assert_eq!(sample(address, "upring_connections_accepted_total"), 22.0);
    drop(open);
    running.stop().expect("it ends in order");
    admin.stop().expect("it ends in order");
}

#[test]
fn both_formats_are_read_by_those_for_whom_they_are_written() {
    let Some((server, admin)) = admin_of(HostKind::Hosted) else { return };
    let running = server.start().expect("the admin listener could start");
    let address = address(&admin);
    assert_eq!(ask(running.addresses()[0], "/", "*/*").0, 200);
    drop(switched(&running));
    let (_, head, open) = ask(address, "/metrics", OPENMETRICS);
    assert!(head.contains("application/openmetrics-text; version=1.0.0; charset=utf-8"), "{head}");
    let (_, head, plain) = ask(address, "/metrics", "*/*");
    assert!(head.contains("text/plain; version=0.0.4; charset=utf-8"), "{head}");
    let read = "import sys\n\
        from prometheus_client.{} import text_string_to_metric_families as families\n\
        print(sum(len(family.samples) for family in families(sys.stdin.read())))";
    for (module, text) in [("openmetrics.parser", &open), ("parser", &plain)] {
        let Some(output) = given("python3", &["-c", &read.replace("{}", module)], text) else {
            continue;
        };
        let errors = String::from_utf8_lossy(&output.stderr);
        if errors.contains("No module named") {
            eprintln!("SKIPPED, python3 has no prometheus_client");
            continue;
        }
        assert!(output.status.success(), "{errors}\n{text}");
        let samples = text.lines().filter(|line| !line.starts_with('#')).count().to_string();
        assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), samples, "{module}");
    }
    if let Some(output) = given("promtool", &["check", "metrics"], &plain) {
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        assert!(output.status.success() && said.is_empty(), "{said}");
    }
    running.stop().expect("it ends in order");
    admin.stop().expect("it ends in order");
}

/// What a program makes of this input; `None`, said aloud, if it is not there.
fn given(program: &str, arguments: &[&str], input: &str) -> Option<Output> {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let Ok(mut process) = command.spawn() else {
        eprintln!("SKIPPED, there is no {program}");
        return None;
    };
    let mut pipe = process.stdin.take().expect("it is piped");
    // One that ends without reading says why.
    let _ = pipe.write_all(input.as_bytes());
    drop(pipe);
    Some(process.wait_with_output().expect("it was started"))
}

#[test]
fn an_admin_listener_for_everybody_is_refused() {
    for address in ["0.0.0.0:0", "[::]:0", "192.0.2.1:9180"] {
        let address: SocketAddr = address.parse().expect("an address");
        let refused = Admin::start(address.into(), Server::default().metrics());
        let Err(error @ AdminError::NotLoopback(_)) = refused else { panic!("{refused:?}") };
        assert!(error.to_string().contains("127.0.0.1"), "{error}");
    }
}

#[test]
fn an_operator_is_told_which_of_the_listeners_cannot_be() {
    let Some(binary) = Binary::start() else { return };
    let taken = binary.admin.as_str();
    for (arguments, expected, is_admin) in [
        (["--listen", "127.0.0.1:0", "--admin", "0.0.0.0:0"], "0.0.0.0:0 is no loopback", true),
        (["--listen", "127.0.0.1:0", "--admin", taken], taken, true),
        (["--listen", "192.0.2.1:1", "--admin", "127.0.0.1:0"], "192.0.2.1:1", false),
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_upring")).args(arguments).output();
        let output = output.expect("the binary is built with its tests");
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(69), "{arguments:?}: {said}");
        assert!(said.contains(expected), "{arguments:?}: {said}");
        assert_eq!(said.contains("admin listener"), is_admin, "{arguments:?}: {said}");
    }
}

/// The binary with an admin listener, and where both listen.
struct Binary {
    process: Child,
    served: String,
    admin: String,
}

impl Binary {
    fn start() -> Option<Binary> {
        let mut process = Command::new(env!("CARGO_BIN_EXE_upring"))
            .args(["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--workers", "2"])
            .stdout(Stdio::piped())
            .spawn()
            .expect("the binary is built with its tests");
        let output = process.stdout.take().expect("it is piped");
        let lines = BufReader::new(output).lines().map_while(Result::ok);
        let (mut served, mut admin) = (None, None);
        for line in lines.filter(|line| line.contains("http://")) {
            let address = line.split('/').nth(2).map(str::to_owned);
            if line.contains("/metrics") {
                admin = address;
                break;
            }
            served = served.or(address);
        }
        match (served, admin) {
            (Some(served), Some(admin)) => Some(Binary { process, served, admin }),
            _ => {
                let status = process.wait().expect("it was started");
                assert_eq!(status.code(), Some(69), "it says that it cannot serve here");
                eprintln!("SKIPPED, the server cannot start here");
                None
            }
        }
    }
}

impl Drop for Binary {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn top(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_upring"));
    command.arg("top").args(arguments).output().expect("the binary is built with its tests")
}

#[test]
fn top_shows_once_as_text_what_happens_in_a_second() {
    let Some(binary) = Binary::start() else { return };
    let served: SocketAddr = binary.served.parse().expect("an address");
    let end = Instant::now() + Duration::from_secs(3);
    let asking = thread::spawn(move || {
        while Instant::now() < end {
            assert_eq!(ask(served, "/plaintext", "*/*").0, 200);
        }
    });
    let output = top(&["--once", &binary.admin]);
    asking.join().expect("every answer came");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.contains(": ready, 2 workers, over 1."), "{text}");
    let requests = text.lines().find(|line| line.starts_with("requests")).expect("a line");
    let rate = requests.split_whitespace().nth(1).and_then(|rate| rate.strip_suffix("/s"));
    let rate: f64 = rate.and_then(|rate| rate.parse().ok()).expect("a rate");
    assert!(rate > 10.0 && requests.contains(" 200 "), "{text}");
    assert!(!text.contains('\x1b'), "a file is no terminal: {text}");
}

#[test]
fn top_asks_an_admin_listener_on_a_unix_socket() {
    let name = format!("upring-top-{}", std::process::id());
    let address = ListenAddress::Unix(std::env::temp_dir().join(name));
    let server = Server::new(Config { workers: 1, ..Config::default() });
    let admin = match Admin::start(address.clone(), server.metrics()) {
        Ok(admin) => admin,
        Err(error) => return eprintln!("SKIPPED, no admin listener here: {error}"),
    };
    let output = top(&["--once", &address.to_string()]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains(&format!(" at {address}: starting, 0 workers, over 1.")), "{text}");
    admin.stop().expect("it ends in order");
    // Its path went with it.
    let output = top(&["--once", &address.to_string()]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(69), "{said}");
    assert!(said.contains(&format!("no metrics from {address}: No such file")), "{said}");
}

#[test]
fn top_without_a_server_says_so() {
    // Bound, so that nobody else is there, and not listened on by a server.
    let nobody = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = nobody.local_addr().expect("it is bound").to_string();
    drop(nobody);
    let output = top(&["--once", &address]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(69), "{said}");
    assert!(said.contains(&format!("no metrics from {address}")), "{said}");
}

#[test]
fn top_gives_the_terminal_back_at_q_at_an_interrupt_and_at_a_signal() {
    let Some(binary) = Binary::start() else { return };
    for (name, ending) in [("q", "sleep 2; printf q"), ("Ctrl-C", "sleep 2; printf '\\003'")] {
        let program = env!("CARGO_BIN_EXE_upring");
        // The settings of the terminal before and behind it are compared by the shell inside.
        let inside = format!(
            "stty -g > /dev/stderr; {program} top {}; echo ended $?; stty -g > /dev/stderr",
            binary.admin
        );
        let line = format!("({ending}; sleep 3) | script -qec \"{inside}\" /dev/null");
        let output = Command::new("sh").args(["-c", &line]).output().expect("there is a shell");
        let shown = String::from_utf8_lossy(&output.stdout);
        if String::from_utf8_lossy(&output.stderr).contains("not found") {
            return eprintln!("SKIPPED, there is no script(1)");
        }
        assert!(shown.contains("ended 0"), "{name}: {shown:?}");
        let (before, rest) = shown.split_once("\x1b[?1049h").expect("a screen of its own");
        let (frames, behind) = rest.split_once("\x1b[?1049l").expect("it is left");
        assert!(frames.contains("ready, 2 workers"), "{name}: {frames:?}");
        let settings = |text: &str| {
            text.lines()
                .find(|line| line.matches(':').count() > 10)
                .map(str::trim)
                .map(str::to_owned)
        };
        assert!(settings(before).is_some(), "{before:?}");
        assert_eq!(settings(before), settings(behind), "{name}: {behind:?}");
    }
}
