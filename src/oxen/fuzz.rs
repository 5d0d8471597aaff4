//! What a server may answer, right and wrong, given to everything that reads answers.

use proptest::prelude::*;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::answer::*;
use super::error::Op;
use super::reason;
use crate::path::is_printable;

/// Answers of oxen-server 0.65.2, one of each kind.
fn true_answers() -> Vec<Value> {
    let commit = json!({"id": "c0ffee", "parent_ids": ["beef"], "message": "m", "author": "a", "email": "e",
        "timestamp": "2026-01-01T10:00:00Z"});
    let file =
        json!({"filename": "a.txt", "hash": "abc", "is_dir": false, "size": 3, "latest_commit": commit});
    let dir = json!({"filename": "d", "hash": "0", "is_dir": true, "size": 3, "latest_commit": null});
    vec![
        json!({"status": "success", "branch": {"name": "main", "commit_id": "c0ffee"}}),
        json!({"status": "success", "branches": [{"name": "a/b", "commit_id": "c0ffee"}]}),
        json!({"status": "success", "commit": commit}),
        json!({"status": "success", "file": {"hash": "abc", "latest_commit": commit}}),
        json!({"status": "success", "commits": [commit, commit]}),
        json!({"status": "success", "workspace": {"id": "oxen-sync-1", "commit": commit}}),
        json!({"status": "success", "workspaces": [{"id": "w", "commit": commit}]}),
        json!({"status": "error", "status_message": "resource_not_found", "paths": ["a", "b/c"]}),
        json!({"status": "success", "entry": file}),
        json!({"status": "success", "entries": [dir, file], "total_pages": 1, "total_entries": 2}),
        json!({"status": "success", "file": "already_stored"}),
        json!({"status": "success", "file": "awaiting_parts", "upload_id": "5f1e-7", "part_size": 10, "num_parts": 2,
            "part_window": 4}),
        json!({"status": "success", "completed": true}),
        json!({"status": "error", "error": {"type": "no_changes", "title": "t", "detail": "d"}}),
        json!({"status": "error", "status_message": "m", "status_description": "Workspace not found: w"}),
    ]
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
        prop::sample::select(vec![
            "..",
            "../x",
            "",
            "success",
            "already_stored",
            "awaiting_parts",
            "f".repeat(33).leak()
        ])
        .prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 24, 4, |inner| {
        let key = prop_oneof![
            prop::sample::select(vec![
                "status",
                "branch",
                "branches",
                "commit",
                "commits",
                "id",
                "file",
                "entry",
                "entries",
                "paths",
                "workspace",
                "workspaces",
                "hash",
                "size",
                "is_dir",
                "filename",
                "name",
                "commit_id",
                "error",
            ])
            .prop_map(str::to_owned),
            any::<String>(),
        ];
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((key, inner), 0..4).prop_map(|fields| fields.into_iter().collect()),
        ]
    })
}

/// Every place in a value, as what leads to it.
fn places(value: &Value, at: &str, all: &mut Vec<String>) {
    all.push(at.to_owned());
    match value {
        Value::Object(fields) => {
            fields.iter().for_each(|(key, value)| places(value, &format!("{at}/{key}"), all));
        }
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(index, value)| places(value, &format!("{at}/{index}"), all));
        }
        _ => {}
    }
}

fn read<T: DeserializeOwned>(body: &[u8]) -> Option<T> {
    serde_json::from_slice(body).ok()
}

/// Whatever is taken for an answer keeps the promises that the rest of the program builds on.
fn take(body: &[u8]) -> Result<(), TestCaseError> {
    let commit_holds = |commit: &Commit| is_plain_id(&commit.id);
    let workspace_holds =
        |workspace: &Workspace| is_plain_id(&workspace.id) && is_plain_id(&workspace.commit_id);
    let entry_holds = |entry: &Entry| {
        entry.is_dir == entry.xxh3.is_none()
            && entry.size <= 1 << 60
            && entry.last_commit_id.as_deref().is_none_or(is_plain_id)
    };
    if let Some(BranchAnswer { branch }) = read(body) {
        prop_assert!(is_plain_id(&branch.commit_id));
    }
    if let Some(BranchesAnswer { branches }) = read(body) {
        prop_assert!(branches.iter().all(|branch| is_plain_id(&branch.commit_id)));
    }
    if let Some(commit) = read::<CommitAnswer>(body).and_then(CommitAnswer::into_commit) {
        prop_assert!(commit_holds(&commit));
    }
    if let Some(HistoryAnswer { commits }) = read(body) {
        prop_assert!(commits.iter().all(commit_holds));
    }
    if let Some(WorkspaceAnswer { workspace }) = read(body) {
        prop_assert!(workspace.into_workspace().iter().all(workspace_holds));
    }
    if let Some(WorkspacesAnswer { workspaces }) = read(body) {
        let workspaces: Vec<_> = workspaces.into_iter().filter_map(WorkspaceBody::into_workspace).collect();
        prop_assert!(workspaces.iter().all(workspace_holds));
    }
    if let Some(EntryAnswer { entry }) = read(body) {
        prop_assert!(entry_holds(&entry.into()));
    }
    if let Some(page) = read::<DirAnswer>(body).map(DirPage::from) {
        prop_assert!(page.entries.iter().all(entry_holds));
    }
    if let Some(UploadAnswer::AwaitingParts { upload_id, .. }) = read(body) {
        prop_assert!(is_plain_id(&upload_id));
    }
    let _ = (read::<PathsAnswer>(body), read::<PartAnswer>(body));
    for op in [Op::PutFiles, Op::MergeWorkspace, Op::PutPart, Op::ListDir] {
        for code in [200, 400, 404, 409, 413, 422, 429, 500] {
            let (_, message) = reason::sort(op, code, body);
            prop_assert!(is_printable(&message.replace('\\', "")) && message.len() < 20_000, "{message:?}");
        }
    }
    Ok(())
}

proptest! {
    #[test]
    fn any_bytes_are_an_answer_that_keeps_its_promises_or_none(body: Vec<u8>) {
        take(&body)?;
    }

    #[test]
    fn any_json_is_an_answer_that_keeps_its_promises_or_none(value in any_json()) {
        take(value.to_string().as_bytes())?;
    }

    #[test]
    fn a_true_answer_with_another_value_somewhere_keeps_its_promises_or_is_none(
        answer in prop::sample::select(true_answers()), place: prop::sample::Index, other in any_json(),
    ) {
        let mut answer = answer;
        let mut all = Vec::new();
        places(&answer, "", &mut all);
        if let Some(value) = answer.pointer_mut(&all[place.index(all.len())]) {
            *value = other;
        }
        take(answer.to_string().as_bytes())?;
    }

    #[test]
    fn a_true_answer_with_other_bytes_somewhere_keeps_its_promises_or_is_none(
        answer in prop::sample::select(true_answers()),
        cuts in prop::collection::vec((any::<prop::sample::Index>(), 0_usize..20, any::<Vec<u8>>()), 1..4),
    ) {
        let mut body = answer.to_string().into_bytes();
        for (place, len, insert) in cuts {
            let start = place.index(body.len() + 1);
            let end = (start + len).min(body.len());
            body.splice(start..end, insert);
        }
        take(&body)?;
    }
}

#[test]
fn the_true_answers_are_taken() {
    for answer in true_answers() {
        take(answer.to_string().as_bytes()).unwrap();
    }
    let [branch, .., completed, _, _] = &true_answers()[..] else { panic!("there are that many") };
    assert!(read::<BranchAnswer>(branch.to_string().as_bytes()).is_some());
    assert!(read::<PartAnswer>(completed.to_string().as_bytes()).is_some_and(|part| part.completed));
}
