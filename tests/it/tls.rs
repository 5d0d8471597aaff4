//! Secure connections and proxies.

use std::io::{Read, Write};
use std::net::TcpListener;

use oxen_sync::oxen::{Client, Kind};
use rustls::{ServerConnection, Stream};

use crate::standin::StandIn;
use crate::support::secure::Authority;
use crate::support::site::options;

/// A server that answers one request over TLS, and the certificate in PEM of who vouches for it.
fn secure_server() -> (String, String) {
    let authority = Authority::new();
    let (ca_pem, config) = (authority.pem().to_owned(), authority.certificate_for("localhost"));
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        let (mut socket, _) = listener.accept().unwrap();
        let mut connection = ServerConnection::new(config).unwrap();
        let mut stream = Stream::new(&mut connection, &mut socket);
        // A client that does not trust us ends the connection instead.
        let Ok(1..) = stream.read(&mut [0; 4096]) else { return };
        let body = r#"{"status":"success","oxen_version":"9.9.9"}"#;
        let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len());
        stream.write_all(answer.as_bytes()).unwrap();
        stream.conn.send_close_notify();
        let _ = stream.flush();
    });
    (format!("https://localhost:{port}"), ca_pem)
}

#[tokio::test]
async fn a_certificate_of_the_ca_file_is_trusted() {
    let (url, ca_pem) = secure_server();
    let mut options = options(&url);
    options.ca_pem = Some(ca_pem.into_bytes());
    let info = Client::new(options).unwrap().health().await.unwrap();
    assert_eq!(info.version.as_deref(), Some("9.9.9"));
}

#[tokio::test]
async fn a_certificate_of_nobody_known_is_refused_before_the_request() {
    let ((url, _), (_, other_ca_pem)) = (secure_server(), secure_server());
    let mut options = options(&url);
    options.ca_pem = Some(other_ca_pem.into_bytes());
    let error = Client::new(options).unwrap().health().await.unwrap_err();
    assert_eq!((error.kind(), error.request_reached_server()), (Kind::Tls, false), "{error:?}");
    assert!(error.to_string().contains("certificate"), "{error}");
}

#[tokio::test]
async fn a_server_without_tls_is_told_from_one_that_is_down() {
    let standin = StandIn::start().await;
    let (_, ca_pem) = secure_server();
    let mut options = options(&standin.url().replace("http:", "https:"));
    options.ca_pem = Some(ca_pem.into_bytes());
    let error = Client::new(options).unwrap().health().await.unwrap_err();
    assert_eq!(error.kind(), Kind::Tls, "{error:?}");
}

#[tokio::test]
async fn a_proxy_is_asked_for_everything() {
    let standin = StandIn::start().await;
    let mut options = options("http://nowhere.invalid");
    options.proxy = Some(standin.url().parse().unwrap());
    Client::new(options).unwrap().health().await.unwrap();
    assert_eq!(standin.requests(), 1);
}

#[tokio::test]
async fn a_proxys_password_is_never_shown() {
    let mut options = options("http://nowhere.invalid");
    options.proxy = Some("http://user:s3cret@127.0.0.1:1".parse().unwrap());
    let client = Client::new(options).unwrap();
    let error = client.health().await.unwrap_err();
    assert_eq!(error.kind(), Kind::Connect, "{error:?}");
    assert!(!format!("{error} {error:?} {client:?}").contains("s3cret"));
}
