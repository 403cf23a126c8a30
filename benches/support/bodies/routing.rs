//! Finding the resource of a request, in a table as a server of some size has it.

use std::hint::black_box;
use std::time::Duration;

use upring::resource::{Registry, Resource};

use super::Body;
use crate::support::counted::repeated;
use crate::support::ready;

/// A name, the host that is asked for, the path, and the pattern it is found with; none if it is
/// not.
const REQUESTS: [(&str, &str, &str, Option<&str>); 8] = [
    ("exact", "other.example", "/articles/archive", Some("")),
    ("exact, encoded", "other.example", "/articles/%61rchive", Some("")),
    ("parameters", "other.example", "/articles/2026/11/comments", Some(PARAMETERS)),
    ("the rest", "other.example", "/mirror/debian/pool/main", Some("/mirror/{*rest}")),
    ("prefix", "other.example", "/static/js/application.js", Some("")),
    ("nothing", "other.example", "/nowhere/at/all", None),
    ("host", "api.example.org:8080", "/users/1234", Some("/users/{id}")),
    ("host among all", "one.tenants.example.org", "/settings", Some("")),
];

const PARAMETERS: &str = "/articles/{year}/{month}/comments";

pub fn bodies() -> Vec<Body> {
    let by_path = REQUESTS.iter().map(|(name, host, path, pattern)| {
        Body::new("routing", *name, move || found(table(), host, path, *pattern))
    });
    let without_hosts = Body::new("routing", "exact, no hosts", || {
        let mut registry = Registry::default();
        everywhere(&mut registry);
        found(registry, "other.example", "/articles/archive", Some(""))
    });
    by_path.chain([without_hosts]).collect()
}

fn found(
    registry: Registry,
    host: &'static str,
    path: &'static str,
    pattern: Option<&'static str>,
) -> impl FnMut(u64) -> Duration {
    let found = registry.find(Some(host.as_bytes()), path.as_bytes());
    assert_eq!(found.map(|found| &*found.pattern), pattern);
    move |rounds| {
        repeated(rounds, || {
            registry.find(black_box(Some(host.as_bytes())), black_box(path.as_bytes())).is_some()
        })
    }
}

fn table() -> Registry {
    let mut registry = Registry::default();
    everywhere(&mut registry);
    registry.insert_on("api.example.org", "/users/{id}", resource());
    registry.insert_on("api.example.org", "/health", resource());
    registry.insert_on("www.example.org", "/", resource());
    registry.insert_on("*.tenants.example.org", "/settings", resource());
    registry
}

fn everywhere(registry: &mut Registry) {
    for number in 0..16 {
        registry.insert(&format!("/articles/of-{number}"), resource());
    }
    for pattern in ["/", "/articles/archive", PARAMETERS, "/articles/{year}/{month}"] {
        registry.insert(pattern, resource());
    }
    for pattern in ["/mirror/{*rest}", "/static/*", "/static/img/*", "/downloads/*"] {
        registry.insert(pattern, resource());
    }
}

fn resource() -> Resource {
    Resource::new().get(ready("Hello, World!"))
}
