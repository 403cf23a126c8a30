//! Instructions for a request, a switch, an echo and a WebSocket message, counted by callgrind:
//! figures that, unlike times, are the same in every run. What the simulated kernel does is left out. Each scenario runs
//! twice in a process under valgrind, once for longer; the difference is free of what is done once.
//!
//! `cargo bench --bench instructions`; with `-- --test` each scenario runs once, without valgrind.

#[path = "support/mod.rs"]
mod support;

use std::env;
use std::process::Command;

use support::websocket::{TEXT, frame, open};
use support::{
    Alone, PLAINTEXT, SWITCH, Simulated, ready, registry, websocket, with_unused_protocols,
};
use upring::resource::Resource;

const ROUNDS: u64 = 1000;

/// What is run so many times, and how many requests or messages each time is.
struct Scenario {
    name: &'static str,
    units: u64,
    run: fn(u64),
}

const SCENARIOS: [Scenario; 12] = [
    Scenario { name: "request, session alone", units: 1, run: |rounds| session(0, 1, rounds) },
    Scenario {
        name: "the same, 20 protocols registered there",
        units: 1,
        run: |rounds| session(20, 1, rounds),
    },
    Scenario {
        name: "request, session alone, 16 pipelined",
        units: 16,
        run: |rounds| session(0, 16, rounds),
    },
    Scenario { name: "request, engine", units: 1, run: |rounds| requests(1, rounds) },
    Scenario {
        name: "request, engine, 64 connections a turn",
        units: 64,
        run: |rounds| requests(64, rounds),
    },
    Scenario { name: "connection with a switch, engine", units: 1, run: switches },
    Scenario { name: "echo of 64 bytes, engine", units: 1, run: echoes },
    Scenario {
        name: "WebSocket message of 64 bytes echoed, engine",
        units: 1,
        run: |rounds| messages(64, 1, rounds),
    },
    Scenario { name: "the same, 16 at once", units: 16, run: |rounds| messages(64, 16, rounds) },
    Scenario {
        name: "WebSocket message of 1 KiB echoed, engine",
        units: 1,
        run: |rounds| messages(1024, 1, rounds),
    },
    Scenario {
        name: "WebSocket message of 16 KiB echoed, engine",
        units: 1,
        run: |rounds| messages(16 * 1024, 1, rounds),
    },
    Scenario {
        name: "WebSocket message to 64 subscribers, engine, each",
        units: 64,
        run: |rounds| broadcasts(64, rounds),
    },
];

/// Collection begins in these and stops in what the kernel does; each entering and leaving toggles.
const TOGGLES: [&str; 3] = ["*Alone*::*", "*Simulated*::turn*", "*Watched*::inside*"];

fn main() {
    let arguments: Vec<String> = env::args().collect();
    let has = |wanted: &str| arguments.iter().any(|argument| argument == wanted);
    match arguments.iter().position(|argument| argument == "--scenario") {
        Some(at) => {
            let number = |offset: usize| arguments[at + offset].parse::<usize>().expect("a number");
            (SCENARIOS[number(1)].run)(number(2) as u64);
        }
        // As criterion does it: cargo says `--bench` to measure, and nothing to test.
        None if has("--test") || !has("--bench") => {
            SCENARIOS.iter().for_each(|scenario| (scenario.run)(1));
        }
        None => SCENARIOS.iter().enumerate().for_each(|(index, scenario)| {
            match (counted(index, ROUNDS), counted(index, 2 * ROUNDS)) {
                (Some(once), Some(twice)) => {
                    println!("{:5} {}", (twice - once) / ROUNDS / scenario.units, scenario.name);
                }
                _ => println!("SKIPPED, valgrind does not run here: {}", scenario.name),
            }
        }),
    }
}

/// Instructions of a scenario, run so many times in a process of its own.
fn counted(index: usize, rounds: u64) -> Option<u64> {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null", "--collect-atstart=no"])
        .args(TOGGLES.map(|pattern| format!("--toggle-collect={pattern}")))
        .arg(env::current_exe().ok()?)
        .args(["--scenario", &index.to_string(), &rounds.to_string()])
        .output()
        .ok()?;
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    let line = text.lines().find(|line| line.contains("Collected :"))?;
    line.rsplit(' ').next()?.parse().ok()
}

fn session(protocols: usize, pipelined: usize, rounds: u64) {
    let bytes = PLAINTEXT.repeat(pipelined);
    let mut registry = registry();
    let resource = Resource::new().get(ready("Hello, World!"));
    registry.insert("/plaintext", with_unused_protocols(resource, protocols));
    let mut alone = Alone::new(registry);
    for _ in 0..rounds {
        alone.receive(&bytes);
        alone.send();
    }
}

fn requests(connections: usize, rounds: u64) {
    let mut simulated = Simulated::new(registry(), |_| {});
    let clients: Vec<_> = (0..connections).map(|_| simulated.connect()).collect();
    for _ in 0..rounds {
        clients.iter().for_each(|client| client.write(PLAINTEXT));
        simulated.settle();
        clients.iter().for_each(|client| drop(client.read()));
    }
}

/// Accepted, switched, one message echoed, ended by the client, closed.
fn switches(rounds: u64) {
    let bytes = [SWITCH, b"early"].concat();
    let mut simulated = Simulated::new(registry(), |_| {});
    for _ in 0..rounds {
        let client = simulated.connect();
        client.write(&bytes);
        simulated.settle();
        client.read();
        client.finish();
        simulated.settle();
    }
}

fn echoes(rounds: u64) {
    let mut simulated = Simulated::new(registry(), |_| {});
    let client = simulated.connect();
    client.write(SWITCH);
    simulated.settle();
    client.read();
    for _ in 0..rounds {
        client.write(&[b'x'; 64]);
        simulated.settle();
        client.read();
    }
}

/// So many messages of `len` bytes, echoed, in each round.
fn messages(len: usize, count: usize, rounds: u64) {
    let bytes = frame(TEXT, &vec![b'x'; len]).repeat(count);
    let mut simulated = Simulated::new(websocket::registry(), |_| {});
    let client = open(&mut simulated, "/ws", "", 1).remove(0);
    for _ in 0..rounds {
        client.write(&bytes);
        simulated.settle();
        client.read();
    }
}

/// One message of 64 bytes to all subscribers in each round.
fn broadcasts(subscribers: usize, rounds: u64) {
    let bytes = frame(TEXT, &[b'x'; 64]);
    let mut simulated = Simulated::new(websocket::registry(), |_| {});
    let clients = open(&mut simulated, "/all", "", subscribers);
    for _ in 0..rounds {
        clients[0].write(&bytes);
        simulated.settle();
        clients.iter().for_each(|client| drop(client.read()));
    }
}
