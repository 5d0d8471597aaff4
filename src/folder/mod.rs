//! From a folder to the changes in it that are finished.
//!
//! Events are hints ([`Hints`]) and may be lost, doubled or late; a [`scan`] finds what they missed; the database of
//! what was proved decides whether a file differs. What differs must hold still ([`SettleStage`]) and have no writer
//! ([`writers`]) before its content is taken ([`examine`]). [`intake`] is the shell that drives these stages with a
//! clock and hands finished changes on.

pub mod examine;
mod filter;
mod hints;
pub mod intake;
mod remote;
mod root_check;
mod runs;
pub mod scan;
mod settle;
mod watch;
pub mod writers;

pub use filter::{Filter, FilterError, IgnoreFileError, LeftOut};
pub use hints::{Hint, Hints};
pub use remote::{Filesystem, filesystem, remote_filesystem};
pub use runs::Runs;
pub use settle::{Due, SettleLimits, SettleStage, Settling};
pub use watch::{Coverage, Inbox, TreeWatch};
