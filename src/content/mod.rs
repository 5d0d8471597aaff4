//! What is inside a file, read once and honestly.
//!
//! Files are opened below their folder without following a symlink on any segment ([`RootDir`]), and everything
//! that is said of a file comes from that one descriptor: its [`Signature`] before and after reading, its
//! [`Digests`] from the bytes that were read. Bytes that moved while they were read are never taken.

mod apart;
mod calls;
mod digest;
mod dir_entries;
mod file_clock;
mod mounts;
mod open_file;
mod root;
mod signature;

pub use apart::{Apart, PutBack, apart_name, is_apart, is_taken, own_name};
pub use calls::{Call, Calls, SILENCE, Silence};
pub use digest::{
    Digester, Digests, Hashed, ReadError, Wanted, hash_file, hash_first, hash_snapshot, read_small,
};
pub use dir_entries::{DirEntries, DirEntry};
pub use file_clock::FileClock;
pub use mounts::Mounts;
pub use open_file::OpenFile;
pub use root::{EntryKind, OpenError, RootDir, RootId, is_absent, is_file};
pub use signature::Signature;
