//! One process takes the place of another under load: no connection attempt is refused or reset, on any
//! kind of listener; and what a service manager passes is served.

#[path = "support/process.rs"]
mod process;
#[path = "replacement/succession.rs"]
mod succession;

use std::fs::Permissions;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

use process::{Folder, PATIENCE, Served, UPRING, outcome, switched};
use rustix::process::{Pid, Signal, kill_process};
use upring::config::ListenAddress;
use upring::server::{HandOverTimes, Offer, take_over};
use upring::{Config, Server};

const REQUEST: &[u8] = b"GET /plaintext HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";

/// Connections of each test: four threads' worth.
const CONNECTIONS: u64 = 10_000;

/// One connection with one request, of which everything must come.
fn ask(mut stream: impl Read + Write) -> Result<(), String> {
    stream.write_all(REQUEST).map_err(|error| format!("write: {error}"))?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).map_err(|error| format!("read: {error}"))?;
    match answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("Hello, World!") {
        true => Ok(()),
        false => Err(format!("answered {answer:?}")),
    }
}

fn ask_over_tcp(address: &str) -> Result<(), String> {
    let stream = TcpStream::connect(address).map_err(|error| format!("connect: {error}"))?;
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    ask(stream)
}

fn ask_over_unix(path: &Path) -> Result<(), String> {
    let stream = UnixStream::connect(path).map_err(|error| format!("connect: {error}"))?;
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    ask(stream)
}

/// A free port, most likely: a successor has to be configured with the same.
fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback is there");
    listener.local_addr().expect("it is bound").port()
}

#[test]
fn ten_thousand_connections_see_nothing_of_three_replacements() {
    for host in ["hosted", "native"] {
        let folder = Folder::new("replacement");
        let (unix, place) = (folder.0.join("web"), folder.0.join("place"));
        let config = |workers: u16, port: u16| {
            format!(
                "workers = {workers}\nhand_over = '{}'\ndrain_timeout_ms = 10000\n\
                 [[listen]]\naddress = '127.0.0.1:{port}'\n\
                 [[listen]]\naddress = 'unix:{}'\n\
                 [[route]]\npath = '/plaintext'\nanswer = {{ text = 'Hello, World!' }}\n\
                 [[route]]\npath = '/echo'\nupgrade = 'echo'\n",
                place.display(),
                unix.display()
            )
        };
        let port = free_port();
        let file = folder.write("a.toml", &config(2, port));
        let arguments = ["--config", file.to_str().expect("a name of ours"), "--host", host];
        let Some(first) = Served::start(&arguments, &[]) else { return };
        let address = first.address.clone();
        // A switched connection outlives its process's listeners.
        let mut echo = switched(&first.address);
        let (asked, is_over) = (AtomicU64::new(0), AtomicBool::new(false));
        let mut generations = vec![first];
        thread::scope(|scope| {
            let over = Over(&is_over);
            let clients: Vec<_> = (0..4)
                .map(|client| {
                    let (asked, is_over, address, unix) = (&asked, &is_over, &address, &unix);
                    scope.spawn(move || {
                        while !is_over.load(Ordering::Relaxed) {
                            let number = asked.fetch_add(1, Ordering::Relaxed);
                            let outcome = match client {
                                0 => ask_over_unix(unix),
                                _ => ask_over_tcp(address),
                            };
                            outcome.unwrap_or_else(|error| panic!("{number}: {error}"));
                        }
                    })
                })
                .collect();
            // The same number of workers, fewer, more.
            for (count, workers) in [(1, 2), (2, 1), (3, 3)] {
                wait_until(|| asked.load(Ordering::Relaxed) >= CONNECTIONS / 5 * count);
                wait_until(|| place.exists());
                folder.write("a.toml", &config(workers, port));
                let next = Served::start(&arguments, &[]).expect("the one before could");
                generations.push(next);
                let before = &generations[generations.len() - 2];
                before.hears("has taken over", 1);
            }
            wait_until(|| asked.load(Ordering::Relaxed) >= CONNECTIONS);
            drop(over);
            for client in clients {
                client.join().expect("every connection was served");
            }
        });
        echo.write_all(b"still here").expect("its process drains");
        drop(echo);
        let last = generations.pop().expect("there are four");
        for mut old in generations {
            let status = old.process.wait().expect("it was started");
            assert_eq!(status.code(), Some(0), "{host}: {}", old.log());
        }
        ask_over_unix(&unix).expect("the path is still there, and is the last one's");
        let (code, log) = last.end();
        assert_eq!(code, Some(0), "{host}: {log}");
        assert!(!unix.exists() && !place.exists(), "{host}: who goes last tidies up");
    }
}

/// Sets a flag when its scope ends, however that is.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn wait_until(is_so: impl Fn() -> bool) {
    let deadline = Instant::now() + 6 * PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "it does not come to that");
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn sigusr2_starts_the_program_anew_in_its_own_place() {
    let folder = Folder::new("sigusr2");
    let (place, port) = (folder.0.join("place"), free_port());
    let (listen, place) = (format!("127.0.0.1:{port}"), place.to_str().expect("a name of ours"));
    let arguments = ["--listen", &listen, "--workers", "1", "--hand-over", place];
    let Some(mut first) = Served::start(&arguments, &[]) else { return };
    ask_over_tcp(&listen).expect("it serves");
    wait_until(|| Path::new(place).exists());
    first.signal(Signal::USR2);
    first.hears("has taken over", 1);
    assert_eq!(first.process.wait().expect("it was started").code(), Some(0), "{}", first.log());
    ask_over_tcp(&listen).expect("its successor serves");
    let log = first.log();
    let successor = log.split("process ").find_map(|rest| rest.split_once(" is to take over"));
    let (id, _) = successor.expect("it is named");
    let id = Pid::from_raw(id.parse().expect("a number")).expect("not zero");
    kill_process(id, Signal::TERM).expect("it runs");
    wait_until(|| TcpStream::connect(&listen).is_err());
}

#[test]
fn a_successor_that_cannot_start_costs_nothing() {
    let folder = Folder::new("stillborn");
    let place = folder.0.join("place");
    let (port, place) = (free_port(), place.to_str().expect("a name of ours"));
    let listen = format!("127.0.0.1:{port}");
    let arguments = ["--listen", &listen, "--workers", "1", "--hand-over", place];
    let Some(first) = Served::start(&arguments, &[]) else { return };
    // It says that it serves a moment before it can be succeeded.
    wait_until(|| Path::new(place).exists());
    // It gets the sockets, and then has no descriptor left for a ring.
    let script = "ulimit -n 14 && exec \"$0\" \"$@\"";
    let output = Command::new("sh").args(["-c", script, UPRING]).args(arguments).output();
    let output = output.expect("there is a shell");
    assert!(!output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    first.hears("nobody took over, this process goes on: process ", 1);
    first.hears(" has gone before it could be ready", 1);
    ask_over_tcp(&listen).expect("it serves as before");
    assert_eq!(first.end().0, Some(0));
}

/// With a listener of this test's own port, a place, and more of listeners and the like.
fn configuration(folder: &Folder, place: &Path, more: &str) -> String {
    format!(
        "workers = 1\nhand_over = '{}'\n[[listen]]\naddress = '127.0.0.1:{}'\n{more}\
         [[route]]\npath = '/plaintext'\nanswer = {{ text = 'Hello, World!' }}\n",
        place.display(),
        port_of(folder)
    )
}

/// The path of a Unix socket stays with who serves it: a successor that cannot start leaves it, and one that
/// does not want it any more takes it away.
#[test]
fn the_path_of_a_socket_goes_when_nobody_listens_there_any_more_and_not_before() {
    let folder = Folder::new("abandoned");
    let path = |name: &str| folder.0.join(name);
    let (unix, place, admin) = (path("web"), path("place"), path("admin"));
    let config = |more: &str| configuration(&folder, &place, more);
    let both = config(&format!(
        "[[listen]]\naddress = 'unix:{}'\n[admin]\nlisten = 'unix:{}'\n",
        unix.display(),
        admin.display()
    ));
    let file = folder.write("a.toml", &both);
    let arguments = ["--config", file.to_str().expect("a name of ours")];
    let Some(mut first) = Served::start(&arguments, &[]) else { return };
    wait_until(|| place.exists());
    // It gets the sockets, and then has no descriptor left for a ring.
    let script = "ulimit -n 18 && exec \"$0\" \"$@\"";
    let output = Command::new("sh").args(["-c", script, UPRING]).args(arguments).output();
    assert!(!output.expect("there is a shell").status.success());
    first.hears("nobody took over, this process goes on", 1);
    ask_over_unix(&unix).expect("it serves as before, at its path");
    assert!(admin.exists());
    folder.write("a.toml", &config(""));
    let second = Served::start(&arguments, &[]).expect("the one before could");
    first.hears("has taken over", 1);
    assert_eq!(first.process.wait().expect("it was started").code(), Some(0));
    wait_until(|| !unix.exists() && !admin.exists());
    ask_over_tcp(&second.address).expect("it serves");
    assert_eq!(second.end().0, Some(0));
    assert!(!place.exists());
}

/// Somebody else has come to listen at a path while it was served.
#[test]
fn a_path_at_which_another_server_listens_by_now_is_left_to_it() {
    let folder = Folder::new("another");
    let (path, place) = (folder.0.join("web"), folder.0.join("place"));
    let config = |more: &str| configuration(&folder, &place, more);
    let before = format!("[[listen]]\naddress = 'unix:{}'\nmode = 0o666\n", path.display());
    for after in [&*before, ""] {
        let file = folder.write("a.toml", &config(&before));
        let arguments = ["--config", file.to_str().expect("a name of ours")];
        let Some(mut first) = Served::start(&arguments, &[]) else { return };
        wait_until(|| place.exists());
        std::fs::remove_file(&path).expect("it is there");
        let other = UnixListener::bind(&path).expect("it is free");
        std::fs::set_permissions(&path, Permissions::from_mode(0o600)).expect("it is ours");
        folder.write("a.toml", &config(after));
        let second = Served::start(&arguments, &[]).expect("the one before could");
        first.hears("has taken over", 1);
        assert_eq!(first.process.wait().expect("it was started").code(), Some(0));
        second.hears("another server's socket is there", 1);
        assert_eq!(second.end().0, Some(0));
        let mode = std::fs::metadata(&path).expect("it is there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "nor were its permissions changed");
        UnixStream::connect(&path).expect("the other one listens there");
        drop(other);
        std::fs::remove_file(&path).expect("it is there");
    }
}

/// What a probe is answered, on a connection of its own.
fn is_ready(port: u16) -> Result<String, std::io::Error> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(b"GET /readyz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

#[test]
fn a_probe_sees_nothing_of_replacements() {
    let folder = Folder::new("ready");
    let (place, port) = (folder.0.join("place"), free_port());
    let (listen, admin) = (format!("127.0.0.1:{}", port_of(&folder)), format!("127.0.0.1:{port}"));
    let shown = place.to_str().expect("a name of ours");
    let arguments = ["--listen", &listen, "--admin", &admin, "--hand-over", shown];
    let start = |workers| Served::start(&[&arguments[..], &["--workers", workers]].concat(), &[]);
    let Some(mut served) = start("2") else { return };
    let (asked, is_over) = (AtomicU64::new(0), AtomicBool::new(false));
    thread::scope(|scope| {
        let over = Over(&is_over);
        let probe = || {
            while !is_over.load(Ordering::Relaxed) {
                let answer = is_ready(port).expect("somebody listens");
                assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
                asked.fetch_add(1, Ordering::Relaxed);
            }
        };
        let probes = [scope.spawn(probe), scope.spawn(probe), scope.spawn(probe)];
        // With many workers, and so a while from the sockets to the first client.
        for workers in ["24", "2", "24", "2"] {
            wait_until(|| place.exists());
            let next = start(workers).expect("the one before could");
            served.hears("has taken over", 1);
            let mut before = std::mem::replace(&mut served, next);
            assert_eq!(before.process.wait().expect("it was started").code(), Some(0));
        }
        drop(over);
        for probe in probes {
            probe.join().expect("it was ready at all times");
        }
    });
    assert!(asked.load(Ordering::Relaxed) > 100);
    assert_eq!(served.end().0, Some(0));
}

/// A port that stays the same for all that are started in a folder.
fn port_of(folder: &Folder) -> u16 {
    let file = folder.0.join("port");
    let known = std::fs::read_to_string(&file).ok().and_then(|port| port.parse().ok());
    known.unwrap_or_else(|| {
        let port = free_port();
        folder.write("port", &port.to_string());
        port
    })
}

/// One that connects to a place and says this alone.
fn ask_for_sockets(place: &Path, word: &[u8]) -> UnixStream {
    let mut stream = UnixStream::connect(place).expect("it is offered");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    stream.write_all(word).expect("it reads");
    stream
}

#[test]
fn who_connects_and_says_nothing_keeps_a_successor_waiting_for_a_second() {
    let folder = Folder::new("silent");
    let place = folder.0.join("place");
    let listen = format!("127.0.0.1:{}", free_port());
    let shown = place.to_str().expect("a name of ours");
    let arguments = ["--listen", &listen, "--workers", "1", "--hand-over", shown];
    let Some(mut first) = Served::start(&arguments, &[]) else { return };
    wait_until(|| place.exists());
    let _silent = ask_for_sockets(&place, b"");
    // One that says half of the word.
    let _slow = ask_for_sockets(&place, b"upring");
    let begun = Instant::now();
    let second = Served::start(&arguments, &[]).expect("the one before could");
    first.hears("has taken over", 1);
    assert!(begun.elapsed() < Duration::from_secs(8), "{:?}", begun.elapsed());
    first.hears("did not say who it is within 1s", 2);
    assert_eq!(first.process.wait().expect("it was started").code(), Some(0));
    assert_eq!(second.end().0, Some(0));
}

#[test]
fn of_two_successors_the_one_that_comes_late_is_told_that_the_other_serves() {
    let folder = Folder::new("late");
    let place = folder.0.join("place");
    let config = Config { workers: 1, ..Config::listening(([127, 0, 0, 1], 0).into()) };
    let running = match Server::new(config).start() {
        Ok(running) => running,
        Err(error) => return eprintln!("SKIPPED, the server cannot start here: {error}"),
    };
    let offer = Offer::new(&place).open().expect("it is free").with(&running);
    let _offered = offer.start(|_| {}).expect("it is free");
    let (_sockets, predecessor) = take_over(&place).expect("it answers").expect("it is offered");
    let late = thread::scope(|scope| {
        let late = scope.spawn(|| take_over(&place).map(|_| ()));
        // It waits in line by now.
        thread::sleep(Duration::from_millis(200));
        predecessor.relieve().expect("it is relieved");
        late.join().expect("it is told")
    });
    let told = late.expect_err("nothing is left to take").to_string();
    assert!(told.contains("another process has taken its place just now"), "{told}");
    running.join().expect("it was stopped by the hand-over");
}

#[test]
fn a_successor_that_hangs_is_let_go_of_and_the_next_one_is_served() {
    let folder = Folder::new("hanging");
    let place = folder.0.join("place");
    let times = HandOverTimes { ready: Duration::from_secs(2), ..HandOverTimes::default() };
    let config = Config { workers: 1, ..Config::listening(([127, 0, 0, 1], 0).into()) };
    let running = match Server::new(config).start() {
        Ok(running) => running,
        Err(error) => return eprintln!("SKIPPED, the server cannot start here: {error}"),
    };
    let offer = Offer::new(&place).with(&running).within(times);
    let (tell, told) = channel();
    let relieved = move |process| tell.send(process).expect("the test waits");
    let _offered = offer.open().expect("it is free").start(relieved).expect("it is free");
    let taken = |place: &Path| take_over(place).expect("it answers").expect("it is offered");
    let (hung, next) = (
        taken(&place),
        thread::scope(|scope| {
            // In line behind the one that hangs.
            scope.spawn(|| taken(&place)).join().expect("it is served")
        }),
    );
    let (inherited, predecessor) = next;
    assert_eq!(inherited.addresses().count(), 1, "it has the socket");
    assert!(hung.1.relieve().is_err() && hung.1.goes_on(), "it is told that it is too late");
    // That was a connection which says nothing.
    predecessor.relieve().expect("it is relieved");
    assert!(!predecessor.goes_on());
    assert_eq!(told.recv_timeout(PATIENCE), Ok(std::process::id()));
    running.join().expect("it was stopped by the hand-over");
}

/// The word that comes with the last of the sockets.
const LAST: &[u8] = b".";

/// A predecessor by hand: what a successor has said once it was told to stop, before it was given sockets or
/// behind that, and how it has ended.
fn said_of_one_that_is_told_to_stop(name: &str, is_given: bool) -> (Vec<u8>, Option<i32>) {
    let folder = Folder::new(name);
    let place = folder.0.join("place");
    let offered = UnixListener::bind(&place).expect("it is free");
    let mut successor = Command::new(UPRING)
        .args(["--listen", "127.0.0.1:0", "--workers", "4", "--hand-over"])
        .arg(&place)
        .stdout(Stdio::null())
        .spawn()
        .expect("it is built");
    let (mut stream, _) = offered.accept().expect("it asks");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let mut greeting = [0; 18];
    stream.read_exact(&mut greeting).expect("it says who it is");
    if is_given {
        stream.write_all(&greeting).expect("it reads");
        stream.write_all(LAST).expect("it reads");
    }
    kill_process(Pid::from_child(&successor), Signal::TERM).expect("it runs");
    let mut said = Vec::new();
    let mut byte = [0];
    while let Ok(1..) = stream.read(&mut byte) {
        said.extend(byte);
        // What it would wait for.
        let _ = stream.write_all(b"y");
    }
    (said, successor.wait().expect("it was started").code())
}

#[test]
fn a_successor_that_is_told_to_stop_takes_nobody_s_place() {
    for (name, is_given) in [("told-in-line", false), ("told-starting", true)] {
        let (said, code) = said_of_one_that_is_told_to_stop(name, is_given);
        if is_given && said.is_empty() && code == Some(69) {
            return eprintln!("SKIPPED, the server cannot start here");
        }
        assert_eq!((&said[..], code), (&b""[..], Some(0)), "{name}");
    }
}

/// Clients come all the time, while successors fail with some of their rings, or for want of a place at which
/// they could be succeeded as the user that they become.
#[test]
fn a_successor_that_fails_late_takes_no_client_with_it() {
    let folder = Folder::new("rings");
    let place = folder.0.join("place");
    let listen = format!("127.0.0.1:{}", free_port());
    let shown = place.to_str().expect("a name of ours");
    let arguments = |workers| ["--listen", &listen, "--workers", workers, "--hand-over", shown];
    let Some(first) = Served::start(&arguments("1"), &[]) else { return };
    wait_until(|| place.exists());
    let (asked, is_over) = (AtomicU64::new(0), AtomicBool::new(false));
    thread::scope(|scope| {
        let over = Over(&is_over);
        let client = || {
            while !is_over.load(Ordering::Relaxed) {
                let number = asked.fetch_add(1, Ordering::Relaxed);
                ask_over_tcp(&listen).unwrap_or_else(|error| panic!("{number}: {error}"));
            }
        };
        let clients = [(); 3].map(|()| scope.spawn(client));
        // Enough for the sockets of 16 workers, and too few for their rings.
        let rings = ("ulimit -n 60 && exec \"$0\" \"$@\"", "ulimit -n");
        let user = ("exec \"$0\" \"$@\" --user nobody", "bind on unix:");
        let is_root = rustix::process::geteuid().is_root();
        for (script, words) in [rings, if is_root { user } else { rings }].repeat(6) {
            let before = asked.load(Ordering::Relaxed);
            wait_until(|| asked.load(Ordering::Relaxed) > before + 50);
            let mut successor = Command::new("sh");
            successor.args(["-c", script, UPRING]).args(arguments("16"));
            let output = successor.output().expect("there is a shell");
            let told = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(!output.status.success() && told.contains(words), "{told}");
            assert!(output.stdout.is_empty(), "it has served: {told}");
        }
        drop(over);
        for client in clients {
            client.join().expect("every connection was served");
        }
    });
    assert_eq!(first.end().0, Some(0));
}

/// What `ss` says of a listening port: how many connections may wait.
fn backlog(address: &str) -> Option<u64> {
    let port = address.rsplit(':').next().expect("an address");
    let output = Command::new("ss").args(["-ltnH", &format!("sport = :{port}")]).output().ok()?;
    String::from_utf8_lossy(&output.stdout).split_whitespace().nth(2)?.parse().ok()
}

#[test]
fn a_successor_gives_the_sockets_the_options_of_its_own_configuration() {
    let folder = Folder::new("options");
    let (unix, place) = (folder.0.join("web"), folder.0.join("place"));
    let port = port_of(&folder);
    let config = |backlog: u16, mode: &str| {
        format!(
            "workers = 1\nhand_over = '{}'\n[[listen]]\naddress = '127.0.0.1:{port}'\n\
             backlog = {backlog}\n[[listen]]\naddress = 'unix:{}'\nmode = {mode}\n\
             [[route]]\npath = '/plaintext'\nanswer = {{ text = 'Hello, World!' }}\n",
            place.display(),
            unix.display()
        )
    };
    let mode = || std::fs::metadata(&unix).expect("it is there").permissions().mode() & 0o777;
    let file = folder.write("a.toml", &config(16, "0o600"));
    let arguments = ["--config", file.to_str().expect("a name of ours")];
    let Some(mut first) = Served::start(&arguments, &[]) else { return };
    wait_until(|| place.exists());
    assert_eq!(mode(), 0o600);
    let told = backlog(&first.address);
    assert!(matches!(told, None | Some(16)), "{told:?}");
    folder.write("a.toml", &config(333, "0o666"));
    let second = Served::start(&arguments, &[]).expect("the one before could");
    first.hears("has taken over", 1);
    assert_eq!(first.process.wait().expect("it was started").code(), Some(0));
    assert_eq!(mode(), 0o666);
    match told {
        Some(_) => assert_eq!(backlog(&second.address), Some(333)),
        None => eprintln!("SKIPPED: `ss` does not tell the backlog here"),
    }
    ask_over_unix(&unix).expect("it serves");
    assert_eq!(second.end().0, Some(0));
}

#[test]
fn a_successor_may_listen_at_other_addresses_of_the_ports_of_its_predecessor() {
    let port = free_port();
    for (before, after) in [
        (format!("127.0.0.1:{port}"), format!("0.0.0.0:{port}")),
        (format!("0.0.0.0:{port}"), format!("127.0.0.1:{port}")),
        (format!("0.0.0.0:{port}"), format!("[::]:{port}")),
        (format!("[::]:{port}"), format!("0.0.0.0:{port}")),
    ] {
        if after.starts_with('[') && TcpListener::bind("[::1]:0").is_err() {
            return eprintln!("SKIPPED: there is no IPv6 here");
        }
        let folder = Folder::new("moved");
        let place = folder.0.join("place");
        let shown = place.to_str().expect("a name of ours");
        let start = |listen: &str| {
            Served::start(&["--listen", listen, "--workers", "2", "--hand-over", shown], &[])
        };
        let Some(mut first) = start(&before) else { return };
        wait_until(|| place.exists());
        let second = start(&after).expect("the one before could");
        first.hears("has taken over", 1);
        assert_eq!(first.process.wait().expect("it was started").code(), Some(0));
        ask_over_tcp(&format!("127.0.0.1:{port}")).expect("it serves");
        assert_eq!(second.end().0, Some(0), "{before} to {after}");
    }
}

/// SIGUSR2, and SIGTERM to the old one before the new one is ready.
#[test]
fn a_server_that_stops_leaves_its_path_to_who_was_given_its_socket() {
    let folder = Folder::new("left");
    let (place, path) = (folder.0.join("place"), folder.0.join("web"));
    for is_taken in [true, false] {
        let listen = vec![ListenAddress::Unix(path.clone()).into()];
        let running = match Server::new(Config { workers: 1, listen, ..Config::default() }).start()
        {
            Ok(running) => running,
            Err(error) => return eprintln!("SKIPPED, the server cannot start here: {error}"),
        };
        let offer = Offer::new(&place).open().expect("it is free").with(&running);
        let offered = offer.start(|_| {}).expect("it is free");
        let taken = take_over(&place).expect("it answers").expect("it is offered");
        if is_taken {
            running.stop().expect("it drains");
            assert!(path.exists(), "whose socket it is, his is the path");
            UnixStream::connect(&path).expect("he listens there");
            std::fs::remove_file(&path).expect("it is there");
        } else {
            drop(taken);
            // The next one is asked behind that.
            drop(take_over(&place).expect("it answers").expect("it is offered"));
            thread::sleep(Duration::from_millis(300));
            running.stop().expect("it drains");
            assert!(!path.exists(), "nobody else has it");
        }
        drop(offered);
    }
}

#[test]
fn a_successor_that_fails_leaves_the_sockets_as_they_are() {
    if !rustix::process::geteuid().is_root() {
        return eprintln!("SKIPPED: it takes root to become nobody");
    }
    let folder = Folder::new("unchanged");
    let (unix, place) = (folder.0.join("web"), folder.0.join("place"));
    let port = port_of(&folder);
    let config = |mode: &str| {
        format!(
            "workers = 1\nhand_over = '{}'\n[[listen]]\naddress = '127.0.0.1:{port}'\n\
             [[listen]]\naddress = 'unix:{}'\nmode = {mode}\n\
             [[route]]\npath = '/plaintext'\nanswer = {{ text = 'Hello, World!' }}\n",
            place.display(),
            unix.display()
        )
    };
    let mode = || std::fs::metadata(&unix).expect("it is there").permissions().mode() & 0o777;
    let file = folder.write("a.toml", &config("0o666"));
    let arguments = ["--config", file.to_str().expect("a name of ours")];
    let Some(first) = Served::start(&arguments, &[]) else { return };
    wait_until(|| place.exists());
    folder.write("a.toml", &config("0o600"));
    // Nobody may make a place in this folder: found out when every worker is ready.
    let user = ["--user", "nobody"];
    let output = Command::new(UPRING).args(arguments).args(user).output().expect("it is built");
    assert_eq!(output.status.code(), Some(69), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(mode(), 0o666);
    ask_over_unix(&unix).expect("it serves as before");
    assert_eq!(first.end().0, Some(0));
}

/// A path that root has made, and a successor that is nobody by the time it may change anything.
#[test]
fn permissions_that_are_another_user_s_to_change_stay_and_it_is_said() {
    if !rustix::process::geteuid().is_root() {
        return eprintln!("SKIPPED: it takes root to become nobody");
    }
    let folder = Folder::new("not-ours");
    let open = Permissions::from_mode(0o777);
    std::fs::set_permissions(&folder.0, open).expect("it is ours");
    let (unix, place) = (folder.0.join("web"), folder.0.join("place"));
    let port = port_of(&folder);
    let config = |mode: &str| {
        format!(
            "workers = 1\nuser = 'nobody'\nhand_over = '{}'\n\
             [[listen]]\naddress = '127.0.0.1:{port}'\n\
             [[listen]]\naddress = 'unix:{}'\nmode = {mode}\n\
             [[route]]\npath = '/plaintext'\nanswer = {{ text = 'Hello, World!' }}\n",
            place.display(),
            unix.display()
        )
    };
    let file = folder.write("a.toml", &config("0o666"));
    let arguments = ["--config", file.to_str().expect("a name of ours")];
    let Some(mut first) = Served::start(&arguments, &[]) else { return };
    wait_until(|| place.exists());
    folder.write("a.toml", &config("0o600"));
    let second = Served::start(&arguments, &[]).expect("the one before could");
    first.hears("has taken over", 1);
    assert_eq!(first.process.wait().expect("it was started").code(), Some(0));
    second.hears("`mode` stays what it was: the path is another user's", 1);
    let mode = std::fs::metadata(&unix).expect("it is there").permissions().mode();
    assert_eq!(mode & 0o777, 0o666);
    ask_over_unix(&unix).expect("it serves");
    assert_eq!(second.end().0, Some(0));
}

/// Starts it on sockets as systemd does: descriptor 3, and LISTEN_PID is the process that is executed.
fn start_on(socket: impl Into<OwnedFd>, arguments: &[&str]) -> Child {
    let script = "exec 3<&0 0</dev/null; LISTEN_FDS=1 LISTEN_PID=$$ exec \"$0\" \"$@\"";
    Command::new("sh")
        .args(["-c", script, UPRING])
        .args(arguments)
        .stdin(socket.into())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("there is a shell")
}

/// Who listens at a place: whoever has started there last.
fn end_of(place: &Path) {
    let stream = UnixStream::connect(place).expect("it is offered");
    let process = rustix::net::sockopt::socket_peercred(&stream).expect("it is one").pid;
    kill_process(process, Signal::TERM).expect("it runs");
    wait_until(|| !place.exists());
}

#[test]
fn the_path_of_a_service_manager_s_socket_stays_as_it_is_over_starts_and_replacements() {
    let folder = Folder::new("managed");
    let (path, place) = (folder.0.join("web"), folder.0.join("place"));
    let (listen, shown) = (format!("unix:{}", path.display()), place.to_str().expect("ours"));
    let socket = UnixListener::bind(&path).expect("it is free");
    let mode = || std::fs::metadata(&path).map(|file| file.permissions().mode() & 0o777);
    std::fs::set_permissions(&path, Permissions::from_mode(0o606)).expect("it is ours");
    let arguments = ["--listen", &listen, "--workers", "2", "--hand-over", shown];
    let start = || start_on(socket.try_clone().expect("a descriptor"), &arguments);
    for _ in 0..2 {
        let mut server = start();
        ask_over_unix(&path).expect("it is served");
        wait_until(|| place.exists());
        kill_process(Pid::from_child(&server), Signal::TERM).expect("it runs");
        assert_eq!(server.wait().expect("it was started").code(), Some(0));
        assert_eq!(mode().ok(), Some(0o606), "it is there, and as it was");
    }
    let mut first = start();
    wait_until(|| place.exists());
    kill_process(Pid::from_child(&first), Signal::USR2).expect("it runs");
    assert_eq!(first.wait().expect("it was started").code(), Some(0), "it was replaced");
    ask_over_unix(&path).expect("its successor serves");
    wait_until(|| place.exists());
    end_of(&place);
    assert_eq!(mode().ok(), Some(0o606), "the successor knows whose it is");
    std::fs::remove_file(&path).expect("it is there");
    let mut server = start();
    wait_until(|| place.exists());
    kill_process(Pid::from_child(&server), Signal::TERM).expect("it serves all the same");
    assert_eq!(server.wait().expect("it was started").code(), Some(0));
}

/// What is open behind those that were passed is this process's own.
#[test]
fn sockets_that_are_announced_and_not_passed_keep_it_from_starting() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback is there");
    let address = listener.local_addr().expect("it is bound").to_string();
    let script = "exec 3<&0 0</dev/null; LISTEN_FDS=3 LISTEN_PID=$$ exec \"$0\" \"$@\"";
    let output = Command::new("sh")
        .args(["-c", script, UPRING, "--listen", &address])
        .stdin(OwnedFd::from(listener))
        .output()
        .expect("there is a shell");
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(69), "{told}");
    assert!(told.contains("LISTEN_FDS says 3") && told.contains("4 is not open"), "{told}");
    assert_eq!(told.lines().count(), 1, "{told}");
}

/// What a server says on standard error that was passed one socket, and how it has ended if it has by itself.
fn told_on(socket: OwnedFd, names: &str, arguments: &[&str]) -> (Option<i32>, String) {
    let script = "exec 3<&0 0</dev/null; LISTEN_FDS=1 LISTEN_PID=$$ exec \"$0\" \"$@\"";
    let mut command = Command::new("sh");
    command.args(["-c", script, UPRING]).args(arguments).env("LISTEN_FDNAMES", names);
    let (is_served, output) = outcome(command.stdin(socket), Signal::TERM);
    let code = output.status.code().filter(|_| !is_served);
    (code, String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn a_socket_that_is_passed_for_an_address_that_is_not_served_is_warned_of_by_address_and_name() {
    let bound = |address: &str| {
        let listener = TcpListener::bind(address).ok()?;
        let at = listener.local_addr().ok()?;
        Some((OwnedFd::from(listener), at))
    };
    let told = |at: &dyn std::fmt::Display, name: &str| {
        format!(
            "the socket at {at} that the service manager passes{name} belongs to no `[[listen]]`"
        )
    };
    let (socket, at) = bound("127.0.0.1:0").expect("loopback is there");
    let port = free_port();
    let other = ["--listen", &format!("127.0.0.1:{port}"), "--workers", "1"];
    for (names, shown) in [("web.socket", " (web.socket)"), ("", "")] {
        let socket = socket.try_clone().expect("a descriptor");
        let (code, log) = told_on(socket, names, &other);
        if log.contains("io_uring_setup") {
            return eprintln!("SKIPPED, the server cannot start here: {log}");
        }
        assert_eq!((code, log.matches(&told(&at, shown)).count()), (None, 1), "{log}");
        assert!(log.contains("WARN") && log.contains("take it out of the socket unit"), "{log}");
    }
    // Whose it is needs no word, be it the admin listener.
    let shown = at.to_string();
    let admin = [&other[..], &["--admin", &shown]].concat();
    let (code, log) = told_on(socket.try_clone().expect("a descriptor"), "", &admin);
    assert!(code.is_none() && !log.contains("service manager"), "{log}");
    drop(socket);
    // And it is told before what comes of it: the socket is in the way of the address.
    let Some((socket, at)) = bound("[::]:0") else {
        return eprintln!("SKIPPED: there is no IPv6 here");
    };
    let (code, log) = told_on(socket, "", &["--listen", &format!("0.0.0.0:{}", at.port())]);
    let (cause, fault) = (log.find(&told(&at, "")), log.find("another process listens there"));
    assert!(code == Some(69) && cause.is_some() && cause < fault, "{log}");
}

#[test]
fn an_address_that_a_successor_does_not_serve_any_more_is_told_once() {
    let folder = Folder::new("dropped");
    let (place, gone) = (folder.0.join("place"), format!("127.0.0.1:{}", free_port()));
    let more = format!("[[listen]]\naddress = '{gone}'\n");
    let config = |more: &str| configuration(&folder, &place, more).replace("= 1\n", "= 3\n");
    let file = folder.write("a.toml", &config(&more));
    let arguments = ["--config", file.to_str().expect("a name of ours")];
    let Some(mut first) = Served::start(&arguments, &[]) else { return };
    wait_until(|| place.exists());
    folder.write("a.toml", &config(""));
    let second = Served::start(&arguments, &[]).expect("the one before could");
    first.hears("has taken over", 1);
    assert_eq!(first.process.wait().expect("it was started").code(), Some(0));
    let (code, log) = second.end();
    let told =
        format!("the process before listens on {gone}, which this configuration does not name");
    assert_eq!((code, log.matches(&told).count()), (Some(0), 1), "{log}");
    assert_eq!(log.matches("the process before listens on").count(), 1, "{log}");
}

#[test]
fn a_port_that_the_kernel_chooses_is_said_to_be_another_one_after_a_replacement() {
    let folder = Folder::new("any-port");
    let place = folder.0.join("place");
    let shown = place.to_str().expect("a name of ours");
    let arguments = ["--listen", "127.0.0.1:0", "--workers", "2", "--hand-over", shown];
    let Some(mut first) = Served::start(&arguments, &[]) else { return };
    wait_until(|| place.exists());
    let second = Served::start(&arguments, &[]).expect("the one before could");
    first.hears("has taken over", 1);
    assert_eq!(first.process.wait().expect("it was started").code(), Some(0));
    let (before, after) = (first.address.clone(), second.address.clone());
    assert_ne!(before, after);
    let (code, log) = second.end();
    let told = format!("the process before listens on {before}, and this one, for port 0");
    assert_eq!((code, log.matches(&told).count()), (Some(0), 1), "{log}");
    assert_eq!(log.matches("WARN").count(), 1, "{log}");
}

#[test]
fn sockets_that_a_service_manager_passes_are_served() {
    for workers in ["1", "3"] {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback is there");
        let address = listener.local_addr().expect("it is bound").to_string();
        let mut server = start_on(listener, &["--listen", &address, "--workers", workers]);
        // It waits in the queue of the socket that is there already.
        for _ in 0..50 {
            ask_over_tcp(&address).unwrap_or_else(|error| panic!("{workers} workers: {error}"));
        }
        kill_process(Pid::from_child(&server), Signal::TERM).expect("it runs");
        let status = server.wait().expect("it was started");
        assert_eq!(status.code(), Some(0));
        assert!(TcpStream::connect(&address).is_err(), "nobody listens any more");
    }
}
