//! What waits is counted, judged by the brake, and held or let go in the state.

use std::collections::HashSet;

use tokio::time::Instant;

use super::super::pusher::{Failure, Pusher};
use super::super::worker::now_ms;
use super::{From, Queue, Removals, ages};
use crate::folder::Hint;
use crate::folder::intake::Sight;
use crate::path::{LocalPath, printable};
use crate::plan::{Judgement, Planner};
use crate::state::{Change, ChangeKind, Held, RemovalCounts};

impl Removals {
    /// Judges what waits, or looks at what is held. With `at_end`, nothing more comes from the folder.
    pub(in super::super) async fn judge(
        &mut self,
        pusher: &Pusher,
        planner: &Planner,
        queue: &Queue,
        at_end: bool,
    ) {
        if !pusher.options.mirror {
            return self.keep(pusher).await;
        }
        self.retry = self.retry.filter(|at| *at > Instant::now());
        let judged = async {
            if self.brake.is_holding() {
                self.look_at_held(pusher).await?;
                let at_end = at_end && !self.is_blind();
                if self.brake.is_due_again(self.sight(queue), at_end, Instant::now()) {
                    self.judge_waiting(pusher, planner, queue, at_end).await?;
                }
                Ok(())
            } else if self.brake.is_waiting() {
                self.judge_waiting(pusher, planner, queue, at_end).await
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
        queue: &Queue,
        at_end: bool,
    ) -> Result<(), Failure> {
        let folder = pusher.options.folder;
        let is_held = self.brake.is_holding();
        let counts = Self::count(pusher).await?;
        let Some(wait) = self.brake.waiting().filter(|_| counts.waiting > 0) else {
            // All of it came back. What is held is let go where that is written down.
            if !is_held {
                self.brake.idle();
            }
            return Ok(());
        };
        let here = counts.here + self.coming(pusher, planner).await?;
        let left = match is_held {
            // In the time that it takes to see everything, other files may have come in any number: these make up for
            // nothing.
            true => here.min(wait.before().saturating_sub(self.lost(pusher, planner).await?)),
            false => here,
        };
        let (sight, now) = (self.sight(queue), Instant::now());
        // What a folder said that cannot be used may not be true.
        let at_end = at_end && sight != Sight::Blind;
        let judgement = self.brake.judge(left, sight, at_end, now);
        match judgement {
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
                    if is_held {
                        // Files may stand in the place of directories that were held.
                        state.release_quarantine(folder)?;
                    }
                    state.release_removals(folder, most)?;
                    state.removals_waiting(folder)
                });
                match released.await {
                    Ok(left) => {
                        if is_held {
                            tracing::info!(
                                folder = %printable(&pusher.options.path),
                                "no removal is held any more: all of the folder was seen, and it has not lost too much"
                            );
                            pusher.inbox.add(Hint::Tree(LocalPath::root()));
                        }
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
            Judgement::Hold | Judgement::HoldForNow => {
                let before = (judgement == Judgement::HoldForNow).then(|| wait.before());
                match pusher.blocking(move |state| state.hold_removals(folder, before, now_ms())).await {
                    Ok(Some(held)) => tell(pusher, &held),
                    // All of it came back meanwhile. That something was held is written down, and looked at again.
                    Ok(None) if is_held => {}
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

    /// What the brake compares. Counting looks at every row; who writes need not wait for that.
    pub(super) async fn count(pusher: &Pusher) -> Result<RemovalCounts, Failure> {
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

    /// The files that wait to be pushed.
    fn puts<'a>(&'a self, planner: &'a Planner) -> impl Iterator<Item = &'a Change> {
        planner.puts().chain(self.blocked.values())
    }

    /// How many files wait to be pushed that are not counted as here already.
    async fn coming(&self, pusher: &Pusher, planner: &Planner) -> Result<u64, Failure> {
        let folder = pusher.options.folder;
        let paths: Vec<LocalPath> = self.puts(planner).map(|change| change.path.clone()).collect();
        let new = pusher.blocking(move |state| {
            let mut new = 0;
            for path in paths {
                let is_here = state.file(folder, &path)?.is_some_and(|row| row.is_here());
                new += u64::from(!is_here);
            }
            Ok(new)
        });
        new.await
    }

    /// Of how many files that are to go the folder has the content under no other name.
    async fn lost(&self, pusher: &Pusher, planner: &Planner) -> Result<u64, Failure> {
        let folder = pusher.options.folder;
        let content = |change: &Change| match change.kind {
            ChangeKind::Put { digests, .. } => Some(digests.xxh3),
            ChangeKind::Remove => None,
        };
        let coming: HashSet<u128> = self.puts(planner).filter_map(content).collect();
        pusher.blocking(move |state| state.reader()?.removals_lost(folder, &coming)).await
    }
}

/// Says what is held, and what to do.
pub(super) fn tell(pusher: &Pusher, held: &Held) {
    let (limits, release) = (pusher.options.delete_brake, &pusher.options.release_command);
    let (folder, files, share) = (printable(&pusher.options.path), held.files, limits.share_percent);
    match held.before {
        None => tracing::warn!(
            %folder, files,
            "the folder has lost more than {share} % of its files at once, so nothing is removed from the branch; \
             everything else goes on; if they are to go from the branch too: {release}"
        ),
        Some(_) => tracing::warn!(
            %folder, files,
            "the folder seems to lose more than {share} % of its files, so nothing is removed from the branch until all \
             of it was seen, which then decides; everything else goes on; if they are to go from the branch now: {release}"
        ),
    }
}
