//! Version 1, a line of text (§2.1). It is looked at when its end has come, and has to be exactly as
//! it must be: `PROXY TCP4 192.0.2.1 192.0.2.2 56324 443\r\n`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::{Found, Header, HeaderError, LINE_BYTES_MAX};

pub(super) const SIGNATURE: &[u8] = b"PROXY ";

/// Reads what begins as [`SIGNATURE`], or as far as that goes.
pub(super) fn read(bytes: &[u8]) -> Result<Found, HeaderError> {
    let visible = &bytes[..bytes.len().min(LINE_BYTES_MAX)];
    let Some(end) = visible.iter().position(|byte| matches!(byte, b'\r' | b'\n')) else {
        return is_over(bytes).map_or(Ok(Found::Part), Err);
    };
    match (visible[end], visible.get(end + 1)) {
        (b'\r', Some(b'\n')) => {
            let header = line(&visible[..end]).ok_or(HeaderError::Line)?;
            Ok(Found::Whole { len: end + 2, header })
        }
        (b'\r', None) => is_over(bytes).map_or(Ok(Found::Part), Err),
        // A single CR or LF must not be tolerated.
        _ => Err(HeaderError::Line),
    }
}

fn is_over(bytes: &[u8]) -> Option<HeaderError> {
    (bytes.len() >= LINE_BYTES_MAX).then_some(HeaderError::LineTooLong)
}

/// What a line says, without its end.
fn line(line: &[u8]) -> Option<Header> {
    let line = line.strip_prefix(SIGNATURE)?;
    if let Some(rest) = line.strip_prefix(b"UNKNOWN") {
        // What follows must be ignored, whatever it is.
        return (rest.is_empty() || rest.starts_with(b" ")).then_some(Header::Peer);
    }
    // Exactly one space between them: two would make an empty part.
    let mut parts = std::str::from_utf8(line).ok()?.split(' ');
    let address = match parts.next()? {
        "TCP4" => |part: &str| part.parse::<Ipv4Addr>().ok().map(IpAddr::V4),
        "TCP6" => |part: &str| part.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
        _ => return None,
    };
    let (source, destination) = (address(parts.next()?)?, address(parts.next()?)?);
    let (source_port, destination_port) = (port(parts.next()?)?, port(parts.next()?)?);
    parts.next().is_none().then_some(Header::Client {
        source: SocketAddr::new(source, source_port),
        destination: SocketAddr::new(destination, destination_port),
    })
}

/// Digits without a zero in front.
fn port(part: &str) -> Option<u16> {
    let is_plain = part == "0" || part.starts_with(|first: char| matches!(first, '1'..='9'));
    part.parse().ok().filter(|_| is_plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_whose_connection_it_is() {
        for (text, source, destination) in [
            ("TCP4 192.168.0.1 192.168.0.11 56324 443", "192.168.0.1:56324", "192.168.0.11:443"),
            ("TCP4 255.255.255.255 0.0.0.0 65535 0", "255.255.255.255:65535", "0.0.0.0:0"),
            ("TCP6 2001:DB8::1 ::1 1 2", "[2001:db8::1]:1", "[::1]:2"),
            ("TCP6 ::ffff:192.0.2.1 :: 1 2", "[::ffff:192.0.2.1]:1", "[::]:2"),
        ] {
            let line = format!("PROXY {text}\r\nbehind");
            let (source, destination) = (source.parse().unwrap(), destination.parse().unwrap());
            let header = Header::Client { source, destination };
            let len = line.len() - 6;
            assert_eq!(read(line.as_bytes()), Ok(Found::Whole { len, header }), "{text}");
        }
    }

    #[test]
    fn a_line_of_an_unknown_client_is_one_whatever_else_it_says() {
        let longest = format!("PROXY UNKNOWN {}\r\n", "x".repeat(91));
        assert_eq!(longest.len(), LINE_BYTES_MAX);
        for line in ["PROXY UNKNOWN\r\n", "PROXY UNKNOWN \u{ff} TCP4\r\n", &longest] {
            let whole = Found::Whole { len: line.len(), header: Header::Peer };
            assert_eq!(read(line.as_bytes()), Ok(whole), "{line}");
        }
    }

    #[test]
    fn a_line_that_is_not_exactly_as_it_must_be_is_refused() {
        for line in [
            "PROXY TCP4 192.168.0.1 192.168.0.11 56324 443\n",
            "PROXY TCP4 192.168.0.1 192.168.0.11 56324 443\r\r\n",
            "PROXY TCP4 192.168.0.1 192.168.0.11 56324 443 \r\n",
            "PROXY  TCP4 192.168.0.1 192.168.0.11 56324 443\r\n",
            "PROXY TCP4 192.168.0.1  192.168.0.11 56324 443\r\n",
            "PROXY TCP4 192.168.0.01 192.168.0.11 56324 443\r\n",
            "PROXY TCP4 192.168.0 192.168.0.11 56324 443\r\n",
            "PROXY TCP4 256.168.0.1 192.168.0.11 56324 443\r\n",
            "PROXY TCP4 192.168.0.1 192.168.0.11 056324 443\r\n",
            "PROXY TCP4 192.168.0.1 192.168.0.11 +5632 443\r\n",
            "PROXY TCP4 192.168.0.1 192.168.0.11 65536 443\r\n",
            "PROXY TCP4 192.168.0.1 192.168.0.11 56324\r\n",
            "PROXY TCP4 192.168.0.1 192.168.0.11 56324 443 1\r\n",
            "PROXY TCP4 ::1 ::2 1 2\r\n",
            "PROXY TCP6 192.0.2.1 192.0.2.2 1 2\r\n",
            "PROXY TCP6 ::1%lo ::1 1 2\r\n",
            "PROXY TCP6 1:2:3:4:5:6:7 ::1 1 2\r\n",
            "PROXY TCP5 ::1 ::1 1 2\r\n",
            "PROXY tcp4 192.168.0.1 192.168.0.11 56324 443\r\n",
            "PROXY UNKNOWNS\r\n",
            "PROXY UNKNOWN a\nb\r\n",
            "PROXY UNKNOWN a\rb\r\n",
            "PROXY \r\n",
        ] {
            assert_eq!(read(line.as_bytes()), Err(HeaderError::Line), "{line}");
        }
        let too_long = format!("PROXY UNKNOWN {}\r\n", "x".repeat(92));
        assert_eq!(read(too_long.as_bytes()), Err(HeaderError::LineTooLong));
        assert_eq!(read(&too_long.as_bytes()[..LINE_BYTES_MAX]), Err(HeaderError::LineTooLong));
    }
}
