//! One input, many segmentations: whole, byte by byte, cut in two. A server may not tell them apart
//! (RFC 9112 §2.2), so `run` replays a case in each.

use std::fmt;

use super::case::{Case, Segments, Step};

/// Inputs up to this length are cut at every offset, longer ones around the ends of heads.
const EVERY_OFFSET_BYTES_MAX: usize = 512;
/// How far a cut around the end of a head may lie from it.
const AROUND_BYTES: usize = 2;

/// Which replays a run makes besides the whole input.
#[derive(Debug, Clone, Copy)]
pub struct Variants {
    pub byte_by_byte: bool,
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
        Self { byte_by_byte: false, cuts: Cuts::None, cuts_when_waiting: Cuts::None };
    /// Byte by byte and around the ends of heads: what every test run on a real clock can bear.
    pub const NEAR_HEADS: Self =
        Self { byte_by_byte: true, cuts: Cuts::AroundHeads, cuts_when_waiting: Cuts::None };
    /// Everything: for virtual time, or for patience.
    pub const EVERY: Self =
        Self { byte_by_byte: true, cuts: Cuts::Every, cuts_when_waiting: Cuts::Every };
    /// All cuts that cost no waiting: some minutes on a real clock.
    pub const REAL_TIME: Self =
        Self { byte_by_byte: true, cuts: Cuts::Every, cuts_when_waiting: Cuts::AroundHeads };

    /// The replays of one case, the whole input first.
    pub fn of(self, case: &Case) -> Vec<Variant> {
        let mut variants = vec![Variant::Whole];
        if self.byte_by_byte && case.segments == Segments::Every {
            variants.push(Variant::ByteByByte);
        }
        let waits = case.delayed || case.timed();
        let cuts = if waits { self.cuts_when_waiting } else { self.cuts };
        if case.segments != Segments::WholeOnly {
            for (exchange, one) in case.exchanges.iter().enumerate() {
                variants.extend(
                    offsets(&one.input, cuts).map(|offset| Variant::Cut { exchange, offset }),
                );
            }
        }
        variants
    }
}

/// One way to replay a case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Variant {
    Whole,
    ByteByByte,
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
            Self::ByteByByte => input.iter().flat_map(split_all).collect(),
            Self::Cut { exchange, offset } if exchange == index => cut(input, offset),
            Self::Whole | Self::Cut { .. } => input.to_vec(),
        }
    }
}

impl fmt::Display for Variant {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Whole => write!(out, "as written"),
            Self::ByteByByte => write!(out, "byte by byte"),
            Self::Cut { exchange: 0, offset } => write!(out, "cut at byte {offset}"),
            Self::Cut { exchange, offset } => {
                write!(out, "input {} cut at byte {offset}", exchange + 1)
            }
        }
    }
}

fn split_all(step: &Step) -> Vec<Step> {
    match step {
        Step::Send(bytes) => bytes.iter().map(|&byte| Step::Send(vec![byte])).collect(),
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

/// Offsets that split a write; where two writes meet there is nothing to cut.
fn offsets(input: &[Step], cuts: Cuts) -> impl Iterator<Item = usize> {
    let mut bytes: Vec<u8> = Vec::new();
    let mut meets = vec![0];
    for step in input {
        if let Step::Send(more) = step {
            bytes.extend_from_slice(more);
            meets.push(bytes.len());
        }
    }
    let every = cuts == Cuts::Every && bytes.len() <= EVERY_OFFSET_BYTES_MAX;
    let near: Vec<usize> = bytes
        .windows(4)
        .enumerate()
        .filter(|(_, four)| four == b"\r\n\r\n")
        .map(|(at, _)| at)
        .collect();
    let chosen = move |offset: &usize| {
        every
            || near.iter().any(|at| {
                (at.saturating_sub(AROUND_BYTES)..=at + 4 + AROUND_BYTES).contains(offset)
            })
    };
    let end = if cuts == Cuts::None { 0 } else { bytes.len() };
    (1..end.max(1)).filter(move |offset| !meets.contains(offset)).filter(chosen)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn send(text: &str) -> Step {
        Step::Send(text.into())
    }

    #[test]
    fn byte_by_byte_keeps_waits_and_the_half_close() {
        let input = [send("ab"), Step::WaitMs(5), send("c"), Step::Finish];
        let expected = [send("a"), send("b"), Step::WaitMs(5), send("c"), Step::Finish];
        assert_eq!(Variant::ByteByByte.steps(0, &input), expected);
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
        assert_eq!(offsets(&input, Cuts::Every).collect::<Vec<_>>(), [1, 2, 4, 5]);
        assert_eq!(offsets(&input, Cuts::None).count(), 0);
    }

    #[test]
    fn long_inputs_are_cut_around_the_ends_of_heads() {
        let input = [send(&format!("{}\r\n\r\n{}", "x".repeat(600), "y".repeat(600)))];
        let expected: Vec<usize> = (598..=606).collect();
        assert_eq!(offsets(&input, Cuts::Every).collect::<Vec<_>>(), expected);
        assert_eq!(offsets(&input, Cuts::AroundHeads).collect::<Vec<_>>(), expected);
    }
}
