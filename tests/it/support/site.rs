//! A server to test against, real or not.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::TryStreamExt;
use oxen_sync::oxen::{
    ApiKey, BranchName, Client, ClientOptions, Commit, CommitInfo, Error, FileBody, RepoName,
};
use oxen_sync::path::RepoPath;

use super::real::{self, RealServer};
use crate::standin::{Gate, StandIn, gate_before};

static NEXT: AtomicUsize = AtomicUsize::new(0);

/// A server and a client of it.
pub(crate) struct Site {
    /// What the program under test is told; faults happen here.
    pub(crate) url: String,
    /// Where a test itself asks; no fault happens here.
    direct: String,
    pub(crate) client: Client,
    /// For requests that the client does not make.
    pub(crate) http: reqwest::Client,
    server: Server,
}

/// Which it is.
enum Server {
    StandIn(Arc<StandIn>, #[expect(dead_code, reason = "held open")] Gate),
    Real(&'static RealServer),
    RealBehindGate(&'static RealServer, Arc<Gate>),
}

impl Site {
    pub(crate) async fn standin() -> Self {
        let standin = Arc::new(StandIn::start().await);
        let side_door = standin.side_door();
        Self::new(standin.url(), side_door.url(), Server::StandIn(standin, side_door))
    }

    /// The real server; `None` where the environment says to do without.
    pub(crate) async fn real() -> Option<Self> {
        let real = real::shared().await?;
        Some(Self::new(real.url(), real.url(), Server::Real(real)))
    }

    /// The real server behind a gate of its own.
    pub(crate) async fn real_behind_gate() -> Option<Self> {
        let real = real::shared().await?;
        let gate = Arc::new(gate_before(&real.url()));
        Some(Self::new(gate.url(), real.url(), Server::RealBehindGate(real, gate)))
    }

    /// A real server that nobody else uses, and a site of it.
    pub(crate) async fn real_of_its_own() -> Option<(Self, &'static RealServer)> {
        real::shared().await?;
        let real = RealServer::of_its_own().await;
        Some((Self::new(real.url(), real.url(), Server::Real(real)), real))
    }

    /// The same server behind another gate; for the stand-in, an empty one.
    pub(crate) async fn another(&self) -> Self {
        match &self.server {
            Server::StandIn(..) => Self::standin().await,
            Server::Real(_) | Server::RealBehindGate(..) => {
                Self::real_behind_gate().await.expect("there is one")
            }
        }
    }

    fn new(url: String, direct: String, server: Server) -> Self {
        let client = client(&direct);
        let http = reqwest::Client::builder()
            // A server that is silent fails a test and does not hang it.
            .timeout(Duration::from_secs(120))
            // oxen-server 0.65.2 drops connections that were idle for 75 s, and what is sent just then is lost.
            .pool_idle_timeout(Duration::from_secs(30))
            .build();
        Self { url, direct, client, http: http.expect("the options are fine"), server }
    }

    /// Where faults are made.
    ///
    /// # Panics
    /// Where there is no gate before the server.
    pub(crate) fn gate(&self) -> Arc<Gate> {
        match &self.server {
            Server::StandIn(standin, _) => standin.gate(),
            Server::RealBehindGate(_, gate) => Arc::clone(gate),
            Server::Real(_) => panic!("no gate stands before this server"),
        }
    }

    /// The stand-in, for faults and counts; `None` where the server is real.
    pub(crate) fn as_standin(&self) -> Option<Arc<StandIn>> {
        match &self.server {
            Server::StandIn(standin, _) => Some(Arc::clone(standin)),
            Server::Real(_) | Server::RealBehindGate(..) => None,
        }
    }

    /// Makes two contents of one size, both stored, pass for stored in the same tick of the clock.
    pub(crate) fn make_twins(&self, repo: &RepoName, one: &[u8], other: &[u8]) {
        match &self.server {
            Server::StandIn(standin, _) => standin.make_twins(&repo.to_string(), one, other),
            Server::Real(real) | Server::RealBehindGate(real, _) => real.make_twins(one, other),
        }
    }

    /// A repository without commits, of a name nobody else has.
    pub(crate) async fn empty_repo(&self) -> RepoName {
        let name = fresh_name();
        self.client.create_repo(&name, None, None).await.expect("a repository is made");
        name
    }

    /// A repository whose branch `main` holds these files.
    pub(crate) async fn repo(&self, files: &[(&str, &str)]) -> RepoName {
        let repo = self.empty_repo().await;
        let main = branch("main");
        self.client.open_workspace(&repo, "first", &main).await.expect("a workspace is opened");
        if files.is_empty() {
            self.client.delete_workspace(&repo, "first").await.expect("a workspace is deleted");
        } else {
            let files = files.iter().map(|(name, content)| file(name, content.as_bytes())).collect();
            self.client.stage_files(&repo, "first", files).await.expect("files are staged");
            let merged = self.client.merge_workspace(&repo, "first", &main, &info("the first files")).await;
            merged.expect("the files are committed");
        }
        repo
    }

    /// Commits files through a workspace onto `main`.
    pub(crate) async fn commit(&self, repo: &RepoName, files: &[(&str, &str)]) -> Commit {
        let (id, main) = (fresh_id(), branch("main"));
        self.client.open_workspace(repo, &id, &main).await.expect("a workspace is opened");
        let files = files.iter().map(|(name, content)| file(name, content.as_bytes())).collect();
        self.client.stage_files(repo, &id, files).await.expect("files are staged");
        let merged = self.client.merge_workspace(repo, &id, &main, &info(&format!("commit {id}"))).await;
        merged.expect("the files are committed")
    }

    /// Removes files from `main`.
    pub(crate) async fn remove(&self, repo: &RepoName, paths: &[&str]) {
        let (id, main) = (fresh_id(), branch("main"));
        self.client.open_workspace(repo, &id, &main).await.expect("a workspace is opened");
        self.client.stage_removals(repo, &id, paths).await.expect("removals are staged");
        let merged = self.client.merge_workspace(repo, &id, &main, &info(&format!("commit {id}"))).await;
        merged.expect("the removals are committed");
    }

    /// Puts files into a directory of a branch.
    pub(crate) async fn put(
        &self,
        repo: &RepoName,
        to: &str,
        dir: &str,
        files: &[(&str, &[u8])],
    ) -> Result<Commit, Error> {
        let files = files.iter().map(|(name, content)| file(name, content)).collect();
        let info = info(&format!("put into {dir} of {to}"));
        self.client.put_files(repo, &branch(to), &path(dir), files, &info).await
    }

    /// A file's content on `main`.
    pub(crate) async fn read(&self, repo: &RepoName, name: &str) -> Option<Vec<u8>> {
        let head = self.head(repo).await;
        let download = self.client.file(repo, &head, &path(name)).await.expect("the file is looked up")?;
        let chunks: Vec<Bytes> = download.try_collect().await.expect("the file is read");
        Some(chunks.concat())
    }

    /// Every file on `main`, with its content, sorted.
    pub(crate) async fn files(&self, repo: &RepoName) -> Vec<(String, String)> {
        let mut files = Vec::new();
        let head = self.head(repo).await;
        let mut dirs = vec![RepoPath::root()];
        while let Some(dir) = dirs.pop() {
            let page =
                self.client.list_dir(repo, &head, &dir, 1, 10_000).await.expect("a directory is listed");
            for entry in page.expect("the directory is there").entries {
                let below = path(&format!("{dir}/{}", entry.name));
                if entry.is_dir {
                    dirs.push(below);
                } else {
                    let content = self.read(repo, below.as_str()).await.expect("a listed file is there");
                    files.push((below.as_str().to_owned(), String::from_utf8_lossy(&content).into_owned()));
                }
            }
        }
        files.sort();
        files
    }

    /// The id of `main`'s head.
    pub(crate) async fn head(&self, repo: &RepoName) -> String {
        let main = self.client.branch(repo, &branch("main")).await.expect("the branch is looked up");
        main.expect("main is there").commit_id
    }

    /// The address of a page of a repository.
    pub(crate) fn page(&self, repo: &RepoName, tail: &str) -> String {
        format!("{}/api/repos/{repo}{tail}", self.direct)
    }
}

/// A client of a server, with a key that nobody asks for.
pub(crate) fn client(url: &str) -> Client {
    Client::new(options(url)).expect("the options are fine")
}

pub(crate) fn options(url: &str) -> ClientOptions {
    ClientOptions {
        url: url.parse().expect("a URL"),
        key: Some(ApiKey::from("key-of-the-tests".to_owned())),
        proxy: None,
        ca_pem: None,
        connect_timeout: Duration::from_secs(5),
        limit: None,
        silence_timeout: Duration::from_secs(60),
    }
}

fn fresh_name() -> RepoName {
    format!("contract/repo-{}", NEXT.fetch_add(1, Ordering::Relaxed)).parse().expect("a good name")
}

pub(crate) fn fresh_id() -> String {
    format!("workspace-{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

pub(crate) fn branch(name: &str) -> BranchName {
    name.parse().expect("a good branch name")
}

pub(crate) fn path(path: &str) -> RepoPath {
    RepoPath::parse(path).expect("a good path")
}

pub(crate) fn info(message: &str) -> CommitInfo {
    CommitInfo {
        message: message.to_owned(),
        name: "rig-07".to_owned(),
        email: "rig-07@lab.example".to_owned(),
    }
}

pub(crate) fn file(name: &str, content: &[u8]) -> FileBody {
    FileBody { name: name.to_owned(), bytes: Bytes::copy_from_slice(content) }
}
