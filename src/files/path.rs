//! From the path of a request to one beneath the root. Decoded once; whatever could mean another
//! place than it says is no path.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use crate::http::percent_decoded;

/// The relative path that `rest` of a target names, or `None` if it names none: with an empty or a
/// dot segment, a segment that begins with a dot, a backslash or a NUL.
pub(super) fn resolve(rest: &[u8]) -> Option<PathBuf> {
    let mut path = PathBuf::new();
    let rest = rest.strip_suffix(b"/").unwrap_or(rest);
    if rest.is_empty() {
        return Some(path);
    }
    for segment in rest.split(|byte| *byte == b'/') {
        let name = percent_decoded(segment);
        let is_plain = !name.is_empty()
            && name[0] != b'.'
            && !name.iter().any(|byte| matches!(byte, 0 | b'/' | b'\\'));
        if !is_plain {
            return None;
        }
        path.push(OsStr::from_bytes(&name));
    }
    Some(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_decoded_once() {
        for (rest, expected) in [
            ("", ""),
            ("a", "a"),
            ("a/", "a"),
            ("a/b.c", "a/b.c"),
            ("a%20b", "a b"),
            ("%61", "a"),
            ("%2561", "%61"),
            ("a%zz", "a%zz"),
            ("a..b", "a..b"),
        ] {
            assert_eq!(resolve(rest.as_bytes()), Some(PathBuf::from(expected)), "{rest}");
        }
    }

    #[test]
    fn whatever_could_lead_elsewhere_is_no_path() {
        for rest in [
            "..",
            "a/..",
            "../a",
            "%2e%2e/a",
            ".%2e",
            "%2E%2E%2fa",
            "a%2fb",
            "a//b",
            "//",
            "/a",
            ".",
            "./a",
            ".git/config",
            "a/.htaccess",
            "%2ea",
            "a\\b",
            "a%5cb",
            "..%5c",
            "a%00",
            "a%00.txt",
        ] {
            assert_eq!(resolve(rest.as_bytes()), None, "{rest}");
        }
    }
}
