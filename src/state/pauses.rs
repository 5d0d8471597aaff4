//! Folders that someone has paused, which lasts over restarts.

use super::{FolderKey, Reader, State, StateError};

/// How long a folder stays paused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pause {
    /// Until then, in milliseconds since the epoch; `None` until someone resumes it.
    pub until_ms: Option<i64>,
}

impl Pause {
    /// Whether it is over.
    pub fn is_over(&self, now_ms: i64) -> bool {
        self.until_ms.is_some_and(|until_ms| until_ms <= now_ms)
    }

    fn parse(note: &str) -> Self {
        Self { until_ms: note.parse().ok() }
    }
}

fn note_of(folder: FolderKey) -> String {
    format!("paused, folder {}", folder.0)
}

impl State {
    /// Pauses a folder, or resumes it; durable when it returns.
    ///
    /// # Errors
    /// SQLite says no.
    pub fn set_pause(&self, folder: FolderKey, pause: Option<Pause>) -> Result<(), StateError> {
        let text =
            pause.map(|pause| pause.until_ms.map_or_else(|| "until resumed".to_owned(), |ms| ms.to_string()));
        self.set_note(&note_of(folder), text.as_deref())
    }

    /// Whether a folder is paused, whatever the time is.
    ///
    /// # Errors
    /// SQLite says no.
    pub fn pause(&self, folder: FolderKey) -> Result<Option<Pause>, StateError> {
        Ok(self.note(&note_of(folder))?.map(|note| Pause::parse(&note)))
    }
}

impl Reader {
    /// Whether a folder is paused, whatever the time is.
    ///
    /// # Errors
    /// SQLite says no.
    pub fn pause(&self, folder: FolderKey) -> Result<Option<Pause>, StateError> {
        Ok(self.note(&note_of(folder))?.map(|note| Pause::parse(&note)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_lasts_until_its_time_or_until_it_is_taken_back() {
        let dir = tempfile::tempdir().unwrap();
        let (state, _) = State::open(dir.path(), "").unwrap();
        let (one, other) = (state.folder("a").unwrap(), state.folder("b").unwrap());
        for pause in [Pause { until_ms: None }, Pause { until_ms: Some(1_000) }] {
            state.set_pause(one, Some(pause)).unwrap();
            assert_eq!(state.pause(one).unwrap(), Some(pause));
            assert_eq!(state.reader().unwrap().pause(one).unwrap(), Some(pause));
            assert_eq!(state.pause(other).unwrap(), None);
        }
        assert!(!Pause { until_ms: None }.is_over(i64::MAX));
        let pause = Pause { until_ms: Some(1_000) };
        assert!(pause.is_over(1_000) && !pause.is_over(999));
        state.set_pause(one, None).unwrap();
        assert_eq!(state.pause(one).unwrap(), None);
    }
}
