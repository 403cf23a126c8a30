//! Version 2, a binary header (§2.2).
//!
//! ```text
//!   ┌──────────────┬─────────────────────┬───────────────────────┬────────┬───────────┬─────────┐
//!   │ signature 12 │ version 4 command 4 │ family 4  transport 4 │ len 16 │ addresses │ vectors │
//!   └──────────────┴─────────────────────┴───────────────────────┴────────┴───────────┴─────────┘
//! ```

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::Range;

use super::crc32c::Crc32c;
use super::{Found, Header, HeaderError};

pub(super) const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// Everything in front of the addresses.
const FIXED_BYTES: usize = 16;

const LOCAL: u8 = 0x20;
const PROXY: u8 = 0x21;

/// The checksum among the vectors (§2.2.3).
const PP2_TYPE_CRC32C: u8 = 0x03;

/// Reads what begins as [`SIGNATURE`], or as far as that goes.
pub(super) fn read(bytes: &[u8], bytes_max: usize) -> Result<Found, HeaderError> {
    if bytes.get(12).is_some_and(|command| !matches!(*command, LOCAL | PROXY)) {
        return Err(HeaderError::Unassigned);
    }
    if bytes.get(13).is_some_and(|of| Kind::of(*of).is_none()) {
        return Err(HeaderError::Unassigned);
    }
    let Some(fixed) = bytes.first_chunk::<FIXED_BYTES>() else { return Ok(Found::Part) };
    let [.., command, of, high, low] = *fixed;
    let kind = Kind::of(of).ok_or(HeaderError::Unassigned)?;
    let len = FIXED_BYTES + usize::from(u16::from_be_bytes([high, low]));
    if len > bytes_max {
        return Err(HeaderError::TooLarge);
    }
    let is_proxied = command == PROXY;
    if is_proxied && len < FIXED_BYTES + kind.address_bytes() {
        return Err(HeaderError::Length);
    }
    let Some(whole) = bytes.get(..len) else { return Ok(Found::Part) };
    // A LOCAL one may have no addresses, whatever family it is of.
    let rest = &whole[FIXED_BYTES..];
    let (addresses, vectors) = rest.split_at_checked(kind.address_bytes()).unwrap_or((&[], rest));
    match check_vectors(whole, len - vectors.len()) {
        // Of those, the sender may have put anything there: it is to be skipped.
        Err(HeaderError::Length) if !is_proxied || kind == Kind::Unspecified => {}
        checked => checked?,
    }
    let header = match is_proxied {
        true => kind.header(addresses),
        // The addresses are discarded, whatever family they are of.
        false => Header::Peer,
    };
    Ok(Found::Whole { len, header })
}

/// What the addresses are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Family or transport is not said.
    Unspecified,
    Ipv4 {
        is_stream: bool,
    },
    Ipv6 {
        is_stream: bool,
    },
    Unix,
}

impl Kind {
    /// By the 14th byte; `None` if family or transport is not assigned.
    fn of(byte: u8) -> Option<Kind> {
        let (family, transport) = (byte >> 4, byte & 0xf);
        let is_stream = transport == 1;
        match (family, transport) {
            (0..=3, 0) | (0, 1..=2) => Some(Kind::Unspecified),
            (1, 1..=2) => Some(Kind::Ipv4 { is_stream }),
            (2, 1..=2) => Some(Kind::Ipv6 { is_stream }),
            (3, 1..=2) => Some(Kind::Unix),
            _ => None,
        }
    }

    fn address_bytes(self) -> usize {
        match self {
            Kind::Unspecified => 0,
            Kind::Ipv4 { .. } => 2 * 4 + 2 * 2,
            Kind::Ipv6 { .. } => 2 * 16 + 2 * 2,
            Kind::Unix => 2 * 108,
        }
    }

    /// What the addresses say. Those of datagrams and of Unix sockets are as if not said, which a receiver
    /// may do with what it does not support.
    fn header(self, addresses: &[u8]) -> Header {
        let client = match self {
            Kind::Ipv4 { is_stream: true } => ends(addresses, |at: [u8; 4]| Ipv4Addr::from(at)),
            Kind::Ipv6 { is_stream: true } => ends(addresses, |at: [u8; 16]| Ipv6Addr::from(at)),
            _ => None,
        };
        client.unwrap_or(Header::Peer)
    }
}

/// Two addresses, and two ports behind them.
fn ends<const N: usize, A>(bytes: &[u8], address: impl Fn([u8; N]) -> A) -> Option<Header>
where
    SocketAddr: From<(A, u16)>,
{
    let (source, bytes) = bytes.split_first_chunk::<N>()?;
    let (destination, bytes) = bytes.split_first_chunk::<N>()?;
    let (source_port, bytes) = bytes.split_first_chunk::<2>()?;
    let (destination_port, _) = bytes.split_first_chunk::<2>()?;
    let end =
        |at: &[u8; N], port: &[u8; 2]| SocketAddr::from((address(*at), u16::from_be_bytes(*port)));
    let (source, destination) = (end(source, source_port), end(destination, destination_port));
    Some(Header::Client { source, destination })
}

/// Whether the vectors from `at` on fit the header exactly, and the checksum among them is that of its bytes.
fn check_vectors(whole: &[u8], mut at: usize) -> Result<(), HeaderError> {
    let mut checksum = None;
    while at < whole.len() {
        let (kind, value) = vector(whole, at).ok_or(HeaderError::Length)?;
        at = value.end;
        if kind == PP2_TYPE_CRC32C {
            if value.len() != 4 {
                return Err(HeaderError::Length);
            }
            // Of two of them, neither could be right: each is part of what the other is of.
            if checksum.replace(value.start).is_some() {
                return Err(HeaderError::Checksum);
            }
        }
    }
    match checksum {
        Some(at) if !is_checksum_right(whole, at) => Err(HeaderError::Checksum),
        _ => Ok(()),
    }
}

/// The type of the vector at `at`, and where its value is.
fn vector(whole: &[u8], at: usize) -> Option<(u8, Range<usize>)> {
    let [kind, high, low] = *whole.get(at..)?.first_chunk()?;
    let start = at + 3;
    let value = start..start + usize::from(u16::from_be_bytes([high, low]));
    whole.get(value.clone()).map(|_| (kind, value))
}

/// Whether the four bytes at `at` are the checksum of all with zeroes in their place.
fn is_checksum_right(whole: &[u8], at: usize) -> bool {
    let (front, rest) = whole.split_at(at);
    let (said, behind) = rest.split_at(4);
    let mut computed = Crc32c::default();
    [front, &[0; 4], behind].into_iter().for_each(|part| computed.add(part));
    computed.value().to_be_bytes() == *said
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A header with this command and family, and so many bytes behind them.
    fn header(command: u8, of: u8, rest: &[u8]) -> Vec<u8> {
        let len = u16::try_from(rest.len()).unwrap().to_be_bytes();
        [SIGNATURE, &[command, of], &len, rest].concat()
    }

    const IPV4: &[u8] = &[192, 0, 2, 1, 192, 0, 2, 2, 0xdc, 4, 1, 0xbb];

    fn client(source: &str, destination: &str) -> Header {
        let (source, destination) = (source.parse().unwrap(), destination.parse().unwrap());
        Header::Client { source, destination }
    }

    /// With the checksum of all of it as its last vector.
    fn with_checksum(command: u8, of: u8, rest: &[u8]) -> Vec<u8> {
        let mut whole = header(command, of, &[rest, &[PP2_TYPE_CRC32C, 0, 4, 0, 0, 0, 0]].concat());
        let mut computed = Crc32c::default();
        computed.add(&whole);
        let at = whole.len() - 4;
        whole[at..].copy_from_slice(&computed.value().to_be_bytes());
        whole
    }

    fn read_all(bytes: &[u8]) -> Result<Header, HeaderError> {
        match read(bytes, 536)? {
            Found::Whole { len, header } => {
                assert_eq!(len, bytes.len());
                Ok(header)
            }
            Found::Part => panic!("{:?} is whole", bytes.escape_ascii()),
        }
    }

    #[test]
    fn a_header_says_whose_connection_it_is() {
        let tcp = client("192.0.2.1:56324", "192.0.2.2:443");
        assert_eq!(read_all(&header(PROXY, 0x11, IPV4)), Ok(tcp));
        let ipv6 =
            [&[0x20, 1, 0xd, 0xb8][..], &[0; 11], &[1], &[0; 15], &[1, 0, 80, 0, 81]].concat();
        let tcp = client("[2001:db8::1]:80", "[::1]:81");
        assert_eq!(read_all(&header(PROXY, 0x21, &ipv6)), Ok(tcp));
    }

    #[test]
    fn what_names_nobody_leaves_the_peer_as_the_client() {
        for whole in [
            header(LOCAL, 0x00, b""),
            header(LOCAL, 0x11, IPV4),
            header(LOCAL, 0x21, b"anything at all"),
            header(PROXY, 0x00, b""),
            header(PROXY, 0x00, b"anything at all"),
            header(PROXY, 0x12, IPV4),
            header(PROXY, 0x22, &[1; 36]),
            header(PROXY, 0x31, &[b'/'; 216]),
            header(PROXY, 0x32, &[b'/'; 216]),
            header(PROXY, 0x10, IPV4),
            header(PROXY, 0x01, b""),
        ] {
            assert_eq!(read_all(&whole), Ok(Header::Peer), "{:?}", whole.escape_ascii());
        }
    }

    #[test]
    fn what_is_not_assigned_or_does_not_fit_is_refused() {
        for (whole, fault) in [
            (header(0x22, 0x11, IPV4), HeaderError::Unassigned),
            (header(0x11, 0x11, IPV4), HeaderError::Unassigned),
            (header(0x31, 0x11, IPV4), HeaderError::Unassigned),
            (header(PROXY, 0x41, IPV4), HeaderError::Unassigned),
            (header(PROXY, 0x13, IPV4), HeaderError::Unassigned),
            (header(LOCAL, 0xf0, b""), HeaderError::Unassigned),
            (header(PROXY, 0x11, &IPV4[1..]), HeaderError::Length),
            (header(PROXY, 0x21, IPV4), HeaderError::Length),
            (header(PROXY, 0x31, &[b'/'; 215]), HeaderError::Length),
            (header(PROXY, 0x11, &[IPV4, &[4, 0]].concat()), HeaderError::Length),
            (header(PROXY, 0x11, &[IPV4, &[4, 0, 1]].concat()), HeaderError::Length),
            (header(PROXY, 0x11, &[IPV4, &[3, 0, 1, 0]].concat()), HeaderError::Length),
            (header(PROXY, 0x00, &[0; 521]), HeaderError::TooLarge),
        ] {
            assert_eq!(read(&whole, 536), Err(fault), "{:?}", whole.escape_ascii());
        }
        assert!(read_all(&header(PROXY, 0x00, &[0; 520])).is_ok(), "536 bytes are not too large");
    }

    #[test]
    fn a_length_that_is_too_large_is_refused_before_the_bytes_come() {
        let whole = header(PROXY, 0x11, &[0; 4000]);
        assert_eq!(read(&whole[..FIXED_BYTES], 536), Err(HeaderError::TooLarge));
        assert_eq!(read(&whole[..FIXED_BYTES - 1], 536), Ok(Found::Part));
        assert_eq!(read(&whole[..FIXED_BYTES], 5000), Ok(Found::Part));
    }

    #[test]
    fn vectors_are_skipped_and_a_checksum_among_them_is_compared() {
        let noop = [4, 0, 2, 0xff, 0xff];
        let tcp = Ok(client("192.0.2.1:56324", "192.0.2.2:443"));
        let authority = [&[2, 0, 7][..], b"a.local"].concat();
        let rest = [IPV4, &noop, &authority].concat();
        assert_eq!(read_all(&header(PROXY, 0x11, &rest)), tcp);
        let mut whole = with_checksum(PROXY, 0x11, &rest);
        assert_eq!(read_all(&whole), tcp);
        for at in 16..whole.len() - 7 {
            whole[at] ^= 0x10;
            let found = read(&whole, 536);
            assert!(found.is_err(), "{at}: {found:?}");
            whole[at] ^= 0x10;
        }
        for of in [0x00, 0x11] {
            let rest = if of == 0 { b"" } else { IPV4 };
            let mut local = with_checksum(LOCAL, of, rest);
            assert_eq!(read_all(&local), Ok(Header::Peer));
            *local.last_mut().unwrap() ^= 1;
            assert_eq!(read(&local, 536), Err(HeaderError::Checksum));
        }
        let twice = [IPV4, &[3, 0, 4, 0, 0, 0, 0], &[3, 0, 4, 0, 0, 0, 0]].concat();
        assert_eq!(read(&header(PROXY, 0x11, &twice), 536), Err(HeaderError::Checksum));
    }
}
