//! What is known of every file and what is under way, durable: SQLite with a write-ahead log.
//!
//! The database is a memory, not the truth: a file's row says which content was proved to be on the branch, so that
//! an unchanged file is skipped; a batch's rows say what may have reached the server, so that a crash at any point
//! can be sorted out. Lost or broken, it is set aside and rebuilt from the folder and the server.
//!
//! One process owns it ([`State::open`] takes a lock); any number may read beside it ([`Reader`]).

mod asked;
mod files;
mod history;
mod journal;
mod listing;
mod open;
mod pauses;
mod places;
mod problems;
mod removals;
mod schema;
mod taking_off;
mod uploads;

pub use asked::{BelowDir, OpenBatch};
pub use files::{Confirmed, FileRow, KnownFile, Presence, Reader};
pub use history::{CommitRow, Crowded, FolderSummary, RetryRow};
pub use journal::{BatchRow, BatchTransport, Change, ChangeKind, Phase};
pub use listing::{Listed, Listing};
pub use open::{FolderKey, SetAside, State, StateError, is_open_to_others};
pub use pauses::Pause;
pub use places::{PlaceError, PlaceKey, Places};
pub use problems::{ProblemKind, ProblemRow};
pub use removals::{Held, RemovalCounts};
pub use taking_off::{Leaving, PushedFiles, TakenOff};
pub use uploads::{RESUMED_MIN, UploadRow};
