//! What oxen-sync is doing and why, as a report that a person or a program can read. Only reads.
//!
//! A running service answers on a Unix socket in its state directory ([`socket`]); beside or without it, the state
//! itself says what is known.

pub(crate) mod limit;
mod links;
mod look;
mod past;
mod report;
#[cfg(test)]
mod schema;
pub mod socket;
mod text;
mod timers;
mod why;

pub use look::{CROWDED_HELP, report, state_of, time};
pub use past::{FailedReport, FolderFailed, LOG_MAX, LogReport, LoggedCommit, failed, log, name_of};
pub use report::{
    BatchReport, CommitReport, ConfigRefused, CrowdedReport, DoneReport, FolderReport, FolderState,
    LiveFolder, PageReport, ProblemReport, Report, RetryReport,
};
pub use text::render;
pub use timers::{CONFIG_POLL, TICK, TICK_AT_REST, TimerReport};
pub use why::{Facts, Here, LivePath, WhyFolder, WhyReport, WhyStep, WriterProcess, why, writers_text};

/// The note of the state under which the config that was last refused is kept.
pub const CONFIG_REFUSED: &str = "config_refused";
