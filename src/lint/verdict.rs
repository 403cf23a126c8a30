//! What a vector comes to.

/// What a server did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// What is wanted, and it was seen.
    Pass,
    /// Another thing, which the standard allows or only advises against.
    Differs(String),
    /// What the vector is about could not be seen.
    Unclear(String),
    /// What the standard forbids.
    Fail(String),
    /// Nothing was sent, and why.
    Skip(String),
    /// The target did not survive it.
    Died(String),
}

impl Verdict {
    /// All there are, in words.
    pub const WORDS: [&'static str; 6] = ["pass", "differs", "unclear", "FAIL", "skip", "DIED"];

    /// In a word.
    pub fn word(&self) -> &'static str {
        match self {
            Verdict::Pass => "pass",
            Verdict::Differs(_) => "differs",
            Verdict::Unclear(_) => "unclear",
            Verdict::Fail(_) => "FAIL",
            Verdict::Skip(_) => "skip",
            Verdict::Died(_) => "DIED",
        }
    }

    /// Why it is not a pass; empty if it is.
    pub fn why(&self) -> &str {
        match self {
            Verdict::Pass => "",
            Verdict::Differs(why)
            | Verdict::Unclear(why)
            | Verdict::Fail(why)
            | Verdict::Skip(why)
            | Verdict::Died(why) => why,
        }
    }
}
