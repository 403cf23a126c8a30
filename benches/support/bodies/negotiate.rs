//! Choosing a protocol: the offer of a request read, and held against what is registered.

use std::hint::black_box;
use std::time::Duration;

use upring::http::{HeadLimits, Request, read_head};
use upring::protocols::echo::Echo;
use upring::resource::Resource;
use upring::upgrade::{Offer, Outcome, Protocol};

use super::Body;
use crate::support::counted::repeated;
use crate::support::{HEADS, head_named, with_unused_protocols};

/// A name, what is offered, and whether it is chosen.
const OFFERS: [(&str, &str, bool); 4] = [
    ("one", "websocket", true),
    ("a version", "chat/2.1", true),
    ("the last of eight", "a, b, c, d/1, e, f, g, websocket", true),
    ("unknown", "h2c, TLS/1.0", false),
];

pub fn bodies() -> Vec<Body> {
    let made = OFFERS.iter().map(|(name, offer, is_chosen)| {
        Body::new("negotiate", *name, move || {
            let head = format!(
                "GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: {offer}\r\n\r\n"
            );
            chosen(resource(), head.into_bytes(), *is_chosen)
        })
    });
    let found =
        HEADS.iter().filter(|(name, _)| name.starts_with("websocket")).map(|(name, head)| {
            Body::new("negotiate", *name, move || chosen(resource(), head.to_vec(), true))
        });
    let many = Body::new("negotiate", "beside 20 others", || {
        let resource = with_unused_protocols(Resource::new(), 20);
        let resource = resource.upgrade(Protocol::callback("websocket", |_| Echo));
        chosen(resource, head_named("websocket").to_vec(), true)
    });
    made.chain(found).chain([many]).collect()
}

fn resource() -> Resource {
    let chat = Protocol::callback("chat", |_| Echo).version("2.1");
    Resource::new().upgrade(chat).upgrade(Protocol::callback("websocket", |_| Echo))
}

fn chosen(resource: Resource, bytes: Vec<u8>, is_chosen: bool) -> impl FnMut(u64) -> Duration {
    let mut fields = Vec::new();
    let head = read_head(&bytes, &mut fields, &HeadLimits::default()).expect("it is a head");
    let choose = move || {
        let request = Request::new(black_box(&bytes), &head, &fields);
        let offer = Offer::read(&request).expect("it is an offer");
        matches!(resource.negotiate(&offer, request.method()), Outcome::Chosen { .. })
    };
    assert_eq!(choose(), is_chosen);
    move |rounds| repeated(rounds, &choose)
}
