//! The chunked coding as a small state machine (RFC 9112 §7.1): it says which bytes are data and
//! never touches them.
//!
//! The session feeds it whatever arrived and passes the data ranges on, so content is not copied
//! here. Extensions are checked, counted and ignored; trailer lines are checked, counted and pointed out:
//! nothing of either reaches the head (U-11, U-56).
//!
//! ```text
//!   5 ; ext CR LF hello CR LF 0 CR LF name : value CR LF CR LF       (the input in one piece)
//!   └─ Data{consumed:7, len:5} ┘ └ Trailer{5, 12} ─────┘ └ Done{2}
//! ```

use std::fmt;

use super::list::{is_token_byte, is_value_byte};
use super::status::Status;

/// Bounds on the framing of one chunked content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChunkLimits {
    /// Bytes of chunk extensions, over all chunks; more are answered with 400.
    pub extension_bytes_max: u16,
    /// Bytes of the trailer section with its line ends, without the empty line behind it; more are
    /// answered with 431.
    pub trailer_bytes_max: u16,
}

impl Default for ChunkLimits {
    fn default() -> Self {
        Self { extension_bytes_max: 4096, trailer_bytes_max: 8192 }
    }
}

/// Digits of one chunk size, leading zeros included: without a bound a client could send zeros for
/// ever.
pub const SIZE_DIGITS_MAX: u8 = 32;

/// Where in the coding the next byte stands. 16 bytes, no buffer.
///
/// Any cut of the input gives the same data and the same error. After an error the value must not
/// be used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chunked {
    /// The size being read, then the data bytes still to come.
    remaining: u64,
    extension_bytes_left: u16,
    trailer_bytes_left: u16,
    size_digits: u8,
    state: State,
}

/// What [`Chunked::step`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Data: `input[consumed..consumed + len]`, at least one byte. The next step takes the input
    /// behind it.
    Data {
        /// Bytes of framing before the data.
        consumed: usize,
        /// Bytes of data.
        len: usize,
    },
    /// Bytes of trailer lines, line ends included: `input[consumed..consumed + len]`. They are
    /// fields by their grammar; put together they are the trailer section.
    Trailer {
        /// Bytes of framing before them.
        consumed: usize,
        /// How many.
        len: usize,
    },
    /// All of the input was framing, and more is needed.
    More {
        /// The length of the input.
        consumed: usize,
    },
    /// The content is complete; what follows is not part of it.
    Done {
        /// Bytes of framing up to the end.
        consumed: usize,
    },
}

/// Why a chunked content cannot be read. The client is at fault, and the connection must be closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ChunkError {
    /// A chunk size that is empty or holds something but hex digits.
    SizeInvalid,
    /// A chunk size beyond 64 bits or [`SIZE_DIGITS_MAX`].
    SizeTooLarge,
    /// A CR without LF, or an LF without CR.
    LineEnd,
    /// Chunk data that is not followed by CR LF.
    DataEnd,
    /// An extension that is neither a name nor a name and a value.
    ExtensionInvalid,
    /// More extensions than [`ChunkLimits::extension_bytes_max`].
    ExtensionsTooLarge,
    /// A trailer line that is no field.
    TrailerInvalid,
    /// More trailers than [`ChunkLimits::trailer_bytes_max`].
    TrailersTooLarge,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Before the first digit of a size.
    SizeStart,
    Size,
    /// White space behind the size: only an extension may follow.
    SizeBlank,
    Extension(Extension),
    SizeLf,
    Data,
    DataCr,
    DataLf,
    /// At the start of a trailer line, or of the empty line that ends everything.
    LineStart,
    TrailerName,
    TrailerValue,
    TrailerLf,
    EndLf,
    Done,
}

/// Behind what part of an extension (RFC 9112 §7.1.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Extension {
    Semicolon,
    Name,
    NameBlank,
    Equals,
    Token,
    /// Inside a quoted string.
    Quote,
    Backslash,
    Quoted,
    ValueBlank,
}

impl Default for Chunked {
    fn default() -> Self {
        Self::new(&ChunkLimits::default())
    }
}

impl Chunked {
    /// Before the first byte of a content.
    pub const fn new(limits: &ChunkLimits) -> Self {
        Self {
            remaining: 0,
            extension_bytes_left: limits.extension_bytes_max,
            trailer_bytes_left: limits.trailer_bytes_max,
            size_digits: 0,
            state: State::SizeStart,
        }
    }

    /// Reads framing up to the next data, the end of the content or the end of the input.
    ///
    /// Data that is reported counts as taken: the caller calls again with the input behind it.
    ///
    /// # Errors
    /// If the input is not in the chunked coding or breaks a bound.
    pub fn step(&mut self, input: &[u8]) -> Result<Step, ChunkError> {
        let mut consumed = 0;
        loop {
            if self.state == State::Done {
                return Ok(Step::Done { consumed });
            }
            let rest = input.get(consumed..).unwrap_or_default();
            let Some(byte) = rest.first() else {
                return Ok(Step::More { consumed });
            };
            if self.state == State::Data {
                let len = self.take_data(rest.len());
                return Ok(Step::Data { consumed, len });
            }
            if self.is_in_trailer(*byte) {
                let len = self.take_trailer(rest)?;
                return Ok(Step::Trailer { consumed, len });
            }
            self.state = self.next(*byte)?;
            consumed += 1;
        }
    }

    /// Whether the end of the content was read.
    #[inline]
    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// Bytes of data that are still to come of the chunk whose size was read last.
    #[inline]
    pub fn announced(&self) -> u64 {
        if self.state == State::Data { self.remaining } else { 0 }
    }

    fn take_data(&mut self, available: usize) -> usize {
        let len = usize::try_from(self.remaining).map_or(available, |left| left.min(available));
        self.remaining -= len as u64;
        if self.remaining == 0 {
            self.state = State::DataCr;
        }
        len
    }

    /// Whether `byte` is the next one of a trailer line.
    fn is_in_trailer(&self, byte: u8) -> bool {
        match self.state {
            State::LineStart => byte != b'\r',
            State::TrailerName | State::TrailerValue | State::TrailerLf => true,
            _ => false,
        }
    }

    /// Takes trailer lines up to the empty line behind them or the end of the input.
    fn take_trailer(&mut self, input: &[u8]) -> Result<usize, ChunkError> {
        let mut len = 0;
        for byte in input {
            if !self.is_in_trailer(*byte) {
                break;
            }
            self.state = self.next(*byte)?;
            len += 1;
        }
        Ok(len)
    }

    /// The state behind one byte of framing.
    fn next(&mut self, byte: u8) -> Result<State, ChunkError> {
        match (self.state, byte) {
            (State::SizeStart, _) => {
                self.remaining = 0;
                self.size_digits = 0;
                self.digit(byte)
            }
            (State::Size, b'\r') => Ok(State::SizeLf),
            (State::Extension(part), b'\r') if part.may_end() => Ok(State::SizeLf),
            (State::Size | State::SizeBlank, b';') => {
                self.count_extension(State::Extension(Extension::Semicolon))
            }
            // RFC 9112 §7.1.1: BWS may stand before `;`. Without an extension behind it, it is no
            // part of a size (U-54).
            (State::Size | State::SizeBlank, b' ' | b'\t') => {
                self.count_extension(State::SizeBlank)
            }
            (State::Size, _) => self.digit(byte),
            (State::SizeBlank, _) => Err(ChunkError::SizeInvalid),
            (State::Extension(_), b'\n') => Err(ChunkError::LineEnd),
            (State::Extension(part), _) => match part.next(byte) {
                Some(part) => self.count_extension(State::Extension(part)),
                None => Err(ChunkError::ExtensionInvalid),
            },
            (State::SizeLf, b'\n') if self.remaining == 0 => Ok(State::LineStart),
            (State::SizeLf, b'\n') => Ok(State::Data),
            // RFC 9112 §7.1: chunk data is followed by CR LF (U-55).
            (State::DataCr, b'\r') => Ok(State::DataLf),
            (State::DataLf, b'\n') => Ok(State::SizeStart),
            (State::DataCr | State::DataLf, _) => Err(ChunkError::DataEnd),
            (State::LineStart, b'\r') => Ok(State::EndLf),
            (State::LineStart | State::TrailerName | State::TrailerValue, _) => self.trailer(byte),
            (State::TrailerLf, b'\n') => self.count_trailer(State::LineStart),
            (State::EndLf, b'\n') => Ok(State::Done),
            (State::SizeLf | State::TrailerLf | State::EndLf, _) => Err(ChunkError::LineEnd),
            // `step` handles both before it asks for the next state.
            (state @ (State::Data | State::Done), _) => Ok(state),
        }
    }

    /// RFC 9112 §7.1: chunk-size = 1*HEXDIG, to be read without overflow (U-54).
    fn digit(&mut self, byte: u8) -> Result<State, ChunkError> {
        let value = match byte {
            b'0'..=b'9' => byte - b'0',
            b'a'..=b'f' => byte - b'a' + 10,
            b'A'..=b'F' => byte - b'A' + 10,
            b'\n' if self.state == State::Size => return Err(ChunkError::LineEnd),
            _ => return Err(ChunkError::SizeInvalid),
        };
        if self.remaining > u64::MAX >> 4 || self.size_digits == SIZE_DIGITS_MAX {
            return Err(ChunkError::SizeTooLarge);
        }
        self.remaining = self.remaining << 4 | u64::from(value);
        self.size_digits += 1;
        Ok(State::Size)
    }

    /// Counts one byte of extension or of the white space before it. What it says is ignored
    /// (U-56).
    fn count_extension(&mut self, state: State) -> Result<State, ChunkError> {
        let left = self.extension_bytes_left.checked_sub(1);
        self.extension_bytes_left = left.ok_or(ChunkError::ExtensionsTooLarge)?;
        Ok(state)
    }

    /// Reads one byte of a trailer line by the same grammar as a field of the head: no white space
    /// before the colon, no folding, no controls.
    fn trailer(&mut self, byte: u8) -> Result<State, ChunkError> {
        let state = match (self.state, byte) {
            (State::TrailerName, b':') => State::TrailerValue,
            (State::LineStart | State::TrailerName, _) if is_token_byte(byte) => State::TrailerName,
            (State::TrailerValue, b'\r') => State::TrailerLf,
            (State::TrailerValue, _) if is_value_byte(byte) => State::TrailerValue,
            (_, b'\n') => return Err(ChunkError::LineEnd),
            _ => return Err(ChunkError::TrailerInvalid),
        };
        self.count_trailer(state)
    }

    fn count_trailer(&mut self, state: State) -> Result<State, ChunkError> {
        let left = self.trailer_bytes_left.checked_sub(1);
        self.trailer_bytes_left = left.ok_or(ChunkError::TrailersTooLarge)?;
        Ok(state)
    }
}

impl Extension {
    /// RFC 9112 §7.1.1: `*( BWS ";" BWS name [ BWS "=" BWS ( token / quoted-string ) ] )`.
    fn next(self, byte: u8) -> Option<Extension> {
        let part = match (self, byte) {
            // RFC 9110 §5.6.4: a quoted string holds everything but controls.
            (Extension::Quote, b'"') => Extension::Quoted,
            (Extension::Quote, b'\\') => Extension::Backslash,
            (Extension::Quote | Extension::Backslash, _) if is_value_byte(byte) => Extension::Quote,
            (Extension::Quote | Extension::Backslash, _) => return None,
            (Extension::Semicolon | Extension::Equals, b' ' | b'\t') => self,
            (Extension::Name | Extension::NameBlank, b' ' | b'\t') => Extension::NameBlank,
            (_, b' ' | b'\t') => Extension::ValueBlank,
            (Extension::Name | Extension::NameBlank, b'=') => Extension::Equals,
            (Extension::Equals, b'"') => Extension::Quote,
            (Extension::Semicolon | Extension::Equals, b';') => return None,
            (_, b';') => Extension::Semicolon,
            (Extension::Semicolon | Extension::Name, _) if is_token_byte(byte) => Extension::Name,
            (Extension::Equals | Extension::Token, _) if is_token_byte(byte) => Extension::Token,
            _ => return None,
        };
        Some(part)
    }

    /// Whether the line may end here.
    fn may_end(self) -> bool {
        matches!(self, Extension::Name | Extension::Token | Extension::Quoted)
    }
}

impl ChunkError {
    /// The status that answers the request, if it was not answered yet.
    pub const fn status(self) -> Status {
        match self {
            Self::TrailersTooLarge => Status::REQUEST_HEADER_FIELDS_TOO_LARGE,
            _ => Status::BAD_REQUEST,
        }
    }

    /// One sentence with the likely cause, fit to be sent to the client.
    pub const fn text(self) -> &'static str {
        match self {
            Self::SizeInvalid => "A chunk size is not a number in hex digits.",
            Self::SizeTooLarge => "A chunk size is too large.",
            Self::LineEnd => "A line of the chunked content does not end in CR LF.",
            Self::DataEnd => "Chunk data is not followed by CR LF; the chunk size may be wrong.",
            Self::ExtensionInvalid => "A chunk extension is not a name with or without a value.",
            Self::ExtensionsTooLarge => "The chunk extensions are larger than this server accepts.",
            Self::TrailerInvalid => "A trailer line is not a field.",
            Self::TrailersTooLarge => "The trailers are larger than this server accepts.",
        }
    }
}

impl fmt::Display for ChunkError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.text())
    }
}

impl std::error::Error for ChunkError {}

#[cfg(test)]
mod tests {
    use super::*;

    /// The data, the trailer section, whether the end was reached, and the bytes behind it; or the
    /// error.
    type Outcome = Result<(Vec<u8>, Vec<u8>, bool, Vec<u8>), ChunkError>;

    /// Feeds the pieces one after the other, the way a session does.
    fn fed<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> Outcome {
        let (mut chunked, mut data, mut behind) = (Chunked::default(), Vec::new(), Vec::new());
        let mut trailer = Vec::new();
        for piece in pieces {
            let mut rest = piece;
            while !rest.is_empty() {
                match chunked.step(rest)? {
                    Step::Data { consumed, len } => {
                        assert!(len > 0);
                        data.extend_from_slice(&rest[consumed..consumed + len]);
                        rest = &rest[consumed + len..];
                    }
                    Step::Trailer { consumed, len } => {
                        assert!(len > 0);
                        trailer.extend_from_slice(&rest[consumed..consumed + len]);
                        rest = &rest[consumed + len..];
                    }
                    Step::More { consumed } => {
                        assert_eq!(consumed, rest.len());
                        rest = &[];
                    }
                    Step::Done { consumed } => {
                        behind.extend_from_slice(&rest[consumed..]);
                        rest = &[];
                    }
                }
            }
        }
        Ok((data, trailer, chunked.is_done(), behind))
    }

    /// Feeds the input whole, byte by byte and cut at every offset, and checks that it makes no
    /// difference.
    fn outcome(input: &[u8]) -> Outcome {
        let whole = fed(std::iter::once(input));
        assert_eq!(fed(input.chunks(1)), whole, "{input:?} byte by byte");
        for cut in 0..=input.len() {
            let (first, second) = input.split_at(cut);
            assert_eq!(fed([first, second].into_iter()), whole, "{input:?} at {cut}");
        }
        whole
    }

    fn complete(data: &str, behind: &str) -> Outcome {
        with_trailer(data, "", behind)
    }

    fn with_trailer(data: &str, trailer: &str, behind: &str) -> Outcome {
        Ok((data.into(), trailer.into(), true, behind.into()))
    }

    #[test]
    fn a_decoder_takes_sixteen_bytes() {
        assert_eq!(size_of::<Chunked>(), 16);
    }

    #[test]
    fn the_same_data_comes_out_of_every_cut() {
        let input = b"4\r\nBODY\r\n0a;x=\"y z\"\r\n0123456789\r\n0\r\nX: y\r\nZ:\r\n\r\nping";
        assert_eq!(outcome(input), with_trailer("BODY0123456789", "X: y\r\nZ:\r\n", "ping"));
        assert_eq!(outcome(b"0\r\n\r\n"), complete("", ""));
        assert_eq!(outcome(b"000000002\r\nhi\r\n0\r\n\r\nx"), complete("hi", "x"));
    }

    #[test]
    fn a_whole_content_is_three_steps() {
        let input = b"5;ext\r\nhello\r\n0\r\nname:value\r\n\r\n";
        let mut chunked = Chunked::default();
        assert_eq!(chunked.step(input), Ok(Step::Data { consumed: 7, len: 5 }));
        assert_eq!(chunked.step(&input[12..]), Ok(Step::Trailer { consumed: 5, len: 12 }));
        assert_eq!(chunked.step(&input[29..]), Ok(Step::Done { consumed: 2 }));
        assert_eq!(chunked.step(b"GET"), Ok(Step::Done { consumed: 0 }));
    }

    #[test]
    fn an_unfinished_content_is_not_done() {
        let whole = b"2\r\nhi\r\n0\r\nX: y\r\n\r\n";
        for length in 0..whole.len() {
            let found = outcome(&whole[..length]).unwrap();
            assert!(!found.2, "{length}");
        }
    }

    #[test]
    fn u_54_a_size_is_hex_digits_without_overflow() {
        for size in ["-1", "+2", "0x2", "1_0", " 2", "2 ", "2\t", "", ";a", "g", "2 2", "\r"] {
            let input = format!("{size}\r\nhi\r\n0\r\n\r\n");
            assert_eq!(outcome(input.as_bytes()), Err(ChunkError::SizeInvalid), "{size:?}");
        }
        assert_eq!(outcome(b"FFFFFFFFFFFFFFFFF\r\n"), Err(ChunkError::SizeTooLarge));
        assert_eq!(outcome(b"10000000000000000\r\n"), Err(ChunkError::SizeTooLarge));
        assert_eq!(outcome(&[b'0'; 33]), Err(ChunkError::SizeTooLarge));
        let largest = outcome(b"fFFFFFFFFFFFFFFf\r\nhi");
        assert_eq!(largest, Ok((b"hi".to_vec(), vec![], false, vec![])));
    }

    #[test]
    fn u_55_lines_end_in_cr_lf_and_so_does_data() {
        for (input, expected) in [
            ("2\nhi\r\n0\r\n\r\n", ChunkError::LineEnd),
            ("2\rhi\r\n0\r\n\r\n", ChunkError::LineEnd),
            ("2\r\nhiX\r\n0\r\n\r\n", ChunkError::DataEnd),
            ("2\r\nhi0\r\n\r\n", ChunkError::DataEnd),
            ("2\r\nhi\n0\r\n\r\n", ChunkError::DataEnd),
            ("2\r\nhi\rX", ChunkError::DataEnd),
            ("0\r\n\n", ChunkError::LineEnd),
            ("0\r\n\rX", ChunkError::LineEnd),
            ("0\r\nX: y\n\r\n", ChunkError::LineEnd),
            ("0\r\nX: y\rZ", ChunkError::LineEnd),
        ] {
            assert_eq!(outcome(input.as_bytes()), Err(expected), "{input:?}");
        }
    }

    #[test]
    fn u_56_extensions_are_ignored_within_a_limit() {
        for extension in [
            ";a=b",
            ";a",
            " ;a",
            "\t ; a = \"b;c\"",
            ";a=b;c",
            ";a\t ; b=\"\" ;c=d ;e",
            ";a=\"\\\"\\\\;=\t\u{e9}\"",
        ] {
            let input = format!("2{extension}\r\nhi\r\n0\r\n\r\n");
            assert_eq!(outcome(input.as_bytes()), complete("hi", ""), "{extension:?}");
        }
        let content = |bytes: usize| {
            let half = format!("2;{}\r\nhi\r\n", "e".repeat(bytes / 2 - 1));
            format!("{half}{half}0\r\n\r\n")
        };
        let at = content(usize::from(ChunkLimits::default().extension_bytes_max));
        assert_eq!(fed(std::iter::once(at.as_bytes())), complete("hihi", ""));
        let over = content(usize::from(ChunkLimits::default().extension_bytes_max) + 2);
        let found = fed(std::iter::once(over.as_bytes()));
        assert_eq!(found, Err(ChunkError::ExtensionsTooLarge));
    }

    #[test]
    fn u_56_an_extension_is_a_name_with_or_without_a_value() {
        for extension in [
            ";",
            "; ",
            ";;a",
            ";a;",
            ";a=b;",
            ";a=b; ;c",
            ";=b",
            ";a=",
            ";a= ",
            ";a=;b",
            ";a==b",
            ";a=b=c",
            ";a b",
            ";a=b c",
            ";a ",
            ";a=b ",
            ";a=\"b\" ",
            ";a=\"b",
            ";a=\"b\\",
            ";a=\"b\"c",
            ";a=b\"c\"",
            ";\"a\"",
            ";a\u{e9}",
        ] {
            let input = format!("2{extension}\r\nhi\r\n0\r\n\r\n");
            let found = outcome(input.as_bytes());
            assert_eq!(found, Err(ChunkError::ExtensionInvalid), "{extension:?}");
        }
    }

    #[test]
    fn what_a_chunk_announces_is_known_from_its_size_line_on() {
        let input = b"00fFFFFFFFFFFFFFFf;a=b\r\nhi";
        let mut chunked = Chunked::default();
        for at in 0..input.len() - 3 {
            assert_eq!(chunked.step(&input[at..=at]), Ok(Step::More { consumed: 1 }));
            assert_eq!(chunked.announced(), 0, "{at}");
        }
        assert_eq!(chunked.step(b"\n"), Ok(Step::More { consumed: 1 }));
        assert_eq!(chunked.announced(), u64::MAX);
        assert_eq!(chunked.step(b"hi"), Ok(Step::Data { consumed: 0, len: 2 }));
        assert_eq!(chunked.announced(), u64::MAX - 2);

        let mut chunked = Chunked::default();
        assert_eq!(chunked.step(b"2\r\nhi"), Ok(Step::Data { consumed: 3, len: 2 }));
        assert_eq!(chunked.announced(), 0);
        assert_eq!(chunked.step(b"\r\n3"), Ok(Step::More { consumed: 3 }));
        assert_eq!(chunked.announced(), 0);
    }

    #[test]
    fn u_56_controls_in_extensions_are_refused() {
        assert_eq!(outcome(b"2;a\nb\r\n"), Err(ChunkError::LineEnd));
        assert_eq!(outcome(b"2;a=\"b\nc\"\r\n"), Err(ChunkError::LineEnd));
        assert_eq!(outcome(b"2;a=\"b\r\nc\"\r\n"), Err(ChunkError::ExtensionInvalid));
        assert_eq!(outcome(b"2;a\0b\r\n"), Err(ChunkError::ExtensionInvalid));
        assert_eq!(outcome(b"2;a=\"b\\\0\"\r\n"), Err(ChunkError::ExtensionInvalid));
        assert_eq!(outcome(b"2;a\rb\r\n"), Err(ChunkError::LineEnd));
        assert_eq!(outcome(b"2;\x7f\r\n"), Err(ChunkError::ExtensionInvalid));
    }

    #[test]
    fn u_56_trailers_are_fields_and_bounded() {
        for line in
            [": y", "X y: z", "X", " X: y", "X : y", "X: a\0", "X: y\r\n folded", "H\u{e9}: x"]
        {
            let input = format!("0\r\n{line}\r\n\r\n");
            assert_eq!(outcome(input.as_bytes()), Err(ChunkError::TrailerInvalid), "{line:?}");
        }
        let content = |bytes: usize| format!("0\r\nX:{}\r\n\r\n", "v".repeat(bytes - 4));
        let at = content(usize::from(ChunkLimits::default().trailer_bytes_max));
        let trailer = &at[3..at.len() - 2];
        assert_eq!(fed(std::iter::once(at.as_bytes())), with_trailer("", trailer, ""));
        let over = content(usize::from(ChunkLimits::default().trailer_bytes_max) + 1);
        let found = fed(std::iter::once(over.as_bytes()));
        assert_eq!(found, Err(ChunkError::TrailersTooLarge));
        assert_eq!(ChunkError::TrailersTooLarge.status().code(), 431);
        assert_eq!(ChunkError::DataEnd.status().code(), 400);
    }

    #[test]
    fn u_11_upgrade_in_a_trailer_is_a_trailer() {
        let input = b"2\r\nhi\r\n0\r\nUpgrade: echo\r\nConnection: Upgrade\r\n\r\n";
        let trailer = "Upgrade: echo\r\nConnection: Upgrade\r\n";
        assert_eq!(outcome(input), with_trailer("hi", trailer, ""));
    }
}
