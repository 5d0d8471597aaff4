use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue};
use reqwest::{Certificate, Proxy, Url, redirect};

use super::{Error, Kind, Op, RateLimit};

/// Not the program's own name: oxen-server 0.65.2 answers 426 to an agent whose name holds `oxen` in any case and
/// whose version is below that of Oxen's own clients.
const USER_AGENT: &str = concat!("ox-sync/", env!("CARGO_PKG_VERSION"));

/// An API key. It is shown nowhere but in the request's header.
#[derive(Clone, PartialEq, Eq)]
pub struct ApiKey(String);

impl From<String> for ApiKey {
    fn from(key: String) -> Self {
        Self(key)
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ApiKey(…)")
    }
}

/// How to reach one server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientOptions {
    /// The server's address, with a path where a proxy puts it below one.
    pub url: Url,
    /// Sent as a bearer token.
    pub key: Option<ApiKey>,
    /// A proxy for all requests. Without one there is none: the environment is not asked.
    pub proxy: Option<Url>,
    /// Certificates in PEM to trust besides the system's.
    pub ca_pem: Option<Vec<u8>>,
    /// The longest wait for a connection.
    pub connect_timeout: Duration,
    /// The longest wait without any byte moving, sending or receiving. It spans the server's work between
    /// the last byte of a request and the first of its answer, which is minutes for a commit into a directory
    /// of very many files; a peer that is gone is noticed sooner, by TCP keep-alive.
    pub silence_timeout: Duration,
    /// How fast request bodies may be sent. The wait for it is no silence.
    pub limit: Option<RateLimit>,
}

/// Connections that are kept for later. Each is a descriptor, of which a service may have few.
const IDLE_CONNECTIONS_MAX: usize = 8;

/// One server's API. Clones share one pool of connections.
///
/// No method tries twice, follows a redirect or waits longer than the options say. Dropping a method's future
/// ends its request; the server may have done the work all the same.
#[derive(Clone)]
pub struct Client {
    pub(super) inner: Arc<Inner>,
}

pub(super) struct Inner {
    pub http: reqwest::Client,
    pub base: Url,
    pub host: String,
    pub silence: Duration,
    pub limit: Option<RateLimit>,
    pub making: tokio::sync::Mutex<()>,
}

impl Client {
    /// Waits until no clone of this client makes a repository: oxen-server 0.65.2 makes one twice where two ask at once,
    /// and loses what came into the first.
    pub async fn making(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.inner.making.lock().await
    }

    /// Whether request bodies are held to a rate by now.
    pub fn is_limited(&self) -> bool {
        self.inner.limit.as_ref().is_some_and(|limit| limit.rate().is_some())
    }

    /// Makes the client; nothing is sent yet.
    ///
    /// # Errors
    /// [`Kind::Unsendable`] for options that no request can be made of.
    pub fn new(options: ClientOptions) -> Result<Self, Error> {
        let ClientOptions { url, key, proxy, ca_pem, connect_timeout, silence_timeout, limit } = options;
        let host = host(&url);
        let refuse = |message: String| Error::new(Op::Setup, &host, Kind::Unsendable, message, false);
        if !matches!(url.scheme(), "http" | "https") || url.cannot_be_a_base() {
            return Err(refuse("the server's address must begin with http:// or https://".to_owned()));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(refuse(
                "the server's address holds a user or password; give an API key instead".into(),
            ));
        }

        // reqwest asks for the process's provider; a second installation is a no-op.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut builder = reqwest::Client::builder()
            .user_agent(USER_AGENT)
            .redirect(redirect::Policy::none())
            .retry(reqwest::retry::never())
            .connect_timeout(connect_timeout)
            // The server drops idle connections after 75 s; ours must not be the ones it drops.
            .pool_idle_timeout(Duration::from_secs(60))
            .pool_max_idle_per_host(IDLE_CONNECTIONS_MAX)
            .tcp_keepalive(Duration::from_secs(30))
            .tcp_keepalive_interval(Duration::from_secs(10))
            .tcp_keepalive_retries(3)
            .tcp_user_timeout(silence_timeout);
        builder = match &proxy {
            Some(url) => {
                let proxy = Proxy::all(url.clone()).map_err(|_| {
                    refuse(format!("the proxy's address at {} is no proxy's", self::host(url)))
                })?;
                builder.proxy(proxy)
            }
            None => builder.no_proxy(),
        };
        if let Some(pem) = ca_pem {
            let certificates = Certificate::from_pem_bundle(&pem).unwrap_or_default();
            if certificates.is_empty() {
                return Err(refuse("the CA file holds no PEM certificate".to_owned()));
            }
            builder = builder.tls_certs_merge(certificates);
        } else if url.scheme() == "http" && proxy.as_ref().is_none_or(|proxy| proxy.scheme() != "https") {
            // Plain HTTP needs no certificates, so a system without any will do.
            builder = builder.tls_certs_only([]);
        }
        if let Some(ApiKey(key)) = key {
            let mut value = HeaderValue::try_from(format!("Bearer {key}"))
                .map_err(|_| refuse("the API key holds characters that no header can carry".to_owned()))?;
            value.set_sensitive(true);
            builder = builder.default_headers(HeaderMap::from_iter([(AUTHORIZATION, value)]));
        }
        let http = builder.build().map_err(|_| {
            refuse("no TLS: the system's certificates cannot be read; install ca-certificates".to_owned())
        })?;
        let making = tokio::sync::Mutex::default();
        Ok(Self { inner: Arc::new(Inner { http, base: url, host, silence: silence_timeout, limit, making }) })
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Client({})", self.inner.host)
    }
}

/// Host and port of an address, without the rest of it.
pub(super) fn host(url: &Url) -> String {
    match (url.host_str(), url.port()) {
        (Some(host), Some(port)) => format!("{host}:{port}"),
        (Some(host), None) => host.to_owned(),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(url: &str) -> ClientOptions {
        ClientOptions {
            url: url.parse().unwrap(),
            key: Some(ApiKey::from("s3cret".to_owned())),
            proxy: None,
            ca_pem: None,
            connect_timeout: Duration::from_secs(5),
            silence_timeout: Duration::from_secs(30),
            limit: None,
        }
    }

    #[test]
    fn the_key_is_never_shown() {
        let options = options("http://localhost:3000");
        let client = Client::new(options.clone()).unwrap();
        for shown in [format!("{options:?}"), format!("{client:?}"), format!("{:?}", client.inner.http)] {
            assert!(!shown.contains("s3cret"), "{shown}");
        }
        let mut bad = options;
        bad.key = Some(ApiKey::from("s3cret\n".to_owned()));
        let error = Client::new(bad).unwrap_err();
        assert_eq!(error.kind(), Kind::Unsendable);
        assert!(!format!("{error} {error:?}").contains("s3cret"));
    }

    #[test]
    fn an_address_that_cannot_work_is_refused_without_showing_its_secrets() {
        for url in ["ftp://host/", "mailto:a@b", "http://user:s3cret@host/"] {
            let error = Client::new(options(url)).unwrap_err();
            assert_eq!((error.op(), error.kind()), (Op::Setup, Kind::Unsendable));
            assert!(!format!("{error} {error:?}").contains("s3cret"), "{error}");
        }
    }

    #[test]
    fn a_ca_file_without_certificates_is_refused() {
        let mut options = options("https://localhost");
        options.ca_pem = Some(b"not a certificate".to_vec());
        assert!(Client::new(options).unwrap_err().to_string().contains("CA file"));
    }
}
