//! A request as handlers and negotiation see it: the head's facts joined with the bytes they point
//! into.
//!
//! Built by the session once per request, copied freely, and gone before the bytes are.

use std::borrow::Cow;
use std::net::SocketAddr;
use std::sync::Arc;

use super::field::{Field, Span};
use super::head::{Head, Version};
use super::method::Method;
use super::secured::Secured;
use super::target::TargetForm;

/// A view of one request head. All of it is borrowed from the received bytes.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    bytes: &'a [u8],
    head: &'a Head,
    fields: &'a [Field],
    /// The route's, if its path has parameters.
    pattern: &'a str,
    client: Option<&'a SocketAddr>,
    secured: Option<&'a Arc<Secured>>,
}

impl<'a> Request<'a> {
    /// Joins a head and its fields with the bytes they were read from.
    ///
    /// With other bytes the accessors give nonsense or panic.
    #[inline]
    pub fn new(bytes: &'a [u8], head: &'a Head, fields: &'a [Field]) -> Self {
        Self { bytes, head, fields, pattern: "", client: None, secured: None }
    }

    /// The same, found at a route with parameters.
    #[inline]
    pub fn with_pattern(self, pattern: &'a str) -> Self {
        Self { pattern, ..self }
    }

    /// The same, from this client.
    #[inline]
    pub fn with_client(self, client: Option<&'a SocketAddr>) -> Self {
        Self { client, ..self }
    }

    /// Who asks: the peer of the connection, or whom the load balancer names that sent a PROXY protocol
    /// header. IPv4 clients have an IPv4 address, whatever the listener.
    ///
    /// `None` where nobody wants to know
    /// ([`Config::identify_clients`](crate::config::Config::identify_clients)), for a peer that was gone
    /// before it could be asked for, and on a Unix socket without such a header.
    #[inline]
    pub fn client(self) -> Option<SocketAddr> {
        self.client.copied()
    }

    /// The same, by a connection inside TLS if that is known of one.
    #[inline]
    pub fn with_secured(self, secured: Option<&'a Arc<Secured>>) -> Self {
        Self { secured, ..self }
    }

    /// What TLS has agreed on, for a request that came inside one: the name that was asked for, the
    /// client's certificates. `None` in the clear.
    #[inline]
    pub fn secured(self) -> Option<&'a Secured> {
        self.secured.map(|secured| &**secured)
    }

    /// The scheme by which it came (RFC 9110 §4.2).
    pub fn scheme(self) -> &'static str {
        if self.secured.is_some() { "https" } else { "http" }
    }

    /// Whether it names a resource that is not to be had from its connection (RFC 9110 §7.4).
    pub(crate) fn is_misdirected(self) -> bool {
        let is_https =
            |target: &[u8]| target.get(..6).is_some_and(|at| at.eq_ignore_ascii_case(b"https:"));
        let is_at_home = self.secured.is_some() && is_https(self.target());
        self.head.form == TargetForm::Elsewhere && !is_at_home
    }

    /// The request line as received, without its end.
    pub(crate) fn line(self) -> &'a [u8] {
        let Head { method_span, target, .. } = self.head;
        let (start, target_end) = (usize::from(method_span.start), target.start + target.len);
        // RFC 9112 §3: one space is behind the target, and the version is eight bytes.
        let end = usize::from(target_end) + " HTTP/1.1".len();
        debug_assert_eq!(self.bytes.get(end), Some(&b'\r'));
        self.bytes.get(start..end).unwrap_or_default()
    }

    /// The method.
    #[inline]
    pub fn method(self) -> Method {
        self.head.method
    }

    /// The method as spelled, which [`Method::Other`] does not tell.
    #[inline]
    pub fn method_name(self) -> &'a [u8] {
        self.resolve(self.head.method_span)
    }

    /// The target as sent: visible ASCII, in any of its four forms.
    #[inline]
    pub fn target(self) -> &'a [u8] {
        self.resolve(self.head.target)
    }

    /// The path, without authority and query; not decoded.
    ///
    /// `*` for OPTIONS of the whole server (also asked for by an absolute-form without path and
    /// query, RFC 9112 §3.2.4), `/` for other absolute-forms without a path (RFC 9110 §4.2.3),
    /// empty for CONNECT.
    #[inline]
    pub fn path(self) -> &'a [u8] {
        let path = self.resolve(self.head.path);
        let is_absolute = matches!(self.head.form, TargetForm::Absolute | TargetForm::Elsewhere);
        if !path.is_empty() || !is_absolute {
            return path;
        }
        match (self.head.method, self.head.query) {
            (Method::Options, None) => b"*",
            _ => b"/",
        }
    }

    /// What stands in the path where the route's pattern has `{name}` or `{*name}`; not decoded: see
    /// [`percent_decoded`].
    pub fn parameter(self, name: &str) -> Option<&'a [u8]> {
        let mut rest = self.path();
        for segment in self.pattern.split('/') {
            let end = memchr::memchr(b'/', rest).unwrap_or(rest.len());
            if let Some(inner) = segment.strip_prefix('{').and_then(|at| at.strip_suffix('}')) {
                if inner.strip_prefix('*') == Some(name) {
                    return Some(rest);
                }
                if inner == name {
                    return rest.get(..end);
                }
            }
            rest = rest.get(end + 1..).unwrap_or_default();
        }
        None
    }

    /// Names and values of the query, decoded as `application/x-www-form-urlencoded`.
    pub fn query_pairs(self) -> impl Iterator<Item = (Cow<'a, str>, Cow<'a, str>)> {
        form_urlencoded::parse(self.query().unwrap_or_default())
    }

    /// What follows the first `?` of the target; not decoded.
    #[inline]
    pub fn query(self) -> Option<&'a [u8]> {
        self.head.query.map(|query| self.resolve(query))
    }

    /// The version.
    #[inline]
    pub fn version(self) -> Version {
        self.head.version
    }

    /// The host and port that the client addressed: the target's authority if it has one, otherwise
    /// Host (U-63).
    ///
    /// `None` is possible in HTTP/1.0 only. An empty Host is `Some` of nothing.
    #[inline]
    pub fn host(self) -> Option<&'a [u8]> {
        // RFC 9112 §3.2.2: with absolute-form the Host field is ignored.
        let host = self.head.authority.or(self.head.host);
        host.map(|host| self.resolve(host))
    }

    /// Names and values of all field lines, in order.
    #[inline]
    pub fn fields(self) -> impl Iterator<Item = (&'a [u8], &'a [u8])> {
        self.fields.iter().map(move |field| (self.resolve(field.name), self.resolve(field.value)))
    }

    /// The value of the first field line with this name, in any case.
    #[inline]
    pub fn field(self, name: &str) -> Option<&'a [u8]> {
        self.fields_named(name).next()
    }

    /// The values of all field lines with this name, in any case, in order.
    #[inline]
    pub fn fields_named<'n>(self, name: &'n str) -> impl Iterator<Item = &'a [u8]> + use<'a, 'n> {
        self.fields
            .iter()
            .filter(move |field| {
                usize::from(field.name.len) == name.len()
                    && self.resolve(field.name).eq_ignore_ascii_case(name.as_bytes())
            })
            .map(move |field| self.resolve(field.value))
    }

    /// The values of the first field lines with these names, in any case: all are looked for
    /// at once.
    #[inline]
    pub(crate) fn first_fields<const COUNT: usize>(
        self,
        names: [&str; COUNT],
    ) -> [Option<&'a [u8]>; COUNT] {
        let mut values = [None; COUNT];
        for field in self.fields {
            for (name, value) in names.iter().zip(&mut values) {
                if usize::from(field.name.len) == name.len()
                    && value.is_none()
                    && self.resolve(field.name).eq_ignore_ascii_case(name.as_bytes())
                {
                    *value = Some(self.resolve(field.value));
                }
            }
        }
        values
    }

    /// The facts of the head.
    #[inline]
    pub fn head(self) -> &'a Head {
        self.head
    }

    /// A copy that outlives the received bytes.
    pub fn into_owned(self) -> OwnedRequest {
        OwnedRequest {
            bytes: self.bytes.into(),
            head: *self.head,
            fields: self.fields.into(),
            pattern: self.pattern.into(),
            client: self.client().map(Box::new),
            secured: self.secured.cloned(),
        }
    }

    #[inline]
    fn resolve(self, span: Span) -> &'a [u8] {
        span.of(self.bytes)
    }
}

/// A request whose bytes are its own: for handlers that look at it after the event that brought it.
#[derive(Clone, Debug)]
pub struct OwnedRequest {
    bytes: Box<[u8]>,
    head: Head,
    fields: Box<[Field]>,
    pattern: Box<str>,
    /// Apart: most have none.
    client: Option<Box<SocketAddr>>,
    secured: Option<Arc<Secured>>,
}

/// `part` of a target with its `%41` and the like decoded, once. What is no such triplet stays as it
/// is; what comes out need not be UTF-8.
///
/// ```
/// assert_eq!(*upring::http::percent_decoded(b"a%20b"), *b"a b");
/// ```
pub fn percent_decoded(part: &[u8]) -> Cow<'_, [u8]> {
    percent_encoding::percent_decode(part).into()
}

impl OwnedRequest {
    /// The request.
    pub fn view(&self) -> Request<'_> {
        Request::new(&self.bytes, &self.head, &self.fields)
            .with_pattern(&self.pattern)
            .with_client(self.client.as_deref())
            .with_secured(self.secured.as_ref())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::head::{HeadLimits, read_head};

    fn with_request<T>(text: &str, look: impl FnOnce(Request<'_>) -> T) -> T {
        let mut fields = Vec::new();
        let head = read_head(text.as_bytes(), &mut fields, &HeadLimits::default()).unwrap();
        look(Request::new(text.as_bytes(), &head, &fields))
    }

    #[test]
    fn u_63_the_authority_of_an_absolute_target_replaces_host() {
        let text = "GET http://a/e?q HTTP/1.1\r\nHost: zzz\r\n\r\n";
        with_request(text, |request| {
            assert_eq!(request.host(), Some(&b"a"[..]));
            assert_eq!(request.path(), b"/e");
            assert_eq!(request.query(), Some(&b"q"[..]));
            assert_eq!(request.target(), b"http://a/e?q");
        });
    }

    #[test]
    fn targets_without_a_path_have_the_one_they_mean() {
        for (line, path) in [
            ("GET http://a", "/"),
            ("GET http://a?q", "/"),
            ("OPTIONS http://a", "*"),
            ("OPTIONS http://a?q", "/"),
            ("OPTIONS http://a/", "/"),
            ("OPTIONS *", "*"),
            ("CONNECT a:1", ""),
        ] {
            let text = format!("{line} HTTP/1.1\r\nHost: a\r\n\r\n");
            with_request(&text, |request| {
                assert_eq!(request.path(), path.as_bytes(), "{line}");
            });
        }
    }

    #[test]
    fn fields_are_found_in_any_case_and_in_order() {
        let text = "BREW / HTTP/1.1\r\nHost: a\r\nX-a: 1\r\nX-ab: 2\r\nx-A: 3\r\n\r\n";
        with_request(text, |request| {
            assert_eq!(request.method_name(), b"BREW");
            assert_eq!(request.field("x-a"), Some(&b"1"[..]));
            assert_eq!(request.field("x-b"), None);
            let values: Vec<&[u8]> = request.fields_named("X-A").collect();
            assert_eq!(values, [b"1", b"3"]);
            let firsts = request.first_fields(["x-a", "x-b", "x-ab"]);
            assert_eq!(firsts, [Some(&b"1"[..]), None, Some(b"2")]);
            let (name, value) = request.fields().nth(2).unwrap();
            assert_eq!((name, value), (&b"X-ab"[..], &b"2"[..]));
        });
    }

    #[test]
    fn parameters_are_what_stands_where_the_pattern_has_them() {
        let text = "GET /users/a%2Fb/files/x/y/z?p=1&q=a+b%21 HTTP/1.1\r\nHost: a\r\n\r\n";
        with_request(text, |request| {
            assert_eq!(request.parameter("user"), None);
            let request = request.with_pattern("/users/{user}/files/{*path}");
            for request in [request, request.into_owned().view()] {
                assert_eq!(request.parameter("user"), Some(&b"a%2Fb"[..]));
                assert_eq!(request.parameter("path"), Some(&b"x/y/z"[..]));
                assert_eq!(request.parameter("other"), None);
            }
            assert_eq!(*percent_decoded(b"a%2Fb"), *b"a/b");
            let pairs: Vec<_> = request.query_pairs().collect();
            assert_eq!(pairs, [("p".into(), "1".into()), ("q".into(), "a b!".into())]);
        });
    }

    #[test]
    fn a_client_that_is_known_is_known_of_the_copy_too() {
        with_request("GET / HTTP/1.1\r\nHost: a\r\n\r\n", |request| {
            assert_eq!(request.client(), None);
            let client = "192.0.2.1:50000".parse().unwrap();
            let request = request.with_client(Some(&client)).with_pattern("/");
            assert_eq!(request.client(), Some(client));
            assert_eq!(request.into_owned().view().client(), Some(client));
        });
    }

    #[test]
    fn http_1_0_may_come_without_a_host() {
        with_request("GET / HTTP/1.0\r\n\r\n", |request| {
            assert_eq!(request.host(), None);
            assert_eq!(request.version(), Version::Http10);
            assert_eq!(request.head().method, Method::Get);
        });
    }
}
