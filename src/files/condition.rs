//! Conditional requests (RFC 9110 §13): whether what the client has, or believes to be there, is
//! what is there.

use std::time::SystemTime;

use crate::http::{Method, Request, list};

/// What a file is told by.
pub(super) struct Validators {
    /// A strong entity tag, with its quotes.
    pub(super) etag: String,
    /// In whole seconds.
    pub(super) modified: SystemTime,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Send,
    /// The client has it already: 304.
    NotModified,
    /// It is not what the client believes: 412.
    Failed,
}

/// RFC 9110 §13.2.2, in its order.
pub(super) fn judge(request: Request<'_>, validators: &Validators) -> Verdict {
    if request.field("If-Match").is_some() {
        if !lists(request, "If-Match", validators, strong) {
            return Verdict::Failed;
        }
    } else if let Some(date) = date(request, "If-Unmodified-Since")
        && validators.modified > date
    {
        return Verdict::Failed;
    }
    let is_read = matches!(request.method(), Method::Get | Method::Head);
    if request.field("If-None-Match").is_some() {
        match lists(request, "If-None-Match", validators, weak) {
            true if is_read => Verdict::NotModified,
            true => Verdict::Failed,
            false => Verdict::Send,
        }
    } else if is_read
        && let Some(date) = date(request, "If-Modified-Since")
        && validators.modified <= date
    {
        Verdict::NotModified
    } else {
        Verdict::Send
    }
}

/// Whether a range is of the file that is there.
///
/// RFC 9110 §13.1.5: a date that is no strong validator makes the condition false. None is (§8.8.2.2):
/// a file may change twice within its second, and the two would be mixed in the client's hands.
pub(super) fn is_in_range_of(request: Request<'_>, validators: &Validators) -> bool {
    request.fields_named("If-Range").all(|value| strong(value, &validators.etag))
}

fn lists(
    request: Request<'_>,
    name: &str,
    validators: &Validators,
    matches: fn(&[u8], &str) -> bool,
) -> bool {
    request.fields_named(name).any(|value| {
        value == b"*" || list::members(value).any(|tag| matches(tag, &validators.etag))
    })
}

/// RFC 9110 §8.8.3.2.
fn strong(tag: &[u8], etag: &str) -> bool {
    tag == etag.as_bytes()
}

fn weak(tag: &[u8], etag: &str) -> bool {
    tag.strip_prefix(b"W/").unwrap_or(tag) == etag.as_bytes()
}

fn date(request: Request<'_>, name: &str) -> Option<SystemTime> {
    httpdate::parse_http_date(std::str::from_utf8(request.field(name)?).ok()?).ok()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::http::{HeadLimits, read_head};
    use std::time::Duration;

    /// Looks at a request with these fields.
    pub(in crate::files) fn with_fields<T>(
        method: &str,
        fields: &str,
        look: impl FnOnce(Request<'_>) -> T,
    ) -> T {
        let text = format!("{method} / HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
        let mut all = Vec::new();
        let head = read_head(text.as_bytes(), &mut all, &HeadLimits::default()).expect("valid");
        look(Request::new(text.as_bytes(), &head, &all))
    }

    pub(in crate::files) fn validators() -> Validators {
        let modified = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
        Validators { etag: "\"tag\"".into(), modified }
    }

    const THEN: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
    const BEFORE: &str = "Sun, 06 Nov 1994 08:49:36 GMT";
    const LATER: &str = "Sun, 06 Nov 1994 08:49:38 GMT";

    #[test]
    fn conditions_are_judged_in_the_order_of_the_standard() {
        use Verdict::{Failed, NotModified, Send};
        for (fields, expected) in [
            (String::new(), Send),
            ("If-None-Match: \"tag\"\r\n".into(), NotModified),
            ("If-None-Match: W/\"tag\"\r\n".into(), NotModified),
            ("If-None-Match: \"a\", \"tag\"\r\n".into(), NotModified),
            ("If-None-Match: \"a\"\r\nIf-None-Match: \"tag\"\r\n".into(), NotModified),
            ("If-None-Match: *\r\n".into(), NotModified),
            ("If-None-Match: \"other\"\r\n".into(), Send),
            (format!("If-Modified-Since: {THEN}\r\n"), NotModified),
            (format!("If-Modified-Since: {LATER}\r\n"), NotModified),
            (format!("If-Modified-Since: {BEFORE}\r\n"), Send),
            ("If-Modified-Since: yesterday\r\n".into(), Send),
            (format!("If-None-Match: \"other\"\r\nIf-Modified-Since: {THEN}\r\n"), Send),
            ("If-Match: \"tag\"\r\n".into(), Send),
            ("If-Match: W/\"tag\"\r\n".into(), Failed),
            ("If-Match: *\r\n".into(), Send),
            ("If-Match: \"other\"\r\n".into(), Failed),
            (format!("If-Unmodified-Since: {THEN}\r\n"), Send),
            (format!("If-Unmodified-Since: {BEFORE}\r\n"), Failed),
            (format!("If-Match: \"tag\"\r\nIf-Unmodified-Since: {BEFORE}\r\n"), Send),
            ("If-Match: \"tag\"\r\nIf-None-Match: \"tag\"\r\n".into(), NotModified),
        ] {
            for method in ["GET", "HEAD"] {
                let found = with_fields(method, &fields, |request| judge(request, &validators()));
                assert_eq!(found, expected, "{method} {fields}");
            }
        }
    }

    #[test]
    fn a_range_holds_for_the_very_same_file_only() {
        for (value, expected) in [
            ("\"tag\"", true),
            ("W/\"tag\"", false),
            ("\"other\"", false),
            (BEFORE, false),
            (THEN, false),
            (LATER, false),
            ("nonsense", false),
        ] {
            let fields = format!("If-Range: {value}\r\n");
            let found =
                with_fields("GET", &fields, |request| is_in_range_of(request, &validators()));
            assert_eq!(found, expected, "{value}");
        }
    }
}
