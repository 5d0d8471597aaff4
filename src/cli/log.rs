use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// Logs to the journal where systemd has connected standard error with it, else to standard error.
pub(super) fn init(filter: Option<&str>) {
    let default = || EnvFilter::new("info");
    let (filter, refused) = match filter.map(EnvFilter::try_new) {
        Some(Ok(filter)) => (filter, None),
        Some(Err(error)) => (default(), Some(error)),
        None => (default(), None),
    };
    let registry = tracing_subscriber::registry().with(filter);
    let journal = std::env::var_os("JOURNAL_STREAM").and_then(|_| tracing_journald::layer().ok());
    match journal {
        Some(journal) => registry.with(journal).init(),
        None => {
            let to_terminal = std::io::stderr().is_terminal();
            let layer = tracing_subscriber::fmt::layer()
                .with_writer(std::io::stderr)
                .with_ansi(to_terminal)
                .with_target(false);
            registry.with(layer).init();
        }
    }
    if let Some(error) = refused {
        tracing::warn!("the log filter cannot be used, info is: {error}");
    }
}
