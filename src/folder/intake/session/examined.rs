//! What becomes of a path that was examined.

use tokio::time::Instant;

use super::super::super::Due;
use super::super::super::examine::Examined;
use super::Session;
use crate::state::{ProblemKind, ProblemRow};

impl Session<'_> {
    /// Takes over what was found at the paths of a job.
    pub(super) fn examined(&mut self, job: (Vec<Due>, Vec<Examined>)) {
        let now = Instant::now();
        let mut removed = 0;
        for (due, examined) in job.0.into_iter().zip(job.1) {
            self.note_run(&due, &examined);
            let path = due.path;
            match examined {
                Examined::Moving(signature) if self.options.lasting || !due.overdue => {
                    self.settle.moving(&path, signature, now);
                }
                Examined::Moving(signature) => {
                    self.settle.settled(&path, now);
                    let row = ProblemRow {
                        path,
                        kind: ProblemKind::Busy,
                        reason: "it did not hold still for as long as was waited (settle.max_wait); run again when \
                                 its writer is done"
                            .to_owned(),
                        since_ms: jiff::Timestamp::now().as_millisecond(),
                        signature,
                    };
                    // A problem that cannot be written down is told all the same.
                    let _ = self.examiner.state.set_problem(self.options.folder, &row);
                    self.report_problem(&row);
                }
                Examined::HeldBack => {
                    self.settle.settled(&path, now);
                    // Its run was finished while it was examined; the look at the run passes by what is being examined.
                    if self.is_of_finished_run(&path) {
                        self.settle.found(&path, due.seen, now);
                    }
                }
                Examined::Nothing => {
                    self.settle.settled(&path, now);
                }
                Examined::Removed => {
                    self.settle.settled(&path, now);
                    removed += 1;
                }
                Examined::Directory => {
                    self.settle.settled(&path, now);
                    self.scans.add(path);
                }
                Examined::Problem { row, is_new, passes } => {
                    if is_new {
                        self.report_problem(&row);
                    }
                    if passes && self.options.lasting {
                        self.settle.moving(&path, None, now);
                    } else {
                        self.settle.settled(&path, now);
                    }
                }
                Examined::Finished(change) => {
                    let seen = self.settle.since(&path).unwrap_or(now);
                    if self.settle.settled(&path, now) {
                        self.finished(change, seen);
                    }
                }
            }
        }
        if removed > 0 {
            self.outlook.send_modify(|outlook| outlook.removals += removed);
        }
    }
}
