use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use reqwest::Url;

use super::{Bandwidth, FolderId, MessageTemplate, UploadWindow};
use crate::oxen::{BranchName, RepoName};
use crate::path::{Layout, RepoPath, printable, shell_word};

/// A whole config file, checked: whoever holds one need not check anything again.
///
/// Invariants: at least one folder; no two folders can write one path of one branch; the state directory lies
/// in no watched folder; a folder whose files are taken off after they were pushed shares them with no other folder,
/// mirrors nothing, and moves them into no watched folder; every pattern compiles; a server that sends in the clear is one
/// that the file allows to.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// The file it was read from, absolute.
    pub file: PathBuf,
    /// Where the service keeps its state, absolute.
    pub state_dir: PathBuf,
    /// Who else may ask and steer the service, where anyone may.
    pub control: Option<Control>,
    /// The page in a browser, where one is wanted.
    pub page: Option<Page>,
    /// Who signs the commits.
    pub author: Author,
    /// The folders, in the file's order.
    pub folders: Vec<Folder>,
}

/// What a person types to let go what the brake holds of the folder at `path` in the config `file`.
pub fn release_command(file: &Path, path: &Path) -> String {
    format!("oxen-sync release {} --config {}", shell_word(path), shell_word(file))
}

/// A socket for a group, beside the one in the state directory that is for the owner alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Control {
    /// The group's name, not empty, one line.
    pub group: String,
    /// Where the socket stands, absolute.
    pub socket: PathBuf,
}

/// The page that shows in a browser what the service is doing, and its figures for Prometheus.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// Where it is served: a loopback address unless the file says `allow_network = true`; the port is never 0.
    pub listen: SocketAddr,
    /// The file with the key that opens what steers the service; without one, the page only shows.
    pub key_file: Option<PathBuf>,
}

impl Page {
    /// Whether nobody on the network can ask for it.
    pub fn is_of_this_machine(&self) -> bool {
        self.listen.ip().to_canonical().is_loopback()
    }
}

/// Who signs the commits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Author {
    /// A name, not empty, one line.
    pub name: String,
    /// A mail address, one line.
    pub email: String,
}

/// An Oxen server and how to talk to it.
#[derive(Debug, Clone, PartialEq)]
pub struct Server {
    /// `default` for `[server]`, else the NAME of `[servers.NAME]`.
    pub name: String,
    /// `http` or `https`; no user, password, query or fragment; no slash at the end but
    /// the root's.
    pub url: Url,
    /// The HTTP proxy for this server.
    pub proxy: Option<Url>,
    /// Certificates in PEM form that are trusted beside the usual ones.
    pub ca_file: Option<PathBuf>,
    /// The longest time in which a connection must come about.
    pub connect_timeout: Duration,
    /// The longest silence of the server inside a request. A request itself may take any time.
    pub request_timeout: Duration,
    /// Requests that each folder may have in flight to this server at once.
    pub concurrency: NonZeroUsize,
    /// How fast all folders together may send to this server, by the machine's local time.
    pub bandwidth: Bandwidth,
    /// The file that holds the API key.
    pub key_file: Option<PathBuf>,
}

impl Server {
    /// The same server at one speed at all times: what a timetable says is not part of how it is reached.
    #[must_use]
    pub fn without_timetable(&self) -> Self {
        Self { bandwidth: Bandwidth::default(), ..self.clone() }
    }

    /// The name of the server in `[server]`.
    pub const DEFAULT_NAME: &'static str = "default";

    /// Whether this is the server in `[server]`.
    pub fn is_default(&self) -> bool {
        self.name == Self::DEFAULT_NAME
    }

    /// Whether others on the network can read and change what is sent, the API key included. A config holds such a
    /// server only if it says `allow_http = true`: oxen-server itself speaks no TLS, and a lab's network may be trusted.
    pub fn sends_in_the_clear(&self) -> bool {
        // A proxy elsewhere is spoken to over the network, whatever the server's own address is.
        let leaves = |url: &Url| url.scheme() == "http" && !is_loopback(url);
        self.url.scheme() == "http" && (!is_loopback(&self.url) || self.proxy.as_ref().is_some_and(leaves))
    }
}

/// Whether a URL's host is this machine, whatever a name server says: `x.localhost` and `localhost.` are names that a
/// resolver may ask the network for.
fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    host == "localhost" || address.is_ok_and(|ip| ip.to_canonical().is_loopback())
}

/// A folder to watch and where its files go.
#[derive(Debug, Clone, PartialEq)]
pub struct Folder {
    /// The folder, absolute, without `.` and `..`; not `/`. Symbolic links in it are not resolved.
    pub path: PathBuf,
    /// The server.
    pub server: Arc<Server>,
    /// The repository.
    pub repo: RepoName,
    /// The branch.
    pub branch: BranchName,
    /// The branch to begin `branch` from if it is missing; without it a missing branch is an error, save in an
    /// empty repository.
    pub create_branch_from: Option<BranchName>,
    /// Whether a missing repository is made.
    pub create_repo: bool,
    /// The description of a repository that is made.
    pub description: Option<String>,
    /// The directory of the repository that stands for the folder, as the config writes it.
    pub remote_dir: RepoPath,
    /// Where new files stand, with that directory in front.
    pub layout: Layout,
    /// In gitignore's syntax, what is to be pushed; empty means everything.
    pub include: Vec<String>,
    /// In gitignore's syntax, what is not to be pushed; the last pattern that matches decides. Begins with
    /// [`super::DEFAULT_EXCLUDES`] unless the config turns them off.
    pub exclude: Vec<String>,
    /// Larger files are not pushed, in bytes.
    pub max_file_size: Option<u64>,
    /// When a file counts as finished.
    pub settle: Settle,
    /// When a batch of finished files is committed.
    pub batch: BatchLimits,
    /// The name of the file that finishes a run, with which all of its directory is committed; without one, each file is
    /// finished by itself.
    pub marker: Option<String>,
    /// How often the whole folder is compared with what is known.
    pub rescan_interval: Duration,
    /// 1 to 9: while folders with a larger number send to the same server, this one waits.
    pub priority: u8,
    /// When files may be sent, by the machine's local time.
    pub upload_window: UploadWindow,
    /// Which of the server's ways a batch takes.
    pub transport: Transport,
    /// What a file's removal does to the branch.
    pub on_delete: OnDelete,
    /// When removals are held until someone lets them go.
    pub delete_brake: DeleteBrake,
    /// What becomes here of a file that is on the branch.
    pub after_push: AfterPush,
    /// The commit message.
    pub message: MessageTemplate,
}

impl Folder {
    /// The same folder as it is at all times: a timetable is kept to without its work beginning anew.
    #[must_use]
    pub fn without_timetables(&self) -> Self {
        let server = Arc::new(self.server.without_timetable());
        Self { server, upload_window: UploadWindow::default(), ..self.clone() }
    }

    /// What makes this folder the same one in two versions of the file.
    pub fn id(&self) -> FolderId {
        FolderId {
            path: self.path.clone(),
            server: self.server.url.clone(),
            repo: self.repo.clone(),
            branch: self.branch.clone(),
            remote_dir: self.remote_dir.clone(),
        }
    }
}

/// When a file counts as finished. Invariant: `quiet <= max_wait`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settle {
    /// How long nothing may have happened to the file.
    pub quiet: Duration,
    /// After this time a file that never gets quiet is taken as a consistent snapshot.
    pub max_wait: Duration,
}

/// When a batch is committed. Invariant: `quiet <= max_wait`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchLimits {
    /// How long no further file may have become ready.
    pub quiet: Duration,
    /// The longest time the first file of a batch waits for others.
    pub max_wait: Duration,
    /// Files in one batch, at least 1.
    pub max_files: usize,
    /// Bytes in one batch; a larger file makes a batch of its own.
    pub max_bytes: u64,
}

/// When removals from the branch are held: when the folder has lost at least `files` files at once, and more than
/// `share_percent` of all it had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeleteBrake {
    /// 0 to 100; nothing is ever held at 100.
    pub share_percent: u64,
    /// At least 1.
    pub files: u64,
}

impl DeleteBrake {
    /// Whether nothing is ever held.
    pub fn is_off(&self) -> bool {
        self.share_percent >= 100
    }
}

/// What becomes of a file here once it is on the branch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AfterPush {
    /// What is done with it.
    pub action: TakeOff,
    /// How long it must have been on the branch, counted from when it was proved there.
    pub min_age: Duration,
}

/// How a file is taken off this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TakeOff {
    /// It is not.
    Keep,
    /// It is deleted.
    Delete,
    /// It is moved below this directory: absolute, in no watched folder and above none.
    Move(PathBuf),
}

/// Which of the server's ways a batch takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// A workspace: oxen-server 0.65.2 is done with it in two thirds of the time of a PUT, be it one file or a hundred.
    Auto,
    /// PUT only; what it cannot carry is refused with a reason.
    Put,
    /// A workspace for every batch.
    Workspace,
}

impl Transport {
    pub(super) const ALL: &[(&str, Self)] =
        &[("auto", Self::Auto), ("put", Self::Put), ("workspace", Self::Workspace)];
}

/// What a file's removal does to the branch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnDelete {
    /// Nothing: the branch is an archive.
    Keep,
    /// The file is removed from the branch too.
    Mirror,
}

impl OnDelete {
    pub(super) const ALL: &[(&str, Self)] = &[("keep", Self::Keep), ("mirror", Self::Mirror)];
}
impl Config {
    /// The folders at these paths, each once; all where none is named.
    ///
    /// # Errors
    /// A path is no folder of the config; the text says which.
    pub fn folders_at<'a>(&self, wanted: impl IntoIterator<Item = &'a Path>) -> Result<Vec<Folder>, String> {
        let (mut chosen, mut is_any) = (Vec::<Folder>::new(), false);
        for path in wanted {
            is_any = true;
            let path = std::path::absolute(path).map_err(|error| error.to_string())?;
            let before = chosen.len();
            let is_known = self.folders.iter().any(|folder| folder.path == path);
            if !is_known {
                return Err(format!("{} is no folder of {}", printable(&path), printable(&self.file)));
            }
            for folder in self.folders.iter().filter(|folder| folder.path == path) {
                if chosen[..before].iter().all(|known| known.id() != folder.id()) {
                    chosen.push(folder.clone());
                }
            }
        }
        Ok(if is_any { chosen } else { self.folders.clone() })
    }
}
