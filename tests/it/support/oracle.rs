//! Whether a branch holds what its folder holds, and never held anything else.
//!
//! Reads over HTTP with requests of its own making, so that it does not share the program's mistakes.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{BoxFuture, FutureExt};
use futures_util::stream::{self, StreamExt};
use oxen_sync::oxen::{BranchName, Commit, RepoName};
use oxen_sync::path::{Place, RepoPath};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::StatusCode;
use serde_json::Value;
use tokio::time::{Instant, sleep};
use xxhash_rust::xxh3::Xxh3;

use super::ledger::Ledger;
use super::site::Site;
use super::tree::{Content, Dir, Sum, Tree, join};

/// Requests of one comparison under way at once.
const AT_ONCE: usize = 8;

/// How long a server may stumble.
const ASK_MAX: Duration = Duration::from_secs(5);
const ASK_EVERY: Duration = Duration::from_millis(20);

/// What a branch and its history are compared with.
pub(crate) struct Oracle<'a> {
    pub(crate) site: &'a Site,
    pub(crate) repo: &'a RepoName,
    pub(crate) branch: &'a BranchName,
}

/// Which commit of a branch it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Age {
    Head,
    Old,
}

struct Node {
    name: String,
    kind: Kind,
}

enum Kind {
    File(Content),
    Dir { hash: String, commit: String, size: u64 },
}

impl Oracle<'_> {
    /// The head commit's id; `None` where there is no such branch or repository.
    pub(crate) async fn head(&self) -> Option<String> {
        let deadline = Instant::now() + ASK_MAX;
        loop {
            match self.site.client.branch(self.repo, self.branch).await {
                Ok(branch) => return branch.map(|branch| branch.commit_id),
                Err(error) if error.code() == Some(404) => return None,
                // oxen-server 0.65.2 stumbles over a repository that is just being made.
                Err(error) if error.code() == Some(500) && Instant::now() < deadline => {
                    sleep(ASK_EVERY).await;
                }
                Err(error) => panic!("the branch cannot be looked up: {error}"),
            }
        }
    }

    /// What a commit holds.
    pub(crate) async fn tree(&self, commit: &str) -> Tree {
        let mut found = Vec::new();
        self.root(commit, Age::Head, None).await.files_not_in(None, "", &mut found);
        found.into_iter().collect()
    }

    async fn root(&self, commit: &str, age: Age, before: Option<&Dir>) -> Dir {
        let nodes = self.list(commit, "", true).await;
        self.dir(commit, age, "", Default::default(), nodes, before).await
    }

    /// A directory that lists `nodes`. Whatever is as it was in `before` is taken from there.
    fn dir<'a>(
        &'a self,
        commit: &'a str,
        age: Age,
        path: &'a str,
        version: (String, String),
        nodes: Vec<Node>,
        before: Option<&'a Dir>,
    ) -> BoxFuture<'a, Dir> {
        async move {
            let (mut files, mut dirs, mut fresh) = (BTreeMap::new(), BTreeMap::new(), Vec::new());
            for Node { name, kind } in nodes {
                let (version, size) = match kind {
                    Kind::File(content) => {
                        files.insert(name, content);
                        continue;
                    }
                    Kind::Dir { hash, commit, size } => ((hash, commit), size),
                };
                let before = before.and_then(|before| before.dirs.get(&name));
                match before.filter(|before| before.version == version) {
                    Some(before) => {
                        dirs.insert(name, Arc::clone(before));
                    }
                    None => fresh.push(async move {
                        let path = join(path, &name);
                        let nodes = self.list(commit, &path, size == 0 || age == Age::Old).await;
                        let before = before.map(AsRef::as_ref);
                        (name, Arc::new(self.dir(commit, age, &path, version, nodes, before).await))
                    }),
                }
            }
            dirs.extend(stream::iter(fresh).buffer_unordered(AT_ONCE).collect::<Vec<_>>().await);
            Dir::new(version, files, dirs)
        }
        .boxed()
    }

    async fn list(&self, commit: &str, dir: &str, may_be_absent: bool) -> Vec<Node> {
        let mut nodes = Vec::new();
        for page in 1.. {
            let url = format!("{}?page={page}&page_size=10000", self.url("dir", commit, dir));
            let answer = self.site.http.get(&url).send().await.expect("the server answers");
            // The first commit of oxen-server 0.65.2 has no root, and a directory that its files have left may be
            // listed in the one above, with nothing in it, and not be found itself. What an old commit lists may be
            // another commit's directory.
            if answer.status() == StatusCode::NOT_FOUND && may_be_absent {
                break;
            }
            assert_eq!(answer.status(), StatusCode::OK, "{url}");
            let answer: Value = answer.json().await.expect("a listing is JSON");
            let entries = answer["entries"].as_array().expect("a listing has entries");
            nodes.extend(entries.iter().map(node));
            if page >= answer["total_pages"].as_u64().unwrap_or(1) {
                break;
            }
        }
        nodes
    }

    /// The bytes of a file of a commit, chunk by chunk.
    pub(crate) async fn each_chunk(&self, commit: &str, path: &str, mut each: impl FnMut(&[u8])) {
        let url = self.url("file", commit, path);
        let mut answer = self.site.http.get(&url).send().await.expect("the server answers");
        assert_eq!(answer.status(), StatusCode::OK, "{url}");
        while let Some(chunk) = answer.chunk().await.expect("the file arrives whole") {
            each(&chunk);
        }
    }

    fn url(&self, what: &str, commit: &str, path: &str) -> String {
        let mut url = self.site.page(self.repo, &format!("/{what}/{commit}"));
        for segment in path.split('/').filter(|segment| !segment.is_empty()) {
            url.push('/');
            url.extend(utf8_percent_encode(segment, NON_ALPHANUMERIC));
        }
        url
    }

    /// Compares `wanted` with the head byte for byte, as it is served and not as it is listed.
    ///
    /// # Panics
    /// With a file that differs.
    pub(crate) async fn assert_bytes(&self, folder: &Path, place: &Place, wanted: &Tree) {
        let head = self.head().await.expect("the branch is there");
        let compared = wanted.keys().map(|path| {
            let local = RepoPath::parse(path).ok().and_then(|path| place.file_at(&path));
            let local = local.expect("only what stands at its place is compared").under(folder);
            self.assert_same_bytes(&head, path, local).boxed()
        });
        let compared: Vec<BoxFuture<'_, ()>> = compared.collect();
        stream::iter(compared).buffer_unordered(AT_ONCE).collect::<()>().await;
    }

    async fn assert_same_bytes(&self, commit: &str, path: &str, local: PathBuf) {
        let mut file = File::open(local).expect("the file is still there");
        let (mut own, mut at, mut same) = (Vec::new(), 0_usize, true);
        let compare = |chunk: &[u8]| {
            own.resize(chunk.len(), 0);
            same &= file.read_exact(&mut own).is_ok() && own == chunk;
            at += chunk.len();
        };
        self.each_chunk(commit, path, compare).await;
        let at_end = file.read(&mut [0]).expect("the file can be read") == 0;
        assert!(same && at_end, "{path:?} is served with other bytes than the folder holds ({at} of them)");
    }

    /// The commits, the oldest first.
    pub(crate) async fn commits(&self) -> Vec<Commit> {
        let head = self.head().await.expect("the branch is there");
        let mut commits: Vec<Commit> = Vec::new();
        for page in 1.. {
            let found =
                self.site.client.history(self.repo, &head, page, 100).await.expect("the history is read");
            let is_last = found.len() < 100;
            commits.extend(found);
            if is_last {
                break;
            }
        }
        commits.reverse();
        commits
    }

    /// Looks at every commit: each holds only what was a finished file, in the order in which it was finished, serves the
    /// bytes that it lists, and differs from the one before.
    ///
    /// # Panics
    /// With the commit that does not.
    pub(crate) async fn assert_history(&self, ledger: &Ledger) -> usize {
        let commits = self.commits().await;
        let mut read = HashSet::new();
        let (mut shown, mut reached) = (Tree::new(), HashMap::<String, usize>::new());
        let mut last: Option<(&str, Arc<Dir>, Sum)> = None;
        // The last that holds what it lists: all of it is in `shown`.
        let mut seen: Option<Arc<Dir>> = None;
        for commit in &commits {
            let age = if Some(commit) == commits.last() { Age::Head } else { Age::Old };
            // What an old commit lists may be wrong: the head is listed whole.
            let before = last.as_ref().map(|(_, root, _)| root.as_ref()).filter(|_| age == Age::Old);
            let root = Arc::new(self.root(&commit.id, age, before).await);
            let sum = self.sum(&commit.id).await;
            // oxen-server 0.65.2 mixes up directories of old commits: then what it lists is not what it holds.
            let is_true = age == Age::Head || sum.agrees(root.sum);
            let mut found = Vec::new();
            root.files_not_in(seen.as_deref(), "", &mut found);
            let mut fresh = Vec::new();
            for (path, content) in found {
                if shown.get(&path) == Some(&content) {
                    continue;
                }
                let says = || format!("commit {} ({:?}) holds {path:?}", commit.id, commit.message);
                let (size, xxh3) = (content.size, content.xxh3);
                let known = ledger.find(&path, xxh3, 0);
                assert!(
                    known.is_some(),
                    "{} with {size} bytes, {xxh3:x}, which never was a finished file",
                    says()
                );
                if read.insert(xxh3) {
                    fresh.push(self.assert_served(&commit.id, path.clone(), content).boxed());
                }
                if is_true && !ledger.is_shared {
                    let from = reached.get(&path).map_or(0, |at| at + 1);
                    let at = ledger.find(&path, xxh3, from);
                    let at = at.unwrap_or_else(|| panic!("{} as it was before a later commit", says()));
                    reached.insert(path.clone(), at);
                }
                if is_true {
                    shown.insert(path, content);
                }
            }
            stream::iter(fresh).buffer_unordered(AT_ONCE).collect::<()>().await;
            if let Some((id, last, last_sum)) = &last {
                assert_eq!(
                    commit.parent_ids.first().map(String::as_str),
                    Some(*id),
                    "the history has one line"
                );
                assert!(
                    !root.is_same(last) || sum != *last_sum,
                    "commit {} ({:?}) repeats its parent",
                    commit.id,
                    commit.message
                );
            }
            if is_true {
                seen = Some(Arc::clone(&root));
            }
            last = Some((&commit.id, root, sum));
        }
        commits.len()
    }

    /// What a commit says of itself, which oxen-server 0.65.2 never mixes up.
    async fn sum(&self, commit: &str) -> Sum {
        let url = format!("{}?page=1&page_size=1", self.url("dir", commit, ""));
        let answer = self.site.http.get(&url).send().await.expect("the server answers");
        if answer.status() == StatusCode::NOT_FOUND {
            return Sum { bytes: 0, files: Some(0) };
        }
        let answer: Value = answer.json().await.expect("a listing is JSON");
        let counts = answer["dir"]["metadata"]["dir"]["data_types"].as_array();
        let files = counts.map(|counts| counts.iter().filter_map(|count| count["count"].as_u64()).sum());
        Sum { bytes: answer["dir"]["size"].as_u64().expect("a directory has a size"), files }
    }

    /// What an old commit serves at a path is what it lists there. It may serve nothing: oxen-server 0.65.2 mixes up old
    /// directories.
    async fn assert_served(&self, commit: &str, path: String, content: Content) {
        let url = self.url("file", commit, &path);
        let mut answer = self.site.http.get(&url).send().await.expect("the server answers");
        if answer.status() == StatusCode::NOT_FOUND {
            return;
        }
        assert_eq!(answer.status(), StatusCode::OK, "{url}");
        let (mut hash, mut size) = (Xxh3::new(), 0);
        while let Some(chunk) = answer.chunk().await.expect("the file arrives whole") {
            hash.update(&chunk);
            size += chunk.len() as u64;
        }
        let served = Content { size, xxh3: hash.digest128() };
        assert_eq!(served, content, "commit {commit} lists other bytes at {path:?} than it serves");
    }

    /// Waits until no workspace of oxen-sync is there: one that was asked for in vain may come late, and goes with the next
    /// look at the branch.
    ///
    /// # Panics
    /// After some seconds, with those that are there.
    pub(crate) async fn assert_no_workspaces(&self) {
        let deadline = Instant::now() + ASK_MAX;
        loop {
            let left = self.workspaces().await;
            if left.is_empty() {
                return;
            }
            assert!(Instant::now() < deadline, "workspaces are left on the server: {left:?}");
            sleep(ASK_EVERY).await;
        }
    }

    /// The ids of oxen-sync's workspaces.
    pub(crate) async fn workspaces(&self) -> Vec<String> {
        let found = self.site.client.workspaces(self.repo).await.expect("workspaces are listed");
        let ids = found.into_iter().map(|workspace| workspace.id);
        ids.filter(|id| id.starts_with("oxen-sync-")).collect()
    }
}

fn node(entry: &Value) -> Node {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let hash = text(&entry["hash"]);
    let kind = if entry["is_dir"].as_bool().expect("an entry says what it is") {
        let size = entry["size"].as_u64().expect("a directory has a size");
        Kind::Dir { hash, commit: text(&entry["latest_commit"]["id"]), size }
    } else {
        let xxh3 = u128::from_str_radix(&hash, 16).expect("a hash is hex");
        Kind::File(Content { size: entry["size"].as_u64().expect("a file has a size"), xxh3 })
    };
    Node { name: text(&entry["filename"]), kind }
}
