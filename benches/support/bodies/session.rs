//! Bytes of requests to bytes of answers, through a session with its core and buffers, without an
//! engine or a kernel.

use std::time::Duration;

use upring::config::AccessFormat;
use upring::http::{Method, Request, Response, Status};
use upring::resource::{Registry, Reply, Resource};

use super::Body;
use crate::support::counted::repeated;
use crate::support::{Alone, PLAINTEXT, cut, head_named, ready, registry, with_unused_protocols};

pub fn bodies() -> Vec<Body> {
    let requests = [
        Body::new("session", "request", || answered(registry(), vec![PLAINTEXT.to_vec()], 1)),
        Body::new("session", "request, 20 protocols registered there", || {
            let mut registry = registry();
            let resource = Resource::new().get(ready("Hello, World!"));
            registry.insert("/plaintext", with_unused_protocols(resource, 20));
            answered(registry, vec![PLAINTEXT.to_vec()], 1)
        }),
        Body::new("session", "16 requests, pipelined", || {
            answered(registry(), vec![PLAINTEXT.repeat(16)], 16)
        })
        .units(16),
        Body::new("session", "16 requests, the last cut", || {
            let bytes = PLAINTEXT.repeat(16);
            let (front, rest) = bytes.split_at(bytes.len() - 20);
            answered(registry(), vec![front.to_vec(), rest.to_vec()], 16)
        })
        .units(16),
        Body::new("session", "request of a browser", || {
            answered(uploads(), vec![head_named("browser").to_vec()], 1)
        }),
        Body::new("session", "answer made for its request", || {
            answered(registry(), vec![request("/dynamic")], 1)
        }),
        Body::new("session", "nothing there", || answered(registry(), vec![request("/none")], 1)),
    ];
    requests.into_iter().chain(with_content()).chain([refusal()]).chain(with_a_log()).collect()
}

/// What a line of the access log costs beside its request: formatted, and given to the writer.
fn with_a_log() -> Vec<Body> {
    let logged = |name: &'static str, format, head: fn() -> Vec<u8>, pipeline: usize| {
        let body = move || answered_by(with_log(format), vec![head()], pipeline);
        Body::new("session", name, body).units(pipeline as u64)
    };
    let plaintext = || PLAINTEXT.to_vec();
    let pipeline = || PLAINTEXT.repeat(16);
    let browser = || head_named("browser").to_vec();
    vec![
        logged("request, logged in common", AccessFormat::Common, plaintext, 1),
        logged("request, logged", AccessFormat::Combined, plaintext, 1),
        logged("request, logged in JSON", AccessFormat::Json, plaintext, 1),
        logged("16 requests, pipelined, logged", AccessFormat::Combined, pipeline, 16),
        logged("request of a browser, logged", AccessFormat::Combined, browser, 1),
        logged("request of a browser, logged in JSON", AccessFormat::Json, browser, 1),
    ]
}

/// A session whose client is known, and whose answers have lines.
fn with_log(format: AccessFormat) -> Alone {
    let mut alone = Alone::new(uploads());
    alone.log(format);
    alone.core.addresses.note(0, "192.0.2.1:50000".parse().expect("an address"));
    alone
}

fn with_content() -> [Body; 4] {
    let form = || [head_named("browser-post"), &[b'f'; 68]].concat();
    [
        Body::new("session", "form behind its head", move || answered(uploads(), vec![form()], 1)),
        Body::new("session", "form in 4 segments", move || answered(uploads(), cut(&form(), 4), 1)),
        Body::new("session", "upload of 16 KiB in chunks", || {
            let chunk = [b"1000\r\n", &*vec![b'u'; 4096], b"\r\n"].concat();
            let mut segments = vec![head_named("curl-upload").to_vec()];
            segments.extend((0..4).map(|_| chunk.clone()));
            segments.push(b"0\r\n\r\n".to_vec());
            // What has to be waited for is asked for: the 100 comes first.
            answered(uploads(), segments, 2)
        })
        .bytes(16 * 1024),
        Body::new("session", "upload of 16 KiB that nobody reads", || {
            let upload = b"POST /plaintext HTTP/1.1\r\nHost: a\r\nContent-Length: 16384\r\n\r\n";
            let mut segments = vec![upload.to_vec()];
            segments.extend((0..4).map(|_| vec![b'u'; 4096]));
            answered(registry(), segments, 1)
        })
        .bytes(16 * 1024),
    ]
}

/// A head with a fault: what is wrong is found, said, and ends the connection.
fn refusal() -> Body {
    Body::new("session", "a faulty head", || {
        let mut alone = Alone::new(registry());
        let hear = |alone: &mut Alone| {
            alone.open();
            alone.receive(b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1, 1\r\n\r\n");
        };
        hear(&mut alone);
        assert!(alone.sent().starts_with(b"HTTP/1.1 400 "));
        move |rounds| {
            repeated(rounds, || {
                hear(&mut alone);
                alone.send()
            })
        }
    })
}

fn request(path: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n").into_bytes()
}

/// Also where the corpus goes: a page, a form and an upload, whose contents are taken whole.
fn uploads() -> Registry {
    let mut registry = registry();
    let take = |_: &Request<'_>, content: &[u8], reply: &mut Reply<'_>| {
        assert!(matches!(content, [b'f' | b'u', ..]));
        reply.send(&Response::new(Status::OK));
    };
    registry.insert("/assets/*", Resource::new().get(ready("let page;")));
    registry.insert("/api/session", Resource::new().post(take));
    registry.insert("/backup/*", Resource::new().on(Method::Put, take));
    registry
}

/// So many answers to what comes in these segments, on one connection that stays.
fn answered(
    registry: Registry,
    segments: Vec<Vec<u8>>,
    answers: usize,
) -> impl FnMut(u64) -> Duration {
    answered_by(Alone::new(registry), segments, answers)
}

fn answered_by(
    mut alone: Alone,
    segments: Vec<Vec<u8>>,
    answers: usize,
) -> impl FnMut(u64) -> Duration {
    segments.iter().for_each(|segment| alone.receive(segment));
    let first = alone.sent();
    assert_eq!(first.windows(9).filter(|bytes| bytes == b"HTTP/1.1 ").count(), answers);
    alone.end_turn();
    assert!(
        alone.core.access.is_none()
            || alone.lines.split(|byte| *byte == b'\n').count() == answers + 1
    );
    move |rounds| {
        repeated(rounds, || {
            segments.iter().for_each(|segment| alone.receive(segment));
            assert_eq!(alone.send(), first.len());
            alone.end_turn();
        })
    }
}
