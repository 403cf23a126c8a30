//! The two formats a scrape can have, and which of them a client takes.

use crate::http::list;

/// How metrics are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// OpenMetrics 1.0.
    OpenMetrics,
    /// The text format of Prometheus, 0.0.4: what is sent to who asks for nothing.
    Prometheus,
}

impl Format {
    /// The Content-Type.
    pub fn content_type(self) -> &'static str {
        match self {
            Format::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Format::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
        }
    }

    /// The one that these Accept fields like best (RFC 9110 §12.5.1); a client that takes neither is
    /// sent the older one, which it can disregard.
    pub fn accepted<'a>(accept: impl Iterator<Item = &'a [u8]>) -> Format {
        let (mut open, mut plain) = (0.0, 0.0_f32);
        for member in accept.flat_map(list::members) {
            let Ok(member) = std::str::from_utf8(member) else { continue };
            let mut parts = member.split(';').map(str::trim);
            let kind = parts.next().unwrap_or_default();
            let (mut weight, mut is_known) = (1.0_f32, true);
            for (name, value) in parts.filter_map(|part| part.split_once('=')) {
                match name.to_ascii_lowercase().as_str() {
                    // What is no number is not taken.
                    "q" => weight = value.parse().unwrap_or(0.0),
                    "version" => is_known = matches!(value, "1.0.0" | "0.0.1" | "0.0.4"),
                    _ => {}
                }
            }
            match kind.to_ascii_lowercase().as_str() {
                "application/openmetrics-text" if is_known => open = weight.max(open),
                "text/plain" if is_known => plain = weight.max(plain),
                _ => {}
            }
        }
        if open > 0.0 && open >= plain { Format::OpenMetrics } else { Format::Prometheus }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_gets_the_format_it_likes_best() {
        let prometheus = "application/openmetrics-text;version=1.0.0;q=0.5,\
                          application/openmetrics-text;version=0.0.1;q=0.4,\
                          text/plain;version=0.0.4;q=0.3,*/*;q=0.1";
        for (accept, expected) in [
            ("", Format::Prometheus),
            ("*/*", Format::Prometheus),
            (prometheus, Format::OpenMetrics),
            ("Application/OpenMetrics-Text", Format::OpenMetrics),
            ("application/openmetrics-text; version=2.0.0", Format::Prometheus),
            ("application/openmetrics-text; q=0", Format::Prometheus),
            ("application/openmetrics-text;q=0.1, text/plain;q=0.2", Format::Prometheus),
            ("application/openmetrics-text;q=x", Format::Prometheus),
        ] {
            let accepted = Format::accepted([accept.as_bytes()].into_iter());
            assert_eq!(accepted, expected, "{accept}");
        }
    }
}
