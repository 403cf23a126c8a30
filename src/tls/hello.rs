//! What a client's first message says that rustls keeps to itself (RFC 8446 §4.1.2).

use super::record::HEADER_BYTES;

/// Type and length, version, random.
const BEFORE_SESSION_BYTES: usize = 4 + 2 + 32;

/// RFC 8446 §B.4, RFC 7905 §2.
const CHACHA_SUITES: [u16; 4] = [0x1303, 0xcca8, 0xcca9, 0xccaa];

/// Whether the client whose first record this is asks for ChaCha20 before all else: it has no AES in
/// hardware, and everything else would cost it more. Of a record that does not hold all of the ciphers nothing is
/// known, and rustls says what is wrong with one that is no hello.
pub(super) fn prefers_chacha(record: &[u8]) -> bool {
    let suites = suites(record).unwrap_or_default();
    let mut suites = suites.chunks_exact(2).map(|suite| u16::from_be_bytes([suite[0], suite[1]]));
    suites.find(|suite| !is_grease(*suite)).is_some_and(|suite| CHACHA_SUITES.contains(&suite))
}

fn suites(record: &[u8]) -> Option<&[u8]> {
    let hello = record.get(HEADER_BYTES..)?;
    let (session_len, rest) = hello.get(BEFORE_SESSION_BYTES..)?.split_first()?;
    let (len, rest) = rest.get(usize::from(*session_len)..)?.split_first_chunk::<2>()?;
    rest.get(..usize::from(u16::from_be_bytes(*len)))
}

/// RFC 8701 §3.1: a value that says nothing.
fn is_grease(suite: u16) -> bool {
    let [high, low] = suite.to_be_bytes();
    high == low && low & 0x0f == 0x0a
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(session_len: u8, suites: &[u16]) -> Vec<u8> {
        let mut record = vec![0; HEADER_BYTES + BEFORE_SESSION_BYTES];
        record.push(session_len);
        record.extend(std::iter::repeat_n(0xcc, session_len.into()));
        record.extend_from_slice(&(2 * suites.len() as u16).to_be_bytes());
        record.extend(suites.iter().flat_map(|suite| suite.to_be_bytes()));
        record.extend_from_slice(&[1, 0, 0, 0]);
        record
    }

    #[test]
    fn the_first_cipher_that_means_something_says_it() {
        for (suites, expected) in [
            (&[0x1303, 0x1301][..], true),
            (&[0x1301, 0x1303], false),
            (&[0x4a4a, 0x1303], true),
            (&[0x4a4a, 0x1301, 0xcca9], false),
            (&[0xcca9, 0xc02b], true),
            (&[0xc02b, 0xcca9], false),
            (&[0x0a1a, 0x1303], false),
            (&[0x4a4a], false),
            (&[], false),
        ] {
            for session_len in [0, 32, 255] {
                let record = record(session_len, suites);
                assert_eq!(prefers_chacha(&record), expected, "{suites:x?}, {session_len}");
            }
        }
    }

    #[test]
    fn a_record_that_is_cut_says_nothing() {
        let record = record(32, &[0x1303]);
        for len in 0..record.len() - 4 {
            assert!(!prefers_chacha(&record[..len]), "{len}");
        }
        assert!(prefers_chacha(&record[..record.len() - 4]));
    }
}
