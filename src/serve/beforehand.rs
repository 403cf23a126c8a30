//! What would keep a server from starting, as far as that can be seen without starting it: `check` tells
//! it, and `serve` before it takes anybody's place. Rights are not looked at: they depend on who starts
//! it.

use std::path::Path;

use upring::access::AccessLogError;
use upring::admin::Admin;
use upring::config::{AccessTarget, ListenAddress};
use upring::ring::SharedListener;
use upring::server::Offer;
use upring::site::{Site, resolved};

use super::server;
use crate::Options;

/// All that is wrong, in the words of a start.
pub(crate) fn faults(site: &Site, options: &Options) -> Vec<String> {
    let config = site.config();
    let admin = options.admin.as_ref().or(site.admin());
    let hand_over = options.hand_over.as_deref().or(site.hand_over());
    let listeners = config.listen.iter().map(|listener| &listener.address);
    let checked = listeners
        .clone()
        .filter_map(path_of)
        .filter_map(|path| SharedListener::check(path).err().map(|error| error.to_string()));
    let log = AccessLogError::beforehand(&config.access.to).map(|error| error.to_string());
    let file = match &config.access.to {
        AccessTarget::File(path) => Some(path.as_path()),
        _ => None,
    };
    // Of clients, and those of the admin listener.
    let sockets: Vec<&Path> = listeners.filter_map(path_of).collect();
    let all: Vec<&Path> = sockets.iter().copied().chain(admin.and_then(path_of)).collect();
    let is_shared = |at: &&ListenAddress| {
        site.listens_at(at) || path_of(at).is_some_and(|path| is_among(path, &sockets))
    };
    let parts = [
        server(site, options).err(),
        admin.and_then(|admin| Admin::check(admin).err()).map(|error| error.to_string()),
        admin.filter(is_shared).map(shared),
        twice(&sockets).map(listened_on_twice),
        hand_over.and_then(|path| Offer::check(path).err()).map(|error| error.to_string()),
        hand_over.filter(|path| is_among(path, &all)).map(taken),
        log,
        file.filter(|path| is_among(path, &[all, Vec::from_iter(hand_over)].concat())).map(logged),
    ];
    parts.into_iter().flatten().chain(checked).collect()
}

fn path_of(address: &ListenAddress) -> Option<&Path> {
    match address {
        ListenAddress::Unix(path) => Some(path),
        ListenAddress::Tcp(_) => None,
    }
}

/// One that is the same file as one before it, by another spelling: one by the same is a fault of the
/// configuration.
fn twice<'p>(paths: &[&'p Path]) -> Option<&'p Path> {
    let is_again = |(index, path): &(usize, &&Path)| is_among(path, &paths[..*index]);
    paths.iter().enumerate().find(is_again).map(|(_, path)| *path)
}

fn is_among(path: &Path, others: &[&Path]) -> bool {
    let sought = resolved(path);
    others.iter().any(|other| *other == path || resolved(other) == sought)
}

fn shared(admin: &ListenAddress) -> String {
    format!("the admin listener: {admin} is one of the addresses that the server listens on")
}

fn listened_on_twice(path: &Path) -> String {
    format!("two listeners: {} is one path by two names; leave one of them out", path.display())
}

fn taken(hand_over: &Path) -> String {
    let at = ListenAddress::from(hand_over);
    format!("`hand_over`: {at} is listened on for clients already; name a path of its own")
}

fn logged(file: &Path) -> String {
    format!("the access log: {} is a socket of this server; name a file of its own", file.display())
}
