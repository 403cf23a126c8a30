//! The whole engine on the simulated kernel: slots, timers, turns and what is settled in them. In
//! times the simulation's own work is part of the figure, in instructions it is not.

use std::time::Duration;

use upring::config::Limits;
use upring::ring::ListenerId;
use upring::ring::sim::Client;

use super::Body;
use crate::support::counted::{by_the_few, timed};
use crate::support::{Engines, PLAINTEXT, SWITCH, Simulated, registry};

pub fn bodies() -> Vec<Body> {
    let requests = [1, 64, 512].map(|connections| {
        let name = format!("request, {connections} connections a turn");
        let body = Body::new("engine", name, move || asked(connections, 0));
        let body = body.units(connections as u64);
        // It takes as many instructions for each as fewer do, and under valgrind ten seconds.
        if connections > 64 { body.only_timed() } else { body }
    });
    let echoes = [64, 1024, 16 * 1024].map(|len| {
        Body::new("engine", format!("echo of {len} bytes"), move || echoed(len)).bytes(len)
    });
    let others = [
        Body::new("engine", "request, 64 connections, 15 s behind the last", || asked(64, 15_000))
            .units(64),
        Body::new("engine", "turn for 1 of 1024 connections", one_of_many),
        Body::new("engine", "connection with a request", || {
            connections(PLAINTEXT.to_vec(), b"\r\n\r\nHello, World!")
        }),
        Body::new("engine", "connection with a switch", || {
            connections([SWITCH, b"early"].concat(), b"\r\n\r\nearly")
        }),
        Body::new("engine", "connection that times out", timeouts),
    ];
    requests.into_iter().chain(echoes).chain(others).collect()
}

/// A request of each connection in a round, so many milliseconds behind the last.
fn asked(connections: usize, millis: u64) -> impl FnMut(u64) -> Duration {
    let mut simulated = Simulated::new(registry(), |_| {});
    let clients: Vec<_> = (0..connections).map(|_| simulated.connect()).collect();
    let mut round = move || {
        clients.iter().for_each(|client| client.write(PLAINTEXT));
        simulated.settle();
        simulated.world.advance(millis);
        clients.iter().all(|client| client.read().ends_with(b"\r\n\r\nHello, World!"))
    };
    move |rounds| timed(|| (0..rounds).for_each(|_| assert!(round())))
}

fn echoed(len: usize) -> impl FnMut(u64) -> Duration {
    let bytes = vec![b'x'; len];
    let mut simulated = Simulated::new(registry(), |_| {});
    let client = switched(&mut simulated);
    let mut round = move || {
        client.write(&bytes);
        simulated.settle();
        client.read()
    };
    assert_eq!(round(), vec![b'x'; len]);
    move |rounds| timed(|| (0..rounds).for_each(|_| assert_eq!(round().len(), len)))
}

/// An echo while many others are open and silent: they cost nothing.
fn one_of_many() -> impl FnMut(u64) -> Duration {
    let mut simulated = Simulated::new(registry(), |_| {});
    let mut clients: Vec<_> = (0..1024).map(|_| switched(&mut simulated)).collect();
    let client = clients.swap_remove(512);
    move |rounds| {
        timed(|| {
            for _ in 0..rounds {
                client.write(b"ping");
                simulated.settle();
                assert_eq!(client.read(), b"ping");
            }
        })
    }
}

/// Accepted, answered, ended by the client and closed.
fn connections(said: Vec<u8>, end: &'static [u8]) -> impl FnMut(u64) -> Duration {
    let mut engines = Engines::new(registry);
    move |rounds| {
        by_the_few(rounds, |count| {
            let simulated = engines.one_for(count);
            timed(|| {
                for _ in 0..count {
                    let client = simulated.world.connect(ListenerId(0));
                    client.write(&said);
                    simulated.settle();
                    assert!(client.read().ends_with(end));
                    client.finish();
                    simulated.settle();
                    assert!(!client.is_open());
                }
            })
        })
    }
}

/// Accepted, and closed since nothing comes.
fn timeouts() -> impl FnMut(u64) -> Duration {
    let idle_ms = Limits::default().idle_timeout_ms;
    move |rounds| {
        by_the_few(rounds, |count| {
            let mut simulated = Simulated::new(registry(), |_| {});
            let clients: Vec<_> = (0..count).map(|_| simulated.connect()).collect();
            simulated.world.advance(idle_ms + 1);
            let took = timed(|| simulated.settle());
            assert!(clients.iter().all(|client| client.ending().is_some()));
            took
        })
    }
}

/// A connection that was switched to `echo`.
fn switched(simulated: &mut Simulated) -> Client {
    let client = simulated.connect();
    client.write(SWITCH);
    simulated.settle_aside();
    assert!(client.read().starts_with(b"HTTP/1.1 101 "));
    client
}
