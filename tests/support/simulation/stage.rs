//! What the players of one world share: promises and wakers kept for a few turns, and the account
//! of how handlers were treated. One world lives on a thread at a time, so this is the thread's.

use std::cell::RefCell;

use upring::http::{Response, Status};
use upring::ring::sim::Random;
use upring::upgrade::{CloseReason, ConnectionWaker, Decision, Promise};

use super::player::Player;

/// Something to be done in a later turn.
pub(super) enum Kept {
    /// Wakes the player with this number.
    Wake(ConnectionWaker, u64),
    Answer(Promise<Response>, Option<Response>),
    Decide(Promise<Decision>, Verdict),
}

/// How a promised decision turns out.
pub(super) enum Verdict {
    Switch(Player),
    Decline,
    Break,
}

#[derive(Default)]
struct Stage {
    turn: u64,
    random: Option<Random>,
    kept: Vec<(u64, Kept)>,
    account: Account,
}

/// How the handlers of a world were treated.
#[derive(Default, Clone)]
pub(crate) struct Account {
    pub(crate) opened: u64,
    /// Told that they are over, given their descriptor, or panicked.
    pub(crate) over: u64,
    pub(crate) detached: u64,
    pub(crate) reasons: Vec<CloseReason>,
    /// Players that were woken and have not been told yet.
    pub(crate) woken: Vec<u64>,
    /// Promises kept or broken behind the last turn: each wakes its connection, which may have
    /// become a player's.
    pub(crate) promises: u64,
    /// Streams that woke themselves: a wake may come when the connection has become a player's.
    pub(crate) stream_wakes: u64,
    /// What a handler saw that it must not see.
    pub(crate) violations: Vec<String>,
}

thread_local! {
    static STAGE: RefCell<Stage> = RefCell::default();
}

/// Clears the stage for a new world.
pub(super) fn begin(seed: u64) {
    let before = STAGE.replace(Stage { random: Some(Random::new(seed)), ..Stage::default() });
    // Dropped outside the borrow: a promise that breaks wakes.
    drop(before);
}

/// Keeps something for some turns.
pub(super) fn keep(kept: Kept) {
    STAGE.with_borrow_mut(|stage| {
        // Some so late that the connection may be gone, and its slot another's.
        let delay = stage.random.as_mut().map_or(0, |random| match random.below(5) {
            0 => random.below(80),
            _ => random.below(10),
        });
        stage.kept.push((stage.turn + delay, kept));
    });
}

/// Does what is due in this turn; whether anything was.
pub(super) fn turn() -> bool {
    let due: Vec<_> = STAGE.with_borrow_mut(|stage| {
        stage.turn += 1;
        stage.account.promises = 0;
        let turn = stage.turn;
        stage.kept.extract_if(.., |(due, _)| *due <= turn).collect()
    });
    let any = !due.is_empty();
    due.into_iter().for_each(|(_, kept)| kept.act());
    any
}

/// Whether something is kept.
pub(super) fn is_waiting() -> bool {
    STAGE.with_borrow(|stage| !stage.kept.is_empty())
}

pub(super) fn note(note: impl FnOnce(&mut Account)) {
    STAGE.with_borrow_mut(|stage| note(&mut stage.account));
}

pub(super) fn account() -> Account {
    STAGE.with_borrow(|stage| stage.account.clone())
}

impl Kept {
    fn act(self) {
        if !matches!(self, Kept::Wake(..)) {
            note(|account| account.promises += 1);
        }
        match self {
            Kept::Wake(waker, id) => {
                note(|account| account.woken.push(id));
                waker.wake();
            }
            Kept::Answer(promise, Some(response)) => promise.keep(response),
            Kept::Answer(promise, None) => drop(promise),
            Kept::Decide(promise, Verdict::Switch(player)) => {
                promise.keep(Decision::switch(player));
            }
            Kept::Decide(promise, Verdict::Decline) => promise.keep(decline()),
            Kept::Decide(promise, Verdict::Break) => drop(promise),
        }
    }
}

/// The answer of a handler that does not want to switch.
pub(super) fn decline() -> Decision {
    Decision::Answer(refusal())
}

pub(super) fn refusal() -> Response {
    Response::text(Status::FORBIDDEN, "Not today.\n")
}
