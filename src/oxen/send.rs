//! Sending one request and reading its answer within bounds of size and time.

use std::collections::VecDeque;
use std::error::Error as StdError;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::TryStreamExt;
use futures_util::stream::{self, BoxStream, Stream};
use jiff::Timestamp;
use reqwest::header::{CONTENT_LENGTH, CONTENT_TYPE, DATE, HeaderMap, LOCATION, RETRY_AFTER};
use reqwest::{Method, Response, StatusCode, Url};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::{Instant, sleep_until, timeout, timeout_at};

use super::route::Route;
use super::{Client, Error, Kind, Op, Reason, client, reason};

/// The largest answer that lists things: 30,000 files are 25 MB.
pub(super) const LIST_LEN_MAX: usize = 64 << 20;
/// The largest other answer.
pub(super) const ANSWER_LEN_MAX: usize = 1 << 20;
/// What is read of a refusal; the rest is for nobody.
const REFUSAL_LEN_MAX: usize = 64 << 10;
/// The longest an answer may take to arrive once it has begun, however steadily it trickles.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(15 * 60);
/// Bodies go out in pieces of at most this size, so that progress shows on slow links.
const PIECE_LEN: usize = 128 << 10;

/// What a request carries.
pub(super) enum Body {
    /// Nothing.
    Empty,
    /// Pieces that are sent one behind the other, under a Content-Type.
    Chunks(String, Vec<Bytes>),
    /// So many bytes as they come, under a Content-Type.
    Stream(String, u64, BoxStream<'static, io::Result<Bytes>>),
}

impl Body {
    pub(super) fn json(value: &impl Serialize) -> Self {
        // The types serialised here are plain structs of strings and numbers, which always have a JSON form.
        let text = serde_json::to_vec(value).unwrap_or_default();
        // Exactly this type: creating a repository compares it by letter.
        Self::Chunks("application/json".to_owned(), vec![Bytes::from(text)])
    }
}

/// How far sending has come, seen by the watchdog while the connection pulls the body.
struct Progress {
    start: Instant,
    last_ms: AtomicU64,
    sent: AtomicBool,
}

impl Progress {
    fn touch(&self) {
        self.touch_at(Instant::now());
    }

    /// Something moves then, and until then nothing is to.
    fn touch_at(&self, at: Instant) {
        let ms = u64::try_from(at.saturating_duration_since(self.start).as_millis()).unwrap_or(u64::MAX);
        self.last_ms.fetch_max(ms, Ordering::Relaxed);
    }

    /// Ends once nothing has moved for `silence`.
    async fn stall(&self, silence: Duration) {
        loop {
            let deadline = self.start + Duration::from_millis(self.last_ms.load(Ordering::Relaxed)) + silence;
            if Instant::now() >= deadline {
                return;
            }
            sleep_until(deadline).await;
        }
    }
}

/// An answer of success whose body is not read yet.
pub(super) struct Answer {
    client: Client,
    op: Op,
    response: Response,
}

impl Client {
    /// Sends one request.
    ///
    /// # Errors
    /// Everything but an answer of success.
    pub(super) async fn send(
        &self,
        op: Op,
        method: Method,
        route: Route,
        body: Body,
    ) -> Result<Answer, Error> {
        let inner = &*self.inner;
        let Some(url) = route.url(&inner.base) else {
            return Err(self.unsendable(op, "a name in the address would lead to another page".to_owned()));
        };
        let progress = Arc::new(Progress {
            start: Instant::now(),
            last_ms: AtomicU64::new(0),
            sent: AtomicBool::new(matches!(body, Body::Empty)),
        });
        let mut request = inner.http.request(method, url);
        let body = match body {
            Body::Empty => None,
            Body::Chunks(content_type, chunks) => {
                let len = chunks.iter().map(|chunk| chunk.len() as u64).sum();
                Some((content_type, len, self.streamed(len, pieces(chunks), &progress)))
            }
            Body::Stream(content_type, len, pieces) => {
                Some((content_type, len, self.streamed(len, pieces, &progress)))
            }
        };
        if let Some((content_type, len, body)) = body {
            request = request.header(CONTENT_TYPE, content_type).header(CONTENT_LENGTH, len).body(body);
            if len == 0 {
                progress.sent.store(true, Ordering::Relaxed);
            }
        }
        let response = tokio::select! {
            biased;
            response = request.send() => response,
            () = progress.stall(inner.silence) => {
                return Err(self.stalled(op, progress.sent.load(Ordering::Relaxed)));
            }
        };
        let sent = progress.sent.load(Ordering::Relaxed);
        let took_ms = u64::try_from(progress.start.elapsed().as_millis()).unwrap_or(u64::MAX);
        let response = response.map_err(|error| self.transport(op, &error, sent))?;
        let status = response.status();
        tracing::debug!(request = %op, status = status.as_u16(), took_ms, "the server has answered");
        if status.is_success() {
            return Ok(Answer { client: self.clone(), op, response });
        }
        let to = redirect_target(&inner.base, status, response.headers());
        if let Some(to) = to {
            return Err(self.error(op, Kind::Redirect, to));
        }
        let retry_after = retry_after(response.headers(), Timestamp::now());
        let answer = Answer { client: self.clone(), op, response };
        let body = answer.read_head(REFUSAL_LEN_MAX).await?;
        let (reason, message) = reason::sort(op, status.as_u16(), &body);
        Err(self.error(op, Kind::Status { code: status.as_u16(), reason, retry_after }, message))
    }

    /// A body of `len` bytes, held to the limit where there is one.
    fn streamed(
        &self,
        len: u64,
        pieces: impl Stream<Item = io::Result<Bytes>> + Send + 'static,
        progress: &Arc<Progress>,
    ) -> reqwest::Body {
        let Some(limit) = &self.inner.limit else {
            return reqwest::Body::wrap_stream(noted(len, pieces, progress.clone()));
        };
        let waiting = progress.clone();
        let held = limit.hold(pieces, move |until| waiting.touch_at(until));
        reqwest::Body::wrap_stream(noted(len, held, progress.clone()))
    }

    /// An error about an answer, so the request has arrived.
    pub(super) fn error(&self, op: Op, kind: Kind, message: String) -> Error {
        Error::new(op, &self.inner.host, kind, message, true)
    }

    /// An error about what the caller gave, in words that can be shown; nothing was sent.
    pub(super) fn unsendable(&self, op: Op, message: String) -> Error {
        Error::new(op, &self.inner.host, Kind::Unsendable, message, false)
    }

    fn stalled(&self, op: Op, sent: bool) -> Error {
        let message = format!("no byte moved for {} s", self.inner.silence.as_secs());
        Error::new(op, &self.inner.host, Kind::Timeout, message, sent)
    }

    fn transport(&self, op: Op, error: &reqwest::Error, sent: bool) -> Error {
        let kind = if error.is_builder() {
            Kind::Unsendable
        } else if error.is_connect() {
            if is_tls(error) { Kind::Tls } else { Kind::Connect }
        } else if error.is_timeout() {
            Kind::Timeout
        } else {
            Kind::Broken
        };
        let sent = sent && matches!(kind, Kind::Timeout | Kind::Broken);
        Error::new(op, &self.inner.host, kind, innermost(error), sent)
    }
}

impl Answer {
    pub(super) fn status(&self) -> StatusCode {
        self.response.status()
    }

    pub(super) fn headers(&self) -> &HeaderMap {
        self.response.headers()
    }

    pub(super) fn content_length(&self) -> Option<u64> {
        self.response.content_length()
    }

    /// The next piece of the body; `None` at its end.
    pub(super) async fn chunk(&mut self) -> Result<Option<Bytes>, Error> {
        let silence = self.client.inner.silence;
        match timeout(silence, self.response.chunk()).await {
            Ok(chunk) => chunk.map_err(|error| self.client.transport(self.op, &error, true)),
            Err(_) => Err(self.client.stalled(self.op, true)),
        }
    }

    /// The whole body, of at most `len_max` bytes.
    async fn read(self, len_max: usize) -> Result<Bytes, Error> {
        let (client, op) = (self.client.clone(), self.op);
        let body = self.read_head(len_max + 1).await?;
        if body.len() > len_max {
            let message = format!("an answer of more than {len_max} bytes");
            return Err(client.error(op, Kind::Malformed, message));
        }
        Ok(body)
    }

    /// The first `len` bytes of the body, or all of a shorter one.
    async fn read_head(mut self, len: usize) -> Result<Bytes, Error> {
        let deadline = Instant::now() + ANSWER_TIME_MAX;
        let mut body = BytesMut::new();
        loop {
            let Ok(chunk) = timeout_at(deadline, self.chunk()).await else {
                return Err(self.client.error(self.op, Kind::Timeout, "the answer does not end".to_owned()));
            };
            let Some(chunk) = chunk? else { return Ok(body.freeze()) };
            body.extend_from_slice(&chunk);
            if body.len() >= len {
                body.truncate(len);
                return Ok(body.freeze());
            }
        }
    }

    /// The body as JSON that says `"status": "success"`.
    pub(super) async fn json<T: DeserializeOwned>(self, len_max: usize) -> Result<T, Error> {
        let (client, op, code) = (self.client.clone(), self.op, self.status().as_u16());
        let body = self.read(len_max).await?;
        if let Ok(Status { status: Some(status) }) = serde_json::from_slice::<Status>(&body)
            && status != "success"
        {
            let (reason, message) = reason::sort(op, code, &body);
            return Err(client.error(op, Kind::Status { code, reason, retry_after: None }, message));
        }
        parse(&client, op, &body)
    }

    /// The body as JSON, whatever it says of success.
    pub(super) async fn any_json<T: DeserializeOwned>(self, len_max: usize) -> Result<T, Error> {
        let (client, op) = (self.client.clone(), self.op);
        let body = self.read(len_max).await?;
        parse(&client, op, &body)
    }
}

#[derive(serde::Deserialize)]
struct Status {
    status: Option<String>,
}

fn parse<T: DeserializeOwned>(client: &Client, op: Op, body: &[u8]) -> Result<T, Error> {
    serde_json::from_slice(body)
        .map_err(|error| client.error(op, Kind::Malformed, reason::one_line(&error.to_string())))
}

/// The chunks in order, large ones sliced.
fn pieces(chunks: Vec<Bytes>) -> impl Stream<Item = io::Result<Bytes>> + Send + 'static {
    let mut chunks = VecDeque::from(chunks);
    chunks.retain(|chunk| !chunk.is_empty());
    stream::iter(std::iter::from_fn(move || {
        let chunk = chunks.front_mut()?;
        let piece = chunk.split_to(chunk.len().min(PIECE_LEN));
        if chunk.is_empty() {
            chunks.pop_front();
        }
        Some(Ok(piece))
    }))
}

/// A stream of `len` bytes, each piece noted as progress when the connection takes it.
fn noted(
    len: u64,
    pieces: impl Stream<Item = io::Result<Bytes>> + Send + 'static,
    progress: Arc<Progress>,
) -> impl Stream<Item = io::Result<Bytes>> + Send + 'static {
    let mut left = len;
    pieces.inspect_ok(move |piece| {
        left = left.saturating_sub(piece.len() as u64);
        progress.touch();
        if left == 0 {
            progress.sent.store(true, Ordering::Relaxed);
        }
    })
}

/// Where a redirect leads, without anything but the host.
fn redirect_target(base: &Url, status: StatusCode, headers: &HeaderMap) -> Option<String> {
    if !status.is_redirection() {
        return None;
    }
    let location = headers.get(LOCATION).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let target = base.join(location).ok().map(|url| format!("{}://{}", url.scheme(), client::host(&url)));
    Some(reason::one_line(&target.unwrap_or_default()))
}

/// Retry-After in seconds or as a date, as a wait from `now`.
fn retry_after(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let at = jiff::fmt::rfc2822::parse(text).ok()?.timestamp();
    // Our clock may be a year off.
    Some(Duration::try_from(at.duration_since(time_of(headers, now))).unwrap_or_default())
}

/// The time of the server that answers, which it asks to be waited until by; ours where it does not say.
fn time_of(headers: &HeaderMap, ours: Timestamp) -> Timestamp {
    let date = headers.get(DATE).and_then(|date| date.to_str().ok());
    date.and_then(|date| jiff::fmt::rfc2822::parse(date).ok()).map_or(ours, |date| date.timestamp())
}

/// Whether TLS failed.
fn is_tls(error: &reqwest::Error) -> bool {
    causes(error).any(<dyn StdError>::is::<rustls::Error>)
}

/// The causes from the outside in. An I/O error's `source` leaves out the error that it wraps.
fn causes(error: &reqwest::Error) -> impl Iterator<Item = &(dyn StdError + 'static)> {
    std::iter::successors(error.source(), |cause| match cause.downcast_ref::<io::Error>() {
        Some(io) => io.get_ref().map(|inner| inner as &(dyn StdError + 'static)),
        None => (**cause).source(),
    })
}

/// What the innermost cause says; the outer ones repeat the URL and the layers.
fn innermost(error: &reqwest::Error) -> String {
    let text = causes(error).last().map(ToString::to_string).unwrap_or_default();
    let text = text.split(" (os error").next().unwrap_or_default();
    let mut chars = text.chars();
    let lower = chars.next().map(|c| c.to_ascii_lowercase()).into_iter().chain(chars).collect::<String>();
    reason::one_line(&lower)
}

/// Whether the server itself says that there is no such thing; a proxy's 404 does not count.
pub(super) fn is_absent(error: &Error, also: Reason) -> bool {
    error.code() == Some(404) && (error.reason() == Reason::NotFound || error.reason() == also)
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::StreamExt;
    use reqwest::header::HeaderValue;

    #[test]
    fn retry_after_is_read_in_both_forms() {
        let now = jiff::fmt::rfc2822::parse("Sun, 06 Nov 1994 08:49:37 GMT").unwrap().timestamp();
        let wait = |text: &'static str| {
            retry_after(&HeaderMap::from_iter([(RETRY_AFTER, HeaderValue::from_static(text))]), now)
        };
        assert_eq!(wait("5"), Some(Duration::from_secs(5)));
        assert_eq!(wait("Sun, 06 Nov 1994 08:49:47 GMT"), Some(Duration::from_secs(10)));
        assert_eq!(wait("Sun, 06 Nov 1994 08:00:00 GMT"), Some(Duration::ZERO));
        assert_eq!(wait("soon"), None);
        assert_eq!(retry_after(&HeaderMap::new(), now), None);
        let at_the_server = |text: &'static str| (DATE, HeaderValue::from_static(text));
        let until = (RETRY_AFTER, HeaderValue::from_static("Mon, 06 Nov 1995 08:49:47 GMT"));
        let headers = HeaderMap::from_iter([until, at_the_server("Mon, 06 Nov 1995 08:49:37 GMT")]);
        assert_eq!(retry_after(&headers, now), Some(Duration::from_secs(10)), "our clock is a year behind");
    }

    #[test]
    fn a_redirect_names_only_the_host() {
        let base = "http://host:3000".parse().unwrap();
        let location = HeaderValue::from_static("https://user:s3cret@other.example/x?token=1");
        let headers = HeaderMap::from_iter([(LOCATION, location)]);
        let found = redirect_target(&base, StatusCode::FOUND, &headers);
        assert_eq!(found.as_deref(), Some("https://other.example"));
        assert_eq!(redirect_target(&base, StatusCode::OK, &headers), None);
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_drips_for_ever_has_an_end() {
        let client = Client::new(crate::oxen::ClientOptions {
            url: "http://localhost".parse().unwrap(),
            key: None,
            proxy: None,
            ca_pem: None,
            connect_timeout: Duration::from_secs(1),
            silence_timeout: Duration::from_secs(300),
            limit: None,
        })
        .unwrap();
        let drops = stream::repeat(()).then(async |()| {
            tokio::time::sleep(Duration::from_secs(60)).await;
            Ok::<_, io::Error>(Bytes::from_static(b" "))
        });
        let response = axum::http::Response::new(reqwest::Body::wrap_stream(drops));
        let answer = Answer { client, op: Op::ListDir, response: Response::from(response) };
        let start = Instant::now();
        let error = answer.json::<serde::de::IgnoredAny>(LIST_LEN_MAX).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Timeout, "{error:?}");
        assert!(error.to_string().contains("does not end"), "{error}");
        assert_eq!(start.elapsed(), ANSWER_TIME_MAX);
    }

    #[tokio::test]
    async fn a_body_goes_out_in_pieces_that_are_noted() {
        let progress = Arc::new(Progress {
            start: Instant::now(),
            last_ms: AtomicU64::new(0),
            sent: AtomicBool::new(false),
        });
        let large = Bytes::from(vec![1; PIECE_LEN * 2 + 1]);
        let len = large.len() as u64 + 4;
        let pieces = pieces(vec![Bytes::from_static(b"head"), large, Bytes::new()]);
        let mut pieces = noted(len, pieces, progress.clone());
        let mut lens = Vec::new();
        while let Some(piece) = pieces.next().await {
            lens.push(piece.unwrap().len());
            assert_eq!(progress.sent.load(Ordering::Relaxed), lens.len() == 4);
        }
        assert_eq!(lens, [4, PIECE_LEN, PIECE_LEN, 1]);
    }

    #[tokio::test(start_paused = true)]
    async fn the_wait_for_a_limit_is_no_silence() {
        let progress = Arc::new(Progress {
            start: Instant::now(),
            last_ms: AtomicU64::new(0),
            sent: AtomicBool::new(false),
        });
        let limit = crate::oxen::RateLimit::new(std::num::NonZeroU64::new(100));
        let waiting = progress.clone();
        // Each piece, of 1 KiB, takes ten times as long as a silence may.
        let held =
            limit.hold(pieces(vec![Bytes::from(vec![1; 4 << 10])]), move |until| waiting.touch_at(until));
        let sent =
            noted(4 << 10, held, progress.clone()).try_fold(0, async |sum, piece| Ok(sum + piece.len()));
        let sent = tokio::select! {
            sent = sent => sent.unwrap(),
            () = progress.stall(Duration::from_secs(1)) => panic!("it is taken for hung"),
        };
        assert_eq!(sent, 4 << 10);
        assert!(progress.start.elapsed() >= Duration::from_secs(30));
        progress.stall(Duration::from_secs(1)).await;
    }
}
