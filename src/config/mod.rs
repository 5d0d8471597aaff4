//! The config file: what it may say, what it means, what is wrong with it, and what changed in it.
//!
//! Reading has two stages. The first takes the document's values with their places in the file, the second fills
//! in the defaults and checks what the values mean. Both note every problem and go on, so that all problems of a
//! file are told at once, each with a caret ([`Problems`]). A [`Config`] is therefore always a usable one.
//!
//! This part knows nothing of folders being watched, of state or of HTTP; that a path exists or a server answers
//! is for others to find out. Only [`load`], [`read`], [`write_atomically`] and [`find_key`] touch files.

mod after_push;
mod check;
mod clash;
mod diff;
mod edit;
mod env;
mod key;
mod load;
mod marker;
mod mask;
mod message;
mod model;
mod patterns;
mod problem;
mod raw;
mod reader;
mod schema;
mod servers;
mod small_file;
#[cfg(test)]
mod tests;
mod timetable;
mod units;
mod validate;
mod window;

pub use diff::{Change, FolderId, StateDirMove, diff};
pub use edit::{EditError, NewFolder, WriteError, add_folder, write_atomically};
pub use env::Env;
pub use key::{ApiKey, KeyError, KeySource, PageKeyError, find_key, read_page_key};
pub use load::{LoadError, load, parse, read, state_dir_of};
pub use message::{MessageFacts, MessageTemplate, TemplateError};
pub use model::{
    AfterPush, Author, BatchLimits, Config, Control, DeleteBrake, Folder, OnDelete, Page, Server, Settle,
    TakeOff, Transport, release_command,
};
pub use patterns::DEFAULT_EXCLUDES;
pub use problem::{Problem, Problems};
pub(crate) use small_file::{SmallFileError, read_small};
pub use timetable::{Bandwidth, BandwidthError};
pub use units::parse_duration;
pub(crate) use units::show_duration;
pub use window::UploadWindow;
