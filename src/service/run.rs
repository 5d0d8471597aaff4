use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::config_file::watch_config;
use super::folder::{RunningFolder, Shared};
use super::{Clients, systemd};
use crate::config::{self, Config, Env, Folder, FolderId, LoadError};
use crate::folder::intake::IntakePhase;
use crate::push::PushPhase;
use crate::state::{Reader, State, StateError};
use crate::status::{self, ConfigRefused, FolderState, Report};

/// Why the service cannot run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The config cannot be used.
    #[error(transparent)]
    Config(#[from] LoadError),
    /// The state cannot be used.
    #[error(transparent)]
    State(#[from] StateError),
    /// The status socket or a signal cannot be had.
    #[error("{what}: {source}")]
    Os {
        /// What was attempted.
        what: &'static str,
        /// What the kernel said.
        source: std::io::Error,
    },
}

/// How often what systemd shows is brought up to date, and failed folders are looked for.
const TICK: Duration = Duration::from_secs(1);
/// How soon a folder that cannot be started is tried again.
const START_RETRY: Duration = Duration::from_secs(10);
/// How much longer a start may take that goes on.
const START_EXTENSION: Duration = Duration::from_secs(30);
/// A stop that takes longer leaves the rest to the next start.
const STOP_WAIT: Duration = Duration::from_secs(25);

type Folders = Arc<Mutex<BTreeMap<FolderId, RunningFolder>>>;

/// Runs the service with the config at `file` until SIGTERM or SIGINT; a second one stops at once.
///
/// # Errors
/// The config, the state or the process's surroundings do not let it start.
pub async fn run(file: &Path, env: Env) -> Result<(), RunError> {
    let config = config::load(file, &env)?;
    let os = |what| move |source| RunError::Os { what, source };
    let mut terminate = signal(SignalKind::terminate()).map_err(os("cannot listen for SIGTERM"))?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(os("cannot listen for SIGINT"))?;
    let mut hangup = signal(SignalKind::hangup()).map_err(os("cannot listen for SIGHUP"))?;
    // A writer that breaks one of our leases makes the kernel send SIGIO, which would end the process.
    let _sigio = signal(SignalKind::io()).map_err(os("cannot listen for SIGIO"))?;

    let (state, set_aside) = State::open(&config.state_dir)?;
    if let Some(set_aside) = set_aside {
        tracing::error!(
            moved_to = %set_aside.moved_to.display(),
            "the state could not be used and is rebuilt from the folders and the server: {}", set_aside.reason
        );
    }
    state.set_note(status::CONFIG_REFUSED, None)?;
    let listener = status::socket::bind(&config.state_dir).map_err(os("cannot open the status socket"))?;
    let mut changes = watch_config(&config.file);
    let mut service = Service::new(config, env, state);
    let cancel = CancellationToken::new();
    let socket = tokio::spawn(status::socket::serve(listener, service.reporter(), cancel.clone()));
    tracing::info!(version = env!("CARGO_PKG_VERSION"), config = %file.display(), "oxen-sync starts");
    service.start_all();

    let mut tick = tokio::time::interval(TICK);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            _ = hangup.recv() => {
                systemd::reloading();
                service.reload(true).await;
                // Before everything is covered, the end of the reload is told with the end of the start.
                if service.was_ready {
                    systemd::ready(&service.summary());
                }
            }
            Some(()) = changes.recv() => service.reload(false).await,
            _ = tick.tick() => service.tick().await,
        }
    }
    tracing::info!("oxen-sync stops");
    systemd::stopping();
    tokio::select! {
        () = service.stop() => {}
        _ = terminate.recv() => tracing::warn!("stopped at once by a second signal"),
        _ = interrupt.recv() => tracing::warn!("stopped at once by a second signal"),
    }
    cancel.cancel();
    let _ = tokio::time::timeout(Duration::from_secs(1), socket).await;
    tracing::info!("oxen-sync has stopped");
    Ok(())
}

struct Service {
    config: Arc<Mutex<Config>>,
    file: PathBuf,
    env: Env,
    shared: Shared,
    clients: Clients,
    folders: Folders,
    /// Folders that could not be started, and when that is tried again.
    failed: BTreeMap<FolderId, (Folder, Instant)>,
    was_ready: bool,
    last_summary: String,
    last_alive: Instant,
}

impl Service {
    fn new(config: Config, env: Env, state: State) -> Self {
        Self {
            file: config.file.clone(),
            config: Arc::new(Mutex::new(config)),
            clients: Clients::new(env.clone()),
            env,
            shared: Shared::new(state),
            folders: Folders::default(),
            failed: BTreeMap::new(),
            was_ready: false,
            last_summary: String::new(),
            last_alive: Instant::now(),
        }
    }

    fn config(&self) -> Config {
        lock(&self.config).clone()
    }

    fn start_all(&mut self) {
        for folder in self.config().folders {
            self.start(&folder);
        }
    }

    fn start(&mut self, folder: &Folder) {
        let config = self.config();
        let id = folder.id();
        match self.shared.start(&config, folder, &mut self.clients, true) {
            Ok(running) => {
                tracing::info!(folder = %id, "folder started");
                self.failed.remove(&id);
                lock(&self.folders).insert(id, running);
            }
            Err(error) => {
                let again = (folder.clone(), Instant::now() + START_RETRY);
                if self.failed.insert(id.clone(), again).is_none() {
                    tracing::error!(folder = %id, "folder cannot be started and is tried again: {error}");
                }
            }
        }
    }

    /// Takes the config file as it is now. With `by_hand`, waits for tries are cut short and keys are read again.
    async fn reload(&mut self, by_hand: bool) {
        let new = match config::load(&self.file, &self.env) {
            Ok(new) => new,
            Err(error) => {
                tracing::error!("the config is refused, the one before it stays in use:\n{error}");
                let problems = error.to_string();
                let refused = ConfigRefused { at: jiff::Timestamp::now().to_string(), problems };
                self.note_refused(serde_json::to_string(&refused).ok().as_deref());
                return;
            }
        };
        self.note_refused(None);
        let old = self.config();
        let change = config::diff(&old, &new);
        if let Some(moved) = &change.state_dir {
            tracing::warn!(
                to = %moved.to.display(), "state_dir has changed; {} stays in use until the service is restarted",
                moved.from.display()
            );
        }
        *lock(&self.config) = Config { state_dir: old.state_dir, ..new };
        let mut again = change.restart.clone();
        if by_hand {
            again.extend(self.stopped_by_their_server(&change.keep));
            lock(&self.folders).values().for_each(RunningFolder::kick);
        }
        let ending: Vec<_> = change.stop.iter().cloned().chain(again.iter().map(Folder::id)).collect();
        self.end(&ending).await;
        for folder in change.start.iter().chain(&again) {
            self.start(folder);
        }
        if by_hand {
            let failed: Vec<_> = self.failed.values().map(|(folder, _)| folder.clone()).collect();
            failed.iter().for_each(|folder| self.start(folder));
        }
        tracing::info!(
            started = change.start.len(),
            stopped = change.stop.len(),
            restarted = again.len(),
            unchanged = change.keep.len(),
            "config reloaded"
        );
    }

    /// Of `keep`, the folders whose server lets nobody in: their key may have been replaced.
    fn stopped_by_their_server(&self, keep: &[FolderId]) -> Vec<Folder> {
        let folders = lock(&self.folders);
        let is_stopped =
            |running: &RunningFolder| matches!(running.push.borrow().phase, PushPhase::Stopped { .. });
        let stopped = keep.iter().filter_map(|id| folders.get(id)).filter(|running| is_stopped(running));
        stopped.map(|running| running.folder.clone()).collect()
    }

    /// Stops folders, all at once, and waits for them.
    async fn end(&mut self, ids: &[FolderId]) {
        let ending: Vec<RunningFolder> = {
            let mut folders = lock(&self.folders);
            ids.iter().filter_map(|id| folders.remove(id)).collect()
        };
        ending.iter().for_each(|running| running.canceller().cancel());
        for running in ending {
            let id = running.folder.id();
            if tokio::time::timeout(STOP_WAIT, running.stopped()).await.is_ok() {
                tracing::info!(folder = %id, "folder stopped");
            } else {
                tracing::warn!(folder = %id, "the folder's work did not end in time and is left to itself");
            }
        }
        for id in ids {
            self.failed.remove(id);
        }
    }

    fn note_refused(&self, note: Option<&str>) {
        if let Err(error) = self.shared.state.set_note(status::CONFIG_REFUSED, note) {
            tracing::warn!("{error}");
        }
    }

    async fn tick(&mut self) {
        let ended: Vec<RunningFolder> = {
            let mut folders = lock(&self.folders);
            let ids: Vec<_> = folders
                .iter()
                .filter(|(_, running)| running.has_failed())
                .map(|(id, _)| id.clone())
                .collect();
            ids.iter().filter_map(|id| folders.remove(id)).collect()
        };
        for running in ended {
            let folder = running.folder.clone();
            tracing::error!(folder = %folder.id(), "the folder's work ended by a fault and is started again");
            running.stopped().await;
            self.start(&folder);
        }
        let now = Instant::now();
        let due: Vec<_> =
            self.failed.values().filter(|(_, at)| *at <= now).map(|(folder, _)| folder.clone()).collect();
        due.iter().for_each(|folder| self.start(folder));
        self.tell_systemd().await;
    }

    async fn tell_systemd(&mut self) {
        let summary = self.summary();
        if !self.was_ready {
            // A folder that cannot be used does not keep the others from being announced.
            let accounted = |running: &RunningFolder| {
                let intake = running.intake.borrow();
                intake.covered || matches!(intake.phase, IntakePhase::Broken(_))
            };
            if lock(&self.folders).values().all(accounted) {
                self.was_ready = true;
                tracing::info!("ready: {summary}");
                systemd::ready(&summary);
            } else {
                systemd::extend_start(START_EXTENSION);
            }
        }
        if self.last_summary != summary {
            systemd::status(&summary);
            self.last_summary = summary;
        }
        if let Some(interval) = systemd::watchdog()
            && self.last_alive.elapsed() >= interval / 4
        {
            // The way to the state leads through the pool of threads and the database, which all work needs.
            let state = self.shared.state.clone();
            let looked = tokio::task::spawn_blocking(move || state.note(status::CONFIG_REFUSED).map(|_| ()));
            if tokio::time::timeout(interval / 2, looked).await.is_ok() {
                self.last_alive = Instant::now();
                systemd::alive();
            }
        }
    }

    fn summary(&self) -> String {
        let folders = lock(&self.folders);
        let (mut waiting, mut commits, mut troubled) = (0, 0, self.failed.len());
        for running in folders.values() {
            let live = running.live();
            waiting += live.intake.settling as u64 + live.intake.ready as u64 + live.push.pending;
            commits += live.push.commits;
            let in_trouble = matches!(live.intake.phase, IntakePhase::Broken(_))
                || matches!(live.push.phase, PushPhase::Waiting { .. } | PushPhase::Stopped { .. });
            troubled += usize::from(in_trouble);
        }
        let count = folders.len() + self.failed.len();
        let plural = if count == 1 { "" } else { "s" };
        let trouble = if troubled == 0 { String::new() } else { format!(", {troubled} in trouble") };
        format!("{count} folder{plural}{trouble}, {waiting} files waiting, {commits} commits since the start")
    }

    /// Makes reports for the socket.
    fn reporter(&self) -> status::socket::Reporter {
        let (config, folders) = (Arc::clone(&self.config), Arc::clone(&self.folders));
        let state_dir = self.shared.state.dir().to_path_buf();
        let started_at = jiff::Timestamp::now().to_string();
        Arc::new(move || {
            let config = lock(&config).clone();
            let live: BTreeMap<_, _> =
                lock(&folders).iter().map(|(id, running)| (id.clone(), running.live())).collect();
            let said = |error: StateError| error.to_string();
            let reader = Reader::open(&state_dir).map_err(said)?;
            let mut report =
                Report::without_service(&config.file, &config.folders, reader.as_ref()).map_err(said)?;
            report.running = true;
            report.pid = Some(std::process::id());
            report.started_at = Some(started_at.clone());
            for (folder, slot) in config.folders.iter().zip(&mut report.folders) {
                match live.get(&folder.id()) {
                    Some(live) => {
                        *slot = status::report(folder, Some(live), reader.as_ref()).map_err(said)?;
                    }
                    None => slot.state = FolderState::Starting,
                }
            }
            Ok(report)
        })
    }

    async fn stop(&mut self) {
        let running: Vec<_> = std::mem::take(&mut *lock(&self.folders)).into_values().collect();
        running.iter().for_each(|running| running.canceller().cancel());
        let all = async {
            for folder in running {
                folder.stopped().await;
            }
        };
        if tokio::time::timeout(STOP_WAIT, all).await.is_err() {
            tracing::warn!("some work did not end in time; the next start settles it");
        }
        if let Err(error) = self.shared.state.checkpoint() {
            tracing::warn!("{error}");
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
