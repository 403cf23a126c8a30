//! What would keep a server from starting, as far as that can be seen without starting it: `check` tells
//! it, and `serve` before it takes anybody's place. Rights are not looked at: they depend on who starts
//! it.

use upring::access::AccessLogError;
use upring::admin::Admin;
use upring::config::ListenAddress;
use upring::server::Offer;
use upring::site::Site;

use super::server;
use crate::Options;

/// All that is wrong, in the words of a start.
pub(crate) fn faults(site: &Site, options: &Options) -> Vec<String> {
    let config = site.config();
    let admin = options.admin.as_ref().or(site.admin());
    let hand_over = options.hand_over.as_deref().or(site.hand_over());
    let listeners = config.listen.iter().filter_map(|listener| match &listener.address {
        ListenAddress::Unix(path) => Offer::check(path).err().map(|error| error.to_string()),
        ListenAddress::Tcp(_) => None,
    });
    let log = AccessLogError::beforehand(&config.access.to).map(|error| error.to_string());
    let is_taken = |at: &ListenAddress| admin == Some(at) || site.listens_at(at);
    let parts = [
        server(site, options).err(),
        admin.and_then(|admin| Admin::check(admin).err()).map(|error| error.to_string()),
        admin.filter(|admin| site.listens_at(admin)).map(shared),
        hand_over.and_then(|path| Offer::check(path).err()).map(|error| error.to_string()),
        hand_over.map(ListenAddress::from).filter(|at| is_taken(at)).map(taken),
        log,
    ];
    parts.into_iter().flatten().chain(listeners).collect()
}

fn shared(admin: &ListenAddress) -> String {
    format!("the admin listener: {admin} is one of the addresses that the server listens on")
}

fn taken(hand_over: ListenAddress) -> String {
    format!("`hand_over`: {hand_over} is listened on for clients already; name a path of its own")
}
