//! What the service is doing, for a browser and for Prometheus: a page that is live, and figures. Reports go in, text goes
//! out; nothing can be changed here.
//!
//! | Address | Answer |
//! |---|---|
//! | `/` | the page, with its style, scripts and icon |
//! | `/events` | the report each time it has changed, at most once a second, as server-sent events |
//! | `/api/status` | the report as JSON, as `oxen-sync status --json` prints it |
//! | `/api/history` | the last day in minutes; `?folder=N` for one folder, counted from 0 |
//! | `/metrics` | figures in Prometheus' text format |

mod events;
mod guard;
mod history;
mod metrics;
mod process;
mod reports;
mod server;

pub use history::{Gauge, History, PastCommit, SharedHistory};
pub use server::{Source, serve};
