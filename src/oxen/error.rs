use std::fmt;
use std::time::Duration;

/// A request that did not do what was asked, or whose outcome is not known.
#[derive(Clone, PartialEq, Eq)]
pub struct Error(Box<Inner>);

#[derive(Clone, PartialEq, Eq)]
struct Inner {
    op: Op,
    host: String,
    kind: Kind,
    message: String,
    reached: bool,
}

/// Which request an [`Error`] speaks of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Op {
    /// Making the client from its options; nothing was sent.
    Setup,
    /// `GET /api/health`
    Health,
    /// `GET /api/repos/{repo}`
    FindRepo,
    /// `POST /api/repos`
    CreateRepo,
    /// `GET …/branches/{branch}`
    ReadBranch,
    /// `GET …/branches`
    ListBranches,
    /// `POST …/branches`
    CreateBranch,
    /// `PUT …/file/{branch}/{dir}`
    PutFiles,
    /// `PUT …/workspaces`
    OpenWorkspace,
    /// `GET …/workspaces`
    ListWorkspaces,
    /// `DELETE …/workspaces/{id}`
    DeleteWorkspace,
    /// `POST …/workspaces/{id}/files/`
    StageFiles,
    /// `DELETE …/workspaces/{id}/files`
    StageRemovals,
    /// `POST …/workspaces/{id}/merge/{branch}`
    MergeWorkspace,
    /// `POST …/versions/uploads`
    BeginUpload,
    /// `PUT …/versions/uploads/{id}/parts/{number}`
    PutPart,
    /// `GET …/meta/{revision}/{path}`
    ReadEntry,
    /// `GET …/dir/{revision}/{dir}`
    ListDir,
    /// `GET …/file/{revision}/{path}`
    ReadFile,
    /// `GET …/commits/history/{revision}`
    ReadHistory,
}

/// What went wrong, as far as it decides what to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// No connection: the name is unknown, nothing listens, or the network does not answer.
    Connect,
    /// No byte moved for the longest wait allowed, or the whole answer took too long.
    Timeout,
    /// The connection ended before the whole answer was here.
    Broken,
    /// The server's certificate or the TLS handshake was refused.
    Tls,
    /// The server, or something in between, answered that it did not do it.
    Status {
        /// The HTTP status. A 200 stands here when its body says that the work failed.
        code: u16,
        /// What the body says.
        reason: Reason,
        /// The answer's Retry-After, counted from now.
        retry_after: Option<Duration>,
    },
    /// The answer says success and is not what this request answers.
    Malformed,
    /// The answer points to another address. It is not followed: the key would go along.
    Redirect,
    /// The request cannot be made of what was given; nothing was sent.
    Unsendable,
}

/// What an answer's body says, where that decides what to do next (oxen-server 0.65.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reason {
    /// Nothing staged differs from the branch.
    NoChanges,
    /// The form is larger than the server takes in one request.
    PayloadTooLarge,
    /// Another commit has the same parent, author, message and second.
    CommitIdTaken,
    /// Another write moved the branch first.
    BranchHeadMismatch,
    /// Maintenance holds the repository.
    LockTimeout,
    /// The part came too early, or its first copy is still being stored.
    PartDeferred,
    /// There is no such workspace; it may have vanished with its commit.
    WorkspaceNotFound,
    /// There is no such upload: finished, expired after 60 s without a part, or the server restarted.
    UploadNotFound,
    /// There is no such branch.
    BranchNotFound,
    /// There is no such repository.
    RepoNotFound,
    /// The server itself says that there is no such thing, for example no such path on a branch.
    NotFound,
    /// A staged path changed on the branch since the workspace was made.
    Conflict,
    /// A file stands where a directory is needed, or the reverse.
    TargetMustBeDirectory,
    /// The server keeps this path for itself, or it leads out of the repository.
    PathRefused,
    /// A name is longer than the server's file system takes.
    NameTooLong,
    /// The bytes of an upload are not those of its hash; nothing was stored.
    HashMismatch,
    /// Anything else, also what a proxy answers.
    Other,
}

impl Error {
    pub(super) fn new(op: Op, host: &str, kind: Kind, message: String, reached: bool) -> Self {
        Self(Box::new(Inner { op, host: host.to_owned(), kind, message, reached }))
    }

    /// Which request it was.
    pub fn op(&self) -> Op {
        self.0.op
    }

    /// What went wrong.
    pub fn kind(&self) -> Kind {
        self.0.kind
    }

    /// The status of the answer, if there was one.
    pub fn code(&self) -> Option<u16> {
        match self.0.kind {
            Kind::Status { code, .. } => Some(code),
            _ => None,
        }
    }

    /// What the answer's body says; [`Reason::Other`] where there was none.
    pub fn reason(&self) -> Reason {
        match self.0.kind {
            Kind::Status { reason, .. } => reason,
            _ => Reason::Other,
        }
    }

    /// How long the server asks to wait.
    pub fn retry_after(&self) -> Option<Duration> {
        match self.0.kind {
            Kind::Status { retry_after, .. } => retry_after,
            _ => None,
        }
    }

    /// What the server or the system says: one short printable line, possibly empty.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// Whether the server may have had the whole request, so that the work may be done although no answer
    /// says so. `false` is certain.
    pub fn request_reached_server(&self) -> bool {
        self.0.reached
    }
}

impl std::error::Error for Error {}

/// What, where, what to do, in one lowercase line without secrets.
impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner { op, host, kind, message, .. } = &*self.0;
        match host.as_str() {
            "" => write!(f, "could not {op}: ")?,
            host => write!(f, "could not {op} at {host}: ")?,
        }
        let or = |text: &'static str| if message.is_empty() { text } else { message.as_str() };
        match kind {
            Kind::Connect => {
                let what = or("no connection");
                write!(f, "{what}; check that the server runs and that its address is right")
            }
            Kind::Timeout => write!(f, "{}; the server or the network stands still", or("no answer in time")),
            Kind::Broken => write!(f, "the connection broke: {}", or("no answer")),
            Kind::Tls => {
                let what = or("handshake refused");
                write!(f, "no secure connection: {what}; check the server's certificate and the CA file")
            }
            Kind::Status { code: code @ (401 | 403), .. } => {
                write!(f, "the server answered {code}")?;
                if !message.is_empty() {
                    write!(f, ", {message}")?;
                }
                f.write_str("; check the API key and its rights")
            }
            Kind::Status { code, .. } if message.is_empty() => write!(f, "the server answered {code}"),
            Kind::Status { code, .. } => write!(f, "the server answered {code}, {message}"),
            Kind::Malformed => {
                let what = or("unknown form");
                write!(f, "the answer is not Oxen's ({what}); check that the address is an Oxen server's")
            }
            Kind::Redirect => {
                let to = or("another address");
                write!(f, "the server points to {to}, which is not followed; write the final address instead")
            }
            Kind::Unsendable => f.write_str(or("the request cannot be made")),
        }
    }
}

/// The same as [`fmt::Display`], so that no derived form shows more.
impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self} [{:?}]", self.0.kind)
    }
}

/// The work in words that fit after "could not".
impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Setup => "make the HTTP client",
            Self::Health => "ask for the server's health",
            Self::FindRepo => "look up the repository",
            Self::CreateRepo => "create the repository",
            Self::ReadBranch => "look up the branch",
            Self::ListBranches => "list the branches",
            Self::CreateBranch => "create the branch",
            Self::PutFiles => "commit files",
            Self::OpenWorkspace => "open a workspace",
            Self::ListWorkspaces => "list the workspaces",
            Self::DeleteWorkspace => "delete the workspace",
            Self::StageFiles => "stage files",
            Self::StageRemovals => "stage removals",
            Self::MergeWorkspace => "commit the workspace",
            Self::BeginUpload => "begin an upload",
            Self::PutPart => "upload a part",
            Self::ReadEntry => "look up a path on the branch",
            Self::ListDir => "list a directory of the branch",
            Self::ReadFile => "read a file of the branch",
            Self::ReadHistory => "read the history",
        })
    }
}
