//! Oxen's HTTP API as the server really speaks it (oxen-server 0.65.2). Knows HTTP and nothing of folders,
//! batches or state.

mod name;

pub use name::{BranchName, NameError, RepoName};
