use std::fmt;
use std::io::{self, IsTerminal};

use indicatif::MultiProgress;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::{Format, Full, Writer};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;

/// Logs to standard error; where systemd has connected it with the journal, in the journal's form. Progress bars belong
/// to the bars that are returned: lines of the log go above them.
pub(super) fn init(filter: Option<&str>) -> MultiProgress {
    let bars = MultiProgress::new();
    let default = || EnvFilter::new("info");
    let (filter, refused) = match filter.map(EnvFilter::try_new) {
        Some(Ok(filter)) => (filter, None),
        Some(Err(error)) => (default(), Some(error)),
        None => (default(), None),
    };
    let registry = tracing_subscriber::registry().with(filter);
    let above = bars.clone();
    let layer = tracing_subscriber::fmt::layer().with_writer(move || Above(above.clone()));
    if is_journal() {
        registry.with(layer.with_ansi(false).event_format(ForJournal::default())).init();
    } else {
        registry.with(layer.with_ansi(std::io::stderr().is_terminal()).with_target(false)).init();
    }
    if let Some(error) = refused {
        tracing::warn!("the log filter cannot be used, info is: {error}");
    }
    bars
}

/// Writes above the progress bars.
struct Above(MultiProgress);

impl io::Write for Above {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // A line comes whole; without a bar this is a plain write.
        self.0.suspend(|| io::stderr().write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

/// Whether standard error is the very stream that systemd connected with the journal (`systemd.exec(5)`); the variable
/// alone is inherited by everything that is started below.
pub(super) fn is_journal() -> bool {
    let Ok(stat) = rustix::fs::fstat(io::stderr()) else { return false };
    std::env::var("JOURNAL_STREAM").is_ok_and(|stream| stream == format!("{}:{}", stat.st_dev, stat.st_ino))
}

/// A line as `journalctl` shows it best: the level as the prefix that `sd-daemon(3)` describes, no time, and every field
/// where a person reads it.
struct ForJournal(Format<Full, ()>);

impl Default for ForJournal {
    fn default() -> Self {
        Self(Format::default().without_time().with_target(false).with_level(false).with_ansi(false))
    }
}

impl<S, N> FormatEvent<S, N> for ForJournal
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let priority = match *event.metadata().level() {
            Level::ERROR => 3,
            Level::WARN => 4,
            Level::INFO => 6,
            Level::DEBUG | Level::TRACE => 7,
        };
        // Each line of a message is an entry of its own and needs its own prefix.
        let mut text = String::new();
        self.0.format_event(context, Writer::new(&mut text), event)?;
        text.lines().try_for_each(|line| writeln!(writer, "<{priority}>{line}"))
    }
}
