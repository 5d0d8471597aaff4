//! The shapes of the real server's answers.

use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderName, HeaderValue, Response, StatusCode};
use serde_json::{Value, json};

use super::repo::CommitMade;
use super::tree::{Dir, File, Node};

/// What the server says it is.
pub(crate) const VERSION: &str = "0.65.2";

/// An answer before it goes out.
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Bytes,
}

impl Reply {
    pub(crate) fn text(status: u16, text: impl Into<String>) -> Self {
        let headers = vec![("content-type".to_owned(), "text/plain; charset=utf-8".to_owned())];
        Self { status, headers, body: Bytes::from(text.into()) }
    }

    pub(crate) fn bytes(bytes: Bytes) -> Self {
        let headers = vec![("content-type".to_owned(), "application/octet-stream".to_owned())];
        Self { status: 200, headers, body: bytes }
    }

    fn json(status: u16, body: &Value) -> Self {
        let headers = vec![("content-type".to_owned(), "application/json".to_owned())];
        Self { status, headers, body: Bytes::from(body.to_string()) }
    }

    fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The answer with `body` in place of its own, for streams.
    pub(crate) fn into_response(self, body: Body) -> Response<Body> {
        let mut response = Response::new(body);
        *response.status_mut() = StatusCode::from_u16(self.status).expect("a valid status");
        let headers = response.headers_mut();
        headers.insert("oxen-version", HeaderValue::from_static(VERSION));
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        for (name, value) in self.headers {
            let name = HeaderName::try_from(name).expect("a valid header name");
            headers.insert(name, HeaderValue::try_from(value).expect("a valid header value"));
        }
        response
    }
}

/// Success, with more fields.
pub(crate) fn found(fields: Value) -> Reply {
    success(200, "resource_found", fields)
}

/// Success of something that changed the server.
pub(crate) fn created(fields: Value) -> Reply {
    success(200, "resource_created", fields)
}

fn success(status: u16, message: &str, mut fields: Value) -> Reply {
    fields["status"] = "success".into();
    fields["status_message"] = message.into();
    fields["oxen_version"] = VERSION.into();
    Reply::json(status, &fields)
}

/// 206: the removals that found nothing, in the shape of a failure.
pub(crate) fn removed_but(paths: &[String]) -> Reply {
    Reply::json(
        206,
        &json!({ "status": "error", "status_message": "resource_not_found",
        "oxen_version": VERSION, "paths": paths }),
    )
}

/// A failure in the shape with an `error` object.
pub(crate) fn error(status: u16, kind: &str, title: &str, detail: &str) -> Reply {
    let message = match status {
        404 => "resource_not_found",
        409 => "conflict",
        429 => "too_many_requests",
        500 => "internal_server_error",
        _ => "bad_request",
    };
    let error = json!({ "type": kind, "title": title, "detail": detail });
    Reply::json(status, &json!({ "status": "error", "status_message": message, "error": error }))
}

/// A failure in the shape with a bare message.
pub(crate) fn message(status: u16, message: &str) -> Reply {
    Reply::json(status, &json!({ "status": "error", "status_message": message, "oxen_version": VERSION }))
}

/// A failure in the shape with a description.
pub(crate) fn described(status: u16, description: &str) -> Reply {
    let message = if status == 404 { "resource_not_found" } else { "bad_request" };
    Reply::json(
        status,
        &json!({ "status": "error", "status_message": message, "oxen_version": VERSION,
            "status_description": description }),
    )
}

pub(crate) fn bad_request(detail: &str) -> Reply {
    error(400, "bad_request", "Bad Request", detail)
}

pub(crate) fn must_be_directory(path: &str) -> Reply {
    bad_request(&format!("Target path must be a directory: {path}"))
}

pub(crate) fn no_path(path: &str) -> Reply {
    error(404, "resource_not_found", "Path does not exist", &format!("Could not find path: {path}"))
}

pub(crate) fn no_branch(branch: &str) -> Reply {
    error(404, "resource_not_found", "Branch does not exist", &format!("Could not find branch: {branch}"))
}

pub(crate) fn no_repo(repo: &str) -> Reply {
    described(404, &format!("Repository '{repo}' not found"))
}

pub(crate) fn no_workspace(id: &str) -> Reply {
    described(404, &format!("Workspace not found: {id}"))
}

pub(crate) fn too_many(kind: &str, detail: &str, retry_after_s: u64) -> Reply {
    error(429, kind, "Too many requests", detail).header("retry-after", &retry_after_s.to_string())
}

pub(crate) fn commit(commit: &CommitMade) -> Value {
    json!({ "id": &*commit.id, "parent_ids": commit.parent.iter().map(|id| &**id).collect::<Vec<_>>(),
        "message": commit.message, "author": commit.author, "email": commit.email,
        "timestamp": commit.time.to_string() })
}

/// One entry of a listing.
pub(crate) fn entry(name: &str, node: &Node, latest: Option<&Arc<CommitMade>>) -> Value {
    match node {
        Node::File(file) => file_entry(name, file, latest),
        Node::Dir(dir) => dir_entry(name, dir, latest),
    }
}

fn file_entry(name: &str, file: &File, latest: Option<&Arc<CommitMade>>) -> Value {
    json!({ "filename": name, "hash": format!("{:x}", file.hash), "is_dir": false, "size": file.size,
        "latest_commit": latest.map(|made| commit(made)), "data_type": "binary",
        "mime_type": "application/octet-stream", "extension": "", "metadata": null, "is_queryable": null })
}

pub(crate) fn dir_entry(name: &str, dir: &Dir, latest: Option<&Arc<CommitMade>>) -> Value {
    json!({ "filename": name, "hash": "0", "is_dir": true, "size": dir.size(),
        "latest_commit": latest.map(|made| commit(made)), "data_type": "dir",
        "mime_type": "inode/directory", "extension": "", "metadata": null, "is_queryable": null })
}
