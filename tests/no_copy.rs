//! Promise 1: nothing is copied at the switch. The first byte a handler sees lies where the kernel
//! wrote it, and an echo is sent from there, for every split point of the client's bytes; only a
//! head that was cut is assembled, and no byte behind it. Shown on the simulated kernel, and on a
//! real ring with a real client.

#[path = "../benches/support/mod.rs"]
mod support;

use std::cell::RefCell;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};

use support::watched::{Place, Watched, place};
use support::{SWITCH, Simulated, core, engine};
use upring::buffer::Lease;
use upring::config::{Limits, RingConfig};
use upring::engine::Engine;
use upring::resource::{Registry, Resource};
use upring::ring::{Kernel, Ring, Wait, listen, local_address, setup};
use upring::upgrade::{Handler, Io, Protocol};

thread_local! {
    /// The leases handed to the handler, in order.
    static SEEN: RefCell<Vec<Place>> = const { RefCell::new(Vec::new()) };
}

/// An echo that notes where its bytes lie.
struct Witness;

impl Handler for Witness {
    fn on_bytes(&mut self, bytes: Lease, io: &mut Io<'_>) {
        SEEN.with_borrow_mut(|seen| seen.push(place(&bytes)));
        io.send(bytes);
    }

    fn on_end(&mut self, io: &mut Io<'_>) {
        io.end();
    }
}

fn registry() -> Registry {
    let mut registry = Registry::default();
    let protocol = Protocol::callback("echo", |_| Witness);
    registry.insert("/echo", Resource::new().upgrade(protocol));
    registry
}

/// Bytes that differ from their neighbours.
fn early(count: usize) -> Vec<u8> {
    (0..count).map(|index| b'a' + (index % 26) as u8).collect()
}

/// Forgets what was seen before, and gives the bytes assembled so far.
fn begin<K: Kernel>(engine: &mut Engine<Watched<K>>) -> u64 {
    SEEN.take();
    engine.kernel().note();
    engine.core().counters.bytes_assembled.value()
}

/// Holds the handler's view against the kernel's: the same bytes at the same addresses, from `head`
/// bytes behind the start on; all of them sent from there; and exactly `assembled` bytes copied.
fn judge<K: Kernel>(engine: &mut Engine<Watched<K>>, head: usize, before: u64, case: &str) {
    let seen = SEEN.take();
    let kernel = engine.kernel();
    let (received, sent) = (kernel.received.clone(), kernel.sent.clone());
    let end: usize = received.iter().map(|(_, len)| len).sum();
    let mut position = head;
    for (address, len) in &seen {
        assert_eq!(*address, written_at(&received, position), "byte {position}: {case}");
        position += len;
    }
    assert_eq!(position, end, "every byte behind the head is handed over once: {case}");
    assert!(seen.iter().all(|(address, _)| kernel.pool().contains(*address as *const u8)));
    // The 101 is text; everything else is a lease.
    let leases: Vec<Place> = sent
        .into_iter()
        .filter(|(address, _)| kernel.pool().contains(*address as *const u8))
        .collect();
    assert_eq!(leases, seen, "what is sent is what was handed over: {case}");
    let assembled = if received[0].1 < head { head } else { 0 };
    let copied = engine.core().counters.bytes_assembled.value() - before;
    assert_eq!(copied, assembled as u64, "a cut head is copied, and nothing behind it: {case}");
}

/// Where the kernel wrote the byte at a position of the stream.
fn written_at(received: &[Place], position: usize) -> usize {
    let mut start = 0;
    for (address, len) in received {
        if position < start + len {
            return address + position - start;
        }
        start += len;
    }
    panic!("byte {position} was received");
}

#[test]
fn a_handler_reads_where_the_simulated_kernel_wrote_at_every_split() {
    let bytes = [SWITCH, &early(40)].concat();
    let mut simulated = Simulated::new(registry(), |_| {});
    for cut in 1..=bytes.len() {
        let before = begin(&mut simulated.engine);
        let client = simulated.connect();
        for segment in [&bytes[..cut], &bytes[cut..]] {
            client.write_exactly(segment);
            simulated.settle();
        }
        assert!(client.read().ends_with(&bytes[SWITCH.len()..]), "cut at {cut}");
        judge(&mut simulated.engine, SWITCH.len(), before, &format!("cut at {cut}"));
        client.finish();
        simulated.settle();
    }
    assert_eq!(simulated.engine.core().counters.buffers_held.value(), 0);
}

#[test]
fn a_handler_reads_where_the_simulated_kernel_wrote_byte_by_byte() {
    let bytes = [SWITCH, &early(40)].concat();
    let mut simulated = Simulated::new(registry(), |_| {});
    for whole_segment in [1, 2, 3, 7, SWITCH.len() - 1, SWITCH.len(), SWITCH.len() + 1] {
        let before = begin(&mut simulated.engine);
        let client = simulated.connect();
        for segment in bytes.chunks(whole_segment) {
            client.write_exactly(segment);
            simulated.settle();
        }
        let case = format!("segments of {whole_segment}");
        judge(&mut simulated.engine, SWITCH.len(), before, &case);
        client.finish();
        simulated.settle();
    }
}

#[test]
fn u_33_early_bytes_are_handed_over_once_in_order_and_in_place() {
    for count in [1, 100, 4096] {
        let mut simulated = Simulated::new(registry(), |_| {});
        let before = begin(&mut simulated.engine);
        let client = simulated.connect();
        client.write(&[SWITCH, &early(count)].concat());
        simulated.settle();
        let answer = client.read();
        let body = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n").expect("a 101") + 4;
        assert_eq!(&answer[body..], early(count));
        judge(&mut simulated.engine, SWITCH.len(), before, &format!("{count} early bytes"));
    }
}

/// An engine on a real ring, with its address; none where io_uring is denied.
fn on_a_ring(test: impl FnOnce(&mut Engine<Watched<Ring<'_>>>, SocketAddr)) {
    let config = RingConfig { completions: 1024, buffers: 64, ..RingConfig::default() };
    let limits = Limits { connections_max: 64, ..Limits::default() };
    let mut uring = match setup::build(&config) {
        Ok(uring) => uring,
        Err(error) if error.is_denied() => {
            return eprintln!("SKIPPED, io_uring is denied here: {error}");
        }
        Err(error) => panic!("{error}"),
    };
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let listener = listen(any, &any.into()).expect("it is loopback");
    let address = local_address(&listener).expect("it is bound");
    let ring = Ring::new(&mut uring, &config, &limits, vec![listener]).expect("a ring is allowed");
    test(&mut engine(Watched::new(ring, |_| {}), core(registry())), address);
}

/// Turns until the kernel has received `count` bytes since the last note.
fn turn_until_received(engine: &mut Engine<Watched<Ring<'_>>>, count: usize) {
    while engine.kernel().received.iter().map(|(_, len)| len).sum::<usize>() < count {
        engine.turn(Wait::No).expect("the ring goes on");
    }
}

#[test]
fn a_handler_reads_where_the_real_kernel_wrote_at_every_split() {
    let bytes = [SWITCH, &early(24)].concat();
    on_a_ring(|engine, address| {
        for cut in 1..=bytes.len() {
            let before = begin(engine);
            let mut client = TcpStream::connect(address).expect("the engine listens");
            client.set_nodelay(true).expect("it is a TCP socket");
            client.write_all(&bytes[..cut]).expect("the kernel takes it");
            turn_until_received(engine, cut);
            client.write_all(&bytes[cut..]).expect("the kernel takes it");
            turn_until_received(engine, bytes.len());
            engine.turn(Wait::No).expect("the ring goes on");
            judge(engine, SWITCH.len(), before, &format!("cut at {cut}"));
            let mut answer = vec![0; 1024];
            let mut len = 0;
            while !answer[..len].ends_with(&bytes[SWITCH.len()..]) {
                engine.turn(Wait::No).expect("the ring goes on");
                len += client.read(&mut answer[len..]).expect("the engine answers");
            }
        }
        for _ in 0..100 {
            engine.turn(Wait::No).expect("the ring goes on");
        }
        assert_eq!(engine.connections(), 0, "an echo ends with its peer");
        assert_eq!(engine.core().counters.buffers_held.value(), 0);
    });
}
