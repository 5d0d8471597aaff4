use std::time::Duration;

use super::super::examine::Examiner;
use super::super::{Hint, Inbox};
use crate::content::{EntryKind, OpenError};
use crate::state::{FileRow, ProblemKind, ProblemRow, StateError};

/// How long a file stays in quarantine before it is tried again.
const QUARANTINE: Duration = Duration::from_secs(24 * 60 * 60);

/// Forgets problems that are over, and has files that were set aside long ago looked at again.
pub(super) fn forget_old(examiner: &Examiner, inbox: &Inbox) -> Result<(), StateError> {
    let now_ms = jiff::Timestamp::now().as_millisecond();
    for problem in examiner.state.problems(examiner.folder)? {
        let try_again = has_served(&problem, now_ms);
        if try_again || is_over(&problem, examiner)? {
            examiner.state.clear_problem(examiner.folder, &problem.path)?;
        }
        if try_again {
            inbox.add(Hint::Path(problem.path));
        }
    }
    Ok(())
}

fn has_served(problem: &ProblemRow, now_ms: i64) -> bool {
    let quarantine_ms = i64::try_from(QUARANTINE.as_millis()).unwrap_or(i64::MAX);
    problem.kind == ProblemKind::Quarantined && now_ms.saturating_sub(problem.since_ms) >= quarantine_ms
}

/// Whether the path is gone, or can be read again, or is on the branch as it is.
fn is_over(problem: &ProblemRow, examiner: &Examiner) -> Result<bool, StateError> {
    let path = &problem.path;
    Ok(match examiner.root.look(path) {
        Err(OpenError::Gone) => true,
        Ok(EntryKind::Dir { .. }) => examiner.root.read_dir(path).is_ok(),
        Ok(EntryKind::File(signature)) => {
            let is_known = |row: FileRow| row.is_proved() && row.known.signature == Some(signature);
            examiner.filter.excludes_file(path)
                || examiner.state.file(examiner.folder, path)?.is_some_and(is_known)
        }
        _ => false,
    })
}
