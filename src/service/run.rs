use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::config_file::{Taken, watch_config};
use super::control::Controls;
use super::folder::Shared;
use super::folders::{Folders, Seen, View};
use super::page::{PageKeeper, Standing};
use super::{Clients, clients, control, systemd};
use crate::config::{self, Config, Env, Folder, LoadError};
use crate::page::Source;
use crate::path::printable;
use crate::state::{Reader, State, StateError};
use crate::status::{self, ConfigRefused, FolderState, Report, TICK, TICK_AT_REST};

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

/// How much longer a start may take that goes on.
const START_EXTENSION: Duration = Duration::from_secs(30);

/// Runs the service with the config at `file` until SIGTERM or SIGINT; a second one stops at once.
///
/// # Errors
/// The config, the state or the process's surroundings do not let it start.
pub async fn run(file: &Path, env: Env) -> Result<(), RunError> {
    // Read before it is loaded, so that no change in between goes unseen.
    let text = config::read(file).ok();
    let config = config::load(file, &env)?;
    let os = |what| move |source| RunError::Os { what, source };
    let mut terminate = signal(SignalKind::terminate()).map_err(os("cannot listen for SIGTERM"))?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(os("cannot listen for SIGINT"))?;
    let mut hangup = signal(SignalKind::hangup()).map_err(os("cannot listen for SIGHUP"))?;
    // A writer that breaks one of our leases makes the kernel send SIGIO, which would end the process.
    let _sigio = signal(SignalKind::io()).map_err(os("cannot listen for SIGIO"))?;

    let (state, set_aside) = State::open(&config.state_dir, &clients::machine())?;
    if let Some(set_aside) = set_aside {
        tracing::error!(
            moved_to = %printable(&set_aside.moved_to),
            "the state could not be used and is rebuilt from the folders and the server: {}", set_aside.reason
        );
    }
    state.set_note(status::CONFIG_REFUSED, None)?;
    let listener = status::socket::bind(&config.state_dir).map_err(os("cannot open the status socket"))?;
    let (taken, in_use) = watch::channel(text);
    let mut changes = watch_config(&config.file, in_use);
    let mut service = Service::new(config, env, state, taken);
    let cancel = CancellationToken::new();
    let (ask_reload, mut reloads) = mpsc::channel(1);
    let controls =
        Controls::new(Arc::clone(&service.config), service.state.clone(), service.folders.view(), ask_reload);
    let commands = control::routes(controls);
    let reporter = service.reporter();
    if let Some(control) = &service.config().control {
        match status::socket::bind_for(control) {
            Ok(listener) => {
                let serving =
                    status::socket::serve(listener, Arc::clone(&reporter), commands.clone(), cancel.clone());
                tokio::spawn(serving);
            }
            Err(error) => tracing::error!(
                socket = %printable(&control.socket),
                "the socket for the group {} cannot be opened, and only the owner can ask the service: {error}",
                control.group
            ),
        }
    }
    let socket = tokio::spawn(status::socket::serve(
        listener,
        Arc::clone(&reporter),
        commands.clone(),
        cancel.clone(),
    ));
    tracing::info!(version = env!("CARGO_PKG_VERSION"), config = %printable(file), "oxen-sync starts");
    let source = Source { reporter, history: Arc::default() };
    let standing = Arc::clone(&service.standing);
    service.page = Some(PageKeeper::start(service.config().page, source, commands, standing));
    service.start_all();

    let mut tick_at = Instant::now();
    loop {
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            _ = hangup.recv() => {
                systemd::reloading();
                let _ = service.reload(true);
                // Before everything is covered, the end of the reload is told with the end of the start.
                if service.was_ready {
                    systemd::ready(&service.folders.summary());
                }
            }
            Some(()) = changes.recv() => drop(service.reload(false)),
            Some(done) = reloads.recv() => {
                // Nobody may wait for it any more.
                let _ = done.send(service.reload(false));
            }
            id = service.folders.ended() => {
                let config = service.config();
                service.folders.start_next(&config, &id);
            }
            () = tokio::time::sleep_until(tick_at) => {
                let is_at_rest = service.tick().await;
                let pause = if is_at_rest { TICK_AT_REST } else { TICK };
                // Whoever watches over us is told often enough.
                tick_at = Instant::now() + systemd::watchdog().map_or(pause, |interval| pause.min(interval / 4));
            }
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
    if let Some(page) = service.page.take() {
        page.stop().await;
    }
    let _ = tokio::time::timeout(Duration::from_secs(1), socket).await;
    tracing::info!("oxen-sync has stopped");
    Ok(())
}

struct Service {
    config: Arc<Mutex<Config>>,
    file: PathBuf,
    /// The content of the file that was taken last.
    taken: watch::Sender<Taken>,
    env: Env,
    state: State,
    folders: Folders,
    /// Once it is started.
    page: Option<PageKeeper>,
    standing: Standing,
    was_ready: bool,
    last_summary: String,
    last_alive: Instant,
}

impl Service {
    fn new(config: Config, env: Env, state: State, taken: watch::Sender<Taken>) -> Self {
        Self {
            file: config.file.clone(),
            taken,
            config: Arc::new(Mutex::new(config)),
            folders: Folders::new(Shared::new(state.clone()), Clients::new(env.clone())),
            env,
            state,
            page: None,
            standing: Standing::default(),
            was_ready: false,
            last_summary: String::new(),
            last_alive: Instant::now(),
        }
    }

    fn config(&self) -> Config {
        lock(&self.config).clone()
    }

    fn start_all(&mut self) {
        let config = self.config();
        config.folders.iter().for_each(|folder| self.folders.start(&config, folder));
    }

    /// Takes the config file as it is now. With `by_hand`, waits for tries are cut short and keys are read again.
    /// Returns the problems of a file that is refused, which are told by then.
    fn reload(&mut self, by_hand: bool) -> Result<(), String> {
        // Read before it is loaded, so that no change in between goes unseen.
        self.taken.send_replace(config::read(&self.file).ok());
        let new = match config::load(&self.file, &self.env) {
            Ok(new) => new,
            Err(error) => {
                tracing::error!("the config is refused, the one before it stays in use:\n{error}");
                let problems = error.to_string();
                let refused = ConfigRefused { at: jiff::Timestamp::now().to_string(), problems };
                self.note_refused(serde_json::to_string(&refused).ok().as_deref());
                return Err(refused.problems);
            }
        };
        self.note_refused(None);
        let old = self.config();
        let change = config::diff(&old, &new);
        if let Some(moved) = &change.state_dir {
            tracing::warn!("state_dir has changed: {moved}");
        }
        if let (Some(keeper), Some(page)) = (&self.page, change.page) {
            keeper.set(page);
        }
        let new = Config { state_dir: old.state_dir, ..new };
        *lock(&self.config) = new.clone();
        // What is new waits for nothing that ends.
        change.start.iter().for_each(|folder| self.folders.start(&new, folder));
        let ending: Vec<_> =
            change.stop.iter().cloned().chain(change.restart.iter().map(Folder::id)).collect();
        self.folders.end(&ending);
        change.restart.iter().for_each(|folder| self.folders.start(&new, folder));
        // What was written is kept to at once.
        self.folders.keep_timetables(&new);
        if by_hand {
            self.folders.refresh(&new);
        }
        tracing::info!(
            started = change.start.len(),
            stopped = change.stop.len(),
            restarted = change.restart.len(),
            unchanged = change.keep.len(),
            timetables = change.timetables,
            "config reloaded"
        );
        Ok(())
    }

    fn note_refused(&self, note: Option<&str>) {
        if let Err(error) = self.state.set_note(status::CONFIG_REFUSED, note) {
            tracing::warn!("{error}");
        }
    }

    /// Returns whether nothing has happened since the tick before.
    async fn tick(&mut self) -> bool {
        let config = self.config();
        self.folders.tick(&config);
        if let Some(page) = &self.page {
            page.sample(|| self.folders.gauges(&config), &self.state);
        }
        let summary = self.folders.summary();
        if !self.was_ready {
            if self.folders.are_covered() {
                self.was_ready = true;
                tracing::info!("ready: {summary}");
                systemd::ready(&summary);
            } else {
                systemd::extend_start(START_EXTENSION);
            }
        }
        let is_at_rest = self.was_ready && self.last_summary == summary;
        if !is_at_rest {
            systemd::status(&summary);
            self.last_summary = summary;
        }
        if let Some(interval) = systemd::watchdog()
            && self.last_alive.elapsed() >= interval / 4
        {
            // The way to the state leads through the pool of threads and the database, which all work needs.
            let state = self.state.clone();
            let looked = tokio::task::spawn_blocking(move || state.note(status::CONFIG_REFUSED).map(|_| ()));
            if tokio::time::timeout(interval / 2, looked).await.is_ok() {
                self.last_alive = Instant::now();
                systemd::alive();
            }
        }
        is_at_rest
    }

    /// Makes reports for the socket.
    fn reporter(&self) -> status::socket::Reporter {
        let (config, view) = (Arc::clone(&self.config), self.folders.view());
        let standing = Arc::clone(&self.standing);
        let state_dir = self.state.dir().to_path_buf();
        let started_at = jiff::Timestamp::now().to_string();
        Arc::new(move || {
            let config = lock(&config).clone();
            let report =
                report(&config, &view, &state_dir, &started_at).map_err(|error| error.to_string())?;
            Ok(Report { page: lock(&standing).clone(), ..report })
        })
    }

    async fn stop(&mut self) {
        self.folders.stop().await;
        if let Err(error) = self.state.checkpoint() {
            tracing::warn!("{error}");
        }
    }
}

fn report(config: &Config, view: &View, state_dir: &Path, started_at: &str) -> Result<Report, StateError> {
    let seen = view.look();
    let reader = Reader::open(state_dir)?;
    let report = Report::without_service(&config.file, &config.folders, reader.as_ref())?;
    let mut report = report.with_service(started_at);
    for (folder, slot) in config.folders.iter().zip(&mut report.folders) {
        match seen.get(&folder.id()) {
            Some(Seen::Live(live)) => {
                *slot = status::report(&config.file, folder, Some(live), reader.as_ref())?;
            }
            Some(Seen::Failed(reason)) => {
                slot.state = FolderState::Broken;
                slot.why = Some(reason.clone());
            }
            Some(Seen::Between) | None => slot.state = FolderState::Starting,
        }
    }
    Ok(report)
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
