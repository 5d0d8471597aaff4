//! The only border between paths of the operating system and paths of the repository.
//!
//! A [`LocalPath`] is what the kernel calls a file, relative to its folder: any bytes. A [`RepoPath`] is what
//! the branch calls it: UTF-8, `/` between the segments, nothing that the server would store under another
//! name. [`RepoPath::for_file`] takes a file over the border or says why it cannot cross; nothing is ever
//! renamed on the way. A [`Layout`] says in which directories it stands there, and a [`Place`] finds it again.

mod layout;
mod local;
mod printable;
mod repo;

pub use layout::{Layout, LayoutError, Place};
pub use local::{LocalPath, at_or_below};
pub use printable::{is_printable, path_of_text, printable, shell_word, text_of_path};
pub use repo::{Refusal, RepoPath, is_reserved_name};
