//! The time of a line: the wall clock is read ten times a second, and the core's own says what has
//! passed since.

use crate::config::{AccessFormat, Millis};
use crate::http::Date;

/// What the clocks show, and the second as text.
#[derive(Debug)]
pub(super) struct Stamp {
    format: AccessFormat,
    /// Both clocks when the wall clock was read last.
    read_at: Millis,
    unix_millis: u64,
    /// The second that `text` says.
    second: u64,
    text: Vec<u8>,
}

impl Stamp {
    pub(super) fn new(format: AccessFormat) -> Stamp {
        let mut stamp =
            Stamp { format, read_at: 0, unix_millis: 0, second: 0, text: Vec::with_capacity(32) };
        stamp.render(0);
        stamp
    }

    /// The wall clock shows this at the core's `now`.
    pub(super) fn set(&mut self, now: Millis, unix_millis: u64) {
        (self.read_at, self.unix_millis) = (now, unix_millis);
    }

    /// Appends the time: `[06/Nov/1994:08:49:37 +0000]`, or that of RFC 3339 with milliseconds.
    pub(super) fn write(&mut self, out: &mut Vec<u8>, now: Millis) {
        let millis = self.unix_millis + now.saturating_sub(self.read_at);
        if millis / 1000 != self.second {
            self.render(millis / 1000);
        }
        out.extend_from_slice(&self.text);
        if self.format == AccessFormat::Json {
            let rest = (millis % 1000) as u16;
            let digit = |divisor: u16| b'0' + (rest / divisor % 10) as u8;
            out.extend_from_slice(&[b'.', digit(100), digit(10), digit(1), b'Z']);
        }
    }

    fn render(&mut self, second: u64) {
        self.second = second;
        self.text.clear();
        // `Sun, 06 Nov 1994 08:49:37 GMT`
        let date = Date::at(second);
        let [
            _,
            _,
            _,
            _,
            _,
            d1,
            d2,
            _,
            m1,
            m2,
            m3,
            _,
            year @ ..,
            _,
            h1,
            h2,
            _,
            n1,
            n2,
            _,
            s1,
            s2,
            _,
            _,
            _,
            _,
        ] = date.as_bytes();
        let time = [*h1, *h2, b':', *n1, *n2, b':', *s1, *s2];
        if self.format == AccessFormat::Json {
            let month = month(&[*m1, *m2, *m3]);
            self.text.extend_from_slice(year);
            self.text.extend_from_slice(&[b'-', b'0' + month / 10, b'0' + month % 10]);
            self.text.extend_from_slice(&[b'-', *d1, *d2, b'T']);
            self.text.extend_from_slice(&time);
        } else {
            self.text.extend_from_slice(&[b'[', *d1, *d2, b'/', *m1, *m2, *m3, b'/']);
            self.text.extend_from_slice(year);
            self.text.push(b':');
            self.text.extend_from_slice(&time);
            self.text.extend_from_slice(b" +0000]");
        }
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
        let mut out = Vec::new();
        stamp.write(&mut out, 5_000 + passed);
        String::from_utf8(out).expect("text")
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
