//! WebSocket: unmasking beside what a copy and a plain loop take, frames read out of a receive buffer,
//! and messages through the whole engine on the simulated kernel, whose own work is in the figure:
//! echoed, compressed, and said to everybody.

#[path = "support/mod.rs"]
mod support;

use std::cell::Cell;
use std::hint::black_box;
use std::sync::Arc;

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use flate2::{Compress, Compression, FlushCompress};
use support::Simulated;
use support::websocket::{BINARY, COMPRESSED_TEXT, OFFER, TEXT, echoed, frame, open, registry};
use upring::buffer::{Lease, Pool};
use upring::websocket::{self, Message};

const KEY: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];
const SUBSCRIBERS: usize = 10_000;
/// Receive buffers that are read in one go.
const LEASES: u16 = 64;

fn unmask(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("websocket/unmask");
    for len in [16, 64, 256, 1024, 4096, 16 * 1024, 64 * 1024] {
        let mut payload = vec![b'x'; len];
        let mut copy = vec![0; len];
        group.throughput(Throughput::Bytes(len as u64));
        group.bench_function(BenchmarkId::new("upring", len), |bencher| {
            bencher.iter(|| websocket::unmask(black_box(&mut payload), KEY, 0));
        });
        group.bench_function(BenchmarkId::new("plain loop", len), |bencher| {
            bencher.iter(|| unmask_plainly(black_box(&mut payload), black_box(KEY)));
        });
        group.bench_function(BenchmarkId::new("memcpy", len), |bencher| {
            bencher.iter(|| black_box(&mut copy).copy_from_slice(black_box(&payload)));
        });
    }
}

/// As RFC 6455 §5.3 writes it.
fn unmask_plainly(payload: &mut [u8], key: [u8; 4]) {
    for (at, byte) in payload.iter_mut().enumerate() {
        *byte ^= key[at % 4];
    }
}

/// From received bytes to messages: headers read, payloads unmasked, text looked at, messages made and
/// dropped. The copy into the buffer, which is the kernel's work, is not in the figure.
fn frames(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("websocket/frame");
    let counters = Arc::default();
    for (first, kind) in [(TEXT, "text"), (BINARY, "binary")] {
        for (len, count) in [(64, 1), (64, 16), (1024, 1), (16 * 1024, 1)] {
            let bytes = frame(first, &vec![b'x'; len]).repeat(count);
            let pool = Pool::new(LEASES, 32 * 1024);
            let fill = || pool.take().expect("as many as a batch").fill(&bytes);
            let read = |lease: Lease| {
                let mut read = 0;
                let take = |message: Message| read += usize::from(black_box(message).len() == len);
                websocket::read_messages(lease, &counters, take).expect("they are valid");
                assert_eq!(read, count);
            };
            group.throughput(Throughput::Elements(count as u64));
            let name = if count == 1 { "alone" } else { "16 at once" };
            group.bench_function(BenchmarkId::new(format!("{kind}, {name}"), len), |bencher| {
                let batch = BatchSize::NumIterations(u64::from(LEASES));
                bencher.iter_batched(fill, read, batch);
            });
        }
    }
}

fn echo(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("websocket/echo");
    for (len, count) in [(64, 1), (64, 16), (1024, 1), (16 * 1024, 1)] {
        let bytes = frame(TEXT, &vec![b'x'; len]).repeat(count);
        let mut simulated = Simulated::new(registry(), |_| {});
        let client = open(&mut simulated, "/ws", "", 1).remove(0);
        group.throughput(Throughput::Elements(count as u64));
        let name = if count == 1 { "alone" } else { "16 at once" };
        group.bench_function(BenchmarkId::new(name, len), |bencher| {
            bencher.iter(|| {
                client.write(&bytes);
                simulated.settle();
                assert_eq!(client.read().len(), echoed(len) * count);
            });
        });
    }
}

/// What is sent is compressed by the server; `both` are compressed by both sides.
fn deflate(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("websocket/deflate");
    for (context, len) in
        [("shared", 1024), ("dedicated", 1024), ("shared", 16 * 1024), ("dedicated", 16 * 1024)]
    {
        let plain: Vec<_> = (0..16).map(|number| frame(TEXT, &text(number, len))).collect();
        let compressed: Vec<_> =
            (0..16).map(|number| frame(COMPRESSED_TEXT, &deflated(&text(number, len)))).collect();
        for (name, frames) in [("sent", &plain), ("both", &compressed)] {
            let mut simulated = Simulated::new(registry(), |_| {});
            let client = open(&mut simulated, &format!("/{context}"), OFFER, 1).remove(0);
            let next = Cell::new(0);
            group.throughput(Throughput::Bytes(len as u64));
            group.bench_function(BenchmarkId::new(format!("{context}, {name}"), len), |bencher| {
                bencher.iter(|| {
                    client.write(&frames[next.replace((next.get() + 1) % frames.len())]);
                    simulated.settle();
                    let answer = client.read();
                    assert!(answer[0] == COMPRESSED_TEXT && answer.len() < len);
                });
            });
        }
    }
}

/// What programs say to each other, no two of them the same.
fn text(number: usize, len: usize) -> Vec<u8> {
    let record = |at: usize| {
        let noise = (at + number * 1000).wrapping_mul(2_654_435_761) % 1_000_000;
        format!(
            r#"{{"id":{at},"user":"user-{noise}","room":"lobby","said":"{} words"}},"#,
            noise % 97
        )
    };
    (0..len).map(record).flat_map(String::into_bytes).take(len).collect()
}

/// As a client does it that forgets (RFC 7692 §7.2.1).
fn deflated(message: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(message.len() + 64);
    let mut stream = Compress::new(Compression::new(6), false);
    stream.compress_vec(message, &mut out, FlushCompress::Sync).expect("it is compressed");
    out.strip_suffix(&[0, 0, 0xff, 0xff]).expect("a sync flush ends so").to_vec()
}

fn broadcast(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("websocket/broadcast");
    let bytes = frame(TEXT, &[b'x'; 64]);
    let mut simulated = Simulated::new(registry(), |_| {});
    let clients = open(&mut simulated, "/all", "", SUBSCRIBERS);
    group.throughput(Throughput::Elements(SUBSCRIBERS as u64));
    group.bench_function(BenchmarkId::new("subscribers", SUBSCRIBERS), |bencher| {
        bencher.iter(|| {
            clients[0].write(&bytes);
            simulated.settle();
            assert!(clients.iter().all(|client| client.read().len() == echoed(64)));
        });
    });
}

criterion_group!(benches, unmask, frames, echo, deflate, broadcast);
criterion_main!(benches);
