//! Whose the connections of a core are, as far as that is known: by the kernel's word, or by that of a
//! load balancer. Beside the connections, not in them: where nobody asks, it takes no memory.

use std::net::SocketAddr;

const PAGE: usize = 256;

/// Client addresses by slot, of the connections whose is known. They lie in pages that never move: a list
/// that is moved each time it grows leaves its old memory behind.
#[derive(Debug, Default)]
pub struct Addresses {
    pages: Vec<Box<[Option<SocketAddr>; PAGE]>>,
}

impl Addresses {
    /// Whose the connection is that the engine knows by `key`.
    #[inline]
    pub fn of(&self, key: u64) -> Option<SocketAddr> {
        *self.pages.get(slot(key) / PAGE)?.get(slot(key) % PAGE)?
    }

    /// The connection is of this client. What a listener for both families says of IPv4,
    /// `::ffff:192.0.2.1`, is kept as the IPv4 address that it means.
    pub fn note(&mut self, key: u64, address: SocketAddr) {
        while self.pages.len() <= slot(key) / PAGE {
            self.pages.push(Box::new([None; PAGE]));
        }
        if let Some(place) = self.place(key) {
            *place = Some(canonical(&address).unwrap_or(address));
        }
    }

    /// The connection is gone.
    pub fn forget(&mut self, key: u64) {
        if let Some(place) = self.place(key) {
            *place = None;
        }
    }

    fn place(&mut self, key: u64) -> Option<&mut Option<SocketAddr>> {
        self.pages.get_mut(slot(key) / PAGE)?.get_mut(slot(key) % PAGE)
    }
}

/// A key's lower half.
fn slot(key: u64) -> usize {
    (key as u32) as usize
}

/// The same in IPv4, if it is one.
fn canonical(address: &SocketAddr) -> Option<SocketAddr> {
    let ip = address.ip().to_canonical();
    ip.is_ipv4().then(|| SocketAddr::new(ip, address.port()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_known_until_its_connection_is_gone() {
        let mut addresses = Addresses::default();
        let key = |generation: u64, slot: u64| generation << 32 | slot;
        assert_eq!(addresses.of(key(3, 7)), None);
        for (said, kept) in [
            ("192.0.2.1:80", "192.0.2.1:80"),
            ("[::ffff:192.0.2.1]:80", "192.0.2.1:80"),
            ("[fe80::1%2]:80", "[fe80::1%2]:80"),
        ] {
            addresses.note(key(3, 7), said.parse().expect("an address"));
            assert_eq!(addresses.of(key(3, 7)), Some(kept.parse().expect("an address")));
        }
        assert_eq!(addresses.of(key(3, 6)), None);
        addresses.note(key(0, 1000), "[::1]:1".parse().expect("an address"));
        assert_eq!(addresses.of(key(0, 1000)), Some("[::1]:1".parse().expect("an address")));
        addresses.forget(key(3, 7));
        addresses.forget(key(3, 7000));
        assert_eq!(addresses.of(key(3, 7)), None);
    }
}
