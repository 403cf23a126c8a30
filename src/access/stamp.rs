//! The time of a line: the wall clock is read ten times a second, and the core's own says what has
//! passed since.

use crate::config::{AccessFormat, Millis, NEVER};
use crate::http::Date;

/// Bytes of a time: `[06/Nov/1994:08:49:37 +0000]`, or in JSON `1994-11-06T08:49:37.007Z`.
pub(super) const TIME_BYTES: usize = 28;
pub(super) const JSON_TIME_BYTES: usize = 24;

/// What the clocks show, and the same as text.
#[derive(Debug)]
pub(super) struct Stamp {
    format: AccessFormat,
    /// Both clocks when the wall clock was read last.
    read_at: Millis,
    unix_millis: u64,
    /// The core's time that `text` says; all lines of a turn have the same.
    shown: Millis,
    /// How often the text was made.
    count: u64,
    /// The second that `text` says.
    second: u64,
    text: [u8; TIME_BYTES],
}

impl Stamp {
    pub(super) fn new(format: AccessFormat) -> Stamp {
        let text = [b' '; TIME_BYTES];
        let mut stamp =
            Stamp { format, read_at: 0, unix_millis: 0, shown: NEVER, count: 0, second: 0, text };
        stamp.render(0);
        stamp
    }

    /// The wall clock shows this at the core's `now`.
    pub(super) fn set(&mut self, now: Millis, unix_millis: u64) {
        (self.read_at, self.unix_millis, self.shown) = (now, unix_millis, NEVER);
    }

    /// The time at the core's `now`: `[06/Nov/1994:08:49:37 +0000]`.
    #[inline(always)]
    pub(super) fn at(&mut self, now: Millis) -> &[u8; TIME_BYTES] {
        if self.shown != now {
            self.show(now);
        }
        &self.text
    }

    /// Tells the text from those before it.
    #[inline(always)]
    pub(super) fn count(&self) -> u64 {
        self.count
    }

    /// The same as RFC 3339 has it, with milliseconds: for JSON.
    #[inline(always)]
    pub(super) fn in_json(&mut self, now: Millis) -> &[u8; JSON_TIME_BYTES] {
        match self.at(now).first_chunk() {
            Some(text) => text,
            None => &[b' '; JSON_TIME_BYTES],
        }
    }

    #[inline(never)]
    fn show(&mut self, now: Millis) {
        let millis = self.unix_millis + now.saturating_sub(self.read_at);
        if millis / 1000 != self.second {
            self.render(millis / 1000);
        }
        if let (AccessFormat::Json, [.., a, b, c, _, _, _, _, _]) = (self.format, &mut self.text) {
            let rest = (millis % 1000) as u16;
            let digit = |divisor: u16| b'0' + (rest / divisor % 10) as u8;
            (*a, *b, *c) = (digit(100), digit(10), digit(1));
        }
        (self.shown, self.count) = (now, self.count + 1);
    }

    fn render(&mut self, second: u64) {
        self.second = second;
        // `Sun, 06 Nov 1994 08:49:37 GMT`
        let date = Date::at(second);
        let [_, _, _, _, _, d1, d2, _, m1, m2, m3, _, y1, y2, y3, y4, _, time @ .., _, _, _, _] =
            *date.as_bytes();
        let [h1, h2, _, n1, n2, _, s1, s2] = time;
        self.text = if self.format == AccessFormat::Json {
            let month = month(&[m1, m2, m3]);
            let [o1, o2] = [b'0' + month / 10, b'0' + month % 10];
            [
                y1, y2, y3, y4, b'-', o1, o2, b'-', d1, d2, b'T', h1, h2, b':', n1, n2, b':', s1,
                s2, b'.', b'0', b'0', b'0', b'Z', b' ', b' ', b' ', b' ',
            ]
        } else {
            [
                b'[', d1, d2, b'/', m1, m2, m3, b'/', y1, y2, y3, y4, b':', h1, h2, b':', n1, n2,
                b':', s1, s2, b' ', b'+', b'0', b'0', b'0', b'0', b']',
            ]
        };
    }
}

/// The number of a month by its name.
fn month(name: &[u8; 3]) -> u8 {
    let names = b"JanFebMarAprMayJunJulAugSepOctNovDec";
    (1..).zip(names.chunks(3)).find(|(_, known)| *known == name).map_or(0, |(number, _)| number)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(format: AccessFormat, unix_millis: u64, passed: Millis) -> String {
        let mut stamp = Stamp::new(format);
        stamp.set(5_000, unix_millis);
        let text = match format {
            AccessFormat::Json => &stamp.in_json(5_000 + passed)[..],
            _ => stamp.at(5_000 + passed),
        };
        String::from_utf8(text.to_vec()).expect("text")
    }

    #[test]
    fn the_time_is_that_of_the_wall_clock_and_what_has_passed_since() {
        let example = 784_111_777_000;
        assert_eq!(at(AccessFormat::Common, example, 0), "[06/Nov/1994:08:49:37 +0000]");
        assert_eq!(at(AccessFormat::Combined, example, 999), "[06/Nov/1994:08:49:37 +0000]");
        assert_eq!(at(AccessFormat::Json, example + 7, 0), "1994-11-06T08:49:37.007Z");
        assert_eq!(at(AccessFormat::Json, example, 1_250), "1994-11-06T08:49:38.250Z");
        assert_eq!(at(AccessFormat::Json, 0, 0), "1970-01-01T00:00:00.000Z");
    }

    #[test]
    fn each_month_has_its_number() {
        for number in 1..=12_u8 {
            let day = 30 * u64::from(number) - 15;
            let text = at(AccessFormat::Json, day * 86_400_000, 0);
            assert_eq!(text.get(5..7), Some(&*format!("{number:02}")), "{text}");
        }
    }
}
