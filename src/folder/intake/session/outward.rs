//! What a session hands on, answers and tells.

use tokio::sync::mpsc::error::TrySendError;
use tokio::time::Instant;
use tracing::{info, warn};

use super::super::asked::Flush;
use super::super::{Ask, IntakePhase, PathStage, Sight};
use super::{EXAMPLES, Session, UNCOVERED_RESCAN};
use crate::folder::Coverage;
use crate::path::{LocalPath, printable};
use crate::state::ProblemRow;

impl Session<'_> {
    /// Hands on finished changes for as long as there is room for them.
    pub(super) fn hand_on(&mut self) {
        while let Some(change) = self.outbox.pop_front() {
            if let Err(TrySendError::Full(change) | TrySendError::Closed(change)) =
                self.out.changes.try_send(change)
            {
                self.outbox.push_front(change);
                return;
            }
            self.out.handed += 1;
        }
    }

    pub(super) fn asked(&mut self, ask: Ask) {
        match ask {
            Ask::Path(path, answer) => {
                let settling = self.settle.settling(&path, Instant::now());
                let is_ready = || self.outbox.iter().any(|finished| finished.change.path == path);
                let stage = match settling {
                    Some(settling) => PathStage::Settling(settling),
                    None if is_ready() => PathStage::Ready,
                    None if self.gathering.has_marker(&path) => PathStage::Gathering,
                    None => PathStage::AtRest,
                };
                // Nobody may wait for it any more.
                let _ = answer.send(stage);
            }
            Ask::Flush(answer) => {
                self.flushes.push(Flush::new(answer));
                self.scans.add(LocalPath::root());
            }
        }
    }

    /// Answers those who wait until all that was found has been handed on.
    pub(super) fn answer_flushes(&mut self) {
        if self.flushes.is_empty() {
            return;
        }
        let count = self.out.handed + self.outbox.len() as u64;
        for flush in &mut self.flushes {
            if flush.found_at().is_some_and(|at| !self.settle.has_from(at)) && self.gathering.len() == 0 {
                flush.finished(count);
            }
        }
        let handed = self.out.handed;
        self.flushes =
            std::mem::take(&mut self.flushes).into_iter().filter_map(|flush| flush.answer(handed)).collect();
    }

    pub(super) fn sight(&self) -> Sight {
        let is_scanning = self.scans.has_whole() || self.scan.as_ref().is_some_and(|scan| scan.whole);
        let has_scans = self.scan.is_some() || !self.scans.is_empty();
        // Who writes on and on to a file says nothing of the others.
        let has_paths = self.settle.len() > self.settle.busy() || !self.jobs.is_empty();
        match (
            is_scanning,
            has_scans
                || has_paths
                || self.gathering.len() > 0
                || !self.outbox.is_empty()
                || !self.inbox.is_empty(),
        ) {
            (true, _) => Sight::Looking,
            (false, true) => Sight::Coming,
            (false, false) => Sight::Clear,
        }
    }

    pub(super) fn report_problem(&self, row: &ProblemRow) {
        warn!(
            folder = %printable(&self.options.path), path = %row.path, kind = %row.kind,
            "not pushed: {}", row.reason
        );
    }

    /// Takes over what the watches say of themselves, and tells when that is something else than before.
    pub(super) fn note_coverage(&mut self) {
        let Some(watch) = &self.watch else { return };
        let by_now = watch.coverage();
        let kind = std::mem::discriminant(&by_now);
        if kind != std::mem::discriminant(&self.coverage) {
            match &by_now {
                Coverage::Partial { watched, missing, reason } => warn!(
                    folder = %printable(&self.options.path), watched, missing,
                    "not all directories are watched, and everything is scanned every {} s: {reason}",
                    UNCOVERED_RESCAN.as_secs()
                ),
                _ => info!(folder = %printable(&self.options.path), "all directories are watched"),
            }
        }
        self.coverage = by_now;
    }

    pub(super) fn publish_sight(&self, sight: Sight) {
        let gathering = self.is_gathering();
        self.outlook.send_if_modified(|outlook| {
            let before = (outlook.sight, outlook.gathering);
            (outlook.sight, outlook.gathering) = (sight, gathering);
            before != (sight, gathering)
        });
    }

    pub(super) fn publish(&self) {
        self.publish_sight(self.sight());
        let is_scanning = self.scans.has_whole() || self.scan.as_ref().is_some_and(|scan| scan.whole);
        let phase = if is_scanning { IntakePhase::Scanning } else { IntakePhase::Watching };
        self.status.send_modify(|status| {
            status.phase = phase;
            status.coverage = self.coverage.clone();
            status.watched_dirs = self.watch.as_ref().map_or(0, |watch| watch.watched());
            status.settling = self.settle.len();
            if status.busy != self.settle.busy() {
                status.busy_paths = self.settle.busy_paths(EXAMPLES);
            }
            status.busy = self.settle.busy();
            status.ready = self.outbox.len() + self.gathering.len();
            status.held_back = self.gathering.held_back();
            let finished = self.outbox.iter().map(|finished| finished.seen);
            status.waiting_since = finished.chain(self.settle.waiting_since()).min();
            status.hints = self.inbox.len();
            if !is_scanning {
                status.skipped = self.skipped.0;
                if status.skipped_paths.len() != self.skipped.1.len() {
                    status.skipped_paths.clone_from(&self.skipped.1);
                }
            }
        });
    }
}
