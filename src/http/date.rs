//! The Date field's value, rendered once a second and copied into every response.
//!
//! The engine holds one [`Date`] per core and refreshes it with the second its clock shows. No
//! clock is read here.

use std::io::Write;
use std::time::{Duration, UNIX_EPOCH};

use httpdate::HttpDate;

/// 9999-12-31 23:59:59, the last second that four digits of year can show.
const SECOND_MAX: u64 = 253_402_300_799;

/// A rendered IMF-fixdate (RFC 9110 §5.6.7) and the second it stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Date {
    text: [u8; Self::BYTES],
    second: u64,
}

impl Date {
    /// Length of the text in bytes.
    pub const BYTES: usize = 29;

    /// The date of this many seconds after 1970-01-01 00:00:00 UTC.
    pub fn at(unix_seconds: u64) -> Self {
        Self { text: render(unix_seconds), second: unix_seconds }
    }

    /// Moves to another second; `false` if it is the one already shown, which costs a comparison.
    #[inline]
    pub fn refresh(&mut self, unix_seconds: u64) -> bool {
        if self.second == unix_seconds {
            return false;
        }
        *self = Self::at(unix_seconds);
        true
    }

    /// The text, such as `Sun, 06 Nov 1994 08:49:37 GMT`.
    #[inline]
    pub fn as_bytes(&self) -> &[u8; Self::BYTES] {
        &self.text
    }
}

#[expect(clippy::expect_used, reason = "no input, but a clock, and its years are bounded")]
fn render(unix_seconds: u64) -> [u8; Date::BYTES] {
    let time = UNIX_EPOCH + Duration::from_secs(unix_seconds.min(SECOND_MAX));
    let mut text = [b' '; Date::BYTES];
    write!(text.as_mut_slice(), "{}", HttpDate::from(time))
        .expect("an IMF-fixdate of a four-digit year has 29 bytes");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn renders_the_example_of_the_standard() {
        let date = Date::at(784_111_777);
        assert_eq!(date.as_bytes(), b"Sun, 06 Nov 1994 08:49:37 GMT");
    }

    #[test]
    fn refreshes_only_when_the_second_changes() {
        let mut date = Date::at(0);
        assert!(!date.refresh(0));
        assert!(date.refresh(1));
        assert_eq!(date.as_bytes(), b"Thu, 01 Jan 1970 00:00:01 GMT");
    }

    #[test]
    fn a_second_beyond_the_year_9999_shows_its_last_one() {
        assert_eq!(Date::at(u64::MAX).as_bytes(), b"Fri, 31 Dec 9999 23:59:59 GMT");
    }
}
