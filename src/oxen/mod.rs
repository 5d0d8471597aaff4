//! Oxen's HTTP API as the server really speaks it (oxen-server 0.65.2). Knows HTTP and nothing of folders,
//! batches or state.
//!
//! [`Client`] has one method for each request and never tries twice; an [`Error`] carries all that is needed
//! to decide elsewhere whether another try makes sense. What a request can carry unharmed is said by pure
//! functions ([`fits_put_name`], [`fits_multipart_path`], [`put_form_len`]), because
//! the server renames or drops in silence what it does not like.
//!
//! # What a caller must know of oxen-server 0.65.2
//! - The server resolves the text after `/file/`, `/dir/`, `/meta/` and `/commits/history/` by trying every
//!   prefix as a branch, the longest first. With branches `main` and `main/raw`, the path `raw/x` on `main` is
//!   read as `x` on `main/raw`. Read by commit id ([`Client::branch`] resolves names exactly), and commit
//!   through a workspace where such a branch exists: it takes the branch's name whole.
//! - A PUT into a repository without commits takes the first segment of the branch's name as the branch and
//!   stores `%25` where a directory's name holds `%`. Open a workspace first: that makes the first commit, on
//!   a branch of any name.
//! - A workspace takes a file for unchanged if it has the size and the storage time of what its commit holds
//!   there, whatever its content: two files of one batch that swap their contents can stay as they were, with an
//!   answer of success, however often they are staged. A PUT tells them apart, and so does a removal in a commit
//!   before. Only the branch itself says what is on it.
//! - A file that takes a directory's place needs the directory's own removal in a commit before. Otherwise it is
//!   lost, or listed while every look-up still finds the directory.
//! - [`Client::entry`] costs as much as the directory is long (8 ms among 1,000 files, 20 ms among 5,000);
//!   [`Client::list_dir`] reads them all in 20 and 75 ms.

mod answer;
mod client;
mod commit;
mod error;
mod fit;
#[cfg(test)]
mod fuzz;
mod limit;
mod multipart;
mod name;
mod pace;
mod place;
mod read;
mod reason;
mod route;
mod send;
mod upload;
mod workspace;

pub use answer::{Branch, Commit, Created, DirPage, Entry, MEASURED_VERSION, ServerInfo, Workspace};
pub use client::{ApiKey, Client, ClientOptions};
pub use commit::{CommitInfo, FileBody, PUT_FORM_MAX, put_form_len};
pub use error::{Error, Kind, Op, Reason};
pub use fit::{fits_multipart_path, fits_put_name};
pub use limit::RateLimit;
pub use name::{BranchName, NameError, RepoName};
pub use place::Author;
pub use read::Download;
pub use upload::{PartBody, Upload, UploadStart};

/// From so many files on in one directory, each new one takes 6 ms and more (oxen-server 0.65.2), in place of 1 ms: it is
/// looked up among all of them.
pub const CROWDED_DIR_FILES: u64 = 5_000;
