use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::Instant;

use super::Clients;
use super::asks::Asks;
use super::folder::{RunningFolder, Shared};
use crate::config::{Config, Folder, FolderId};
use crate::folder::Hint;
use crate::page::Gauge;
use crate::push::compare::Comparison;
use crate::push::{PushPhase, PushStatus};
use crate::state::{State, StateError};
use crate::status::{self, FolderState, LiveFolder};

/// How soon a folder that cannot be started is tried again.
const START_RETRY: Duration = Duration::from_secs(10);
/// The longest that a folder's work may take to end. What does not end by then is left to the next start.
pub(super) const STOP_WAIT: Duration = Duration::from_secs(25);
/// Work at the server that has not moved for so long, and for longer than any request of it may take, moves no more.
const STANDSTILL: Duration = Duration::from_secs(60 * 60);

/// All folders of the service: those at work, those that end, and those that cannot be started.
#[derive(Debug)]
pub(super) struct Folders {
    shared: Shared,
    clients: Clients,
    slots: Arc<Mutex<BTreeMap<FolderId, Slot>>>,
    ending: JoinSet<FolderId>,
}

/// What a folder is in.
#[derive(Debug)]
enum Slot {
    Running {
        work: Box<RunningFolder>,
        /// The last move at the server, and when it was seen.
        moved: (PushStatus, Instant),
    },
    /// Its work ends; what is to start then.
    Ending { then: Option<Folder> },
    /// It could not be started, and why.
    Failed { folder: Folder, reason: String, again: Instant },
}

/// What a report can say of a folder that the service knows.
#[derive(Debug)]
pub(super) enum Seen {
    Live(Box<LiveFolder>),
    Failed(String),
    /// It begins or ends.
    Between,
}

/// Folders as seen by reports, from any thread.
#[derive(Debug, Clone)]
pub(super) struct View(Arc<Mutex<BTreeMap<FolderId, Slot>>>);

impl View {
    /// What each folder is in.
    pub(super) fn look(&self) -> BTreeMap<FolderId, Seen> {
        let seen = |slot: &Slot| match slot {
            Slot::Running { work, .. } => Seen::Live(Box::new(work.live())),
            Slot::Ending { .. } => Seen::Between,
            Slot::Failed { reason, .. } => Seen::Failed(reason.clone()),
        };
        lock(&self.0).iter().map(|(id, slot)| (id.clone(), seen(slot))).collect()
    }
}

impl View {
    fn with<T>(&self, id: &FolderId, ask: impl FnOnce(&RunningFolder) -> T) -> Option<T> {
        match lock(&self.0).get(id) {
            Some(Slot::Running { work, .. }) => Some(ask(work)),
            _ => None,
        }
    }

    /// Has the folder, if it is at work, look at everything anew.
    pub(super) fn refresh(&self, id: &FolderId, state: &State) -> Result<(), StateError> {
        self.with(id, |work| work.refresh(state)).unwrap_or(Ok(()))
    }

    /// Has the folder, if it is at work, look where the hints say.
    pub(super) fn hint(&self, id: &FolderId, hints: impl IntoIterator<Item = Hint>) {
        self.with(id, |work| hints.into_iter().for_each(|hint| work.hint(hint)));
    }

    /// Cuts a wait for the next try short.
    pub(super) fn kick(&self, id: &FolderId) {
        self.with(id, RunningFolder::kick);
    }

    /// Pauses the folder, or resumes it, if it is at work.
    pub(super) fn set_paused(&self, id: &FolderId, is_paused: bool) {
        self.with(id, |work| work.set_paused(is_paused));
    }

    /// The ways to ask the folder, if it is at work.
    pub(super) fn asks(&self, id: &FolderId) -> Option<Asks> {
        self.with(id, |work| work.asks().clone())
    }

    /// What to compare the folder with its branch by, if it is at work.
    pub(super) fn comparison(&self, id: &FolderId, state: &State) -> Option<Comparison> {
        self.with(id, |work| work.comparison(state))
    }

    /// What the folder is in, and why where something is wrong; `None` where there is no such folder.
    pub(super) fn state_of(&self, id: &FolderId) -> (Option<FolderState>, Option<String>) {
        match lock(&self.0).get(id) {
            Some(Slot::Running { work, .. }) => {
                let (state, why) = status::state_of(&work.intake.borrow(), &work.push.borrow());
                (Some(state), why)
            }
            Some(Slot::Ending { .. }) => (Some(FolderState::Starting), None),
            Some(Slot::Failed { reason, .. }) => (Some(FolderState::Broken), Some(reason.clone())),
            None => (None, None),
        }
    }

    /// Whether the folder waits while others of a higher priority are sent.
    pub(super) fn is_behind(&self, id: &FolderId) -> bool {
        self.with(id, |work| work.push.borrow().is_behind).unwrap_or(false)
    }

    /// Waits until the folder is in something that does not pass by itself, or is no longer at work.
    pub(super) async fn trouble(&self, id: &FolderId) {
        let Some((mut intake, mut push)) = self.with(id, |work| (work.intake.clone(), work.push.clone()))
        else {
            return;
        };
        loop {
            let is_trouble = matches!(
                self.state_of(id).0,
                None | Some(
                    FolderState::Broken
                        | FolderState::Stopped
                        | FolderState::Paused
                        | FolderState::OutsideWindow
                )
            );
            if is_trouble {
                return;
            }
            let changed = tokio::select! {
                changed = intake.changed() => changed,
                changed = push.changed() => changed,
            };
            if changed.is_err() {
                return;
            }
        }
    }
}

impl Folders {
    pub(super) fn new(shared: Shared, clients: Clients) -> Self {
        Self { shared, clients, slots: Arc::default(), ending: JoinSet::new() }
    }

    pub(super) fn view(&self) -> View {
        View(Arc::clone(&self.slots))
    }

    /// Starts a folder, at once or as soon as its former work has ended.
    pub(super) fn start(&mut self, config: &Config, folder: &Folder) {
        let id = folder.id();
        if let Some(Slot::Ending { then }) = lock(&self.slots).get_mut(&id) {
            *then = Some(folder.clone());
            return;
        }
        let slot = match self.shared.start(config, folder, &mut self.clients, true) {
            Ok(work) => {
                tracing::info!(folder = %id, "folder started");
                Slot::Running { work: Box::new(work), moved: (PushStatus::default(), Instant::now()) }
            }
            Err(error) => {
                let reason = error.to_string();
                let is_known = matches!(
                    lock(&self.slots).get(&id), Some(Slot::Failed { reason: known, .. }) if *known == reason
                );
                if !is_known {
                    tracing::error!(folder = %id, "folder cannot be started and is tried again: {reason}");
                }
                Slot::Failed { folder: folder.clone(), reason, again: Instant::now() + START_RETRY }
            }
        };
        lock(&self.slots).insert(id, slot);
    }

    /// Has folders end their work, and does not wait for it.
    pub(super) fn end(&mut self, ids: &[FolderId]) {
        for id in ids {
            let mut slots = lock(&self.slots);
            match slots.remove(id) {
                Some(Slot::Running { work, .. }) => {
                    slots.insert(id.clone(), Slot::Ending { then: None });
                    self.ending.spawn(ended(id.clone(), *work));
                }
                Some(Slot::Ending { .. }) => {
                    slots.insert(id.clone(), Slot::Ending { then: None });
                }
                Some(Slot::Failed { .. }) | None => {}
            }
        }
    }

    /// Waits until some folder's work has ended; never where none is to.
    pub(super) async fn ended(&mut self) -> FolderId {
        loop {
            match self.ending.join_next().await {
                Some(Ok(id)) => return id,
                // Nothing in there panics; a folder that it happened to would be kept from starting.
                Some(Err(_)) => {}
                None => std::future::pending().await,
            }
        }
    }

    /// A folder's work has ended: starts what waits for that.
    pub(super) fn start_next(&mut self, config: &Config, id: &FolderId) {
        let then = match lock(&self.slots).remove(id) {
            Some(Slot::Ending { then }) => then,
            _ => None,
        };
        if let Some(folder) = then {
            self.start(config, &folder);
        }
    }

    /// Has all folders keep to the timetables of the config at this time by the wall clock.
    pub(super) fn keep_timetables(&mut self, config: &Config) {
        for folder in &config.folders {
            self.clients.limits().of(&folder.server);
        }
        self.clients.limits().keep();
        let slots = lock(&self.slots);
        for folder in &config.folders {
            let id = folder.id();
            let Some(Slot::Running { work, .. }) = slots.get(&id) else { continue };
            // Where there are no windows, nobody needs to know the time.
            let window = &folder.upload_window;
            let is_open = window.is_always() || window.is_open(jiff::Zoned::now().datetime());
            if work.set_outside_window(!is_open) {
                let what = if is_open { "opens" } else { "closes" };
                tracing::info!(folder = %id, "the upload window {what}");
            }
        }
    }

    /// Tries again what could not be started, and begins anew what has ended by a fault or stands still.
    pub(super) fn tick(&mut self, config: &Config) {
        self.keep_timetables(config);
        let (now, now_ms) = (Instant::now(), jiff::Timestamp::now().as_millisecond());
        let (mut due, mut faulty) = (Vec::new(), Vec::new());
        for (id, slot) in lock(&self.slots).iter_mut() {
            match slot {
                Slot::Failed { folder, again, .. } if *again <= now => due.push(folder.clone()),
                Slot::Running { work, moved } => {
                    let status = work.push.borrow().clone();
                    // A folder that does not answer is told and waited for; more calls would only hang too.
                    let is_silent = work.intake.borrow().silence.is_some();
                    if status != moved.0 || !status.phase.is_active() || is_silent {
                        *moved = (status, now);
                    }
                    match work.end_pause(&self.shared.state, now_ms) {
                        Ok(true) => tracing::info!(folder = %id, "the pause is over"),
                        Ok(false) => {}
                        Err(error) => tracing::warn!(folder = %id, "{error}"),
                    }
                    if work.has_failed() {
                        faulty.push((id.clone(), work.folder.clone(), "ended by a fault"));
                    } else if now.saturating_duration_since(moved.1) >= standstill(&work.folder) {
                        faulty.push((id.clone(), work.folder.clone(), "has come to a standstill"));
                    }
                }
                _ => {}
            }
        }
        for (id, folder, what) in faulty {
            tracing::error!(folder = %id, "the folder's work {what} and is begun anew; please report it");
            self.end(&[id]);
            self.start(config, &folder);
        }
        due.iter().for_each(|folder| self.start(config, folder));
    }

    /// Someone has done something about what was wrong: nothing waits for its next try.
    pub(super) fn refresh(&mut self, config: &Config) {
        let (mut stopped, mut failed) = (Vec::new(), Vec::new());
        for slot in lock(&self.slots).values() {
            match slot {
                // Its key may have been replaced.
                Slot::Running { work, .. }
                    if matches!(work.push.borrow().phase, PushPhase::Stopped { .. }) =>
                {
                    stopped.push(work.folder.clone());
                }
                Slot::Running { work, .. } => {
                    if let Err(error) = work.refresh(&self.shared.state) {
                        tracing::warn!("{error}");
                    }
                }
                Slot::Failed { folder, .. } => failed.push(folder.clone()),
                Slot::Ending { .. } => {}
            }
        }
        self.end(&stopped.iter().map(Folder::id).collect::<Vec<_>>());
        stopped.iter().chain(&failed).for_each(|folder| self.start(config, folder));
    }

    /// Whether every folder is covered, or cannot be: one that cannot be used keeps no other from being announced.
    pub(super) fn are_covered(&self) -> bool {
        lock(&self.slots).values().all(|slot| match slot {
            Slot::Running { work, .. } => {
                let intake = work.intake.borrow();
                intake.covered || intake.trouble().is_some()
            }
            Slot::Ending { .. } | Slot::Failed { .. } => true,
        })
    }

    /// All folders in the order of the config, for the page's history.
    pub(super) fn gauges(&self, config: &Config) -> Vec<Gauge> {
        let slots = lock(&self.slots);
        let gauge = |folder: &Folder| {
            let id = folder.id();
            let key = id.key();
            match slots.get(&id) {
                Some(Slot::Running { work, .. }) => {
                    let live = work.live();
                    let (files, bytes) = (live.push.files_pushed, live.push.bytes_pushed);
                    Gauge { key, waiting: live.waiting(), files, bytes }
                }
                _ => Gauge { key, waiting: 0, files: 0, bytes: 0 },
            }
        };
        config.folders.iter().map(gauge).collect()
    }

    /// All folders in one line.
    pub(super) fn summary(&self) -> String {
        let slots = lock(&self.slots);
        let (mut waiting, mut commits, mut troubled, mut holding) = (0, 0, 0, 0);
        let (mut paused, mut outside) = (0, 0);
        for slot in slots.values() {
            match slot {
                Slot::Running { work, .. } => {
                    let LiveFolder { intake, push } = work.live();
                    waiting += intake.settling as u64 + intake.ready as u64 + push.pending;
                    commits += push.commits;
                    holding += usize::from(push.is_holding);
                    paused += usize::from(push.phase == PushPhase::Paused);
                    outside += usize::from(push.phase == PushPhase::OutsideWindow);
                    let in_trouble = intake.trouble().is_some()
                        || matches!(push.phase, PushPhase::Waiting { .. } | PushPhase::Stopped { .. });
                    troubled += usize::from(in_trouble);
                }
                Slot::Failed { .. } => troubled += 1,
                Slot::Ending { .. } => {}
            }
        }
        let count = slots.len();
        let plural = if count == 1 { "" } else { "s" };
        let trouble = if troubled == 0 { String::new() } else { format!(", {troubled} in trouble") };
        let held = if holding == 0 { String::new() } else { format!(", {holding} with removals held") };
        let pause = if paused == 0 { String::new() } else { format!(", {paused} paused") };
        let window =
            if outside == 0 { String::new() } else { format!(", {outside} outside their upload window") };
        format!(
            "{count} folder{plural}{trouble}{held}{pause}{window}, {waiting} files waiting, {commits} commits since the start"
        )
    }

    /// Ends all work, side by side, and waits for it.
    pub(super) async fn stop(&mut self) {
        let all: Vec<_> = lock(&self.slots).keys().cloned().collect();
        self.end(&all);
        let ended = async { while self.ending.join_next().await.is_some() {} };
        // Each has its own bound; this one is for those that began to end before.
        if tokio::time::timeout(STOP_WAIT, ended).await.is_err() {
            tracing::warn!("some work did not end in time; the next start settles it");
        }
    }
}

/// After which a folder's work at the server that has not moved moves no more. A batch may be collected for long.
fn standstill(folder: &Folder) -> Duration {
    STANDSTILL.max(folder.server.request_timeout * 4).max(folder.batch.max_wait * 2)
}

async fn ended(id: FolderId, work: RunningFolder) -> FolderId {
    if tokio::time::timeout(STOP_WAIT, work.stopped()).await.is_ok() {
        tracing::info!(folder = %id, "folder stopped");
    } else {
        tracing::warn!(folder = %id, "the folder's work did not end in time and is left to itself");
    }
    id
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
