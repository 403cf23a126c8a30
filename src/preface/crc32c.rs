//! The checksum of version 2's headers: CRC32c (RFC 9260 appendix A, formerly RFC 4960 appendix B), a
//! byte at a time. A header is some hundred bytes, once a connection.

/// The polynomial 0x1EDC6F41, its bits turned around.
const POLYNOMIAL: u32 = 0x82f6_3b78;

const TABLE: [u32; 256] = table();

const fn table() -> [u32; 256] {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let (mut rest, mut bit) = (byte as u32, 0);
        while bit < 8 {
            rest = if rest & 1 == 0 { rest >> 1 } else { (rest >> 1) ^ POLYNOMIAL };
            bit += 1;
        }
        table[byte] = rest;
        byte += 1;
    }
    table
}

/// A checksum of the bytes added so far.
pub(super) struct Crc32c(u32);

impl Default for Crc32c {
    fn default() -> Crc32c {
        Crc32c(u32::MAX)
    }
}

impl Crc32c {
    pub(super) fn add(&mut self, bytes: &[u8]) {
        for byte in bytes {
            let index = (self.0 as u8) ^ byte;
            self.0 = TABLE[usize::from(index)] ^ (self.0 >> 8);
        }
    }

    pub(super) fn value(&self) -> u32 {
        !self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksums_of_rfc_3720_come_out() {
        // RFC 3720 appendix B.4, whose bytes are those of the number in little-endian order.
        let ascending: Vec<u8> = (0..32).collect();
        for (bytes, expected) in [
            (&[0; 32][..], 0x8a91_36aa),
            (&[0xff; 32], 0x62a8_ab43),
            (&ascending, 0x46dd_794e),
            (b"123456789", 0xe306_9283),
        ] {
            let mut whole = Crc32c::default();
            whole.add(bytes);
            assert_eq!(whole.value(), expected);
            let mut parts = Crc32c::default();
            bytes.iter().for_each(|byte| parts.add(&[*byte]));
            assert_eq!(parts.value(), expected);
        }
    }
}
