//! What the files say, as plain values. `rows` and `notation` make them, `run` plays them; nothing
//! here acts.

use super::peer::Ending;

/// One data file: a section of the requirements.
#[derive(Debug, Clone)]
pub struct RowFile {
    pub name: String,
    pub rows: Vec<Row>,
}

/// One requirement and the cases that show it.
#[derive(Debug, Clone)]
pub struct Row {
    /// `U-01`; unique over all files.
    pub id: String,
    pub level: Level,
    /// Sections of the standards, or `policy`.
    pub source: String,
    pub title: String,
    pub cases: Vec<Case>,
}

/// How strongly the source speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    Must,
    Should,
    /// The standard allows several ways; this one is ours.
    Ours,
    /// No standard speaks.
    Policy,
}

/// One conversation on one connection.
#[derive(Debug, Clone)]
pub struct Case {
    pub row: String,
    pub name: String,
    /// Line of the `case` keyword in its file, counted from 1.
    pub line: usize,
    /// At least one; each but the last has exactly one output.
    pub exchanges: Vec<Exchange>,
    /// Paths that must not have been routed when the case is over.
    pub never: Vec<String>,
    /// The answer is decided later than the request is read (`async`).
    pub delayed: bool,
    pub segments: Segments,
    pub probe: Probe,
    /// The change this case waits for (`pending=bodies`).
    pub pending: Option<String>,
    /// A setting of the fixture without which the case proves nothing (`needs=...`).
    pub needs: Option<String>,
}

impl Case {
    /// True when the client waits between its writes, so that a replay costs real time.
    pub fn timed(&self) -> bool {
        self.steps().any(|step| matches!(step, Step::WaitMs(_)))
    }

    /// True when the client half-closes; nothing can be asked on the connection afterwards.
    pub fn finishes(&self) -> bool {
        self.steps().any(|step| matches!(step, Step::Finish))
    }

    /// Bytes of all its inputs.
    pub fn bytes_sent(&self) -> usize {
        let len = |step: &Step| if let Step::Send(bytes) = step { bytes.len() } else { 0 };
        self.steps().map(len).sum()
    }

    fn steps(&self) -> impl Iterator<Item = &Step> {
        self.exchanges.iter().flat_map(|exchange| &exchange.input)
    }
}

/// What the client sends, and what must have come back before it goes on.
#[derive(Debug, Clone)]
pub struct Exchange {
    pub input: Vec<Step>,
    /// Alternatives; one of them must match. Bytes count from the end of the exchange before.
    pub outputs: Vec<Output>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    Send(Vec<u8>),
    WaitMs(u64),
    /// Half-close of the client's sending side.
    Finish,
}

/// Which segmentations of its input a case is replayed in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Segments {
    Every,
    /// Those in which the end of a head arrives together with what lies behind it: that is the point.
    Together,
}

/// How the runner makes sure that an open connection is still in the state the case left it in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Probe {
    /// One more `GET /` must be answered `200(ok)!`.
    Http,
    /// Some more bytes must come back unchanged.
    Echo,
    /// A Ping must be answered by its Pong.
    WebSocket,
    /// Nothing is sent; nothing may come for a while.
    Silence,
}

/// One acceptable outcome.
#[derive(Debug, Clone)]
pub struct Output {
    /// As written in the file, for messages.
    pub text: String,
    pub items: Vec<Expected>,
    pub ending: Ending,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expected {
    /// An interim or final response.
    Answer {
        status: u16,
        /// `None`: any content.
        body: Option<Vec<u8>>,
        /// It answers HEAD: the fields speak of content that is not there.
        head_only: bool,
        /// It carries `Connection: close`.
        closes: bool,
        demands: Vec<Demand>,
    },
    /// `101(token)`: these two upgrade fields, and no other field than `demands` names.
    Switch { token: String, demands: Vec<Demand> },
    /// `200 tunnel`: an accepted CONNECT. Nothing frames a content, and what follows is the tunnel's.
    Tunnel { status: u16, demands: Vec<Demand> },
    /// Exactly these bytes.
    Bytes(Vec<u8>),
}

/// What a response's fields must or must not say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Demand {
    Has(String),
    Lacks(String),
    /// All lines of the field, joined, are this list.
    Is(String, String),
    IsNot(String, String),
    /// The list has this member; compared without regard to case.
    Lists(String, String),
    ListsNot(String, String),
}

impl Demand {
    /// The field the demand speaks of.
    pub fn name(&self) -> &str {
        match self {
            Self::Has(name) | Self::Lacks(name) => name,
            Self::Is(name, _) | Self::IsNot(name, _) => name,
            Self::Lists(name, _) | Self::ListsNot(name, _) => name,
        }
    }
}
