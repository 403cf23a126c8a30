//! OCSP responses as their files have them: looked at before they are stapled, since a client ends a
//! handshake for one that it cannot use (RFC 6960 §4.2.1, RFC 6066 §8).

use aws_lc_rs::digest::{Algorithm, SHA1_FOR_LEGACY_USE_ONLY, SHA256, digest};
use x509_parser::asn1_rs::{Any, Class, FromDer, GeneralizedTime, Header, Tag};

use crate::http::Date;

/// RFC 6960 §4.2.1: id-pkix-ocsp-basic, 1.3.6.1.5.5.7.48.1.1, in DER.
const BASIC: [u8; 9] = [0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x30, 0x01, 0x01];

/// RFC 6960 §4.2.1: the statuses of a response that says nothing of a certificate.
const REFUSALS: [(&[u8], &str); 5] = [
    (&[1], "malformedRequest"),
    (&[2], "internalError"),
    (&[3], "tryLater"),
    (&[5], "sigRequired"),
    (&[6], "unauthorized"),
];

/// RFC 6960 §4.1.1: what a CertID is hashed with; SHA-1 (1.3.14.3.2.26) and SHA-256 (2.16.840.1.101.3.4.2.1), in DER.
static HASHES: [(&[u8], &Algorithm); 2] = [
    (&[0x2b, 0x0e, 0x03, 0x02, 0x1a], &SHA1_FOR_LEGACY_USE_ONLY),
    (&[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01], &SHA256),
];

/// How far a clock may be behind that of a responder, in seconds: what `openssl ocsp` allows, too.
const SKEW_S: i64 = 300;

/// The certificate that a response is to be about.
#[derive(Debug)]
pub(super) struct Subject {
    /// Its serial number.
    pub(super) serial: Vec<u8>,
    /// The name of its issuer, in DER.
    pub(super) issuer: Vec<u8>,
    /// Keys of its issuer, as certificates have them behind the count of unused bits; none of one that
    /// is not in the chain.
    pub(super) keys: Vec<Vec<u8>>,
}

/// For how long a response is good, in seconds since 1970 (RFC 6960 §4.2.2.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Validity {
    pub(super) this_update: i64,
    /// Without it, for ever.
    pub(super) next_update: Option<i64>,
}

impl Validity {
    /// Of a certificate that is answered for twice: clients may take either.
    fn and(self, other: Validity) -> Validity {
        let both = self.next_update.into_iter().chain(other.next_update);
        Validity { this_update: self.this_update.max(other.this_update), next_update: both.min() }
    }

    /// Why it is not to be stapled now, if it is not: a client that checks would end its handshake for it.
    pub(super) fn fault(self, now: i64) -> Option<String> {
        match self.next_update {
            Some(end) if end < now => Some(format!("has ended, and is not stapled: {}", date(end))),
            _ if self.this_update > now.saturating_add(SKEW_S) => {
                let begin = date(self.this_update);
                Some(format!("begins in the future, and is not stapled: {begin}"))
            }
            _ => None,
        }
    }
}

fn date(unix_seconds: i64) -> String {
    // Nothing before 1970 is worth telling apart.
    let date = Date::at(u64::try_from(unix_seconds).unwrap_or_default());
    String::from_utf8_lossy(date.as_bytes()).into_owned()
}

/// For how long a response is good that says `good` of this certificate, or what is wrong with it. Who signed
/// it is left to clients.
pub(super) fn read(response: &[u8], subject: &Subject) -> Result<Validity, String> {
    if response.is_empty() {
        return Err("the file is empty".into());
    }
    let (mut responses, mut found) = (Parts(responses(response)?), None::<Validity>);
    let mut why_not = "it is about another certificate";
    while !responses.0.is_empty() {
        let mut single = Parts(responses.sequence("a SingleResponse")?);
        let id = Parts(single.sequence("a CertID")?);
        match subject.is_meant(id)? {
            Meant::ThisOne => {
                let validity = validity(single)?;
                found = Some(found.map_or(validity, |before| before.and(validity)));
            }
            Meant::OfAnotherIssuer(told) => why_not = told,
            Meant::AnotherNumber => {}
        }
    }
    found.ok_or_else(|| why_not.to_owned())
}

/// The SingleResponses, one behind the other.
fn responses(response: &[u8]) -> Result<&[u8], String> {
    let mut outer = whole(response, "an OCSPResponse")?;
    let status = outer.next(Class::Universal, Tag::Enumerated, "a responseStatus")?;
    if status != [0] {
        let known = REFUSALS.iter().find(|(number, _)| *number == status);
        let name = known.map_or("an unknown one", |(_, name)| name);
        return Err(format!("its responseStatus is {name}, not successful"));
    }
    let bytes = outer.next(Class::ContextSpecific, Tag(0), "responseBytes")?;
    outer.ends("responseBytes")?;
    let mut bytes = whole(bytes, "ResponseBytes")?;
    if bytes.next(Class::Universal, Tag::Oid, "a responseType")? != BASIC {
        return Err("it is no basic response".into());
    }
    let basic = bytes.next(Class::Universal, Tag::OctetString, "a response")?;
    bytes.ends("the response")?;
    let mut basic = whole(basic, "a BasicOCSPResponse")?;
    let mut data = Parts(basic.sequence("ResponseData")?);
    // Behind the version, the responder and the time, which have other tags.
    while data.peek().is_some_and(|tag| tag != (Class::Universal, Tag::Sequence)) {
        data.any("ResponseData")?;
    }
    data.sequence("responses")
}

/// Whether a CertID is that of a certificate.
enum Meant {
    ThisOne,
    AnotherNumber,
    /// In which way it is another's: authorities number their certificates each for itself.
    OfAnotherIssuer(&'static str),
}

impl Subject {
    /// RFC 6960 §4.1.1: the number says nothing without the issuer.
    fn is_meant(&self, mut id: Parts<'_>) -> Result<Meant, String> {
        let mut hashed_with = Parts(id.sequence("a hashAlgorithm")?);
        let hashed_with = hashed_with.next(Class::Universal, Tag::Oid, "a hashAlgorithm")?;
        let name = id.next(Class::Universal, Tag::OctetString, "an issuerNameHash")?;
        let key = id.next(Class::Universal, Tag::OctetString, "an issuerKeyHash")?;
        if id.next(Class::Universal, Tag::Integer, "a serialNumber")? != self.serial {
            return Ok(Meant::AnotherNumber);
        }
        let known = HASHES.iter().find(|(identifier, _)| *identifier == hashed_with);
        let Some((_, algorithm)) = known else { return Ok(Meant::ThisOne) };
        let is_of = |hash: &[u8], what: &[u8]| digest(algorithm, what).as_ref() == hash;
        if !is_of(name, &self.issuer) {
            return Ok(Meant::OfAnotherIssuer(
                "it is about a certificate of another issuer, of the same number",
            ));
        }
        if !self.keys.is_empty() && !self.keys.iter().any(|own| is_of(key, own)) {
            return Ok(Meant::OfAnotherIssuer(
                "it is about a certificate of the same number, whose issuer has another key",
            ));
        }
        Ok(Meant::ThisOne)
    }
}

/// RFC 6960 §4.2.1: what is behind the CertID of a SingleResponse.
fn validity(mut single: Parts<'_>) -> Result<Validity, String> {
    let status = single.any("a certStatus")?;
    match (status.class(), status.tag()) {
        (Class::ContextSpecific, Tag(0)) => {}
        (Class::ContextSpecific, Tag(1)) => {
            return Err("it says that the certificate is revoked".into());
        }
        (Class::ContextSpecific, Tag(2)) => {
            return Err("it says that the certificate is unknown".into());
        }
        _ => return Err("a certStatus is expected, and something else is there".into()),
    }
    let this_update = time(single.any("thisUpdate")?, "thisUpdate")?;
    let next_update = match single.peek() {
        Some((Class::ContextSpecific, Tag(0))) => {
            let mut inner = Parts(single.any("nextUpdate")?.data);
            let end = time(inner.any("nextUpdate")?, "nextUpdate")?;
            inner.ends("nextUpdate")?;
            Some(end)
        }
        _ => None,
    };
    Ok(Validity { this_update, next_update })
}

/// Seconds since 1970.
fn time(element: Any<'_>, what: &str) -> Result<i64, String> {
    let time = GeneralizedTime::try_from(element).and_then(|time| time.utc_datetime());
    Ok(time.map_err(|_| format!("{what} is no time"))?.unix_timestamp())
}

/// What is in a sequence that is all there is.
fn whole<'r>(bytes: &'r [u8], what: &str) -> Result<Parts<'r>, String> {
    let mut parts = Parts(bytes);
    let inner = parts.sequence(what)?;
    parts.ends(what)?;
    Ok(Parts(inner))
}

/// Elements in DER, one behind the other.
struct Parts<'r>(&'r [u8]);

impl<'r> Parts<'r> {
    fn peek(&self) -> Option<(Class, Tag)> {
        let (_, header) = Header::from_der(self.0).ok()?;
        Some((header.class(), header.tag()))
    }

    fn any(&mut self, what: &str) -> Result<Any<'r>, String> {
        let parsed = Any::from_der(self.0);
        let (rest, any) = parsed.map_err(|_| format!("{what} cannot be read in DER"))?;
        self.0 = rest;
        Ok(any)
    }

    /// What is in the next one, which is to be of this kind.
    fn next(&mut self, class: Class, tag: Tag, what: &str) -> Result<&'r [u8], String> {
        let any = self.any(what)?;
        match (any.class(), any.tag()) == (class, tag) {
            true => Ok(any.data),
            false => Err(format!("{what} is expected, and something else is there")),
        }
    }

    fn sequence(&mut self, what: &str) -> Result<&'r [u8], String> {
        self.next(Class::Universal, Tag::Sequence, what)
    }

    fn ends(&self, what: &str) -> Result<(), String> {
        match self.0.len() {
            0 => Ok(()),
            count => Err(format!("{count} bytes are behind {what}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHA1: &[u8] = HASHES[0].0;
    const SHA2: &[u8] = HASHES[1].0;

    /// 2026-01-01 00:00:00 and a week later: date -u -d 2026-01-01 +%s.
    const BEGIN: i64 = 1_767_225_600;
    const END: i64 = BEGIN + 7 * 24 * 60 * 60;

    fn element(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
        let content = parts.concat();
        let len = u16::try_from(content.len()).expect("a short one").to_be_bytes();
        // The short form of a length, and the longest that is needed here.
        match content.len() {
            ..128 => [&[tag, len[1]][..], &content].concat(),
            128..256 => [&[tag, 0x81, len[1]][..], &content].concat(),
            _ => [&[tag, 0x82, len[0], len[1]][..], &content].concat(),
        }
    }

    /// A SingleResponse.
    struct Single {
        algorithm: &'static [u8],
        issuer: &'static [u8],
        key: &'static [u8],
        serial: &'static [u8],
        status: Vec<u8>,
        times: Vec<u8>,
    }

    fn week() -> Vec<u8> {
        let end = element(0xa0, &[&element(0x18, &[b"20260108000000Z"])]);
        [element(0x18, &[b"20260101000000Z"]), end].concat()
    }

    /// For the certificate 7 of `name`, whose key is `key`.
    fn single() -> Single {
        let (issuer, key) = (b"name", b"key");
        Single { algorithm: SHA1, issuer, key, serial: &[7], status: vec![0x80, 0], times: week() }
    }

    impl Single {
        fn bytes(&self) -> Vec<u8> {
            let known = HASHES.iter().find(|(identifier, _)| *identifier == self.algorithm);
            let hash = |what| match known {
                Some((_, algorithm)) => digest(algorithm, what).as_ref().to_vec(),
                None => b"hashed in another way".to_vec(),
            };
            let algorithm = element(0x30, &[&element(6, &[self.algorithm]), &[5, 0]]);
            let (issuer, key) = (hash(self.issuer), hash(self.key));
            let id = [
                algorithm,
                element(4, &[&issuer]),
                element(4, &[&key]),
                element(2, &[self.serial]),
            ];
            element(0x30, &[&element(0x30, &[&id.concat()]), &self.status, &self.times])
        }
    }

    /// As a responder makes it, but for its signature.
    fn response(singles: &[Single]) -> Vec<u8> {
        let singles: Vec<u8> = singles.iter().flat_map(Single::bytes).collect();
        let (responder, time) = (element(0xa2, &[&element(4, &[b"k"])]), element(0x18, &[b"t"]));
        let data = element(0x30, &[&responder, &time, &element(0x30, &[&singles])]);
        let basic = element(0x30, &[&data, &element(0x30, &[]), &element(3, &[&[0]])]);
        let bytes = element(0x30, &[&element(6, &[&BASIC]), &element(4, &[&basic])]);
        element(0x30, &[&element(10, &[&[0]]), &element(0xa0, &[&bytes])])
    }

    /// The certificate 7 of `name`; whether its chain has the key of that.
    fn subject(has_key: bool) -> Subject {
        let keys = has_key.then(|| b"key".to_vec()).into_iter().collect();
        Subject { serial: vec![7], issuer: b"name".to_vec(), keys }
    }

    #[test]
    fn a_whole_response_for_the_certificate_is_right() {
        let week = Validity { this_update: BEGIN, next_update: Some(END) };
        for algorithm in [SHA1, SHA2] {
            let response = response(&[Single { algorithm, ..single() }]);
            assert_eq!(read(&response, &subject(true)), Ok(week));
            assert_eq!(read(&response, &subject(false)), Ok(week));
        }
    }

    #[test]
    fn anything_else_says_what_it_is() {
        let right = response(&[single()]);
        let revoked = element(0xa1, &[&element(0x18, &[b"20260101000000Z"])]);
        let no_time = [&element(0x18, &[b"20260101000000Z"])[..], &element(0xa0, &[])].concat();
        for (bytes, told) in [
            (Vec::new(), "empty"),
            (b"-----BEGIN OCSP RESPONSE-----".to_vec(), "an OCSPResponse"),
            (element(0x30, &[&element(10, &[&[3]])]), "tryLater, not successful"),
            (element(0x30, &[&element(10, &[&[6]])]), "unauthorized, not successful"),
            (element(0x30, &[&element(10, &[&[0]])]), "responseBytes cannot be read"),
            ([&right[..], &[0]].concat(), "1 bytes are behind an OCSPResponse"),
            (response(&[]), "another certificate"),
            (response(&[Single { serial: &[8], ..single() }]), "another certificate"),
            (response(&[Single { status: revoked, ..single() }]), "the certificate is revoked"),
            (response(&[Single { status: vec![0x82, 0], ..single() }]), "is unknown"),
            (response(&[Single { status: vec![5, 0], ..single() }]), "a certStatus is expected"),
            (response(&[Single { times: week()[..5].to_vec(), ..single() }]), "thisUpdate"),
            (response(&[Single { times: vec![0x18, 1, b'9'], ..single() }]), "thisUpdate is no"),
            (response(&[Single { times: no_time, ..single() }]), "nextUpdate cannot be read"),
        ] {
            let fault = read(&bytes, &subject(true)).expect_err("it is wrong");
            assert!(fault.contains(told), "{fault}");
        }
    }

    #[test]
    fn one_that_is_cut_anywhere_is_none() {
        let right = response(&[single()]);
        for len in 0..right.len() {
            assert!(read(&right[..len], &subject(true)).is_err(), "{len}");
        }
    }

    #[test]
    fn a_certificate_of_the_same_number_is_another_if_another_issued_it() {
        for algorithm in [SHA1, SHA2] {
            let named = response(&[Single { algorithm, issuer: b"another", ..single() }]);
            let keyed = response(&[Single { algorithm, key: b"another", ..single() }]);
            for has_key in [false, true] {
                let fault = read(&named, &subject(has_key)).expect_err("of another");
                assert!(fault.contains("of another issuer, of the same number"), "{fault}");
            }
            let fault = read(&keyed, &subject(true)).expect_err("by another key");
            assert!(fault.contains("whose issuer has another key"), "{fault}");
            assert!(read(&keyed, &subject(false)).is_ok(), "the key is not known");
        }
        // SHA-384, 2.16.840.1.101.3.4.2.2: who may know what it is the hash of.
        let algorithm = &[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x02];
        assert!(read(&response(&[Single { algorithm, ..single() }]), &subject(true)).is_ok());
    }

    #[test]
    fn of_several_responses_the_one_for_the_certificate_counts() {
        let (unknown, revoked) = (vec![0x82, 0], element(0xa1, &[]));
        let others = || {
            [
                Single { serial: &[8], status: unknown.clone(), ..single() },
                Single { issuer: b"another", status: revoked.clone(), ..single() },
            ]
        };
        let [first, second] = others();
        assert!(read(&response(&[first, single(), second]), &subject(true)).is_ok());
        let [first, second] = others();
        let own = Single { status: revoked.clone(), ..single() };
        let fault = read(&response(&[first, second, own]), &subject(true)).expect_err("revoked");
        assert!(fault.contains("the certificate is revoked"), "{fault}");
        // By both hashes: a client takes the one that it has asked for.
        let own = || Single { algorithm: SHA2, ..single() };
        let own_revoked = Single { status: revoked, ..own() };
        assert!(read(&response(&[single(), own_revoked]), &subject(true)).is_err());
        let without_end = element(0x18, &[b"20260102000000Z"]);
        let both = [single(), Single { times: without_end, ..own() }];
        let validity = Validity { this_update: BEGIN + 24 * 60 * 60, next_update: Some(END) };
        assert_eq!(read(&response(&both), &subject(true)), Ok(validity));
    }

    #[test]
    fn a_response_is_stapled_from_its_time_to_its_end() {
        let week = Validity { this_update: BEGIN, next_update: Some(END) };
        let ever = Validity { this_update: BEGIN, next_update: None };
        assert_eq!(week.fault(BEGIN), None);
        assert_eq!(week.fault(END), None);
        let ended = "has ended, and is not stapled: Thu, 08 Jan 2026 00:00:00 GMT";
        assert_eq!(week.fault(END + 1).as_deref(), Some(ended));
        let begins = "begins in the future, and is not stapled: Thu, 01 Jan 2026 00:00:00 GMT";
        for validity in [week, ever] {
            assert_eq!(validity.fault(BEGIN - SKEW_S), None, "clocks differ");
            assert_eq!(validity.fault(BEGIN - SKEW_S - 1).as_deref(), Some(begins));
        }
        // RFC 6960 §4.2.2.1: without nextUpdate there is newer information all the time, and no end.
        assert_eq!(ever.fault(i64::MAX), None);
        let times = element(0x18, &[b"20260101000000Z"]);
        let single = Single { times, ..single() };
        assert_eq!(read(&response(&[single]), &subject(true)), Ok(ever));
    }
}
