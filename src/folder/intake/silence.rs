use tokio::sync::watch;
use tracing::{info, warn};

use super::super::{Hint, Inbox};
use super::{IntakeOptions, IntakePhase, IntakeStatus};
use crate::content::Silence;
use crate::path::{LocalPath, printable};

/// Tells when the folder does not answer, and when it does again. Ends with the first silence where nobody is to wait.
pub(super) async fn tell(options: &IntakeOptions, inbox: &Inbox, status: &watch::Sender<IntakeStatus>) {
    loop {
        let silence = begun(options).await;
        status.send_modify(|status| status.silence = Some(silence));
        warn!(folder = %printable(&options.path), "{silence}");
        if !options.lasting {
            status.send_modify(|status| status.phase = IntakePhase::Broken(silence.to_string()));
            return;
        }
        options.calls.answering().await;
        options.push_calls.answering().await;
        // Where the kernel tells of changes, it may have told of none meanwhile.
        inbox.add(Hint::Tree(LocalPath::root()));
        status.send_modify(|status| status.silence = None);
        info!(folder = %printable(&options.path), "the folder answers again");
    }
}

async fn begun(options: &IntakeOptions) -> Silence {
    tokio::select! {
        silence = options.calls.silent() => silence,
        silence = options.push_calls.silent() => silence,
    }
}
