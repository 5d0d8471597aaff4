//! What the service is doing, for a browser and for Prometheus: a page that is live, and figures. Reports go in, text goes
//! out. Nothing can be changed here, unless the config gives the page a key: then what the socket takes is taken from whoever
//! shows it.
//!
//! | Address | Answer |
//! |---|---|
//! | `/` | the page, with its style, scripts and icon |
//! | `/events` | the report each time it has changed, at most once a second, as server-sent events |
//! | `/api/status` | the report as JSON, as `oxen-sync status --json` prints it |
//! | `/api/history` | the last day in minutes; `?folder=N` for one folder, counted from 0 |
//! | `/api/steer` | whether the page has a key |
//! | `/api/steer/…` | with the key as a bearer's: what the socket answers at `/…`; `/api/steer/key` tries a key |
//! | `/metrics` | figures in Prometheus' text format |

mod events;
mod guard;
mod history;
mod listen;
mod metrics;
#[cfg(test)]
mod metrics_guide;
mod process;
mod reports;
mod server;
mod steer;

pub use history::{Gauge, History, PastCommit, SharedHistory};
pub use listen::trouble;
pub use server::{Source, serve};
pub use steer::{KeyCheck, Steering};
