//! The terms on which requests are replayed, as an operator sets them.

use super::Terms;
use crate::http::list::{is_token, is_value_byte};

/// A setting that cannot be sent to a backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("`{name}` cannot be sent: a host is `name` or `name:port`, and who is in Via is a token")]
pub struct SettingError {
    /// The setting.
    pub name: &'static str,
}

impl Terms {
    /// Whether they can be sent.
    ///
    /// # Errors
    /// One of them cannot.
    pub(crate) fn check(&self) -> Result<(), SettingError> {
        let is_fit = |byte: u8| is_value_byte(byte) && !b" \t\"\\,".contains(&byte);
        let is_host = |host: &String| !host.is_empty() && host.bytes().all(is_fit);
        if !self.host.as_ref().is_none_or(is_host) {
            return Err(SettingError { name: "host" });
        }
        if !self.via.as_ref().is_none_or(|via| is_token(via.as_bytes())) {
            return Err(SettingError { name: "via" });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_sent_is_named() {
        for (host, via, expected) in [
            (Some("a:1"), Some("front"), None),
            (None, None, None),
            (Some("a\r\nX: y"), None, Some("host")),
            (Some("a b"), None, Some("host")),
            (Some(""), None, Some("host")),
            (None, Some("a b"), Some("via")),
            (None, Some(""), Some("via")),
        ] {
            let (host, via) = (host.map(str::to_owned), via.map(str::to_owned));
            let terms = Terms { host, via, ..Terms::default() };
            let fault = terms.check().err();
            assert_eq!(fault.map(|fault| fault.name), expected, "{terms:?}");
        }
    }
}
