use std::path::{Path, PathBuf};
use std::time::Duration;

use notify::event::EventKindMask;
use notify::{Config, Event, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::{mpsc, watch};

use crate::status::CONFIG_POLL;

/// An editor takes several steps to replace a file.
const SETTLE: Duration = Duration::from_millis(200);
/// A file that cannot be read for longer is not being replaced.
const AWAY: Duration = Duration::from_secs(2);
/// Where the kernel tells of no changes.
const POLL_UNWATCHED: Duration = Duration::from_secs(1);

/// The content of the config file as it was when it was last taken, whoever had it taken; `None` where there was none.
pub(super) type Taken = Option<Vec<u8>>;

/// Tells whenever the config file's content is another than was `taken`, also when the file is replaced, and also where it
/// is a link. Whoever is told takes it, and says so. Ends with its receiver.
pub(super) fn watch_config(file: &Path, taken: watch::Receiver<Taken>) -> mpsc::Receiver<()> {
    let (sender, receiver) = mpsc::channel(1);
    let (touch, touched) = watch::channel(());
    let watcher = watch_dirs(file, touch)
        .inspect_err(|error| {
            tracing::warn!("the config is looked at every second, since it cannot be watched: {error}");
        })
        .ok();
    tokio::spawn(tell_changes(file.to_path_buf(), taken, watcher, touched, sender));
    receiver
}

async fn tell_changes(
    file: PathBuf,
    mut taken: watch::Receiver<Taken>,
    watcher: Option<RecommendedWatcher>,
    mut touched: watch::Receiver<()>,
    sender: mpsc::Sender<()>,
) {
    let poll = if watcher.is_some() { CONFIG_POLL } else { POLL_UNWATCHED };
    loop {
        tokio::select! {
            () = sender.closed() => return,
            () = async {
                match touched.changed().await {
                    Ok(()) => tokio::time::sleep(SETTLE).await,
                    // Nothing is watched: the timer alone counts.
                    Err(_) => std::future::pending().await,
                }
            } => {}
            () = tokio::time::sleep(poll) => {}
        }
        let mut by_now = read(&file).await;
        if by_now.is_none() {
            // A file that is away for a moment is being replaced; one that stays away is told.
            tokio::time::sleep(AWAY).await;
            by_now = read(&file).await;
        }
        if *taken.borrow_and_update() == by_now {
            continue;
        }
        if sender.send(()).await.is_err() {
            return;
        }
        // Nothing is told twice.
        tokio::select! {
            () = sender.closed() => return,
            taken = taken.changed() => if taken.is_err() { return },
        }
    }
}

async fn read(file: &Path) -> Option<Vec<u8>> {
    let file = file.to_path_buf();
    tokio::task::spawn_blocking(move || crate::config::read(&file).ok()).await.unwrap_or_default()
}

/// Watches the directory of `file`, and that of the file it links to. Reading is no event, or our own would be one.
fn watch_dirs(file: &Path, touch: watch::Sender<()>) -> notify::Result<RecommendedWatcher> {
    let kinds = EventKindMask::CREATE
        | EventKindMask::REMOVE
        | EventKindMask::MODIFY_DATA
        | EventKindMask::MODIFY_NAME
        | EventKindMask::ACCESS_CLOSE;
    let handler = move |_: notify::Result<Event>| {
        // Nobody to tell means that the service stops.
        let _ = touch.send(());
    };
    let mut watcher = RecommendedWatcher::new(handler, Config::default().with_event_kinds(kinds))?;
    let target = std::fs::canonicalize(file).unwrap_or_else(|_| file.to_path_buf());
    for dir in [file.parent(), target.parent()].into_iter().flatten() {
        watcher.watch(dir, RecursiveMode::NonRecursive)?;
    }
    Ok(watcher)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    /// Takes what is there by now once that is told, as the service does.
    async fn told(changes: &mut mpsc::Receiver<()>, file: &Path, taken: &watch::Sender<Taken>) {
        let told = tokio::time::timeout(Duration::from_secs(10), changes.recv()).await;
        assert_eq!(told.expect("the change is told"), Some(()));
        taken.send_replace(fs::read(file).ok());
    }

    #[tokio::test]
    async fn a_change_is_told_however_the_editor_writes() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("c.toml");
        fs::write(&file, "1").unwrap();
        let (taken, in_use) = watch::channel(Some(b"1".to_vec()));
        let mut changes = watch_config(&file, in_use);
        fs::write(&file, "2").unwrap();
        told(&mut changes, &file, &taken).await;
        fs::write(dir.path().join("new"), "3").unwrap();
        fs::rename(dir.path().join("new"), &file).unwrap();
        told(&mut changes, &file, &taken).await;
    }

    #[tokio::test]
    async fn what_is_not_what_is_in_use_is_told_at_once_and_so_is_a_file_that_goes() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("c.toml");
        fs::write(&file, "2").unwrap();
        let (taken, in_use) = watch::channel(Some(b"1".to_vec()));
        let mut changes = watch_config(&file, in_use);
        fs::write(dir.path().join("other"), "touched").unwrap();
        told(&mut changes, &file, &taken).await;
        fs::remove_file(&file).unwrap();
        told(&mut changes, &file, &taken).await;
    }

    #[tokio::test]
    async fn a_change_back_to_what_it_was_is_told_where_another_was_taken_meanwhile() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("c.toml");
        fs::write(&file, "1").unwrap();
        let (taken, in_use) = watch::channel(Some(b"1".to_vec()));
        let mut changes = watch_config(&file, in_use);
        // Taken by hand, and changed back before anybody looked.
        taken.send_replace(Some(b"2".to_vec()));
        fs::write(&file, "1").unwrap();
        told(&mut changes, &file, &taken).await;
    }

    #[tokio::test]
    async fn a_change_behind_a_link_is_told() {
        let (dir, real) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::write(real.path().join("c.toml"), "1").unwrap();
        let file = dir.path().join("c.toml");
        std::os::unix::fs::symlink(real.path().join("c.toml"), &file).unwrap();
        let (taken, in_use) = watch::channel(Some(b"1".to_vec()));
        let mut changes = watch_config(&file, in_use);
        fs::write(real.path().join("c.toml"), "2").unwrap();
        told(&mut changes, &file, &taken).await;
    }
}
