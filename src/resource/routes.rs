//! The routes of one host: which resource is at a path. Patterns are kept in normal form, so that a path
//! that is none in any spelling but its own is found as it came.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::fmt;

use super::Resource;
use crate::http::{Method, normal_path};

/// Paths and their resources: exact ones, patterns with parameters, prefixes, tried in this order.
#[derive(Clone, Default)]
pub(super) struct Routes {
    /// Sorted by path, the short ones first.
    exact: Vec<(Box<[u8]>, Match)>,
    /// Indices of `patterned` by pattern.
    patterns: matchit::Router<usize>,
    patterned: Vec<Match>,
    /// Longest prefix first.
    prefixes: Vec<(Box<[u8]>, Match)>,
}

/// What is found for a request.
#[derive(Clone)]
pub struct Match {
    /// The resource.
    pub resource: Resource,
    /// The pattern its parameters follow from; empty without parameters.
    pub pattern: Box<str>,
}

/// A pattern that cannot be served. The developer is at fault, and the server does not start.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the route {pattern:?} {fault}")]
pub struct RouteError {
    /// The pattern.
    pub pattern: String,
    /// What is wrong with it.
    pub fault: RouteFault,
}

/// What is wrong with a pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum RouteFault {
    /// It does not begin with `/`, and is not `*`.
    NoPath,
    /// A brace does not enclose a whole segment, or a catch-all is not the last one.
    Parameter,
    /// A parameter comes twice.
    Repeated(String),
    /// Some paths would fit it and another pattern alike.
    Conflict(String),
    /// Its resource answers a method that no resource is asked with.
    Method(Method),
}

impl fmt::Display for RouteFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RouteFault::NoPath => f.write_str("must begin with a slash"),
            RouteFault::Parameter => f.write_str(
                "must have its parameters as whole segments, {name}, and {*name} only at its end",
            ),
            RouteFault::Repeated(name) => write!(f, "has the parameter {name:?} twice"),
            RouteFault::Conflict(other) => write!(f, "fits the same paths as {other:?}"),
            RouteFault::Method(Method::Connect) => f.write_str(
                "answers CONNECT, which names a host and no path; Server::connect is where it is answered",
            ),
            RouteFault::Method(_) => {
                f.write_str("answers methods that have no name here, and those are answered 501")
            }
        }
    }
}

impl Routes {
    pub(super) fn insert(&mut self, pattern: &str, resource: Resource) -> Result<(), RouteError> {
        let wrong = |fault| RouteError { pattern: pattern.to_owned(), fault };
        if !pattern.starts_with('/') && pattern != "*" {
            return Err(wrong(RouteFault::NoPath));
        }
        if let Some(method) = resource.unreachable_method() {
            return Err(wrong(RouteFault::Method(method)));
        }
        if pattern.contains(['{', '}']) {
            check_parameters(pattern).map_err(wrong)?;
            return self.insert_pattern(&normal_pattern(pattern), resource).map_err(wrong);
        }
        let pattern = &*normal_pattern(pattern);
        let (entries, path) = match pattern.strip_suffix('*').filter(|rest| !rest.is_empty()) {
            Some(prefix) => (&mut self.prefixes, prefix),
            None => (&mut self.exact, pattern),
        };
        entries.retain(|(at, _)| **at != *path.as_bytes());
        entries.push((path.as_bytes().into(), Match { resource, pattern: "".into() }));
        self.exact.sort_by(|a, b| by_length(&a.0, &b.0));
        self.prefixes.sort_by_key(|(prefix, _)| std::cmp::Reverse(prefix.len()));
        Ok(())
    }

    fn insert_pattern(&mut self, pattern: &str, resource: Resource) -> Result<(), RouteFault> {
        if let Some(known) = self.patterned.iter_mut().find(|known| *known.pattern == *pattern) {
            known.resource = resource;
            return Ok(());
        }
        match self.patterns.insert(pattern, self.patterned.len()) {
            Ok(()) => self.patterned.push(Match { resource, pattern: pattern.into() }),
            Err(matchit::InsertError::Conflict { with }) => return Err(RouteFault::Conflict(with)),
            Err(_) => return Err(RouteFault::Parameter),
        }
        Ok(())
    }

    /// What is at a path.
    #[inline]
    pub(super) fn find(&self, path: &[u8]) -> Option<&Match> {
        // A path that a pattern in normal form equals is in normal form.
        self.find_exact(path).or_else(|| self.find_other(path))
    }

    fn find_other(&self, path: &[u8]) -> Option<&Match> {
        match normal_path(path) {
            Cow::Borrowed(path) => self.find_beyond(path),
            Cow::Owned(path) => self.find_exact(&path).or_else(|| self.find_beyond(&path)),
        }
    }

    #[inline]
    fn find_exact(&self, path: &[u8]) -> Option<&Match> {
        let index = self.exact.binary_search_by(|(at, _)| by_length(at, path)).ok()?;
        Some(&self.exact[index].1)
    }

    /// What is at a path in normal form that is not an exact one.
    fn find_beyond(&self, path: &[u8]) -> Option<&Match> {
        if !self.patterned.is_empty()
            // A target is ASCII: one that is not was refused.
            && let Ok(path) = std::str::from_utf8(path)
            && let Ok(found) = self.patterns.at(path)
        {
            return Some(&self.patterned[*found.value]);
        }
        let prefix = self.prefixes.iter().find(|(prefix, _)| path.starts_with(prefix));
        prefix.map(|(_, found)| found)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.exact.is_empty() && self.patterned.is_empty() && self.prefixes.is_empty()
    }

    /// Everything there is, with its pattern.
    pub(super) fn all(&self) -> impl Iterator<Item = (String, &Resource)> {
        let text = |path: &[u8]| String::from_utf8_lossy(path).into_owned();
        let exact = self.exact.iter().map(move |(path, at)| (text(path), &at.resource));
        let patterned = self.patterned.iter().map(|at| (at.pattern.to_string(), &at.resource));
        let prefixes = self.prefixes.iter();
        let prefixes = prefixes.map(move |(path, at)| (text(path) + "*", &at.resource));
        exact.chain(patterned).chain(prefixes)
    }

    /// Every resource there is.
    pub(super) fn all_mut(&mut self) -> impl Iterator<Item = &mut Resource> {
        let exact = self.exact.iter_mut().map(|(_, at)| at);
        let prefixes = self.prefixes.iter_mut().map(|(_, at)| at);
        exact.chain(&mut self.patterned).chain(prefixes).map(|at| &mut at.resource)
    }
}

/// Few paths have the same length: most are told apart without a look at their bytes.
fn by_length(a: &[u8], b: &[u8]) -> Ordering {
    a.len().cmp(&b.len()).then_with(|| a.cmp(b))
}

/// A pattern with its own text in normal form, and the names of its parameters as they are.
fn normal_pattern(pattern: &str) -> String {
    let segment = |segment: &str| match segment.starts_with('{') {
        true => segment.to_owned(),
        false => String::from_utf8_lossy(&normal_path(segment.as_bytes())).into_owned(),
    };
    pattern.split('/').map(segment).collect::<Vec<_>>().join("/")
}

/// Parameters are whole segments with names of their own.
fn check_parameters(pattern: &str) -> Result<(), RouteFault> {
    let mut names = Vec::new();
    let mut segments = pattern.split('/').peekable();
    while let Some(segment) = segments.next() {
        let inner = segment.strip_prefix('{').and_then(|rest| rest.strip_suffix('}'));
        let Some(inner) = inner else {
            if segment.contains(['{', '}', '*']) {
                return Err(RouteFault::Parameter);
            }
            continue;
        };
        let name = inner.strip_prefix('*').unwrap_or(inner);
        let is_catch_all = name.len() < inner.len();
        if name.is_empty()
            || name.contains(['{', '}', '*'])
            || (is_catch_all && segments.peek().is_some())
        {
            return Err(RouteFault::Parameter);
        }
        if names.contains(&name) {
            return Err(RouteFault::Repeated(name.to_owned()));
        }
        names.push(name);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn routes(patterns: &[&str]) -> Routes {
        let mut routes = Routes::default();
        for (index, pattern) in patterns.iter().enumerate() {
            let resource = Resource::new().content_bytes_max(index as u64);
            routes.insert(pattern, resource).expect("the tests name valid ones");
        }
        routes
    }

    /// The index of the pattern whose resource is found.
    fn found(patterns: &[&str], path: &str) -> Option<usize> {
        let routes = routes(patterns);
        let found = routes.find(path.as_bytes())?;
        found.resource.content_max().map(|index| index as usize)
    }

    #[test]
    fn exact_goes_before_parameters_before_prefixes_and_the_longer_prefix_first() {
        let patterns =
            ["/", "/e*", "/exact", "/ex*", "/users/{id}", "/users/{id}/posts/{post}", "/users/me"];
        for (path, expected) in [
            ("/", Some(0)),
            ("/echo", Some(1)),
            ("/exact", Some(2)),
            ("/exa", Some(3)),
            ("/users/7", Some(4)),
            ("/users/7/posts/a", Some(5)),
            ("/users/me", Some(6)),
            ("/users/", None),
            ("/users/7/", None),
            ("/users/7/posts", None),
            ("/users//posts/a", None),
            ("/other", None),
            ("", None),
        ] {
            assert_eq!(found(&patterns, path), expected, "{path}");
        }
        assert_eq!(found(&["/files/{*path}", "/f*"], "/files/a/b"), Some(0));
        assert_eq!(found(&["/files/{*path}", "/f*"], "/files/"), Some(1));
    }

    // RFC 3986 §6.2.2, RFC 9110 §4.2.3.
    #[test]
    fn a_path_is_found_in_each_of_its_spellings_and_in_no_other() {
        let patterns =
            ["/content", "/a%2fb", "/%7Euser", "/users/{id}/posts", "/pri%76ate/*", "/100%", "/*"];
        for (path, expected) in [
            ("/content", 0),
            ("/%63ontent", 0),
            ("/%63%6F%6e%74%65%6E%74", 0),
            ("/Content", 6),
            ("/%43ontent", 6),
            ("/content%2F", 6),
            ("/content/", 6),
            ("/%2563ontent", 6),
            ("//content", 6),
            ("/x/../content", 6),
            ("/x/%2e%2e/content", 6),
            ("/a%2Fb", 1),
            ("/%61%2fb", 1),
            ("/a/b", 6),
            ("/~user", 2),
            ("/%7euser", 2),
            ("/users/a%2Fb/%70osts", 3),
            ("/users/%61/posts", 3),
            ("/users%2Fa/posts", 6),
            ("/private/x", 4),
            ("/%70rivate/%zz", 4),
            ("/private%2Fx", 6),
            ("/100%", 5),
            ("/100%25", 5),
        ] {
            assert_eq!(found(&patterns, path), Some(expected), "{path}");
        }
        let mut routes = routes(&["/a%7eb", "/{x}/%62"]);
        routes.insert("/a~b", Resource::new()).expect("it is the same");
        routes.insert("/{x}/b", Resource::new()).expect("it is the same");
        assert_eq!(routes.all().count(), 2, "the second replaces the first");
    }

    #[test]
    fn a_pattern_that_cannot_be_served_says_why() {
        for (pattern, fault) in [
            ("", RouteFault::NoPath),
            ("users", RouteFault::NoPath),
            ("/a/x{id}", RouteFault::Parameter),
            ("/a/{id", RouteFault::Parameter),
            ("/a/{}", RouteFault::Parameter),
            ("/a/{*}", RouteFault::Parameter),
            ("/a/{*rest}/b", RouteFault::Parameter),
            ("/a/{id}/b*", RouteFault::Parameter),
            ("/{a}/{a}", RouteFault::Repeated("a".into())),
            ("/b/{other}", RouteFault::Conflict("/b/{id}".into())),
        ] {
            let mut routes = routes(&["/b/{id}"]);
            let error = routes.insert(pattern, Resource::new()).expect_err(pattern);
            assert_eq!((error.pattern.as_str(), error.fault), (pattern, fault));
        }
    }

    #[test]
    fn a_resource_that_answers_what_no_path_is_asked_with_keeps_a_server_from_starting() {
        let ready = || crate::http::Response::new(crate::http::Status::OK).to_ready();
        for (method, word) in [(Method::Connect, "Server::connect"), (Method::Other, "501")] {
            for pattern in ["/", "/a/{b}", "/c*", "*"] {
                let resource = Resource::new().get(ready()).on(method, ready());
                let mut routes = Routes::default();
                let error = routes.insert(pattern, resource).expect_err(pattern);
                assert_eq!(error.fault, RouteFault::Method(method));
                let text = error.to_string();
                assert!(text.contains(pattern) && text.contains(word), "{text}");
            }
        }
        for method in Method::NAMED.into_iter().filter(|method| *method != Method::Connect) {
            let mut routes = Routes::default();
            let inserted = routes.insert("/", Resource::new().on(method, ready()));
            assert_eq!(inserted, Ok(()), "{method:?}");
        }
    }

    #[test]
    fn a_second_resource_at_the_same_pattern_replaces_the_first() {
        for pattern in ["/a", "/a*", "/a/{b}"] {
            let mut routes = routes(&[pattern]);
            let second = Resource::new().content_bytes_max(99);
            routes.insert(pattern, second).expect("it is as valid as the first");
            let path = pattern.replace(['{', '}', '*'], "");
            let Match { resource, .. } = routes.find(path.as_bytes()).expect("one is there");
            assert_eq!(resource.content_max(), Some(99), "{pattern}");
            assert_eq!(routes.all().count(), 1);
        }
    }

    /// What a pattern means, segment by segment.
    fn fits(pattern: &str, path: &str) -> bool {
        let (mut left, mut right) = (pattern.split('/'), path.split('/'));
        loop {
            match (left.next(), right.next()) {
                (None, None) => return true,
                (Some(wanted), Some(is)) if wanted.starts_with("{*") => {
                    return !is.is_empty() || right.next().is_some();
                }
                (Some(wanted), Some(is)) if wanted.starts_with('{') && !is.is_empty() => {}
                (Some(wanted), Some(is)) if wanted == is => {}
                _ => return false,
            }
        }
    }

    #[test]
    fn parameters_fit_as_segments_do() {
        let patterns = ["/{a}", "/a/{b}", "/a/b/{c}", "/{a}/x/{b}", "/c/{*rest}", "/{a}/x/y/z"];
        let routes = routes(&patterns);
        let words = ["a", "b", "c", "x", "y", "z", ""];
        for number in 0..7_usize.pow(4) {
            let mut path = String::new();
            let mut rest = number;
            for _ in 0..1 + number % 4 {
                path = path + "/" + words[rest % 7];
                rest /= 7;
            }
            let wanted: Vec<&&str> = patterns.iter().filter(|at| fits(at, &path)).collect();
            match routes.find(path.as_bytes()) {
                Some(Match { pattern, .. }) => {
                    assert!(wanted.contains(&&&**pattern), "{path}: {pattern}");
                }
                None => assert!(wanted.is_empty(), "{path} fits {wanted:?}"),
            }
        }
    }
}
