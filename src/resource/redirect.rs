//! Redirections: an answer that says where else to look.

use std::fmt;

use super::registry::without_port;
use super::{Answer, Reply, Takes};
use crate::http::{Method, Request, Response, Status};

/// Says that what is asked for is elsewhere (RFC 9110 §15.4).
///
/// The location may have places in braces, which each request fills: `{host}` (with the port, if the
/// client named one), `{hostname}` (without it, as another scheme needs it), `{target}` (path and
/// query as they were sent), `{path}`, `{query}` (with its question mark, or nothing), and the names
/// of the route's parameters.
///
/// Where the location names a host, only `{host}` or `{hostname}` may stand, or `{path}`, `{target}` and `{query}`
/// directly behind it. A location that names none never does: a request that would make it name one
/// is answered with 400.
///
/// ```
/// use upring::{Redirect, Resource, Status};
///
/// # fn main() -> Result<(), upring::resource::RedirectError> {
/// let to_https = Redirect::new(Status::PERMANENT_REDIRECT, "https://{hostname}{target}")?;
/// let moved = Redirect::new(Status::MOVED_PERMANENTLY, "/articles/{name}{query}")?;
/// # let _ = (Resource::new().get(to_https), Resource::new().get(moved));
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Redirect {
    status: Status,
    pieces: Vec<Piece>,
    /// The location names a host, or at least a scheme, whatever the request is.
    names_host: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Text(Box<str>),
    Host,
    Hostname,
    Target,
    Path,
    Query,
    Parameter(Box<str>),
}

/// Why a redirection cannot be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RedirectError {
    /// The status does not say that a Location is to be followed.
    #[error("only 301, 302, 303, 307 and 308 send a client elsewhere")]
    Status,
    /// The location is no URI reference: it is empty, or holds something that has to be encoded.
    #[error("a location is visible ASCII without blanks, and not empty")]
    Location,
    /// A brace is missing.
    #[error("a place in a location is a name in braces")]
    Place,
    /// A place could make the location name any host.
    #[error(
        "the host in a location is said by the location, by {{host}} or by {{hostname}}, by nothing else"
    )]
    Host,
}

impl Redirect {
    /// Sends clients to `location` with this status.
    ///
    /// # Errors
    /// If the status is not one of a redirection, or `location` can be no location.
    pub fn new(status: Status, location: &str) -> Result<Redirect, RedirectError> {
        let is_redirection = [
            Status::MOVED_PERMANENTLY,
            Status::FOUND,
            Status::SEE_OTHER,
            Status::TEMPORARY_REDIRECT,
            Status::PERMANENT_REDIRECT,
        ]
        .contains(&status);
        if !is_redirection {
            return Err(RedirectError::Status);
        }
        let is_plain = |byte: u8| byte.is_ascii_graphic() && byte != b'\\';
        if location.is_empty() || !location.bytes().all(is_plain) {
            return Err(RedirectError::Location);
        }
        let pieces = pieces(location)?;
        let text = location.split('{').next().unwrap_or_default();
        let names_host = names_host(text.bytes());
        if names_host && !settles_host(text, &pieces) {
            return Err(RedirectError::Host);
        }
        Ok(Redirect { status, pieces, names_host })
    }

    /// Where a request is sent, unless it would have chosen the host.
    fn location<'a>(&'a self, request: Request<'a>) -> Option<Location<'a>> {
        let location = Location { redirect: self, request };
        let goes_astray = !self.names_host && names_host(location.parts().flatten().copied());
        (!goes_astray).then_some(location)
    }
}

fn pieces(location: &str) -> Result<Vec<Piece>, RedirectError> {
    let mut pieces = Vec::new();
    let mut rest = location;
    while let Some((text, behind)) = rest.split_once('{') {
        let (name, behind) = behind.split_once('}').ok_or(RedirectError::Place)?;
        if text.contains('}') || name.is_empty() || name.contains('{') {
            return Err(RedirectError::Place);
        }
        pieces.push(Piece::Text(text.into()));
        pieces.push(match name {
            "host" => Piece::Host,
            "hostname" => Piece::Hostname,
            "target" => Piece::Target,
            "path" => Piece::Path,
            "query" => Piece::Query,
            name => Piece::Parameter(name.into()),
        });
        rest = behind;
    }
    if rest.contains('}') {
        return Err(RedirectError::Place);
    }
    pieces.push(Piece::Text(rest.into()));
    Ok(pieces)
}

/// Whether a location leaves the host it was got from. Browsers take a backslash for a slash, and a
/// scheme without slashes for a host, too.
fn names_host(location: impl Iterator<Item = u8> + Clone) -> bool {
    let mut ahead = location.clone();
    let is_slash = |byte| matches!(byte, Some(b'/' | b'\\'));
    if is_slash(ahead.next()) && is_slash(ahead.next()) {
        return true;
    }
    // RFC 3986 §4.2: a colon in the first segment of a reference ends a scheme.
    let mut segment = location.take_while(|byte| !matches!(byte, b'/' | b'\\' | b'?' | b'#'));
    segment.any(|byte| byte == b':')
}

/// Whether the host of a location that begins with `text` and names one is the same for whatever a
/// request has in the places, `{host}` and `{hostname}` apart.
fn settles_host(text: &str, pieces: &[Piece]) -> bool {
    let Some((_, authority)) = text.split_once("//") else { return pieces.len() == 1 };
    let mut is_empty = true;
    for piece in std::iter::once(&Piece::Text(authority.into())).chain(&pieces[1..]) {
        match piece {
            Piece::Text(text) => {
                let end = text.find(['/', '?', '#']);
                is_empty &= end.unwrap_or(text.len()) == 0;
                if end.is_some() {
                    break;
                }
            }
            Piece::Host | Piece::Hostname => is_empty = false,
            // What begins with a slash ends a host.
            Piece::Target | Piece::Path => break,
            Piece::Query => {}
            Piece::Parameter(_) => return false,
        }
    }
    // Browsers take what follows for the host if it is empty.
    !is_empty
}

impl Answer for Redirect {
    fn takes(&self) -> Takes {
        Takes::Nothing
    }

    fn answer(&self, request: &Request<'_>, _: &[u8], reply: &mut Reply<'_>) {
        let needs_host = |piece: &Piece| matches!(piece, Piece::Host | Piece::Hostname);
        if self.pieces.iter().any(needs_host) && request.host().is_none_or(<[u8]>::is_empty) {
            let text = "This resource is elsewhere, and where depends on Host.\n";
            return reply.send(&Response::text(Status::BAD_REQUEST, text));
        }
        let Some(location) = self.location(*request) else {
            let text = "This resource is elsewhere, and a request does not choose the host.\n";
            return reply.send(&Response::text(Status::BAD_REQUEST, text));
        };
        reply.write(self.status, |answer| {
            let answer = answer.field_display("Location", location);
            // Some clients show what they do not follow (RFC 9110 §15.4.2).
            match request.method() {
                Method::Get | Method::Head => answer.body(b"It is elsewhere: see Location.\n"),
                _ => answer.body(b""),
            }
        });
    }
}

/// The location for one request, written where it is sent from.
#[derive(Clone, Copy)]
struct Location<'a> {
    redirect: &'a Redirect,
    request: Request<'a>,
}

impl<'a> Location<'a> {
    fn parts(self) -> impl Iterator<Item = &'a [u8]> + Clone {
        self.redirect.pieces.iter().flat_map(move |piece| self.filled(piece))
    }

    /// What a piece is for this request, in up to three parts.
    fn filled(self, piece: &'a Piece) -> [&'a [u8]; 3] {
        let request = self.request;
        match piece {
            Piece::Text(text) => [text.as_bytes(), b"", b""],
            Piece::Host => [request.host().unwrap_or_default(), b"", b""],
            Piece::Hostname => [without_port(request.host().unwrap_or_default()), b"", b""],
            // In absolute-form the authority has been said by then, or is not wanted.
            Piece::Target => {
                [path(request), question(request), request.query().unwrap_or_default()]
            }
            Piece::Path => [path(request), b"", b""],
            Piece::Query => [question(request), request.query().unwrap_or_default(), b""],
            Piece::Parameter(name) => [request.parameter(name).unwrap_or_default(), b"", b""],
        }
    }
}

impl fmt::Display for Location<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A target and a host consist of visible ASCII: whatever else there were is not followed.
        let mut parts = self.parts();
        parts.try_for_each(|part| f.write_str(std::str::from_utf8(part).map_err(|_| fmt::Error)?))
    }
}

/// The path; `/` for targets without one, of CONNECT and `OPTIONS *`, so that it ends a host.
fn path(request: Request<'_>) -> &[u8] {
    let path = request.path();
    if path.starts_with(b"/") { path } else { b"/" }
}

fn question(request: Request<'_>) -> &'static [u8] {
    if request.query().is_some() { b"?" } else { b"" }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::{HeadLimits, read_head};

    #[test]
    fn what_is_no_redirection_is_refused() {
        for (status, location, expected) in [
            (Status::OK, "/", RedirectError::Status),
            (Status::NOT_MODIFIED, "/", RedirectError::Status),
            (Status::FOUND, "", RedirectError::Location),
            (Status::FOUND, "/a b", RedirectError::Location),
            (Status::FOUND, "/a\r\nX: y", RedirectError::Location),
            (Status::FOUND, "/caf\u{e9}", RedirectError::Location),
            (Status::FOUND, "/{", RedirectError::Place),
            (Status::FOUND, "/}", RedirectError::Place),
            (Status::FOUND, "/{}", RedirectError::Place),
            (Status::FOUND, "/{a{b}}", RedirectError::Place),
            (Status::FOUND, "/}{a}", RedirectError::Place),
            (Status::FOUND, "/a\\b", RedirectError::Location),
            (Status::FOUND, "//{a}/", RedirectError::Host),
            (Status::FOUND, "///{a}", RedirectError::Host),
            (Status::FOUND, "//{path}", RedirectError::Host),
            (Status::FOUND, "https:{path}", RedirectError::Host),
            (Status::FOUND, "https:/{a}", RedirectError::Host),
            (Status::FOUND, "https://{a}.example.org/", RedirectError::Host),
            (Status::FOUND, "https://example.org{a}", RedirectError::Host),
            (Status::FOUND, "https://example.org:{a}/", RedirectError::Host),
            (Status::FOUND, "https://{host}{query}{a}", RedirectError::Host),
            (Status::FOUND, "https://{hostname}{a}", RedirectError::Host),
        ] {
            assert_eq!(Redirect::new(status, location), Err(expected), "{location:?}");
        }
    }

    /// Where a request is sent that was found at `pattern`.
    fn sent(location: &str, pattern: &str, line: &str) -> Option<String> {
        let redirect = Redirect::new(Status::FOUND, location).expect("a location");
        let (text, mut all) = (format!("{line} HTTP/1.1\r\nHost: a:80\r\n\r\n"), Vec::new());
        let head = read_head(text.as_bytes(), &mut all, &HeadLimits::default()).expect("valid");
        let request = Request::new(text.as_bytes(), &head, &all).with_pattern(pattern);
        redirect.location(request).map(|location| location.to_string())
    }

    #[test]
    fn a_request_makes_a_location_name_no_other_host() {
        for (location, pattern, line, expected) in [
            ("/{rest}", "/old/{*rest}", "GET /old/a//b", Some("/a//b")),
            ("/{rest}", "/old/{*rest}", "GET /old//evil.com", None),
            ("/{rest}", "/old/{*rest}", "GET /old/%5Cevil.com", Some("/%5Cevil.com")),
            ("/{none}/{rest}", "/old/{*rest}", "GET /old/evil.com", None),
            ("{rest}", "/old/{*rest}", "GET /old/https://evil.com/", None),
            ("{rest}", "/old/{*rest}", "GET /old/javascript:x", None),
            ("{rest}", "/old/{*rest}", "GET /old/a/https://b", Some("a/https://b")),
            ("./{rest}", "/old/{*rest}", "GET /old//evil.com", Some(".//evil.com")),
            ("/to/{rest}", "/old/{*rest}", "GET /old//evil.com", Some("/to//evil.com")),
            ("?to={rest}", "/old/{*rest}", "GET /old/https://b", Some("?to=https://b")),
            ("{path}", "", "GET /a", Some("/a")),
            ("{path}", "", "GET //evil.com", None),
            ("{target}&x", "", "GET //evil.com?a", None),
            ("{target}&x", "", "GET http://b//evil.com?a", None),
            ("{target}&x", "", "GET /a?b", Some("/a?b&x")),
            ("{query}", "", "GET /a?//b", Some("?//b")),
            ("{query}{path}", "", "GET //evil.com", None),
            ("{host}/x", "", "GET /", None),
            ("/{host}/x", "", "GET /", Some("/a:80/x")),
            ("https://{host}{target}", "", "GET //b?c", Some("https://a:80//b?c")),
            ("https://{hostname}{target}", "", "GET //b?c", Some("https://a//b?c")),
            ("https://{hostname}:8443{path}", "", "GET /", Some("https://a:8443/")),
            ("https://{hostname}{target}", "", "GET http://[::1]:8080/", Some("https://[::1]/")),
            ("https://{hostname}{target}", "", "GET http://[::1]/", Some("https://[::1]/")),
            ("https://{hostname}{target}", "", "GET http://b:/", Some("https://b/")),
            ("{hostname}/x", "", "GET /", Some("a/x")),
            ("https://example.org{path}", "", "OPTIONS *", Some("https://example.org/")),
            ("//cdn{query}", "", "GET /?a", Some("//cdn?a")),
            ("//cdn/{rest}", "/old/{*rest}", "GET /old//evil.com", Some("//cdn//evil.com")),
            ("mailto:a@b", "", "GET /", Some("mailto:a@b")),
        ] {
            assert_eq!(sent(location, pattern, line).as_deref(), expected, "{location} {line}");
        }
    }
}
