//! Choosing a protocol: the offer of a request read, and held against what is registered.

#[path = "support/mod.rs"]
mod support;

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use upring::http::{HeadLimits, Request, read_head};
use upring::protocols::echo::Echo;
use upring::resource::Resource;
use upring::upgrade::{Offer, Outcome, Protocol};

const OFFERS: [(&str, &str); 4] = [
    ("websocket", "websocket"),
    ("version", "chat/2.1"),
    ("last-of-eight", "a, b, c, d/1, e, f, g, websocket"),
    ("unknown", "h2c, TLS/1.0"),
];

fn resource() -> Resource {
    let chat = Protocol::callback("chat", |_| Echo).version("2.1");
    Resource::new().upgrade(chat).upgrade(Protocol::callback("websocket", |_| Echo))
}

fn choose(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("negotiate");
    let resource = resource();
    for (name, offer) in OFFERS {
        let text =
            format!("GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: {offer}\r\n\r\n");
        let mut fields = Vec::new();
        let head = read_head(text.as_bytes(), &mut fields, &HeadLimits::default())
            .expect("the heads of benches are whole");
        let request = Request::new(text.as_bytes(), &head, &fields);
        group.bench_function(BenchmarkId::from_parameter(name), |bencher| {
            bencher.iter(|| {
                let offer = Offer::read(black_box(&request)).expect("it is an offer");
                matches!(resource.negotiate(&offer, request.method()), Outcome::Chosen { .. })
            });
        });
    }
}

criterion_group!(benches, choose);
criterion_main!(benches);
