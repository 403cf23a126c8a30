//! What a server serves: resources by path, each with its answers over HTTP and the protocols it
//! can be switched to.

use std::fmt;
use std::sync::Arc;

use super::Answer;
use super::routes::{Match, RouteError, Routes};
use crate::counters::Upgrades;
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
    is_tls_required: bool,
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

    /// Answers `method`. Answering GET includes HEAD, and OPTIONS is answered with what is allowed
    /// wherever it is not registered. A CONNECT names no path and a method without a name here is
    /// answered 501: a resource that would answer one of them keeps the server from starting.
    #[must_use]
    pub fn on(mut self, method: Method, answer: impl Answer) -> Resource {
        self.answers.push((method, Arc::new(answer)));
        self.allow = self.allow.with(method).with(Method::Options);
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

    /// Is to be had inside TLS only. In the clear the answer is 421 (RFC 9110 §15.5.20), before its protocols
    /// are asked; or, from a listener that TLS can be switched to, 426 with that (RFC 2817 §4.2, U-90).
    #[must_use]
    pub fn tls_required(mut self) -> Resource {
        self.is_tls_required = true;
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

    /// A method it answers that no resource is ever asked with.
    pub(super) fn unreachable_method(&self) -> Option<Method> {
        let mut methods = self.answers.iter().map(|(method, _)| *method);
        methods.find(|method| matches!(method, Method::Connect | Method::Other))
    }

    /// What at this resource cannot run without the hosted mode.
    pub(crate) fn needs_runtime(&self, pattern: &str) -> Option<String> {
        let protocol = self.protocols.iter().find(|protocol| protocol.needs_spawn());
        let protocol = protocol.map(|protocol| format!("the protocol {protocol}"));
        protocol.or_else(|| {
            let answer = self.answers.iter().find(|(_, answer)| answer.needs_runtime());
            answer.map(|(method, _)| format!("{method:?} of {pattern}"))
        })
    }

    /// Whether something at this resource wants to know who its clients are.
    fn names_clients(&self) -> bool {
        let is_answer = self.answers.iter().any(|(_, answer)| answer.names_clients());
        is_answer || self.protocols.iter().any(Protocol::names_clients)
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

    pub(crate) fn is_tls_required(&self) -> bool {
        self.is_tls_required
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

/// All resources by host and path, made at start; every core has its own copy.
#[derive(Clone, Default)]
pub struct Registry {
    /// Those of one host, or of all hosts below a name.
    hosts: Vec<(Host, Routes)>,
    /// Those of every host.
    everywhere: Routes,
    /// What a CONNECT is asked of: it has one protocol, and no path.
    tunnel: Option<Resource>,
    /// Something in it wants to know who its clients are.
    names_clients: bool,
    fault: Option<RouteError>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Host {
    /// In lower case, without port and final dot.
    name: Box<str>,
    /// Names below it are meant, and not itself.
    is_wildcard: bool,
}

impl Registry {
    /// Puts a resource at `pattern`, for every host: a path, a path with parameters (`{name}` is a
    /// segment, `{*name}` at the end all that is left), or with a `*` at its end every path that
    /// begins so.
    ///
    /// An exact path goes before parameters, parameters before a prefix, a longer prefix before a
    /// shorter one; a second resource at the same pattern replaces the first.
    ///
    /// Paths and patterns are compared in their normal form (RFC 9110 §4.2.3, RFC 3986 §6.2.2):
    /// `/%63ontent` is `/content`, and `%2f` is `%2F`, but not `/`. `//` and `/../` are segments like
    /// others, and a reserved character such as `!` is another one when it is encoded.
    pub fn insert(&mut self, pattern: &str, resource: Resource) {
        self.names_clients |= resource.names_clients();
        let inserted = self.everywhere.insert(pattern, resource);
        self.note(inserted);
    }

    /// The same for one host: a name, or `*.` and a name for all below it. Port and case do not
    /// matter. A host's own routes go before those of every host.
    pub fn insert_on(&mut self, host: &str, pattern: &str, resource: Resource) {
        let (name, is_wildcard) = match host.strip_prefix("*.") {
            Some(name) => (name, true),
            None => (host, false),
        };
        let name = String::from_utf8_lossy(plain_host(name.as_bytes())).to_ascii_lowercase();
        let host = Host { name: name.into(), is_wildcard };
        let at = self.hosts.iter().position(|(known, _)| *known == host);
        let at = at.unwrap_or_else(|| {
            self.hosts.push((host, Routes::default()));
            self.hosts.len() - 1
        });
        self.names_clients |= resource.names_clients();
        let inserted = self.hosts[at].1.insert(pattern, resource);
        self.note(inserted);
        // A host of its own goes before a wildcard, a longer name before a shorter one.
        self.hosts.sort_by_key(|(host, _)| (host.is_wildcard, std::cmp::Reverse(host.name.len())));
    }

    /// Has `protocol` decide on each CONNECT: see [`Server::connect`](crate::Server::connect). A second
    /// one replaces the first.
    pub fn connect(&mut self, protocol: Protocol) {
        self.names_clients |= protocol.names_clients();
        self.tunnel = Some(Resource::new().upgrade(protocol));
    }

    /// What is at a path of a host. Allocates nothing for a path in its normal form.
    #[inline]
    pub fn find(&self, host: Option<&[u8]>, path: &[u8]) -> Option<&Match> {
        let found = match (self.hosts.is_empty(), host) {
            (false, Some(host)) => self.find_on(plain_host(host), path),
            _ => None,
        };
        found.or_else(|| self.everywhere.find(path))
    }

    #[cold]
    fn find_on(&self, host: &[u8], path: &[u8]) -> Option<&Match> {
        let mut own = self.hosts.iter().filter(|(at, _)| at.fits(host));
        own.find_map(|(_, routes)| routes.find(path))
    }

    /// What CONNECT is asked of, if anything.
    pub(crate) fn tunnel(&self) -> Option<&Resource> {
        self.tunnel.as_ref()
    }

    /// Whether clients are to be identified for the sake of something in it.
    pub(crate) fn names_clients(&self) -> bool {
        self.names_clients
    }

    /// Whether a request that names no host may be meant for this server: not if all it has is bound
    /// to hosts.
    pub(crate) fn has_default_host(&self) -> bool {
        self.hosts.is_empty() || !self.everywhere.is_empty()
    }

    /// The first pattern that could not be put in its place.
    pub(crate) fn fault(&self) -> Option<&RouteError> {
        self.fault.as_ref()
    }

    /// The same, forgotten here: for whoever tells it beside others.
    pub(crate) fn take_fault(&mut self) -> Option<RouteError> {
        self.fault.take()
    }

    /// Has each protocol counted in the place of its name.
    pub(crate) fn place_tokens(&mut self, upgrades: &Upgrades) {
        let hosts = self.hosts.iter_mut().map(|(_, routes)| routes);
        let all = hosts.chain([&mut self.everywhere]).flat_map(Routes::all_mut);
        for resource in all.chain(&mut self.tunnel) {
            for protocol in &mut resource.protocols {
                protocol.place(upgrades.slot(protocol.name()));
            }
        }
    }

    /// What cannot run without the hosted mode, if anything is registered that cannot.
    pub(crate) fn needs_runtime(&self) -> Option<String> {
        let hosts = self.hosts.iter().map(|(_, routes)| routes);
        let all = hosts.chain([&self.everywhere]).flat_map(Routes::all);
        let tunnel = self.tunnel.iter().map(|resource| ("CONNECT".to_owned(), resource));
        all.chain(tunnel).find_map(|(pattern, resource)| resource.needs_runtime(&pattern))
    }

    fn note(&mut self, inserted: Result<(), RouteError>) {
        if let Err(error) = inserted {
            self.fault.get_or_insert(error);
        }
    }
}

impl Host {
    fn fits(&self, host: &[u8]) -> bool {
        let name = self.name.as_bytes();
        let Some(at) = host.len().checked_sub(name.len()) else { return false };
        let (before, own) = host.split_at(at);
        let is_below = matches!(before, [_, .., b'.']);
        own.eq_ignore_ascii_case(name) && if self.is_wildcard { is_below } else { at == 0 }
    }
}

/// A host without its port and the dot that may end it.
fn plain_host(host: &[u8]) -> &[u8] {
    let name = without_port(host);
    name.strip_suffix(b".").unwrap_or(name)
}

/// A host without its port.
pub(super) fn without_port(host: &[u8]) -> &[u8] {
    let is_digits = |bytes: &[u8]| bytes.iter().all(u8::is_ascii_digit);
    match memchr::memrchr(b':', host) {
        // The colons of an IPv6 address stand within brackets.
        Some(at) if is_digits(&host[at + 1..]) => &host[..at],
        _ => host,
    }
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registry").field("hosts", &self.hosts.len()).finish_non_exhaustive()
    }
}

impl fmt::Debug for Match {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Match").field("pattern", &self.pattern).finish_non_exhaustive()
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
    fn a_host_goes_before_a_wildcard_before_every_host() {
        let mut registry = Registry::default();
        for (host, name) in [
            ("*.example.org", "any"),
            ("*.deep.example.org", "deep"),
            ("Shop.Example.org:80", "shop"),
            ("[::1]:8080", "six"),
        ] {
            registry.insert_on(host, "/", Resource::new().upgrade(protocol(name)));
        }
        registry.insert("/", Resource::new().upgrade(protocol("all")));
        registry.insert("/healthz", Resource::new().upgrade(protocol("health")));
        for (host, path, expected) in [
            (Some("shop.example.org"), "/", Some("shop")),
            (Some("SHOP.example.ORG.:8080"), "/", Some("shop")),
            (Some("a.example.org"), "/", Some("any")),
            (Some("a.b.example.org"), "/", Some("any")),
            (Some("a.deep.example.org"), "/", Some("deep")),
            (Some("example.org"), "/", Some("all")),
            (Some(".example.org"), "/", Some("all")),
            (Some("myexample.org"), "/", Some("all")),
            (Some("[::1]"), "/", Some("six")),
            (Some("[::1]:1"), "/", Some("six")),
            (Some(""), "/", Some("all")),
            (None, "/", Some("all")),
            (Some("shop.example.org"), "/healthz", Some("health")),
            (Some("shop.example.org"), "/none", None),
        ] {
            let found = registry.find(host.map(str::as_bytes), path.as_bytes());
            let name = found.map(|found| found.resource.protocols_text());
            assert_eq!(name, expected, "{host:?} {path}");
        }
    }

    #[test]
    fn a_protocol_is_counted_in_the_place_of_its_name_wherever_it_is() {
        let mut registry = Registry::default();
        let resource = || Resource::new().upgrade(protocol("chat")).upgrade(protocol("echo"));
        for pattern in ["/exact", "/of/{a}/pattern", "/prefix*"] {
            registry.insert(pattern, resource());
            registry.insert_on("*.example.org", pattern, resource());
        }
        registry.connect(protocol("Echo"));
        let upgrades = Upgrades::default();
        registry.place_tokens(&upgrades);
        let expected = [upgrades.slot("chat"), upgrades.slot("echo")];
        assert_eq!(upgrades.each().count(), 3, "two of them and the others");
        for host in ["a.example.org", "b"] {
            for path in ["/exact", "/of/1/pattern", "/prefix/1"] {
                let found = registry.find(Some(host.as_bytes()), path.as_bytes()).expect(path);
                let slots: Vec<_> = found.resource.protocols().iter().map(Protocol::slot).collect();
                assert_eq!(slots, expected, "{host}{path}");
            }
        }
        let tunnel = registry.tunnel().expect("it decides").protocols();
        assert_eq!(tunnel[0].slot(), expected[1], "names are told apart without regard to case");
    }

    #[test]
    fn what_decides_on_connect_is_at_no_path_and_may_need_a_runtime() {
        let mut registry = Registry::default();
        registry.connect(protocol("first"));
        assert_eq!(registry.needs_runtime(), None);
        registry.connect(protocol("tunnel").needs_runtime());
        assert_eq!(registry.needs_runtime().as_deref(), Some("the protocol tunnel"));
        let tunnel = registry.tunnel().map(Resource::protocols_text);
        assert_eq!(tunnel, Some("tunnel"), "a second one replaces the first");
        assert!(registry.find(None, b"").is_none() && registry.find(None, b"/").is_none());
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
