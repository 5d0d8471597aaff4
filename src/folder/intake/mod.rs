//! The shell around a folder's stages: owns its watches, its scan, its clock, and hands finished changes on.

mod asked;
mod blocked;
mod look;
mod outlook;
mod problems;
mod scans;
mod session;
mod silence;
mod status;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tracing::warn;

pub use self::asked::{Ask, PathStage, Steering};
pub use self::outlook::{Outlook, Sight};
use self::session::Session;
pub use self::session::{ROOT_CHECK, UNCOVERED_RESCAN};
pub use self::status::{Finished, IntakePhase, IntakeStatus};
use super::writers::Writers;
use super::{Inbox, SettleLimits};
use crate::content::Calls;
use crate::path::printable;
use crate::state::{FolderKey, Places, State};

/// What an intake is to do.
#[derive(Debug, Clone)]
pub struct IntakeOptions {
    /// The folder, absolute.
    pub path: PathBuf,
    /// Its number in the state.
    pub folder: FolderKey,
    /// Where its files stand on the branch.
    pub places: Arc<Places>,
    /// Patterns of what is left out, in order.
    pub exclude: Vec<String>,
    /// Patterns of what alone counts; none for everything.
    pub include: Vec<String>,
    /// How long a file must hold still.
    pub settle: SettleLimits,
    /// Larger files are refused, in bytes.
    pub max_file_size: Option<u64>,
    /// Whether a file that is gone here is to go from the branch.
    pub mirror: bool,
    /// The name of the file that finishes a run; without one, each file is finished by itself.
    pub marker: Option<String>,
    /// How often everything is looked at without an event.
    pub rescan_interval: Duration,
    /// Whether to go on watching, or to end after one look at everything.
    pub lasting: bool,
    /// Counts the calls into the folder that are made here.
    pub calls: Arc<Calls>,
    /// Counts those of whoever pushes from it.
    pub push_calls: Arc<Calls>,
}

/// How often a folder that cannot be used is tried again.
const BROKEN_RETRY: Duration = Duration::from_secs(2);

/// Runs the intake of one folder until `cancel`, or, when it is not lasting, until everything was looked at once.
/// Finished changes go to `out`; when that is full, nothing more is read, and nothing is lost. Hints in `inbox` come
/// from the kernel and from whoever else has reason to doubt a path. `outlook` tells of removals and of what may still come;
/// `steering` is how others ask and pause it.
///
/// A folder that does not answer is waited for, with no more calls than are under way already; one that is not lasting is
/// given up. `cancel` waits for no call.
pub async fn run(
    options: IntakeOptions,
    state: State,
    inbox: Arc<Inbox>,
    out: mpsc::Sender<Finished>,
    (status, outlook): (watch::Sender<IntakeStatus>, watch::Sender<Outlook>),
    steering: Steering,
    cancel: CancellationToken,
) {
    let mut out = Out { changes: out, handed: 0, steering };
    tokio::select! {
        biased;
        () = cancel.cancelled() => {}
        () = take_in(&options, &state, &inbox, &mut out, (&status, &outlook), &cancel) => {}
        () = silence::tell(&options, &inbox, &status) => {
            outlook.send_modify(|outlook| outlook.sight = Sight::Blind);
        }
    }
}

/// The way out of an intake, and how it is steered; it outlives every opening of the folder.
struct Out {
    changes: mpsc::Sender<Finished>,
    /// Changes handed on.
    handed: u64,
    steering: Steering,
}

async fn take_in(
    options: &IntakeOptions,
    state: &State,
    inbox: &Arc<Inbox>,
    out: &mut Out,
    (status, outlook): (&watch::Sender<IntakeStatus>, &watch::Sender<Outlook>),
    cancel: &CancellationToken,
) {
    let writers = Arc::new(Writers::default());
    let mut told = None;
    loop {
        let opened = Session::open(options, state, inbox, &writers, out, (status, outlook), cancel).await;
        let ended = match opened {
            Ok(mut session) => session.run(&mut told).await,
            Err(broken) => Err(broken),
        };
        let Err(broken) = ended else { return };
        outlook.send_modify(|outlook| outlook.sight = Sight::Blind);
        let reason = broken.to_string();
        status.send_modify(|status| {
            let phase = IntakePhase::Broken(reason.clone());
            let (covered, silence, scans) = (status.covered, status.silence, status.scans);
            *status = IntakeStatus { phase, covered, silence, scans, ..IntakeStatus::default() };
        });
        // One line for each change of state, not for each try.
        if told.as_ref() != Some(&reason) {
            warn!(folder = %printable(&options.path), "folder cannot be used: {reason}");
            told = Some(reason);
        }
        if !options.lasting {
            return;
        }
        tokio::select! {
            () = cancel.cancelled() => return,
            () = tokio::time::sleep(BROKEN_RETRY) => {}
        }
    }
}
