//! The 64 bits a submission carries and its completion brings back: what kind of operation it was,
//! and whose. Made and read by the ring alone.
//!
//! ```text
//!   63        56 55                    32 31                       0
//!  ┌────────────┬────────────────────────┬──────────────────────────┐
//!  │    kind    │       generation       │           slot           │
//!  └────────────┴────────────────────────┴──────────────────────────┘
//! ```
//!
//! Slot and generation are a connection's for most kinds; a send names its place in the table of
//! sends in flight, an accept its listener.

use super::Token;

/// What an operation was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Kind {
    /// An operation nobody waits for: a cancellation, an update of the timer, a socket option.
    Unheeded = 1,
    Accept,
    Receive,
    Send,
    ShutDown,
    Close,
    Install,
    Timer,
    Control,
    Identify,
    Watch,
    /// Making an ordinary descriptor of a direct one, in order to shut it.
    InstallToShut,
}

impl Kind {
    fn from_bits(bits: u8) -> Option<Kind> {
        Some(match bits {
            1 => Kind::Unheeded,
            2 => Kind::Accept,
            3 => Kind::Receive,
            4 => Kind::Send,
            5 => Kind::ShutDown,
            6 => Kind::Close,
            7 => Kind::Install,
            8 => Kind::Timer,
            9 => Kind::Control,
            10 => Kind::Identify,
            11 => Kind::Watch,
            12 => Kind::InstallToShut,
            _ => return None,
        })
    }
}

/// What one submission is known by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct UserData {
    pub(super) kind: Kind,
    pub(super) token: Token,
}

impl UserData {
    /// Of an operation on a connection, or on a place in a table that has generations too.
    pub(super) fn new(kind: Kind, token: Token) -> UserData {
        UserData { kind, token }
    }

    /// Of an operation there is one of for each `slot`.
    pub(super) fn single(kind: Kind, slot: u32) -> UserData {
        UserData { kind, token: Token { slot, generation: 0 } }
    }

    /// As the kernel carries it.
    pub(super) fn pack(self) -> u64 {
        debug_assert!(self.token.generation <= Token::GENERATION_MASK, "a generation has 24 bits");
        let generation = self.token.generation & Token::GENERATION_MASK;
        u64::from(self.kind as u8) << 56 | u64::from(generation) << 32 | u64::from(self.token.slot)
    }

    /// From what a completion carries; `None` if it was not packed here.
    pub(super) fn unpack(bits: u64) -> Option<UserData> {
        let [kind, generation @ .., _, _, _, _] = bits.to_be_bytes();
        let [high, middle, low] = generation;
        Some(UserData {
            kind: Kind::from_bits(kind)?,
            token: Token {
                slot: bits as u32,
                generation: u32::from_be_bytes([0, high, middle, low]),
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_slot_and_generation_comes_back_as_it_was_packed() {
        for bits in 1..=12 {
            let kind = Kind::from_bits(bits).expect("a kind for each");
            for slot in [0, 1, 0x1234_5678, u32::MAX] {
                for generation in [0, 1, 0x00ab_cdef, Token::GENERATION_MASK] {
                    let user_data = UserData::new(kind, Token { slot, generation });
                    assert_eq!(UserData::unpack(user_data.pack()), Some(user_data));
                    assert_eq!(user_data.pack() >> 56, u64::from(bits));
                }
            }
        }
    }

    #[test]
    fn bits_that_no_kind_has_are_not_unpacked() {
        for bits in [0, 13 << 56, u64::MAX] {
            assert_eq!(UserData::unpack(bits), None);
        }
    }
}
