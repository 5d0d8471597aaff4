use futures_util::future::{BoxFuture, FutureExt};

use super::Pusher;
use super::prepare::Needed;
use super::pusher::Failure;
use super::verdict::Verdict;
use crate::config::Transport;
use crate::state::Change;

/// A delivery that failed, with the changes that are still to be pushed.
#[derive(Debug)]
pub(super) struct Failed {
    pub failure: Failure,
    pub changes: Vec<Change>,
}

/// What came of a batch that went all its way.
#[derive(Debug)]
pub(super) struct Outcome {
    /// Whether the server said that it has committed the batch.
    pub said_yes: bool,
    /// Changes that the branch does not hold all the same.
    pub unproved: Vec<Change>,
}

impl Pusher {
    /// Sees to it that `changes` are on the branch, as far as they still hold. Says whether anything had to be sent.
    pub(super) fn deliver(&self, changes: Vec<Change>) -> BoxFuture<'_, Result<bool, Failed>> {
        async move {
            match self.prepare(&changes).await {
                Ok(Needed { changes, .. }) if changes.is_empty() => Ok(false),
                Ok(needed) => self.send(needed).await.map(|()| true),
                Err(failure) => Err(Failed { failure, changes }),
            }
        }
        .boxed()
    }

    async fn send(&self, needed: Needed) -> Result<(), Failed> {
        let all = needed.changes.clone();
        let sent = self.try_send(needed).await;
        self.sum_up(sent, all)
    }

    /// What came of sending `all`.
    pub(super) fn sum_up(&self, sent: Result<Outcome, Failure>, all: Vec<Change>) -> Result<(), Failed> {
        match sent {
            Ok(Outcome { unproved, .. }) if unproved.is_empty() => Ok(()),
            Ok(Outcome { said_yes, unproved }) => {
                Err(Failed { failure: self.not_there(said_yes, &unproved), changes: unproved })
            }
            Err(failure) => Err(Failed { failure, changes: all }),
        }
    }

    async fn try_send(&self, needed: Needed) -> Result<Outcome, Failure> {
        let by_put = self.goes_by_put()?;
        let message = self.message(&needed.changes, &needed.new);
        let batch = self.new_batch(needed.changes, message)?;
        if by_put { self.send_by_put(batch).await } else { self.send_by_workspace(batch).await }
    }

    fn goes_by_put(&self) -> Result<bool, Failure> {
        match self.options.transport {
            Transport::Auto | Transport::Workspace => Ok(false),
            Transport::Put if self.target.is_put_safe() => Ok(true),
            Transport::Put => Err(Failure::of_surroundings(
                Verdict::Stop,
                format!(
                    "a PUT to the branch {} may reach another branch, since one's name begins the other's; set \
                     transport = \"auto\", or rename the branch",
                    self.target.branch
                ),
            )),
        }
    }

    /// What it means that some changes are not on the branch although their batch went all its way.
    fn not_there(&self, said_yes: bool, unproved: &[Change]) -> Failure {
        let example = unproved.first().map(|change| change.path.to_string()).unwrap_or_default();
        let count = unproved.len();
        // What was said to be committed may still lie in its workspace; the next look sweeps it away.
        self.target.doubt();
        if said_yes {
            self.lock_unproved().extend(unproved.iter().map(|change| change.path.clone()));
        }
        let reason = match said_yes {
            true => format!(
                "the server said yes, and {count} of the files are not on the branch, for one {example}; they are \
                 sent once more"
            ),
            false => format!(
                "{count} of the files did not get onto the branch, for one {example}: another writer was there \
                 meanwhile, or the answer was lost; they are sent once more"
            ),
        };
        Failure { verdict: Verdict::Ask, reason, retry_after: None, may_be_content: said_yes }
    }
}
