//! Sorting what a body says that is not a success.

use serde_json::Value;

use super::{Op, Reason};
use crate::path::printable;

/// The longest message taken from a body, in characters.
const MESSAGE_LEN_MAX: usize = 300;

/// What of a body is looked at: a value in memory takes far more than the two bytes that it can have in JSON.
const BODY_LEN_MAX: usize = 64 << 10;

/// Why an answer of `code` is not a success, and a short printable line for a person.
pub(super) fn sort(op: Op, code: u16, body: &[u8]) -> (Reason, String) {
    let body = body.get(..BODY_LEN_MAX).unwrap_or(body);
    match serde_json::from_slice::<Value>(body) {
        Ok(Value::Object(fields)) => {
            let said = Said::new(&fields);
            (said.reason(op, code), one_line(said.best()))
        }
        _ => {
            let text = String::from_utf8_lossy(body);
            let reason = match text.trim() {
                _ if code == 413 => Reason::PayloadTooLarge,
                "Payload error" if code == 400 => Reason::PayloadTooLarge,
                _ => Reason::Other,
            };
            (reason, one_line(plain_text(&text)))
        }
    }
}

/// The places where the server puts words, in several shapes.
struct Said<'a> {
    kind: &'a str,
    title: &'a str,
    detail: &'a str,
    message: &'a str,
    description: &'a str,
}

impl<'a> Said<'a> {
    fn new(fields: &'a serde_json::Map<String, Value>) -> Self {
        let text = |value: Option<&'a Value>| value.and_then(Value::as_str).unwrap_or_default();
        let error = fields.get("error");
        let error_text = |name| text(error.and_then(|error| error.get(name)));
        Self {
            kind: error_text("type"),
            title: error_text("title"),
            detail: if error_text("detail").is_empty() { text(error) } else { error_text("detail") },
            message: text(fields.get("status_message")),
            description: text(fields.get("status_description")),
        }
    }

    fn best(&self) -> &'a str {
        [self.detail, self.description, self.title, self.message]
            .into_iter()
            .find(|text| !text.is_empty())
            .unwrap_or_default()
    }

    fn reason(&self, op: Op, code: u16) -> Reason {
        match self.kind {
            "no_changes" => return Reason::NoChanges,
            "commit_id_taken" => return Reason::CommitIdTaken,
            "branch_head_mismatch" => return Reason::BranchHeadMismatch,
            "lock_timeout" => return Reason::LockTimeout,
            "upload_part_deferred" => return Reason::PartDeferred,
            "not_a_directory" => return Reason::TargetMustBeDirectory,
            "conflict" if self.title == "Workspace is behind" => return Reason::Conflict,
            _ => {}
        }
        match code {
            413 => Reason::PayloadTooLarge,
            422 if self.message == "NoChanges" => Reason::NoChanges,
            400 if self.message.starts_with("Branch not found") => Reason::BranchNotFound,
            400 if self.detail.starts_with("Target path must be a directory") => {
                Reason::TargetMustBeDirectory
            }
            400 if self.is_refused_path() => Reason::PathRefused,
            400 if op == Op::PutPart && self.description.contains(" bytes hash to ") => Reason::HashMismatch,
            404 => self.missing(op),
            500 if self.best().contains("File name too long") => Reason::NameTooLong,
            _ => Reason::Other,
        }
    }

    fn is_refused_path(&self) -> bool {
        ["it is inside a .oxen directory", "it has a `..` component", "it is absolute"]
            .iter()
            .any(|why| self.best().contains(why))
    }

    /// What is missing. An answer that is not the server's own says nothing about it.
    fn missing(&self, op: Op) -> Reason {
        if self.title == "Workspace does not exist" || self.description.starts_with("Workspace not found") {
            return Reason::WorkspaceNotFound;
        }
        if self.title == "Branch does not exist" {
            return Reason::BranchNotFound;
        }
        if self.description.starts_with("Repository '") {
            return Reason::RepoNotFound;
        }
        if self.description.starts_with("Version upload ") {
            return Reason::UploadNotFound;
        }
        match op {
            _ if self.message != "resource_not_found" => Reason::Other,
            // A PUT makes every directory, so only the branch can be missing; a commit checks the
            // workspace first and then describes the branch by its bare name.
            Op::PutFiles | Op::MergeWorkspace => Reason::BranchNotFound,
            _ => Reason::NotFound,
        }
    }
}

/// What a person can read of a body that is not JSON.
fn plain_text(text: &str) -> &str {
    if !text.trim_start().starts_with('<') {
        return text;
    }
    let lower = text.to_ascii_lowercase();
    let title = lower.find("<title>").map(|at| at + "<title>".len());
    title.and_then(|from| lower[from..].find('<').map(|len| &text[from..from + len])).unwrap_or_default()
}

/// One printable line of bounded length.
pub(super) fn one_line(text: &str) -> String {
    let words = text.split_whitespace().take(MESSAGE_LEN_MAX).collect::<Vec<_>>().join(" ");
    let mut chars = words.chars();
    let mut line: String = chars.by_ref().take(MESSAGE_LEN_MAX).collect();
    if chars.next().is_some() {
        line.push('…');
    }
    printable(&line)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn sort_json(op: Op, code: u16, body: &Value) -> Reason {
        sort(op, code, body.to_string().as_bytes()).0
    }

    #[test]
    fn every_shape_of_the_server_is_known() {
        let error = |kind: &str, title: &str, detail: &str| {
            json!({"error": {"type": kind, "title": title, "detail": detail}, "status": "error",
                "status_message": "resource_not_found"})
        };
        let message =
            |text: &str| json!({"status": "error", "status_message": text, "oxen_version": "0.65.2"});
        let described = |status: &str, text: &str| json!({"status": "error", "status_message": status, "status_description": text});
        let table = [
            (Op::PutFiles, 422, error("no_changes", "No changes to commit", "…"), Reason::NoChanges),
            (Op::MergeWorkspace, 422, message("NoChanges"), Reason::NoChanges),
            (Op::PutFiles, 429, error("commit_id_taken", "", ""), Reason::CommitIdTaken),
            (Op::PutFiles, 429, error("branch_head_mismatch", "", ""), Reason::BranchHeadMismatch),
            (Op::PutFiles, 429, error("lock_timeout", "", ""), Reason::LockTimeout),
            (Op::PutPart, 429, error("upload_part_deferred", "", ""), Reason::PartDeferred),
            (Op::MergeWorkspace, 409, error("conflict", "Workspace is behind", "…"), Reason::Conflict),
            (Op::MergeWorkspace, 409, error("conflict", "Merge conflict", "…"), Reason::Other),
            (
                Op::PutFiles,
                400,
                error("bad_request", "Bad Request", "Target path must be a directory: a/b"),
                Reason::TargetMustBeDirectory,
            ),
            (
                Op::OpenWorkspace,
                400,
                message("Branch not found: x. For non-empty repositories, create the branch first."),
                Reason::BranchNotFound,
            ),
            (
                Op::ReadBranch,
                404,
                error("resource_not_found", "Branch does not exist", "…"),
                Reason::BranchNotFound,
            ),
            (
                Op::PutFiles,
                404,
                error("resource_not_found", "Path does not exist", "…"),
                Reason::BranchNotFound,
            ),
            (Op::ReadEntry, 404, error("resource_not_found", "Path does not exist", "…"), Reason::NotFound),
            (
                Op::MergeWorkspace,
                404,
                described("resource_not_found", "Workspace not found: w"),
                Reason::WorkspaceNotFound,
            ),
            (
                Op::BeginUpload,
                404,
                error("resource_not_found", "Workspace does not exist", "…"),
                Reason::WorkspaceNotFound,
            ),
            (Op::MergeWorkspace, 404, described("resource_not_found", "main"), Reason::BranchNotFound),
            (
                Op::ReadEntry,
                404,
                described("resource_not_found", "Repository 'a/b' not found"),
                Reason::RepoNotFound,
            ),
            (
                Op::PutPart,
                404,
                described("resource_not_found", "Version upload 7 not found"),
                Reason::UploadNotFound,
            ),
            (
                Op::PutPart,
                400,
                described(
                    "bad_request",
                    "Version upload refused: the file's 9 bytes hash to 1, not 2 (upload 7)",
                ),
                Reason::HashMismatch,
            ),
            (
                Op::StageFiles,
                400,
                error(
                    "bad_request",
                    "Bad Request",
                    "Invalid staging path (…): it is inside a .oxen directory",
                ),
                Reason::PathRefused,
            ),
            (
                Op::PutFiles,
                500,
                json!({"error": {"type": "internal_server_error", "title": "File name too long (os error 36)"},
                    "status": "error", "status_message": "internal_server_error"}),
                Reason::NameTooLong,
            ),
            (Op::ReadEntry, 404, message("resource_not_found"), Reason::NotFound),
            (Op::ReadEntry, 404, json!({"message": "no Route matched"}), Reason::Other),
            (Op::PutFiles, 403, json!({"error": "forbidden"}), Reason::Other),
        ];
        for (op, code, body, expected) in table {
            assert_eq!(sort_json(op, code, &body), expected, "{op:?} {code} {body}");
        }
    }

    #[test]
    fn plain_and_html_bodies_are_sorted_too() {
        assert_eq!(
            sort(Op::PutFiles, 400, b"Payload error"),
            (Reason::PayloadTooLarge, "Payload error".into())
        );
        let html = b"<html>\r\n<head><title>502 Bad Gateway</title></head>\r\n<body>nginx</body></html>";
        assert_eq!(sort(Op::PutFiles, 502, html), (Reason::Other, "502 Bad Gateway".into()));
        assert_eq!(sort(Op::PutFiles, 413, b"<html>"), (Reason::PayloadTooLarge, String::new()));
        assert_eq!(sort(Op::ReadEntry, 404, b"404 page not found").0, Reason::Other);
        assert_eq!(sort(Op::PutFiles, 500, b""), (Reason::Other, String::new()));
    }

    #[test]
    fn a_message_is_one_short_printable_line() {
        let body = json!({"error": {"detail": format!("a\n\u{1b}[31mb {}", "x".repeat(9999))}});
        let (_, message) = sort(Op::PutFiles, 500, body.to_string().as_bytes());
        assert!(message.starts_with("a \\u{1b}[31mb xxx"), "{message}");
        assert!(message.ends_with('…') && message.chars().count() < 320, "{message}");
    }
}
