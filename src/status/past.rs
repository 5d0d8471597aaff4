//! What was committed, and what could not be, as reports.

use serde::{Deserialize, Serialize};

use super::look::{commit_report, time};
use super::{CommitReport, ProblemReport};
use crate::config::Folder;
use crate::control::api::FolderName;
use crate::path::printable;
use crate::state::{Reader, StateError};

/// Commits of one report, however many are wanted.
pub const LOG_MAX: usize = 10_000;
/// Paths of one report.
const FAILED_MAX: i64 = 100_000;

/// The commits that were made, the newest first. Fields are only ever added.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct LogReport {
    /// The commits.
    pub commits: Vec<LoggedCommit>,
}

/// A commit that was made and proved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoggedCommit {
    /// The folder that it came from.
    pub folder: FolderName,
    /// The commit.
    pub commit: CommitReport,
}

/// The paths that are not on the branch since something is wrong with them. Fields are only ever added.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct FailedReport {
    /// The folders that have any.
    pub folders: Vec<FolderFailed>,
}

/// Those of one folder.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct FolderFailed {
    /// The folder.
    pub folder: FolderName,
    /// How many there are.
    pub failed: i64,
    /// The first 100,000 of them, by path.
    pub problems: Vec<ProblemReport>,
}

/// A folder as reports name it.
pub fn name_of(folder: &Folder) -> FolderName {
    FolderName {
        path: printable(&folder.path),
        repo: folder.repo.to_string(),
        branch: folder.branch.to_string(),
    }
}

/// The last `limit` commits of the folders since a time, in milliseconds since the epoch.
///
/// # Errors
/// The state cannot be read.
pub fn log(
    folders: &[Folder],
    reader: Option<&Reader>,
    since_ms: i64,
    limit: usize,
) -> Result<LogReport, StateError> {
    let limit = limit.min(LOG_MAX);
    let mut rows = Vec::new();
    for folder in folders {
        let Some(reader) = reader else { break };
        let Some(key) = reader.folder(&folder.id().key())? else { continue };
        let found = reader.commits(key, since_ms, i64::try_from(limit).unwrap_or(i64::MAX))?;
        rows.extend(found.into_iter().map(|row| (row.at_ms, folder, row)));
    }
    // It is stable: those of one folder stay in the order in which they were made.
    rows.sort_by_key(|(at_ms, ..)| std::cmp::Reverse(*at_ms));
    rows.truncate(limit);
    let commits = rows
        .into_iter()
        .map(|(_, folder, row)| LoggedCommit { folder: name_of(folder), commit: commit_report(folder, row) });
    Ok(LogReport { commits: commits.collect() })
}

/// What is not on the branch of the folders, and why.
///
/// # Errors
/// The state cannot be read.
pub fn failed(folders: &[Folder], reader: Option<&Reader>) -> Result<FailedReport, StateError> {
    let mut report = FailedReport::default();
    for folder in folders {
        let Some(reader) = reader else { break };
        let Some(key) = reader.folder(&folder.id().key())? else { continue };
        let problems: Vec<_> = reader
            .problems(key, FAILED_MAX)?
            .into_iter()
            .map(|row| ProblemReport {
                path: row.path.to_string(),
                kind: row.kind.to_string(),
                reason: row.reason,
                since: Some(time(row.since_ms)),
            })
            .collect();
        if !problems.is_empty() {
            let failed = reader.problems_count(key)?;
            report.folders.push(FolderFailed { folder: name_of(folder), failed, problems });
        }
    }
    Ok(report)
}
