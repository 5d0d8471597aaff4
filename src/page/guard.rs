//! Who may ask, and what a browser may do with the answer.

use std::net::{IpAddr, SocketAddr};

use axum::extract::{ConnectInfo, Request, State};
use axum::http::uri::Authority;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::server::REQUEST_TIME;
use crate::status::limit::Lease;

/// A page that is all of it from here, in no frame of another, and that runs no script written into it.
const HEADERS: [(HeaderName, &str); 6] = [
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'self'; object-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::REFERRER_POLICY, "no-referrer"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
];

/// Lets a request through that names this machine, and writes the headers of every answer.
pub(super) async fn guard(
    State(listen): State<SocketAddr>,
    ConnectInfo(lease): ConnectInfo<Lease>,
    request: Request,
    next: Next,
) -> Response {
    lease.extend(REQUEST_TIME);
    let named = request.headers().get(header::HOST).map(HeaderValue::to_str);
    let in_uri = request.uri().authority().map(Authority::as_str);
    let is_ours = match named {
        Some(Ok(host)) => is_ours(host, listen) && in_uri.is_none_or(|host| is_ours(host, listen)),
        Some(Err(_)) | None => false,
    };
    let mut answer = if is_ours {
        next.run(request).await
    } else {
        let why = "Ask for this page by its address or by the name localhost. Any other name may belong to a page that \
                   means to read this one.\n";
        (StatusCode::FORBIDDEN, why).into_response()
    };
    for (name, value) in HEADERS {
        answer.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    // What is told is of this moment.
    answer.headers_mut().entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    answer
}

/// Whether a host is one by which this machine is asked for: a name that someone else's name server can point here is not.
/// The port says nothing: a tunnel may have another.
fn is_ours(host: &str, listen: SocketAddr) -> bool {
    let Ok(authority) = host.parse::<Authority>() else { return false };
    if authority.as_str().contains('@') {
        return false;
    }
    let host = authority.host();
    if host.eq_ignore_ascii_case("localhost") {
        return true;
    }
    let Ok(ip) = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>() else { return false };
    let ip = ip.to_canonical();
    let listens_at = listen.ip().to_canonical();
    // Where every address of the machine is listened at, any may be meant; an address is nobody else's name.
    ip.is_loopback() || ip == listens_at || listens_at.is_unspecified()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_who_names_this_machine_is_let_in() {
        let table = [
            ("127.0.0.1:7710", "localhost", true),
            ("127.0.0.1:7710", "LOCALHOST:7710", true),
            ("127.0.0.1:7710", "127.0.0.1:8080", true),
            ("127.0.0.1:7710", "[::1]:7710", true),
            ("127.0.0.1:7710", "127.8.9.1", true),
            ("127.0.0.1:7710", "evil.example", false),
            ("127.0.0.1:7710", "evil.example:7710", false),
            ("127.0.0.1:7710", "localhost.evil.example", false),
            ("127.0.0.1:7710", "127.0.0.1.evil.example", false),
            ("127.0.0.1:7710", "x.localhost", false),
            ("127.0.0.1:7710", "localhost.", false),
            ("127.0.0.1:7710", "localhost@evil.example", false),
            ("127.0.0.1:7710", "evil.example@localhost", false),
            ("127.0.0.1:7710", "192.0.2.7:7710", false),
            ("127.0.0.1:7710", "0.0.0.0", false),
            ("127.0.0.1:7710", "", false),
            ("192.0.2.7:7710", "192.0.2.7:7710", true),
            ("192.0.2.7:7710", "192.0.2.8:7710", false),
            ("192.0.2.7:7710", "rig.lab.example", false),
            ("0.0.0.0:7710", "192.0.2.7", true),
            ("[::]:7710", "[2001:db8::7]:7710", true),
            ("0.0.0.0:7710", "evil.example", false),
        ];
        for (listen, host, ours) in table {
            assert_eq!(is_ours(host, listen.parse().unwrap()), ours, "{host} at {listen}");
        }
    }
}
