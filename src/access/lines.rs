//! The lines of a turn, and the ways to write into them. Memory that is there already is written to, in
//! pieces whose length the compiler knows: a line is some ten of them.

use std::mem;
use std::net::Ipv6Addr;

use super::escape::copy_if_clean;

/// Bytes for the lines of a turn at the beginning: more than a hundred lines.
const FIRST: usize = 16 * 1024;

/// A turn whose lines took more does not keep the memory.
const KEPT_MAX: usize = 1 << 20;

/// Room for an address: one of IPv6 has 45 bytes at most.
const IP_BYTES_MAX: usize = 48;

/// `000.` to `255.` without their zeros, and how many bytes of each are digits.
static OCTETS: [([u8; 4], u8); 256] = octets();

/// `00` to `99`.
static PAIRS: [[u8; 2]; 100] = pairs();

/// Bytes of whole lines.
#[derive(Debug)]
pub(super) struct Lines {
    /// What lies behind `end` is of no meaning.
    bytes: Vec<u8>,
    end: usize,
}

impl Default for Lines {
    fn default() -> Lines {
        Lines { bytes: vec![0; FIRST], end: 0 }
    }
}

impl Lines {
    pub(super) fn len(&self) -> usize {
        self.end
    }

    pub(super) fn is_empty(&self) -> bool {
        self.end == 0
    }

    pub(super) fn written(&self) -> &[u8] {
        self.bytes.get(..self.end).unwrap_or_default()
    }

    /// The bytes from `at` on, for who left some out.
    pub(super) fn written_from(&mut self, at: usize) -> &mut [u8] {
        self.bytes.get_mut(at..self.end).unwrap_or_default()
    }

    /// The lines are somewhere else.
    pub(super) fn clear(&mut self) {
        self.end = 0;
        if self.bytes.len() > KEPT_MAX {
            self.bytes.truncate(KEPT_MAX);
            self.bytes.shrink_to_fit();
        }
    }

    /// A pen behind the last line, with room for so many bytes and perhaps more.
    #[inline(always)]
    pub(super) fn pen(&mut self, count: usize) -> Pen<'_> {
        if self.bytes.len() - self.end < count {
            self.grow(count);
        }
        Pen::new(self.bytes.get_mut(self.end..).unwrap_or_default())
    }

    #[cold]
    #[inline(never)]
    fn grow(&mut self, count: usize) {
        let len = (2 * self.bytes.len()).max(self.end + count);
        self.bytes.resize(len, 0);
    }

    /// Keeps what was written by a pen that has so many bytes of room left.
    #[inline(always)]
    pub(super) fn keep(&mut self, room_left: usize) {
        self.end = self.bytes.len() - room_left;
    }
}

/// Writes a line, of whose length it is known that there is room for it.
pub(super) struct Pen<'a> {
    room: &'a mut [u8],
    /// A text was written that has a byte that must not be in a line.
    needs_escape: bool,
}

impl<'a> Pen<'a> {
    #[inline(always)]
    pub(super) fn new(room: &'a mut [u8]) -> Pen<'a> {
        Pen { room, needs_escape: false }
    }

    pub(super) fn room_left(&self) -> usize {
        self.room.len()
    }

    pub(super) fn needs_escape(&self) -> bool {
        self.needs_escape
    }

    /// Writes what is known to be a part of a line.
    #[inline(always)]
    pub(super) fn put<const COUNT: usize>(&mut self, text: &[u8; COUNT]) {
        let room = mem::take(&mut self.room).split_first_chunk_mut::<COUNT>();
        debug_assert!(room.is_some(), "there is room for the line");
        if let Some((place, rest)) = room {
            *place = *text;
            self.room = rest;
        }
    }

    /// Writes the first bytes of a few; the others are overwritten by what follows.
    #[inline(always)]
    pub(super) fn put_front<const COUNT: usize>(&mut self, text: &[u8; COUNT], count: usize) {
        let room = mem::take(&mut self.room);
        if let Some(place) = room.first_chunk_mut::<COUNT>() {
            *place = *text;
        }
        self.room = room.get_mut(count..).unwrap_or_default();
    }

    /// Writes any text as it is, and notes whether it needs an escape.
    #[inline(always)]
    pub(super) fn text(&mut self, text: &[u8]) {
        let room = mem::take(&mut self.room).split_at_mut_checked(text.len());
        debug_assert!(room.is_some(), "there is room for the line");
        if let Some((place, rest)) = room {
            self.needs_escape |= !copy_if_clean(place, text);
            self.room = rest;
        }
    }

    /// A number in decimal.
    #[inline(always)]
    pub(super) fn number(&mut self, number: u64) {
        if number >= 10_000 {
            let (digits, start) = digits(number);
            return self.text(digits.get(start..).unwrap_or_default());
        }
        let number = number as u16;
        let (high, low) = (pair(number / 100), pair(number % 100));
        let digits = u32::from_le_bytes([high[0], high[1], low[0], low[1]]);
        let zeros = usize::from(number < 1000) + usize::from(number < 100);
        let zeros = zeros + usize::from(number < 10);
        self.put_front(&(digits >> (8 * zeros)).to_le_bytes(), 4 - zeros);
    }

    /// An IPv4 address.
    #[inline(always)]
    pub(super) fn ip_v4(&mut self, octets: [u8; 4]) {
        let [a, b, c, d] = octets;
        for octet in [a, b, c] {
            let (text, digits) = &OCTETS[usize::from(octet)];
            self.put_front(text, usize::from(*digits) + 1);
        }
        let (text, digits) = &OCTETS[usize::from(d)];
        self.put_front(text, usize::from(*digits));
    }

    /// An IPv6 address, as RFC 5952 has it.
    #[inline(always)]
    pub(super) fn ip_v6(&mut self, ip: Ipv6Addr) {
        let (text, len) = ip_v6_text(ip);
        self.text(text.get(..len).unwrap_or_default());
    }

    fn groups(&mut self, groups: [u16; 8]) {
        let (gap, count) = longest_gap(&groups);
        for (at, group) in groups.into_iter().enumerate() {
            if at == gap && count > 0 {
                self.put(b"::");
            }
            if at >= gap && at < gap + count {
                continue;
            }
            if at > 0 && at != gap + count {
                self.put(b":");
            }
            self.group(group);
        }
    }

    fn group(&mut self, group: u16) {
        let digit = |shift: u16| b"0123456789abcdef"[usize::from(group >> shift & 15)];
        let digits = u32::from_le_bytes([digit(12), digit(8), digit(4), digit(0)]);
        let zeros = usize::from(group < 0x1000) + usize::from(group < 0x100);
        let zeros = zeros + usize::from(group < 0x10);
        self.put_front(&(digits >> (8 * zeros)).to_le_bytes(), 4 - zeros);
    }
}

/// An IPv6 address at the beginning of so many bytes, and how many it has: in a function of its own, so
/// that the pen it is written by for IPv4 need not lie in memory.
#[inline(never)]
fn ip_v6_text(ip: Ipv6Addr) -> ([u8; IP_BYTES_MAX], usize) {
    let mut text = [0; IP_BYTES_MAX];
    let mut pen = Pen::new(&mut text);
    if ip.to_ipv4_mapped().is_some() {
        // Section 5 of it: not in groups alone. No client is kept so.
        pen.text(ip.to_string().as_bytes());
    } else {
        pen.groups(ip.segments());
    }
    let len = IP_BYTES_MAX - pen.room_left();
    (text, len)
}

/// The first of the longest runs of more than one zero, and its length; none is one of no length.
fn longest_gap(groups: &[u16; 8]) -> (usize, usize) {
    let (mut longest, mut count) = ((0, 0), 0);
    for (at, group) in groups.iter().enumerate() {
        count = if *group == 0 { count + 1 } else { 0 };
        if count > longest.1.max(1) {
            longest = (at + 1 - count, count);
        }
    }
    longest
}

fn pair(number: u16) -> [u8; 2] {
    PAIRS.get(usize::from(number)).copied().unwrap_or_default()
}

/// A number in decimal at the end of so many bytes, and where it starts.
#[inline(never)]
pub(super) fn digits(mut number: u64) -> ([u8; 20], usize) {
    let (mut digits, mut start) = ([b' '; 20], 20);
    for place in digits.iter_mut().rev() {
        *place = b'0' + (number % 10) as u8;
        start -= 1;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    (digits, start)
}

const fn pairs() -> [[u8; 2]; 100] {
    let (mut pairs, mut number) = ([[0; 2]; 100], 0);
    while number < 100 {
        pairs[number] = [b'0' + (number / 10) as u8, b'0' + (number % 10) as u8];
        number += 1;
    }
    pairs
}

const fn octets() -> [([u8; 4], u8); 256] {
    let (mut octets, mut number) = ([([b'.'; 4], 0); 256], 0);
    while number < 256 {
        let digits = [number / 100, number / 10 % 10, number % 10];
        let count = 1 + (number >= 10) as usize + (number >= 100) as usize;
        let mut at = 0;
        while at < count {
            octets[number].0[at] = b'0' + digits[3 - count + at] as u8;
            at += 1;
        }
        octets[number].1 = count as u8;
        number += 1;
    }
    octets
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn written(write: impl FnOnce(&mut Pen<'_>)) -> String {
        let mut lines = Lines::default();
        let mut pen = lines.pen(64);
        write(&mut pen);
        let room_left = pen.room_left();
        lines.keep(room_left);
        String::from_utf8(lines.written().to_vec()).expect("text")
    }

    #[test]
    fn numbers_are_as_the_standard_library_writes_them() {
        let powers = (0..20).map(|power| 10_u64.pow(power));
        let around = powers.flat_map(|power| [power - 1, power, power + 1]);
        for number in (0..=12_345).chain(around).chain([u64::MAX]) {
            assert_eq!(written(|pen| pen.number(number)), number.to_string());
        }
    }

    #[test]
    fn addresses_are_as_the_standard_library_writes_them() {
        for octet in 0..=255 {
            let ip = Ipv4Addr::new(octet, 1, 255 - octet, octet);
            assert_eq!(written(|pen| pen.ip_v4(ip.octets())), ip.to_string());
        }
        for zeros in 0..=255_u8 {
            for group in [1, 0x1f, 0x2ff, 0xabcd] {
                let groups: [u16; 8] =
                    std::array::from_fn(|at| if zeros & (1 << at) == 0 { group } else { 0 });
                let ip = Ipv6Addr::from(groups);
                assert_eq!(written(|pen| pen.ip_v6(ip)), ip.to_string());
            }
        }
        for ip in ["::ffff:192.0.2.1", "::192.0.2.1", "64:ff9b::192.0.2.1"] {
            let ip: Ipv6Addr = ip.parse().expect("an address");
            assert_eq!(written(|pen| pen.ip_v6(ip)), ip.to_string());
        }
    }

    #[test]
    fn there_is_room_for_any_text_and_no_more_is_kept_than_is_usual() {
        let mut lines = Lines::default();
        let add = |lines: &mut Lines, text: &[u8]| {
            let mut pen = lines.pen(text.len());
            pen.text(text);
            let room_left = pen.room_left();
            lines.keep(room_left);
        };
        let (long, longer) = (vec![b'a'; FIRST - 1], vec![b'b'; 2 * KEPT_MAX]);
        add(&mut lines, &long);
        add(&mut lines, b"end");
        assert_eq!(lines.written(), [&long[..], b"end"].concat());
        add(&mut lines, &longer);
        assert!(lines.written().ends_with(&longer) && lines.written().starts_with(&long));
        lines.clear();
        assert!(lines.is_empty() && lines.bytes.capacity() <= KEPT_MAX);
    }
}
