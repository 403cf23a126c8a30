//! Targets in their four forms, as part of the shortest head around them, and what is asked of a path.

use std::hint::black_box;

use upring::http::{HeadLimits, Request, TargetForm, normal_path, read_head};

use super::Body;
use crate::support::counted::repeated;

const FORMS: [(&str, &str, &str, TargetForm); 4] = [
    ("origin", "GET", "/articles/2026/11?page=2&sort=date", TargetForm::Origin),
    ("absolute", "GET", "http://www.example.org/articles/2026/11?page=2", TargetForm::Absolute),
    ("authority", "CONNECT", "www.example.org:443", TargetForm::Authority),
    ("asterisk", "OPTIONS", "*", TargetForm::Asterisk),
];

const PATTERN: &str = "/articles/{year}/{month}";

pub fn bodies() -> Vec<Body> {
    let forms = FORMS.iter().map(|(name, method, target, form)| {
        let head = head(method, target);
        Body::new("target", *name, move || {
            let (head, limits, mut fields) = (head.clone(), HeadLimits::default(), Vec::new());
            let read = read_head(&head, &mut fields, &limits).expect("it is a head");
            assert_eq!(read.form, *form);
            move |rounds| {
                repeated(rounds, || read_head(black_box(&head), &mut fields, &limits).is_ok())
            }
        })
    });
    let others = [
        Body::new("target", "parameters of a path", parameters),
        Body::new("target", "a path in its normal form", || {
            normalised(b"/articles/2026/11/a-page", b"/articles/2026/11/a-page")
        }),
        Body::new("target", "a path that is encoded", || {
            normalised(b"/%61rticles/2026/11/a%2dpage%2f", b"/articles/2026/11/a-page%2F")
        }),
    ];
    forms.chain(others).collect()
}

fn head(method: &str, target: &str) -> Vec<u8> {
    format!("{method} {target} HTTP/1.1\r\nHost: www.example.org:443\r\n\r\n").into_bytes()
}

fn parameters() -> impl FnMut(u64) -> std::time::Duration {
    let bytes = head("GET", FORMS[0].2);
    let mut fields = Vec::new();
    let head = read_head(&bytes, &mut fields, &HeadLimits::default()).expect("it is a head");
    let look = move |bytes: &[u8]| {
        let request = Request::new(bytes, &head, &fields).with_pattern(PATTERN);
        let of = |name| request.parameter(name).map_or(0, <[u8]>::len);
        of("year") + of("month") + request.query().map_or(0, <[u8]>::len)
    };
    assert_eq!(look(&bytes), "2026".len() + "11".len() + "page=2&sort=date".len());
    move |rounds| repeated(rounds, || look(black_box(&bytes)))
}

fn normalised(
    path: &'static [u8],
    normal: &'static [u8],
) -> impl FnMut(u64) -> std::time::Duration {
    assert_eq!(*normal_path(path), *normal);
    move |rounds| repeated(rounds, || normal_path(black_box(path)).len())
}
