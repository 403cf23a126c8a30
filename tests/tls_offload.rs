//! Handshakes that are made on the thread beside a core, over real sockets and on both hosts: of those who
//! leave in the middle nothing is left, and a core that is never idle lets new clients in all the same.
//! Skipped, loudly, where io_uring is denied.

#[path = "support/certificates.rs"]
mod certificates;
#[path = "support/inside_tls.rs"]
mod inside_tls;
#[path = "support/loopback.rs"]
#[allow(dead_code, reason = "each test takes the part of it that it needs")]
mod loopback;

use std::io::{Read, Write};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use socket2::SockRef;

use certificates::ask;
use inside_tls::{Authority, InsideTls, NAME, versions};
use loopback::{PATIENCE, connect, start, wait_until};
use upring::config::DrainTimes;
use upring::http::{Request, Response, Status};
use upring::resource::{Reply, Resource, from_head};
use upring::{HostKind, Running, Server};

const HOSTS: [HostKind; 2] = [HostKind::Hosted, HostKind::Native];

/// How long a handler keeps its core.
const BURNT: Duration = Duration::from_millis(2);

/// One core; `None` where io_uring is denied.
fn serve(host: HostKind) -> Option<Running> {
    let mut config = loopback::config();
    config.host = host;
    // A turn is over behind one answer to each.
    config.limits.requests_per_turn = 1;
    config.drain = DrainTimes::within(Duration::from_secs(1));
    config.listen[0].tls = Some(Authority::usual().settings.clone());
    let ok = from_head(|_: &Request<'_>, reply: &mut Reply<'_>| {
        reply.send(&Response::text(Status::OK, "ok"));
    });
    let burn = from_head(|_: &Request<'_>, reply: &mut Reply<'_>| {
        let begun = Instant::now();
        while begun.elapsed() < BURNT {
            std::hint::spin_loop();
        }
        reply.send(&Response::text(Status::OK, "burnt"));
    });
    let server = Server::new(config).route("/", Resource::new().get(ok));
    start(server.route("/burn", Resource::new().get(burn)))
}

/// A client whose handshake is over.
fn shake(running: &Running) -> certificates::Inside {
    // Of its own: without a ticket.
    let config = Authority::usual().client_config(versions()[0]);
    let client = connect(running.addresses()[0]);
    certificates::inside(client, NAME, &config).expect("the handshake")
}

#[test]
fn those_who_leave_in_the_middle_of_their_handshakes_are_no_ones_loss() {
    let config = Authority::usual().client_config(versions()[0]);
    // The same of all: a hello is theirs to make.
    let hello = InsideTls::new(&config, NAME).output();
    for host in HOSTS {
        let Some(running) = serve(host) else { return };
        for at in 0..300 {
            let mut client = connect(running.addresses()[0]);
            client.write_all(&hello).expect("it is open");
            // Some before anything is received, some in the middle of it, some behind.
            thread::sleep(Duration::from_micros(at % 4 * 300));
            SockRef::from(&client).set_linger(Some(Duration::ZERO)).expect("a TCP socket");
        }
        let none_is_left = || {
            let open = ["connections_open", "tls_handshakes_open", "tls_connections_open"];
            open.iter().all(|name| running.counter(name) == 0)
        };
        wait_until("all are gone", || {
            running.counter("connections_accepted") == 300 && none_is_left()
        });
        let heard = running.counter("bytes_received") / hello.len() as u64;
        assert!(heard > 30, "the hellos of {heard} were received");
        assert_eq!(running.counter("tls_handshakes"), 0, "nobody has finished");
        let mut good: Vec<_> = (0..20).map(|_| shake(&running)).collect();
        for stream in &mut good {
            assert_eq!(ask(stream, "/").expect("it answers"), "200 ok");
        }
        let open = ["tls_handshakes", "tls_connections_open", "tls_handshakes_open"];
        assert_eq!(open.map(|name| running.counter(name)), [20, 20, 0]);
        drop(good);
        wait_until("the others are gone, too", none_is_left);
        running.stop().expect("it stops in order");
    }
}

/// Starts a server whose core and the thread beside it have one CPU together, and has the rest of the test
/// run on the others, if there are any.
fn serve_on_one_cpu(host: HostKind) -> Option<Running> {
    let all = sched_getaffinity(None).expect("anybody may ask");
    let mut allowed = (0..CpuSet::MAX_CPU).filter(|cpu| all.is_set(*cpu));
    let (mut one, mut others) = (CpuSet::new(), all);
    let first = allowed.next().expect("it runs somewhere");
    one.set(first);
    if allowed.next().is_some() {
        others.unset(first);
    }
    // Threads inherit it from those that start them.
    sched_setaffinity(None, &one).expect("it is one of ours");
    let running = serve(host);
    sched_setaffinity(None, &others).expect("they are ours");
    running
}

/// Takes all CPUs that this process may run on, twice, until it is over.
fn take_all_cpus<'scope>(scope: &'scope thread::Scope<'scope, '_>, is_over: &'scope AtomicBool) {
    let all = sched_getaffinity(None).expect("anybody may ask");
    for cpu in (0..CpuSet::MAX_CPU).filter(|cpu| all.is_set(*cpu)) {
        for _ in 0..2 {
            scope.spawn(move || {
                let mut one = CpuSet::new();
                one.set(cpu);
                sched_setaffinity(None, &one).expect("it is one of ours");
                while !is_over.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            });
        }
    }
}

#[test]
fn others_that_leave_no_cpu_idle_keep_no_client_waiting_for_what_gives_way() {
    for host in HOSTS {
        let Some(running) = serve(host) else { return };
        let (is_over, mut times) = (AtomicBool::new(false), Vec::new());
        thread::scope(|scope| {
            let over = Over(&is_over);
            take_all_cpus(scope, &is_over);
            // What gives way gets some time even here: how much, the kernel knows.
            wait_until("the worker makes handshakes itself", || {
                let begun = Instant::now();
                let mut stream = shake(&running);
                times.push(begun.elapsed());
                assert_eq!(ask(&mut stream, "/").expect("it answers"), "200 ok");
                times.len() >= 20 && running.counter("tls_offloads_late") > 0
            });
            drop(over);
        });
        times.sort_unstable();
        println!(
            "{host:?}: where others have all CPUs a handshake takes {:?}",
            times[times.len() / 2]
        );
        assert_eq!(running.counter("tls_handshakes"), times.len() as u64);
        running.stop().expect("it stops in order");
    }
}

/// Tells that it is over, also when a test fails: others wait for it.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn a_core_that_is_never_idle_lets_new_clients_in_and_serves_those_who_are_there() {
    const COUNT: u64 = 5;
    for host in HOSTS {
        let Some(running) = serve_on_one_cpu(host) else { return };
        let (is_over, burnt) = (AtomicBool::new(false), AtomicU64::new(0));
        let burning: Vec<_> = (0..3).map(|_| shake(&running)).collect();
        thread::scope(|scope| {
            let over = Over(&is_over);
            for mut stream in burning {
                let (is_over, burnt) = (&is_over, &burnt);
                scope.spawn(move || {
                    let burn = b"GET /burn HTTP/1.1\r\nHost: a\r\n\r\n";
                    // Some more wait as long as one is answered.
                    stream.write_all(&burn.repeat(4)).expect("it is open");
                    while !is_over.load(Ordering::Relaxed) {
                        assert_eq!(ask(&mut stream, "/burn").expect("it answers"), "200 burnt");
                        burnt.fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
            wait_until("all of them burn", || burnt.load(Ordering::Relaxed) > 9);
            let before = burnt.load(Ordering::Relaxed);
            for _ in 0..COUNT {
                assert_eq!(ask(&mut shake(&running), "/").expect("it answers"), "200 ok");
            }
            let meanwhile = burnt.load(Ordering::Relaxed) - before;
            drop(over);
            assert!(meanwhile > COUNT, "{meanwhile}: nobody stopped for them");
        });
        assert_eq!(running.counter("tls_handshakes"), 3 + COUNT);
        running.stop().expect("it stops in order");
    }
}

/// Has so many strangers say hello at the same time; how long it takes until all are answered.
fn burst(running: &Running, count: u64) -> Duration {
    let hello = InsideTls::new(&Authority::usual().client_config(versions()[0]), NAME).output();
    let mut strangers: Vec<_> = (0..count).map(|_| connect(running.addresses()[0])).collect();
    let begun = Instant::now();
    for stranger in &mut strangers {
        stranger.write_all(&hello).expect("it is open");
    }
    for stranger in &mut strangers {
        stranger.read_exact(&mut [0]).expect("it is answered");
    }
    begun.elapsed()
}

#[test]
fn a_core_lets_the_thread_beside_it_work_and_sleeps_meanwhile() {
    // Twice as many as the thread has at a time, and less than they take it if it has its time.
    const COUNT: u64 = 16;
    const IN_TIME: Duration = Duration::from_millis(8);
    for host in HOSTS {
        let Some(running) = serve(host) else { return };
        let (mut left, begun) = (5, Instant::now());
        while left > 0 && begun.elapsed() < PATIENCE / 10 {
            let counted = || ["turns", "tls_offloads_late"].map(|name| running.counter(name));
            let before = counted();
            let took = burst(&running, COUNT);
            let [turns, late] = counted();
            let (turns, late) = (turns - before[0], late - before[1]);
            // Each is accepted, received, back, sent to, and gone; and the core looks once a millisecond.
            let expected = u128::from(10 * COUNT) + 2 * took.as_millis();
            assert!(u128::from(turns) < expected, "{host:?}: {turns} turns in {took:?}");
            // Nobody is late before ten milliseconds are over.
            if took < IN_TIME {
                assert_eq!(late, 0, "{host:?}: it was not waited for, in {took:?}");
                left -= 1;
            }
            wait_until("they are gone", || running.counter("connections_open") == 0);
        }
        if left > 0 {
            eprintln!("SKIPPED in part: others leave the thread beside a core no time");
        }
        running.stop().expect("it stops in order");
    }
}
