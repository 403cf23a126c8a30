//! What became of offers, by protocol. Only names that were registered are counted by: what a client
//! sends never becomes a label.
//!
//! A name has its place from the moment its registration is installed on the core, and keeps it for
//! good, so that no count goes backwards when another registration takes over. There are places for
//! so many; what is beyond them shares the last.

use std::sync::OnceLock;

use super::Counter;

/// Names that have a place of their own.
const NAMES_MAX: usize = 64;

/// The name under which those are that have none.
const OTHER: &str = "other";

/// Where a protocol is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TokenSlot(u8);

impl Default for TokenSlot {
    /// The place of those that have none of their own.
    fn default() -> TokenSlot {
        TokenSlot(NAMES_MAX as u8)
    }
}

/// What becomes of an offer that names a registered protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UpgradeResult {
    /// The connection was switched to it.
    Switched,
    /// It was asked, and answered over HTTP.
    Declined,
    /// It does not take this method or content (U-19, U-28).
    Unfit,
    /// It declined, and the connection closes because bytes came before that (U-25).
    EarlyBytesRefused,
    /// Its decision did not come in time (U-37).
    Timeout,
}

impl UpgradeResult {
    /// All of them.
    pub const ALL: [UpgradeResult; 5] = [
        UpgradeResult::Switched,
        UpgradeResult::Declined,
        UpgradeResult::Unfit,
        UpgradeResult::EarlyBytesRefused,
        UpgradeResult::Timeout,
    ];

    /// The value of its label.
    pub fn name(self) -> &'static str {
        match self {
            UpgradeResult::Switched => "switched",
            UpgradeResult::Declined => "declined",
            UpgradeResult::Unfit => "unfit",
            UpgradeResult::EarlyBytesRefused => "early_bytes_refused",
            UpgradeResult::Timeout => "timeout",
        }
    }
}

/// What one protocol has on one core.
#[derive(Debug, Default)]
pub struct OfToken {
    results: [Counter; UpgradeResult::ALL.len()],
    /// Switched connections open now.
    pub open: Counter,
    /// Decisions not yet made.
    pub deciding: Counter,
}

impl OfToken {
    /// How often an offer of it had this result.
    pub fn count(&self, result: UpgradeResult) -> u64 {
        self.results[result as usize].value()
    }
}

/// Foreign code that a core is in: what blocks it, if it does not come back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Calling {
    /// The handler of a switched connection, or who decides on a switch to it.
    Protocol(TokenSlot),
    /// An HTTP handler.
    Answer,
}

/// What became of offers, by the name of the protocol.
#[derive(Debug)]
pub struct Upgrades {
    names: [OnceLock<Box<str>>; NAMES_MAX],
    tokens: [OfToken; NAMES_MAX + 1],
    /// Foreign code that is being called: 0 for none, 1 for an HTTP handler, else that of the slot two
    /// below.
    calling: Counter,
}

impl Default for Upgrades {
    fn default() -> Upgrades {
        Upgrades {
            names: [const { OnceLock::new() }; NAMES_MAX],
            tokens: std::array::from_fn(|_| OfToken::default()),
            calling: Counter::default(),
        }
    }
}

impl Upgrades {
    /// The place of a registered name, which is the same for each spelling of it (RFC 9110 §7.8). Only
    /// the core that owns this may call it.
    pub fn slot(&self, name: &str) -> TokenSlot {
        if name.eq_ignore_ascii_case(OTHER) {
            return TokenSlot::default();
        }
        for (slot, place) in (0..).zip(&self.names) {
            let known = place.get_or_init(|| name.into());
            if known.eq_ignore_ascii_case(name) {
                return TokenSlot(slot);
            }
        }
        TokenSlot::default()
    }

    /// Foreign code is called from here on, until [`returned`](Upgrades::returned). Only the core that owns
    /// this may call it.
    #[inline]
    pub(crate) fn call(&self, what: Calling) {
        self.calling.set(match what {
            Calling::Answer => 1,
            Calling::Protocol(slot) => 2 + u64::from(slot.0),
        });
    }

    /// It has come back.
    #[inline]
    pub(crate) fn returned(&self) {
        self.calling.set(0);
    }

    /// What foreign code the core is in now, in words: for whoever finds that it does not turn.
    pub fn calling(&self) -> Option<String> {
        match self.calling.value() {
            0 => None,
            1 => Some("an HTTP handler".to_owned()),
            slot => {
                let name = self.each().nth(usize::try_from(slot - 2).unwrap_or(usize::MAX));
                Some(format!("a handler of {}", name.map_or(OTHER, |(name, _)| name)))
            }
        }
    }

    /// Counts an offer. Only the core that owns this may call it.
    pub fn raise(&self, slot: TokenSlot, result: UpgradeResult) {
        self.of(slot).results[result as usize].raise();
    }

    /// What the protocol in this place has.
    pub fn of(&self, slot: TokenSlot) -> &OfToken {
        &self.tokens[usize::from(slot.0).min(NAMES_MAX)]
    }

    /// The name that is counted in this place; `other` for those that have none.
    pub fn name(&self, slot: TokenSlot) -> &str {
        let name = self.names.get(usize::from(slot.0)).and_then(OnceLock::get);
        name.map_or(OTHER, |name| name)
    }

    /// Every name that has a place, and then `other` for those that have none.
    pub fn each(&self) -> impl Iterator<Item = (&str, &OfToken)> {
        let names = self.names.iter().map_while(OnceLock::get).map(|name| &**name);
        let named = names.zip(&self.tokens);
        named.chain([(OTHER, self.of(TokenSlot::default()))])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_keeps_its_place_and_those_beyond_the_last_share_one() {
        let upgrades = Upgrades::default();
        let echo = upgrades.slot("echo");
        upgrades.raise(echo, UpgradeResult::Switched);
        for number in 1..100 {
            let slot = upgrades.slot(&format!("protocol-{number}"));
            assert_eq!(slot == TokenSlot::default(), number >= NAMES_MAX, "{number}");
            upgrades.raise(slot, UpgradeResult::Declined);
        }
        assert_eq!(upgrades.slot("ECHO"), echo);
        assert_eq!((upgrades.name(echo), upgrades.name(TokenSlot::default())), ("echo", "other"));
        assert_eq!(upgrades.slot("other"), TokenSlot::default(), "no name is there twice");
        let each: Vec<_> = upgrades.each().collect();
        assert_eq!((each.len(), each[0].0, each[64].0), (65, "echo", "other"));
        assert_eq!(each[0].1.count(UpgradeResult::Switched), 1);
        assert_eq!(each[64].1.count(UpgradeResult::Declined), 36);
    }

    #[test]
    fn what_is_called_is_known_until_it_has_come_back() {
        let upgrades = Upgrades::default();
        let slots = [upgrades.slot("echo"), upgrades.slot("chat"), TokenSlot::default()];
        assert_eq!(upgrades.calling(), None);
        for (slot, name) in slots.into_iter().zip(["echo", "chat", "other"]) {
            upgrades.call(Calling::Protocol(slot));
            assert_eq!(upgrades.calling(), Some(format!("a handler of {name}")));
        }
        upgrades.call(Calling::Answer);
        assert_eq!(upgrades.calling().as_deref(), Some("an HTTP handler"));
        upgrades.returned();
        assert_eq!(upgrades.calling(), None);
    }

    #[test]
    fn results_are_told_apart() {
        let upgrades = Upgrades::default();
        for (count, result) in (1..).zip(UpgradeResult::ALL) {
            (0..count).for_each(|_| upgrades.raise(TokenSlot::default(), result));
        }
        let (_, other) = upgrades.each().next().unwrap();
        assert_eq!(UpgradeResult::ALL.map(|result| other.count(result)), [1, 2, 3, 4, 5]);
    }
}
