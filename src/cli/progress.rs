use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use tokio::sync::watch;

use crate::config::Folder;
use crate::folder::intake::{IntakePhase, IntakeStatus};
use crate::push::{PushPhase, PushStatus};

const REDRAW: Duration = Duration::from_millis(200);

/// Draws a bar for each folder until it is dropped; nothing where nobody looks.
pub(super) struct Progress {
    tasks: Vec<tokio::task::JoinHandle<()>>,
    bars: MultiProgress,
}

impl Progress {
    pub(super) fn new(
        bars: MultiProgress,
        folders: Vec<(Folder, watch::Receiver<IntakeStatus>, watch::Receiver<PushStatus>)>,
    ) -> Self {
        if !std::io::stderr().is_terminal() {
            return Self { tasks: Vec::new(), bars };
        }
        let style = "{prefix:.bold}  {bar:24} {bytes}/{total_bytes}  {bytes_per_sec}  {eta} left  {msg}";
        let style = ProgressStyle::with_template(style).unwrap_or_else(|_| ProgressStyle::default_bar());
        let draw =
            |(folder, intake, push): (Folder, watch::Receiver<IntakeStatus>, watch::Receiver<PushStatus>)| {
                let bar = bars.add(ProgressBar::new(0).with_style(style.clone()));
                bar.set_prefix(crate::path::printable(&folder.path));
                tokio::spawn(follow(bar, intake, push))
            };
        let tasks = folders.into_iter().map(draw).collect();
        Self { tasks, bars }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.tasks.iter().for_each(tokio::task::JoinHandle::abort);
        // What cannot be drawn away stays on the terminal.
        let _ = self.bars.clear();
    }
}

async fn follow(bar: ProgressBar, intake: watch::Receiver<IntakeStatus>, push: watch::Receiver<PushStatus>) {
    let mut redraw = tokio::time::interval(REDRAW);
    loop {
        redraw.tick().await;
        let (intake, push) = (intake.borrow().clone(), push.borrow().clone());
        let under_way = matches!(push.phase, PushPhase::Staging | PushPhase::Committing | PushPhase::Proving);
        let batch = if under_way { push.batch } else { Default::default() };
        bar.set_length(push.bytes_pushed + push.pending_bytes + batch.bytes);
        bar.set_position(push.bytes_pushed + batch.bytes_sent);
        let trouble = intake.trouble();
        let step = match (&intake.phase, &push.phase) {
            _ if trouble.is_some() => trouble.as_deref().unwrap_or_default(),
            (_, PushPhase::Waiting { reason, .. } | PushPhase::Stopped { reason, .. }) => reason.as_str(),
            (_, PushPhase::Staging) => "sending",
            (_, PushPhase::Committing) => "committing",
            (_, PushPhase::Proving) => "proving",
            (IntakePhase::Scanning, _) => "looking through the folder",
            _ => "waiting for files to be quiet",
        };
        let left = intake.settling as u64 + intake.ready as u64 + push.pending + batch.files;
        bar.set_message(format!("{} files pushed, {left} to go: {step}", push.files_pushed));
    }
}
