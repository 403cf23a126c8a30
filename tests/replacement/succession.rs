//! Two processes beside each other: the one that was succeeded, which drains, and the one that serves. What signals
//! mean to the old one, what it tells the service manager, and which program the new one is.

use std::fs;
use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use super::free_port;
use super::process::{Folder, PATIENCE, Served, UPRING, switched};
use rustix::net::sockopt::set_socket_passcred;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use rustix::process::{Pid, Signal, kill_process};

/// A free port, most likely: a successor is configured with the same.
fn free() -> String {
    format!("127.0.0.1:{}", free_port())
}

fn shown(path: &Path) -> &str {
    path.to_str().expect("a name of ours")
}

fn wait_until(is_so: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "it does not come to that");
        thread::sleep(Duration::from_millis(5));
    }
}

/// Whom a server has started in its place; ended with the test.
struct Started(Pid);

impl Started {
    /// Once it serves.
    fn by(served: &Served) -> Started {
        served.hears("has taken over", 1);
        let log = served.log();
        let named = log.split("process ").find_map(|rest| rest.split_once(" has taken over"));
        let id = named.expect("it is named").0.parse().expect("a number");
        Started(Pid::from_raw(id).expect("not zero"))
    }

    fn id(&self) -> i32 {
        self.0.as_raw_nonzero().get()
    }

    fn program(&self) -> PathBuf {
        fs::read_link(format!("/proc/{}/exe", self.id())).expect("it runs")
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        let _ = kill_process(self.0, Signal::TERM);
    }
}

/// A service manager: what it is told, and by whom.
struct Manager(UnixDatagram);

impl Manager {
    fn at(path: &Path) -> Manager {
        let socket = UnixDatagram::bind(path).expect("it is free");
        set_socket_passcred(&socket, true).expect("unix(7)");
        Manager(socket)
    }

    /// All that has come since it was asked last.
    fn heard(&self) -> Vec<(i32, String)> {
        let mut heard = Vec::new();
        loop {
            let mut text = [0; 512];
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmCredentials(1))];
            let mut control = RecvAncillaryBuffer::new(&mut space);
            let into = &mut [IoSliceMut::new(&mut text)];
            let Ok(message) = recvmsg(&self.0, into, &mut control, RecvFlags::DONTWAIT) else {
                return heard;
            };
            let of = control.drain().find_map(|message| match message {
                RecvAncillaryMessage::ScmCredentials(of) => Some(of.pid.as_raw_nonzero().get()),
                _ => None,
            });
            let said = String::from_utf8_lossy(&text[..message.bytes]).into_owned();
            heard.push((of.expect("the kernel says who it is"), said));
        }
    }
}

#[test]
fn a_process_that_was_succeeded_starts_nobody_and_leaves_the_service_manager_to_its_successor() {
    let folder = Folder::new("succeeded");
    let (place, socket) = (folder.0.join("place"), folder.0.join("notify"));
    // By a name of its own, which is found among all processes.
    let name = format!("up{}", std::process::id());
    let program = folder.0.join(&name);
    fs::copy(UPRING, &program).expect("there is room");
    let manager = Manager::at(&socket);
    let listen = free();
    let mut command = Command::new(&program);
    command.args(["--listen", &listen, "--workers", "1", "--hand-over", shown(&place)]);
    command.env("NOTIFY_SOCKET", &socket).env("WATCHDOG_USEC", "100000");
    let Some(old) = Served::of(command) else { return };
    let kept = switched(&listen);
    wait_until(|| place.exists());
    old.signal(Signal::USR2);
    let new = Started::by(&old);
    wait_until(|| place.exists());
    // What it was about to say as it was succeeded.
    thread::sleep(Duration::from_millis(200));
    manager.heard();
    match Command::new("pgrep").args(["-n", "-x", &name]).output() {
        Ok(output) => {
            assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), new.id().to_string())
        }
        Err(_) => eprintln!("SKIPPED: there is no pgrep here"),
    }
    let serves = format!("process {} has taken this one's place", new.id());
    old.signal(Signal::USR2);
    old.hears(&format!("not replaced: {serves}"), 1);
    old.signal(Signal::HUP);
    old.hears(&format!("not reloaded: {serves}"), 1);
    old.signal(Signal::TERM);
    old.hears("stopping, which began when process", 1);
    // Several signs of life.
    thread::sleep(Duration::from_millis(500));
    let heard = manager.heard();
    let is_of_new = |(of, said): &(i32, String)| *of == new.id() && said == "WATCHDOG=1\n";
    assert!(!heard.is_empty() && heard.iter().all(is_of_new), "{heard:?}");
    assert_eq!(old.log().matches("is to take over").count(), 1, "{}", old.log());
    // It still drains, and the other serves.
    drop(kept);
    let mut old = old;
    assert_eq!(old.process.wait().expect("it was started").code(), Some(0), "{}", old.log());
    drop(switched(&listen));
}

/// Its Unix sockets are the same by whatever path the file was named.
#[test]
fn a_file_that_is_named_otherwise_takes_over_what_it_names() {
    let folder = Folder::new("otherwise");
    fs::create_dir(folder.0.join("conf")).expect("it is ours");
    let text = "workers = 1\nhand_over = 'place'\n[[listen]]\naddress = 'unix:web'\n\
                [admin]\nlisten = 'unix:../admin'\n";
    let file = folder.write("conf/a.toml", text);
    let start = |from: &Path, file: &str| {
        let mut command = Command::new(UPRING);
        command.args(["--config", file]).current_dir(from);
        Served::of(command)
    };
    let Some(mut old) = start(&folder.0, "conf/a.toml") else { return };
    let others = [(Path::new("/"), shown(&file)), (&*folder.0.join("conf"), "../conf/./a.toml")];
    for (from, file) in others {
        wait_until(|| folder.0.join("conf/place").exists());
        let new = start(from, file).expect("the one before could");
        old.hears("has taken over", 1);
        assert_eq!(old.process.wait().expect("it was started").code(), Some(0), "{}", old.log());
        assert!(!new.log().contains("does not name"), "{}", new.log());
        old = new;
    }
    assert_eq!(old.end().0, Some(0));
}

/// A link to the version that is installed, which is how packages without a manager are upgraded and taken back.
#[test]
fn the_program_that_is_started_anew_is_the_one_that_was_called_and_not_where_its_link_led() {
    let folder = Folder::new("called");
    let (link, versions) =
        (folder.0.join("bin/upring"), ["1", "2"].map(|name| folder.0.join(name)));
    fs::create_dir(folder.0.join("bin")).expect("it is ours");
    fs::create_dir_all(folder.0.join("empty/upring")).expect("a folder is no program");
    fs::copy(UPRING, &versions[0]).expect("there is room");
    fs::copy(UPRING, &versions[1]).expect("there is room");
    let search =
        format!("/nowhere:{}:{}", shown(&folder.0.join("empty")), shown(&folder.0.join("bin")));
    let own = fs::canonicalize(UPRING).expect("it is built");
    for (program, called, started, is_found) in [
        (Path::new("upring"), "upring", &link, &versions[1]),
        (&link, shown(&link), &link, &versions[1]),
        (&link, "./bin/upring", &link, &versions[1]),
        // Of that name there is another program, or none.
        (Path::new(UPRING), "upring", &own, &own),
        (Path::new(UPRING), "-sh", &own, &own),
    ] {
        let _ = fs::remove_file(&link);
        symlink(&versions[0], &link).expect("it is ours");
        let (listen, place) = (free(), folder.0.join("place"));
        let mut command = Command::new(program);
        command.arg0(called).env("PATH", &search).current_dir(&folder.0);
        command.args(["--listen", &listen, "--workers", "1", "--hand-over", shown(&place)]);
        let Some(mut old) = Served::of(command) else { return };
        fs::remove_file(&link).expect("it is there");
        symlink(&versions[1], &link).expect("it is ours");
        wait_until(|| place.exists());
        old.signal(Signal::USR2);
        let new = Started::by(&old);
        assert_eq!(&new.program(), is_found, "{called}: {}", old.log());
        let named = format!("is to take over: {}", started.display());
        assert!(old.log().contains(&named), "{called}: {}", old.log());
        assert_eq!(old.process.wait().expect("it was started").code(), Some(0));
        drop(new);
        wait_until(|| !place.exists());
    }
}

#[test]
fn the_end_of_a_successor_is_an_error_if_it_has_failed_and_not_if_it_has_served_until_it_was_told()
{
    let folder = Folder::new("ended");
    let (listen, place) = (free(), folder.0.join("place"));
    let file = |text: &str| {
        let text =
            format!("hand_over = '{}'\n[[listen]]\naddress = '{listen}'\n{text}", shown(&place));
        folder.write(
            "a.toml",
            &format!("workers = 1\n{text}[[route]]\npath = '/echo'\nupgrade = 'echo'\n"),
        )
    };
    let path = file("");
    let Some(old) = Served::start(&["--config", shown(&path)], &[]) else { return };
    let kept = switched(&listen);
    wait_until(|| place.exists());
    file("unknown = 1\n");
    old.signal(Signal::USR2);
    old.hears(", which was to take over, has ended: exit status: 78", 1);
    assert!(old.log().contains("ERROR"), "{}", old.log());
    file("");
    old.signal(Signal::USR2);
    let new = Started::by(&old);
    wait_until(|| place.exists());
    let id = new.id();
    drop(new);
    old.hears(&format!("process {id}, which had taken over, has ended: exit status: 0"), 1);
    let log = old.log();
    let line = log.lines().find(|line| line.contains("had taken over")).expect("it was heard");
    assert!(line.contains(" INFO "), "{line}");
    assert_eq!(log.matches("ERROR").count(), 1, "{log}");
    drop(kept);
}
