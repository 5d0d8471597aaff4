//! The same for a state that no service uses.

use super::release;
use super::steer::{later, pause_in, retry_in, starts_of};
use super::tell::{LookError, begun, facts, lies_in};
use super::verify::{outcome, verified};
use crate::config::{Config, Env, Folder};
use crate::control::api::{Done, FolderDone, FolderVerified, Verified};
use crate::path::{path_of_text, printable};
use crate::push::compare::compare;
use crate::service::folder::comparison;
use crate::service::{Clients, clients};
use crate::state::{Pause, Reader, State, StateError};
use crate::status::{self, WhyReport, name_of};

/// What can be asked of a config's state, and done in it, while no service runs.
#[derive(Debug)]
pub struct Offline<'a>(pub &'a Config);

/// Why it cannot.
#[derive(Debug, thiserror::Error)]
pub enum OfflineError {
    /// The state cannot be used.
    #[error(transparent)]
    State(#[from] StateError),
    /// A path cannot be looked at.
    #[error(transparent)]
    Look(#[from] LookError),
    /// Nothing has run with this state.
    #[error("oxen-sync has not run with the state directory {0} yet")]
    NeverRan(String),
    /// What was named is not there.
    #[error("{0}")]
    Unknown(String),
}

impl Offline<'_> {
    fn reader(&self) -> Result<Option<Reader>, StateError> {
        Reader::open(&self.0.state_dir)
    }

    /// The state, for writing. Asking makes none where there is none.
    fn state(&self) -> Result<State, OfflineError> {
        if self.reader()?.is_none() {
            return Err(OfflineError::NeverRan(printable(&self.0.state_dir)));
        }
        Ok(State::open_as_it_is(&self.0.state_dir, &clients::machine())?)
    }

    /// Why a path is where it is.
    ///
    /// # Errors
    /// See [`OfflineError`].
    pub async fn why(&self, path: &str) -> Result<WhyReport, OfflineError> {
        let path = path_of_text(path);
        let mut report = begun(self.0, &path);
        for (folder, local) in lies_in(self.0, &path) {
            let facts = facts(&folder, &local, self.reader()?, None).await?;
            report.folders.push(status::why(&facts));
        }
        Ok(report)
    }

    /// The last commits.
    ///
    /// # Errors
    /// See [`OfflineError`].
    pub fn log(
        &self,
        folders: &[Folder],
        since_ms: i64,
        limit: usize,
    ) -> Result<status::LogReport, OfflineError> {
        Ok(status::log(folders, self.reader()?.as_ref(), since_ms, limit)?)
    }

    /// What is not on the branch, and why.
    ///
    /// # Errors
    /// See [`OfflineError`].
    pub fn failed(&self, folders: &[Folder]) -> Result<status::FailedReport, OfflineError> {
        Ok(status::failed(folders, self.reader()?.as_ref())?)
    }

    /// Has what is wrong with files be forgotten, so that the next start or push tries them.
    ///
    /// # Errors
    /// See [`OfflineError`].
    pub fn retry(&self, paths: &[String]) -> Result<Done, OfflineError> {
        let starts = starts_of(self.0, paths).map_err(OfflineError::Unknown)?;
        let state = self.state()?;
        let mut done = Done::default();
        for (folder, starts) in starts {
            let (files, _) = retry_in(&state, &folder, &starts)?;
            done.folders.push(FolderDone { folder: name_of(&folder), files, until: None });
        }
        state.checkpoint()?;
        Ok(done)
    }

    /// Pauses folders, for so many seconds or until they are resumed, or resumes them. A service that starts keeps to it.
    ///
    /// # Errors
    /// See [`OfflineError`].
    pub fn pause(&self, folders: &[Folder], pause: Option<Option<u64>>) -> Result<Done, OfflineError> {
        let pause =
            pause.map(|for_s| Pause { until_ms: for_s.map(|s| later(std::time::Duration::from_secs(s))) });
        let state = self.state()?;
        let done = pause_in(&state, folders, pause)?;
        state.checkpoint()?;
        Ok(done)
    }

    /// Compares all of the folders with all of their branches; `told` hears of the progress.
    ///
    /// # Errors
    /// See [`OfflineError`].
    pub async fn verify(
        &self,
        folders: &[Folder],
        env: Env,
        told: impl Fn(&FolderVerified),
    ) -> Result<Verified, OfflineError> {
        let state = self.state()?;
        let mut clients = Clients::new(env);
        let mut all = Verified { done: true, folders: Vec::new() };
        for folder in folders {
            let compared = match comparison(&state, folder, &mut clients) {
                Ok(comparison) => {
                    let progress = |compared: &_| told(&verified(folder, compared, false));
                    compare(&comparison, progress).await.map_err(|error| error.to_string())
                }
                Err(error) => Err(error.to_string()),
            };
            all.folders.push(outcome(folder, compared));
        }
        Ok(all)
    }

    /// Lets held removals go.
    ///
    /// # Errors
    /// See [`OfflineError`].
    pub fn release(&self, folders: &[Folder]) -> Result<Done, OfflineError> {
        if self.reader()?.is_none() {
            return Ok(Done::default());
        }
        let state = self.state()?;
        let done = release::release_in(&state, folders, std::time::Duration::MAX)?;
        state.checkpoint()?;
        Ok(done)
    }
}
