use std::net::SocketAddr;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use axum::body::Body;
use axum::extract::connect_info::Connected;
use axum::extract::{ConnectInfo, Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::serve::IncomingStream;
use axum::{Json, Router};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::history::SharedHistory;
use super::reports::Reports;
use super::steer::{self, Steering};
use super::{events, guard, metrics};
use crate::status::limit::{Lease, Limited};
use crate::status::socket::Reporter;

/// Connections at once, those of who reads events included.
const CONNECTIONS_MAX: usize = 64;
/// How long a connection may be silent before its first request.
const SILENCE_MAX: Duration = Duration::from_secs(5);
/// How long it lasts from its last request on.
pub(super) const REQUEST_TIME: Duration = Duration::from_secs(20);
/// Who reads events at once.
const READERS_MAX: usize = 16;

/// Where what is shown comes from.
#[derive(Clone)]
pub struct Source {
    /// Makes reports; may block.
    pub reporter: Reporter,
    /// The last day.
    pub history: SharedHistory,
}

#[derive(Clone)]
struct Page {
    reports: Arc<Reports>,
    history: SharedHistory,
    readers: Arc<Semaphore>,
    cancel: CancellationToken,
}

impl Connected<IncomingStream<'_, Limited<TcpListener>>> for Lease {
    fn connect_info(stream: IncomingStream<'_, Limited<TcpListener>>) -> Self {
        stream.io().lease()
    }
}

/// Answers until `cancel`. Without `steering`, nothing can be changed.
pub async fn serve(
    listener: TcpListener,
    listen: SocketAddr,
    source: Source,
    steering: Option<Steering>,
    cancel: CancellationToken,
) {
    let page = Page {
        reports: Arc::new(Reports::new(source.reporter)),
        history: source.history,
        readers: Arc::new(Semaphore::new(READERS_MAX)),
        cancel: cancel.clone(),
    };
    let app = Router::new()
        .route("/", get(|| asset("text/html; charset=utf-8", include_str!("assets/page.html"))))
        .route("/page.css", get(|| asset("text/css; charset=utf-8", include_str!("assets/page.css"))))
        .route("/page.js", get(|| asset("text/javascript; charset=utf-8", include_str!("assets/page.js"))))
        .route("/cards.js", get(|| asset("text/javascript; charset=utf-8", include_str!("assets/cards.js"))))
        .route("/dom.js", get(|| asset("text/javascript; charset=utf-8", include_str!("assets/dom.js"))))
        .route("/steer.js", get(|| asset("text/javascript; charset=utf-8", include_str!("assets/steer.js"))))
        .route("/plot.js", get(|| asset("text/javascript; charset=utf-8", include_str!("assets/plot.js"))))
        .route("/icon.svg", get(|| asset("image/svg+xml", include_str!("assets/icon.svg"))))
        .route("/events", get(read_events))
        .route("/api/status", get(status))
        .route("/api/history", get(past))
        .route("/metrics", get(figures))
        .with_state(page)
        .merge(steer::routes(steering))
        .fallback(async || (StatusCode::NOT_FOUND, "There is no such page.\n"))
        .layer(from_fn_with_state(listen, guard::guard));
    let listener = Limited::new(listener, CONNECTIONS_MAX, SILENCE_MAX);
    let served = axum::serve(listener, app.into_make_service_with_connect_info::<Lease>())
        .with_graceful_shutdown(async move { cancel.cancelled().await });
    if let Err(error) = served.await {
        tracing::warn!("the page failed: {error}");
    }
}

/// A part of the page. It is asked for anew each time: it is of the program that runs.
async fn asset(kind: &'static str, text: &'static str) -> Response {
    ([(header::CONTENT_TYPE, kind), (header::CACHE_CONTROL, "no-cache")], text).into_response()
}

async fn read_events(State(page): State<Page>, ConnectInfo(lease): ConnectInfo<Lease>) -> Response {
    let Ok(slot) = Arc::clone(&page.readers).try_acquire_owned() else {
        let retry = [(header::RETRY_AFTER, "10")];
        return (StatusCode::SERVICE_UNAVAILABLE, retry, "Too many look on by now.\n").into_response();
    };
    let events = Body::from_stream(events::stream(page.reports, lease, slot, page.cancel));
    ([(header::CONTENT_TYPE, "text/event-stream")], events).into_response()
}

async fn status(State(page): State<Page>) -> Response {
    match page.reports.latest().await {
        Ok(made) => ([(header::CONTENT_TYPE, "application/json")], made.json.clone()).into_response(),
        Err(reason) => failed(reason),
    }
}

async fn past(State(page): State<Page>, request: Request) -> Response {
    let folder = match request.uri().query().map(|query| query.strip_prefix("folder=").map(str::parse)) {
        None => None,
        Some(Some(Ok(number))) => Some(number),
        Some(_) => return (StatusCode::BAD_REQUEST, "Ask for ?folder=N.\n").into_response(),
    };
    let history = page.history.lock().unwrap_or_else(PoisonError::into_inner);
    match history.day(folder) {
        Some(day) => Json(day).into_response(),
        None => (StatusCode::NOT_FOUND, "There is no such folder.\n").into_response(),
    }
}

async fn figures(State(page): State<Page>) -> Response {
    match page.reports.latest().await {
        Ok(made) => {
            let kind = HeaderValue::from_static(metrics::CONTENT_TYPE);
            ([(header::CONTENT_TYPE, kind)], metrics::text(&made.report)).into_response()
        }
        Err(reason) => failed(reason),
    }
}

fn failed(reason: String) -> Response {
    (StatusCode::INTERNAL_SERVER_ERROR, reason).into_response()
}
