//! The first look at a folder, up to batches that are ready to go: no server has a part in it.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use oxen_sync::config::{BatchLimits, DEFAULT_EXCLUDES};
use oxen_sync::folder::SettleLimits;
use oxen_sync::folder::intake::{self, IntakeOptions, IntakeStatus, Outlook, Steering};
use oxen_sync::path::{Layout, RepoPath};
use oxen_sync::plan::{Marker, Planner};
use oxen_sync::state::{Places, State};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::push::QUIET;
use crate::contest::{Bench, Result, median, time};
use crate::trees;

/// By this word the program is told to be the process that is measured.
pub(crate) const CHILD: &str = "--first";

pub(super) fn first(bench: &mut Bench) -> Result<()> {
    for files in [10_000, 100_000, 1_000_000] {
        let folder = bench.place("first");
        trees::fill(&folder, files, 16)?;
        bench.pause(QUIET);
        let (mut walls_s, mut memory_kib) = (Vec::new(), 0);
        for _ in 0..bench.runs.min(3) {
            let state = bench.place("state");
            let sample = time(Command::new(std::env::current_exe()?).arg(CHILD).arg(&folder).arg(state))?;
            walls_s.push(sample.wall.as_secs_f64());
            memory_kib = memory_kib.max(sample.memory_kib);
        }
        std::fs::remove_dir_all(&folder)?;
        let wall_s = median(walls_s);
        println!(
            "   {files:>9} files: {wall_s:.2} s, {:.0} us each, {:.1} MiB",
            wall_s / files as f64 * 1e6,
            memory_kib as f64 / 1024.0,
        );
    }
    Ok(())
}

/// Looks at everything in `folder`, with a state of its own, and takes the batches out.
pub(crate) async fn look(folder: &Path, state_dir: &Path) -> Result<()> {
    let (state, _) = State::open(state_dir, "")?;
    let key = state.folder("first")?;
    let places = Places::load(&state, key, &RepoPath::root(), &Layout::in_dir("")?)?;
    let options = IntakeOptions {
        path: folder.to_path_buf(),
        folder: key,
        places: Arc::new(places),
        exclude: DEFAULT_EXCLUDES.iter().map(|pattern| (*pattern).to_owned()).collect(),
        include: Vec::new(),
        settle: SettleLimits { quiet: Duration::from_secs(2), max_wait: Duration::from_secs(300) },
        max_file_size: None,
        mirror: false,
        marker: None,
        rescan_interval: Duration::from_secs(3600),
        lasting: false,
        calls: Arc::default(),
        push_calls: Arc::default(),
    };
    let limits = BatchLimits {
        quiet: Duration::from_secs(1),
        max_wait: Duration::from_secs(30),
        max_files: 10_000,
        max_bytes: 4 << 30,
    };
    let (out, mut changes) = mpsc::channel(64);
    let told = (watch::Sender::new(IntakeStatus::default()), watch::Sender::new(Outlook::default()));
    let looking = tokio::spawn(intake::run(
        options,
        state,
        Arc::default(),
        out,
        told,
        Steering::none(),
        CancellationToken::new(),
    ));
    let mut planner = Planner::new(limits, Marker::default());
    while let Some(finished) = changes.recv().await {
        planner.add_seen(finished.change, finished.run, finished.seen, Instant::now());
        if planner.is_full() {
            planner.take(Instant::now());
        }
    }
    looking.await?;
    Ok(())
}
