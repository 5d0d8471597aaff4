//! The way of removals: written down as waiting by whoever sees them, judged by the brake, taken out when they may go.
//! The state is their queue, so that neither many of them nor those that are held take any room.

use std::collections::BTreeMap;

use tokio::sync::watch;
use tokio::time::Instant;

use super::pusher::{Failure, Pusher};
use super::worker::now_ms;
use crate::folder::intake::{Outlook, Sight};
use crate::path::{LocalPath, printable};
use crate::plan::{Brake, Judgement, Planner};
use crate::state::{Change, ChangeKind, Held, RemovalCounts};

/// When to try again what the state did not let us do.
const STATE_RETRY: std::time::Duration = std::time::Duration::from_secs(5);

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
        let is_left = self.brake.is_waiting() && self.sight() == Sight::Blind;
        let is_judged = !self.brake.is_waiting() && self.blocked.is_empty();
        (is_left || is_judged) && self.next.is_none() && self.retry.is_none()
    }

    fn sight(&self) -> Sight {
        self.outlook.borrow().sight
    }

    /// Waits until the outlook is another.
    pub(super) async fn changed(&mut self) {
        if self.outlook.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// When [`Removals::judge`] is due.
    pub(super) fn due_at(&self) -> Option<Instant> {
        // What the state did not let us do is not tried sooner, however long it has been due.
        self.retry.or_else(|| self.brake.due_at(self.sight()))
    }

    /// The same where nothing more comes from the folder.
    pub(super) fn due_at_end(&self) -> Option<Instant> {
        let is_unjudged = self.brake.is_waiting() && self.sight() != Sight::Blind;
        if is_unjudged { self.retry.or_else(|| Some(Instant::now())) } else { self.due_at() }
    }

    /// When removals that wait are judged, which may then go with others.
    pub(super) fn judged_at(&self) -> Option<Instant> {
        self.brake.due_at(self.sight()).filter(|_| self.brake.is_waiting())
    }

    /// Takes note of removals that came, and hands those that may go to the planner as far as it has room.
    pub(super) async fn step(&mut self, pusher: &Pusher, planner: &mut Planner) {
        if !pusher.options.mirror {
            return;
        }
        let Outlook { removals, sight } = *self.outlook.borrow_and_update();
        if sight == Sight::Looking {
            self.brake.looking(Instant::now());
        }
        if removals != self.seen && self.retry.is_none() {
            let came = removals.wrapping_sub(self.seen);
            self.seen = removals;
            if self.brake.is_waiting() {
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

    /// What the brake compares. Counting looks at every row; who writes need not wait for that.
    async fn count(pusher: &Pusher) -> Result<RemovalCounts, Failure> {
        let (folder, is_off) = (pusher.options.folder, pusher.options.delete_brake.is_off());
        pusher
            .blocking(move |state| {
                if is_off {
                    return Ok(RemovalCounts { waiting: state.removals_waiting(folder)?, here: 0 });
                }
                state.reader()?.removal_counts(folder)
            })
            .await
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
        let (folder, max) = (pusher.options.folder, pusher.options.limits.max_files);
        while let Some(from) = self.next.clone().filter(|_| self.retry.is_none() && !planner.is_full()) {
            let count = max.saturating_sub(planner.len()).max(1);
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
        Ok(())
    }

    /// Someone has done something: what was let go by hand goes.
    pub(super) fn kick(&mut self, pusher: &Pusher) {
        if pusher.options.mirror {
            self.next = Some(From::Start);
            self.retry = Some(Instant::now());
        }
    }

    /// Judges what waits, or looks at what is held. With `at_end`, nothing more comes from the folder.
    pub(super) async fn judge(&mut self, pusher: &Pusher, planner: &Planner, at_end: bool) {
        self.retry = self.retry.filter(|at| *at > Instant::now());
        let judged = async {
            if self.brake.is_holding() {
                self.look_at_held(pusher).await
            } else if self.brake.is_waiting() {
                self.judge_waiting(pusher, planner, at_end).await
            } else {
                self.begin(pusher).await
            }
        };
        match judged.await {
            Ok(()) => self.failures = 0,
            Err(failure) => self.fail(pusher, &failure),
        }
    }

    async fn look_at_held(&mut self, pusher: &Pusher) -> Result<(), Failure> {
        let folder = pusher.options.folder;
        let ended = pusher.blocking(move |state| {
            let has_ended = state.end_holding(folder)?;
            has_ended.then(|| state.let_go_lately(folder)).transpose()
        });
        if let Some(lately) = ended.await? {
            // All of it came back, or it was let go by hand: then what went before is as it should be too.
            self.brake.idle();
            self.brake.recall(ages(&lately), Instant::now());
            tracing::info!(folder = %printable(&pusher.options.path), "no removal is held any more");
            self.begin(pusher).await?;
        }
        self.brake.checked(Instant::now());
        Ok(())
    }

    async fn judge_waiting(
        &mut self,
        pusher: &Pusher,
        planner: &Planner,
        at_end: bool,
    ) -> Result<(), Failure> {
        let folder = pusher.options.folder;
        let counts = Self::count(pusher).await?;
        let Some(wait) = self.brake.waiting().filter(|_| counts.waiting > 0) else {
            // All of it came back.
            self.brake.idle();
            return Ok(());
        };
        // What waits to be pushed is in the folder as well, unless it is counted already.
        let puts: Vec<LocalPath> = planner.puts().cloned().collect();
        let new = pusher
            .blocking(move |state| {
                let mut new = 0;
                for path in puts {
                    let is_here = state.file(folder, &path)?.is_some_and(|row| row.is_here());
                    new += u64::from(!is_here);
                }
                Ok(new)
            })
            .await?;
        let (sight, now) = (self.sight(), Instant::now());
        // What a folder said that cannot be used may not be true.
        let at_end = at_end && sight != Sight::Blind;
        match self.brake.judge(counts.here + new, sight, at_end, now) {
            Judgement::Wait => self.waiting = counts.waiting,
            Judgement::LetGo => {
                // No more than was counted: more may have come meanwhile.
                let most = Some(counts.waiting);
                let lately: Vec<_> = self
                    .brake
                    .lately(now)
                    .into_iter()
                    .map(|(age, before)| {
                        let age_ms = i64::try_from(age.as_millis()).unwrap_or(i64::MAX);
                        (now_ms().saturating_sub(age_ms), before)
                    })
                    .collect();
                let released = pusher.blocking(move |state| {
                    // First, so that what goes counts whatever happens.
                    state.note_let_go(folder, &lately)?;
                    state.release_removals(folder, most)?;
                    state.removals_waiting(folder)
                });
                match released.await {
                    Ok(left) => {
                        self.next = Some(From::Start);
                        self.span = wait.span();
                        if left > 0 {
                            self.begin(pusher).await?;
                        }
                    }
                    Err(failure) => {
                        self.brake.again(wait, now);
                        return Err(failure);
                    }
                }
            }
            Judgement::Hold => {
                match pusher.blocking(move |state| state.hold_removals(folder, now_ms())).await {
                    Ok(Some(held)) => tell(pusher, &held),
                    Ok(None) => self.brake.idle(),
                    Err(failure) => {
                        self.brake.again(wait, now);
                        return Err(failure);
                    }
                }
            }
        }
        Ok(())
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

fn tell(pusher: &Pusher, held: &Held) {
    let limits = pusher.options.delete_brake;
    tracing::warn!(
        folder = %printable(&pusher.options.path), files = held.files,
        "the folder has lost more than {} % of its files at once, so nothing is removed from the branch; everything else \
         goes on; if they are to go from the branch too: {}",
        limits.share_percent, pusher.options.release_command
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{BatchLimits, DeleteBrake};
    use crate::content::{Digests, Signature};
    use std::time::Duration;

    const LIMITS: DeleteBrake = DeleteBrake { share_percent: 50, files: 10 };
    const BATCH: BatchLimits = BatchLimits {
        quiet: Duration::from_secs(1),
        max_wait: Duration::from_secs(30),
        max_files: 8,
        max_bytes: 100,
    };

    /// The way of removals of a folder that is seen so, when all that came before is gone.
    fn removals(sight: Sight) -> Removals {
        let now = Instant::now();
        let (_, outlook) = watch::channel(Outlook { removals: 0, sight });
        Removals {
            brake: Brake::new(LIMITS, BATCH, false, now),
            outlook,
            seen: 0,
            waiting: 0,
            next: None,
            span: (now, now),
            blocked: BTreeMap::new(),
            retry: None,
            failures: 0,
        }
    }

    #[test]
    fn what_the_state_could_not_be_asked_about_is_not_done() {
        let mut removals = removals(Sight::Clear);
        assert!(removals.is_done());
        removals.retry = Some(Instant::now());
        assert!(!removals.is_done());
    }

    fn put(path: &str, size: u64) -> Change {
        let signature = Signature { size, mtime_ns: 0, ctime_ns: 0, inode: 0 };
        let digests = Digests { sha256: [0; 32], xxh3: 0 };
        let path = LocalPath::new(std::path::Path::new(path)).unwrap();
        Change { path, kind: ChangeKind::Put { signature, digests, racy: false } }
    }

    #[test]
    fn files_in_the_way_of_removals_that_cannot_be_judged_do_not_keep_a_push_from_its_end() {
        for (sight, is_done) in [(Sight::Blind, true), (Sight::Looking, false), (Sight::Clear, false)] {
            let mut removals = removals(sight);
            removals.brake.removed(20, Instant::now());
            removals.set_apart(&[], vec![put("t", 1)]);
            assert_eq!(removals.is_done(), is_done, "{sight:?}");
            removals.brake.idle();
            assert!(!removals.is_done(), "it can go back to the others");
        }
    }

    #[test]
    fn of_a_file_that_waits_for_removals_the_latest_counts() {
        let mut removals = removals(Sight::Clear);
        removals.set_apart(&[], vec![put("t", 1), put("u", 1)]);
        removals.set_apart(&[put("u", 2)], vec![put("t", 2)]);
        assert_eq!(removals.blocked.into_values().collect::<Vec<_>>(), [put("t", 2)]);
    }
}
