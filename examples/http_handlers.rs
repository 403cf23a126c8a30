//! HTTP handlers on one screen: a small store of notes with shared state, parameters, typed errors,
//! an upload of any length through a few buffers, an answer in pieces, and a redirection.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use upring::http::percent_decoded;
use upring::{
    Closed, Config, Content, Method, OwnedRequest, Redirect, Reply, Request, Resource, Responder,
    Response, Server, Status, ToResponse, asynchronous, returning, streaming,
};

/// Shared by every core. What each request needs is better kept in the handler's own value.
type Notes = Arc<Mutex<BTreeMap<String, Vec<u8>>>>;

const NOTES_MAX: usize = 1000;

/// What can go wrong, and the status it is.
enum NoteError {
    Missing,
    Empty,
    Full,
}

impl ToResponse for NoteError {
    fn to_response(self) -> Response {
        match self {
            NoteError::Missing => Response::text(Status::NOT_FOUND, "There is no such note.\n"),
            NoteError::Empty => Response::text(Status::UNPROCESSABLE_CONTENT, "It is empty.\n"),
            NoteError::Full => Response::text(Status::INSUFFICIENT_STORAGE, "No room is left.\n"),
        }
    }
}

fn name(request: &Request<'_>) -> String {
    let name = percent_decoded(request.parameter("name").unwrap_or_default());
    String::from_utf8_lossy(&name).into_owned()
}

/// GET, PUT and DELETE of `/notes/{name}`: content comes whole, the value returned is the answer.
fn note(notes: &Notes) -> Resource {
    let [get, put, delete] = [Arc::clone(notes), Arc::clone(notes), Arc::clone(notes)];
    Resource::new()
        .get(returning(move |request: &Request<'_>, _: &[u8]| {
            let notes = get.lock().unwrap_or_else(PoisonError::into_inner);
            notes.get(&name(request)).cloned().ok_or(NoteError::Missing)
        }))
        .on(
            Method::Put,
            returning(move |request: &Request<'_>, content: &[u8]| {
                let mut notes = put.lock().unwrap_or_else(PoisonError::into_inner);
                match (content.len(), notes.len()) {
                    (0, _) => Err(NoteError::Empty),
                    (_, NOTES_MAX..) => Err(NoteError::Full),
                    _ => {
                        let before = notes.insert(name(request), content.to_vec());
                        Ok(if before.is_some() { Status::NO_CONTENT } else { Status::CREATED })
                    }
                }
            }),
        )
        .on(
            Method::Delete,
            returning(move |request: &Request<'_>, _: &[u8]| {
                let mut notes = delete.lock().unwrap_or_else(PoisonError::into_inner);
                notes.remove(&name(request)).map(|_| Status::NO_CONTENT).ok_or(NoteError::Missing)
            }),
        )
        .content_bytes_max(4096)
}

/// Written where it is sent from: no allocation.
fn hello(request: &Request<'_>, _: &[u8], reply: &mut Reply<'_>) {
    let host = request.host().unwrap_or(b"nobody");
    reply.write(Status::OK, |answer| {
        answer.field("Content-Type", "text/plain").body_with(|out| {
            out.extend_from_slice(b"hello from ");
            out.extend_from_slice(host);
            out.push(b'\n');
        })
    });
}

/// Any length of content through a few buffers: it is read as fast as it is used.
async fn count(_: OwnedRequest, mut content: Content) -> Result<String, Closed> {
    let (mut bytes, mut lines) = (0, 0);
    while let Some(piece) = content.recv().await? {
        bytes += piece.len();
        lines += piece.iter().filter(|byte| **byte == b'\n').count();
    }
    Ok(format!("{bytes} bytes, {lines} lines\n"))
}

/// An answer that goes on: a number every tenth of a second.
async fn ticks(_: OwnedRequest, _: Content, responder: Responder) {
    let mut answer = responder.start(Response::new(Status::OK), None);
    for number in 1..=5 {
        if answer.send(format!("{number}\n")).await.is_err() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    answer.finish();
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let listen = std::env::args().nth(1).unwrap_or("127.0.0.1:8080".into()).parse()?;
    let server = Server::new(Config::listening(listen))
        .route("/hello", Resource::new().get(hello))
        .route("/notes/{name}", note(&Notes::default()))
        .route("/count", Resource::new().post(asynchronous(count)))
        .route("/note/{name}", Resource::new().get(Redirect::new(Status::FOUND, "/notes/{name}")?))
        .route("/ticks", Resource::new().get(streaming(ticks)))
        .start()?;
    let address = server.addresses()[0];
    println!("listening on {address}; try");
    println!("  curl -i http://{address}/hello; curl -iN http://{address}/ticks");
    println!("  curl -i -T README.md http://{address}/notes/readme");
    println!("  curl -i --data-binary @Cargo.lock http://{address}/count");
    Ok(server.join()?)
}
