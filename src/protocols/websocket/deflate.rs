//! permessage-deflate at work (RFC 7692 §7.2): messages inflated as they come, within their bound, and
//! deflated as they go.
//!
//! Both sides leave out the four bytes that end every message, [`TAIL`].

use flate2::{Compress, Compression as Level, Decompress, FlushCompress, FlushDecompress, Status};

use super::extension::{Agreed, WINDOW_BITS_MAX, WINDOW_BITS_MIN};
use super::frame::Fault;

/// The empty block that a sync flush ends with.
const TAIL: [u8; 4] = [0, 0, 0xff, 0xff];

/// Memory for what is inflated grows by at least so much.
const GROWTH_MIN: usize = 1024;

/// What a connection with the extension keeps.
#[derive(Debug)]
pub(super) struct Deflate {
    pub(super) inflater: Inflater,
    /// The connection's own compressor, once it has sent something.
    own: Option<Compress>,
    agreed: Agreed,
}

impl Deflate {
    pub(super) fn new(agreed: Agreed) -> Deflate {
        let inflater = Inflater { stream: None, agreed };
        Deflate { inflater, own: None, agreed }
    }

    /// Deflates a message; `None` if it is not worth it. Where nothing is remembered, `shared` does it.
    pub(super) fn deflate(
        &mut self,
        message: &[u8],
        shared: &mut Compressors,
        level: u8,
    ) -> Option<Vec<u8>> {
        if self.agreed.server_forgets {
            return shared.deflate(message, self.agreed.server_bits, level);
        }
        let bits = self.agreed.server_bits;
        let stream = self.own.get_or_insert_with(|| compressor(bits, level));
        // However long it comes out: the client's memory has to follow ours.
        deflate(stream, message)
    }

    /// Whether what one such connection is sent, another can be sent as well: it depends on nothing
    /// that was sent before.
    pub(super) fn is_shareable(&self) -> bool {
        self.agreed.server_forgets && self.agreed.server_bits == WINDOW_BITS_MAX
    }
}

/// A core's compressors that forget, by window.
#[derive(Debug, Default)]
pub(super) struct Compressors {
    by_bits: [Option<Compress>; (WINDOW_BITS_MAX - WINDOW_BITS_MIN + 1) as usize],
}

impl Compressors {
    /// Deflates a message; `None` if that would make it no shorter.
    pub(super) fn deflate(&mut self, message: &[u8], bits: u8, level: u8) -> Option<Vec<u8>> {
        let at = self.by_bits.get_mut(usize::from(bits.checked_sub(WINDOW_BITS_MIN)?))?;
        let stream = at.get_or_insert_with(|| compressor(bits, level));
        let deflated = deflate(stream, message);
        stream.reset();
        deflated.filter(|deflated| deflated.len() < message.len())
    }
}

fn compressor(bits: u8, level: u8) -> Compress {
    Compress::new_with_window_bits(Level::new(u32::from(level)), false, bits)
}

/// RFC 7692 §7.2.1.
fn deflate(stream: &mut Compress, message: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(message.len() / 2 + 64);
    let mut left = message;
    loop {
        let before = stream.total_in();
        let status = stream.compress_vec(left, &mut out, FlushCompress::Sync);
        debug_assert!(status.is_ok(), "a stream that is never finished goes on");
        status.ok()?;
        let taken = usize::try_from(stream.total_in() - before).unwrap_or(usize::MAX);
        left = left.get(taken..).unwrap_or_default();
        // With room left, all of it was flushed.
        if left.is_empty() && out.len() < out.capacity() {
            break;
        }
        out.reserve(out.len().max(64));
    }
    let len = out.strip_suffix(&TAIL)?.len();
    out.truncate(len);
    Some(out)
}

/// A connection's inflater. Between messages it has memory only if the client's compressor may refer
/// to the ones before.
#[derive(Debug)]
pub(super) struct Inflater {
    stream: Option<Decompress>,
    agreed: Agreed,
}

impl Inflater {
    /// Appends to `out` what `payload` inflates to, of a message that may have `bytes_max`.
    pub(super) fn inflate(
        &mut self,
        payload: &[u8],
        is_last: bool,
        out: &mut Vec<u8>,
        bytes_max: usize,
    ) -> Result<(), Fault> {
        let bits = self.agreed.client_bits.max(WINDOW_BITS_MIN);
        let stream =
            self.stream.get_or_insert_with(|| Decompress::new_with_window_bits(false, bits));
        inflate(stream, payload, out, bytes_max)?;
        if is_last {
            inflate(stream, &TAIL, out, bytes_max)?;
            if self.agreed.client_forgets {
                self.stream = None;
            }
        }
        Ok(())
    }
}

/// RFC 7692 §7.2.2. `out` never has room for more than one byte over its bound.
fn inflate(
    stream: &mut Decompress,
    mut left: &[u8],
    out: &mut Vec<u8>,
    bytes_max: usize,
) -> Result<(), Fault> {
    loop {
        if out.len() > bytes_max {
            return Err(Fault::MessageTooLarge);
        }
        if out.len() == out.capacity() {
            let growth = out.len().max(GROWTH_MIN);
            out.reserve_exact(growth.min(bytes_max.saturating_add(1) - out.len()));
        }
        let (before, len) = (stream.total_in(), out.len());
        let status = stream.decompress_vec(left, out, FlushDecompress::Sync);
        let status = status.map_err(|_| Fault::NotDeflate)?;
        let taken = usize::try_from(stream.total_in() - before).unwrap_or(usize::MAX);
        left = left.get(taken..).unwrap_or_default();
        match status {
            // RFC 7692 §7.2.3.4: a client may end its stream with a message; another begins.
            Status::StreamEnd => stream.reset(false),
            _ if taken == 0 && out.len() == len && out.len() < out.capacity() => {
                return if left.is_empty() { Ok(()) } else { Err(Fault::NotDeflate) };
            }
            _ if left.is_empty() && out.len() < out.capacity() => return Ok(()),
            _ => {}
        }
        if left.is_empty() && matches!(status, Status::StreamEnd) {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocols::websocket::extension::agree;
    use crate::protocols::websocket::settings::Compression;

    const MAX: usize = 100_000;

    fn agreed(compression: &Compression) -> Agreed {
        let offer: &[u8] = b"permessage-deflate; client_max_window_bits";
        agree([offer].into_iter(), Some(compression)).expect("valid").expect("acceptable")
    }

    fn inflated(inflater: &mut Inflater, payload: &[u8], piece: usize) -> Result<Vec<u8>, Fault> {
        let mut out = Vec::new();
        let count = payload.len().div_ceil(piece).max(1);
        for at in 0..count {
            let end = payload.len().min((at + 1) * piece);
            inflater.inflate(&payload[at * piece..end], at + 1 == count, &mut out, MAX)?;
        }
        Ok(out)
    }

    fn messages() -> Vec<Vec<u8>> {
        let noise = (0..5000_u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 13) as u8);
        vec![
            b"Hello".to_vec(),
            b"Hello".to_vec(),
            Vec::new(),
            b"x".repeat(70_000),
            noise.collect(),
            b"the end of a long day, the beginning of a long night".repeat(40),
        ]
    }

    #[test]
    fn what_is_deflated_inflates_to_the_same_however_it_is_cut() {
        for compression in
            [Compression::shared(), Compression::dedicated(15), Compression::dedicated(9)]
        {
            for piece in [1, 7, 4096, 1 << 20] {
                let (mut deflate, mut shared) =
                    (Deflate::new(agreed(&compression)), Compressors::default());
                let mut inflater = Deflate::new(agreed(&compression)).inflater;
                for message in messages() {
                    let Some(deflated) = deflate.deflate(&message, &mut shared, 1) else {
                        assert_eq!(compression.level, 1);
                        continue;
                    };
                    let inflated = inflated(&mut inflater, &deflated, piece);
                    assert_eq!(inflated.as_ref(), Ok(&message), "{compression:?} by {piece}");
                }
            }
        }
    }

    // RFC 7692 §7.2.3.
    #[test]
    fn the_examples_of_the_standard_inflate() {
        for (payload, expected) in [
            (&[0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00][..], &b"Hello"[..]),
            (&[0x00, 0x05, 0x00, 0xfa, 0xff, 0x48, 0x65, 0x6c, 0x6c, 0x6f, 0x00], b"Hello"),
            (&[0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0x00], b"Hello"),
            (
                &[0xf2, 0x48, 0x05, 0x00, 0x00, 0x00, 0xff, 0xff, 0xca, 0xc9, 0xc9, 0x07, 0x00],
                b"Hello",
            ),
            (&[0x00], b""),
        ] {
            for piece in [1, 3, 100] {
                let mut inflater = Deflate::new(agreed(&Compression::dedicated(15))).inflater;
                let inflated = inflated(&mut inflater, payload, piece);
                assert_eq!(inflated.as_deref(), Ok(expected), "{payload:x?} by {piece}");
            }
        }
        let mut inflater = Deflate::new(agreed(&Compression::dedicated(15))).inflater;
        for payload in
            [&[0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00][..], &[0xf2, 0x00, 0x11, 0x00, 0x00]]
        {
            let inflated = inflated(&mut inflater, payload, 100);
            assert_eq!(inflated.as_deref(), Ok(&b"Hello"[..]), "the second refers to the first");
        }
    }

    // U-88.
    #[test]
    fn a_bomb_is_seen_while_it_inflates_and_takes_no_more_than_its_bound() {
        let mut shared = Compressors::default();
        let bomb = shared.deflate(&vec![0; 64 << 20], 15, 9).expect("it is shorter");
        assert!(bomb.len() < 70_000);
        let (mut inflater, mut out) =
            (Deflate::new(agreed(&Compression::shared())).inflater, Vec::new());
        assert_eq!(inflater.inflate(&bomb, true, &mut out, MAX), Err(Fault::MessageTooLarge));
        assert!(out.capacity() <= MAX + 1, "{}", out.capacity());
    }

    #[test]
    fn nonsense_is_told_and_never_taken_for_a_message() {
        for payload in [&b"\xff\xff\xff\xff"[..], b"\x07", b"\xf2\x00\x11\x00\x00", b"\x04\xc0"] {
            for piece in [1, 100] {
                let mut inflater = Deflate::new(agreed(&Compression::shared())).inflater;
                let told = inflated(&mut inflater, payload, piece);
                assert_eq!(told, Err(Fault::NotDeflate), "{payload:x?}");
            }
        }
    }

    #[test]
    fn an_inflater_that_may_forget_keeps_nothing_between_messages() {
        for (compression, keeps) in
            [(Compression::shared(), false), (Compression::dedicated(12), true)]
        {
            let mut inflater = Deflate::new(agreed(&compression)).inflater;
            inflated(&mut inflater, &[0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00], 100)
                .expect("valid");
            assert_eq!(inflater.stream.is_some(), keeps);
        }
    }
}
