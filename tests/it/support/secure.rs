//! Certificates, and TLS before a server that speaks none.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

use super::site::Site;

/// Who vouches for servers.
pub(crate) struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let key = KeyPair::generate().expect("keys can be made");
        let mut params = CertificateParams::new(Vec::new()).expect("no names are good names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).expect("a certificate can be signed").pem();
        Self { pem, issuer: Issuer::new(params, key) }
    }

    /// What a client must trust.
    pub(crate) fn pem(&self) -> &str {
        &self.pem
    }

    /// What a server of this name needs.
    pub(crate) fn certificate_for(&self, name: &str) -> Arc<ServerConfig> {
        let key = KeyPair::generate().expect("keys can be made");
        let params = CertificateParams::new(vec![name.to_owned()]).expect("a good name");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate can be signed");
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("the provider has them")
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key);
        Arc::new(config.expect("key and certificate belong together"))
    }
}

/// Takes secure connections and passes what comes over them on to a server.
pub(crate) struct TlsFront {
    port: u16,
    shared: Arc<Shared>,
    accepting: JoinHandle<()>,
}

struct Shared {
    config: Mutex<Arc<ServerConfig>>,
    has_seen_a_request: AtomicBool,
}

impl TlsFront {
    pub(crate) async fn before(site: &Site, config: Arc<ServerConfig>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("the loopback has a free port");
        let port = listener.local_addr().expect("it is bound").port();
        let shared =
            Arc::new(Shared { config: Mutex::new(config), has_seen_a_request: AtomicBool::new(false) });
        let behind = site.url.strip_prefix("http://").expect("it speaks no TLS").to_owned();
        let accepting = tokio::spawn(accept(listener, Arc::clone(&shared), behind));
        Self { port, shared, accepting }
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Shows another certificate to those who come from now on.
    pub(crate) fn show(&self, config: Arc<ServerConfig>) {
        *self.shared.config.lock().expect("not poisoned") = config;
    }

    /// Whether a client believed a certificate and went on.
    pub(crate) fn has_seen_a_request(&self) -> bool {
        self.shared.has_seen_a_request.load(Ordering::SeqCst)
    }
}

impl Drop for TlsFront {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>, behind: String) {
    while let Ok((socket, _)) = listener.accept().await {
        let (shared, behind) = (Arc::clone(&shared), behind.clone());
        tokio::spawn(async move {
            let config = Arc::clone(&shared.config.lock().expect("not poisoned"));
            // A client that does not trust us ends the connection here.
            let Ok(mut secure) = TlsAcceptor::from(config).accept(socket).await else { return };
            shared.has_seen_a_request.store(true, Ordering::SeqCst);
            if let Ok(mut plain) = TcpStream::connect(behind).await {
                let _ = copy_bidirectional(&mut secure, &mut plain).await;
            }
        });
    }
}
