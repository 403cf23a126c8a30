//! Responses written as bytes: made beforehand, built, written in place, and the 101; and the date in
//! them.

use std::hint::black_box;
use std::time::Duration;

use upring::http::{
    Date, Fields, Form, Persistence, Response, ResponseWriter, Status, write_switching,
};

use super::Body;
use crate::support::counted::repeated;

/// Sunday, and the second in RFC 9110 §5.6.7.
const SECOND: u64 = 784_111_777;

pub fn bodies() -> Vec<Body> {
    vec![
        Body::new("response", "ready", || {
            let ready = text().to_ready();
            written("Hello, World!", move |out, date| ready.write(out, date, Form::default()))
        }),
        Body::new("response", "ready, with a close", || {
            let ready = text().to_ready();
            let form = Form { persistence: Persistence::Close, ..Form::default() };
            written("Hello, World!", move |out, date| ready.write(out, date, form))
        }),
        Body::new("response", "built for its request", || {
            written("Hello, World!", |out, date| text().write(out, date, Form::default()))
        }),
        Body::new("response", "written in place", || written("{\"id\":1234}", in_place)),
        Body::new("response", "101", || {
            written("\r\n\r\n", |out, _| {
                write_switching(out, b"websocket", Some(b"13"), &Fields::default());
            })
        }),
        Body::new("date", "the same second", || {
            let mut date = Date::at(SECOND);
            move |rounds| repeated(rounds, || date.refresh(black_box(SECOND)))
        }),
        Body::new("date", "the next second", || {
            let (mut date, mut second) = (Date::at(SECOND), SECOND);
            assert_eq!(date.as_bytes(), b"Sun, 06 Nov 1994 08:49:37 GMT");
            move |rounds| {
                repeated(rounds, || {
                    second += 1;
                    date.refresh(black_box(second))
                })
            }
        }),
    ]
}

fn text() -> Response {
    Response::text(Status::OK, "Hello, World!")
}

fn in_place(out: &mut Vec<u8>, date: &Date) {
    ResponseWriter::new(out, date, Status::OK, Form::default())
        .field("Content-Type", "application/json")
        .field_display("X-Request-Id", 1234)
        .body_with(|out| out.extend_from_slice(b"{\"id\":1234}"))
        .expect("nothing is wrong with its fields");
}

/// Written behind each other into the same memory, as into a batch.
fn written(
    end: &'static str,
    write: impl Fn(&mut Vec<u8>, &Date) + 'static,
) -> impl FnMut(u64) -> Duration {
    let (mut out, date) = (Vec::with_capacity(2048), Date::at(SECOND));
    write(&mut out, &date);
    assert!(out.starts_with(b"HTTP/1.1 ") && out.ends_with(end.as_bytes()));
    move |rounds| {
        repeated(rounds, || {
            out.clear();
            write(&mut out, black_box(&date));
        })
    }
}
