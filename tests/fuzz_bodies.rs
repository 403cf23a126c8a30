//! The bodies of the fuzz targets on a few thousand seeded inputs each, so that they are compiled
//! and hold wherever the tests run. `UPRING_INPUTS=1000000` tries more.

#[path = "support/fuzz/mod.rs"]
mod fuzz;

use std::fs;
use std::panic::catch_unwind;
use std::path::Path;

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

#[test]
fn a_websocket_connection_says_the_same_however_its_bytes_are_cut() {
    try_out(fuzz::websocket, FRAMES);
}

#[test]
fn a_proxy_protocol_header_says_the_same_however_it_is_cut() {
    try_out(fuzz::preface, PREFACES);
}

#[test]
fn whoever_is_between_can_end_a_connection_inside_tls_and_say_nothing_in_it() {
    try_out(fuzz::tls, RECORDS);
}

#[test]
#[ignore = "writes to fuzz/corpus, for libFuzzer to begin with"]
fn what_inputs_are_put_together_of_is_written_out_as_seeds() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
    for (target, fragments) in [
        ("head", HEADS),
        ("chunked", CHUNKS),
        ("negotiation", OFFERS),
        ("connection", HEADS),
        ("websocket", FRAMES),
        ("preface", PREFACES),
        ("tls", RECORDS),
    ] {
        let folder = corpus.join(target);
        fs::create_dir_all(&folder).expect("the package can be written to");
        for (number, fragment) in fragments.iter().enumerate() {
            let seed = folder.join(format!("seed-{number:02}"));
            fs::write(seed, fragment).expect("the package can be written to");
        }
    }
}

/// The dictionaries of libFuzzer, which says of a faulty one no more than its line.
#[test]
fn dictionaries_are_lines_of_quoted_bytes() {
    for text in [include_str!("../fuzz/http.dict"), include_str!("../fuzz/websocket.dict")] {
        for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
            let inner = line.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
            let mut rest = inner.expect(line);
            assert!(!rest.is_empty(), "{line}");
            while let Some((_, escape)) = rest.split_once('\\') {
                let is_byte = |escape: &str| {
                    let digits = escape.strip_prefix('x').and_then(|escape| escape.get(..2));
                    digits.is_some_and(|digits| u8::from_str_radix(digits, 16).is_ok())
                };
                assert!(escape.starts_with(['\\', '"']) || is_byte(escape), "{line}");
                rest = &escape[1..];
            }
        }
    }
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
    b"CONNECT b:1 HTTP/1.1\r\nHost: b:1\r\n\r\nearly, and taken a little at a time",
    b"CONNECT c:1 HTTP/1.1\r\nHost: c:1\r\nContent-Length: 0\r\n\r\nearly",
    b"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: later\r\n\r\nearly",
    b"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: later-no\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: pause\r\n\r\nearly, and taken a little at a time",
    b"GET /strict HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: strict\r\n\r\n",
    b"GET /strict HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: strict-no\r\n\r\n",
    b"POST /strict HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: strict\r\nContent-Length: 1\r\n\r\nx",
    b"GET /ws HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58",
    b"GET /ws HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 12\r\n\r\n",
    b"GET /l HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc",
    b"POST /l HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc",
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

/// Frames of a client: whole ones, then parts. The masking key is mostly zero, so that what is said
/// can be read.
const FRAMES: &[&[u8]] = &[
    b"\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58",
    b"\x81\x80\0\0\0\0",
    b"\x82\x83\0\0\0\0\xff\xfe\xfd",
    b"\x81\x85\0\0\0\0pause",
    b"\x82\x81\0\0\0\0p",
    b"\x81\x85\0\0\0\0close",
    b"\x01\x84\0\0\0\0abc\xe2\x00\x81\0\0\0\0\x82\x80\x82\0\0\0\0\xacd",
    b"\x81\x82\x01\x02\x03\x04hj\x82\x82\xff\xff\xff\xff\0\0",
    b"\x01\x80\0\0\0\0\x00\x80\0\0\0\0\x00\x80\0\0\0\0\x80\x81\0\0\0\0p",
    b"\x01\x80\0\0\0\0\x00\x80\0\0\0\0\x00\x80\0\0\0\0\x00\x80\0\0\0\0\x80\x80\0\0\0\0",
    b"\x89\x80\0\0\0\0\x89\x80\0\0\0\0\x8a\x80\0\0\0\0\x89\x81\0\0\0\0p\x8a\x80\0\0\0\0\x89\x80\0\0\0\0",
    b"\x01\x82\0\0\0\0ab",
    b"\x00\x81\0\0\0\0c",
    b"\x80\x81\0\0\0\0\xff",
    b"\x80\x80\0\0\0\0",
    b"\x89\x84\x01\x02\x03\x04ping",
    b"\x8a\x80\0\0\0\0",
    b"\x88\x80\0\0\0\0",
    b"\x88\x85\0\0\0\0\x03\xe8bye",
    b"\x88\x82\0\0\0\0\x03\xed",
    b"\x82\xfe\x00\x80\0\0\0\0mmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmm",
    b"\x82\xff\0\0\0\0\0\0\x00\x03\0\0\0\0abc",
    b"\x82\xfe\x10\x00\0\0\0\0",
    // RFC 7692 §7.2.3: Hello, the same in two frames, once more by reference, stored, and twice in one.
    b"\xc1\x87\0\0\0\0\xf2\x48\xcd\xc9\xc9\x07\x00",
    b"\x41\x83\0\0\0\0\xf2\x48\xcd\x80\x84\0\0\0\0\xc9\xc9\x07\x00",
    b"\xc1\x85\0\0\0\0\xf2\x00\x11\x00\x00",
    b"\xc1\x8b\0\0\0\0\x00\x05\x00\xfa\xff\x48\x65\x6c\x6c\x6f\x00",
    b"\xc1\x8d\0\0\0\0\xf2\x48\x05\x00\x00\x00\xff\xff\xca\xc9\xc9\x07\x00",
    b"\xc2\x81\0\0\0\0\x03",
    // Found by fuzzing: inflates to no UTF-8, and to too much.
    b"\x41\xbe\x3a\x3d\x04\x00\0\0\x16\0\0\0\0\0\0\0\0\0\x1c\x24\x1c\0\0\0\0\0\x1c\x1c\x1c\0",
    b"\x81",
    b"\x80",
    b"\xfe",
    b"\0\0\0\0",
    b"\xf2\x48",
    b"text",
];

/// Headers, whose first byte says which versions are taken, and parts of them.
const PREFACES: &[&[u8]] = &[
    b"\x02PROXY TCP4 192.0.2.1 192.0.2.2 56324 443\r\nGET / HTTP/1.1\r\n",
    b"\x09PROXY TCP6 2001:db8::1 ::ffff:192.0.2.1 1 65535\r\n",
    b"\x05PROXY UNKNOWN ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ffff::ffff 65535 65535\r\n",
    b"\x02\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\x02\x01\xc0\0\x02\x02\xdc\x04\0\x50behind",
    b"\x01\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x13\xc0\0\x02\x01\xc0\0\x02\x02\xdc\x04\0\x50\x03\0\x04\x98\x88\xaa\x6b",
    b"\x04\r\n\r\n\0\r\nQUIT\n\x21\x21\0\x24 \x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x01 \x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x02\0\x50\0\x51",
    b"\x0b\r\n\r\n\0\r\nQUIT\n\x20\0\0\0GET / HTTP/1.1\r\n",
    b"\x02\r\n\r\n\0\r\nQUIT\n\x21\0\0\x03abc",
    b"\x02\r\n\r\n\0\r\nQUIT\n\x21\0\x02\x08",
    b"\x02\r\n\r\n\0\r\nQUIT\n",
    b"\x02PROXY ",
    b"\x02",
    b"\x21\x11\0\x0c",
    b"\x04\0\x02\xff\xff",
    b"TCP4 ",
    b"192.0.2.1 ",
    b"\r\n",
    b"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
];

/// What is done to the records of a peer; the first byte is the version, and whether it begins before or
/// behind the handshake. See `Script::step` in tests/support/fuzz/tls.rs.
const RECORDS: &[&[u8]] = &[
    // Behind it: something is said, much, with other keys, and passed on.
    b"\x04\0\x05\x02\0\x07\x0a\0\x09\x02\x01\xff\xff\x02\x02",
    b"\x05\0\x05\x02\0\x07\0\x09\x02\x01\xff\xff\x02\x02\x0b",
    b"\x04\x09\x02\0\x40\x02\x01\x80\x80\x0b",
    b"\x05\0\x05\0\0\x0b\0\x05\x0c",
    // Left out, out of order, twice, changed, cut, forged.
    b"\x04\0\x05\x03\0\x05\x02",
    b"\x05\0\x05\x04",
    b"\x04\0\x05\0\x07\x05\x02",
    b"\x04\0\x20\x06\0\x09\x03\x02",
    b"\x05\0\x20\x07\0\x09\0\x05\x02",
    b"\x04\0\x20\x08\x07\x17\x03\x03\0\x02\x01\0",
    b"\x05\0\x20\x08\x07\x15\x03\x03\0\x02\x02\x28",
    // From its beginning: byte by byte, and with each of these.
    b"\x02\x09\x02\x02\x02\x02\x02\0\x30\x02",
    b"\x03\x09\x02\x02\x02\x02\x02\0\x30\x02",
    b"\x02\x06\0\x40\x01",
    b"\x03\x06\0\x06\x01",
    b"\x03\x02\x04\x02",
    b"\x02\x05\x02\x02",
    b"\x03\x07\0\x30\x02",
    b"\x02\x08\x06\x14\x03\x03\0\x01\x01\x02\x02\0\x05\x02",
    b"\x02\x08\x07\x15\x03\x03\0\x02\x01\x5a\x02\x02",
    b"\x03\x02\x0c",
    // In the place of it.
    b"\0\x16\x03\x01\0\x04\x01\0\0\0",
    b"\x08\x16\x03\x01\x40\0\x01\0\x3f\xfc\x03\x03",
    b"\x10\x16\x03\x03\0\x01\x01\x16\x03\x03\0\x03\0\0\0",
    b"\0GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    b"\x18\x80\x2e\x01\x03\x01",
    b"\x15\x03\x03\0\x02\x02\x28",
    b"\x16\x03\x03\xff\xff",
    b"\0\x09\x02",
    b"\x0b",
    b"\x0c",
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
