//! A real oxen-server with a data directory of its own.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use oxen_sync::oxen::{Client, ClientOptions};
use tokio::runtime::Runtime;

use crate::contest::Result;

const START_MAX: Duration = Duration::from_secs(60);

pub(crate) struct Server {
    pub(crate) port: u16,
    process: Child,
}

impl Server {
    /// Starts the program that `OXEN_SERVER` names.
    pub(crate) fn start(scratch: &Path, runtime: &Runtime) -> Result<Self> {
        let program =
            std::env::var_os("OXEN_SERVER").ok_or("OXEN_SERVER names no server: use benches/compare")?;
        let data = scratch.join("server");
        std::fs::create_dir_all(&data)?;
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let process = Command::new(program)
            .args(["start", "-i", "127.0.0.1", "-p", &port.to_string()])
            .env("SYNC_DIR", &data)
            .env("HOME", scratch)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        let server = Self { port, process };
        let start = Instant::now();
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            if start.elapsed() > START_MAX {
                return Err("oxen-server does not start".into());
            }
            // Nothing tells when it listens but itself.
            runtime.block_on(async { tokio::time::sleep(Duration::from_millis(20)).await });
        }
        Ok(server)
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    pub(crate) fn client(&self) -> Result<Client> {
        Ok(Client::new(ClientOptions {
            url: self.url().parse()?,
            key: None,
            proxy: None,
            ca_pem: None,
            connect_timeout: Duration::from_secs(5),
            limit: None,
            silence_timeout: Duration::from_secs(600),
        })?)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
