//! What steers the service from a browser, for whoever shows the page's key. A key in a header of its own is nothing that the
//! page of another site can send.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde_json::json;

/// Whether a key is the one, or why that is not known; may block.
pub type KeyCheck = Arc<dyn Fn(&str) -> Result<bool, String> + Send + Sync>;

/// What may be done from the page, and by whom.
#[derive(Clone)]
pub struct Steering {
    /// Looks at a key.
    pub check: KeyCheck,
    /// What is done, as over the service's socket.
    pub routes: Router,
}

/// `/api/steer` says whether there is a key; all below it wants the key, and `/api/steer/key` tries one.
pub(super) fn routes(steering: Option<Steering>) -> Router {
    let has_key = steering.is_some();
    let open = Router::new().route("/api/steer", get(async move || Json(json!({ "key": has_key }))));
    match steering {
        None => open,
        Some(Steering { check, routes }) => Router::new()
            .nest("/api/steer", routes.route("/key", get(async || StatusCode::NO_CONTENT)))
            .route_layer(from_fn_with_state(check, ask_for_key))
            .merge(open),
    }
}

async fn ask_for_key(State(check): State<KeyCheck>, request: Request, next: Next) -> Response {
    let Some(key) = shown(request.headers()) else {
        return refuse(StatusCode::UNAUTHORIZED, "the page's key is asked for");
    };
    match tokio::task::spawn_blocking(move || check(&key)).await {
        Ok(Ok(true)) => next.run(request).await,
        Ok(Ok(false)) => refuse(StatusCode::UNAUTHORIZED, "this is not the page's key"),
        Ok(Err(why)) => refuse(StatusCode::SERVICE_UNAVAILABLE, &why),
        Err(error) => refuse(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
    }
}

fn shown(headers: &HeaderMap) -> Option<String> {
    headers.get(header::AUTHORIZATION)?.to_str().ok()?.strip_prefix("Bearer ").map(str::to_owned)
}

/// As the service refuses over its socket.
fn refuse(status: StatusCode, error: &str) -> Response {
    let mut answer = (status, Json(json!({ "error": error }))).into_response();
    if status == StatusCode::UNAUTHORIZED {
        answer.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    answer
}
