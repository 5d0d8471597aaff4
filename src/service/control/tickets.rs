//! What takes longer than a connection lasts: begun with one request, asked for with others.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

/// Kept beside one another; the oldest goes when there is another one. Whoever asks for it then is told.
const TICKETS_MAX: usize = 64;
/// The longest that one question waits for the end.
pub(super) const WAIT_MAX: Duration = Duration::from_secs(10);

/// How far each of them is, by number.
#[derive(Debug)]
pub(super) struct Tickets<T>(Mutex<(u64, BTreeMap<u64, Open<T>>)>);

#[derive(Debug)]
struct Open<T> {
    state: watch::Receiver<T>,
    asked: Instant,
}

impl<T> Default for Tickets<T> {
    fn default() -> Self {
        Self(Mutex::new((0, BTreeMap::new())))
    }
}

impl<T: Clone> Tickets<T> {
    /// A new one, and where its progress goes. Once nobody can ask for it any more, `closed` of that says so.
    pub(super) fn add(&self, first: T) -> (u64, watch::Sender<T>) {
        let (sender, receiver) = watch::channel(first);
        let mut tickets = self.lock();
        let (last, open) = &mut *tickets;
        *last += 1;
        open.insert(*last, Open { state: receiver, asked: Instant::now() });
        while open.len() > TICKETS_MAX {
            open.pop_first();
        }
        (*last, sender)
    }

    /// How far it is, once `is_done`, or after `wait`; `None` where there is none of this number.
    pub(super) async fn get(&self, ticket: u64, wait: Duration, is_done: impl Fn(&T) -> bool) -> Option<T> {
        let mut receiver = {
            let mut tickets = self.lock();
            let open = tickets.1.get_mut(&ticket)?;
            open.asked = Instant::now();
            open.state.clone()
        };
        let done = tokio::time::timeout(wait.min(WAIT_MAX), receiver.wait_for(|state| is_done(state)));
        // Whoever was at it may have come to an end without a word; what it said last is all there is.
        drop(done.await);
        let state = receiver.borrow().clone();
        Some(state)
    }

    /// How long ago anyone asked for it; `None` where there is none of this number.
    pub(super) fn asked_for(&self, ticket: u64) -> Option<Duration> {
        Some(self.lock().1.get(&ticket)?.asked.elapsed())
    }

    fn lock(&self) -> MutexGuard<'_, (u64, BTreeMap<u64, Open<T>>)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_ticket_tells_how_far_it_is_and_the_oldest_goes() {
        let tickets = Tickets::default();
        let (first, progress) = tickets.add(0);
        assert_eq!(tickets.get(first, Duration::ZERO, |n| *n > 1).await, Some(0));
        let asked = tickets.get(first, WAIT_MAX, |n| *n > 1);
        progress.send_replace(1);
        progress.send_replace(2);
        assert_eq!(asked.await, Some(2));
        drop(progress);
        assert_eq!(tickets.get(first, WAIT_MAX, |n| *n > 2).await, Some(2), "it is over");
        let all: Vec<_> = (0..TICKETS_MAX).map(|n| tickets.add(n)).collect();
        assert_eq!(tickets.get(first, Duration::ZERO, |_| true).await, None);
        assert!(!all[0].1.is_closed());
    }
}
