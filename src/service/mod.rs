//! Wires the parts together: folders to their targets, the config file to what runs, the process to systemd.

mod asks;
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
pub use control::{Offline, OfflineError};
pub use oneshot::{FolderOutcome, OneShot, push_once};
pub use run::{RunError, run};
