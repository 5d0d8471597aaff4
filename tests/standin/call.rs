//! Requests taken apart the way the real server's router does it.

use axum::http::Method;
use oxen_sync::oxen::Op;
use percent_encoding::percent_decode_str;

use super::answer::{self, Reply};

/// A request's address, taken apart.
pub(crate) struct Call {
    /// `None`: no page of this server.
    pub(crate) op: Option<Op>,
    /// The path as it was sent, with the query.
    pub(crate) path: String,
    pub(crate) repo: String,
    /// A workspace's or an upload's id.
    pub(crate) id: String,
    /// What stands behind the page's name: a resource, a branch, a number. `%25`, `%2F` and `%2B` are still
    /// encoded; not every page decodes them.
    pub(crate) rest: String,
    query: String,
}

impl Call {
    pub(crate) fn new(method: &Method, uri: &axum::http::Uri) -> Self {
        let mut call = Self {
            op: None,
            path: uri.path_and_query().map(ToString::to_string).unwrap_or_default(),
            repo: String::new(),
            id: String::new(),
            rest: String::new(),
            query: uri.query().unwrap_or_default().to_owned(),
        };
        let path = requote(uri.path());
        if path == "/api/health" {
            call.op = (method == Method::GET).then_some(Op::Health);
            return call;
        }
        let Some(path) = path.strip_prefix("/api/repos") else { return call };
        if path.is_empty() {
            call.op = (method == Method::POST).then_some(Op::CreateRepo);
            return call;
        }
        let mut parts = path.trim_start_matches('/').splitn(3, '/');
        let (namespace, name) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        call.repo = format!("{namespace}/{name}");
        let page = parts.next().unwrap_or_default().to_owned();
        call.op = call.page(method, &page);
        call
    }

    fn page(&mut self, method: &Method, page: &str) -> Option<Op> {
        let (page, rest) = page.split_once('/').map_or((page, None), |(page, rest)| (page, Some(rest)));
        let method = method.as_str();
        match (method, page, rest) {
            ("GET", "", None) => Some(Op::FindRepo),
            ("GET", "branches", None) => Some(Op::ListBranches),
            ("POST", "branches", None) => Some(Op::CreateBranch),
            ("GET", "branches", Some(rest)) if !rest.contains("/versions/") => {
                self.with(Op::ReadBranch, "", rest)
            }
            ("PUT", "file", Some(rest)) => self.with(Op::PutFiles, "", rest),
            ("GET", "file", Some(rest)) => self.with(Op::ReadFile, "", rest),
            ("GET", "meta", Some(rest)) => self.with(Op::ReadEntry, "", rest),
            ("GET", "dir", Some(rest)) => self.with(Op::ListDir, "", rest),
            ("GET", "commits", Some(rest)) => self.with(Op::ReadHistory, "", rest.strip_prefix("history/")?),
            ("PUT" | "POST", "workspaces", None) => Some(Op::OpenWorkspace),
            ("GET", "workspaces", None) => Some(Op::ListWorkspaces),
            (method, "workspaces", Some(rest)) => {
                let (id, rest) = rest.split_once('/').unwrap_or((rest, ""));
                let (action, rest) = rest.split_once('/').map_or((rest, None), |(a, rest)| (a, Some(rest)));
                match (method, action, rest) {
                    ("DELETE", "", None) => self.with(Op::DeleteWorkspace, id, ""),
                    ("POST", "files", Some(dir)) => self.with(Op::StageFiles, id, dir),
                    ("DELETE", "files", None) => self.with(Op::StageRemovals, id, ""),
                    ("POST", "merge" | "commit", Some(branch)) => self.with(Op::MergeWorkspace, id, branch),
                    _ => None,
                }
            }
            ("POST", "versions", Some("uploads")) => Some(Op::BeginUpload),
            ("PUT", "versions", Some(rest)) => {
                let (id, number) = rest.strip_prefix("uploads/")?.split_once("/parts/")?;
                self.with(Op::PutPart, id, number)
            }
            _ => None,
        }
    }

    fn with(&mut self, op: Op, id: &str, rest: &str) -> Option<Op> {
        self.id = id.to_owned();
        self.rest = rest.to_owned();
        Some(op)
    }

    /// The rest as a path of revision and file, decoded and checked.
    pub(crate) fn resource(&self) -> Result<String, Reply> {
        normal(&percent_decode_str(&self.rest).decode_utf8_lossy(), "resource")
    }

    /// A number of the query.
    pub(crate) fn number(&self, name: &str) -> Option<usize> {
        self.query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('=')?.parse().ok())
    }
}

/// Decodes all but `%25`, `%2F` and `%2B`.
fn requote(path: &str) -> String {
    let path = ["25", "2F", "2f", "2B", "2b"]
        .iter()
        .fold(path.to_owned(), |path, code| path.replace(&format!("%{code}"), &format!("%25{code}")));
    percent_decode_str(&path).decode_utf8_lossy().into_owned()
}

/// A relative path without empty segments and `.`; those that lead elsewhere are refused.
pub(crate) fn normal(path: &str, what: &str) -> Result<String, Reply> {
    let refuse = |why: &str| Err(answer::bad_request(&format!("Invalid {what}: {why}")));
    if path.starts_with('/') {
        return refuse("it is absolute");
    }
    let mut segments = Vec::new();
    for segment in path.split('/') {
        match segment {
            "" | "." => {}
            ".." => return refuse("it has a `..` component"),
            name if oxen_sync::oxen::is_reserved_name(name) => {
                return refuse("it is inside a .oxen directory");
            }
            name => segments.push(name),
        }
    }
    Ok(segments.join("/"))
}
