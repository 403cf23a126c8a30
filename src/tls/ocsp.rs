//! OCSP responses as their files have them: looked at before they are stapled, since a client ends a
//! handshake for one that it cannot use (RFC 6960 §4.2.1, RFC 6066 §8).

use x509_parser::asn1_rs::{Any, Class, FromDer, Header, Tag};

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

/// What is wrong with a response for the certificate of this serial number, if anything is. Who signed it, and
/// for how long it is good, is left to clients.
pub(super) fn fault(response: &[u8], serial: &[u8]) -> Option<String> {
    if response.is_empty() {
        return Some("the file is empty".into());
    }
    match serials(response) {
        Ok(serials) if serials.contains(&serial) => None,
        Ok(_) => Some("it is about another certificate".into()),
        Err(what) => Some(what),
    }
}

/// The serial numbers of the certificates that it is about.
fn serials(response: &[u8]) -> Result<Vec<&[u8]>, String> {
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
    let mut responses = Parts(data.sequence("responses")?);
    let mut serials = Vec::new();
    while responses.peek().is_some() {
        let mut single = Parts(responses.sequence("a SingleResponse")?);
        let mut id = Parts(single.sequence("a CertID")?);
        id.sequence("a hashAlgorithm")?;
        id.next(Class::Universal, Tag::OctetString, "an issuerNameHash")?;
        id.next(Class::Universal, Tag::OctetString, "an issuerKeyHash")?;
        serials.push(id.next(Class::Universal, Tag::Integer, "a serialNumber")?);
    }
    Ok(serials)
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

    fn element(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
        let content = parts.concat();
        let len = u8::try_from(content.len()).expect("a short one");
        assert!(len < 128, "the short form of a length");
        [&[tag, len][..], &content].concat()
    }

    /// One for this serial number, as a responder makes it, but for its signature.
    fn response(serial: &[u8]) -> Vec<u8> {
        let id =
            [element(0x30, &[]), element(4, &[b"n"]), element(4, &[b"k"]), element(2, &[serial])];
        let single = element(0x30, &[&element(0x30, &[&id.concat()]), &element(0x80, &[])]);
        let (responder, time) = (element(0xa2, &[&element(4, &[b"k"])]), element(0x18, &[b"t"]));
        let data = element(0x30, &[&responder, &time, &element(0x30, &[&single])]);
        let basic = element(0x30, &[&data, &element(0x30, &[]), &element(3, &[&[0]])]);
        let bytes = element(0x30, &[&element(6, &[&BASIC]), &element(4, &[&basic])]);
        element(0x30, &[&element(10, &[&[0]]), &element(0xa0, &[&bytes])])
    }

    #[test]
    fn a_whole_response_for_the_certificate_is_right() {
        assert_eq!(fault(&response(&[7, 9]), &[7, 9]), None);
    }

    #[test]
    fn anything_else_says_what_it_is() {
        let right = response(&[7]);
        for (bytes, told) in [
            (Vec::new(), "empty"),
            (b"-----BEGIN OCSP RESPONSE-----".to_vec(), "an OCSPResponse"),
            (element(0x30, &[&element(10, &[&[3]])]), "tryLater, not successful"),
            (element(0x30, &[&element(10, &[&[6]])]), "unauthorized, not successful"),
            (element(0x30, &[&element(10, &[&[0]])]), "responseBytes cannot be read"),
            ([&right[..], &[0]].concat(), "1 bytes are behind an OCSPResponse"),
            (response(&[8]), "another certificate"),
        ] {
            let fault = fault(&bytes, &[7]).expect("it is wrong");
            assert!(fault.contains(told), "{fault}");
        }
    }

    #[test]
    fn one_that_is_cut_anywhere_is_none() {
        let right = response(&[7]);
        for len in 0..right.len() {
            assert!(fault(&right[..len], &[7]).is_some(), "{len}");
        }
    }
}
