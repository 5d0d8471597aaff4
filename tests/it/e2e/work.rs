//! People and programs at work in a folder: random changes from a seed.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use tokio::time::{Instant, sleep_until};
use xxhash_rust::xxh3::xxh3_128;

use crate::support::ledger::Ledger;
use crate::support::rig::Rig;

/// The variable that replays a run.
const SEED: &str = "OXEN_SYNC_TEST_SEED";
/// Files written in pieces at any moment.
const SLOW_MAX: usize = 3;
/// Changes that a failure shows.
const SHOWN: usize = 200;

/// Changes a folder at random, and notes in the ledger what becomes a finished file.
///
/// Its model of the folder makes a run depend on the seed alone.
pub(crate) struct Work {
    rng: Rng,
    folder: PathBuf,
    /// Where the folder stands on the branch.
    prefix: String,
    ledger: Arc<Ledger>,
    /// What stands where, by the hash of its finished content.
    files: BTreeMap<String, u128>,
    slow: Vec<Slow>,
    /// Whether files become directories and directories files.
    changes_kinds: bool,
    /// What was done, for a failure.
    done: Vec<String>,
}

/// A file that is written piece by piece and stays open.
struct Slow {
    path: String,
    file: File,
    content: Vec<u8>,
    written: usize,
    piece: usize,
}

impl Work {
    /// Work in a rig's folder, from the seed that the environment gives, or any.
    pub(crate) fn in_folder_of(rig: &Rig) -> Self {
        let seed = std::env::var(SEED).ok().and_then(|seed| seed.parse().ok());
        let seed = seed.unwrap_or_else(|| fastrand::u64(..));
        eprintln!("replay with {SEED}={seed}");
        Self {
            rng: Rng::with_seed(seed),
            folder: rig.folder.clone(),
            prefix: if rig.remote_dir.is_empty() { String::new() } else { format!("{}/", rig.remote_dir) },
            ledger: Arc::clone(&rig.ledger),
            files: BTreeMap::new(),
            slow: Vec::new(),
            changes_kinds: true,
            done: Vec::new(),
        }
    }

    /// No file takes a directory's name, and no directory a file's: an archive cannot hold both.
    pub(crate) fn without_changes_of_kind(mut self) -> Self {
        self.changes_kinds = false;
        self
    }

    /// The source of randomness, for what goes with the changes.
    pub(crate) fn rng(&mut self) -> &mut Rng {
        &mut self.rng
    }

    /// Makes `count` changes, evenly over `time`.
    pub(crate) async fn run(&mut self, count: u32, time: Duration) {
        let (start, pause) = (Instant::now(), time / count);
        for number in 1..=count {
            self.change();
            sleep_until(start + pause * number).await;
        }
    }

    /// Ends what is half written.
    pub(crate) fn finish(&mut self) {
        while !self.slow.is_empty() {
            self.write_on(0, usize::MAX);
        }
    }

    /// Makes one change.
    pub(crate) fn change(&mut self) {
        // Writers write on whatever else happens.
        for index in (0..self.slow.len()).rev() {
            if self.rng.u8(..4) > 0 {
                self.write_on(index, 1);
            }
        }
        match self.rng.u8(..100) {
            0..22 => self.create(),
            22..36 => self.rewrite(),
            36..44 => self.append(),
            44..58 => self.save_atomically(),
            58..66 => self.rename_file(),
            66..71 => self.rename_dir(),
            71..79 => self.delete_file(),
            79..81 => self.delete_dir(),
            81..89 => self.begin_slow(),
            89..92 => self.copy(),
            92..94 => self.touch(),
            94..97 if self.changes_kinds => self.file_becomes_dir(),
            97.. if self.changes_kinds => self.dir_becomes_file(),
            _ => self.create(),
        }
    }

    fn tell(&mut self, what: &str, paths: &[&str]) {
        let now = jiff::Timestamp::now();
        self.done.push(format!("{now:.3} {what} {paths:?}"));
    }

    fn at(&self, path: &str) -> PathBuf {
        self.folder.join(path)
    }

    fn content(&mut self) -> Vec<u8> {
        let len = match self.rng.u8(..40) {
            0 => 0,
            // Beyond what goes into a form, and beyond what a PUT carries.
            1 => self.rng.usize(1 << 20..3 << 20),
            _ => self.rng.usize(1..6_000),
        };
        let mut content = vec![0; len];
        self.rng.fill(&mut content);
        content
    }

    fn any_file(&mut self) -> Option<String> {
        let free: Vec<&String> =
            self.files.keys().filter(|path| self.slow.iter().all(|slow| slow.path != **path)).collect();
        self.rng.choice(free).cloned()
    }

    /// Directories that hold files, at any depth.
    fn dirs(&self) -> Vec<String> {
        let paths = self.files.keys().chain(self.slow.iter().map(|slow| &slow.path));
        let mut dirs: Vec<String> = paths
            .flat_map(|path| path.match_indices('/').map(|(at, _)| path[..at].to_owned()).collect::<Vec<_>>())
            .collect();
        dirs.sort();
        dirs.dedup();
        dirs
    }

    fn any_dir(&mut self) -> Option<String> {
        let dirs = self.dirs();
        self.rng.choice(dirs)
    }

    /// A path where nothing stands, in a directory that is there or is made.
    fn new_path(&mut self) -> String {
        // More names, where those at hand are all taken.
        for names in 60.. {
            let dir = match self.rng.u8(..4) {
                0 => String::new(),
                1 => format!("dir {}/", self.rng.u8(..6)),
                2 => format!("dir {}/{}ünter/", self.rng.u8(..6), self.rng.u8(..3)),
                _ => self.any_dir().map_or_else(String::new, |dir| dir + "/"),
            };
            let path = format!("{dir}file {}.dat", self.rng.u32(..names));
            let is_below_file = self.files.keys().any(|file| path.starts_with(&format!("{file}/")));
            let is_below_slow = self.slow.iter().any(|slow| path.starts_with(&format!("{}/", slow.path)));
            if !is_below_file && !is_below_slow && !self.at(&path).exists() {
                fs::create_dir_all(self.at(&dir)).unwrap();
                return path;
            }
        }
        unreachable!("there is no end of names")
    }

    fn note(&mut self, path: &str, content: &[u8]) {
        self.note_hash(path.to_owned(), xxh3_128(content));
    }

    fn note_hash(&mut self, path: String, xxh3: u128) {
        self.ledger.finished_as(&format!("{}{path}", self.prefix), xxh3);
        self.files.insert(path, xxh3);
    }

    fn create(&mut self) {
        let (path, content) = (self.new_path(), self.content());
        self.note(&path, &content);
        self.tell("create", &[&path]);
        fs::write(self.at(&path), content).unwrap();
    }

    fn rewrite(&mut self) {
        let Some(path) = self.any_file() else { return self.create() };
        let content = self.content();
        self.note(&path, &content);
        self.tell("rewrite", &[&path]);
        fs::write(self.at(&path), content).unwrap();
    }

    fn append(&mut self) {
        let Some(path) = self.any_file() else { return self.create() };
        let mut content = fs::read(self.at(&path)).unwrap();
        let more = self.content();
        content.extend_from_slice(&more);
        self.note(&path, &content);
        self.tell("append", &[&path]);
        File::options().append(true).open(self.at(&path)).unwrap().write_all(&more).unwrap();
    }

    /// As an editor saves: a file beside it, and a rename over it.
    fn save_atomically(&mut self) {
        let Some(path) = self.any_file() else { return self.create() };
        let content = self.content();
        let beside = if self.rng.bool() {
            format!("{path}.tmp")
        } else {
            let beside = format!("{path}.new");
            self.ledger.finished(&format!("{}{beside}", self.prefix), &content);
            beside
        };
        self.note(&path, &content);
        self.tell("save atomically", &[&path, &beside]);
        let mut file = File::create(self.at(&beside)).unwrap();
        file.write_all(&content).unwrap();
        if self.rng.bool() {
            file.sync_all().unwrap();
        }
        drop(file);
        fs::rename(self.at(&beside), self.at(&path)).unwrap();
    }

    fn rename_file(&mut self) {
        let Some(from) = self.any_file() else { return self.create() };
        let onto = if self.rng.u8(..4) == 0 { self.any_file() } else { None };
        let to = onto.unwrap_or_else(|| self.new_path());
        let Some(xxh3) = self.files.remove(&from) else { return };
        self.note_hash(to.clone(), xxh3);
        self.tell("rename", &[&from, &to]);
        fs::rename(self.at(&from), self.at(&to)).unwrap();
    }

    fn rename_dir(&mut self) {
        let Some(from) = self.any_dir() else { return self.create() };
        let to = format!("moved {}", self.rng.u16(..));
        if self.at(&to).exists() {
            return;
        }
        let below = format!("{from}/");
        let moved: Vec<(String, u128)> = self
            .files
            .iter()
            .filter(|(path, _)| path.starts_with(&below))
            .map(|(path, xxh3)| (path.clone(), *xxh3))
            .collect();
        for (path, xxh3) in moved {
            self.files.remove(&path);
            self.note_hash(format!("{to}/{}", &path[below.len()..]), xxh3);
        }
        // What is being written goes along.
        for slow in &mut self.slow {
            if let Some(rest) = slow.path.strip_prefix(&below) {
                slow.path = format!("{to}/{rest}");
            }
        }
        self.tell("rename directory", &[&from, &to]);
        fs::rename(self.at(&from), self.at(&to)).unwrap();
    }

    fn delete_file(&mut self) {
        let Some(path) = self.any_file() else { return };
        self.files.remove(&path);
        self.tell("delete", &[&path]);
        fs::remove_file(self.at(&path)).unwrap();
    }

    fn delete_dir(&mut self) {
        let Some(dir) = self.any_dir() else { return };
        self.tell("delete directory", &[&dir]);
        fs::remove_dir_all(self.at(&dir)).unwrap();
        self.forget_below(&dir);
    }

    /// Only once it is gone: a half-written file that is closed looks finished.
    fn forget_below(&mut self, dir: &str) {
        let below = format!("{dir}/");
        self.files.retain(|path, _| !path.starts_with(&below));
        self.slow.retain(|slow| !slow.path.starts_with(&below));
    }

    /// A file that is open for a while, in a new place or over one that is there.
    fn begin_slow(&mut self) {
        if self.slow.len() >= SLOW_MAX {
            return self.rewrite();
        }
        let over = if self.rng.u8(..3) == 0 { self.any_file() } else { None };
        let path = over.unwrap_or_else(|| self.new_path());
        let mut content = vec![0; self.rng.usize(1_000..200_000)];
        self.rng.fill(&mut content);
        let piece = content.len() / self.rng.usize(5..25) + 1;
        self.tell("begin", &[&path]);
        let file = File::create(self.at(&path)).unwrap();
        // What stood there is no more, and what comes is not yet.
        self.files.remove(&path);
        self.slow.push(Slow { path, file, content, written: 0, piece });
    }

    fn write_on(&mut self, index: usize, pieces: usize) {
        let Some(slow) = self.slow.get_mut(index) else { return };
        let end = slow.written.saturating_add(slow.piece.saturating_mul(pieces)).min(slow.content.len());
        if end == slow.content.len() {
            let mut slow = self.slow.swap_remove(index);
            let path = slow.path.clone();
            self.tell("end", &[&path]);
            self.note(&path, &slow.content);
            slow.file.write_all(&slow.content[slow.written..]).unwrap();
        } else {
            slow.file.write_all(&slow.content[slow.written..end]).unwrap();
            slow.written = end;
        }
    }

    /// The same content at another path: no byte needs to be sent.
    fn copy(&mut self) {
        let Some(from) = self.any_file() else { return self.create() };
        let to = self.new_path();
        let content = fs::read(self.at(&from)).unwrap();
        self.note(&to, &content);
        self.tell("copy", &[&from, &to]);
        fs::write(self.at(&to), content).unwrap();
    }

    /// Written again with the same content.
    fn touch(&mut self) {
        let Some(path) = self.any_file() else { return self.create() };
        let content = fs::read(self.at(&path)).unwrap();
        self.tell("touch", &[&path]);
        fs::write(self.at(&path), content).unwrap();
    }

    fn file_becomes_dir(&mut self) {
        let Some(dir) = self.any_file() else { return self.create() };
        let content = self.content();
        self.files.remove(&dir);
        self.tell("file becomes directory", &[&dir]);
        fs::remove_file(self.at(&dir)).unwrap();
        fs::create_dir(self.at(&dir)).unwrap();
        let path = format!("{dir}/inside.dat");
        self.note(&path, &content);
        fs::write(self.at(&path), content).unwrap();
    }

    fn dir_becomes_file(&mut self) {
        let Some(path) = self.any_dir() else { return self.create() };
        let content = self.content();
        self.tell("directory becomes file", &[&path]);
        fs::remove_dir_all(self.at(&path)).unwrap();
        self.forget_below(&path);
        self.note(&path, &content);
        fs::write(self.at(&path), content).unwrap();
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let shown = self.done.get(self.done.len().saturating_sub(SHOWN)..).unwrap_or_default();
            eprintln!("--- the last changes\n{}", shown.join("\n"));
        }
    }
}
