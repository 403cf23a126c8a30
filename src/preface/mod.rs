//! What comes on a connection before its protocol: the PROXY protocol header, by which a load balancer
//! says whose connection it is (HAProxy's doc/proxy-protocol.txt, cited here as §).
//!
//! ```text
//!   bytes so far ──► read_header ──► Part | Whole { len, header } | fault
//! ```
//!
//! A pure function of all bytes since the connection began: `session::preface` calls it again when more
//! have come, with those before. Nothing is kept here, and nothing copied.

mod crc32c;
mod version_1;
mod version_2;

use std::net::SocketAddr;

use crate::config::ProxyProtocol;

/// The longest line of version 1, with its end (§2.1).
pub const LINE_BYTES_MAX: usize = 107;

/// What was found at the beginning of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// The beginning of a header, or nothing yet.
    Part,
    /// A header.
    Whole {
        /// Its bytes; what lies behind them is the connection's.
        len: usize,
        /// What it says.
        header: Header,
    },
}

/// What a header says of its connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Header {
    /// It is the sender's own, or of somebody it cannot name: the peer is the client.
    Peer,
    /// It is made for somebody else.
    Client {
        /// From where they connected.
        source: SocketAddr,
        /// To where, at the sender.
        destination: SocketAddr,
    },
}

/// Why a connection does not begin as it must. It is to be aborted (§2.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HeaderError {
    /// It does not begin with a header of a version that is taken.
    #[error("the connection does not begin with a PROXY protocol header")]
    Missing,
    /// The line of version 1 is not exactly as it must be.
    #[error("the line of PROXY protocol version 1 is faulty")]
    Line,
    /// The line of version 1 does not end in 107 bytes.
    #[error("the line of PROXY protocol version 1 does not end in 107 bytes")]
    LineTooLong,
    /// Version, command, family or transport of version 2 is none that is assigned.
    #[error("the PROXY protocol header has a command, family or transport that is not assigned")]
    Unassigned,
    /// Addresses or vectors of version 2 do not fit its length.
    #[error("the length of the PROXY protocol header does not fit what is in it")]
    Length,
    /// The header of version 2 is longer than it may be.
    #[error("the PROXY protocol header is longer than proxy_header_bytes_max")]
    TooLarge,
    /// The checksum of version 2 is not that of its bytes.
    #[error("the PROXY protocol header has another checksum than it says")]
    Checksum,
}

/// Reads a header of the versions that `protocol` says. `bytes` are all there are since the connection
/// began; a header of more than `bytes_max` is refused when its length has come.
///
/// More bytes never change what was found: a fault of a beginning is one of the whole, and a whole header
/// has no fault in any of its beginnings.
///
/// # Errors
/// The bytes are not the beginning of a header.
///
/// ```
/// use upring::config::ProxyProtocol;
/// use upring::preface::{Found, Header, read_header};
///
/// let line = b"PROXY TCP4 192.0.2.1 192.0.2.2 56324 443\r\nGET / HTTP/1.1\r\n";
/// let Ok(Found::Whole { len: 42, header }) = read_header(line, ProxyProtocol::Any, 536) else { panic!() };
/// let Header::Client { source, .. } = header else { panic!() };
/// assert_eq!(source.to_string(), "192.0.2.1:56324");
/// ```
pub fn read_header(
    bytes: &[u8],
    protocol: ProxyProtocol,
    bytes_max: usize,
) -> Result<Found, HeaderError> {
    let begins = |signature: &[u8]| {
        let len = signature.len().min(bytes.len());
        bytes[..len] == signature[..len]
    };
    match protocol {
        ProxyProtocol::Off => Ok(Found::Whole { len: 0, header: Header::Peer }),
        // The two differ in their first byte: before it, either may come.
        ProxyProtocol::V1 | ProxyProtocol::Any if begins(version_1::SIGNATURE) => {
            version_1::read(bytes)
        }
        ProxyProtocol::V2 | ProxyProtocol::Any if begins(version_2::SIGNATURE) => {
            version_2::read(bytes, bytes_max)
        }
        _ => Err(HeaderError::Missing),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_that_is_not_taken_is_no_header() {
        let (line, binary) = (&b"PROXY UNKNOWN\r\n"[..], version_2::SIGNATURE);
        for (protocol, line_is_taken, binary_is_taken) in [
            (ProxyProtocol::V1, true, false),
            (ProxyProtocol::V2, false, true),
            (ProxyProtocol::Any, true, true),
        ] {
            for (bytes, is_taken) in [(line, line_is_taken), (binary, binary_is_taken)] {
                for len in 1..=bytes.len() {
                    let found = read_header(&bytes[..len], protocol, 536);
                    assert_eq!(found.is_ok(), is_taken, "{protocol:?} {len}");
                }
            }
            assert_eq!(read_header(b"", protocol, 536), Ok(Found::Part), "{protocol:?}");
            for bytes in [&b"GET / HTTP/1.1\r\n"[..], b"proxy ", b"\r\n\r\nG", b"PROXX"] {
                let found = read_header(bytes, protocol, 536);
                assert_eq!(found, Err(HeaderError::Missing), "{:?}", bytes.escape_ascii());
            }
        }
    }
}
