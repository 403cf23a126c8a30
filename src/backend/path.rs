//! Which paths go to a backend. Routes are found by the path as it came; a backend may read it as another
//! one, behind a route that would have been refused. Such paths do not go on unless that is asked for.

/// Whether every server reads a path as the same one: without dot segments (RFC 3986 §5.2.4), also encoded or
/// with parameters, empty segments but the last, backslashes, and slashes that are encoded.
pub(super) fn is_plain(path: &[u8]) -> bool {
    let Some(path) = path.strip_prefix(b"/") else { return path == b"*" };
    let mut segments = path.split(|&byte| byte == b'/').peekable();
    while let Some(segment) = segments.next() {
        let is_last = segments.peek().is_none();
        if (segment.is_empty() && !is_last) || is_dots(segment) || hides_slash(segment) {
            return false;
        }
    }
    true
}

/// Whether a segment is one or two dots, whatever parameters come behind.
fn is_dots(segment: &[u8]) -> bool {
    let name = segment.split(|&byte| byte == b';').next().unwrap_or_default();
    let mut dots = 0;
    let mut rest = name;
    while !rest.is_empty() {
        rest = match rest {
            [b'.', rest @ ..] => rest,
            [b'%', b'2', b'e' | b'E', rest @ ..] => rest,
            _ => return false,
        };
        dots += 1;
    }
    (1..=2).contains(&dots)
}

fn hides_slash(segment: &[u8]) -> bool {
    let encoded = segment
        .windows(3)
        .any(|three| matches!(three, [b'%', b'2', b'f' | b'F'] | [b'%', b'5', b'c' | b'C']));
    encoded || segment.contains(&b'\\')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_that_is_read_in_two_ways_is_not_plain() {
        for path in ["/", "/a", "/a/", "/a/b.c", "/.well-known/x", "/...", "/a;b/c", "/%41", "*"] {
            assert!(is_plain(path.as_bytes()), "{path}");
        }
        for path in [
            "/a/../b",
            "/a/..",
            "/./a",
            "/.",
            "/%2e%2E/a",
            "/.%2e",
            "/a//b",
            "//a",
            "/..;x/a",
            "/.;/a",
            "/a%2fb",
            "/a%5Cb",
            "/a\\b",
            "",
        ] {
            assert!(!is_plain(path.as_bytes()), "{path}");
        }
    }
}
