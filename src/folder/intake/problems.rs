use std::time::Duration;

use super::super::examine::Examiner;
use super::super::{Hint, Inbox};
use crate::content::{EntryKind, Mounts, OpenError};
use crate::path::LocalPath;
use crate::state::{FileRow, ProblemKind, ProblemRow, StateError};

/// How long a file stays in quarantine before it is tried again.
const QUARANTINE: Duration = Duration::from_secs(24 * 60 * 60);

/// Forgets problems from `start` on down that are over, and has files that were set aside long ago looked at again.
pub(super) fn forget_old(start: &LocalPath, examiner: &Examiner, inbox: &Inbox) -> Result<(), StateError> {
    let now_ms = jiff::Timestamp::now().as_millisecond();
    for problem in examiner.state.problems_below(examiner.folder, start)? {
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
    let served_ms = now_ms.saturating_sub(problem.since_ms);
    // A beginning that is still to come was written down by a clock that was wrong.
    problem.kind == ProblemKind::Quarantined && !(0..quarantine_ms).contains(&served_ms)
}

/// Whether the path is gone, or can be read again, or is on the branch as it is.
fn is_over(problem: &ProblemRow, examiner: &Examiner) -> Result<bool, StateError> {
    let path = &problem.path;
    Ok(match examiner.root.look(path) {
        Err(OpenError::Gone) => true,
        Ok(EntryKind::Dir { .. }) => examiner.root.read_dir(path, &Mounts::below(&examiner.root)).is_ok(),
        Ok(EntryKind::File(signature)) => {
            let is_known = |row: FileRow| row.is_proved() && row.known.signature == Some(signature);
            examiner.filter.excludes_file(path)
                || examiner.state.file(examiner.folder, path)?.is_some_and(is_known)
        }
        _ => false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_was_set_back_keeps_no_file_in_quarantine() {
        let day_ms = 24 * 60 * 60 * 1000;
        let problem = ProblemRow {
            path: LocalPath::root().join("a".as_ref()),
            kind: ProblemKind::Quarantined,
            reason: String::new(),
            since_ms: 400 * day_ms,
            signature: None,
        };
        assert!(!has_served(&problem, problem.since_ms));
        assert!(!has_served(&problem, problem.since_ms + day_ms - 1));
        assert!(has_served(&problem, problem.since_ms + day_ms));
        assert!(has_served(&problem, problem.since_ms - 365 * day_ms));
    }
}
