//! Redirections: an answer that says where else to look.

use std::fmt::{self, Write};

use super::{Answer, Reply, Takes};
use crate::http::{Method, Request, Response, Status};

/// Says that what is asked for is elsewhere (RFC 9110 §15.4).
///
/// The location may have places in braces, which each request fills: `{host}`, `{target}` (path and
/// query as they were sent), `{path}`, `{query}` (with its question mark, or nothing), and the names
/// of the route's parameters.
///
/// ```
/// use upring::{Redirect, Resource, Status};
///
/// # fn main() -> Result<(), upring::resource::RedirectError> {
/// let to_https = Redirect::new(Status::PERMANENT_REDIRECT, "https://{host}{target}")?;
/// let moved = Redirect::new(Status::MOVED_PERMANENTLY, "/articles/{name}{query}")?;
/// # let _ = (Resource::new().get(to_https), Resource::new().get(moved));
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Redirect {
    status: Status,
    pieces: Vec<Piece>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Text(Box<str>),
    Host,
    Target,
    Path,
    Query,
    Parameter(Box<str>),
}

/// Why a redirection cannot be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
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
        if location.is_empty() || !location.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(RedirectError::Location);
        }
        Ok(Redirect { status, pieces: pieces(location)? })
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

impl Answer for Redirect {
    fn takes(&self) -> Takes {
        Takes::Nothing
    }

    fn answer(&self, request: &Request<'_>, _: &[u8], reply: &mut Reply<'_>) {
        if self.pieces.contains(&Piece::Host) && request.host().is_none_or(<[u8]>::is_empty) {
            let text = "This resource is elsewhere, and where depends on Host.\n";
            return reply.send(&Response::text(Status::BAD_REQUEST, text));
        }
        reply.write(self.status, |answer| {
            let answer = answer.field_display("Location", Location { redirect: self, request });
            // Some clients show what they do not follow (RFC 9110 §15.4.2).
            match request.method() {
                Method::Get | Method::Head => answer.body(b"It is elsewhere: see Location.\n"),
                _ => answer.body(b""),
            }
        });
    }
}

/// The location for one request, written where it is sent from.
struct Location<'a> {
    redirect: &'a Redirect,
    request: &'a Request<'a>,
}

impl fmt::Display for Location<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let request = self.request;
        for piece in &self.redirect.pieces {
            match piece {
                Piece::Text(text) => f.write_str(text)?,
                Piece::Host => ascii(f, request.host().unwrap_or_default())?,
                // In absolute-form the authority has been said by then, or is not wanted.
                Piece::Target => {
                    ascii(f, request.path())?;
                    query(f, *request)?;
                }
                Piece::Path => ascii(f, request.path())?,
                Piece::Query => query(f, *request)?,
                Piece::Parameter(name) => ascii(f, request.parameter(name).unwrap_or_default())?,
            }
        }
        Ok(())
    }
}

fn query(f: &mut fmt::Formatter<'_>, request: Request<'_>) -> fmt::Result {
    match request.query() {
        None => Ok(()),
        Some(query) => {
            f.write_char('?')?;
            ascii(f, query)
        }
    }
}

/// A target and a host consist of visible ASCII: whatever else there were is not followed.
fn ascii(f: &mut fmt::Formatter<'_>, bytes: &[u8]) -> fmt::Result {
    f.write_str(std::str::from_utf8(bytes).map_err(|_| fmt::Error)?)
}

#[cfg(test)]
mod tests {
    use super::*;

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
        ] {
            assert_eq!(Redirect::new(status, location), Err(expected), "{location:?}");
        }
    }
}
