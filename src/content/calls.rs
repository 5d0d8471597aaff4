use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, Read};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::fault_point;

/// A folder in which a call has been under way for so long does not answer. A disk that has to start spinning, or a busy
/// server, takes less.
pub const SILENCE: Duration = Duration::from_secs(30);
/// How often it is looked at whether a folder that did not answer does so by now.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// The calls into a folder that are under way: one into a filesystem whose server is away may never return, and nothing can
/// end it. Reading a large file is very many calls.
#[derive(Debug)]
pub struct Calls {
    limit: Duration,
    under_way: Mutex<UnderWay>,
}

#[derive(Debug, Default)]
struct UnderWay {
    next: u64,
    since: BTreeMap<u64, Instant>,
}

/// Work in a folder that is under way until this goes.
#[derive(Debug)]
pub struct Call {
    calls: Arc<Calls>,
    number: u64,
}

/// A folder does not answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Silence {
    since: Instant,
}

impl Default for Calls {
    fn default() -> Self {
        Self::with_limit(SILENCE)
    }
}

impl Calls {
    /// None yet; a folder that takes longer than `limit` for one does not answer.
    pub fn with_limit(limit: Duration) -> Self {
        Self { limit: fault_point::silence(limit), under_way: Mutex::default() }
    }

    /// A call begins.
    pub fn begin(self: &Arc<Self>) -> Call {
        let mut under_way = self.lock();
        let number = under_way.next;
        under_way.next += 1;
        under_way.since.insert(number, Instant::now());
        Call { calls: Arc::clone(self), number }
    }

    /// Whether the folder does not answer, and since when.
    pub fn silence(&self) -> Option<Silence> {
        let since = self.oldest().filter(|since| since.elapsed() >= self.limit)?;
        Some(Silence { since })
    }

    /// Waits until the folder does not answer.
    pub async fn silent(&self) -> Silence {
        loop {
            if let Some(silence) = self.silence() {
                return silence;
            }
            // One that begins from here on has its time first.
            tokio::time::sleep_until(self.oldest().unwrap_or_else(Instant::now) + self.limit).await;
        }
    }

    /// Waits until the folder answers; returns at once where it does.
    pub async fn answering(&self) {
        while self.silence().is_some() {
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Waits for `work`, which makes calls that are counted here, for as long as the folder answers.
    ///
    /// # Errors
    /// It does not. The work goes on where it is, and nobody waits for it.
    pub async fn answered<T>(&self, work: impl Future<Output = T>) -> Result<T, Silence> {
        tokio::select! {
            biased;
            done = work => Ok(done),
            silence = self.silent() => Err(silence),
        }
    }

    fn oldest(&self) -> Option<Instant> {
        self.lock().since.values().min().copied()
    }

    fn lock(&self) -> MutexGuard<'_, UnderWay> {
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Call {
    /// The folder has answered, and is asked for more.
    pub fn moved(&self) {
        if let Some(since) = self.calls.lock().since.get_mut(&self.number) {
            *since = Instant::now();
        }
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.calls.lock().since.remove(&self.number);
    }
}

impl fmt::Display for Silence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the folder does not answer (for {} s): is the server of its filesystem reachable, or its disk broken?",
            self.since.elapsed().as_secs()
        )
    }
}

/// Reads, and says with each piece that the folder answers.
#[derive(Debug)]
pub(super) struct Counted<R> {
    pub(super) inner: R,
    pub(super) call: Call,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.call.moved();
        self.inner.read(buffer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_call_that_takes_too_long_is_told_and_its_end_too() {
        let calls = Arc::new(Calls::default());
        let from = Instant::now();
        let begin = |after: Duration| {
            let calls = Arc::clone(&calls);
            async move {
                tokio::time::sleep(after).await;
                calls.begin()
            }
        };
        let (silence, call) = tokio::join!(calls.silent(), begin(Duration::from_secs(100)));
        assert_eq!(from.elapsed(), Duration::from_secs(130));
        assert!(silence.to_string().contains("(for 30 s)"), "{silence}");
        drop(call);
        calls.answering().await;
        assert_eq!(calls.silence(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn work_that_moves_is_no_silence_however_long_it_takes() {
        let calls = Arc::new(Calls::default());
        let stuck_from = Duration::from_secs(1_000);
        let hashing = async {
            let call = calls.begin();
            for _ in 0..100 {
                tokio::time::sleep(stuck_from / 100).await;
                call.moved();
            }
            // A look beside it, which is short.
            drop(calls.begin());
            std::future::pending::<()>().await;
        };
        let from = Instant::now();
        assert!(calls.answered(hashing).await.is_err());
        assert_eq!(from.elapsed(), stuck_from + SILENCE);
    }

    #[tokio::test(start_paused = true)]
    async fn work_that_is_done_is_done() {
        let calls = Arc::new(Calls::default());
        let work = async {
            let _call = calls.begin();
            tokio::time::sleep(SILENCE - Duration::from_millis(1)).await;
            7
        };
        assert_eq!(calls.answered(work).await, Ok(7));
        assert_eq!(calls.oldest(), None);
    }
}
