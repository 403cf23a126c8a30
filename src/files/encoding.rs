//! Which precompressed variants a client takes (RFC 9110 §12.5.3).

use crate::http::{Request, list};

/// A content coding a file may lie in beside itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Coding {
    Brotli,
    Gzip,
}

impl Coding {
    /// As Content-Encoding says it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Coding::Brotli => "br",
            Coding::Gzip => "gzip",
        }
    }

    /// What is appended to the name of the file.
    pub(super) fn extension(self) -> &'static str {
        match self {
            Coding::Brotli => ".br",
            Coding::Gzip => ".gz",
        }
    }
}

/// The codings the client takes rather than none, best first; of those it likes alike the one that
/// is smaller.
pub(super) fn codings(request: Request<'_>) -> impl Iterator<Item = Coding> {
    let brotli = quality(request, &["br"]);
    // RFC 9110 §8.4.1.3: x-gzip is the same.
    let gzip = quality(request, &["gzip", "x-gzip"]);
    let plain = explicit(request, &["identity"]).unwrap_or(0);
    let order = match brotli >= gzip {
        true => [(Coding::Brotli, brotli), (Coding::Gzip, gzip)],
        false => [(Coding::Gzip, gzip), (Coding::Brotli, brotli)],
    };
    order
        .into_iter()
        .filter(move |(_, quality)| *quality > 0 && *quality >= plain)
        .map(|(at, _)| at)
}

/// Thousandths; 0 if it is not taken.
fn quality(request: Request<'_>, names: &[&str]) -> u16 {
    explicit(request, names).or_else(|| explicit(request, &["*"])).unwrap_or(0)
}

fn explicit(request: Request<'_>, names: &[&str]) -> Option<u16> {
    request.fields_named("Accept-Encoding").flat_map(list::members).find_map(|member| {
        let mut parts = member.split(|byte| *byte == b';');
        let coding = parts.next()?.trim_ascii();
        let is_it = names.iter().any(|name| coding.eq_ignore_ascii_case(name.as_bytes()));
        let weight = parts.next().map_or(Some(1000), thousandths);
        // What is malformed is not taken.
        is_it.then(|| weight.unwrap_or(0))
    })
}

/// RFC 9110 §12.4.2: `q=` and a number between 0 and 1 with at most three digits behind the point.
fn thousandths(parameter: &[u8]) -> Option<u16> {
    let text = std::str::from_utf8(parameter.trim_ascii()).ok()?;
    let (name, value) = text.split_once('=')?;
    let (whole, fraction) = value.split_once('.').unwrap_or((value, ""));
    let is_valid = name.eq_ignore_ascii_case("q")
        && matches!(whole, "0" | "1")
        && fraction.len() <= 3
        && fraction.bytes().all(|byte| byte.is_ascii_digit());
    let thousandths: u16 = format!("{whole}{fraction:0<3}").parse().ok()?;
    (is_valid && thousandths <= 1000).then_some(thousandths)
}

#[cfg(test)]
mod tests {
    use super::super::condition::tests::with_fields;
    use super::*;

    #[test]
    fn the_client_says_what_it_takes_and_likes() {
        use Coding::{Brotli, Gzip};
        for (value, expected) in [
            ("", vec![]),
            ("gzip, deflate, br", vec![Brotli, Gzip]),
            ("gzip", vec![Gzip]),
            ("x-gzip", vec![Gzip]),
            ("X-GZIP;q=0.5, br", vec![Brotli, Gzip]),
            ("x-gzip;q=0, *", vec![Brotli]),
            ("GZIP;q=0.5, br;q=0.4", vec![Gzip, Brotli]),
            ("br;q=0, gzip", vec![Gzip]),
            ("*", vec![Brotli, Gzip]),
            ("*;q=0", vec![]),
            ("br;q=0.5, *;q=0.1", vec![Brotli, Gzip]),
            ("gzip;q=0.5, identity", vec![]),
            ("identity;q=0.5, gzip", vec![Gzip]),
            ("gzip;q=2", vec![]),
            ("gzip;q=0.1234", vec![]),
            ("gzip;level=9", vec![]),
            ("gzipped", vec![]),
        ] {
            let fields = format!("Accept-Encoding: {value}\r\n");
            let found: Vec<_> = with_fields("GET", &fields, |request| codings(request).collect());
            assert_eq!(found, expected, "{value}");
        }
        let none: Vec<_> = with_fields("GET", "", |request| codings(request).collect());
        assert!(none.is_empty(), "who says nothing gets the file as it is");
    }
}
