//! What clients of the socket may hold: so many connections, each for so long. Whoever is over waits in the kernel's
//! queue, and nothing that they do takes a descriptor or a thread from the service's work.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::serve::Listener;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::unix::SocketAddr;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Sleep, sleep};

const CONNECTIONS_MAX: usize = 32;
/// From connecting to the last byte of the answer.
const CONNECTION_TIME_MAX: Duration = Duration::from_secs(20);

/// Accepts connections within bounds.
pub(super) struct Limited {
    listener: UnixListener,
    free: Arc<Semaphore>,
    time_max: Duration,
}

impl Limited {
    pub(super) fn new(listener: UnixListener) -> Self {
        Self { listener, free: Arc::new(Semaphore::new(CONNECTIONS_MAX)), time_max: CONNECTION_TIME_MAX }
    }
}

impl Listener for Limited {
    type Io = Bounded;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Bounded, SocketAddr) {
        // Nobody closes the semaphore.
        let slot = Arc::clone(&self.free).acquire_owned().await.ok();
        let (stream, address) = <UnixListener as Listener>::accept(&mut self.listener).await;
        (Bounded { stream, end: Box::pin(sleep(self.time_max)), _slot: slot }, address)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// A connection that fails once its time is over.
pub(super) struct Bounded {
    stream: UnixStream,
    end: Pin<Box<Sleep>>,
    _slot: Option<OwnedSemaphorePermit>,
}

impl Bounded {
    fn live(&mut self, cx: &mut Context<'_>) -> io::Result<Pin<&mut UnixStream>> {
        match self.end.as_mut().poll(cx) {
            Poll::Ready(()) => Err(io::ErrorKind::TimedOut.into()),
            Poll::Pending => Ok(Pin::new(&mut self.stream)),
        }
    }
}

impl AsyncRead for Bounded {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.live(cx)?.poll_read(cx, buf)
    }
}

impl AsyncWrite for Bounded {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.live(cx)?.poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.live(cx)?.poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::Router;
    use axum::routing::get;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    async fn ask(path: &std::path::Path) -> io::Result<String> {
        let mut stream = UnixStream::connect(path).await?;
        stream.write_all(b"GET /x HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n").await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        Ok(answer)
    }

    #[tokio::test]
    async fn who_holds_every_connection_loses_them_in_time() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        let mut listener = Limited::new(UnixListener::bind(&path).unwrap());
        listener.time_max = Duration::from_millis(300);
        let app = Router::new().route("/x", get(async || "well"));
        let served = tokio::spawn(async move { axum::serve(listener, app).await });
        // Three times as many as there may be: silent ones, ones that never end their request, ones that never read.
        let mut held = Vec::new();
        for beginning in [&b""[..], b"GET /x HTTP/1.1\r\na: ", b"GET /x HTTP/1.1\r\nhost: h\r\n\r\n"] {
            for _ in 0..CONNECTIONS_MAX {
                let mut stream = UnixStream::connect(&path).await.unwrap();
                stream.write_all(beginning).await.unwrap();
                held.push(stream);
            }
        }
        let answer = tokio::time::timeout(Duration::from_secs(20), ask(&path)).await.unwrap().unwrap();
        assert!(answer.ends_with("well"), "{answer}");
        drop(held);
        served.abort();
    }
}
