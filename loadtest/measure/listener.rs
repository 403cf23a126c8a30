//! Who listens on a port. Asked by `target.rs`: a port that was free a moment ago may be another's
//! by the time a server is there, and SO_REUSEPORT lets two servers of one user share it, each with
//! a part of the connections.

use std::fs;
use std::io;

/// The state of a socket that listens, as `/proc/net/tcp` has it.
const LISTENING: &str = "0A";

/// Whether each socket that listens on the port is one of these processes'. They have to be the
/// caller's own to be asked.
pub(crate) fn all_are_of(processes: &[u32], port: u16) -> io::Result<bool> {
    let mut owned = Vec::new();
    for pid in processes {
        for file in fs::read_dir(format!("/proc/{pid}/fd"))? {
            // A file may be closed between the listing and the reading.
            if let Ok(name) = fs::read_link(file?.path()) {
                owned.push(name.to_string_lossy().into_owned());
            }
        }
    }
    let table = fs::read_to_string("/proc/net/tcp")?;
    Ok(sockets(&table, port).all(|inode| owned.contains(&format!("socket:[{inode}]"))))
}

/// The inodes of those that listen on the port.
fn sockets(table: &str, port: u16) -> impl Iterator<Item = &str> {
    let port = format!(":{port:04X}");
    table.lines().filter_map(move |line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let [address, state, inode] = [1, 3, 9].map(|place| fields.get(place).copied());
        let listens = state == Some(LISTENING) && address?.ends_with(&port);
        inode.filter(|_| listens)
    })
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, TcpListener, TcpStream};

    use super::*;
    use crate::fixture;

    #[test]
    fn a_listener_is_its_processes_and_nobody_elses() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let other = fixture::server("other");
        let (own, stranger) = (std::process::id(), other.pid());
        assert!(all_are_of(&[own], address.port()).unwrap());
        assert!(all_are_of(&[stranger, own], address.port()).unwrap());
        assert!(!all_are_of(&[stranger], address.port()).unwrap());
        // Who is connected does not listen.
        let client = TcpStream::connect(address).unwrap();
        assert!(all_are_of(&[stranger], client.local_addr().unwrap().port()).unwrap());
    }

    #[test]
    fn a_port_is_four_digits_behind_the_address() {
        const TABLE: &str = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n   \
             0: 0100007F:0050 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 71 1 0 100 0 0 10 0\n   \
             1: 0100007F:0050 0100007F:1F90 01 00000000:00000000 00:00000000 00000000     0        0 72 1 0 100 0 0 10 0\n   \
             2: 00000000:0050 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 73 1 0 100 0 0 10 0\n";
        assert_eq!(sockets(TABLE, 80).collect::<Vec<_>>(), ["71", "73"]);
        assert_eq!(sockets(TABLE, 8080).count(), 0);
    }
}
