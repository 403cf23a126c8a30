//! The connections of one core, by slot. Slots lie in pages that never move and are used again,
//! last freed first; each new tenant has a new generation, so that a completion meant for an
//! earlier one can be told.

use crate::ring::Token;

const PAGE: usize = 256;
const NONE: u32 = u32::MAX;

/// Slots for values of one kind.
#[derive(Debug)]
pub(super) struct Slots<T> {
    pages: Vec<Vec<Slot<T>>>,
    free: u32,
    occupied: u32,
    slots: u32,
}

#[derive(Debug)]
struct Slot<T> {
    generation: u32,
    tenant: Tenant<T>,
}

#[derive(Debug)]
enum Tenant<T> {
    /// Nobody; the next free slot, if there is one.
    Nobody(u32),
    Somebody(T),
}

impl<T> Slots<T> {
    pub(super) fn new() -> Slots<T> {
        Slots { pages: Vec::new(), free: NONE, occupied: 0, slots: 0 }
    }

    /// Values there are.
    pub(super) fn len(&self) -> usize {
        self.occupied as usize
    }

    /// Puts a value into a free slot.
    pub(super) fn insert(&mut self, value: T) -> Token {
        if self.free == NONE {
            self.grow();
        }
        let index = self.free;
        let slot = &mut self.pages[index as usize / PAGE][index as usize % PAGE];
        let Tenant::Nobody(next) = slot.tenant else {
            unreachable!("the free list holds free slots");
        };
        self.free = next;
        self.occupied += 1;
        slot.tenant = Tenant::Somebody(value);
        Token { slot: index, generation: slot.generation }
    }

    /// The value in a slot, if it is still this tenant's.
    pub(super) fn of(&mut self, token: Token) -> Option<&mut T> {
        let slot =
            self.pages.get_mut(token.slot as usize / PAGE)?.get_mut(token.slot as usize % PAGE)?;
        match &mut slot.tenant {
            Tenant::Somebody(value) if slot.generation == token.generation => Some(value),
            _ => None,
        }
    }

    /// Who has a slot now.
    pub(super) fn tenant(&self, index: u32) -> Option<Token> {
        let slot = self.pages.get(index as usize / PAGE)?.get(index as usize % PAGE)?;
        matches!(slot.tenant, Tenant::Somebody(_))
            .then_some(Token { slot: index, generation: slot.generation })
    }

    /// Frees a slot; its token is void from here on.
    pub(super) fn remove(&mut self, token: Token) -> T {
        let slot = &mut self.pages[token.slot as usize / PAGE][token.slot as usize % PAGE];
        debug_assert_eq!(slot.generation, token.generation, "only the tenant of a slot frees it");
        slot.generation = (slot.generation + 1) & Token::GENERATION_MASK;
        let Tenant::Somebody(value) =
            std::mem::replace(&mut slot.tenant, Tenant::Nobody(self.free))
        else {
            unreachable!("a slot is freed once");
        };
        self.free = token.slot;
        self.occupied -= 1;
        value
    }

    /// Slots that have ever been used: every token's slot is below it.
    pub(super) fn bound(&self) -> u32 {
        self.slots
    }

    fn grow(&mut self) {
        let first = self.slots;
        let page = u32::try_from(PAGE).expect("a page is small");
        let vacant = |index| Slot { generation: 0, tenant: Tenant::Nobody(index) };
        let last = first + page - 1;
        self.pages.push(
            (first..=last)
                .map(|index| vacant(if index == last { NONE } else { index + 1 }))
                .collect(),
        );
        self.free = first;
        self.slots += page;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_freed_slot_is_used_again_under_a_new_generation() {
        let mut slots = Slots::new();
        let first = slots.insert("first");
        assert_eq!(slots.remove(first), "first");
        let second = slots.insert("second");
        assert_eq!((second.slot, second.generation), (first.slot, first.generation + 1));
        assert_eq!(slots.of(first), None);
        assert_eq!(slots.of(second), Some(&mut "second"));
    }

    #[test]
    fn values_do_not_move_or_mix_when_pages_are_added() {
        let mut slots = Slots::new();
        let tokens: Vec<Token> = (0..1000).map(|value| slots.insert(value)).collect();
        assert_eq!((slots.len(), slots.bound()), (1000, 1024));
        for (value, token) in tokens.iter().enumerate() {
            assert_eq!(slots.of(*token), Some(&mut i32::try_from(value).expect("small")));
            assert_eq!(slots.tenant(token.slot), Some(*token));
        }
        assert_eq!(slots.tenant(1001), None);
    }
}
