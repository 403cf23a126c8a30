//! The four forms of a request target (RFC 9112 §3.2), split into authority, path and query.
//!
//! Called by the head reader once per request. Percent-encoding is left as it came: decoding is the
//! router's business. Bytes such as `|` and `"`, which RFC 3986 wants encoded but clients send raw,
//! are let through; those that parsers are known to disagree about are not (U-64).

use memchr::memchr2;

use super::authority::{connect_port, is_authority};
use super::error::HeadError;
use super::field::Span;
use super::list::split_once;
use super::method::Method;
use crate::scan::Class;

/// How a target is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TargetForm {
    /// `/path?query`
    Origin,
    /// `http://authority/path?query`
    Absolute,
    /// The same with another scheme: what it names is not to be had from a connection in cleartext.
    Elsewhere,
    /// `host:port`, only with CONNECT
    Authority,
    /// `*`, only with OPTIONS
    Asterisk,
}

/// The bytes of a target: visible ASCII without `#` and `\` (U-64).
pub(super) static TARGET: Class = Class::visible_without(b"#\\");

/// A target in its parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) form: TargetForm,
    pub(super) authority: Option<Span>,
    /// Empty in authority-form, and in absolute-form without a path.
    pub(super) path: Span,
    pub(super) query: Option<Span>,
}

impl Target {
    /// No target.
    pub(super) const EMPTY: Self = Self {
        form: TargetForm::Origin,
        authority: None,
        path: Span { start: 0, len: 0 },
        query: None,
    };
}

/// Splits `target`, a slice of the head `bytes`.
#[inline]
pub(super) fn read_target(
    bytes: &[u8],
    method: Method,
    target: &[u8],
) -> Result<Target, HeadError> {
    if !has_only_target_bytes(target) {
        return Err(HeadError::TargetSyntax);
    }
    match (method, target) {
        (Method::Connect, _) => read_authority_form(bytes, target),
        (_, [b'/', ..]) => Ok(split_query(bytes, TargetForm::Origin, None, target)),
        (Method::Options, b"*") => Ok(split_query(bytes, TargetForm::Asterisk, None, target)),
        _ => read_absolute_form(bytes, target),
    }
}

/// The parts of an origin-form target whose bytes were checked and whose first question mark is at
/// `question`, if it has one.
#[inline(always)]
pub(super) fn origin_form(target: Span, question: Option<u16>) -> Target {
    let end = target.start + target.len;
    let path_end = question.unwrap_or(end);
    Target {
        form: TargetForm::Origin,
        authority: None,
        path: Span { start: target.start, len: path_end - target.start },
        query: question.map(|mark| Span { start: mark + 1, len: end - mark - 1 }),
    }
}

/// No early exit, so that the loop is done a vector at a time.
#[inline]
fn has_only_target_bytes(target: &[u8]) -> bool {
    !target.iter().fold(false, |refused, byte| {
        refused | !byte.is_ascii_graphic() | (*byte == b'#') | (*byte == b'\\')
    })
}

#[inline]
fn split_query(bytes: &[u8], form: TargetForm, authority: Option<&[u8]>, path: &[u8]) -> Target {
    let (path, query) = match split_once(path, b'?') {
        Some((path, query)) => (path, Some(query)),
        None => (path, None),
    };
    Target {
        form,
        authority: authority.map(|part| Span::within(bytes, part)),
        path: Span::within(bytes, path),
        query: query.map(|part| Span::within(bytes, part)),
    }
}

/// RFC 9112 §3.2.3: CONNECT names the host and port of the tunnel and nothing else.
fn read_authority_form(bytes: &[u8], target: &[u8]) -> Result<Target, HeadError> {
    match connect_port(target) {
        Some(_) => Ok(Target {
            form: TargetForm::Authority,
            authority: Some(Span::within(bytes, target)),
            path: Span::default(),
            query: None,
        }),
        None => Err(HeadError::TargetAuthority),
    }
}

/// RFC 9112 §3.2.2: a server must accept absolute-form, although only clients of proxies send it.
fn read_absolute_form(bytes: &[u8], target: &[u8]) -> Result<Target, HeadError> {
    let (form, rest) = split_scheme(target).ok_or(HeadError::TargetForm)?;
    let end = memchr2(b'/', b'?', rest).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    // RFC 9110 §4.2.1 and §4.2.4: an empty host is invalid, and user information is treated as an
    // error.
    if !is_authority(authority) {
        return Err(HeadError::TargetAuthority);
    }
    Ok(split_query(bytes, form, Some(authority), path))
}

/// What a target's scheme makes of it, and what follows `://`. RFC 9110 §7.4: that another scheme
/// than `http` is not ours is answered when the framing is known (U-63), not here.
fn split_scheme(target: &[u8]) -> Option<(TargetForm, &[u8])> {
    let (scheme, rest) = split_once(target, b':')?;
    let rest = rest.strip_prefix(b"//")?;
    // RFC 3986 §3.1: in any case.
    if scheme.eq_ignore_ascii_case(b"http") {
        return Some((TargetForm::Absolute, rest));
    }
    let (first, others) = scheme.split_first()?;
    let is_scheme = first.is_ascii_alphabetic()
        && others
            .iter()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.'));
    is_scheme.then_some((TargetForm::Elsewhere, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Form, authority, path and query as text; `-` for an absent part.
    fn parts(method: Method, target: &str) -> Result<String, HeadError> {
        let bytes = target.as_bytes();
        let read = read_target(bytes, method, bytes)?;
        let text = |span: Span| String::from_utf8(span.of(bytes).to_vec()).unwrap();
        let optional = |span: Option<Span>| span.map_or("-".to_owned(), text);
        let form = read.form;
        let (authority, query) = (optional(read.authority), optional(read.query));
        Ok(format!("{form:?} {authority} {} {query}", text(read.path)))
    }

    #[test]
    fn splits_each_form() {
        for (method, target, expected) in [
            (Method::Get, "/", "Origin - / -"),
            (Method::Get, "/a/b?c=d?e", "Origin - /a/b c=d?e"),
            (Method::Get, "/?", "Origin - / "),
            (Method::Get, "//a/b", "Origin - //a/b -"),
            (Method::Get, "/a|\"{}", "Origin - /a|\"{} -"),
            (Method::Get, "http://a/e?x", "Absolute a /e x"),
            (Method::Get, "HTTP://a:1?x", "Absolute a:1  x"),
            (Method::Get, "HTTPS://a:1?x", "Elsewhere a:1  x"),
            (Method::Get, "ws://a/e", "Elsewhere a /e -"),
            (Method::Other, "x+1-2.3://a", "Elsewhere a  -"),
            (Method::Other, "http://[::1]", "Absolute [::1]  -"),
            (Method::Options, "*", "Asterisk - * -"),
            (Method::Connect, "x:443", "Authority x:443  -"),
        ] {
            assert_eq!(parts(method, target).as_deref(), Ok(expected), "{target}");
        }
    }

    #[test]
    fn u_64_refuses_forms_that_do_not_fit_the_method() {
        for target in
            ["*", "a:80", "a", "ftp:a", "http:/a", "://a", "1x://a", "a_b://c", "?x", "http:"]
        {
            let found = parts(Method::Get, target);
            assert_eq!(found, Err(HeadError::TargetForm), "{target}");
        }
        for target in ["/", "*", "http://a:1/", "a"] {
            let found = parts(Method::Connect, target);
            assert_eq!(found, Err(HeadError::TargetAuthority), "{target}");
        }
        assert_eq!(parts(Method::Options, "*?"), Err(HeadError::TargetForm));
    }

    #[test]
    fn u_64_refuses_fragments_backslashes_blanks_and_non_ascii() {
        for target in ["/#x", "/a\\b", "/a b", "/caf\u{e9}", "/\u{7f}", "/a\tb", "http://a/#"] {
            let found = parts(Method::Get, target);
            assert_eq!(found, Err(HeadError::TargetSyntax), "{target:?}");
        }
    }

    #[test]
    fn refuses_absolute_targets_without_a_plain_host() {
        for target in
            ["http://", "http:///e", "http://u@a/", "http://a:x/", "http://a,b/", "file:///e"]
        {
            let found = parts(Method::Get, target);
            assert_eq!(found, Err(HeadError::TargetAuthority), "{target}");
        }
    }
}
