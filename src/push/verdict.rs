//! The one function that says what an answer means for what comes next.

use crate::oxen::{Error, Kind, Op, Reason};

/// What to do after a request that was not answered with success.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing came of it: wait and send it again.
    Again,
    /// A commit may have come of it: ask the branch what it holds before anything is sent again.
    Ask,
    /// The content or a name is at fault: send less at once until the file that is at fault stands alone.
    Split,
    /// Nobody who sends this is let in: send nothing to this target until someone has done something.
    Stop,
}

/// Sorts an answer, or what came instead of one.
pub fn verdict(error: &Error) -> Verdict {
    sort(error.op(), error.kind(), error.request_reached_server())
}

/// Whether nobody knows what an answer objects to, and it may be what was sent: then less at once finds out, once
/// waiting has not helped.
pub fn may_be_content(error: &Error) -> bool {
    let Kind::Status { code, reason: Reason::Other, .. } = error.kind() else { return false };
    let speaks_of_paths = carries_content(error.op()) || matches!(error.op(), Op::ReadEntry | Op::ListDir);
    speaks_of_paths
        && match code {
            401 | 403 | 404 | 405 | 407 | 408 | 410 | 421 | 425 | 426 | 429 => false,
            400..=500 => true,
            _ => false,
        }
}

/// Whether an answer to a commit is the last word on it: nothing of it is still under way.
pub fn is_over(error: &Error) -> bool {
    may_be_content(error) && error.code() != Some(409)
}

fn carries_content(op: Op) -> bool {
    matches!(
        op,
        Op::PutFiles
            | Op::StageFiles
            | Op::StageRemovals
            | Op::BeginUpload
            | Op::PutPart
            | Op::MergeWorkspace
    )
}

fn sort(op: Op, kind: Kind, reached: bool) -> Verdict {
    let commits = matches!(op, Op::PutFiles | Op::MergeWorkspace);
    let unknown = if commits && reached { Verdict::Ask } else { Verdict::Again };
    // What a request without content is refused for is no file's fault.
    let fault = if carries_content(op) { Verdict::Split } else { Verdict::Again };
    match kind {
        Kind::Connect | Kind::Timeout | Kind::Broken | Kind::Tls | Kind::Malformed | Kind::Redirect => {
            unknown
        }
        Kind::Unsendable => fault,
        Kind::Status { code, reason, .. } => match (code, reason) {
            (401 | 403, _) => Verdict::Stop,
            (_, Reason::NoChanges | Reason::Conflict) => Verdict::Ask,
            (_, Reason::WorkspaceNotFound) if commits => Verdict::Ask,
            (
                _,
                Reason::PayloadTooLarge
                | Reason::PathRefused
                | Reason::NameTooLong
                | Reason::TargetMustBeDirectory,
            ) => fault,
            (429, _) => Verdict::Again,
            (
                _,
                Reason::BranchNotFound
                | Reason::RepoNotFound
                | Reason::WorkspaceNotFound
                | Reason::UploadNotFound
                | Reason::HashMismatch
                | Reason::NotFound,
            ) => Verdict::Again,
            (408 | 409 | 425 | 500.., _) => unknown,
            // Whatever else is refused: waiting may help, and if not, smaller batches find what is at fault.
            (400..500, _) => Verdict::Again,
            // A success that is none, and codes that Oxen does not use.
            _ => unknown,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(op: Op, code: u16, reason: Reason) -> Verdict {
        sort(op, Kind::Status { code, reason, retry_after: None }, true)
    }

    #[test]
    fn every_status_has_its_verdict() {
        for code in 100..=999 {
            let staging = status(Op::StageFiles, code, Reason::Other);
            let committing = status(Op::MergeWorkspace, code, Reason::Other);
            let expected = match code {
                401 | 403 => (Verdict::Stop, Verdict::Stop),
                408 | 409 | 425 => (Verdict::Again, Verdict::Ask),
                400..=499 => (Verdict::Again, Verdict::Again),
                _ => (Verdict::Again, Verdict::Ask),
            };
            assert_eq!((staging, committing), expected, "{code}");
        }
    }

    #[test]
    fn a_lost_answer_to_a_commit_is_asked_about_and_any_other_sent_again() {
        for kind in [Kind::Timeout, Kind::Broken, Kind::Malformed] {
            assert_eq!(sort(Op::MergeWorkspace, kind, true), Verdict::Ask);
            assert_eq!(sort(Op::PutFiles, kind, true), Verdict::Ask);
            assert_eq!(sort(Op::PutFiles, kind, false), Verdict::Again, "it never reached the server");
            assert_eq!(sort(Op::StageFiles, kind, true), Verdict::Again);
            assert_eq!(sort(Op::PutPart, kind, true), Verdict::Again);
        }
        assert_eq!(sort(Op::MergeWorkspace, Kind::Connect, false), Verdict::Again);
    }

    #[test]
    fn what_the_server_says_outweighs_its_code() {
        assert_eq!(status(Op::MergeWorkspace, 404, Reason::WorkspaceNotFound), Verdict::Ask);
        assert_eq!(status(Op::StageFiles, 404, Reason::WorkspaceNotFound), Verdict::Again);
        assert_eq!(status(Op::MergeWorkspace, 409, Reason::Conflict), Verdict::Ask);
        assert_eq!(status(Op::PutFiles, 422, Reason::NoChanges), Verdict::Ask);
        assert_eq!(status(Op::PutFiles, 400, Reason::PayloadTooLarge), Verdict::Split);
        assert_eq!(status(Op::PutFiles, 500, Reason::NameTooLong), Verdict::Split);
        assert_eq!(
            status(Op::OpenWorkspace, 413, Reason::PayloadTooLarge),
            Verdict::Again,
            "no file's fault"
        );
        assert_eq!(status(Op::MergeWorkspace, 429, Reason::BranchHeadMismatch), Verdict::Again);
        assert_eq!(status(Op::PutPart, 404, Reason::UploadNotFound), Verdict::Again);
    }
}
