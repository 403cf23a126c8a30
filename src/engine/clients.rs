//! How many connections each client has on this core.
//!
//! The engine asks the kernel who the peer of a new connection is if, and only if, there is a limit
//! to them; nothing here is touched otherwise. A client is an IPv4 address or an IPv6 network of 64
//! bits, the least that one customer is given.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};

/// Who has connections, and how many.
#[derive(Debug, Default)]
pub(super) struct Clients {
    /// Hashed with a key of this process: peers choose their addresses.
    counts: HashMap<Client, u32>,
    by_slot: Vec<Option<Client>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Client {
    Address(Ipv4Addr),
    Network([u16; 4]),
}

impl Client {
    fn of(address: IpAddr) -> Client {
        // A listener for both families says ::ffff:192.0.2.1 of an IPv4 peer.
        match address.to_canonical() {
            IpAddr::V4(address) => Client::Address(address),
            IpAddr::V6(address) => {
                let [a, b, c, d, ..] = address.segments();
                Client::Network([a, b, c, d])
            }
        }
    }
}

impl Clients {
    /// Counts the connection in `slot`, unless its client has `max` already.
    pub(super) fn admit(&mut self, slot: u32, address: IpAddr, max: u32) -> bool {
        let client = Client::of(address);
        let count = self.counts.entry(client).or_insert(0);
        if *count >= max {
            return false;
        }
        *count += 1;
        let slot = slot as usize;
        if slot >= self.by_slot.len() {
            self.by_slot.resize(slot + 1, None);
        }
        debug_assert!(self.by_slot[slot].is_none(), "a slot has one tenant");
        self.by_slot[slot] = Some(client);
        true
    }

    /// The connection in `slot` is gone, whether it was counted or not.
    pub(super) fn leave(&mut self, slot: u32) {
        let Some(client) = self.by_slot.get_mut(slot as usize).and_then(Option::take) else {
            return;
        };
        if let Some(count) = self.counts.get_mut(&client) {
            *count -= 1;
            if *count == 0 {
                self.counts.remove(&client);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn clients_are_addresses_of_ipv4_and_networks_of_ipv6() {
        for (first, second, is_same) in [
            ("192.0.2.1", "192.0.2.1", true),
            ("192.0.2.1", "192.0.2.2", false),
            ("192.0.2.1", "::ffff:192.0.2.1", true),
            ("2001:db8:0:1::1", "2001:db8:0:1:ffff::2", true),
            ("2001:db8:0:1::1", "2001:db8:0:2::1", false),
        ] {
            let mut clients = Clients::default();
            assert!(clients.admit(0, address(first), 1));
            assert_eq!(clients.admit(1, address(second), 1), !is_same, "{first} {second}");
        }
    }

    #[test]
    fn who_leaves_makes_room_and_nothing_is_kept_of_who_has_left() {
        let mut clients = Clients::default();
        for slot in 0..3 {
            assert!(clients.admit(slot, address("192.0.2.1"), 3));
        }
        assert!(!clients.admit(3, address("192.0.2.1"), 3));
        clients.leave(3);
        assert!(!clients.admit(3, address("192.0.2.1"), 3), "one that was not counted has left");
        (0..3).for_each(|slot| clients.leave(slot));
        assert!(clients.counts.is_empty());
        assert!(clients.admit(0, address("192.0.2.1"), 3));
    }
}
