//! What a client offers: the members of its Upgrade fields, in order and bounded (RFC 9110 §7.8).

use crate::http::{Request, Version, list};

/// Members of all Upgrade lines together, empty ones included (U-09).
pub(super) const MEMBERS_MAX: usize = 16;
/// Bytes of all Upgrade values together (U-09).
pub(super) const BYTES_MAX: usize = 1024;

/// One offered protocol: `name` or `name/version`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Member<'a> {
    /// Compared without regard to case.
    pub name: &'a [u8],
    /// Compared octet by octet.
    pub version: Option<&'a [u8]>,
}

/// The offered protocols in the client's order of preference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer<'a> {
    members: [Member<'a>; MEMBERS_MAX],
    count: usize,
}

/// Why an Upgrade field is not an offer. None of these is an error: the request is answered as if
/// the field were not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unusable {
    /// There is no Upgrade field, or it names nothing.
    Absent,
    /// The request is HTTP/1.0 (RFC 9110 §7.8: "MUST ignore").
    Http10,
    /// Connection does not name `upgrade`: an intermediary may have forwarded the field blindly
    /// (RFC 9110 §7.6.1).
    NoConnectionOption,
    /// A member is not `token` or `token "/" token`.
    Malformed,
    /// More members or bytes than anyone needs.
    TooLong,
}

impl<'a> Offer<'a> {
    /// Reads the offer of a request.
    ///
    /// # Errors
    /// Why the request offers nothing.
    pub fn read(request: &Request<'a>) -> Result<Offer<'a>, Unusable> {
        if !request.head().has_upgrade {
            return Err(Unusable::Absent);
        }
        if request.version() == Version::Http10 {
            return Err(Unusable::Http10);
        }
        if !request.head().connection.upgrade {
            return Err(Unusable::NoConnectionOption);
        }
        Offer::of_values(request.fields_named("upgrade"))
    }

    fn of_values(values: impl Iterator<Item = &'a [u8]>) -> Result<Offer<'a>, Unusable> {
        let mut offer = Offer { members: [Member::default(); MEMBERS_MAX], count: 0 };
        let (mut seen, mut bytes) = (0, 0);
        for value in values {
            bytes += value.len();
            if bytes > BYTES_MAX {
                return Err(Unusable::TooLong);
            }
            for member in list::members(value) {
                seen += 1;
                if seen > MEMBERS_MAX {
                    return Err(Unusable::TooLong);
                }
                if !member.is_empty() {
                    let place = offer.members.get_mut(offer.count).ok_or(Unusable::TooLong)?;
                    *place = Member::read(member).ok_or(Unusable::Malformed)?;
                    offer.count += 1;
                }
            }
        }
        if offer.count == 0 { Err(Unusable::Absent) } else { Ok(offer) }
    }

    /// The members, first choice first.
    pub fn members(&self) -> &[Member<'a>] {
        self.members.get(..self.count).unwrap_or_default()
    }
}

impl<'a> Member<'a> {
    /// RFC 9110 §7.8: `protocol = protocol-name ["/" protocol-version]`, both tokens.
    fn read(bytes: &'a [u8]) -> Option<Member<'a>> {
        let (name, version) = match list::split_once(bytes, b'/') {
            Some((name, version)) => (name, Some(version)),
            None => (bytes, None),
        };
        (list::is_token(name) && version.is_none_or(list::is_token))
            .then_some(Member { name, version })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read<'a>(values: &[&'a str]) -> Result<Vec<(&'a str, Option<&'a str>)>, Unusable> {
        let text = |bytes| std::str::from_utf8(bytes).expect("the tests write ASCII");
        let offer = Offer::of_values(values.iter().map(|value| value.as_bytes()))?;
        Ok(offer
            .members()
            .iter()
            .map(|member| (text(member.name), member.version.map(text)))
            .collect())
    }

    #[test]
    fn members_of_all_lines_keep_their_order_and_empty_ones_are_skipped() {
        let offer = read(&["foo,, bar/1 ", " , echo"]);
        assert_eq!(offer, Ok(vec![("foo", None), ("bar", Some("1")), ("echo", None)]));
    }

    #[test]
    fn one_bad_member_spoils_the_field() {
        for value in ["echo;q=1", "\"echo\"", "echo/", "/1", "a/b/c", "a b", "ok, b@d"] {
            assert_eq!(read(&[value]), Err(Unusable::Malformed), "{value}");
        }
    }

    #[test]
    fn sixteen_members_and_1024_bytes_are_the_bound() {
        assert_eq!(read(&["foo,".repeat(15).as_str()]).map(|members| members.len()), Ok(15));
        assert_eq!(read(&["foo,".repeat(16).as_str()]), Err(Unusable::TooLong));
        assert_eq!(read(&[",".repeat(16).as_str()]), Err(Unusable::TooLong));
        assert_eq!(read(&["a".repeat(1024).as_str()]).map(|members| members.len()), Ok(1));
        assert_eq!(
            read(&["a".repeat(600).as_str(), "b".repeat(600).as_str()]),
            Err(Unusable::TooLong)
        );
    }

    #[test]
    fn an_empty_field_offers_nothing() {
        assert_eq!(read(&["", " , "]), Err(Unusable::Absent));
    }
}
