//! A strict reader of responses. Anything a careful client could stumble over is a fault of the
//! server, so nothing is forgiven here: no lone LF, no folded line, no doubtful framing. `verdict`
//! calls it.

/// One response, interim or final.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    /// Names as sent, values without surrounding white space, in order.
    pub fields: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Answer {
    /// Reads the response at the start of `bytes` and its length. `Ok(None)`: more bytes are
    /// needed. `head_only` says that it answers HEAD, `ended` that no byte will follow.
    pub fn read(
        bytes: &[u8],
        head_only: bool,
        ended: bool,
    ) -> Result<Option<(Self, usize)>, String> {
        const START: &[u8] = b"HTTP/1.1 ";
        let start = &bytes[..bytes.len().min(START.len())];
        if !START.starts_with(start) {
            return Err("no response starts here".into());
        }
        let Some(head_len) = find(bytes, b"\r\n\r\n").map(|at| at + 4) else {
            return Ok(None);
        };
        let mut answer = read_head(&bytes[..head_len - 4])?;
        let rest = &bytes[head_len..];
        let Some((body, body_len)) = answer.read_body(rest, head_only, ended)? else {
            return Ok(None);
        };
        answer.body = body;
        Ok(Some((answer, head_len + body_len)))
    }

    /// Members of the list field `name` over all its lines, empty members left out (RFC 9110
    /// §5.6.1).
    pub fn list(&self, name: &str) -> Vec<&str> {
        self.values(name)
            .flat_map(|value| value.split(','))
            .map(|member| member.trim_matches([' ', '\t']))
            .filter(|member| !member.is_empty())
            .collect()
    }

    pub fn has(&self, name: &str) -> bool {
        self.values(name).next().is_some()
    }

    pub fn lists(&self, name: &str, member: &str) -> bool {
        self.list(name).iter().any(|one| one.eq_ignore_ascii_case(member))
    }

    fn values(&self, name: &str) -> impl Iterator<Item = &str> {
        self.fields
            .iter()
            .filter(move |(one, _)| one.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    /// RFC 9112 §6.3, as a client reads it.
    fn read_body(
        &self,
        rest: &[u8],
        head_only: bool,
        ended: bool,
    ) -> Result<Option<(Vec<u8>, usize)>, String> {
        let lengths: Vec<&str> = self.values("Content-Length").collect();
        let codings = self.list("Transfer-Encoding");
        let unframed = self.status < 200 || self.status == 204;
        if unframed && (self.has("Content-Length") || self.has("Transfer-Encoding")) {
            return Err(format!("{} carries a framing field", self.status)); // RFC 9112 §6.1, RFC 9110 §8.6
        }
        if self.has("Transfer-Encoding") && self.has("Content-Length") {
            return Err("Content-Length beside Transfer-Encoding".into());
        }
        if unframed || head_only || self.status == 304 {
            return Ok(Some((Vec::new(), 0)));
        }
        match (codings.as_slice(), lengths.as_slice()) {
            ([], [length]) => read_counted(rest, length),
            ([coding], []) if coding.eq_ignore_ascii_case("chunked") => read_chunked(rest),
            ([], []) if self.lists("Connection", "close") => {
                Ok(ended.then(|| (rest.to_vec(), rest.len())))
            }
            _ => {
                Err(format!("framing by Content-Length {lengths:?}, Transfer-Encoding {codings:?}"))
            }
        }
    }
}

fn read_head(head: &[u8]) -> Result<Answer, String> {
    let text: String = head.iter().map(|&byte| char::from(byte)).collect();
    if text.replace("\r\n", "").chars().any(|one| one.is_ascii_control() && one != '\t') {
        return Err("a control octet in the head".into());
    }
    let mut lines = text.split("\r\n");
    let status = read_status(lines.next().unwrap_or_default())?;
    let fields = lines.map(read_field).collect::<Result<_, _>>()?;
    Ok(Answer { status, fields, body: Vec::new() })
}

/// `HTTP/1.1 SP 3DIGIT SP [reason]`: the second space is there even without a reason (RFC 9112 §4).
fn read_status(line: &str) -> Result<u16, String> {
    let fault = || format!("status line {line:?}");
    let rest = line.strip_prefix("HTTP/1.1 ").ok_or_else(fault)?;
    let (digits, _reason) = rest.split_once(' ').ok_or_else(fault)?;
    if digits.len() != 3 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(fault());
    }
    digits.parse().map_err(|_| fault())
}

fn read_field(line: &str) -> Result<(String, String), String> {
    let fault = || format!("field line {line:?}");
    let (name, value) = line.split_once(':').ok_or_else(fault)?;
    let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if name.is_empty() || !name.bytes().all(token) {
        return Err(fault());
    }
    Ok((name.into(), value.trim_matches([' ', '\t']).into()))
}

fn read_counted(rest: &[u8], length: &str) -> Result<Option<(Vec<u8>, usize)>, String> {
    if length.is_empty() || !length.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(format!("Content-Length {length:?}"));
    }
    let length: usize = length.parse().map_err(|_| format!("Content-Length {length:?}"))?;
    Ok(rest.get(..length).map(|body| (body.to_vec(), length)))
}

/// RFC 9112 §7.1, without extensions or trailer fields: this server has no reason to send them.
fn read_chunked(rest: &[u8]) -> Result<Option<(Vec<u8>, usize)>, String> {
    let (mut body, mut at) = (Vec::new(), 0);
    loop {
        let Some(line_len) = find(&rest[at..], b"\r\n") else {
            return Ok(None);
        };
        let digits = String::from_utf8_lossy(&rest[at..at + line_len]).into_owned();
        if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(format!("chunk size {digits:?}"));
        }
        let size =
            usize::from_str_radix(&digits, 16).map_err(|_| format!("chunk size {digits:?}"))?;
        at += line_len + 2;
        let Some(data) = at.checked_add(size).and_then(|end| rest.get(at..end)) else {
            return Ok(None);
        };
        let after = &rest[at + size..];
        match after.get(..2) {
            None => return Ok(None),
            Some(b"\r\n") => at += size + 2,
            Some(_) => return Err("chunk data is not followed by CR LF".into()),
        }
        if size == 0 {
            return Ok(Some((body, at)));
        }
        body.extend_from_slice(data);
    }
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}

#[cfg(test)]
mod tests {
    use super::Answer;

    fn whole(text: &str) -> (Answer, usize) {
        Answer::read(text.as_bytes(), false, false).expect("no fault").expect("a whole response")
    }

    #[test]
    fn reads_a_counted_response_and_leaves_the_next() {
        let (answer, len) = whole("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 ");
        assert_eq!((answer.status, answer.body.as_slice()), (200, b"ok".as_slice()));
        assert_eq!(len, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok".len());
    }

    #[test]
    fn reads_chunks() {
        let (answer, _) =
            whole("HTTP/1.1 200 \r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n");
        assert_eq!(answer.body, b"ok");
    }

    #[test]
    fn an_interim_response_ends_with_its_head() {
        let (answer, len) = whole("HTTP/1.1 100 Continue\r\n\r\nHTTP");
        assert_eq!((answer.status, len), (100, 25));
    }

    #[test]
    fn every_shorter_piece_is_partial() {
        let text = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n";
        for len in 0..text.len() {
            assert_eq!(Answer::read(&text[..len], false, false), Ok(None), "{len} bytes");
        }
    }

    #[test]
    fn a_response_without_length_ends_with_the_connection() {
        let text = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nok";
        assert_eq!(Answer::read(text, false, false), Ok(None));
        let (answer, _) = Answer::read(text, false, true).expect("no fault").expect("whole");
        assert_eq!(answer.body, b"ok");
    }

    #[test]
    fn an_answer_to_head_has_no_body() {
        let text = b"HTTP/1.1 426 Upgrade Required\r\nContent-Length: 9\r\n\r\n";
        let read = Answer::read(text, true, false).expect("no fault");
        assert_eq!(read.map(|(_, len)| len), Some(text.len()));
    }

    #[test]
    fn refuses_what_a_client_could_misread() {
        for text in [
            "HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n",
            "HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n",
            "HTTP/1.1 20 OK\r\nContent-Length: 0\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length : 0\r\n\r\n",
            "HTTP/1.1 200 OK\r\nA: b\nContent-Length: 0\r\n\r\n",
            "HTTP/1.1 200 OK\r\nA: b\r\n c\r\nContent-Length: 0\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nContent-Length: 0\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0x2\r\n",
            "HTTP/1.1 200 OK\r\n\r\n",
            "HTTP/1.1 101 Switching Protocols\r\nContent-Length: 0\r\n\r\n",
            "B=;",
        ] {
            assert!(Answer::read(text.as_bytes(), false, false).is_err(), "{text:?}");
        }
    }
}
