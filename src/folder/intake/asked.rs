//! What an intake can be asked, and told, while it works.

use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use super::super::settle::Settling;
use crate::path::LocalPath;

/// A question to an intake. Who asks waits with a bound of his own: a folder that cannot be used answers when it can.
#[derive(Debug)]
pub enum Ask {
    /// How far a path is.
    Path(LocalPath, oneshot::Sender<PathStage>),
    /// Looks at everything, and answers once all that stood in the folder by then has been handed on or needs nothing: with
    /// how many changes had been handed on since the intake began. A folder that becomes unusable drops the question.
    Flush(oneshot::Sender<u64>),
}

/// How far a path is on its way to the pusher.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PathStage {
    /// Nothing is to be done for it here.
    AtRest,
    /// It waits to be quiet, or is being read.
    Settling(Settling),
    /// It finishes a run and waits for the rest of that.
    Gathering,
    /// It is finished and waits to be taken over.
    Ready,
}

/// How an intake is steered while it works.
#[derive(Debug)]
pub struct Steering {
    /// Questions.
    pub asks: mpsc::Receiver<Ask>,
    /// While it is `true`, no file is read.
    pub paused: watch::Receiver<bool>,
}

impl Steering {
    /// Of an intake that nobody asks or pauses.
    pub fn none() -> Self {
        Self { asks: mpsc::channel(1).1, paused: watch::channel(false).1 }
    }
}

/// Someone waits until all that stands in the folder has been handed on.
#[derive(Debug)]
pub(super) struct Flush {
    scan: FlushScan,
    answer: oneshot::Sender<u64>,
}

/// How far the look at everything is that a flush begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FlushScan {
    Wanted,
    Running,
    /// It ended then.
    Ended(Instant),
    /// All of it is finished; so many changes must have been handed on.
    Finished(u64),
}

impl Flush {
    pub(super) fn new(answer: oneshot::Sender<u64>) -> Self {
        Self { scan: FlushScan::Wanted, answer }
    }

    /// A look at everything begins.
    pub(super) fn scan_begins(&mut self) {
        if self.scan == FlushScan::Wanted {
            self.scan = FlushScan::Running;
        }
    }

    /// One that began after the question has ended.
    pub(super) fn scan_ended(&mut self, now: Instant) {
        if self.scan == FlushScan::Running {
            self.scan = FlushScan::Ended(now);
        }
    }

    /// When everything had been found, as long as some of it may not be finished.
    pub(super) fn found_at(&self) -> Option<Instant> {
        match self.scan {
            FlushScan::Ended(at) => Some(at),
            _ => None,
        }
    }

    /// All that was found is finished, and on its way once `count` changes are.
    pub(super) fn finished(&mut self, count: u64) {
        self.scan = FlushScan::Finished(count);
    }

    /// Answers where `handed` changes are all that was waited for; gives itself back otherwise, while anyone waits.
    pub(super) fn answer(self, handed: u64) -> Option<Self> {
        match self.scan {
            FlushScan::Finished(count) if handed >= count => {
                let _ = self.answer.send(count);
                None
            }
            _ => Some(self).filter(|flush| !flush.answer.is_closed()),
        }
    }
}
