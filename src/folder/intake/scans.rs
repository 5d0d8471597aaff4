use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::super::TreeWatch;
use super::super::examine::Examiner;
use super::super::scan::{Finding, Scan, ScanError, ScanSummary};
use crate::path::LocalPath;

/// Scans queued beyond which they become one of everything.
const SCANS_MAX: usize = 1_000;
/// Threads that list directories side by side at most. More of them wait for one another in the kernel.
const THREADS_MAX: usize = 4;
/// Findings on their way from the scan's threads.
const FINDINGS_MAX: usize = 256;

/// The scans that are to be made, one after the other.
#[derive(Debug, Default)]
pub(super) struct ScanQueue(VecDeque<LocalPath>);

impl ScanQueue {
    /// Adds a scan of all below `start`, unless one that waits covers it.
    pub(super) fn add(&mut self, start: LocalPath) {
        if self.0.iter().any(|queued| start.starts_with(queued)) {
            return;
        }
        self.0.retain(|queued| !queued.starts_with(&start));
        self.0.push_back(start);
        if self.0.len() > SCANS_MAX {
            self.0 = VecDeque::from([LocalPath::root()]);
        }
    }

    /// Takes the next one out.
    pub(super) fn take(&mut self) -> Option<LocalPath> {
        self.0.pop_front()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether everything is to be scanned.
    pub(super) fn has_whole(&self) -> bool {
        self.0.iter().any(LocalPath::is_root)
    }
}

/// A scan under way on a thread of its own.
#[derive(Debug)]
pub(super) struct RunningScan {
    /// Whether it looks at everything.
    pub(super) whole: bool,
    /// Where it began.
    pub(super) start: LocalPath,
    findings: mpsc::Receiver<Finding>,
    task: JoinHandle<Result<ScanSummary, ScanError>>,
}

impl RunningScan {
    pub(super) fn start(
        start: LocalPath,
        examiner: &Examiner,
        watch: Option<&Arc<TreeWatch>>,
        cancel: CancellationToken,
    ) -> Self {
        let whole = start.is_root();
        let (sender, findings) = mpsc::channel(FINDINGS_MAX);
        let (examiner, watch, at) = (examiner.clone(), watch.cloned(), start.clone());
        let threads = std::thread::available_parallelism().map_or(1, usize::from).min(THREADS_MAX);
        let task = tokio::task::spawn_blocking(move || {
            let mut readers = vec![examiner.state.reader()?];
            // Those beside it are only for speed: descriptors may be short while very many folders are scanned.
            readers.extend((1..threads).map_while(|_| examiner.state.reader().ok()));
            let scan = Scan {
                root: &examiner.root,
                filter: &examiner.filter,
                folder: examiner.folder,
                watch: watch.as_deref(),
                cancel: &cancel,
            };
            // Waits for room; ends when nobody listens any more.
            let report = |finding| match sender.blocking_send(finding) {
                Ok(()) => ControlFlow::Continue(()),
                Err(_) => ControlFlow::Break(()),
            };
            scan.run(&mut readers, &at, &report)
        });
        Self { whole, start, findings, task }
    }

    /// The next finding; `None` at the end.
    pub(super) async fn next(&mut self) -> Option<Finding> {
        self.findings.recv().await
    }

    /// The next finding, if it is there already.
    pub(super) fn try_next(&mut self) -> Option<Finding> {
        self.findings.try_recv().ok()
    }

    /// How it ended.
    pub(super) async fn summary(self) -> Result<ScanSummary, ScanError> {
        crate::blocking::joined(self.task.await)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn local(path: &str) -> LocalPath {
        LocalPath::new(Path::new(path)).unwrap()
    }

    #[test]
    fn a_scan_covers_those_below_it() {
        let mut queue = ScanQueue::default();
        for path in ["a/b", "c", "a", "a/b/d"] {
            queue.add(local(path));
        }
        assert_eq!((queue.take(), queue.take(), queue.take()), (Some(local("c")), Some(local("a")), None));
    }

    #[test]
    fn very_many_become_one_of_everything() {
        let mut queue = ScanQueue::default();
        (0..=SCANS_MAX).for_each(|n| queue.add(local(&n.to_string())));
        assert!(queue.has_whole());
        assert_eq!((queue.take(), queue.is_empty()), (Some(LocalPath::root()), true));
    }
}
