use std::sync::Arc;

use tokio::time::Instant;

use super::super::Coverage;
use super::super::scan::ScanSummary;
use crate::content::Silence;
use crate::path::LocalPath;
use crate::state::Change;

/// A finished change, on its way to whoever pushes.
#[derive(Debug)]
pub struct Finished {
    /// What changed.
    pub change: Change,
    /// The directory of the finished run that it is part of, where its marker is still to come, or is this.
    pub run: Option<Arc<LocalPath>>,
    /// When it was first seen that the path had changed.
    pub seen: Instant,
}

/// What the intake is doing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum IntakePhase {
    /// It has not come to the folder yet.
    #[default]
    Starting,
    /// It sets up its watches.
    Covering,
    /// It looks at everything.
    Scanning,
    /// It waits for events.
    Watching,
    /// The folder cannot be used: why, and what to do. Tried again by itself.
    Broken(String),
}

/// The intake as it is at a moment.
#[derive(Debug, Clone, Default)]
pub struct IntakeStatus {
    /// What it is doing.
    pub phase: IntakePhase,
    /// Whether the folder does not answer, and since when.
    pub silence: Option<Silence>,
    /// Whether all watches that can be had were set up once.
    pub covered: bool,
    /// How much of the folder they cover.
    pub coverage: Coverage,
    /// Directories watched.
    pub watched_dirs: usize,
    /// Paths that wait to be quiet or are being read.
    pub settling: usize,
    /// Of these, found moving or written to at the last look.
    pub busy: usize,
    /// Some of these.
    pub busy_paths: Vec<LocalPath>,
    /// Files that wait for their run to be finished, counted up to 10,000.
    pub held_back: usize,
    /// Finished changes that wait to be taken over.
    pub ready: usize,
    /// When the oldest of all that waits here was first seen to have changed.
    pub waiting_since: Option<Instant>,
    /// Hints not yet looked at.
    pub hints: usize,
    /// Scans of everything that were begun since the intake began, whatever became of the folder meanwhile.
    pub scans: u64,
    /// What the last whole scan saw.
    pub last_scan: Option<ScanSummary>,
    /// Things that are never stored (links, devices, mounts), as the last whole scan counted them.
    pub skipped: u64,
    /// Some of these with the reason.
    pub skipped_paths: Vec<(LocalPath, &'static str)>,
}

impl IntakeStatus {
    /// Why the folder cannot be used, and what to do, where that is so.
    pub fn trouble(&self) -> Option<String> {
        match (&self.silence, &self.phase) {
            (Some(silence), _) => Some(silence.to_string()),
            (None, IntakePhase::Broken(reason)) => Some(reason.clone()),
            (None, _) => None,
        }
    }
}
