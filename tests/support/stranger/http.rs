//! One request after the other: read as strictly as a standard demands, and answered.

use super::{Quirk, Shared, Stop, Wire, websocket};

/// Bytes of a line, unless there is no bound.
const LINE_BYTES_MAX: usize = 16 * 1024;

/// Fields of a head, unless there is no bound.
const FIELDS_MAX: usize = 200;

const METHODS: [&str; 4] = ["GET", "HEAD", "POST", "CONNECT"];

/// What a request is.
pub(super) struct Request {
    pub(super) method: String,
    target: String,
    pub(super) is_old: bool,
    pub(super) fields: Vec<(String, String)>,
    content: Vec<u8>,
}

impl Request {
    pub(super) fn values(&self, name: &str) -> Vec<&str> {
        self.fields.iter().filter(|(at, _)| at == name).map(|(_, value)| &**value).collect()
    }

    pub(super) fn lists(&self, name: &str, member: &str) -> bool {
        let values = self.values(name);
        let mut members = values.iter().flat_map(|value| value.split(','));
        members.any(|at| at.trim().eq_ignore_ascii_case(member))
    }

    fn closes(&self) -> bool {
        let is_kept = self.lists("connection", "keep-alive");
        self.lists("connection", "close") || (self.is_old && !is_kept)
    }

    /// Without scheme and authority.
    fn path(&self) -> &str {
        match self.target.strip_prefix("http://") {
            Some(rest) => rest.find('/').map_or("/", |at| &rest[at..]),
            None => &self.target,
        }
    }
}

/// Reads one request and answers it; whether the connection goes on.
pub(super) fn exchange(wire: &mut Wire, shared: &Shared) -> Result<bool, Stop> {
    let request = read(wire, shared)?;
    if shared.is(Quirk::Reorders) && request.target == "/" && !wire.buffer.is_empty() {
        let next = read(wire, shared)?;
        answer(wire, shared, &next, 404, "", "not found")?;
        return answer(wire, shared, &request, 200, "", "late");
    }
    if request.method == "CONNECT" {
        return connect(wire, shared, &request);
    }
    if shared.has_lost_its_backend.load(std::sync::atomic::Ordering::SeqCst) {
        return answer(wire, shared, &request, 503, "", "no backend");
    }
    let is_offer = request.lists("connection", "upgrade") && !request.is_old;
    let is_offer = is_offer || (shared.is(Quirk::SwitchesOld) && request.is_old);
    if is_offer && shared.is(Quirk::Tls2817) && request.lists("upgrade", "TLS/1.2") {
        wire.send(b"HTTP/1.1 101 S\r\nUpgrade: TLS/1.2, HTTP/1.1\r\nConnection: Upgrade\r\n\r\n")?;
        return Ok(false);
    }
    if request.path() == "/ws" {
        if is_offer && request.lists("upgrade", "websocket") {
            return websocket::open(wire, shared, &request);
        }
        let fields = match shared.is(Quirk::BareUpgradeRequired) {
            true => "",
            false => "Upgrade: websocket\r\nConnection: Upgrade\r\n",
        };
        return answer(wire, shared, &request, 426, fields, "a websocket");
    }
    if is_offer && shared.is(Quirk::RefusesTokens) && !request.values("upgrade").is_empty() {
        return answer(wire, shared, &request, 400, "Connection: close\r\n", "no such token");
    }
    match (request.path(), &*request.method) {
        (_, method) if !METHODS.contains(&method) && method == method.to_lowercase() => {
            answer(wire, shared, &request, 501, "", "no such method")
        }
        ("/" | "/content", "POST") if request.path() == "/" && shared.is(Quirk::NoContent) => {
            let fields = "Allow: GET, HEAD\r\nConnection: close\r\n";
            answer(wire, shared, &request, 405, fields, "not allowed")
        }
        ("/" | "/content", "GET" | "HEAD" | "POST") => {
            let text = match shared.is(Quirk::LargePage) {
                true => "x".repeat(6_000_000),
                false => format!("{} bytes", request.content.len()),
            };
            answer(wire, shared, &request, 200, "", &text)
        }
        ("/" | "/content", "DELETE" | "PUT") => {
            let allow = if shared.is(Quirk::NoAllow) { "" } else { "Allow: GET, HEAD, POST\r\n" };
            answer(wire, shared, &request, 405, allow, "not allowed")
        }
        (_, "GET" | "HEAD" | "POST" | "DELETE" | "PUT") => {
            answer(wire, shared, &request, 404, "", "not found")
        }
        _ => answer(wire, shared, &request, 501, "", "no such method"),
    }
}

/// Answers a faulty request; whether the connection goes on.
pub(super) fn refuse(wire: &mut Wire, shared: &Shared, status: u16) -> bool {
    if shared.is(Quirk::DiesOfFaults) {
        shared.die();
        return false;
    }
    if shared.is(Quirk::LosesItsBackend) {
        shared.has_lost_its_backend.store(true, std::sync::atomic::Ordering::SeqCst);
    }
    if shared.is(Quirk::Silent) {
        return false;
    }
    let status = if shared.is(Quirk::FiveHundred) { 500 } else { status };
    let is_stubborn = shared.is(Quirk::Stubborn);
    let close = if is_stubborn { "" } else { "Connection: close\r\n" };
    let text = format!("HTTP/1.1 {status} Bad\r\nContent-Length: 0\r\n{close}\r\n");
    wire.send(text.as_bytes()).is_ok() && is_stubborn
}

/// Answers; whether the connection goes on.
pub(super) fn answer(
    wire: &mut Wire,
    shared: &Shared,
    request: &Request,
    status: u16,
    fields: &str,
    text: &str,
) -> Result<bool, Stop> {
    let is_last = request.closes()
        || fields.contains("Connection: close")
        || shared.is(Quirk::ClosesAlways)
        || shared.is(Quirk::Old);
    let is_last = is_last && !shared.is(Quirk::GoesOn);
    let version = if shared.is(Quirk::Old) { "1.0" } else { "1.1" };
    let more = if shared.is(Quirk::ManyFields) { "X: y\r\n".repeat(150) } else { String::new() };
    let close = match is_last && !fields.contains("Connection") {
        true => "Connection: close\r\n",
        false => "",
    };
    let length = text.len();
    let head = format!(
        "HTTP/{version} {status} S\r\nContent-Length: {length}\r\n{close}{fields}{more}\r\n"
    );
    wire.send(head.as_bytes())?;
    if request.method != "HEAD" || shared.is(Quirk::HeadContent) {
        wire.send(text.as_bytes())?;
    }
    Ok(!is_last)
}

fn connect(wire: &mut Wire, shared: &Shared, request: &Request) -> Result<bool, Stop> {
    let port = request.target.rsplit_once(':').map(|(_, port)| port.parse::<u16>());
    let is_port = matches!(port, Some(Ok(1..))) || shared.is(Quirk::AnyPort);
    let is_proxy = [Quirk::Proxy, Quirk::CarelessProxy, Quirk::AnyPort].map(|at| shared.is(at));
    match (is_proxy.contains(&true), is_port) {
        (true, true) => {
            wire.send(b"HTTP/1.1 200 Connected\r\n\r\n")?;
            Ok(false)
        }
        (true, false) if shared.is(Quirk::CarelessProxy) => {
            answer(wire, shared, request, 400, "", "no such port")
        }
        _ => answer(wire, shared, request, 501, "Connection: close\r\n", "no proxy"),
    }
}

fn read(wire: &mut Wire, shared: &Shared) -> Result<Request, Stop> {
    let bound = if shared.is(Quirk::Boundless) { usize::MAX } else { LINE_BYTES_MAX };
    let mut line = wire.line(bound, 414)?;
    while line.is_empty() {
        line = wire.line(bound, 414)?;
    }
    let line = String::from_utf8(line).map_err(|_| Stop::Refused(400))?;
    let words: Vec<&str> = line.split(' ').collect();
    let [method, target, version] = words[..] else { return Err(Stop::Refused(400)) };
    let is_old = match version {
        "HTTP/1.0" => true,
        "HTTP/2.0" => return Err(Stop::Refused(505)),
        _ if version.len() == 8 && version.starts_with("HTTP/1.") => false,
        _ => return Err(Stop::Refused(400)),
    };
    let fields = read_fields(wire, shared, bound)?;
    let mut request =
        Request { method: method.into(), target: target.into(), is_old, fields, content: vec![] };
    check(&request, shared)?;
    request.content = content(wire, shared, &request)?;
    Ok(request)
}

fn is_token(text: &[u8]) -> bool {
    let is_one = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    !text.is_empty() && text.iter().all(is_one)
}

fn read_fields(
    wire: &mut Wire,
    shared: &Shared,
    bound: usize,
) -> Result<Vec<(String, String)>, Stop> {
    let mut fields = Vec::new();
    loop {
        let whole = wire.line(bound, 431)?;
        if whole.is_empty() {
            return Ok(fields);
        }
        let ends: &[u8] = match (shared.is(Quirk::CrEndsFields), shared.is(Quirk::TakesLf)) {
            (true, _) => b"\r",
            (_, true) => b"\n",
            _ => b"",
        };
        for line in whole.split(|byte| ends.contains(byte)) {
            if line.is_empty() {
                return Ok(fields);
            }
            fields.extend(read_field(line, shared, fields.is_empty())?);
        }
        if fields.len() > FIELDS_MAX && bound != usize::MAX {
            return Err(Stop::Refused(431));
        }
    }
}

fn read_field(
    mut line: &[u8],
    shared: &Shared,
    is_first: bool,
) -> Result<Option<(String, String)>, Stop> {
    let is_indented = matches!(line, [b' ' | b'\t', ..]);
    let quirk = if is_first { Quirk::LeadingSpace } else { Quirk::FoldsAreFields };
    match is_indented {
        true if shared.is(quirk) => line = line.trim_ascii_start(),
        true => return Err(Stop::Refused(400)),
        false => {}
    }
    let is_control = |byte: &u8| (*byte < b' ' && *byte != b'\t') || *byte == 0x7f;
    let colon = line.iter().position(|byte| *byte == b':');
    let Some(colon) = colon.filter(|_| !line.iter().any(is_control)) else {
        return Err(Stop::Refused(400));
    };
    let (mut name, value) = (&line[..colon], &line[colon + 1..]);
    if shared.is(Quirk::SpaceBeforeColon) {
        name = name.trim_ascii_end();
    }
    if !is_token(name) {
        let ends_in_space = matches!(name, [.., b' ' | b'\t']);
        let is_skipped = shared.is(Quirk::SkipsBadNames) && !ends_in_space;
        return if is_skipped { Ok(None) } else { Err(Stop::Refused(400)) };
    }
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes.trim_ascii()).into_owned();
    Ok(Some((text(name).to_ascii_lowercase(), text(value))))
}

/// Host and target (RFC 9112 §3.2).
fn check(request: &Request, shared: &Shared) -> Result<(), Stop> {
    let hosts = request.values("host");
    let bad_host = if shared.is(Quirk::Host404) { 404 } else { 400 };
    if (hosts.len() != 1 && !request.is_old) || hosts.len() > 1 {
        return Err(Stop::Refused(400));
    }
    if !hosts.iter().all(|host| is_host(host)) {
        return Err(Stop::Refused(bad_host));
    }
    let is_path = request.path().starts_with('/') && !request.path().contains(['#', '\\']);
    let is_fine = match &*request.method {
        "CONNECT" => !request.target.starts_with('/'),
        "OPTIONS" => is_path || request.target == "*",
        _ => is_path,
    };
    (is_fine && request.target.is_ascii() && is_token(request.method.as_bytes()))
        .then_some(())
        .ok_or(Stop::Refused(400))
}

fn is_host(host: &str) -> bool {
    let (name, port) = host.split_once(':').unwrap_or((host, ""));
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b".-".contains(&byte);
    name.bytes().all(is_name) && port.bytes().all(|byte| byte.is_ascii_digit())
}

/// RFC 9112 §6.3.
fn content(wire: &mut Wire, shared: &Shared, request: &Request) -> Result<Vec<u8>, Stop> {
    let codings = request.values("transfer-encoding");
    let mut lengths = request.values("content-length");
    if shared.is(Quirk::EqualLengths) {
        lengths = lengths.iter().flat_map(|value| value.split(", ")).collect();
        lengths.dedup();
    }
    let is_both = !codings.is_empty() && !lengths.is_empty();
    let takes_both = [Quirk::BothFramings, Quirk::CodingWins, Quirk::LengthWins];
    let is_taken = takes_both.iter().any(|quirk| shared.is(*quirk));
    if (is_both && !is_taken) || (!codings.is_empty() && request.is_old) {
        return Err(Stop::Refused(400));
    }
    if request.method == "GET" && shared.is(Quirk::LeavesContent) {
        return Ok(Vec::new());
    }
    let is_empty = codings.is_empty() && lengths.is_empty();
    let is_expected = request.lists("expect", "100-continue");
    let is_expected = is_expected && (!request.is_old || shared.is(Quirk::OldContinue));
    if is_expected && shared.is(Quirk::Immediate) && !is_empty {
        // Nothing of the content will be read.
        wire.send(b"HTTP/1.1 200 S\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")?;
        return Err(Stop::Ended);
    }
    if is_expected && !shared.is(Quirk::LateContinue) {
        wire.send(b"HTTP/1.1 100 Continue\r\n\r\n")?;
    }
    let content = match (&codings[..], &lengths[..]) {
        ([], []) => Vec::new(),
        ([], [length]) => counted(wire, shared, length)?,
        ([_], [length]) if shared.is(Quirk::LengthWins) => counted(wire, shared, length)?,
        (["chunked"], _) if shared.is(Quirk::NoChunks) => return Err(Stop::Refused(411)),
        (["chunked"], _) => chunks(wire, shared)?,
        _ => return Err(Stop::Refused(400)),
    };
    if is_expected && shared.is(Quirk::LateContinue) {
        wire.send(b"HTTP/1.1 100 Continue\r\n\r\n")?;
    }
    if is_both && shared.is(Quirk::CodingWins) {
        wire.send(b"HTTP/1.1 200 S\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")?;
        return Err(Stop::Ended);
    }
    Ok(content)
}

fn number(text: &str, radix: u32, shared: &Shared) -> Result<usize, Stop> {
    if text.is_empty() || !text.chars().all(|digit| digit.is_digit(radix)) {
        return Err(Stop::Refused(400));
    }
    let fold = |number: u64, digit: char| {
        let digit = u64::from(digit.to_digit(radix).unwrap_or(0));
        match shared.is(Quirk::Overflows) {
            true => Some(number.wrapping_mul(u64::from(radix)).wrapping_add(digit)),
            false => number.checked_mul(u64::from(radix))?.checked_add(digit),
        }
    };
    let number = text.chars().try_fold(0, fold).ok_or(Stop::Refused(400))?;
    usize::try_from(number).map_err(|_| Stop::Refused(400))
}

fn counted(wire: &mut Wire, shared: &Shared, length: &str) -> Result<Vec<u8>, Stop> {
    let length = number(length, 10, shared)?;
    while wire.buffer.len() < length {
        match wire.fill() {
            Err(Stop::Ended) if shared.is(Quirk::TakesHalf) => break,
            filled => filled?,
        }
    }
    let length = length.min(wire.buffer.len());
    wire.take(length)
}

fn chunks(wire: &mut Wire, shared: &Shared) -> Result<Vec<u8>, Stop> {
    let mut content = Vec::new();
    loop {
        let line = String::from_utf8(wire.line(LINE_BYTES_MAX, 400)?);
        let line = line.map_err(|_| Stop::Refused(400))?;
        if line.contains(['\n', '\r']) || line.len() > 4096 {
            return Err(Stop::Refused(400));
        }
        let size = line.split(';').next().unwrap_or_default();
        let size = number(size, 16, shared)?;
        if size == 0 {
            while !wire.line(LINE_BYTES_MAX, 431)?.is_empty() {}
            return Ok(content);
        }
        content.extend(wire.take(size)?);
        if wire.take(2)? != b"\r\n" {
            return Err(Stop::Refused(400));
        }
    }
}
