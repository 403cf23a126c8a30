//! Answers by status: a counter for each there can be.

use super::Counter;

/// The first status a server can send.
const FIRST: u16 = 100;

/// How many there are from there: 100 to 599 (RFC 9110 §15).
const COUNT: usize = 500;

/// How many answers had which status.
#[derive(Debug)]
pub struct Statuses([Counter; COUNT]);

impl Default for Statuses {
    fn default() -> Statuses {
        Statuses([const { Counter::new() }; COUNT])
    }
}

impl Statuses {
    /// Counts an answer with this status. Only the core that owns it may call this. What is no status
    /// is counted as 599.
    pub fn raise(&self, code: u16) {
        let index = usize::from(code.wrapping_sub(FIRST)).min(COUNT - 1);
        if let Some(counter) = self.0.get(index) {
            counter.raise();
        }
    }

    /// Those that were sent, in ascending order, and how often.
    pub fn each(&self) -> impl Iterator<Item = (u16, u64)> {
        let all = (FIRST..).zip(self.0.iter().map(Counter::value));
        all.filter(|(_, count)| *count > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_status_has_a_counter_of_its_own() {
        let statuses = Statuses::default();
        for code in [599, 200, 100, 200, 99, 600] {
            statuses.raise(code);
        }
        let each: Vec<_> = statuses.each().collect();
        assert_eq!(each, [(100, 1), (200, 2), (599, 3)]);
    }
}
