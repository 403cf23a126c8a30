//! Where content ends, and what of it is data: the framing of every head in the corpus, and the
//! chunked coding.

use std::hint::black_box;
use std::time::Duration;

use upring::http::{ChunkStep, Chunked, Framing, HeadLimits, framing, read_head};

use super::Body;
use crate::support::HEADS;
use crate::support::counted::repeated;

/// A name, the number of chunks, bytes in each, what stands behind a size, and the trailer section.
const CHUNKED: [(&str, usize, usize, &str, &str); 4] = [
    ("1 chunk of 16 KiB", 1, 16 * 1024, "", ""),
    ("16 chunks of 1 KiB", 16, 1024, "", ""),
    ("256 chunks of 16 bytes", 256, 16, "", ""),
    ("16 chunks, extensions, trailers", 16, 1024, ";checked=yes", "Digest: c2hhLTI1Ng==\r\n"),
];

pub fn bodies() -> Vec<Body> {
    let framing = Body::new("framing", "every head of the corpus", every_framing);
    let chunked = CHUNKED.iter().map(|(name, count, len, extension, trailers)| {
        Body::new("chunked", *name, move || {
            let chunk = format!("{len:x}{extension}\r\n{}\r\n", "x".repeat(*len));
            let bytes = format!("{}0\r\n{trailers}\r\n", chunk.repeat(*count)).into_bytes();
            assert_eq!(data(&bytes), count * len);
            move |rounds| repeated(rounds, || data(black_box(&bytes)))
        })
        .bytes(count * len)
    });
    [framing].into_iter().chain(chunked).collect()
}

fn every_framing() -> impl FnMut(u64) -> Duration {
    let read = |(_, head): &(&str, &[u8])| {
        read_head(head, &mut Vec::new(), &HeadLimits::default()).expect("it is a head")
    };
    let heads: Vec<_> = HEADS.iter().map(read).collect();
    let with_content =
        move || heads.iter().filter(|head| framing(black_box(head)) != Ok(Framing::None)).count();
    assert_eq!(with_content(), 3, "the corpus has three requests with content");
    move |rounds| repeated(rounds, &with_content)
}

/// Walks through content in the chunked coding as a session does: how much of it is data.
fn data(bytes: &[u8]) -> usize {
    let (mut chunked, mut rest, mut data) = (Chunked::default(), bytes, 0);
    loop {
        let taken = match chunked.step(rest).expect("it is in the coding") {
            ChunkStep::Data { consumed, len } => {
                data += len;
                consumed + len
            }
            ChunkStep::Trailer { consumed, len } => consumed + len,
            ChunkStep::More { .. } | ChunkStep::Done { .. } => return data,
        };
        rest = &rest[taken..];
    }
}
