//! The way of removals: written down as waiting by whoever sees them, judged by the brake, taken out when they may go.
//! The state is their queue, so that neither many of them nor those that are held take any room.

mod judge;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use self::judge::tell;
use super::pusher::{Failure, Pusher};
use super::worker::now_ms;
use crate::folder::intake::{Finished, Outlook, Sight};
use crate::path::{LocalPath, printable};
use crate::plan::{Brake, Planner};
use crate::state::{Change, ChangeKind};

/// When to try again what the state did not let us do.
const STATE_RETRY: std::time::Duration = std::time::Duration::from_secs(5);

/// Finished changes that the planner has no room for yet.
type Queue = mpsc::Receiver<Finished>;

#[derive(Debug)]
pub(super) struct Removals {
    brake: Brake,
    outlook: watch::Receiver<Outlook>,
    /// How many the outlook had counted when it was last looked at.
    seen: u64,
    /// Removals that wait for the brake, as far as they were counted.
    waiting: u64,
    /// Where those that may go are taken out next; `None` where none is left.
    next: Option<From>,
    /// When the first and the last of those that may go came.
    span: (Instant, Instant),
    /// Files in the place of a directory that removals are about to clear.
    blocked: BTreeMap<LocalPath, Change>,
    /// The state could not be asked; it is asked again then.
    retry: Option<Instant>,
    /// How often in a row it could not be.
    failures: u32,
}

/// From where on removals are taken out.
#[derive(Debug, Clone)]
enum From {
    Start,
    Behind(LocalPath),
}

impl Removals {
    /// What an earlier life left: what is held stays so, what may go goes, the rest is judged once the folder was looked
    /// at.
    pub(super) fn load(pusher: &Pusher, outlook: watch::Receiver<Outlook>) -> Self {
        let (options, now) = (&pusher.options, Instant::now());
        let held = if options.mirror { pusher.state.held(options.folder).unwrap_or_default() } else { None };
        let mut brake = Brake::new(options.delete_brake, options.limits, held.is_some(), now);
        if let Some(before) = held.and_then(|held| held.before) {
            brake.judge_again(before, now);
        }
        brake.recall(ages(&pusher.state.let_go_lately(options.folder).unwrap_or_default()), now);
        let removals = Self {
            brake,
            outlook,
            seen: 0,
            waiting: 0,
            next: options.mirror.then_some(From::Start),
            span: (now, now),
            blocked: BTreeMap::new(),
            retry: options.mirror.then_some(now),
            failures: 0,
        };
        if let Some(held) = held {
            tell(pusher, &held);
        }
        removals
    }

    /// How often in a row the state could not be asked about removals.
    pub(super) fn failures(&self) -> u32 {
        self.failures
    }

    /// Whether removals are held.
    pub(super) fn is_holding(&self) -> bool {
        self.brake.is_holding()
    }

    /// Whether more of those that may go are still to be taken out.
    pub(super) fn has_more(&self) -> bool {
        self.next.is_some()
    }

    /// How many changes wait here.
    pub(super) fn len(&self) -> u64 {
        let waiting = if self.brake.is_waiting() { self.waiting } else { 0 };
        waiting + self.blocked.len() as u64
    }

    /// Whether anything is left to be done once the folder has been looked at to its end.
    pub(super) fn is_done(&self) -> bool {
        // What waits for a folder that cannot be used, and what waits for that, is left to the next look.
        let is_left = self.brake.is_unjudged() && self.is_blind();
        let is_judged = !self.brake.is_unjudged() && self.blocked.is_empty();
        (is_left || is_judged) && self.next.is_none() && self.retry.is_none()
    }

    fn is_blind(&self) -> bool {
        self.outlook.borrow().sight == Sight::Blind
    }

    /// How much of the folder was seen, and is counted. A file that nobody has taken out of the queue is counted nowhere:
    /// who judges then may take it for lost. That the planner is full says nothing by itself, since what is in there is
    /// counted.
    fn sight(&self, queue: &Queue) -> Sight {
        match self.outlook.borrow().sight {
            // Asked in this order: all that was seen before it was clear is in the queue by then.
            Sight::Clear if !queue.is_empty() => Sight::Coming,
            sight => sight,
        }
    }

    /// Whether part of a run may have come from the folder, and the rest is about to.
    pub(super) fn is_gathering(&self) -> bool {
        self.outlook.borrow().gathering
    }

    /// Waits until the outlook is another.
    pub(super) async fn changed(&mut self) {
        if self.outlook.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// When [`Removals::judge`] is due.
    pub(super) fn due_at(&self, queue: &Queue) -> Option<Instant> {
        // What the state did not let us do is not tried sooner, however long it has been due.
        self.retry.or_else(|| self.brake.due_at(self.sight(queue)))
    }

    /// The same where nothing more comes from the folder.
    pub(super) fn due_at_end(&self, queue: &Queue) -> Option<Instant> {
        let is_due = self.brake.is_unjudged() && !self.is_blind();
        if is_due { self.retry.or_else(|| Some(Instant::now())) } else { self.due_at(queue) }
    }

    /// When removals that wait are judged, which may then go with others.
    pub(super) fn judged_at(&self, queue: &Queue) -> Option<Instant> {
        self.brake.due_at(self.sight(queue)).filter(|_| self.brake.is_waiting())
    }

    /// Has the branch keep what an earlier life wanted to remove, where nothing is to be removed any more.
    pub(super) async fn keep(&mut self, pusher: &Pusher) {
        if pusher.options.mirror {
            return;
        }
        let folder = pusher.options.folder;
        match pusher.blocking(move |state| state.keep_removed(folder)).await {
            Ok(()) => (self.retry, self.failures) = (None, 0),
            Err(failure) => self.fail(pusher, &failure),
        }
    }

    /// Takes note of removals that came, and hands those that may go to the planner as far as it has room.
    pub(super) async fn step(&mut self, pusher: &Pusher, planner: &mut Planner) {
        if !pusher.options.mirror {
            return;
        }
        let Outlook { removals, sight, .. } = *self.outlook.borrow_and_update();
        if sight == Sight::Looking {
            self.brake.looking(Instant::now());
        }
        if removals != self.seen && self.retry.is_none() {
            let came = removals.wrapping_sub(self.seen);
            self.seen = removals;
            if self.brake.is_unjudged() {
                self.waiting += came;
                self.brake.removed(0, Instant::now());
            } else if !self.brake.is_holding()
                && let Err(failure) = self.begin(pusher).await
            {
                self.fail(pusher, &failure);
            }
        }
        if let Err(failure) = self.take_out(pusher, planner).await {
            self.fail(pusher, &failure);
        }
        if !self.brake.is_waiting() && self.next.is_none() && !self.blocked.is_empty() {
            planner.put_back(std::mem::take(&mut self.blocked).into_values(), Instant::now());
        }
    }

    /// Removals may have come where none waited: counts what there was before.
    async fn begin(&mut self, pusher: &Pusher) -> Result<(), Failure> {
        let counts = Self::count(pusher).await?;
        self.waiting = counts.waiting;
        if counts.waiting > 0 {
            self.brake.removed(counts.waiting + counts.here, Instant::now());
        }
        Ok(())
    }

    fn fail(&mut self, pusher: &Pusher, failure: &Failure) {
        // One line for each change of state, not for each try.
        if self.failures == 0 {
            tracing::warn!(folder = %printable(&pusher.options.path), "removals wait: {}", failure.reason);
        }
        self.failures += 1;
        self.retry = Some(Instant::now() + STATE_RETRY);
    }

    async fn take_out(&mut self, pusher: &Pusher, planner: &mut Planner) -> Result<(), Failure> {
        let folder = pusher.options.folder;
        loop {
            let count = planner.room_for_removals();
            let Some(from) = self.next.clone().filter(|_| self.retry.is_none() && count > 0) else {
                return Ok(());
            };
            let paths = pusher
                .blocking(move |state| {
                    let after = match &from {
                        From::Start => None,
                        From::Behind(path) => Some(path),
                    };
                    state.released_removals(folder, after, count)
                })
                .await?;
            self.next = paths.last().filter(|_| paths.len() == count).cloned().map(From::Behind);
            planner.let_go(paths, self.span);
        }
    }

    /// Someone has done something: what was let go by hand goes.
    pub(super) fn kick(&mut self, pusher: &Pusher) {
        if pusher.options.mirror {
            self.next = Some(From::Start);
            self.retry = Some(Instant::now());
        }
    }

    /// Keeps changes that are blocked. The latest of a path counts, also where that is pushed.
    fn set_apart(&mut self, pushed: &[Change], blocked: Vec<Change>) {
        if !self.blocked.is_empty() {
            pushed.iter().for_each(|change| drop(self.blocked.remove(&change.path)));
        }
        self.blocked.extend(blocked.into_iter().map(|change| (change.path.clone(), change)));
    }

    /// Takes out of a batch, until those are judged or gone, files in the place of a directory that removals clear.
    pub(super) async fn part(&mut self, pusher: &Pusher, batch: Vec<Change>) -> Vec<Change> {
        if !self.brake.is_waiting() && self.next.is_none() {
            return batch;
        }
        let (folder, changes) = (pusher.options.folder, batch.clone());
        let parted = pusher.blocking(move |state| {
            let mut parted = (Vec::new(), Vec::new());
            for change in changes {
                let is_put = change.kind != ChangeKind::Remove;
                let waits = is_put && state.has_removals_below(folder, &change.path)?;
                if waits { &mut parted.1 } else { &mut parted.0 }.push(change);
            }
            Ok(parted)
        });
        match parted.await {
            Ok((batch, blocked)) => {
                self.set_apart(&batch, blocked);
                batch
            }
            // The server will say what cannot be.
            Err(_) => batch,
        }
    }
}

/// How long ago that was. What lies ahead, since the clock was set, counts as now.
fn ages(lately: &[(i64, u64)]) -> impl Iterator<Item = (std::time::Duration, u64)> {
    let now_ms = now_ms();
    lately.iter().map(move |(at_ms, before)| {
        let age_ms = u64::try_from(now_ms.saturating_sub(*at_ms)).unwrap_or(0);
        (std::time::Duration::from_millis(age_ms), *before)
    })
}
