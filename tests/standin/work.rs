//! What each request does.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use axum::body::Bytes;
use oxen_sync::oxen::{Op, RepoName};
use serde_json::{Value, json};

use super::answer::{self, Reply};
use super::call::{Call, normal};
use super::form::{self, Part};
use super::repo::{CommitMade, Info, Repo, Staged, Workspace};
use super::uploads::Upload;
use super::{put, read};

/// The most that a request's plain body may hold.
const BODY_MAX: usize = 256 << 10;
/// The most that a list in JSON may hold.
const JSON_MAX: usize = 2 << 20;

/// Everything that the server keeps.
pub(crate) struct Store {
    pub(crate) repos: BTreeMap<String, Repo>,
    pub(crate) uploads: BTreeMap<String, Upload>,
    pub(crate) commits: Vec<Arc<CommitMade>>,
    pub(crate) part_size: u64,
    pub(crate) part_window: u64,
    pub(crate) next_upload: u64,
}

impl Default for Store {
    fn default() -> Self {
        Self {
            repos: BTreeMap::new(),
            uploads: BTreeMap::new(),
            commits: Vec::new(),
            part_size: 10 << 20,
            part_window: 102,
            next_upload: 1,
        }
    }
}

/// A request's body and how it says it is to be read.
pub(crate) struct Payload {
    pub(crate) agent: String,
    /// The authorization, as it was sent.
    pub(crate) key: Option<String>,
    pub(crate) content_type: String,
    pub(crate) body: Bytes,
    pub(crate) kept: Kept,
}

/// How many of a form's files are kept.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kept {
    All,
    /// The first half, and the answer says so.
    Half,
    /// The first half, and the answer does not say so.
    HalfUnsaid,
}

impl Store {
    /// Does the work and answers; what was refused has done nothing.
    pub(crate) fn work(&mut self, op: Op, call: &Call, payload: &Payload) -> Reply {
        self.answer(op, call, payload).unwrap_or_else(|refusal| refusal)
    }

    fn answer(&mut self, op: Op, call: &Call, payload: &Payload) -> Result<Reply, Reply> {
        match op {
            Op::Setup | Op::Health => return Ok(answer::found(json!({ "disk_usage": {} }))),
            Op::CreateRepo => return self.create_repo(payload),
            _ => {}
        }
        let repo = self.repos.get_mut(&call.repo).ok_or_else(|| answer::no_repo(&call.repo))?;
        match op {
            Op::ListBranches => Ok(answer::found(json!({ "branches": repo
                .branches
                .iter()
                .map(|(name, id)| json!({ "name": name, "commit_id": &**id }))
                .collect::<Vec<_>>() }))),
            Op::ReadBranch => branch(repo, &call.rest).ok_or_else(|| answer::no_branch(&call.rest)),
            Op::CreateBranch => create_branch(repo, payload),
            Op::OpenWorkspace => {
                let opened = open_workspace(repo, payload)?;
                self.commits.extend(opened.1);
                Ok(opened.0)
            }
            Op::ListWorkspaces => {
                let all = repo.workspaces.iter().map(|(id, workspace)| workspace_view(id, workspace));
                Ok(answer::created(json!({ "workspaces": all.collect::<Vec<_>>() })))
            }
            Op::DeleteWorkspace => {
                let workspace =
                    repo.workspaces.remove(&call.id).ok_or_else(|| answer::no_workspace(&call.id))?;
                Ok(answer::created(json!({ "workspace": workspace_view(&call.id, &workspace) })))
            }
            Op::StageFiles => stage_files(repo, call, payload),
            Op::StageRemovals => stage_removals(repo, call, payload),
            Op::MergeWorkspace => {
                let made = repo.merge(&call.id, &call.rest, info_of_json(payload)?)?;
                self.commits.push(made.clone());
                Ok(answer::created(json!({ "commit": answer::commit(&made) })))
            }
            Op::PutFiles => {
                let made = put::put_files(repo, call, payload)?;
                self.commits.push(made.clone());
                Ok(answer::created(json!({ "commit": answer::commit(&made) })))
            }
            Op::BeginUpload => self.begin_upload(call, payload),
            Op::PutPart => self.put_part(call, payload),
            Op::ReadEntry => {
                let (commit, path) = read::resolve(repo, call)?;
                let name = path.rsplit('/').next().unwrap_or_default();
                // A path of directories alone is looked up first.
                let entry = match (commit.dir(&path), commit.node(&path)) {
                    (Some(dir), node) => {
                        answer::dir_entry(name, dir, node.and_then(|node| read::last_commit(repo, node)))
                    }
                    (None, Some(node)) => answer::entry(name, node, read::last_commit(repo, node)),
                    (None, None) => return Err(answer::no_path(&path)),
                };
                Ok(answer::found(json!({ "entry": entry })))
            }
            Op::ReadFile => {
                let (commit, path) = read::resolve(repo, call)?;
                let file = commit.file(&path).ok_or_else(|| answer::no_path(&path))?;
                Ok(Reply::bytes(repo.content.get(&file.hash).cloned().unwrap_or_default()))
            }
            Op::ListDir => read::list_dir(repo, call),
            Op::ReadHistory => read::history(repo, call),
            Op::FindRepo | Op::Setup | Op::Health | Op::CreateRepo => {
                Ok(answer::found(json!({ "repository": { "is_empty": repo.is_empty() } })))
            }
        }
    }

    fn create_repo(&mut self, payload: &Payload) -> Result<Reply, Reply> {
        if payload.content_type != "application/json" {
            return Err(answer::message(400, "Missing new_repo field"));
        }
        let body = json_of(payload)?;
        let name = format!("{}/{}", text(&body, "namespace"), text(&body, "name"));
        if name.parse::<RepoName>().is_err() {
            return Err(answer::message(400, "Invalid repository name"));
        }
        if self.repos.contains_key(&name) {
            return Err(answer::message(409, "Repo already exists."));
        }
        self.repos.insert(name.clone(), Repo { name, ..Repo::default() });
        Ok(answer::found(json!({ "repository": { "latest_commit": null } })))
    }

    fn begin_upload(&mut self, call: &Call, payload: &Payload) -> Result<Reply, Reply> {
        let Some(repo) = self.repos.get_mut(&call.repo) else { return Err(answer::no_repo(&call.repo)) };
        let body = json_of(payload)?;
        let size = body["size"].as_u64().unwrap_or_default();
        let hash = u128::from_str_radix(text(&body, "hash"), 16);
        let (Ok(hash), 1..) = (hash, size) else {
            return Err(answer::described(400, "Version upload refused: no hash, or zero bytes"));
        };
        let destination = match &body["destination"] {
            Value::Null => None,
            to => {
                let (id, path) = (text(to, "workspace_id"), normal(text(to, "path"), "destination path")?);
                if !repo.workspaces.contains_key(id) {
                    return Err(answer::error(404, "resource_not_found", "Workspace does not exist", id));
                }
                Some((id.to_owned(), path))
            }
        };
        if repo.content.contains_key(&hash) {
            stage_stored(repo, destination, hash, size)?;
            return Ok(answer::found(json!({ "file": "already_stored" })));
        }
        let id = format!("upload-{}", self.next_upload);
        self.next_upload += 1;
        let upload = Upload {
            repo: call.repo.clone(),
            hash,
            size,
            part_size: self.part_size,
            window: self.part_window,
            destination,
            parts: BTreeMap::new(),
            arriving: BTreeSet::new(),
            active: tokio::time::Instant::now(),
        };
        let reply = upload.begun(&id);
        self.uploads.insert(id, upload);
        Ok(reply)
    }

    fn put_part(&mut self, call: &Call, payload: &Payload) -> Result<Reply, Reply> {
        self.uploads.retain(|_, upload| upload.is_alive());
        let Ok(number) = call.rest.parse() else { return Err(answer::bad_request("Invalid part number")) };
        let upload = self.uploads.get_mut(&call.id).filter(|upload| upload.repo == call.repo);
        let upload =
            upload.ok_or_else(|| answer::described(404, &format!("Version upload {} not found", call.id)))?;
        let taken = upload.take(&call.id, number, payload.body.clone());
        if let Ok(None) = taken {
            return Ok(answer::created(json!({ "completed": false })));
        }
        // Complete or refused for good: a part that is refused alone leaves the upload as it was.
        let mismatch = upload.parts.len() as u64 == upload.size.div_ceil(upload.part_size);
        if taken.is_err() && !mismatch {
            return taken.map(|_| answer::created(json!({})));
        }
        let (destination, size) = (upload.destination.clone(), upload.size);
        self.uploads.remove(&call.id);
        let content = taken?.unwrap_or_default();
        let Some(repo) = self.repos.get_mut(&call.repo) else { return Err(answer::no_repo(&call.repo)) };
        let hash = repo.store(content);
        stage_stored(repo, destination, hash, size)?;
        Ok(answer::created(json!({ "completed": true })))
    }
}

fn stage_stored(
    repo: &mut Repo,
    destination: Option<(String, String)>,
    hash: u128,
    size: u64,
) -> Result<(), Reply> {
    if let Some((id, path)) = destination {
        repo.stage(&id, &path, hash, size)?;
    }
    Ok(())
}

fn branch(repo: &Repo, name: &str) -> Option<Reply> {
    let id = repo.branches.get(name)?;
    Some(answer::found(json!({ "branch": { "name": name, "commit_id": &**id } })))
}

fn create_branch(repo: &mut Repo, payload: &Payload) -> Result<Reply, Reply> {
    let body = json_of(payload)?;
    let (new, from) = (text(&body, "new_name"), text(&body, "from_name"));
    if let Some(found) = branch(repo, new) {
        return Ok(found);
    }
    let id = repo.branches.get(from).cloned().ok_or_else(|| answer::message(404, "resource_not_found"))?;
    repo.branches.insert(new.to_owned(), id);
    Ok(branch(repo, new).unwrap_or_else(|| answer::no_branch(new)))
}

fn workspace_view(id: &str, workspace: &Workspace) -> Value {
    json!({ "id": id, "name": null, "commit": answer::commit(&workspace.base), "created_at": null })
}

fn open_workspace(repo: &mut Repo, payload: &Payload) -> Result<(Reply, Option<Arc<CommitMade>>), Reply> {
    let body = json_of(payload)?;
    let (id, branch) = (text(&body, "workspace_id"), text(&body, "branch_name"));
    let mut first = None;
    if repo.head(branch).is_none() {
        if !repo.is_empty() {
            return Err(answer::message(
                400,
                &format!("Branch not found: {branch}. There are commits, so create it first."),
            ));
        }
        let info = Info {
            message: "Initialized Repo 🐂".to_owned(),
            author: "Oxen".to_owned(),
            email: "oxen@oxen.ai".to_owned(),
        };
        first = Some(repo.commit(branch, &Staged::new(), info)?);
    }
    if !repo.workspaces.contains_key(id)
        && let Some(base) = repo.head(branch).cloned()
    {
        repo.workspaces.insert(id.to_owned(), Workspace { base, staged: Staged::new() });
    }
    let view = repo.workspaces.get(id).map(|workspace| workspace_view(id, workspace));
    Ok((answer::created(json!({ "workspace": view })), first))
}

fn stage_files(repo: &mut Repo, call: &Call, payload: &Payload) -> Result<Reply, Reply> {
    if !repo.workspaces.contains_key(&call.id) {
        return Err(answer::no_workspace(&call.id));
    }
    let parts = form::parts(&payload.content_type, &payload.body).map_err(|why| answer::bad_request(&why))?;
    let parts: Vec<Part> = parts.into_iter().filter(|p| matches!(&*p.name, "file[]" | "file")).collect();
    let mut files = Vec::new();
    for part in &parts {
        let filename = part
            .filename
            .as_ref()
            .ok_or_else(|| answer::bad_request("Missing filename in multipart request"))?;
        // An absolute file name replaces the directory, as joining paths does.
        let path = match call.rest.as_str() {
            "" => filename.clone(),
            _ if filename.starts_with('/') => filename.clone(),
            dir => format!("{dir}/{filename}"),
        };
        files.push((normal(&path, "staging path")?, part));
    }
    let mut lost = Vec::new();
    if payload.kept != Kept::All {
        lost = files.split_off(files.len() / 2).into_iter().map(|(path, _)| path).collect();
    }
    let mut paths = Vec::new();
    for (path, part) in files {
        let mut content = payload.body.slice(part.content.clone());
        if part.content_type.as_deref() == Some("application/gzip") {
            // The real server unpacks such parts; content that does not unpack is left out.
            let Some(unpacked) = gunzip_stored(&content) else { continue };
            content = unpacked;
        }
        let size = content.len() as u64;
        let hash = repo.store(content);
        repo.stage(&call.id, &path, hash, size)?;
        paths.push(path);
    }
    if payload.kept == Kept::HalfUnsaid {
        paths.append(&mut lost);
    }
    Ok(answer::created(json!({ "paths": paths })))
}

/// Unpacks a gzip file of one uncompressed block, which is all that the tests send.
fn gunzip_stored(gzip: &Bytes) -> Option<Bytes> {
    let block = gzip.strip_prefix(&[0x1f, 0x8b, 8, 0])?.get(6..)?;
    let [1, low, high, _, _, content @ ..] = block else { return None };
    let len = usize::from(u16::from_le_bytes([*low, *high]));
    content.get(..len).map(Bytes::copy_from_slice)
}

fn stage_removals(repo: &mut Repo, call: &Call, payload: &Payload) -> Result<Reply, Reply> {
    if payload.body.len() > JSON_MAX {
        return Err(Reply::text(413, "JSON payload is larger than allowed"));
    }
    let paths: Vec<String> =
        serde_json::from_slice(&payload.body).map_err(|_| answer::message(400, "bad_request"))?;
    let workspace = repo.workspaces.get_mut(&call.id).ok_or_else(|| answer::no_workspace(&call.id))?;
    let missing: Vec<String> =
        paths.iter().filter(|path| !Repo::stage_removal(workspace, path)).cloned().collect();
    if missing.is_empty() {
        Ok(answer::found(json!({ "paths": paths })))
    } else {
        Ok(answer::removed_but(&missing))
    }
}

fn json_of(payload: &Payload) -> Result<Value, Reply> {
    if payload.body.len() > BODY_MAX {
        return Err(Reply::text(413, "payload is larger than allowed"));
    }
    serde_json::from_slice(&payload.body).map_err(|error| answer::message(400, &error.to_string()))
}

fn info_of_json(payload: &Payload) -> Result<Info, Reply> {
    let body = json_of(payload)?;
    let field = |name: &str| {
        let text = body[name].as_str().map(str::to_owned);
        text.ok_or_else(|| answer::message(400, &format!("missing field {name}")))
    };
    Ok(Info { message: field("message")?, author: field("author")?, email: field("email")? })
}

fn text<'a>(body: &'a Value, name: &str) -> &'a str {
    body[name].as_str().unwrap_or_default()
}
