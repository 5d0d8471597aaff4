use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::clients::Limits;
use super::folder::{RunningFolder, Shared};
use super::{Clients, clients};
use crate::config::{Config, Env, Folder};
use crate::folder::intake::IntakeStatus;
use crate::push::PushStatus;
use crate::state::{Held, ProblemRow, SetAside, State, StateError};
use crate::status::TICK_AT_REST;

/// One look at some folders, with everything pushed that differs.
#[derive(Debug)]
pub struct OneShot {
    running: Vec<RunningFolder>,
    failed: Vec<FolderOutcome>,
    limits: Limits,
    state: State,
    /// A state that could not be used and where it was put.
    pub set_aside: Option<SetAside>,
}

/// How one folder fared.
#[derive(Debug)]
pub struct FolderOutcome {
    /// The folder.
    pub folder: Folder,
    /// What was pushed.
    pub push: PushStatus,
    /// What was looked at.
    pub intake: IntakeStatus,
    /// Files that are not on the branch, and why.
    pub problems: Vec<ProblemRow>,
    /// Removals that the brake holds.
    pub held: Option<Held>,
    /// Why the whole folder failed, if it did.
    pub failure: Option<String>,
}

impl FolderOutcome {
    /// Whether everything in the folder is proved to be on the server, and nothing that is to go from there is held.
    pub fn is_whole(&self) -> bool {
        self.is_pushed() && self.held.is_none()
    }

    /// Whether everything in the folder is proved to be on the server.
    pub fn is_pushed(&self) -> bool {
        self.failure.is_none() && self.problems.is_empty() && self.push.dropped == 0
    }
}

/// Starts pushing `folders`, which are some of `config`'s.
///
/// # Errors
/// The state cannot be used, for one because the service is running.
pub fn push_once(config: &Config, folders: &[Folder], env: Env) -> Result<OneShot, StateError> {
    let (state, set_aside) = State::open(&config.state_dir, &clients::machine())?;
    let shared = Shared::new(state.clone());
    let mut clients = Clients::new(env);
    let (mut running, mut failed) = (Vec::new(), Vec::new());
    for folder in folders {
        match shared.start(config, folder, &mut clients, false) {
            Ok(folder) => running.push(folder),
            Err(error) => failed.push(FolderOutcome {
                folder: folder.clone(),
                push: PushStatus::default(),
                intake: IntakeStatus::default(),
                problems: Vec::new(),
                held: None,
                failure: Some(error.to_string()),
            }),
        }
    }
    Ok(OneShot { running, failed, limits: clients.limits().clone(), state, set_aside })
}

impl OneShot {
    /// What can be watched of each folder while it goes on.
    pub fn progress(&self) -> Vec<(Folder, watch::Receiver<IntakeStatus>, watch::Receiver<PushStatus>)> {
        self.running
            .iter()
            .map(|running| (running.folder.clone(), running.intake.clone(), running.push.clone()))
            .collect()
    }

    /// Waits until every folder is done or has failed. SIGTERM and SIGINT end it at a safe point.
    ///
    /// # Errors
    /// The state cannot be read.
    pub async fn finish(self) -> Result<Vec<FolderOutcome>, StateError> {
        let mut outcomes = self.failed;
        // Without the signals the process ends as by default; what was under way is settled at the next start.
        let (terminate, interrupt) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()));
        // See the service: a broken lease must not end the process.
        let _sigio = signal(SignalKind::io());
        let cancels: Vec<_> = self.running.iter().map(RunningFolder::canceller).collect();
        let listen = tokio::spawn(async move {
            let (Ok(mut terminate), Ok(mut interrupt)) = (terminate, interrupt) else { return };
            tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} }
            cancels.iter().for_each(CancellationToken::cancel);
            // A second one does not wait, not even for a filesystem that hangs; the next start settles the rest.
            tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} }
            std::process::exit(1);
        });
        let limits = self.limits;
        let keep_limits = tokio::spawn(async move {
            loop {
                tokio::time::sleep(TICK_AT_REST).await;
                limits.keep();
            }
        });
        for running in self.running {
            let cancel = running.canceller();
            let (folder, intake, report) = running.finished().await;
            let key = self.state.folder(&folder.id().key())?;
            let problems = self.state.problems(key)?;
            let held = self.state.held(key)?;
            let broken = intake.trouble();
            let (push, failure) = match report {
                Some(report) => (report.status, report.failure),
                None => {
                    (PushStatus::default(), Some("the push ended by a fault; please report it".to_owned()))
                }
            };
            let stopped = cancel.is_cancelled().then(|| "it was stopped before all was pushed".to_owned());
            let failure = broken.or(failure).or(stopped);
            outcomes.push(FolderOutcome { folder, push, intake, problems, held, failure });
        }
        listen.abort();
        keep_limits.abort();
        self.state.checkpoint()?;
        Ok(outcomes)
    }
}
