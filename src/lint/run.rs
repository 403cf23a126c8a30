//! One run: the vectors that were asked for, one connection each, until all are judged or the target
//! is dead.

use std::io;
use std::time::{Duration, Instant};

use super::answers::{End, Event};
use super::connection::{Exchange, converse};
use super::facts::Facts;
use super::notation::Words;
use super::rule::{Known, decide};
use super::vector::{Vector, vectors};
use super::{LintError, Options, Report, Result, Target, Verdict};

/// How much longer everything is waited for when a verdict that rests on time is tried again.
const PATIENCE: u32 = 3;

/// Sends all that was asked for, one connection each, and says what came of it. `told` is told of
/// each as soon as it is judged.
///
/// # Errors
/// Nothing could be sent.
pub fn run(
    options: &Options,
    mut told: impl FnMut(&Result),
) -> std::result::Result<Report, LintError> {
    let chosen = chosen(&options.rows)?;
    let target = &options.target;
    let is_elsewhere = |address: &&std::net::SocketAddr| {
        !address.ip().to_canonical().is_loopback() && !options.is_remote_allowed
    };
    if let Some(address) = target.addresses.iter().find(is_elsewhere) {
        return Err(LintError::Remote { address: *address });
    }
    let linter = Linter { target, facts: Facts::find(target)? };
    let pause = match options.rate {
        0 => Duration::ZERO,
        rate => Duration::from_secs(1) / rate,
    };
    let mut results: Vec<Result> = Vec::new();
    let mut death = None;
    for vector in chosen {
        let begun = Instant::now();
        let result = match linter.judge(vector) {
            Ok(result) => result,
            Err(why) => {
                death = Some(format!("the target died behind {}: {why}", last_sent(&results)));
                break;
            }
        };
        told(&result);
        let is_dead = matches!(result.verdict, Verdict::Died(_));
        results.push(result);
        if is_dead {
            let why = results.last().map(|result| result.verdict.why()).unwrap_or_default();
            death = Some(format!("the target died at {}: {why}", last_sent(&results)));
            break;
        }
        std::thread::sleep(pause.saturating_sub(begun.elapsed()));
    }
    if let (None, Err(why)) = (&death, linter.facts.is_alive(target)) {
        death = Some(format!("the target died behind {}: {why}", last_sent(&results)));
    }
    let Facts { address, server, .. } = linter.facts;
    Ok(Report { address, server, results, death })
}

/// Row and title of what was sent last.
fn last_sent(results: &[Result]) -> String {
    let sent = results.iter().rfind(|result| !result.exchange.sent.is_empty());
    sent.map_or("nothing that was sent".into(), |result| {
        format!("{}, {:?}", result.vector.row, result.vector.title)
    })
}

/// The vectors of these rows.
fn chosen(rows: &[String]) -> std::result::Result<Vec<Vector>, LintError> {
    let is_of = |vector: &Vector, row: &str| match row.strip_suffix('*') {
        Some(beginning) => vector.row.starts_with(beginning),
        None => vector.row == row,
    };
    let all = vectors();
    let stranger = rows.iter().find(|row| !all.iter().any(|vector| is_of(vector, row)));
    if let Some(row) = stranger {
        return Err(LintError::NoRow { row: row.clone() });
    }
    let is_chosen = |vector: &Vector| rows.is_empty() || rows.iter().any(|row| is_of(vector, row));
    Ok(all.into_iter().filter(is_chosen).collect())
}

struct Linter<'a> {
    target: &'a Target,
    facts: Facts,
}

impl Linter<'_> {
    /// Sends one vector.
    ///
    /// # Errors
    /// It could not be sent, for the target is dead.
    fn judge(&self, vector: Vector) -> std::result::Result<Result, String> {
        if let Err(why) = self.facts.meet(&vector.needs) {
            return Ok(Result::skipped(vector, why));
        }
        let (verdict, exchange) = match self.attempt(&vector, 1) {
            Ok((verdict, exchange)) => (self.survived(verdict, &exchange), exchange),
            Err(error) => {
                self.facts.is_alive(self.target).map_err(|why| format!("a plain request {why}"))?;
                let why = format!("the target cannot always be reached: {error}");
                (Verdict::Unclear(why), Exchange::default())
            }
        };
        let (verdict, exchange) = match rests_on_time(&verdict, &exchange) {
            true => self.again(&vector).unwrap_or((verdict, exchange)),
            false => (verdict, exchange),
        };
        let canary = self.words(&vector, 1).canary();
        Ok(Result { vector, verdict, exchange, canary })
    }

    /// Tries again with more patience.
    fn again(&self, vector: &Vector) -> Option<(Verdict, Exchange)> {
        let (verdict, exchange) = self.attempt(vector, PATIENCE).ok()?;
        Some((self.survived(verdict, &exchange), exchange))
    }

    fn words<'a>(&'a self, vector: &Vector, patience: u32) -> Words<'a> {
        let post = self.facts.post.as_deref().unwrap_or(&self.target.path);
        let upgrade = self.facts.upgrade(&vector.needs);
        Words { target: self.target, post, upgrade, patience }
    }

    fn attempt(&self, vector: &Vector, patience: u32) -> io::Result<(Verdict, Exchange)> {
        let words = self.words(vector, patience);
        let Facts { address, plain_status, is_proxy, .. } = self.facts;
        let known = Known { words, plain_status, is_proxy };
        let timeout = self.target.timeout * patience;
        let exchange = converse(address, &words.steps(vector.send), timeout, |events| {
            decide(&vector.rules, events, &known).is_some()
        })?;
        let verdict = decide(&vector.rules, &exchange.events, &known);
        let verdict = verdict.unwrap_or_else(|| Verdict::Unclear("nothing can be said".into()));
        Ok((verdict, exchange))
    }

    /// A verdict that rests on a close, a reset or silence is one on a target that is still there.
    fn survived(&self, verdict: Verdict, exchange: &Exchange) -> Verdict {
        let is_answered = exchange.events.iter().rev().nth(1).is_some_and(|event| {
            matches!(event, Event::Answer(answer) if answer.status == self.facts.plain_status)
        });
        if exchange.end().is_none() || is_answered {
            return verdict;
        }
        match self.facts.is_alive(self.target) {
            Ok(()) => verdict,
            Err(why) => Verdict::Died(format!("a plain request {why}")),
        }
    }
}

/// Whether a verdict may be owed to a slow target, or to a reset that overtook an answer.
fn rests_on_time(verdict: &Verdict, exchange: &Exchange) -> bool {
    let is_poor = matches!(verdict, Verdict::Fail(_) | Verdict::Unclear(_));
    let is_answered = exchange.events.iter().any(|event| matches!(event, Event::Answer(_)));
    is_poor
        && match exchange.end() {
            Some(End::Open | End::Reset) => true,
            Some(End::Closed) => !is_answered,
            Some(End::Flooded) | None => false,
        }
}
