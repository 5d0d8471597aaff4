//! What a worker can be asked, and told, while it works.

use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use super::PushPhase;
use crate::path::LocalPath;
use crate::plan::{Mark, Planner};
use crate::state::Change;

/// A question to a worker.
#[derive(Debug)]
pub enum Ask {
    /// How far the change of a path is.
    Path(LocalPath, oneshot::Sender<PushStage>),
    /// Delivers at once what it has and what it gets until `handed` changes in all were handed to it, and answers when
    /// none of that is left: it is proved, or a problem says why not. A try that fails is no end; the next one comes.
    Flush {
        /// See [`crate::folder::intake::Ask::Flush`].
        handed: u64,
        /// Where the answer goes.
        answer: oneshot::Sender<()>,
    },
}

/// How far a change is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PushStage {
    /// None is here.
    None,
    /// It waits for the rest of its run.
    Gathered,
    /// It waits for its batch.
    Collected {
        /// When the batch is due, unless more comes; `None` where it waits for the next try.
        due_in: Option<Duration>,
    },
    /// It is part of the batch under way.
    UnderWay,
}

/// How a worker is steered while it works.
#[derive(Debug)]
pub struct Steering {
    /// Questions.
    pub asks: mpsc::Receiver<Ask>,
    /// While something holds it, nothing is asked of the server, but for the end of a commit under way.
    pub holds: watch::Receiver<Holds>,
}

/// What keeps a worker from its server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Holds {
    /// Someone has paused it.
    pub is_paused: bool,
    /// Nothing is sent at this time of the week.
    pub is_outside_window: bool,
}

impl Holds {
    /// What it is in because of that; a person's word comes first.
    pub(super) fn phase(self) -> Option<PushPhase> {
        match self {
            Self { is_paused: true, .. } => Some(PushPhase::Paused),
            Self { is_outside_window: true, .. } => Some(PushPhase::OutsideWindow),
            Self { .. } => None,
        }
    }
}

/// Those who wait until all that was handed on by a time is delivered.
#[derive(Debug, Default)]
pub(super) struct Flushes(Vec<Flush>);

#[derive(Debug)]
struct Flush {
    handed: u64,
    /// Set once so many were handed on.
    mark: Option<Mark>,
    answer: oneshot::Sender<()>,
}

impl Flushes {
    pub(super) fn add(&mut self, handed: u64, answer: oneshot::Sender<()>) {
        self.0.push(Flush { handed, mark: None, answer });
    }

    /// Hurries what is waited for, and answers those for whom nothing is left. `received` changes came so far; `is_calm`
    /// says that no removal is on its way.
    pub(super) fn step(&mut self, planner: &mut Planner, received: u64, is_calm: bool) {
        for flush in &mut self.0 {
            if flush.mark.is_none() && received >= flush.handed {
                flush.mark = Some(planner.mark());
            }
        }
        for flush in std::mem::take(&mut self.0) {
            if flush.mark.is_some_and(|mark| is_calm && planner.is_past(mark)) {
                // Nobody may wait for it any more.
                let _ = flush.answer.send(());
            } else if !flush.answer.is_closed() {
                self.0.push(flush);
            }
        }
    }
}

/// How far the change of `path` is, of those that wait and those `under_way`.
pub(super) fn stage_of(
    path: &LocalPath,
    planner: &Planner,
    under_way: &[Change],
    is_waiting: bool,
) -> PushStage {
    if planner.is_early(path) || under_way.iter().any(|change| change.path == *path) {
        return PushStage::UnderWay;
    }
    if !planner.holds(path) {
        return PushStage::None;
    }
    if planner.waits_for_its_run(path) {
        return PushStage::Gathered;
    }
    let due_in = planner.due_at().filter(|_| !is_waiting);
    PushStage::Collected { due_in: due_in.map(|due| due.saturating_duration_since(Instant::now())) }
}
