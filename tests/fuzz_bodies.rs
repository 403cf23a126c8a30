//! The bodies of the fuzz targets on a few thousand seeded inputs each, so that they are compiled
//! and hold wherever the tests run. `UPRING_INPUTS=1000000` tries more.

#[path = "support/fuzz/mod.rs"]
mod fuzz;

use std::panic::catch_unwind;

use upring::ring::sim::Random;

const INPUTS: u64 = 4000;

#[test]
fn a_head_ends_where_it_ends_however_it_is_cut() {
    try_out(fuzz::head, HEADS);
}

#[test]
fn chunked_content_is_the_same_however_it_is_cut() {
    try_out(fuzz::chunked, CHUNKS);
}

#[test]
fn what_is_chosen_was_offered_and_is_registered() {
    try_out(fuzz::negotiation, OFFERS);
}

#[test]
fn a_connection_answers_the_same_however_its_bytes_are_cut() {
    try_out(fuzz::connection, HEADS);
}

/// Fragments from which inputs are put together, whole requests first.
const HEADS: &[&[u8]] = &[
    b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\nearly",
    b"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: no\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: post\r\nContent-Length: 3\r\n\r\nabcdef",
    b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 12\r\n\r\nGET / HTTP/1",
    b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\nok",
    b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5;x=y\r\nhello\r\n0\r\nTrailer: t\r\n\r\n",
    b"POST /s HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nA: b\r\n\r\n",
    b"POST /s HTTP/1.1\r\nHost: a\r\nContent-Length: 31\r\n\r\n",
    b"PUT /s HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n9\r\n",
    b"HEAD /only HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
    b"GET /only HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
    b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
    b"CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n",
    b"\r\n",
    b"\n",
    b"\r",
    b"Host: a\r\n",
    b"Content-Length: 7\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Upgrade: echo, no/1\r\n",
    b"Connection: upgrade, close\r\n",
    b": ",
    b" ",
    b"\x16\x03\x01",
    b"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
];

const CHUNKS: &[&[u8]] = &[
    b"5\r\nhello\r\n0\r\n\r\n",
    b"a;name=value\r\n0123456789\r\n",
    b"1 ; a ;b = \"\\\";\"\r\nx\r\n",
    b"0\r\nTrailer: value\r\n\r\n",
    b"00000000000000000001\r\nx\r\n",
    b"ffffffffffffffff\r\n",
    b"3\r\nabc",
    b"\r\n",
    b"\n",
    b"\r",
    b";",
    b"0",
    b"x: y\r\n",
];

const OFFERS: &[&[u8]] = &[
    b"echo", b"chat/13", b"chat/14", b"chat", b"posted", b"ECHO", b"/", b", ", b",", b" ", b"\t",
    b"foo", b"\"q\"",
];

/// Puts inputs together and hurts most of them a little.
fn try_out(body: fn(&[u8]), fragments: &[&[u8]]) {
    let inputs =
        std::env::var("UPRING_INPUTS").map_or(INPUTS, |text| text.parse().expect("a number"));
    for seed in 0..inputs {
        let input = input(&mut Random::new(seed), fragments);
        if catch_unwind(|| body(&input)).is_err() {
            panic!("input {seed}: {}", input.escape_ascii());
        }
    }
}

fn input(random: &mut Random, fragments: &[&[u8]]) -> Vec<u8> {
    let mut input = Vec::new();
    for _ in 0..=random.index(6) {
        input.extend_from_slice(fragments[random.index(fragments.len())]);
    }
    for _ in 0..random.index(4) {
        let at = random.index(input.len().max(1)).min(input.len());
        match random.index(4) {
            0 if at < input.len() => input[at] = random.number() as u8,
            1 if at < input.len() => drop(input.remove(at)),
            2 => input.truncate(at),
            _ => {
                drop(input.splice(at..at, fragments[random.index(fragments.len())].iter().copied()))
            }
        }
    }
    input
}
