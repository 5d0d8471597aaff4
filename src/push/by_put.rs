use std::time::Duration;

use tokio::time::Instant;

use super::batch::Batch;
use super::deliver::Outcome;
use super::pusher::{Failure, Pusher};
use super::verdict::Verdict;
use super::{PushPhase, Target};
use crate::fault_point::{Point, passed};
use crate::oxen::Reason;
use crate::path::RepoPath;
use crate::state::{BatchTransport, Phase};

/// How long a PUT whose answer was lost may still be at work on the server. It carries at most 100 small files, which
/// take oxen-server 0.65.2 about a second.
const PUT_IN_DOUBT: Duration = Duration::from_secs(5);
const PUT_ASK_EVERY: Duration = Duration::from_millis(250);

impl Pusher {
    /// Commits a batch of one directory's small files in one request.
    pub(super) async fn send_by_put(&self, mut batch: Batch) -> Result<Outcome, Failure> {
        let nothing = Outcome { said_yes: false, unproved: Vec::new() };
        let Some(dir) = batch.paths.first().and_then(|path| RepoPath::parse(path.dir()).ok()) else {
            return Ok(nothing);
        };
        self.start_progress(PushPhase::Staging, &batch.changes);
        let source = self.open_source().await?;
        let all: Vec<_> = (0..batch.changes.len()).collect();
        self.turn().await;
        let permit = self.memory.some(batch.bytes()).await;
        let bodies = source.read(self, &batch, &all).await?;
        let keep: Vec<_> = bodies.iter().map(|(index, _)| *index).collect();
        batch.retain(&keep);
        if batch.changes.is_empty() {
            return Ok(nothing);
        }
        let files = bodies
            .into_iter()
            .zip(&batch.paths)
            .map(|((_, mut body), path)| {
                path.name().clone_into(&mut body.name);
                body
            })
            .collect();
        batch.row.transport = BatchTransport::Put;
        batch.row.phase = Phase::Committing;
        batch.row.workspace.clear();
        self.journal(&batch).await?;
        self.phase(PushPhase::Committing);
        let Target { client, repo, branch, .. } = &self.target;
        let put = client.put_files(repo, branch, &dir, files, &batch.info).await;
        drop(permit);
        let error = match put {
            Ok(commit) => {
                passed(Point::PutCommitted);
                return self.settle(&batch, Some(commit)).await;
            }
            Err(error) => error,
        };
        let failure = Failure::from(error.clone());
        match (failure.verdict, error.reason()) {
            // A workspace would make the one out of the other.
            (_, Reason::TargetMustBeDirectory) => {
                self.close(&batch, None, &[]).await?;
                let reason = format!("{}; no PUT can change that: set transport = \"auto\"", failure.reason);
                Err(Failure { reason, ..failure })
            }
            // Nothing was committed: the server said so, or never saw it.
            (Verdict::Again | Verdict::Split | Verdict::Stop, _) => {
                self.close(&batch, None, &[]).await?;
                self.target.doubt();
                Err(failure)
            }
            (Verdict::Ask, Reason::NoChanges) => self.settle(&batch, None).await,
            // The journal stays open; recovering asks the branch.
            (Verdict::Ask, _) => {
                self.target.doubt();
                Err(failure)
            }
        }
    }

    /// Asks the branch what came of a PUT whose answer nobody heard. Time that an earlier life has waited for it counts too:
    /// lives that are all shorter than the wait would never get past it.
    pub(super) async fn ask_for_put(&self, batch: &Batch) -> Result<(), Failure> {
        let (folder, id) = (self.options.folder, batch.row.id);
        let mut waited = self.blocking(move |state| state.waited_for_put(folder, id)).await?;
        while !self.proof_of_head(batch).await?.is_whole() && waited < PUT_IN_DOUBT {
            let from = Instant::now();
            tokio::time::sleep(PUT_ASK_EVERY).await;
            // Only what has passed by a clock that goes on evenly, and never what passed between two lives.
            waited += from.elapsed();
            self.blocking(move |state| state.note_waited_for_put(folder, id, waited)).await?;
        }
        self.settle(batch, None).await.map(|_| ())
    }
}
