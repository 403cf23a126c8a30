//! The cold path of the head reader: httparse refused a head, find out why.
//!
//! Reads the lines again, slowly and in order, so that the client hears the cause and gets the
//! status that goes with it. Also finds the one case where httparse is stricter than the standard:
//! minor versions above 1 (U-67).

use super::error::HeadError;
use super::list::{is_token, is_value_byte};

/// A request line whose method and target are plausible and whose version is HTTP/1.x.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RequestLine<'a> {
    pub(super) method: &'a [u8],
    pub(super) target: &'a [u8],
    /// The x of HTTP/1.x.
    pub(super) minor: u8,
    /// The head behind this line.
    pub(super) rest: &'a [u8],
}

/// Reads the request line of a head.
#[cold]
pub(super) fn request_line(bytes: &[u8]) -> Result<RequestLine<'_>, HeadError> {
    let (line, rest) = split_line(bytes).ok_or(HeadError::Malformed)?;
    // RFC 9112 §3 lets a recipient split at any white space; U-68 takes one single space.
    let mut parts = line.split(|byte| *byte == b' ');
    let method = parts.next().unwrap_or_default();
    if !is_token(method) {
        return Err(match method {
            [] => HeadError::RequestLineShape,
            _ => HeadError::MethodNotToken,
        });
    }
    let (Some(target @ [_, ..]), version, None) = (parts.next(), parts.next(), parts.next()) else {
        return Err(HeadError::RequestLineShape);
    };
    if !target.iter().all(u8::is_ascii_graphic) {
        return Err(HeadError::TargetSyntax);
    }
    let minor = minor_version(version.unwrap_or_default())?;
    Ok(RequestLine { method, target, minor, rest })
}

/// RFC 9112 §2.3: the version is `HTTP/`, a digit, a dot and a digit, in this case.
fn minor_version(version: &[u8]) -> Result<u8, HeadError> {
    match version {
        [b'H', b'T', b'T', b'P', b'/', b'1', b'.', minor @ b'0'..=b'9'] => Ok(minor - b'0'),
        [b'H', b'T', b'T', b'P', b'/', b'0'..=b'9', b'.', b'0'..=b'9'] => {
            Err(HeadError::VersionUnsupported)
        }
        _ => Err(HeadError::VersionShape),
    }
}

/// Finds the fault in a head that was refused: in its request line, or else in the first field line
/// that has one.
#[cold]
pub(super) fn head_fault(bytes: &[u8]) -> HeadError {
    match request_line(bytes) {
        Ok(line) => fields_fault(line.rest),
        Err(error) => error,
    }
}

/// Finds the first fault in field lines.
#[cold]
pub(super) fn fields_fault(mut bytes: &[u8]) -> HeadError {
    let mut is_first = true;
    while let Some((line, rest)) = split_line(bytes) {
        if let Some(error) = field_fault(line, is_first) {
            return error;
        }
        is_first = false;
        bytes = rest;
    }
    HeadError::Malformed
}

fn field_fault(line: &[u8], is_first: bool) -> Option<HeadError> {
    if line.is_empty() {
        return None;
    }
    if line.contains(&b'\r') {
        return Some(HeadError::LoneCr);
    }
    if matches!(line, [b' ' | b'\t', ..]) {
        return Some(if is_first { HeadError::SpaceBeforeFields } else { HeadError::FieldFolded });
    }
    let colon = line.iter().position(|byte| *byte == b':');
    let (name, value) = line.split_at(colon.unwrap_or(line.len()));
    if colon.is_some() && matches!(name, [.., b' ' | b'\t']) {
        return Some(HeadError::SpaceBeforeColon);
    }
    if colon.is_none() || !is_token(name) {
        return Some(HeadError::FieldName);
    }
    if value.iter().all(|byte| is_value_byte(*byte)) { None } else { Some(HeadError::FieldValue) }
}

/// The bytes before the first CR LF and those behind it.
fn split_line(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (line, rest) =
        bytes.split_at_checked(bytes.windows(2).position(|pair| pair == b"\r\n")?)?;
    Some((line, rest.get(2..)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn u_67_versions_are_told_apart_by_shape_and_major_number() {
        for (line, expected) in [
            ("GET / HTTP/1.9\r\n", Ok(9)),
            ("GET / HTTP/2.0\r\n", Err(HeadError::VersionUnsupported)),
            ("PRI * HTTP/2.0\r\n", Err(HeadError::VersionUnsupported)),
            ("GET / HTTP/0.9\r\n", Err(HeadError::VersionUnsupported)),
            ("GET / HTTP/1.10\r\n", Err(HeadError::VersionShape)),
            ("GET / HTTP/10.1\r\n", Err(HeadError::VersionShape)),
            ("GET / http/1.1\r\n", Err(HeadError::VersionShape)),
            ("GET / HTTP/1\r\n", Err(HeadError::VersionShape)),
            ("GET / HTTP/1.x\r\n", Err(HeadError::VersionShape)),
            ("GET / \r\n", Err(HeadError::VersionShape)),
            ("GET /\r\n", Err(HeadError::VersionShape)),
        ] {
            let found = request_line(line.as_bytes()).map(|line| line.minor);
            assert_eq!(found, expected, "{line:?}");
        }
    }

    #[test]
    fn u_68_one_space_separates_the_parts() {
        for line in [
            "GET  / HTTP/1.1\r\n",
            "GET / HTTP/1.1 \r\n",
            "GET /  HTTP/1.1\r\n",
            " GET / HTTP/1.1\r\n",
            "GET /a b HTTP/1.1\r\n",
            "GET\r\n",
            "\r\n",
        ] {
            let found = request_line(line.as_bytes());
            assert_eq!(found, Err(HeadError::RequestLineShape), "{line:?}");
        }
    }

    #[test]
    fn names_the_first_fault_among_the_fields() {
        for (fields, expected) in [
            (" X: a\r\n\r\n", HeadError::SpaceBeforeFields),
            ("X: a\r\n b\r\n\r\n", HeadError::FieldFolded),
            ("X : a\r\n\r\n", HeadError::SpaceBeforeColon),
            ("X\t: a\r\nY\r\n\r\n", HeadError::SpaceBeforeColon),
            (": a\r\n\r\n", HeadError::FieldName),
            ("X Y: a\r\n\r\n", HeadError::FieldName),
            ("X\r\n\r\n", HeadError::FieldName),
            ("X: a\rb\r\n\r\n", HeadError::LoneCr),
            ("X: a\0b\r\n\r\n", HeadError::FieldValue),
            ("X: a\r\n\r\n", HeadError::Malformed),
        ] {
            assert_eq!(fields_fault(fields.as_bytes()), expected, "{fields:?}");
        }
    }
}
