//! Reading a head, by the reader that takes it in one pass and by the one that can say what is
//! wrong.

use std::hint::black_box;

use upring::http::{Head, HeadLimits, read_head, read_whole_head};

use super::Body;
use crate::support::HEADS;
use crate::support::counted::repeated;

pub fn bodies() -> Vec<Body> {
    let one_pass = HEADS.iter().map(|(name, head)| {
        Body::new("head", format!("one pass/{name}"), move || {
            let (limits, mut fields, mut read) = (HeadLimits::default(), Vec::new(), Head::EMPTY);
            // Processors without vectors that it knows leave every head to the other reader.
            let len = read_whole_head(head, &mut read, &mut fields, &limits);
            assert_eq!(len, has_vectors().then_some(head.len()));
            move |rounds| {
                repeated(rounds, || {
                    read_whole_head(black_box(head), &mut read, &mut fields, &limits)
                })
            }
        })
        .bytes(head.len())
    });
    let after_the_end = HEADS.iter().map(|(name, head)| {
        Body::new("head", format!("end known/{name}"), move || {
            let (limits, mut fields) = (HeadLimits::default(), Vec::new());
            assert!(read_head(head, &mut fields, &limits).is_ok());
            move |rounds| {
                repeated(rounds, || read_head(black_box(head), &mut fields, &limits).is_ok())
            }
        })
        .bytes(head.len())
    });
    one_pass.chain(after_the_end).collect()
}

#[cfg(target_arch = "x86_64")]
fn has_vectors() -> bool {
    is_x86_feature_detected!("ssse3")
}

#[cfg(not(target_arch = "x86_64"))]
fn has_vectors() -> bool {
    false
}
