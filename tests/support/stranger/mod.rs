//! A small server of HTTP/1.1 and WebSocket that has nothing of upring's: it does all that a standard
//! demands, and is faulty, or merely different, as it is told. The linter is tested on it.

mod http;
mod websocket;

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

/// What a stranger does otherwise than it is used to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Quirk {
    // Faults.
    /// Is gone at the first faulty request.
    DiesOfFaults,
    /// Answers 503 to everything behind the first faulty request.
    LosesItsBackend,
    /// Closes without a word at a faulty request.
    Silent,
    /// Answers a faulty request with 500.
    FiveHundred,
    /// Answers a faulty Host with 404.
    Host404,
    /// Answers a faulty request with 400 and goes on.
    Stubborn,
    /// Takes a name with white space behind it for the name.
    SpaceBeforeColon,
    /// Obeys a first field with white space before it.
    LeadingSpace,
    /// Obeys folded lines as fields of their own.
    FoldsAreFields,
    /// Ends fields at a lone CR.
    CrEndsFields,
    /// Goes on behind Content-Length beside Transfer-Encoding.
    BothFramings,
    /// Reads Content-Length beside Transfer-Encoding.
    LengthWins,
    /// Cuts lengths and chunk sizes to 64 bits.
    Overflows,
    /// Takes half of the content for all of it.
    TakesHalf,
    /// Does not read the content of GET.
    LeavesContent,
    /// Does not close behind Connection: close.
    GoesOn,
    /// Sends content in answer to HEAD.
    HeadContent,
    /// Waits for content before it sends 100.
    LateContinue,
    /// Sends 100 to HTTP/1.0.
    OldContinue,
    /// A 405 without Allow.
    NoAllow,
    /// Answers pipelined requests from the last to the first.
    Reorders,
    /// Accepts CONNECT to every port.
    AnyPort,
    /// Accepts CONNECT, and goes on behind one it refuses.
    CarelessProxy,
    /// Switches in HTTP/1.0.
    SwitchesOld,
    /// A 426 without its Upgrade.
    BareUpgradeRequired,
    /// Refuses a version without saying which there is.
    NoVersion,
    /// Answers faulty handshakes with 200.
    HandshakeOk,
    /// Takes every key.
    AnyKey,
    /// Computes the accept wrongly.
    WrongAccept,
    /// Answers a sub-protocol and an extension nobody offered.
    Unasked,
    /// Agrees to every offer of permessage-deflate.
    AnyOffer,
    /// Takes frames that are not masked.
    TakesUnmasked,
    /// Masks its own frames.
    Masks,
    /// Answers no ping.
    Mute,
    /// Echoes whatever code a Close has.
    EchoesCodes,
    /// Does not answer a Close.
    IgnoresClose,
    /// Takes any bytes as text.
    AnyText,
    /// Passes reserved bits and opcodes over.
    AnyOpcode,
    // What a standard allows.
    /// Closes behind each answer.
    ClosesAlways,
    /// Speaks HTTP/1.0.
    Old,
    /// Accepts CONNECT.
    Proxy,
    /// Switches to TLS (RFC 2817).
    Tls2817,
    /// Answers before content that a 100 is waited for.
    Immediate,
    /// Has no bound for a head.
    Boundless,
    /// Passes fields over whose name is none.
    SkipsBadNames,
    /// Takes lone LFs in the head.
    TakesLf,
    /// Reads Transfer-Encoding beside Content-Length, and closes.
    CodingWins,
    /// Takes equal Content-Lengths for one.
    EqualLengths,
    /// Answers 400 to unknown tokens.
    RefusesTokens,
    /// Refuses content at the plain path, and closes.
    NoContent,
    /// Takes no chunks: 411.
    NoChunks,
    /// Sends no message back.
    NoEcho,
    /// Closes a WebSocket at the first frame.
    ShortOfBreath,
    /// Ends a WebSocket without Close frames where none is demanded.
    Curt,
    // What is told as what it is.
    /// A hundred and fifty fields in each answer.
    ManyFields,
    /// A page of six megabytes.
    LargePage,
}

/// One stranger; its threads end with the test's process.
pub(crate) struct Stranger {
    pub(crate) address: SocketAddr,
}

/// What its connections share.
struct Shared {
    quirks: Vec<Quirk>,
    address: SocketAddr,
    is_dead: AtomicBool,
    has_lost_its_backend: AtomicBool,
}

impl Shared {
    fn is(&self, quirk: Quirk) -> bool {
        self.quirks.contains(&quirk)
    }

    fn die(&self) {
        self.is_dead.store(true, Ordering::SeqCst);
        // Whoever waits for connections is to see it.
        let _ = TcpStream::connect(self.address);
    }
}

impl Stranger {
    pub(crate) fn with(quirks: &[Quirk]) -> Stranger {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port is free");
        let address = listener.local_addr().expect("it is bound");
        let shared = Arc::new(Shared {
            quirks: quirks.to_vec(),
            address,
            is_dead: AtomicBool::new(false),
            has_lost_its_backend: AtomicBool::new(false),
        });
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if shared.is_dead.load(Ordering::SeqCst) {
                    return;
                }
                let shared = Arc::clone(&shared);
                thread::spawn(move || serve(stream, &shared));
            }
        });
        Stranger { address }
    }
}

/// Why a connection is not served any more.
enum Stop {
    /// The peer is gone, or has ended its direction.
    Ended,
    /// The request is faulty.
    Refused(u16),
}

impl From<std::io::Error> for Stop {
    fn from(_: std::io::Error) -> Stop {
        Stop::Ended
    }
}

/// A connection, and what was received and not read.
struct Wire {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Wire {
    fn fill(&mut self) -> Result<(), Stop> {
        let mut bytes = [0; 64 * 1024];
        match self.stream.read(&mut bytes)? {
            0 => Err(Stop::Ended),
            count => {
                self.buffer.extend_from_slice(&bytes[..count]);
                Ok(())
            }
        }
    }

    fn take(&mut self, count: usize) -> Result<Vec<u8>, Stop> {
        while self.buffer.len() < count {
            self.fill()?;
        }
        Ok(self.buffer.drain(..count).collect())
    }

    /// Up to a CR LF, without it.
    fn line(&mut self, bytes_max: usize, too_long: u16) -> Result<Vec<u8>, Stop> {
        loop {
            if let Some(at) = self.buffer.windows(2).position(|two| two == b"\r\n") {
                let line = self.take(at)?;
                self.take(2)?;
                return if at > bytes_max { Err(Stop::Refused(too_long)) } else { Ok(line) };
            }
            if self.buffer.len() > bytes_max {
                return Err(Stop::Refused(too_long));
            }
            self.fill()?;
        }
    }

    fn send(&mut self, bytes: &[u8]) -> Result<(), Stop> {
        Ok(self.stream.write_all(bytes)?)
    }
}

fn serve(stream: TcpStream, shared: &Shared) {
    let _ = stream.set_read_timeout(Some(Duration::from_secs(10)));
    let _ = stream.set_nodelay(true);
    let mut wire = Wire { stream, buffer: Vec::new() };
    loop {
        match http::exchange(&mut wire, shared) {
            Ok(true) => {}
            Ok(false) | Err(Stop::Ended) => break,
            Err(Stop::Refused(status)) => {
                if !http::refuse(&mut wire, shared, status) {
                    break;
                }
            }
        }
    }
    let _ = wire.stream.shutdown(Shutdown::Write);
    let _ = wire.stream.set_read_timeout(Some(Duration::from_millis(300)));
    let _ = std::io::copy(&mut wire.stream, &mut std::io::sink());
}
