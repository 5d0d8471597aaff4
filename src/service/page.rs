//! Keeps the page where the config wants it: opened, moved and closed with a reload, and tried again while its port is
//! taken. Nothing else waits for that.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use sha2::{Digest, Sha256};

use crate::config::{Page, read_page_key};
use crate::page::{Gauge, History, KeyCheck, PastCommit, SharedHistory, Source, Steering, serve, trouble};
use crate::state::{State, StateError};
use crate::status::PageReport;

/// How soon a port that is taken is tried again.
const RETRY: Duration = Duration::from_secs(10);
/// How long readers are waited for when the page goes.
const CLOSE_WAIT: Duration = Duration::from_secs(1);
/// Commits of a folder that its past is made of at most.
const PAST_COMMITS_MAX: u32 = 10_000;
const MINUTE_MS: i64 = 60_000;

/// What a report says of the page.
pub(super) type Standing = Arc<Mutex<Option<PageReport>>>;

/// The page of the running service.
#[derive(Debug)]
pub(super) struct PageKeeper {
    wanted: watch::Sender<Option<Page>>,
    history: SharedHistory,
    cancel: CancellationToken,
    task: JoinHandle<()>,
}

impl PageKeeper {
    /// Opens the page if one is wanted. `routes` are what it lets do who has its key.
    pub(super) fn start(page: Option<Page>, source: Source, routes: Router, standing: Standing) -> Self {
        let (wanted, wish) = watch::channel(page);
        let cancel = CancellationToken::new();
        let history = Arc::clone(&source.history);
        let task = tokio::spawn(keep(wish, (source, routes), standing, cancel.clone()));
        Self { wanted, history, cancel, task }
    }

    /// Has the page be this one from now on.
    pub(super) fn set(&self, page: Option<Page>) {
        if page.is_none() {
            // What happens while nobody notes it down would count in the minute in which someone does again.
            *self.history.lock().unwrap_or_else(PoisonError::into_inner) = History::default();
        }
        self.wanted.send_replace(page);
    }

    /// Notes down how the folders are, if there is a page to show it.
    pub(super) fn sample(&self, gauges: impl FnOnce() -> Vec<Gauge>, state: &State) {
        if self.wanted.borrow().is_none() {
            return;
        }
        let now_ms = jiff::Timestamp::now().as_millisecond();
        let mut history = self.history.lock().unwrap_or_else(PoisonError::into_inner);
        let new = history.sample(minute(now_ms), &gauges());
        drop(history);
        if new.is_empty() {
            return;
        }
        let (history, state) = (Arc::clone(&self.history), state.clone());
        tokio::task::spawn_blocking(move || {
            for key in new {
                match past(&state, &key, now_ms) {
                    Ok(commits) => {
                        let mut history = history.lock().unwrap_or_else(PoisonError::into_inner);
                        history.add_past(&key, &commits);
                    }
                    Err(error) => tracing::warn!("the page shows nothing of before its start: {error}"),
                }
            }
        });
    }

    /// Closes the page.
    pub(super) async fn stop(self) {
        self.cancel.cancel();
        let _ = tokio::time::timeout(CLOSE_WAIT * 2, self.task).await;
    }
}

fn minute(ms: i64) -> u32 {
    u32::try_from(ms / MINUTE_MS).unwrap_or(0)
}

/// What was committed of a folder in the day before `now_ms`.
fn past(state: &State, key: &str, now_ms: i64) -> Result<Vec<PastCommit>, StateError> {
    let reader = state.reader()?;
    let Some(folder) = reader.folder(key)? else { return Ok(Vec::new()) };
    let day = now_ms - 24 * 60 * MINUTE_MS..now_ms;
    let commits = reader.last_commits(folder, PAST_COMMITS_MAX)?;
    let of_day = commits.iter().filter(|row| day.contains(&row.at_ms));
    let past = of_day.map(|row| PastCommit {
        minute: minute(row.at_ms),
        files: row.files.cast_unsigned(),
        bytes: row.bytes.cast_unsigned(),
    });
    Ok(past.collect())
}

async fn keep(
    mut wish: watch::Receiver<Option<Page>>,
    shown: (Source, Router),
    standing: Standing,
    cancel: CancellationToken,
) {
    loop {
        let page = wish.borrow_and_update().clone();
        let say = |trouble| {
            let report =
                page.as_ref().map(|page| PageReport { url: format!("http://{}/", page.listen), trouble });
            *standing.lock().unwrap_or_else(PoisonError::into_inner) = report;
        };
        let ended = tokio::select! {
            () = cancel.cancelled() => Ok(()),
            ended = wish.changed() => ended,
            () = open(page.as_ref(), &shown, say, &cancel) => Ok(()),
        };
        if cancel.is_cancelled() || ended.is_err() {
            return;
        }
    }
}

/// Keeps one page open, for ever where none is wanted.
async fn open(
    page: Option<&Page>,
    (source, routes): &(Source, Router),
    say: impl Fn(Option<String>),
    cancel: &CancellationToken,
) {
    say(None);
    let Some(page) = page else { return std::future::pending().await };
    let mut told = None;
    let listener = loop {
        match TcpListener::bind(page.listen).await {
            Ok(listener) => break listener,
            Err(error) => {
                let trouble = trouble(page.listen, &error);
                say(Some(trouble.clone()));
                // One line for each change of state, not for each try.
                if told.as_ref() != Some(&trouble) {
                    tracing::error!("there is no page, everything else goes on: {trouble}");
                    told = Some(trouble);
                }
                tokio::time::sleep(RETRY).await;
            }
        }
    };
    say(None);
    tracing::info!("the page is at http://{}/", page.listen);
    // Whoever reads events is told to go when this ends, however it does.
    let children = cancel.child_token();
    let _end_children = children.clone().drop_guard();
    let key_file = page.key_file.clone();
    let steering = key_file.map(|file| Steering { check: key_check(file), routes: routes.clone() });
    serve(listener, page.listen, source.clone(), steering, children).await;
}

/// Compares with the key as it is in its file by then.
fn key_check(file: PathBuf) -> KeyCheck {
    Arc::new(move |shown| {
        let key = read_page_key(&file).map_err(|error| error.to_string())?;
        // Of two digests, the time that comparing takes tells nothing.
        Ok(Sha256::digest(key.expose()) == Sha256::digest(shown))
    })
}
