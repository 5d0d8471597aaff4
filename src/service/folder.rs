use std::sync::Arc;

use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::asks::Asks;
use super::clients::{host, instance};
use super::{Clients, ClientsError};
use crate::config::{Config, Folder, OnDelete, release_command};
use crate::content::Calls;
use crate::folder::intake::{self, IntakeOptions, IntakeStatus, Outlook};
use crate::folder::{Hint, Inbox, SettleLimits};
use crate::oxen::{Author, Client};
use crate::path::LocalPath;
use crate::plan::Marker;
use crate::push::compare::Comparison;
use crate::push::{self, worker};
use crate::push::{Holds, PushOptions, PushReport, PushStatus, Pusher, Rank, Target};
use crate::state::{FolderKey, Places, State, StateError};
use crate::status::LiveFolder;

/// Why a folder cannot be started.
#[derive(Debug, thiserror::Error)]
pub(super) enum StartError {
    #[error(transparent)]
    Clients(#[from] ClientsError),
    #[error(transparent)]
    State(#[from] StateError),
}

/// What all folders share.
#[derive(Debug, Clone)]
pub(super) struct Shared {
    pub state: State,
}

/// A folder at work: one task that takes in, one that pushes, and a bounded queue between them.
#[derive(Debug)]
pub(super) struct RunningFolder {
    pub folder: Folder,
    pub intake: watch::Receiver<IntakeStatus>,
    pub push: watch::Receiver<PushStatus>,
    key: FolderKey,
    inbox: Arc<Inbox>,
    kick: Arc<Notify>,
    cancel: CancellationToken,
    asks: Asks,
    to_compare: (Client, Arc<Places>),
    paused: watch::Sender<bool>,
    holds: watch::Sender<Holds>,
    intake_task: JoinHandle<()>,
    push_task: JoinHandle<PushReport>,
}

/// Finished changes between the two.
const QUEUE: usize = 1024;
/// Questions that wait.
const ASKS: usize = 16;

/// All that it takes to compare a folder with its branch.
pub(super) fn comparison(
    state: &State,
    folder: &Folder,
    clients: &mut Clients,
) -> Result<Comparison, StartError> {
    let (client, _) = clients.get(&folder.server)?;
    let key = state.folder(&folder.id().key())?;
    let places = Arc::new(Places::load(state, key, &folder.remote_dir, &folder.layout)?);
    Ok(comparison_with(state, folder, key, (client, places)))
}

fn comparison_with(
    state: &State,
    folder: &Folder,
    key: FolderKey,
    (client, places): (Client, Arc<Places>),
) -> Comparison {
    Comparison {
        path: folder.path.clone(),
        folder: key,
        places,
        exclude: folder.exclude.clone(),
        include: folder.include.clone(),
        marker: folder.marker.clone(),
        mirror: folder.on_delete == OnDelete::Mirror,
        patience: folder.settle.max_wait + folder.batch.max_wait,
        client,
        repo: folder.repo.clone(),
        branch: folder.branch.clone(),
        concurrency: folder.server.concurrency.get(),
        state: state.clone(),
        calls: Arc::default(),
    }
}

impl Shared {
    pub(super) fn new(state: State) -> Self {
        Self { state }
    }

    /// Starts a folder; with `lasting` unset it ends when all is pushed that is there.
    pub(super) fn start(
        &self,
        config: &Config,
        folder: &Folder,
        clients: &mut Clients,
        lasting: bool,
    ) -> Result<RunningFolder, StartError> {
        let (client, budget) = clients.get(&folder.server)?;
        let key = self.state.folder(&folder.id().key())?;
        // Whoever starts it may have done something about what was refused.
        self.state.release_quarantine(key)?;
        let (intake_status, intake) = watch::channel(IntakeStatus::default());
        let (push_status, push) = watch::channel(PushStatus::default());
        let (sender, receiver) = mpsc::channel(QUEUE);
        let (outlook, seen) = watch::channel(Outlook::default());
        let (ask_intake, intake_asks) = mpsc::channel(ASKS);
        let (ask_push, push_asks) = mpsc::channel(ASKS);
        // What is pushed once by hand is not paused.
        let pause = if lasting { self.state.pause(key)? } else { None };
        let (paused, is_paused) = watch::channel(pause.is_some());
        // Whoever asks for a push by hand means now.
        let is_outside_window = lasting && !folder.upload_window.is_open(jiff::Zoned::now().datetime());
        let (holds, is_held) = watch::channel(Holds { is_paused: pause.is_some(), is_outside_window });
        let (cancel, kick, inbox) =
            (CancellationToken::new(), Arc::new(Notify::new()), Arc::new(Inbox::default()));
        let author = Author { name: config.author.name.clone(), email: config.author.email.clone() };
        let mut target = Target::new(client.clone(), folder.repo.clone(), folder.branch.clone(), author);
        target.create_repo = folder.create_repo;
        target.create_branch_from.clone_from(&folder.create_branch_from);
        target.description.clone_from(&folder.description);
        let places = Arc::new(Places::load(&self.state, key, &folder.remote_dir, &folder.layout)?);
        let to_compare = (client, Arc::clone(&places));
        let push_calls = Arc::<Calls>::default();
        let options = PushOptions {
            path: folder.path.clone(),
            folder: key,
            places: Arc::clone(&places),
            transport: folder.transport,
            mirror: folder.on_delete == OnDelete::Mirror,
            delete_brake: folder.delete_brake,
            after_push: folder.after_push.clone(),
            exclude: folder.exclude.clone(),
            include: folder.include.clone(),
            release_command: release_command(&config.file, &folder.path),
            limits: folder.batch,
            marker: Marker::new(folder.marker.as_ref()),
            message: folder.message.clone(),
            host: host(),
            instance: instance(config),
            concurrency: folder.server.concurrency.get(),
            rank: Rank::new(clients.turns(&folder.server), folder.priority),
            check_interval: folder.rescan_interval,
            lasting,
            calls: Arc::clone(&push_calls),
        };
        let state = self.state.clone();
        let pusher = Pusher::new(options, target, state, Arc::clone(&inbox), budget, push_status);
        let options = IntakeOptions {
            path: folder.path.clone(),
            folder: key,
            places,
            exclude: folder.exclude.clone(),
            include: folder.include.clone(),
            settle: SettleLimits { quiet: folder.settle.quiet, max_wait: folder.settle.max_wait },
            max_file_size: folder.max_file_size,
            mirror: folder.on_delete == OnDelete::Mirror,
            marker: folder.marker.clone(),
            rescan_interval: folder.rescan_interval,
            lasting,
            calls: Arc::default(),
            push_calls,
        };
        let taking_in = intake::run(
            options,
            self.state.clone(),
            Arc::clone(&inbox),
            sender,
            (intake_status, outlook),
            intake::Steering { asks: intake_asks, paused: is_paused },
            cancel.clone(),
        );
        let (sure, is_sure) = oneshot::channel();
        let intake_task = tokio::spawn(async move {
            // One look compares the folder with what the branch was seen to hold. Without it, nothing is known.
            if lasting || is_sure.await.is_ok() {
                taking_in.await;
            }
        });
        let steering = push::Steering { asks: push_asks, holds: is_held };
        let to_push = (receiver, seen);
        let push_task =
            tokio::spawn(worker::run(pusher, to_push, (Arc::clone(&kick), sure), steering, cancel.clone()));
        Ok(RunningFolder {
            folder: folder.clone(),
            intake,
            push,
            key,
            inbox,
            kick,
            cancel,
            to_compare,
            asks: Asks { intake: ask_intake, push: ask_push },
            paused,
            holds,
            intake_task,
            push_task,
        })
    }
}

impl RunningFolder {
    /// What it is doing.
    pub(super) fn live(&self) -> LiveFolder {
        LiveFolder { intake: self.intake.borrow().clone(), push: self.push.borrow().clone() }
    }

    /// Looks at everything anew, here and on the server, now.
    pub(super) fn refresh(&self, state: &State) -> Result<(), StateError> {
        state.release_quarantine(self.key)?;
        self.inbox.add(Hint::Tree(LocalPath::root()));
        self.kick.notify_one();
        Ok(())
    }

    /// Looks where the hint says.
    pub(super) fn hint(&self, hint: Hint) {
        self.inbox.add(hint);
    }

    /// Cuts a wait for the next try short.
    pub(super) fn kick(&self) {
        self.kick.notify_one();
    }

    /// Pauses it, or has it go on.
    pub(super) fn set_paused(&self, is_paused: bool) {
        self.paused.send_if_modified(|paused| std::mem::replace(paused, is_paused) != is_paused);
        self.holds.send_if_modified(|holds| std::mem::replace(&mut holds.is_paused, is_paused) != is_paused);
    }

    /// Keeps it from its server outside of its upload window, while all else goes on. Returns whether that is new.
    pub(super) fn set_outside_window(&self, is_outside: bool) -> bool {
        self.holds.send_if_modified(|holds| {
            std::mem::replace(&mut holds.is_outside_window, is_outside) != is_outside
        })
    }

    /// Has it go on once its pause is over.
    ///
    /// # Errors
    /// The state cannot be used.
    pub(super) fn end_pause(&self, state: &State, now_ms: i64) -> Result<bool, StateError> {
        if !*self.paused.borrow() || !state.pause(self.key)?.is_some_and(|pause| pause.is_over(now_ms)) {
            return Ok(false);
        }
        state.set_pause(self.key, None)?;
        self.set_paused(false);
        Ok(true)
    }

    /// What to compare it with its branch by.
    pub(super) fn comparison(&self, state: &State) -> Comparison {
        comparison_with(state, &self.folder, self.key, self.to_compare.clone())
    }

    /// The ways to ask it.
    pub(super) fn asks(&self) -> &Asks {
        &self.asks
    }

    /// Whether one of its tasks ended although it was not told to.
    pub(super) fn has_failed(&self) -> bool {
        !self.cancel.is_cancelled() && (self.intake_task.is_finished() || self.push_task.is_finished())
    }

    /// What stops it.
    pub(super) fn canceller(&self) -> CancellationToken {
        self.cancel.clone()
    }

    /// Stops it and waits for that, a commit under way included.
    pub(super) async fn stopped(self) {
        self.cancel.cancel();
        let _ = self.intake_task.await;
        let _ = self.push_task.await;
    }

    /// Waits until a folder that does not last has done its work.
    /// `None` in place of a report says that one of its tasks ended by a fault.
    pub(super) async fn finished(self) -> (Folder, IntakeStatus, Option<PushReport>) {
        let looked = self.intake_task.await;
        let report = self.push_task.await.ok().filter(|_| looked.is_ok());
        let intake = self.intake.borrow().clone();
        (self.folder, intake, report)
    }
}
