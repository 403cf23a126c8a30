//! Files of a directory, through a session: the corpus itself, and one larger file. System calls are
//! most of it, and valgrind does not know all of them, so it is only timed.

use std::fs;
use std::path::Path;
use std::time::Duration;

use upring::files::Files;
use upring::resource::{Registry, Resource};

use super::Body;
use crate::support::Alone;
use crate::support::counted::repeated;

const CORPUS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/corpus");
const LARGE_BYTES: usize = 256 * 1024;

/// A name, what is asked for, fields of the request, and how the answer begins.
const REQUESTS: [(&str, &str, &str, &str); 5] = [
    ("whole", "/corpus/browser.http", "", "HTTP/1.1 200 "),
    ("whole, br and gzip looked for", "/corpus/browser.http", ENCODINGS, "HTTP/1.1 200 "),
    ("range", "/corpus/browser.http", "Range: bytes=100-199\r\n", "HTTP/1.1 206 "),
    ("not modified", "/corpus/browser.http", NEVER_MODIFIED, "HTTP/1.1 304 "),
    ("missing", "/corpus/nothing.http", "", "HTTP/1.1 404 "),
];

const ENCODINGS: &str = "Accept-Encoding: gzip, deflate, br, zstd\r\n";
const NEVER_MODIFIED: &str = "If-None-Match: *\r\n";

pub fn bodies() -> Vec<Body> {
    let requests = REQUESTS.iter().map(|(name, path, fields, status)| {
        Body::new("files", *name, move || {
            let head = format!("GET {path} HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
            answered(head, status, 0)
        })
        .only_timed()
    });
    let large = Body::new("files", "256 KiB", || {
        fs::write(Path::new(env!("CARGO_TARGET_TMPDIR")).join("large"), vec![b'l'; LARGE_BYTES])
            .expect("a temporary file");
        answered("GET /large HTTP/1.1\r\nHost: a\r\n\r\n".into(), "HTTP/1.1 200 ", LARGE_BYTES)
    });
    requests.chain([large.bytes(LARGE_BYTES).only_timed()]).collect()
}

fn answered(head: String, status: &str, bytes_min: usize) -> impl FnMut(u64) -> Duration {
    let serve = |directory, prefix| {
        let files = Files::new(directory).expect("it is a directory");
        Resource::new().get(files.beneath(prefix))
    };
    let mut registry = Registry::default();
    registry.insert("/corpus/*", serve(CORPUS, "/corpus/"));
    registry.insert("/*", serve(env!("CARGO_TARGET_TMPDIR"), "/"));
    let mut alone = Alone::new(registry);
    alone.receive(head.as_bytes());
    let answer = alone.sent();
    assert!(answer.starts_with(status.as_bytes()) && answer.len() > bytes_min);
    move |rounds| {
        repeated(rounds, || {
            alone.receive(head.as_bytes());
            assert_eq!(alone.send(), answer.len());
        })
    }
}
