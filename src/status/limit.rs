//! What clients may hold: so many connections, each for so long. Whoever is over waits in the kernel's queue, and nothing
//! that they do takes a descriptor or a thread from the service's work.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::serve::Listener;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Sleep, sleep_until};

/// Accepts connections within bounds.
pub(crate) struct Limited<L> {
    listener: L,
    free: Arc<Semaphore>,
    time_max: Duration,
}

impl<L> Limited<L> {
    /// At most so many connections at once, each for so long from connecting to the last byte of the answer, unless its
    /// [`Lease`] is extended.
    pub(crate) fn new(listener: L, connections_max: usize, time_max: Duration) -> Self {
        Self { listener, free: Arc::new(Semaphore::new(connections_max)), time_max }
    }
}

impl<L: Listener> Listener for Limited<L> {
    type Io = Bounded<L::Io>;
    type Addr = L::Addr;

    async fn accept(&mut self) -> (Self::Io, L::Addr) {
        // Nobody closes the semaphore.
        let slot = Arc::clone(&self.free).acquire_owned().await.ok();
        let (stream, address) = self.listener.accept().await;
        let until = Instant::now() + self.time_max;
        let lease = Lease(Arc::new(Mutex::new(until)));
        (Bounded { stream, end: Box::pin(sleep_until(until)), lease, _slot: slot }, address)
    }

    fn local_addr(&self) -> io::Result<L::Addr> {
        self.listener.local_addr()
    }
}

/// How long a connection may last. Whoever serves it may give it more time.
#[derive(Debug, Clone)]
pub(crate) struct Lease(Arc<Mutex<Instant>>);

impl Lease {
    /// Lets the connection last for so long from now at least.
    pub(crate) fn extend(&self, time: Duration) {
        let mut until = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *until = (*until).max(Instant::now() + time);
    }

    fn until(&self) -> Instant {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection that fails once its time is over.
pub(crate) struct Bounded<S> {
    stream: S,
    end: Pin<Box<Sleep>>,
    lease: Lease,
    _slot: Option<OwnedSemaphorePermit>,
}

impl<S: Unpin> Bounded<S> {
    /// What gives it more time.
    pub(crate) fn lease(&self) -> Lease {
        self.lease.clone()
    }

    fn live(&mut self, cx: &mut Context<'_>) -> io::Result<Pin<&mut S>> {
        while self.end.as_mut().poll(cx).is_ready() {
            let until = self.lease.until();
            if until <= Instant::now() {
                return Err(io::ErrorKind::TimedOut.into());
            }
            self.end.as_mut().reset(until);
        }
        Ok(Pin::new(&mut self.stream))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Bounded<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.live(cx)?.poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Bounded<S> {
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
    use tokio::net::{UnixListener, UnixStream};

    const CONNECTIONS_MAX: usize = 32;

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
        let listener = UnixListener::bind(&path).unwrap();
        let listener = Limited::new(listener, CONNECTIONS_MAX, Duration::from_millis(300));
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

    #[tokio::test]
    async fn a_connection_whose_lease_is_extended_lasts_as_long() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        let listener = UnixListener::bind(&path).unwrap();
        let mut listener = Limited::new(listener, 1, Duration::from_millis(20));
        let mut client = UnixStream::connect(&path).await.unwrap();
        let (mut served, _) = listener.accept().await;
        let from = Instant::now();
        served.lease().extend(Duration::from_millis(200));
        let mut byte = [0];
        let error = served.read(&mut byte).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!(from.elapsed() >= Duration::from_millis(200), "{:?}", from.elapsed());
        drop(served);
        assert_eq!(client.read(&mut byte).await.unwrap(), 0, "it is closed");
    }
}
