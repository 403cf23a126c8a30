//! Which paths go to a backend. Routes are found by the path as it came; a backend may read it as another
//! one, behind a route that would have been refused. Such paths do not go on unless that is asked for.

/// Whether servers read a path as the same one: without dot segments (RFC 3986 §5.2.4) and empty segments but
/// the last, also where parameters or their encoded separator come behind, backslashes, slashes that are
/// encoded, and the zero byte, at which some end. Parameters behind a name go on (`/a;b=c`): they are in
/// use, and a server that leaves them out has to look at its own paths.
pub(super) fn is_plain(path: &[u8]) -> bool {
    let Some(path) = path.strip_prefix(b"/") else { return path == b"*" };
    let mut segments = path.split(|&byte| byte == b'/').peekable();
    while let Some(segment) = segments.next() {
        let is_last = segments.peek().is_none();
        let is_empty = segment.is_empty() && !is_last;
        if is_empty || is_nameless(segment) || hides_separator(segment) {
            return false;
        }
    }
    true
}

/// Whether a segment is one or two dots, with parameters or without, or nothing but parameters.
fn is_nameless(segment: &[u8]) -> bool {
    let (mut dots, mut rest) = (0, segment);
    let has_parameters = loop {
        rest = match rest {
            [] => break false,
            [b';', ..] | [b'%', b'3', b'b' | b'B', ..] => break true,
            [b'.', rest @ ..] | [b'%', b'2', b'e' | b'E', rest @ ..] => rest,
            _ => return false,
        };
        dots += 1;
    };
    (1..=2).contains(&dots) || (dots == 0 && has_parameters)
}

/// Whether something in it ends a segment, or a path, for some servers.
fn hides_separator(segment: &[u8]) -> bool {
    let is_encoded = segment.windows(3).any(|three| {
        matches!(three, b"%00" | [b'%', b'2', b'f' | b'F'] | [b'%', b'5', b'c' | b'C'])
    });
    is_encoded || segment.contains(&b'\\')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_that_is_read_in_two_ways_is_not_plain() {
        for path in [
            "/",
            "/a",
            "/a/",
            "/a/b.c",
            "/.well-known/x",
            "/...",
            "/a;b/c",
            "/a%3bb",
            "/...;b",
            "/%41",
            "*",
        ] {
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
            "/a/..%3b/b",
            "/a/%2e%2E%3B/b",
            "/;a/b",
            "/a/%3b",
            "/a%00/b",
            "/a/..%00/b",
            "/a/.%00./b",
            "/a%2fb",
            "/a%5Cb",
            "/a\\b",
            "",
        ] {
            assert!(!is_plain(path.as_bytes()), "{path}");
        }
    }
}
