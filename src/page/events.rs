//! The report as server-sent events, for as long as someone reads them.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::Stream;
use futures_util::stream::unfold;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::reports::Reports;
use crate::status::limit::Lease;

/// How often a reader hears that the service lives, when nothing changes.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// A reader that has taken nothing for so long is cut. Longer than what it is sent is apart.
const STALL_MAX: Duration = Duration::from_secs(40);
/// How soon a report that could not be made is tried again.
const RETRY: Duration = Duration::from_secs(5);

struct Reader {
    reports: Arc<Reports>,
    lease: Lease,
    cancel: CancellationToken,
    sent: Option<Bytes>,
    next_look: Instant,
    _slot: OwnedSemaphorePermit,
}

/// The events for one reader. It is asked for the next one only when the one before is on its way, so a reader that takes
/// nothing is no longer asked for, and its lease runs out.
pub(super) fn stream(
    reports: Arc<Reports>,
    lease: Lease,
    slot: OwnedSemaphorePermit,
    cancel: CancellationToken,
) -> impl Stream<Item = Result<Bytes, Infallible>> {
    let reader = Reader { reports, lease, cancel, sent: None, next_look: Instant::now(), _slot: slot };
    unfold(reader, async |mut reader| {
        reader.lease.extend(STALL_MAX);
        let cancel = reader.cancel.clone();
        let event = tokio::select! {
            biased;
            () = cancel.cancelled() => return None,
            event = reader.next() => event,
        };
        Some((Ok(event), reader))
    })
}

impl Reader {
    async fn next(&mut self) -> Bytes {
        let silent_until = Instant::now() + KEEP_ALIVE;
        loop {
            sleep_until(self.next_look.min(silent_until)).await;
            if Instant::now() >= silent_until {
                // An event and no comment: the page has to see it, to tell a silence from an end.
                return event("alive", b"1");
            }
            match self.reports.latest().await {
                Ok(made) => {
                    self.next_look = made.good_until;
                    if self.sent.as_ref() != Some(&made.json) {
                        self.sent = Some(made.json.clone());
                        return event("report", &made.json);
                    }
                }
                Err(reason) => {
                    self.next_look = Instant::now() + RETRY;
                    return event("trouble", reason.replace(['\r', '\n'], " ").as_bytes());
                }
            }
        }
    }
}

fn event(name: &str, data: &[u8]) -> Bytes {
    [b"event: ", name.as_bytes(), b"\ndata: ", data, b"\n\n"].concat().into()
}
