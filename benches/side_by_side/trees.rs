//! Folders to measure with, and states that know them.

use std::path::{Path, PathBuf};
use std::{fs, io};

use fastrand::Rng;
use oxen_sync::config::Env;
use oxen_sync::content::{Digests, RootDir};
use oxen_sync::path::LocalPath;
use oxen_sync::state::{BatchRow, BatchTransport, Change, ChangeKind, Phase, PlaceKey, State};

use crate::contest::Result;

/// Files of one size, a hundred in each directory, with bytes that nothing compresses.
pub(crate) fn fill(dir: &Path, files: usize, len: usize) -> Result<()> {
    let mut rng = Rng::with_seed(files as u64);
    for n in 0..files {
        put(dir, n, len, &mut rng)?;
    }
    Ok(())
}

/// One of them; they come in order.
pub(crate) fn put(dir: &Path, n: usize, len: usize, rng: &mut Rng) -> io::Result<()> {
    let file = dir.join(name(n));
    if n.is_multiple_of(100)
        && let Some(parent) = file.parent()
    {
        fs::create_dir_all(parent)?;
    }
    let mut content = vec![0; len];
    rng.fill(&mut content);
    fs::write(file, content)
}

/// The path of a file.
fn name(n: usize) -> PathBuf {
    let dir = n / 100;
    PathBuf::from(format!("run {:03}/{dir:05}/image {:02}.tif", dir / 100, n % 100))
}

/// One large file.
pub(crate) fn large(file: &Path, len: u64, seed: u64) -> Result<()> {
    use std::io::Write;
    let mut out = std::io::BufWriter::new(fs::File::create(file)?);
    let mut rng = Rng::with_seed(seed);
    let mut chunk = vec![0; 1 << 20];
    for _ in 0..len >> 20 {
        rng.fill(&mut chunk);
        out.write_all(&chunk)?;
    }
    out.into_inner()?.sync_all()?;
    Ok(())
}

/// Makes the state of the only folder of a config say of all its files that the branch holds them at `head`.
pub(crate) fn know(config: &Path, files: usize, head: &str) -> Result<()> {
    const BATCH: usize = 10_000;
    let config = oxen_sync::config::load(config, &Env::default()).map_err(|error| error.to_string())?;
    let folder = config.folders.first().ok_or("no folder stands in the config")?;
    let root = RootDir::open(&folder.path)?;
    let (state, _) = State::open(&config.state_dir, "")?;
    let key = state.folder(&folder.id().key())?;
    state.begin_listing(key)?;
    state.end_listing(key, head)?;
    for from in (0..files).step_by(BATCH) {
        let mut changes = Vec::new();
        for n in from..files.min(from + BATCH) {
            let path = LocalPath::new(&name(n)).ok_or("a name is none")?;
            let signature = root.open_file(&path)?.signature;
            let digests = Digests { sha256: Some([0; 32]), xxh3: n as u128 };
            changes.push(Change {
                path,
                place: PlaceKey::default(),
                kind: ChangeKind::Put { signature, digests, racy: false },
            });
        }
        let id = state.next_batch_id()?;
        let batch = BatchRow {
            id,
            phase: Phase::Committing,
            transport: BatchTransport::Workspace,
            workspace: String::new(),
            message: String::new(),
        };
        state.open_batch(key, &batch, &changes, 0)?;
        state.close_batch(key, id, Some(head), &changes, 0)?;
    }
    state.set_head(key, head)?;
    state.set_root_id(key, root.id())?;
    Ok(())
}

/// New content for one in `every` files of [`fill`].
pub(crate) fn changed(files: usize, every: usize, len: usize, round: u64) -> Vec<(String, Vec<u8>)> {
    let mut rng = Rng::with_seed(round);
    let content = |n| {
        let mut content = vec![0; len];
        rng.fill(&mut content);
        (name(n).to_string_lossy().into_owned(), content)
    };
    (0..files).step_by(every).map(content).collect()
}

/// Writes them.
pub(crate) fn change(dir: &Path, files: usize, every: usize, round: u64) -> Result<()> {
    for (name, content) in changed(files, every, 4096, round) {
        fs::write(dir.join(name), content)?;
    }
    Ok(())
}
