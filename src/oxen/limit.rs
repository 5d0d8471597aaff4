//! A limit to how fast request bodies are sent, shared by all requests of a client.

use std::fmt;
use std::io;
use std::num::NonZeroU64;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use futures_util::stream::{self, Stream, StreamExt};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use super::pace::Pace;

/// How fast request bodies may be sent, all together. Clones share the limit; a change counts at once, also for bodies
/// that are under way.
#[derive(Clone)]
pub struct RateLimit(Arc<Inner>);

struct Inner {
    rate_bytes_per_s: watch::Sender<Option<NonZeroU64>>,
    pace: Mutex<Pace>,
}

impl RateLimit {
    /// A limit of so many bytes a second; `None` is none.
    pub fn new(rate_bytes_per_s: Option<NonZeroU64>) -> Self {
        let (rate_bytes_per_s, _) = watch::channel(rate_bytes_per_s);
        Self(Arc::new(Inner { rate_bytes_per_s, pace: Mutex::default() }))
    }

    /// Bytes a second; `None` where there is no limit.
    pub fn rate(&self) -> Option<NonZeroU64> {
        *self.0.rate_bytes_per_s.borrow()
    }

    /// Changes it. Returns whether it was another.
    pub fn set(&self, rate_bytes_per_s: Option<NonZeroU64>) -> bool {
        self.0.rate_bytes_per_s.send_if_modified(|rate| {
            let is_new = *rate != rate_bytes_per_s;
            *rate = rate_bytes_per_s;
            if is_new {
                self.0.pace.lock().unwrap_or_else(PoisonError::into_inner).reset();
            }
            is_new
        })
    }

    /// The same bytes, held to the limit. `waits_until` hears until when nothing is sent because of it. Without a limit,
    /// pieces go through as they come.
    pub(super) fn hold(
        &self,
        pieces: impl Stream<Item = io::Result<Bytes>> + Send + 'static,
        waits_until: impl Fn(Instant) + Send + Sync + 'static,
    ) -> impl Stream<Item = io::Result<Bytes>> + Send + 'static {
        let rate = self.0.rate_bytes_per_s.subscribe();
        let body =
            Held { limit: self.clone(), rate, pieces: Box::pin(pieces), rest: Bytes::new(), waits_until };
        stream::unfold(body, async |mut body| body.next().await.map(|piece| (piece, body)))
    }
}

/// A body on its way.
struct Held<S, W> {
    limit: RateLimit,
    rate: watch::Receiver<Option<NonZeroU64>>,
    pieces: std::pin::Pin<Box<S>>,
    /// What has not gone of the piece that came last.
    rest: Bytes,
    waits_until: W,
}

impl<S: Stream<Item = io::Result<Bytes>>, W: Fn(Instant)> Held<S, W> {
    async fn next(&mut self) -> Option<io::Result<Bytes>> {
        while self.rest.is_empty() {
            match self.pieces.next().await? {
                Ok(piece) => self.rest = piece,
                Err(error) => return Some(Err(error)),
            }
        }
        loop {
            let rate = *self.rate.borrow_and_update();
            let Some(rate) = rate else { return Some(Ok(std::mem::take(&mut self.rest))) };
            let (len, go_at) = {
                let mut pace = self.limit.0.pace.lock().unwrap_or_else(PoisonError::into_inner);
                pace.next(Instant::now(), rate, self.rest.len())
            };
            (self.waits_until)(go_at);
            tokio::select! {
                biased;
                // The sender lives as long as the limit that is held here.
                Ok(()) = self.rate.changed() => {}
                () = sleep_until(go_at) => return Some(Ok(self.rest.split_to(len))),
            }
        }
    }
}

impl fmt::Debug for RateLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.rate() {
            Some(rate) => write!(f, "RateLimit({rate} bytes/s)"),
            None => f.write_str("RateLimit(off)"),
        }
    }
}

/// Whether they are clones of one another.
impl PartialEq for RateLimit {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for RateLimit {}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn body(lens: &[usize]) -> impl Stream<Item = io::Result<Bytes>> + Send + 'static {
        let pieces: Vec<_> = lens.iter().map(|len| Ok(Bytes::from(vec![7; *len]))).collect();
        stream::iter(pieces)
    }

    async fn len(body: impl Stream<Item = io::Result<Bytes>>) -> usize {
        let mut body = std::pin::pin!(body);
        let mut len = 0;
        while let Some(piece) = body.next().await {
            len += piece.unwrap().len();
        }
        len
    }

    #[tokio::test]
    async fn without_a_limit_pieces_go_through_as_they_are() {
        let piece = Bytes::from(vec![7; 1 << 20]);
        let held = RateLimit::new(None).hold(stream::iter([Ok(piece.clone())]), |_| ());
        let out = std::pin::pin!(held).next().await.unwrap().unwrap();
        assert_eq!((out.as_ptr(), out.len()), (piece.as_ptr(), piece.len()));
    }

    #[tokio::test(start_paused = true)]
    async fn bodies_share_the_rate() {
        let (limit, start) = (RateLimit::new(NonZeroU64::new(100_000)), Instant::now());
        let one = len(limit.hold(body(&[300_000]), |_| ()));
        let other = len(limit.hold(body(&[100_000, 0, 100_000]), |_| ()));
        assert_eq!(tokio::join!(one, other), (300_000, 200_000));
        let took = start.elapsed();
        assert!((Duration::from_millis(4_800)..Duration::from_millis(5_100)).contains(&took), "{took:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_change_counts_for_a_body_under_way() {
        let (limit, start) = (RateLimit::new(NonZeroU64::new(1_000)), Instant::now());
        let sent = tokio::spawn(len(limit.hold(body(&[1 << 20]), |_| ())));
        tokio::time::sleep(Duration::from_millis(2_500)).await;
        assert!(!sent.is_finished());
        assert!(limit.set(None) && !limit.set(None));
        assert_eq!(sent.await.unwrap(), 1 << 20);
        assert_eq!(start.elapsed(), Duration::from_millis(2_500));
    }
}
