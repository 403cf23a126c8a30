//! Two futures in one task. They are pinned where they are made and lent here: an `async fn` that
//! took them would hold each twice.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::Poll;

/// Which of two came first, and what it gave.
pub(crate) enum Either<A, B> {
    /// The first.
    First(A),
    /// The second.
    Second(B),
}

/// What is ready first; the other is left where it waits. When both are, the first.
pub(crate) fn first<A, B>(mut a: A, mut b: B) -> impl Future<Output = Either<A::Output, B::Output>>
where
    A: Future + Unpin,
    B: Future + Unpin,
{
    poll_fn(move |context| {
        if let Poll::Ready(output) = Pin::new(&mut a).poll(context) {
            return Poll::Ready(Either::First(output));
        }
        Pin::new(&mut b).poll(context).map(Either::Second)
    })
}

/// A future that goes on while others are waited for, and what it gave when it ended.
pub(crate) struct Side<'a, F, T> {
    future: Pin<&'a mut F>,
    pub(crate) output: Option<T>,
}

impl<'a, F, T> Side<'a, F, T> {
    pub(crate) fn new(future: Pin<&'a mut F>) -> Side<'a, F, T> {
        Side { future, output: None }
    }
}

/// What `main` gives. `side` goes on as long as it has not ended.
///
/// # Errors
/// That of `side`.
pub(crate) fn beside<M, F, T, E>(
    mut main: M,
    side: &mut Side<'_, F, T>,
) -> impl Future<Output = Result<M::Output, E>>
where
    M: Future + Unpin,
    F: Future<Output = Result<T, E>>,
{
    poll_fn(move |context| {
        if side.output.is_none()
            && let Poll::Ready(output) = side.future.as_mut().poll(context)
        {
            side.output = Some(output?);
        }
        Pin::new(&mut main).poll(context).map(Ok)
    })
}

/// Both to their end, or to the first error of one of them.
pub(crate) fn both<E>(
    mut a: impl Future<Output = Result<(), E>> + Unpin,
    mut b: impl Future<Output = Result<(), E>> + Unpin,
) -> impl Future<Output = Result<(), E>> {
    let (mut is_a_over, mut is_b_over) = (false, false);
    poll_fn(move |context| {
        if !is_a_over && let Poll::Ready(output) = Pin::new(&mut a).poll(context) {
            output?;
            is_a_over = true;
        }
        if !is_b_over && let Poll::Ready(output) = Pin::new(&mut b).poll(context) {
            output?;
            is_b_over = true;
        }
        if is_a_over && is_b_over { Poll::Ready(Ok(())) } else { Poll::Pending }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::{pending, ready};
    use std::pin::pin;
    use std::task::{Context, Waker};

    fn now<F: Future>(future: F) -> Option<F::Output> {
        match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(output) => Some(output),
            Poll::Pending => None,
        }
    }

    #[test]
    fn the_first_that_is_ready_wins_and_the_first_of_two() {
        assert!(matches!(now(first(ready(1), ready(2))), Some(Either::First(1))));
        assert!(matches!(now(first(pending::<()>(), ready(2))), Some(Either::Second(2))));
        assert!(now(first(pending::<()>(), pending::<()>())).is_none());
    }

    #[test]
    fn both_end_or_the_first_error_does() {
        let fine = || ready(Ok::<(), u8>(()));
        assert_eq!(now(both(fine(), fine())), Some(Ok(())));
        assert_eq!(now(both(fine(), pending())), None);
        assert_eq!(now(both(pending(), ready(Err(7)))), Some(Err(7)));
        assert_eq!(now(both(ready(Err(8)), pending())), Some(Err(8)));
    }

    #[test]
    fn the_side_is_polled_to_its_end_and_not_further() {
        let mut future = pin!(ready(Ok::<u8, u8>(3)));
        let mut side = Side::new(future.as_mut());
        assert!(now(beside(pending::<()>(), &mut side)).is_none());
        assert_eq!(side.output, Some(3));
        assert_eq!(now(beside(ready(4), &mut side)), Some(Ok(4)));
        let mut future = pin!(ready(Err::<u8, u8>(5)));
        let mut side = Side::new(future.as_mut());
        assert_eq!(now(beside(pending::<()>(), &mut side)), Some(Err(5)));
    }
}
