//! Committing files of one directory in one request.

use std::sync::Arc;

use super::answer::{self, Reply};
use super::call::{Call, normal};
use super::form::{self, Part};
use super::repo::{Change, CommitMade, Info, Repo, Staged};
use super::work::{Kept, Payload};

/// The most that a form may hold, content and text together.
const PUT_FORM_MAX: usize = 2 << 20;
/// The longest name that can be written.
const PUT_NAME_MAX: usize = 249;

pub(crate) fn put_files(repo: &mut Repo, call: &Call, payload: &Payload) -> Result<Arc<CommitMade>, Reply> {
    let parts = form::parts(&payload.content_type, &payload.body).map_err(|why| Reply::text(400, why))?;
    let known = ["message", "name", "email", "file", "files[]"];
    let parts: Vec<Part> = parts.into_iter().filter(|part| known.contains(&&*part.name)).collect();
    if parts.iter().map(|part| part.content.len()).sum::<usize>() > PUT_FORM_MAX {
        return Err(Reply::text(400, "Payload error"));
    }
    let field = |name: &str| {
        let part = parts.iter().find(|part| part.name == name)?;
        Some(String::from_utf8_lossy(&payload.body[part.content.clone()]).into_owned())
    };
    // Of several `file` parts the first counts; the others are gone without a word.
    let single = parts.iter().find(|part| part.name == "file");
    let many: Vec<&Part> = parts.iter().filter(|part| part.name == "files[]").collect();

    let (branch, dir) = if repo.is_empty() {
        // Nothing is decoded here, and the branch is one segment.
        let (branch, dir) = call.rest.split_once('/').unwrap_or((&call.rest, ""));
        (branch.to_owned(), normal(dir, "target directory")?)
    } else {
        let resource = call.resource()?;
        let (_, branch, dir) = repo.resolve(&resource).ok_or_else(|| answer::no_path(&resource))?;
        (branch.ok_or_else(|| answer::no_branch(&resource))?, dir)
    };
    let root = repo.head(&branch).map(|head| head.root.clone()).unwrap_or_default();
    let files: Vec<(String, &Part)> = match (single, many.as_slice()) {
        (None, []) => return Err(answer::bad_request("Missing file data")),
        (Some(_), [_, ..]) => return Err(answer::bad_request("Ambiguous multipart payload")),
        (Some(part), []) if root.dir(&dir).is_some() => vec![(join(&dir, &clean(part)), part)],
        (Some(part), []) => vec![(dir.clone(), part)],
        (None, many) => many.iter().map(|part| (join(&dir, &clean(part)), *part)).collect(),
    };
    let files = if payload.kept == Kept::All { files } else { files[..files.len() / 2].to_vec() };
    if root.has_file_above(&dir) || (single.is_none() && !dir.is_empty() && root.file(&dir).is_some()) {
        return Err(answer::must_be_directory(&dir));
    }
    let (Some(author), Some(email)) = (field("name"), field("email")) else {
        return Err(answer::bad_request("Name and email are required"));
    };
    let mut staged = Staged::new();
    for (path, part) in files {
        let path = normal(&path, "uploaded file")?;
        if clean(part).is_empty() {
            return Err(answer::bad_request("Invalid uploaded file: path cannot be empty"));
        }
        if root.has_file_above(&path) {
            return Err(answer::must_be_directory(&path));
        }
        if path.rsplit('/').next().is_some_and(|name| name.len() > PUT_NAME_MAX) {
            let title = "File name too long (os error 36)";
            return Err(answer::error(500, "internal_server_error", title, ""));
        }
        let content = payload.body.slice(part.content.clone());
        let size = content.len() as u64;
        let hash = repo.store(content);
        if root.file(&path).is_none_or(|file| file.hash != hash) {
            staged.insert(path, Change::Put { hash, size });
        }
    }
    if staged.is_empty() {
        return Err(answer::error(422, "no_changes", "No changes to commit", "nothing differs"));
    }
    let message = field("message").unwrap_or_else(|| "Auto-commit files".to_owned());
    repo.commit(&branch, &staged, Info { message, author, email })
}

/// The name as a PUT leaves it: without what no Windows file could have.
fn clean(part: &Part) -> String {
    let name = part.filename.clone().unwrap_or_else(|| "unnamed".to_owned());
    let kept = |c: &char| !c.is_control() && !"/?<>\\:*|\"".contains(*c);
    let name: String = name.chars().filter(kept).collect();
    if name.chars().all(|c| c == '.') { String::new() } else { name }
}

fn join(dir: &str, name: &str) -> String {
    if dir.is_empty() { name.to_owned() } else { format!("{dir}/{name}") }
}
