use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use sha2::{Digest, Sha256};
use tokio::sync::Semaphore;

use crate::config::{Bandwidth, Config, Env, KeyError, Server, find_key, read_small};
use crate::oxen::{ApiKey, Client, ClientOptions, Error, RateLimit};
use crate::path::printable;
use crate::push::{SHARED_MIB, Turns};

/// The bundle of a whole system is a quarter of it.
const CA_FILE_LEN_MAX: u64 = 1 << 20;

/// Makes the HTTP client of each server, one for all folders that use it.
#[derive(Debug)]
pub struct Clients {
    env: Env,
    made: Vec<Made>,
    limits: Limits,
    /// By the server's name.
    turns: BTreeMap<String, Arc<Turns>>,
}

#[derive(Debug)]
struct Made {
    server: Server,
    key: Option<ApiKey>,
    client: Client,
    budget: Arc<Semaphore>,
}

/// Why no client can be made.
#[derive(Debug, thiserror::Error)]
pub enum ClientsError {
    /// The API key cannot be had.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The CA file cannot be read.
    #[error("the CA file {} cannot be read: {reason}", printable(path))]
    CaFile {
        /// As the config names it.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
    /// The settings make no client.
    #[error(transparent)]
    Client(#[from] Error),
}

impl Clients {
    /// No clients yet; keys come from `env`.
    pub fn new(env: Env) -> Self {
        Self { env, made: Vec::new(), limits: Limits::default(), turns: BTreeMap::new() }
    }

    /// The client of `server`, with the key as it is now, and the memory for what goes there, in MiB.
    ///
    /// # Errors
    /// The key, the CA file or the settings cannot be used.
    pub fn get(&mut self, server: &Server) -> Result<(Client, Arc<Semaphore>), ClientsError> {
        let limit = self.limits.of(server);
        let server = &server.without_timetable();
        let key = find_key(server, &self.env)?.map(|(key, _)| ApiKey::from(key.expose().to_owned()));
        if let Some(made) = self.made.iter().find(|made| made.server == *server && made.key == key) {
            return Ok((made.client.clone(), Arc::clone(&made.budget)));
        }
        let ca_pem = match &server.ca_file {
            Some(path) => {
                let (pem, _) = read_small(path, CA_FILE_LEN_MAX).map_err(|error| ClientsError::CaFile {
                    path: path.clone(),
                    reason: error.to_string(),
                })?;
                Some(pem)
            }
            None => None,
        };
        let client = Client::new(ClientOptions {
            url: server.url.clone(),
            key: key.clone(),
            proxy: server.proxy.clone(),
            ca_pem,
            connect_timeout: server.connect_timeout,
            silence_timeout: server.request_timeout,
            limit: Some(limit),
        })?;
        self.made.retain(|made| made.server.name != server.name);
        let budget = Arc::new(Semaphore::new(SHARED_MIB as usize));
        self.made.push(Made {
            server: server.clone(),
            key,
            client: client.clone(),
            budget: Arc::clone(&budget),
        });
        Ok((client, budget))
    }
}

impl Clients {
    /// Who delivers to a server at a moment.
    pub(super) fn turns(&mut self, server: &Server) -> Arc<Turns> {
        Arc::clone(self.turns.entry(server.name.clone()).or_default())
    }

    /// What each server's limit is and when.
    pub(super) fn limits(&mut self) -> &mut Limits {
        &mut self.limits
    }
}

/// How fast may be sent to each server by its name, and by which timetable.
#[derive(Debug, Clone, Default)]
pub(super) struct Limits(BTreeMap<String, (Bandwidth, RateLimit)>);

impl Limits {
    /// The limit of a server, by its timetable from here on.
    pub(super) fn of(&mut self, server: &Server) -> RateLimit {
        let (bandwidth, limit) =
            self.0.entry(server.name.clone()).or_insert_with(|| (Bandwidth::default(), RateLimit::new(None)));
        if *bandwidth != server.bandwidth {
            bandwidth.clone_from(&server.bandwidth);
            keep(&server.name, bandwidth, limit);
        }
        limit.clone()
    }

    /// Brings all limits to what they are at this time.
    pub(super) fn keep(&self) {
        for (name, (bandwidth, limit)) in self.0.iter().filter(|(_, (bandwidth, _))| !bandwidth.is_off()) {
            keep(name, bandwidth, limit);
        }
    }
}

fn keep(server: &str, bandwidth: &Bandwidth, limit: &RateLimit) {
    let rate = bandwidth.rate_at(jiff::Zoned::now().datetime());
    if limit.set(rate) {
        match rate {
            Some(rate) => tracing::info!(server, bytes_per_s = rate.get(), "uploads are held to a rate"),
            None => tracing::info!(server, "uploads are not held to a rate any more"),
        }
    }
}

/// What tells this machine from others, for as long as it is installed; empty where it has no id of its own.
pub(super) fn machine() -> String {
    let id = std::fs::read("/etc/machine-id").unwrap_or_default();
    // As it is before the first boot is over (machine-id(5)).
    if id.trim_ascii().is_empty() || id.trim_ascii() == b"uninitialized" {
        return String::new();
    }
    // The id itself is not to be given away (machine-id(5)).
    let hash = Sha256::new().chain_update(b"oxen-sync").chain_update(id.trim_ascii()).finalize();
    hash.iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}

/// What tells this installation from others that use the same server: stays the same when the state is lost.
pub(super) fn instance(config: &Config) -> String {
    let mut hash = Sha256::new();
    // Without a machine id the host's name has to do.
    hash.update(std::fs::read("/etc/machine-id").unwrap_or_default());
    hash.update(host().as_bytes());
    hash.update(config.state_dir.as_os_str().as_encoded_bytes());
    hash.finalize().iter().take(5).map(|byte| format!("{byte:02x}")).collect()
}

/// This machine's name.
pub(super) fn host() -> String {
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    if name.is_empty() { "unknown".to_owned() } else { name }
}
