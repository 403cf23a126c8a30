//! What a server serves: resources by path, each with its answers over HTTP and the protocols it
//! can be switched to.

use std::fmt;
use std::sync::Arc;

use super::Answer;
use crate::http::{Method, MethodSet};
use crate::upgrade::{Offer, Order, Outcome, Protocol, negotiate};

/// Everything at one path.
#[derive(Clone, Default)]
pub struct Resource {
    answers: Vec<(Method, Arc<dyn Answer>)>,
    allow: MethodSet,
    allow_text: String,
    protocols: Vec<Protocol>,
    protocols_text: String,
    order: Order,
    is_upgrade_required: bool,
    is_advertised: bool,
    content_bytes_max: Option<u64>,
}

impl Resource {
    /// A resource with nothing at it yet.
    pub fn new() -> Resource {
        Resource::default()
    }

    /// Answers GET, and HEAD with the same fields.
    #[must_use]
    pub fn get(self, answer: impl Answer) -> Resource {
        self.on(Method::Get, answer)
    }

    /// Answers POST.
    #[must_use]
    pub fn post(self, answer: impl Answer) -> Resource {
        self.on(Method::Post, answer)
    }

    /// Answers `method`. Answering GET includes HEAD.
    #[must_use]
    pub fn on(mut self, method: Method, answer: impl Answer) -> Resource {
        self.answers.push((method, Arc::new(answer)));
        self.allow = self.allow.with(method);
        if method == Method::Get {
            self.allow = self.allow.with(Method::Head);
        }
        self.allow_text = self.allow.to_string();
        self
    }

    /// Bytes of content it takes, instead of the limit for all (413 over it).
    #[must_use]
    pub fn content_bytes_max(mut self, bytes: u64) -> Resource {
        self.content_bytes_max = Some(bytes);
        self
    }

    /// Adds a protocol behind those added before, in descending preference.
    #[must_use]
    pub fn upgrade(mut self, protocol: Protocol) -> Resource {
        self.protocols.push(protocol);
        self.protocols_text = list(&self.protocols);
        self
    }

    /// Lets the client's order decide instead of ours.
    #[must_use]
    pub fn prefer_client(mut self) -> Resource {
        self.order = Order::Client;
        self
    }

    /// Answers 426 to whoever does not switch (U-44).
    #[must_use]
    pub fn upgrade_required(mut self) -> Resource {
        self.is_upgrade_required = true;
        self
    }

    /// Names the protocols in ordinary answers, too (U-46). Off by default: some clients break on
    /// it.
    #[must_use]
    pub fn advertise(mut self) -> Resource {
        self.is_advertised = true;
        self
    }

    pub(crate) fn answer(&self, method: Method) -> Option<&dyn Answer> {
        let wanted = if method == Method::Head { Method::Get } else { method };
        let exact = self.answers.iter().find(|(at, _)| *at == method);
        exact
            .or_else(|| self.answers.iter().find(|(at, _)| *at == wanted))
            .map(|(_, answer)| &**answer)
    }

    /// What at this resource cannot run without the hosted mode.
    fn needs_runtime(&self, path: &[u8]) -> Option<String> {
        let protocol = self.protocols.iter().find(|protocol| protocol.needs_spawn());
        let protocol = protocol.map(|protocol| format!("the protocol {protocol}"));
        protocol.or_else(|| {
            let answer = self.answers.iter().find(|(_, answer)| answer.needs_runtime());
            answer.map(|(method, _)| format!("{method:?} of {}", String::from_utf8_lossy(path)))
        })
    }

    /// Bytes of content it takes, if it has a bound of its own.
    pub(crate) fn content_max(&self) -> Option<u64> {
        self.content_bytes_max
    }

    /// The methods answered, as Allow lists them.
    pub(crate) fn allow(&self) -> &str {
        &self.allow_text
    }

    /// What follows from an offer made to this resource.
    pub fn negotiate<'a>(&'a self, offer: &Offer<'a>, method: Method) -> Outcome<'a> {
        negotiate(offer, &self.protocols, self.order, method)
    }

    pub(crate) fn protocols(&self) -> &[Protocol] {
        &self.protocols
    }

    pub(crate) fn is_upgrade_required(&self) -> bool {
        self.is_upgrade_required
    }

    /// The protocols in descending preference, as an Upgrade field lists them.
    pub(crate) fn protocols_text(&self) -> &str {
        &self.protocols_text
    }

    /// What an ordinary answer says of upgrades.
    pub(crate) fn advertised(&self) -> Option<&str> {
        (self.is_advertised && !self.protocols.is_empty()).then_some(&*self.protocols_text)
    }
}

fn list(protocols: &[Protocol]) -> String {
    protocols.iter().map(Protocol::to_string).collect::<Vec<_>>().join(", ")
}

impl fmt::Debug for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Resource")
            .field("allow", &self.allow_text)
            .field("protocols", &self.protocols)
            .finish()
    }
}

/// All resources, made at start and shared by every core.
#[derive(Debug, Clone, Default)]
pub struct Registry {
    /// Sorted by path.
    exact: Vec<(Box<[u8]>, Resource)>,
    /// Longest prefix first.
    prefixes: Vec<(Box<[u8]>, Resource)>,
}

impl Registry {
    /// Puts a resource at `pattern`: a path, or with a `*` at its end every path that begins so. An
    /// exact path goes before a prefix, a longer prefix before a shorter one; a second resource at
    /// the same pattern replaces the first.
    pub fn insert(&mut self, pattern: &str, resource: Resource) {
        let (entries, path) = match pattern.strip_suffix('*') {
            Some(prefix) => (&mut self.prefixes, prefix),
            None => (&mut self.exact, pattern),
        };
        entries.retain(|(at, _)| **at != *path.as_bytes());
        entries.push((path.as_bytes().into(), resource));
        self.exact.sort_by(|a, b| a.0.cmp(&b.0));
        self.prefixes.sort_by_key(|(prefix, _)| std::cmp::Reverse(prefix.len()));
    }

    /// The resource at a path.
    pub fn find(&self, path: &[u8]) -> Option<&Resource> {
        match self.exact.binary_search_by(|(at, _)| (**at).cmp(path)) {
            Ok(index) => Some(&self.exact[index].1),
            Err(_) => self
                .prefixes
                .iter()
                .find(|(prefix, _)| path.starts_with(prefix))
                .map(|(_, resource)| resource),
        }
    }

    /// What cannot run without the hosted mode, if anything is registered that cannot.
    pub(crate) fn needs_runtime(&self) -> Option<String> {
        let mut all = self.exact.iter().chain(&self.prefixes);
        all.find_map(|(path, resource)| resource.needs_runtime(path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upgrade::Decision;

    fn protocol(name: &str) -> Protocol {
        Protocol::new(name, |_: &crate::upgrade::Opening<'_>| -> Decision {
            unreachable!("nothing is opened here")
        })
    }

    #[test]
    fn an_exact_path_goes_before_a_prefix_and_a_longer_prefix_before_a_shorter() {
        let mut registry = Registry::default();
        for pattern in ["/e*", "/exact", "/ex*", "/"] {
            registry.insert(
                pattern,
                Resource::new().upgrade(protocol(&pattern.replace(['/', '*'], "p"))),
            );
        }
        let found = |path: &str| registry.find(path.as_bytes()).map(Resource::protocols_text);
        assert_eq!(found("/exact"), Some("pexact"));
        assert_eq!(found("/exa"), Some("pexp"));
        assert_eq!(found("/echo"), Some("pep"));
        assert_eq!(found("/"), Some("p"));
        assert_eq!(found("/other"), None);
    }

    #[test]
    fn protocols_are_listed_in_descending_preference() {
        let resource = Resource::new()
            .upgrade(protocol("echo2").version("2.1"))
            .upgrade(protocol("rta").any_version());
        assert_eq!(resource.protocols_text(), "echo2/2.1, rta");
        assert_eq!(resource.advertised(), None);
        assert_eq!(resource.advertise().advertised(), Some("echo2/2.1, rta"));
    }
}
