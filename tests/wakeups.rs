//! Lost wake-ups: a hosted core falls asleep and is woken by one byte, again and again, and answers
//! each time. The core counts its sleeps, and a byte is sent only once it has counted another one:
//! right when it is about to sleep.
//!
//! The long run, a million cycles each, is `cargo test --test wakeups -- --ignored`, with `--release` or
//! without.

#[path = "support/loopback.rs"]
#[allow(dead_code)] // Shared with tests that use more of it.
mod loopback;

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use loopback::{config, serve, upgrade};
use upring::{HostKind, Protocol, Resource, Running, Server, Upgraded};

/// No answer for so long is a lost wake-up.
const STALL: Duration = Duration::from_secs(5);

/// Cycles without being asked for more.
const CYCLES: u64 = 100_000;
const CYCLES_LONG: u64 = 1_000_000;

/// Timers that fired and operations of tokio-uring that ended while the cycles ran.
static TICKS: AtomicU64 = AtomicU64::new(0);

#[test]
fn every_byte_wakes_a_sleeping_core() {
    idle_but_for_one(CYCLES, false);
}

#[test]
fn every_byte_wakes_a_core_that_also_runs_tasks_and_timers() {
    idle_but_for_one(CYCLES / 2, true);
}

#[test]
#[ignore = "a million cycles"]
fn every_byte_of_a_million_wakes_a_sleeping_core() {
    idle_but_for_one(CYCLES_LONG, false);
}

#[test]
#[ignore = "a million cycles"]
fn every_byte_of_a_million_wakes_a_core_that_also_runs_tasks_and_timers() {
    idle_but_for_one(CYCLES_LONG, true);
}

/// One connection with a callback handler, or one with an async handler beside others that keep the
/// runtime busy.
fn idle_but_for_one(cycles: u64, is_busy: bool) {
    let protocol = match is_busy {
        false => upring::protocols::echo::protocol(),
        true => Protocol::asynchronous("echo", |_, upgraded| echo(upgraded)),
    };
    let mut config = config();
    config.host = HostKind::Hosted;
    let Some(probe) = serve(config.clone(), upring::protocols::echo::protocol()) else { return };
    probe.stop().expect("it stops");
    let server = Server::new(config)
        .route("/", Resource::new().upgrade(protocol))
        .route("/ticks", Resource::new().upgrade(Protocol::asynchronous("ticks", |_, it| tick(it))))
        .start()
        .expect("one like it has just run");
    let address = server.addresses()[0];
    let others: Vec<_> = (0..if is_busy { 3 } else { 0 }).map(|_| ticking(address)).collect();
    let (begun, before, ticks) =
        (Instant::now(), server.counter("sleeps"), TICKS.load(Ordering::Relaxed));
    cycle(address, &server, cycles);
    let slept = server.counter("sleeps") - before;
    let ticks = TICKS.load(Ordering::Relaxed) - ticks;
    let beside = if is_busy { format!(" beside {ticks} ticks") } else { String::new() };
    println!("{cycles} cycles, {slept} sleeps{beside} in {:?}: no stall", begun.elapsed());
    assert!(slept >= cycles, "{slept} sleeps in {cycles} cycles");
    assert!(!is_busy || ticks > 0, "the tasks beside it did nothing");
    drop(others);
    server.stop().expect("it stops");
}

fn cycle(address: SocketAddr, server: &Running, cycles: u64) {
    let mut client = upgrade(address, "echo", b"");
    client.set_read_timeout(Some(STALL)).expect("a TCP socket");
    let mut slept = 0;
    for number in 0..cycles {
        let begun = Instant::now();
        loop {
            let sleeps = server.counter("sleeps");
            if sleeps > slept {
                slept = sleeps;
                break;
            }
            assert!(begun.elapsed() < STALL, "cycle {number}: the core does not fall asleep");
            thread::yield_now();
        }
        let byte = [number as u8];
        client.write_all(&byte).expect("the connection is open");
        let mut answer = [0];
        if let Err(error) = client.read_exact(&mut answer) {
            panic!("cycle {number} of {cycles} stalled: {error}");
        }
        assert_eq!(answer, byte, "cycle {number}");
    }
}

async fn echo(mut upgraded: Upgraded) {
    while let Ok(Some(bytes)) = upgraded.recv().await {
        if upgraded.send(bytes).await.is_err() {
            return;
        }
    }
}

/// Timers, operations of tokio-uring's own ring and sends, without a pause that lasts.
async fn tick(mut upgraded: Upgraded) {
    let file = tokio_uring::fs::File::open("/proc/self/stat").await.expect("proc is mounted");
    for pause in [0, 1, 2, 5].into_iter().cycle() {
        tokio::time::sleep(Duration::from_millis(pause)).await;
        let (read, _) = file.read_at(vec![0; 64], 0).await;
        read.expect("it can be read");
        TICKS.fetch_add(1, Ordering::Relaxed);
        if upgraded.send("tick").await.is_err() {
            return;
        }
    }
}

/// A client of `ticks` that reads until it is dropped.
fn ticking(address: SocketAddr) -> Ticking {
    let mut client = loopback::connect(address);
    client.write_all(loopback::request("/ticks", "ticks").as_bytes()).expect("it is open");
    let is_over = Arc::new(AtomicBool::new(false));
    let over = Arc::clone(&is_over);
    let thread = thread::spawn(move || {
        let mut bytes = [0; 4096];
        while !over.load(Ordering::Relaxed) && client.read(&mut bytes).is_ok_and(|len| len > 0) {}
    });
    Ticking { is_over, thread: Some(thread) }
}

struct Ticking {
    is_over: Arc<AtomicBool>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Drop for Ticking {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
