//! Asks a running service.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use reqwest::Method;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::api::Refused;
use crate::path::printable;

/// The longest that is waited for an answer. The socket keeps no connection for longer either.
const ANSWER_WAIT_MAX: Duration = Duration::from_secs(20);
/// A report of a hundred folders with their problems has some hundred KiB.
const ANSWER_LEN_MAX: usize = 64 << 20;

/// Who asks the service at one socket.
#[derive(Debug)]
pub struct Client {
    path: PathBuf,
    http: reqwest::Client,
}

/// Why a service that is there gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// It does not let us in.
    #[error(
        "cannot ask the service at {}: {source}; ask as root, as the user it runs as, or as a member of the group that [control] in the config names",
        printable(.path)
    )]
    Denied {
        /// The socket.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// What was named is not there.
    #[error("{0}")]
    NotFound(String),
    /// It says no.
    #[error("{0}")]
    Refused(String),
    /// It is of another version.
    #[error("the service at {} knows nothing of this, so it is older than this program; restart it", printable(.0))]
    Unknown(PathBuf),
    /// It does not answer, or not as it should.
    #[error("the service at {} does not answer as it should: {reason}", printable(.path))]
    Broken {
        /// The socket.
        path: PathBuf,
        /// What happened.
        reason: String,
    },
}

impl Client {
    /// Reaches the service that listens at `path`; `None` where none does.
    ///
    /// # Errors
    /// One is there and does not let us in.
    pub async fn connect(path: &Path) -> Result<Option<Self>, ClientError> {
        let path = path.to_path_buf();
        match tokio::net::UnixStream::connect(&path).await {
            Ok(_) => {}
            Err(error)
                if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) =>
            {
                return Ok(None);
            }
            Err(source) => return Err(ClientError::Denied { path, source }),
        }
        let _ = rustls::crypto::ring::default_provider().install_default();
        let builder =
            reqwest::Client::builder().unix_socket(path.clone()).no_proxy().timeout(ANSWER_WAIT_MAX);
        match builder.build() {
            Ok(http) => Ok(Some(Self { path, http })),
            Err(error) => Err(ClientError::Broken { path, reason: error.to_string() }),
        }
    }

    /// Asks for what stands at `route`, with its query.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn get<T: DeserializeOwned>(&self, route: &str) -> Result<T, ClientError> {
        self.answer(self.http.request(Method::GET, format!("http://localhost{route}"))).await
    }

    /// Has the service do what `route` says.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn post<T: DeserializeOwned>(
        &self,
        route: &str,
        body: &impl Serialize,
    ) -> Result<T, ClientError> {
        self.answer(self.http.request(Method::POST, format!("http://localhost{route}")).json(body)).await
    }

    async fn answer<T: DeserializeOwned>(&self, request: reqwest::RequestBuilder) -> Result<T, ClientError> {
        let broken = |reason: String| ClientError::Broken { path: self.path.clone(), reason };
        let mut answer = request.send().await.map_err(|error| broken(error.to_string()))?;
        let status = answer.status();
        let mut body = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(|error| broken(error.to_string()))? {
            if body.len() + chunk.len() > ANSWER_LEN_MAX {
                return Err(broken("its answer has no end".to_owned()));
            }
            body.extend_from_slice(&chunk);
        }
        if status.is_success() {
            return serde_json::from_slice(&body).map_err(|error| broken(error.to_string()));
        }
        match serde_json::from_slice::<Refused>(&body) {
            Ok(refused) if status == reqwest::StatusCode::NOT_FOUND => {
                Err(ClientError::NotFound(refused.error))
            }
            Ok(refused) => Err(ClientError::Refused(refused.error)),
            Err(_) if status == reqwest::StatusCode::NOT_FOUND => {
                Err(ClientError::Unknown(self.path.clone()))
            }
            Err(_) => Err(broken(format!("{status}: {}", printable(String::from_utf8_lossy(&body).trim())))),
        }
    }
}
