use std::time::Duration;

use tokio::time::Instant;

use super::Pusher;
use super::backoff::Backoff;
use super::pusher::Failure;
use super::verdict::Verdict;
use super::worker::now_ms;
use crate::path::printable;
use crate::state::RetryRow;

const fn backoff(base: Duration, cap: Duration) -> Backoff {
    match Backoff::new(base, cap) {
        Some(backoff) => backoff,
        None => panic!("the bounds of a backoff are in order"),
    }
}

/// Between tries of one request.
pub(super) const REQUEST_BACKOFF: Backoff = backoff(Duration::from_millis(500), Duration::from_secs(5));
/// Between tries of a batch.
const BATCH_BACKOFF: Backoff = backoff(Duration::from_secs(1), Duration::from_secs(300));
/// Between tries of a target that lets nobody in.
const STOPPED_RETRY: Duration = Duration::from_secs(15 * 60);
/// Failures in a row that nobody can explain after which the content is suspected.
const SUSPECT_AFTER: u32 = 4;

/// Tries that failed in a row, kept in the state so that a restart does not storm a server that is in trouble.
#[derive(Debug)]
pub(super) struct Tries {
    failures: u32,
    unexplained: u32,
    /// Whether the last one was only a look at the branch.
    looking: bool,
    /// When the next try may begin.
    pub(super) not_before: Instant,
    row: Option<RetryRow>,
}

impl Tries {
    /// What an earlier life left.
    pub(super) fn load(pusher: &Pusher) -> Self {
        let row = pusher.state.retry(pusher.options.folder).unwrap_or_default();
        // A wall clock that jumped must not make us wait longer than we ever would, and someone who starts the service
        // has likely done something about a stop.
        let wait =
            row.as_ref().filter(|row| !row.stopped && pusher.options.lasting).map_or(Duration::ZERO, |row| {
                let left = u64::try_from(row.next_ms - now_ms()).unwrap_or(0);
                Duration::from_millis(left).min(BATCH_BACKOFF.bound(row.attempts))
            });
        Self {
            failures: row.as_ref().filter(|_| pusher.options.lasting).map_or(0, |row| row.attempts),
            unexplained: 0,
            looking: true,
            not_before: Instant::now() + wait,
            row,
        }
    }

    /// How many there were.
    pub(super) fn failures(&self) -> u32 {
        self.failures
    }

    /// The last one, if the next try is still to come.
    pub(super) fn row(&self) -> Option<&RetryRow> {
        self.row.as_ref()
    }

    /// Whether it is time to find out which file is at fault.
    pub(super) fn suspects_content(&self) -> bool {
        self.unexplained >= SUSPECT_AFTER
    }

    /// A delivery came to its end. One that only looked at the branch says nothing of what failed with content.
    pub(super) async fn succeeded(&mut self, pusher: &Pusher, only_looked: bool) {
        if only_looked && !self.looking {
            return;
        }
        let Some(row) = self.row.take() else { return };
        tracing::info!(
            folder = %printable(&pusher.options.path), tries = row.attempts,
            "pushing again; it had failed with: {}", row.reason
        );
        let folder = pusher.options.folder;
        *self = Self { failures: 0, unexplained: 0, looking: true, not_before: Instant::now(), row: None };
        // Kept in memory too; a row that stays costs one wait after the next start.
        let _ = pusher.blocking(move |state| state.set_retry(folder, None)).await;
    }

    /// A delivery came to nothing.
    pub(super) async fn failed(&mut self, pusher: &Pusher, failure: &Failure, only_looked: bool) {
        self.looking = only_looked;
        pusher.status.send_modify(|status| status.failures += 1);
        self.failures = self.failures.saturating_add(1);
        self.unexplained = if failure.may_be_content { self.unexplained + 1 } else { 0 };
        let stopped = failure.verdict == Verdict::Stop;
        let wait = match failure.verdict {
            Verdict::Stop => STOPPED_RETRY,
            // An answer that only has to be asked for is asked for at once, unless that goes on and on.
            Verdict::Ask if self.failures <= 2 => Duration::ZERO,
            _ => BATCH_BACKOFF.wait(self.failures, fastrand::f64(), failure.retry_after),
        };
        self.not_before = Instant::now() + wait;
        let wait_ms = i64::try_from(wait.as_millis()).unwrap_or(i64::MAX);
        let row = RetryRow {
            attempts: self.failures,
            next_ms: now_ms().saturating_add(wait_ms),
            stopped,
            reason: failure.reason.clone(),
        };
        // One line for each change of state, not for each try.
        if self.row.as_ref().is_none_or(|known| known.reason != row.reason) {
            let folder = printable(&pusher.options.path);
            if stopped {
                tracing::error!(%folder, "pushing stopped: {}", row.reason);
            } else {
                tracing::warn!(%folder, "pushing failed and is tried again by itself: {}", row.reason);
            }
        }
        self.row = Some(row.clone());
        let folder = pusher.options.folder;
        let _ = pusher.blocking(move |state| state.set_retry(folder, Some(&row))).await;
    }
}
