use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::status::Report;
use crate::status::socket::Reporter;

/// How long a report is good for at least.
const FRESH_MIN: Duration = Duration::from_secs(1);
/// The same at most.
const FRESH_MAX: Duration = Duration::from_secs(30);
/// A report is good for so many times what it took to make: with very many files it takes a while, and whoever looks on
/// must not slow the work down.
const FRESH_SHARE: u32 = 20;

/// Makes reports for all who ask, one at a time and none twice within a second.
pub(super) struct Reports {
    make: Reporter,
    last: Arc<Mutex<Option<Arc<Made>>>>,
}

/// A report that was made.
pub(super) struct Made {
    /// The report.
    pub(super) report: Report,
    /// The same as JSON in one line.
    pub(super) json: Bytes,
    /// When another is made for whoever asks.
    pub(super) good_until: Instant,
}

impl Reports {
    pub(super) fn new(make: Reporter) -> Self {
        Self { make, last: Arc::default() }
    }

    /// A report that is good still, or a new one.
    pub(super) async fn latest(&self) -> Result<Arc<Made>, String> {
        let mut last = Arc::clone(&self.last).lock_owned().await;
        if let Some(made) = last.as_ref().filter(|made| Instant::now() < made.good_until) {
            return Ok(Arc::clone(made));
        }
        let make = Arc::clone(&self.make);
        // The turn goes with the work: whoever goes away meanwhile leaves it to nobody else before it is done.
        let making = tokio::task::spawn_blocking(move || {
            let from = Instant::now();
            let report = make()?;
            let json = serde_json::to_vec(&report).map_err(|error| error.to_string())?;
            let good_until = Instant::now() + (from.elapsed() * FRESH_SHARE).clamp(FRESH_MIN, FRESH_MAX);
            let made = Arc::new(Made { report, json: json.into(), good_until });
            *last = Some(Arc::clone(&made));
            Ok(made)
        });
        making.await.map_err(|error| error.to_string())?
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex as StdMutex;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn whoever_goes_away_leaves_no_second_report_under_way() {
        let (go, gone) = mpsc::channel::<()>();
        let (gone, made) = (StdMutex::new(gone), Arc::new(AtomicUsize::new(0)));
        let count = Arc::clone(&made);
        let reports = Arc::new(Reports::new(Arc::new(move || {
            count.fetch_add(1, Ordering::SeqCst);
            let _ = gone.lock().unwrap().recv();
            Report::without_service("/etc/x".as_ref(), &[], None).map_err(|error| error.to_string())
        })));
        for _ in 0..20 {
            let asking = reports.latest();
            assert!(tokio::time::timeout(Duration::from_millis(20), asking).await.is_err());
        }
        assert_eq!(made.load(Ordering::SeqCst), 1);
        drop(go);
        assert_eq!(reports.latest().await.unwrap().report.config, "/etc/x");
        assert_eq!(made.load(Ordering::SeqCst), 1, "and that one is used");
    }
}
