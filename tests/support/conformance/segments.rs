//! One input, many segmentations: whole, byte by byte, cut in two. A server may not tell them apart
//! (RFC 9112 §2.2), so `run` replays a case in each.

use std::fmt;

use super::case::{Case, Segments, Step};

/// Inputs up to this length are cut at every offset.
const EVERY_OFFSET_BYTES_MAX: usize = 512;
/// Longer ones around the ends of heads, and at so many places spread over them.
const SPREAD_CUTS: usize = 64;
/// How far a cut around the end of a head may lie from it.
const AROUND_BYTES: usize = 2;
/// Heads around whose ends an input is cut: the first ones, and the last.
const HEADS_MAX: usize = 8;
/// The pieces of an input that is too long to be sent byte by byte.
const PIECE_BYTES: usize = 997;

/// Which replays a run makes besides the whole input.
#[derive(Debug, Clone, Copy)]
pub struct Variants {
    /// Inputs up to this length are replayed byte by byte, longer ones in larger pieces; with 0
    /// neither.
    pub byte_by_byte_max: usize,
    pub cuts: Cuts,
    /// The same for cases in which somebody waits: on a real clock each of their replays takes its
    /// time.
    pub cuts_when_waiting: Cuts,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cuts {
    None,
    AroundHeads,
    Every,
}

impl Variants {
    /// Each case once, as written.
    pub const WHOLE: Self =
        Self { byte_by_byte_max: 0, cuts: Cuts::None, cuts_when_waiting: Cuts::None };
    /// Byte by byte and around the ends of heads: what every test run on a real clock can bear.
    pub const NEAR_HEADS: Self =
        Self { byte_by_byte_max: 1500, cuts: Cuts::AroundHeads, cuts_when_waiting: Cuts::None };
    /// Everything: for virtual time, or for patience.
    pub const EVERY: Self =
        Self { byte_by_byte_max: 16 * 1024, cuts: Cuts::Every, cuts_when_waiting: Cuts::Every };
    /// All cuts that cost no waiting: some minutes on a real clock.
    pub const REAL_TIME: Self =
        Self { byte_by_byte_max: 1500, cuts: Cuts::Every, cuts_when_waiting: Cuts::AroundHeads };

    /// The replays of one case, the whole input first.
    pub fn of(self, case: &Case) -> Vec<Variant> {
        let mut variants = vec![Variant::Whole];
        if self.byte_by_byte_max > 0 && case.segments == Segments::Every {
            let is_short = case.bytes_sent() <= self.byte_by_byte_max;
            variants.push(Variant::Pieces(if is_short { 1 } else { PIECE_BYTES }));
        }
        let waits = case.delayed || case.timed();
        let cuts = if waits { self.cuts_when_waiting } else { self.cuts };
        for (exchange, one) in case.exchanges.iter().enumerate() {
            let offsets = offsets(&one.input, cuts, case.segments);
            variants.extend(offsets.map(|offset| Variant::Cut { exchange, offset }));
        }
        variants
    }
}

/// One way to replay a case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Variant {
    Whole,
    /// Every write is made in pieces of so many bytes.
    Pieces(usize),
    /// The input of one exchange has one more boundary, `offset` bytes behind its start.
    Cut {
        exchange: usize,
        offset: usize,
    },
}

impl Variant {
    /// The steps of the exchange with this index.
    pub fn steps(self, index: usize, input: &[Step]) -> Vec<Step> {
        match self {
            Self::Pieces(bytes) => input.iter().flat_map(|step| split_all(step, bytes)).collect(),
            Self::Cut { exchange, offset } if exchange == index => cut(input, offset),
            Self::Whole | Self::Cut { .. } => input.to_vec(),
        }
    }
}

impl fmt::Display for Variant {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Whole => write!(out, "as written"),
            Self::Pieces(1) => write!(out, "byte by byte"),
            Self::Pieces(bytes) => write!(out, "in pieces of {bytes} bytes"),
            Self::Cut { exchange: 0, offset } => write!(out, "cut at byte {offset}"),
            Self::Cut { exchange, offset } => {
                write!(out, "input {} cut at byte {offset}", exchange + 1)
            }
        }
    }
}

fn split_all(step: &Step, piece_bytes: usize) -> Vec<Step> {
    match step {
        Step::Send(bytes) => {
            bytes.chunks(piece_bytes).map(|piece| Step::Send(piece.to_vec())).collect()
        }
        other => vec![other.clone()],
    }
}

fn cut(input: &[Step], offset: usize) -> Vec<Step> {
    let mut steps = Vec::with_capacity(input.len() + 1);
    let mut start = 0;
    for step in input {
        let Step::Send(bytes) = step else {
            steps.push(step.clone());
            continue;
        };
        if offset > start && offset < start + bytes.len() {
            let (front, back) = bytes.split_at(offset - start);
            steps.extend([Step::Send(front.to_vec()), Step::Send(back.to_vec())]);
        } else {
            steps.push(step.clone());
        }
        start += bytes.len();
    }
    steps
}

/// Offsets that split a write, in ascending order; where two writes meet there is nothing to cut.
fn offsets(input: &[Step], cuts: Cuts, segments: Segments) -> impl Iterator<Item = usize> {
    let mut bytes: Vec<u8> = Vec::new();
    let mut apart = vec![0];
    for step in input {
        if let Step::Send(more) = step {
            bytes.extend_from_slice(more);
            apart.push(bytes.len());
        }
    }
    let ends = bytes.windows(4).enumerate().filter(|(_, four)| four == b"\r\n\r\n");
    let ends: Vec<usize> = ends.map(|(at, _)| at + 4).collect();
    let len = bytes.len();
    let mut offsets: Vec<usize> = match cuts {
        Cuts::None => Vec::new(),
        Cuts::Every if len <= EVERY_OFFSET_BYTES_MAX => (1..len).collect(),
        Cuts::Every => {
            let spread = (1..=SPREAD_CUTS).map(|part| part * len / (SPREAD_CUTS + 1));
            around(&ends).chain(spread).collect()
        }
        Cuts::AroundHeads => around(&ends).collect(),
    };
    // What lies on both sides of a head's end arrives together.
    if segments == Segments::Together {
        apart.extend(ends);
    }
    offsets.retain(|offset| *offset < len && !apart.contains(offset));
    offsets.sort_unstable();
    offsets.dedup();
    offsets.into_iter()
}

/// Offsets around the empty lines that end so.
fn around(ends: &[usize]) -> impl Iterator<Item = usize> {
    let last = ends.get(HEADS_MAX..).and_then(<[usize]>::last);
    let chosen = ends.iter().take(HEADS_MAX).chain(last);
    chosen.flat_map(|end| end.saturating_sub(4 + AROUND_BYTES).max(1)..=end + AROUND_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn send(text: &str) -> Step {
        Step::Send(text.into())
    }

    fn cut_at(input: &[Step], cuts: Cuts) -> Vec<usize> {
        offsets(input, cuts, Segments::Every).collect()
    }

    #[test]
    fn pieces_keep_waits_and_the_half_close() {
        let input = [send("abc"), Step::WaitMs(5), send("d"), Step::Finish];
        let expected = [send("a"), send("b"), send("c"), Step::WaitMs(5), send("d"), Step::Finish];
        assert_eq!(Variant::Pieces(1).steps(0, &input), expected);
        let expected = [send("ab"), send("c"), Step::WaitMs(5), send("d"), Step::Finish];
        assert_eq!(Variant::Pieces(2).steps(0, &input), expected);
    }

    #[test]
    fn a_cut_adds_one_boundary_in_its_exchange() {
        let input = [send("abc"), Step::WaitMs(5), send("def")];
        let variant = Variant::Cut { exchange: 1, offset: 4 };
        assert_eq!(variant.steps(0, &input), input);
        assert_eq!(variant.steps(1, &input), [send("abc"), Step::WaitMs(5), send("d"), send("ef")]);
    }

    #[test]
    fn short_inputs_are_cut_everywhere_but_where_writes_meet() {
        let input = [send("abc"), Step::WaitMs(5), send("def")];
        assert_eq!(cut_at(&input, Cuts::Every), [1, 2, 4, 5]);
        assert!(cut_at(&input, Cuts::None).is_empty());
    }

    #[test]
    fn long_inputs_are_cut_around_the_ends_of_heads_and_at_places_spread_over_them() {
        let input = [send(&format!("{}\r\n\r\n{}", "x".repeat(600), "y".repeat(600)))];
        let near: Vec<usize> = (598..=606).collect();
        assert_eq!(cut_at(&input, Cuts::AroundHeads), near);
        let every = cut_at(&input, Cuts::Every);
        assert!(near.iter().all(|offset| every.contains(offset)));
        assert!(every.len() > SPREAD_CUTS && every.is_sorted(), "{every:?}");
        let widest = every.windows(2).map(|two| two[1] - two[0]).max();
        assert!(widest.is_some_and(|bytes| bytes <= 1204 / SPREAD_CUTS + 1), "{widest:?}");
    }

    #[test]
    fn of_many_heads_the_first_and_the_last_are_cut_around() {
        let input = [send(&"GET / HTTP/1.1\r\n\r\n".repeat(1000))];
        let near = cut_at(&input, Cuts::AroundHeads);
        assert_eq!(near.len(), HEADS_MAX * 9 + 6, "nothing lies behind the last");
        assert_eq!((near[0], near.last()), (12, Some(&17_999)));
    }

    #[test]
    fn what_must_arrive_together_is_not_cut_at_the_ends_of_heads() {
        let input = [send("ab\r\n\r\ncd")];
        let offsets = offsets(&input, Cuts::Every, Segments::Together).collect::<Vec<_>>();
        assert_eq!(offsets, [1, 2, 3, 4, 5, 7]);
    }
}
