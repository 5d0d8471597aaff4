//! What the work of one folder is asked while it goes on.

use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use crate::folder::intake::{self, PathStage};
use crate::path::LocalPath;
use crate::push::{self, PushStage};

/// The longest that one path is asked for: a folder that cannot be used does not answer.
const ANSWER_WAIT_MAX: Duration = Duration::from_secs(3);

/// The ways to a folder's intake and to its worker.
#[derive(Debug, Clone)]
pub(super) struct Asks {
    pub(super) intake: mpsc::Sender<intake::Ask>,
    pub(super) push: mpsc::Sender<push::Ask>,
}

impl Asks {
    /// How far a path is: on its way to the worker, and there. `None` in place of a part that did not answer.
    pub(super) async fn stage_of(&self, path: &LocalPath) -> (Option<PathStage>, Option<PushStage>) {
        let intake = async {
            let (answer, answered) = oneshot::channel();
            self.intake.try_send(intake::Ask::Path(path.clone(), answer)).ok()?;
            timeout(ANSWER_WAIT_MAX, answered).await.ok()?.ok()
        };
        let push = async {
            let (answer, answered) = oneshot::channel();
            self.push.try_send(push::Ask::Path(path.clone(), answer)).ok()?;
            timeout(ANSWER_WAIT_MAX, answered).await.ok()?.ok()
        };
        tokio::join!(intake, push)
    }

    /// Waits until all that stands in the folder now is on the branch, or a problem says why it is not. `None` where the
    /// folder became unusable meanwhile, or its work ended; it may be asked again.
    pub(super) async fn flush(&self) -> Option<()> {
        let (answer, answered) = oneshot::channel();
        self.intake.send(intake::Ask::Flush(answer)).await.ok()?;
        let handed = answered.await.ok()?;
        let (answer, answered) = oneshot::channel();
        self.push.send(push::Ask::Flush { handed, answer }).await.ok()?;
        answered.await.ok()
    }
}
