//! The real server as what is behind a gate: requests are sent on, and their answers sent back.

use std::time::Duration;

use axum::body::Bytes;
use axum::http::Method;
use axum::http::header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, USER_AGENT};
use axum::http::request::Parts;
use futures_util::{StreamExt, stream};
use oxen_sync::oxen::Op;
use serde_json::Value;

use super::answer::Reply;
use super::call::Call;
use super::form;
use super::work::{Kept, Payload};

/// Headers of an answer that the client looks at.
const PASSED_ON: &[&str] = &["content-type", "retry-after", "oxen-version", "oxen-revision-id", "location"];

/// Where requests are sent on to.
pub(crate) struct Upstream {
    url: String,
    http: reqwest::Client,
}

impl Upstream {
    pub(crate) fn new(url: &str) -> Self {
        let http = reqwest::Client::builder()
            // A server that restarts leaves dead connections behind, and they are no fault that was asked for.
            .pool_max_idle_per_host(0)
            .redirect(reqwest::redirect::Policy::none())
            .timeout(Duration::from_secs(120))
            .build();
        Self { url: url.to_owned(), http: http.expect("the options are fine") }
    }

    /// Sends the beginning of a request, and leaves the server waiting for the rest for as long as the test takes.
    pub(crate) fn begin(&self, head: &Parts, call: &Call, beginning: Bytes) {
        let begun = stream::iter([Ok::<_, std::io::Error>(beginning)]).chain(stream::pending());
        let mut request = self.http.request(head.method.clone(), format!("{}{}", self.url, call.path));
        for name in [USER_AGENT, CONTENT_TYPE, AUTHORIZATION, CONTENT_LENGTH] {
            if let Some(value) = head.headers.get(&name) {
                request = request.header(name, value);
            }
        }
        let request = request.timeout(Duration::from_secs(600)).body(reqwest::Body::wrap_stream(begun));
        tokio::spawn(request.send());
    }

    /// The server's answer; `None` where it gives none.
    pub(crate) async fn answer(&self, method: Method, call: &Call, payload: Payload) -> Option<Reply> {
        let (mut body, mut lost) = (payload.body, Vec::new());
        if payload.kept != Kept::All && matches!(call.op, Some(Op::StageFiles | Op::PutFiles)) {
            (body, lost) = form::first_half(&payload.content_type, &body)?;
        }
        let mut request = self.http.request(method, format!("{}{}", self.url, call.path)).body(body);
        request = request.header(USER_AGENT, payload.agent);
        if !payload.content_type.is_empty() {
            request = request.header(CONTENT_TYPE, payload.content_type);
        }
        if let Some(key) = payload.key {
            request = request.header(AUTHORIZATION, key);
        }
        let answer = request.send().await.ok()?;
        let status = answer.status().as_u16();
        let headers = PASSED_ON.iter().filter_map(|name| {
            let value = answer.headers().get(*name)?.to_str().ok()?;
            Some(((*name).to_owned(), value.to_owned()))
        });
        let headers = headers.collect();
        let mut body = answer.bytes().await.ok()?;
        if payload.kept == Kept::HalfUnsaid && call.op == Some(Op::StageFiles) {
            body = speak_of(&body, call, lost)?;
        }
        Some(Reply { status, headers, body })
    }
}

/// An answer of success to staging that speaks of more files.
fn speak_of(body: &[u8], call: &Call, lost: Vec<String>) -> Option<Bytes> {
    let mut answer: Value = serde_json::from_slice(body).ok()?;
    let under = if call.rest.is_empty() { String::new() } else { format!("{}/", call.rest) };
    let lost = lost.into_iter().map(|name| Value::from(format!("{under}{name}")));
    answer["paths"].as_array_mut()?.extend(lost);
    Some(Bytes::from(answer.to_string()))
}
