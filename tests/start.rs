//! A server that cannot start says so, whichever of its cores fails first, and leaves nothing
//! running.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, setrlimit};
use upring::{Config, Server};

const MILLISECOND: Duration = Duration::from_millis(1);

/// The limit holds for the process: this test has it to itself.
#[test]
fn a_server_that_lacks_descriptors_for_some_of_its_cores_ends_with_an_error() {
    let (tell, told) = mpsc::channel();
    let mut refused = 0;
    // Lowered to the point where not even one core has what it needs.
    for limit in (8..100).rev() {
        let bound = Some(limit);
        setrlimit(Resource::Nofile, Rlimit { current: bound, maximum: bound })
            .expect("it is lower");
        let tell = tell.clone();
        thread::spawn(move || {
            let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
            let config = Config { workers: 6, ..Config::listening(listen) };
            let outcome = Server::new(config).start().map(|running| running.stop());
            let _ = tell.send(outcome.is_ok());
        });
        let outcome = told.recv_timeout(Duration::from_secs(10));
        assert!(outcome.is_ok(), "with {limit} descriptors the server neither starts nor ends");
        refused += u32::from(outcome == Ok(false));
        // A thread that was joined may be listed a moment longer.
        let is_left = |_: &u32| thread_names().iter().any(|name| name.starts_with("upring-"));
        let looks = (0..1000).take_while(is_left).inspect(|_| thread::sleep(MILLISECOND)).count();
        assert!(looks < 1000, "with {limit} descriptors workers were left behind");
    }
    assert!(refused > 0, "eight descriptors are not enough for six cores");
}

fn thread_names() -> Vec<String> {
    let tasks = std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    tasks.filter_map(|task| std::fs::read_to_string(task.path().join("comm")).ok()).collect()
}
