//! The way of removals: written down as waiting by whoever sees them, judged by the brake, taken out when they may go.
//! The state is their queue, so that neither many of them nor those that are held take any room.

use std::collections::{BTreeMap, HashSet};

use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::pusher::{Failure, Pusher};
use super::worker::now_ms;
use crate::folder::Hint;
use crate::folder::intake::{Outlook, Sight};
use crate::path::{LocalPath, printable};
use crate::plan::{Brake, Judgement, Planner};
use crate::state::{Change, ChangeKind, Held, RemovalCounts};

/// When to try again what the state did not let us do.
const STATE_RETRY: std::time::Duration = std::time::Duration::from_secs(5);

/// Finished changes that the planner has no room for yet.
type Queue = mpsc::Receiver<Change>;

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
        let Outlook { removals, sight } = *self.outlook.borrow_and_update();
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

    /// Judges what waits, or looks at what is held. With `at_end`, nothing more comes from the folder.
    pub(super) async fn judge(&mut self, pusher: &Pusher, planner: &Planner, queue: &Queue, at_end: bool) {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{BatchLimits, DeleteBrake, MessageTemplate, Transport};
    use crate::content::{Digests, Signature};
    use crate::folder::Inbox;
    use crate::oxen::{Author, Client, ClientOptions};
    use crate::path::RepoPath;
    use crate::push::{PushOptions, PushStatus, Target};
    use crate::state::{BatchRow, BatchTransport, Phase, Presence, State};
    use std::sync::Arc;
    use std::time::Duration;
    use tokio::sync::Semaphore;

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

    /// A folder in mirror mode whose branch holds some files, with a server that nobody asks.
    struct Mirror {
        pusher: Pusher,
        planner: Planner,
        outlook: watch::Sender<Outlook>,
        sender: mpsc::Sender<Change>,
        queue: Queue,
        batches: i64,
        _dir: tempfile::TempDir,
    }

    fn file(name: &str, content: u8) -> Change {
        let signature = Signature { size: 1, mtime_ns: 1, ctime_ns: 1, inode: 1 };
        let digests = Digests { sha256: [content; 32], xxh3: content.into() };
        let path = LocalPath::new(std::path::Path::new(name)).unwrap();
        Change { path, kind: ChangeKind::Put { signature, digests, racy: false } }
    }

    /// Files with these names in front of a number, each with a content of its own.
    fn files(name: &str, contents: std::ops::Range<u8>) -> Vec<Change> {
        contents.map(|content| file(&format!("{name}{content:03}"), content)).collect()
    }

    impl Mirror {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let (state, _) = State::open(dir.path(), "").unwrap();
            let client = Client::new(ClientOptions {
                url: "http://localhost:1".parse().unwrap(),
                key: None,
                proxy: None,
                ca_pem: None,
                connect_timeout: Duration::from_secs(1),
                silence_timeout: Duration::from_secs(1),
            });
            let author = Author { name: "rig-07".to_owned(), email: "rig-07@lab.example".to_owned() };
            let target =
                Target::new(client.unwrap(), "lab/rig".parse().unwrap(), "main".parse().unwrap(), author);
            let options = PushOptions {
                path: dir.path().into(),
                folder: state.folder("a").unwrap(),
                remote_dir: RepoPath::root(),
                transport: Transport::Auto,
                limits: BATCH,
                mirror: true,
                delete_brake: LIMITS,
                release_command: "release".to_owned(),
                message: MessageTemplate::default(),
                host: "rig-07".to_owned(),
                instance: "a".to_owned(),
                concurrency: 1,
                check_interval: Duration::from_secs(3600),
                lasting: true,
                calls: Arc::default(),
            };
            let (inbox, budget) = (Arc::new(Inbox::default()), Arc::new(Semaphore::new(1)));
            let status = watch::Sender::new(PushStatus::default());
            let (sender, queue) = mpsc::channel(100);
            Self {
                pusher: Pusher::new(options, target, state, inbox, budget, status),
                planner: Planner::new(BATCH),
                outlook: watch::Sender::new(Outlook::default()),
                sender,
                queue,
                batches: 0,
                _dir: dir,
            }
        }

        fn removals(&self) -> Removals {
            Removals::load(&self.pusher, self.outlook.subscribe())
        }

        /// The branch holds these.
        fn pushed(&mut self, changes: &[Change]) {
            self.batches += 1;
            let batch = BatchRow {
                id: self.batches,
                phase: Phase::Staging,
                transport: BatchTransport::Put,
                workspace: String::new(),
                message: String::new(),
            };
            let (state, folder) = (&self.pusher.state, self.pusher.options.folder);
            state.open_batch(folder, &batch, changes, 0).unwrap();
            state.close_batch(folder, self.batches, Some("c"), changes, 0).unwrap();
        }

        async fn removed(&mut self, removals: &mut Removals, changes: &[Change]) {
            let paths: Vec<_> = changes.iter().map(|change| change.path.clone()).collect();
            self.pusher.state.mark_gone(self.pusher.options.folder, &paths, Presence::Waiting).unwrap();
            self.outlook.send_modify(|outlook| outlook.removals += paths.len() as u64);
            removals.step(&self.pusher, &mut self.planner).await;
        }

        async fn seen(&mut self, removals: &mut Removals, sight: Sight) {
            self.outlook.send_modify(|outlook| outlook.sight = sight);
            removals.step(&self.pusher, &mut self.planner).await;
            removals.judge(&self.pusher, &self.planner, &self.queue, false).await;
            removals.step(&self.pusher, &mut self.planner).await;
        }

        fn held(&self) -> Option<Held> {
            self.pusher.state.held(self.pusher.options.folder).unwrap()
        }

        /// A data set that gets other names for very long: most of the old ones are gone, and few of the new ones hashed.
        async fn half_renamed(&mut self) -> Removals {
            let mut removals = self.removals();
            self.pushed(&files("old", 0..40));
            self.seen(&mut removals, Sight::Coming).await;
            self.removed(&mut removals, &files("old", 0..40)).await;
            self.pushed(&files("new", 0..4));
            tokio::time::advance(Duration::from_secs(3600)).await;
            self.seen(&mut removals, Sight::Coming).await;
            let held = self.held().unwrap();
            assert_eq!((held.files, held.before), (40, Some(40)));
            removals
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_data_set_that_gets_other_names_for_very_long_is_let_go_when_all_was_seen() {
        for restarted in [false, true] {
            let mut mirror = Mirror::new();
            let mut removals = mirror.half_renamed().await;
            if restarted {
                removals = mirror.removals();
            }
            mirror.pushed(&files("new", 4..30));
            for new in files("new", 30..36) {
                mirror.planner.add(new, Instant::now());
            }
            mirror.sender.send(file("new036", 36)).await.unwrap();
            tokio::time::advance(Duration::from_secs(3600)).await;
            mirror.seen(&mut removals, Sight::Clear).await;
            let before = Some(40);
            assert_eq!(mirror.held().map(|held| held.before), Some(before), "not all of it was taken out");
            mirror.queue.recv().await.unwrap();
            mirror.pushed(&files("new", 36..40));
            mirror.seen(&mut removals, Sight::Clear).await;
            assert_eq!((mirror.held(), removals.is_holding()), (None, false));
            // All of it is on its way.
            let folder = mirror.pusher.options.folder;
            assert_eq!(mirror.pusher.state.released_removals(folder, None, 99).unwrap().len(), 40);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_held_for_now_is_held_for_good_whatever_else_came() {
        let mut mirror = Mirror::new();
        let mut removals = mirror.half_renamed().await;
        // In number these make up for everything.
        mirror.pushed(&files("other", 100..200));
        tokio::time::advance(Duration::from_secs(3600)).await;
        mirror.seen(&mut removals, Sight::Clear).await;
        assert_eq!(mirror.held().map(|held| (held.files, held.before)), Some((40, None)));
        mirror.pushed(&files("new", 4..40));
        mirror.seen(&mut removals, Sight::Clear).await;
        assert!(removals.is_holding(), "someone has to say so by now");
        let folder = mirror.pusher.options.folder;
        assert_eq!(mirror.pusher.state.released_removals(folder, None, 99).unwrap(), []);
    }
}
