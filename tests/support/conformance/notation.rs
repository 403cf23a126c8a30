//! The notation of inputs and outputs, described in `tests/conformance/README.md`: text to values,
//! and bytes back to text for messages. `rows` calls it line by line; it knows nothing of rows and
//! cases.

use super::case::{Demand, Expected, Output, Step};
use super::peer::Ending;

/// Longest piece of bytes a message shows.
const SHOWN_BYTES_MAX: usize = 600;

/// Characters that stand for bytes that cannot be seen, inside quotation marks and outside.
const PICTURES: [(char, &[u8]); 6] =
    [('⏎', b"\r\n"), ('␊', b"\n"), ('␍', b"\r"), ('␀', b"\0"), ('␉', b"\t"), ('␋', b"\x0b")];

const CONNECTION_UPGRADE: &str = "Connection: Upgrade\r\n";
const UPGRADE_ECHO: &str = "Upgrade: echo\r\n";
/// The key is the example of RFC 6455 §1.3.
const WEBSOCKET: &str = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// Reads an input. Bytes that stand side by side become one write.
pub fn input(text: &str) -> Result<Vec<Step>, String> {
    let mut reader = Reader { rest: text };
    let mut steps: Vec<Step> = Vec::new();
    while !reader.at_end() {
        if reader.takes("~") {
            steps.push(Step::WaitMs(reader.number()?));
        } else if reader.takes("FIN") {
            steps.push(Step::Finish);
        } else {
            let bytes = reader.bytes()?;
            match steps.last_mut() {
                Some(Step::Send(before)) => before.extend(bytes),
                _ => steps.push(Step::Send(bytes)),
            }
        }
    }
    Ok(steps)
}

/// Reads one acceptable output.
pub fn output(text: &str) -> Result<Output, String> {
    let mut reader = Reader { rest: text };
    let mut items: Vec<Expected> = Vec::new();
    let mut ending = Ending::Open;
    while !reader.at_end() {
        if reader.takes("nothing") {
            continue;
        }
        if reader.takes("WS") {
            items.push(opening());
        } else if reader.takes("FIN") {
            ending = Ending::Finished;
        } else if reader.takes("RST") {
            ending = Ending::Reset;
        } else if reader.takes("+") {
            let wanted = demand(&reader.bytes()?, true)?;
            demands(&mut items)?.push(wanted);
        } else if reader.takes("-") {
            let refused = demand(&reader.bytes()?, false)?;
            demands(&mut items)?.push(refused);
        } else if reader.rest.starts_with(|one: char| one.is_ascii_digit()) {
            let (item, closes) = reader.answer()?;
            items.push(item);
            ending = if closes { Ending::Finished } else { Ending::Open };
        } else {
            let bytes = reader.bytes()?;
            match items.last_mut() {
                Some(Expected::Bytes(before)) => before.extend(bytes),
                _ => items.push(Expected::Bytes(bytes)),
            }
        }
    }
    Ok(Output { text: text.into(), items, ending })
}

/// The 101 to the opening handshake of [`WEBSOCKET`].
fn opening() -> Expected {
    let accept = Demand::Is("Sec-WebSocket-Accept".into(), ACCEPT.into());
    Expected::Switch { token: "websocket".into(), demands: vec![accept] }
}

/// Bytes as a person reads them, in the notation of the files; long ones are cut short.
pub fn show(bytes: &[u8]) -> String {
    let mut shown = String::from("\"");
    let mut rest = &bytes[..bytes.len().min(SHOWN_BYTES_MAX)];
    while let Some(&first) = rest.first() {
        let picture = PICTURES.iter().find(|(_, long)| rest.starts_with(long));
        let len = picture.map_or(1, |(_, long)| long.len());
        match picture {
            Some((one, _)) => shown.push(*one),
            None if first == b'"' || first == b'\\' => shown.extend(['\\', char::from(first)]),
            None if first == b' ' || first.is_ascii_graphic() => shown.push(char::from(first)),
            None => shown.push_str(&format!("\"<{first:02x}>\"")),
        }
        rest = &rest[len..];
    }
    shown.push('"');
    if bytes.len() > SHOWN_BYTES_MAX {
        shown.push_str(&format!(" ... {} bytes in all", bytes.len()));
    }
    shown
}

/// Where `+` and `-` go: to the response before them.
fn demands(items: &mut [Expected]) -> Result<&mut Vec<Demand>, String> {
    match items.last_mut() {
        Some(
            Expected::Answer { demands, .. }
            | Expected::Switch { demands, .. }
            | Expected::Tunnel { demands, .. },
        ) => Ok(demands),
        _ => Err("a demand stands behind no response".into()),
    }
}

fn demand(bytes: &[u8], wanted: bool) -> Result<Demand, String> {
    let text = String::from_utf8_lossy(bytes).into_owned();
    let split = |mark: char| {
        text.split_once(mark).map(|(name, what)| (name.trim().into(), what.trim().into()))
    };
    Ok(match (split('∋'), split(':'), wanted) {
        (Some((name, member)), _, true) => Demand::Lists(name, member),
        (Some((name, member)), _, false) => Demand::ListsNot(name, member),
        (None, Some((name, value)), true) => Demand::Is(name, value),
        (None, Some((name, value)), false) => Demand::IsNot(name, value),
        (None, None, _) if text.is_empty() => return Err("an empty demand".into()),
        (None, None, true) => Demand::Has(text),
        (None, None, false) => Demand::Lacks(text),
    })
}

/// A cursor over one line of notation.
struct Reader<'a> {
    rest: &'a str,
}

impl<'a> Reader<'a> {
    fn at_end(&mut self) -> bool {
        self.rest = self.rest.trim_start();
        self.rest.is_empty()
    }

    fn takes(&mut self, word: &str) -> bool {
        let Some(rest) = self.rest.trim_start().strip_prefix(word) else {
            return false;
        };
        self.rest = rest;
        true
    }

    fn until(&mut self, mark: char) -> Result<&'a str, String> {
        let (text, rest) =
            self.rest.split_once(mark).ok_or_else(|| format!("no {mark} in {:?}", self.rest))?;
        self.rest = rest;
        Ok(text)
    }

    fn number(&mut self) -> Result<u64, String> {
        let end = self.rest.find(|one: char| !one.is_ascii_digit()).unwrap_or(self.rest.len());
        let (digits, rest) = self.rest.split_at(end);
        self.rest = rest;
        digits.parse().map_err(|_| format!("no number before {rest:?}"))
    }

    /// One item that stands for bytes, with its repetition.
    fn bytes(&mut self) -> Result<Vec<u8>, String> {
        let once = self.bytes_once()?;
        if !self.takes("×") {
            return Ok(once);
        }
        self.rest = self.rest.trim_start();
        let times = usize::try_from(self.number()?).map_err(|_| "too many repetitions")?;
        Ok(once.repeat(times))
    }

    fn bytes_once(&mut self) -> Result<Vec<u8>, String> {
        for (picture, bytes) in PICTURES {
            if self.takes(picture.encode_utf8(&mut [0; 4])) {
                return Ok(bytes.to_vec());
            }
        }
        for (name, text) in [("CU", CONNECTION_UPGRADE), ("UE", UPGRADE_ECHO), ("WS", WEBSOCKET)] {
            if self.takes(name) {
                return Ok(text.into());
            }
        }
        if self.takes("\"") {
            self.quoted()
        } else if self.takes("<") {
            hex(self.until('>')?)
        } else if self.takes("G(") {
            let path = self.until(')')?;
            Ok(format!("GET {path} HTTP/1.1\r\nHost: a\r\n").into())
        } else if self.takes("P(") {
            let (path, length) =
                self.until(')')?.split_once(',').ok_or("P wants a path and a length")?;
            Ok(format!("POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n").into())
        } else if self.takes("(") {
            self.group()
        } else {
            Err(format!("cannot read {:?}", self.rest))
        }
    }

    fn group(&mut self) -> Result<Vec<u8>, String> {
        let mut bytes = Vec::new();
        while !self.takes(")") {
            bytes.extend(self.bytes()?);
        }
        Ok(bytes)
    }

    /// The rest of a text behind its opening quotation mark.
    fn quoted(&mut self) -> Result<Vec<u8>, String> {
        let mut bytes = Vec::new();
        let mut characters = self.rest.chars();
        loop {
            let one = match characters.next().ok_or("a text without end")? {
                '"' => break,
                '\\' => characters.next().ok_or("a text without end")?,
                one => one,
            };
            match PICTURES.iter().find(|(picture, _)| *picture == one) {
                Some((_, long)) => bytes.extend_from_slice(long),
                None => bytes.extend_from_slice(one.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
        self.rest = characters.as_str();
        Ok(bytes)
    }

    /// A response; true when it closes the connection.
    fn answer(&mut self) -> Result<(Expected, bool), String> {
        let status = u16::try_from(self.number()?).map_err(|_| "no such status")?;
        let within = if self.rest.starts_with('(') {
            self.rest = &self.rest[1..];
            Some(self.until(')')?)
        } else {
            None
        };
        if self.takes("tunnel") {
            return Ok((Expected::Tunnel { status, demands: Vec::new() }, false));
        }
        let closes = self.takes("!");
        let head_only = self.takes("head");
        let demands = Vec::new();
        if status == 101 {
            let token = within.ok_or("101 wants its token")?.into();
            return Ok((Expected::Switch { token, demands }, closes));
        }
        let body = within.map(|text| text.as_bytes().to_vec());
        Ok((Expected::Answer { status, body, head_only, closes, demands }, closes))
    }
}

fn hex(text: &str) -> Result<Vec<u8>, String> {
    let digits: Vec<char> = text.chars().filter(|one| *one != ' ').collect();
    if !digits.len().is_multiple_of(2) {
        return Err(format!("half an octet in <{text}>"));
    }
    digits
        .chunks(2)
        .map(|pair| {
            u8::from_str_radix(&String::from_iter(pair), 16)
                .map_err(|_| format!("no hex: <{text}>"))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(text: &str) -> Vec<u8> {
        match input(text).expect(text).as_slice() {
            [Step::Send(bytes)] => bytes.clone(),
            steps => panic!("{text} is not one write: {steps:?}"),
        }
    }

    #[test]
    fn items_side_by_side_are_one_write() {
        assert_eq!(
            sent("G(/e) CU UE ⏎ \"ping\""),
            b"GET /e HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\nping"
        );
        assert_eq!(
            sent("P(/e,4, 4)⏎"),
            b"POST /e HTTP/1.1\r\nHost: a\r\nContent-Length: 4, 4\r\n\r\n"
        );
    }

    #[test]
    fn pictures_stand_for_bytes_inside_and_outside_of_texts() {
        assert_eq!(
            sent(r#""a␍b\"\\"␊␀␉␋<17 03 ff>"é""#),
            b"a\rb\"\\\n\0\t\x0b\x17\x03\xff\xc3\xa9"
        );
    }

    #[test]
    fn repetition_binds_to_one_item_or_a_group() {
        assert_eq!(sent(r#""Upgrade: "("foo, "×3)"echo""#), b"Upgrade: foo, foo, foo, echo");
        assert_eq!(sent(r#"("a" ("b"×2))×2 ⏎×2"#), b"abbabb\r\n\r\n");
    }

    #[test]
    fn waits_and_the_half_close_part_the_writes() {
        let steps = input("\"a\" ~50 \"b\" FIN").expect("an input");
        let expected =
            [Step::Send(b"a".into()), Step::WaitMs(50), Step::Send(b"b".into()), Step::Finish];
        assert_eq!(steps, expected);
    }

    #[test]
    fn outputs_read_as_the_page_writes_them() {
        let output = output("100 200(ok)! + \"Upgrade: a, b\" - \"Connection ∋ x\" + \"Allow\"")
            .expect("an output");
        let [_, Expected::Answer { status: 200, body: Some(body), closes: true, demands, .. }] =
            output.items.as_slice()
        else {
            panic!("{output:?}");
        };
        assert_eq!(body, b"ok");
        assert_eq!(
            *demands,
            [
                Demand::Is("Upgrade".into(), "a, b".into()),
                Demand::ListsNot("Connection".into(), "x".into()),
                Demand::Has("Allow".into())
            ]
        );
        assert_eq!(output.ending, Ending::Finished);
    }

    #[test]
    fn endings_follow_what_was_said_last() {
        for (text, ending) in [
            ("200(ok)", Ending::Open),
            ("nothing", Ending::Open),
            ("400!", Ending::Finished),
            ("431! RST", Ending::Reset),
            ("FIN", Ending::Finished),
            ("101(echo)\"B=;x\" FIN", Ending::Finished),
        ] {
            assert_eq!(output(text).expect(text).ending, ending, "{text}");
        }
    }

    #[test]
    fn mistakes_are_refused() {
        for text in ["\"a", "<1>", "<zz>", "X", "~", "P(/)", "(\"a\"", "\"a\"×"] {
            assert!(input(text).is_err(), "{text}");
        }
        for text in ["101", "+ \"A\"", "200(ok", "\"a\" - \"B\"", "hello"] {
            assert!(output(text).is_err(), "{text}");
        }
    }

    #[test]
    fn shows_bytes_in_the_same_notation() {
        assert_eq!(show(b"a\r\n\"\n\xff"), "\"a⏎\\\"␊\"<ff>\"\"");
        assert!(show(&[b'x'; 1000]).ends_with("... 1000 bytes in all"));
    }
}
