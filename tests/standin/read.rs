//! Reading what a branch holds.

use std::sync::Arc;

use serde_json::{Value, json};

use super::answer::{self, Reply};
use super::call::Call;
use super::repo::{CommitMade, Repo};
use super::tree::{Dir, Node};

pub(crate) fn resolve(repo: &Repo, call: &Call) -> Result<(Arc<CommitMade>, String), Reply> {
    let resource = call.resource()?;
    let (commit, _, path) = repo.resolve(&resource).ok_or_else(|| answer::no_path(&resource))?;
    Ok((commit, path))
}

pub(crate) fn last_commit<'a>(repo: &'a Repo, node: &Node) -> Option<&'a Arc<CommitMade>> {
    repo.commits.get(match node {
        Node::File(file) => &file.commit,
        Node::Dir(dir) => &dir.commit,
    })
}

pub(crate) fn list_dir(repo: &Repo, call: &Call) -> Result<Reply, Reply> {
    let (commit, path) = resolve(repo, call)?;
    let dir: &Dir = commit.root.dir(&path).ok_or_else(|| answer::no_path(&path))?;
    let mut entries: Vec<_> = dir.children.iter().collect();
    entries.sort_by_key(|(name, node)| (matches!(node, Node::File(_)), name.to_string()));
    let (page, page_size) = page_of(call);
    let total = entries.len();
    let shown = entries.into_iter().skip(page_size.saturating_mul(page - 1)).take(page_size);
    let shown: Vec<Value> =
        shown.map(|(name, node)| answer::entry(name, node, last_commit(repo, node))).collect();
    Ok(answer::found(json!({ "dir": answer::dir_entry("", dir, None), "entries": shown, "page_number": page,
        "page_size": page_size, "total_pages": total.div_ceil(page_size), "total_entries": total })))
}

pub(crate) fn history(repo: &Repo, call: &Call) -> Result<Reply, Reply> {
    let (page, page_size) = page_of(call);
    let history = if repo.is_empty() {
        Vec::new()
    } else {
        let (commit, path) = resolve(repo, call)?;
        let history = repo.history(&commit);
        if path.is_empty() { history } else { Vec::new() }
    };
    let shown = history.iter().skip(page_size.saturating_mul(page - 1)).take(page_size);
    let shown: Vec<Value> = shown.map(|made| answer::commit(made)).collect();
    Ok(answer::found(json!({ "commits": shown, "page_number": page, "page_size": page_size,
        "total_pages": history.len().div_ceil(page_size), "total_entries": history.len() })))
}

fn page_of(call: &Call) -> (usize, usize) {
    (call.number("page").unwrap_or(1).max(1), call.number("page_size").unwrap_or(100).max(1))
}
