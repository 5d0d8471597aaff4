//! Wires the parts together: folders to their targets, the config file to what runs, the process to systemd.

mod clients;
mod config_file;
mod control;
mod folder;
mod folders;
mod oneshot;
mod page;
mod run;
mod systemd;

pub use clients::{Clients, ClientsError};
pub use control::{ReleaseError, release};
pub use oneshot::{FolderOutcome, OneShot, push_once};
pub use run::{RunError, run};
