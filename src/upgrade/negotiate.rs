//! The choice among what is offered and what is registered: a pure function, made before a byte of
//! the answer is written.

use super::{Offer, Protocol};
use crate::http::Method;

/// Whose preference decides among several protocols that fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Order {
    /// The order of registration (U-14).
    #[default]
    Server,
    /// The order of the offer (U-15).
    Client,
}

/// What follows from an offer.
#[derive(Debug, Clone, Copy)]
pub enum Outcome<'a> {
    /// This protocol, in the version offered, gets to decide.
    Chosen {
        /// The registration.
        protocol: &'a Protocol,
        /// The offered version.
        version: Option<&'a [u8]>,
    },
    /// Nothing offered is registered here: an ordinary request (U-10).
    Unknown,
    /// Something offered is registered, but not for this method: an ordinary request (U-19).
    Unfit,
}

/// Chooses one of `offer` that is among `protocols`, a resource's in descending preference, and that can honour a request with this method (RFC
/// 9110 §7.8).
pub fn negotiate<'a>(
    offer: &Offer<'a>,
    protocols: &'a [Protocol],
    order: Order,
    method: Method,
) -> Outcome<'a> {
    let mut is_known = false;
    let mut fits = |protocol: &Protocol, name: &[u8], version: Option<&[u8]>| {
        let matches = protocol.matches(name, version);
        is_known |= matches;
        matches && protocol.takes_method(method)
    };
    let members = offer.members();
    let chosen = match order {
        Order::Server => protocols.iter().find_map(|protocol| {
            let member =
                members.iter().find(|member| fits(protocol, member.name, member.version))?;
            Some((protocol, member))
        }),
        Order::Client => members.iter().find_map(|member| {
            let protocol =
                protocols.iter().find(|protocol| fits(protocol, member.name, member.version))?;
            Some((protocol, member))
        }),
    };
    match chosen {
        Some((protocol, member)) => Outcome::Chosen { protocol, version: member.version },
        None if is_known => Outcome::Unfit,
        None => Outcome::Unknown,
    }
}
