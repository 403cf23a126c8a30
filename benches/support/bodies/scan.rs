//! Finding the end of a head: where it came whole, and where it came in two pieces.

use std::hint::black_box;

use upring::scan::{Scanned, head_end, head_end_across};

use super::Body;
use crate::support::HEADS;
use crate::support::counted::repeated;

pub fn bodies() -> Vec<Body> {
    let whole = HEADS.iter().map(|(name, head)| {
        Body::new("scan", *name, move || {
            assert_eq!(head_end(head, 0), Scanned::Complete(head.len()));
            move |rounds| repeated(rounds, || head_end(black_box(head), 0))
        })
        .bytes(head.len())
    });
    let cut = HEADS.iter().filter(|(name, _)| matches!(*name, "browser" | "smallest")).map(
        |(name, head)| {
            Body::new("scan", format!("{name}, cut"), move || {
                let (before, bytes) = head.split_at(head.len() / 2);
                assert_eq!(head_end_across(before, bytes), Scanned::Complete(bytes.len()));
                move |rounds| repeated(rounds, || head_end_across(black_box(before), bytes))
            })
            .bytes(head.len())
        },
    );
    whole.chain(cut).collect()
}
