//! Connections that can be cut on demand.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use axum::extract::connect_info::Connected;
use axum::serve::{IncomingStream, Listener};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

/// A handle on one connection, for the handlers that it carries.
#[derive(Clone)]
pub(crate) struct Conn(Arc<Control>);

struct Control {
    cut: AtomicBool,
    written: AtomicUsize,
    waker: Mutex<Option<Waker>>,
}

impl Conn {
    /// Resets the connection; nothing written from here on gets out.
    pub(crate) fn cut(&self) {
        self.0.cut.store(true, Ordering::SeqCst);
        if let Some(waker) = self.0.waker.lock().expect("not poisoned").take() {
            waker.wake();
        }
    }

    fn is_cut(&self) -> bool {
        self.0.cut.load(Ordering::SeqCst)
    }

    /// How many bytes have gone out.
    pub(crate) fn written(&self) -> usize {
        self.0.written.load(Ordering::SeqCst)
    }
}

/// Accepts connections and keeps a handle on each.
pub(crate) struct Accept {
    listener: TcpListener,
    conns: Arc<Conns>,
}

/// Every open connection.
#[derive(Default)]
pub(crate) struct Conns(Mutex<Vec<Weak<Control>>>);

impl Conns {
    pub(crate) fn cut_all(&self) {
        for control in self.0.lock().expect("not poisoned").drain(..) {
            if let Some(control) = control.upgrade() {
                Conn(control).cut();
            }
        }
    }

    fn add(&self, conn: &Conn) {
        let mut conns = self.0.lock().expect("not poisoned");
        conns.retain(|control| control.strong_count() > 0);
        conns.push(Arc::downgrade(&conn.0));
    }
}

impl Accept {
    pub(crate) fn new(listener: TcpListener, conns: Arc<Conns>) -> Self {
        Self { listener, conns }
    }
}

/// Programs that other tests start hold a copy of our socket from their fork to their exec; the port is free all the same
/// once nobody listens by it.
impl Drop for Accept {
    fn drop(&mut self) {
        let _ = rustix::net::shutdown(&self.listener, rustix::net::Shutdown::Both);
    }
}

impl Listener for Accept {
    type Io = Io;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Io, SocketAddr) {
        let (stream, addr) = <TcpListener as Listener>::accept(&mut self.listener).await;
        // A dropped connection is a reset one, which is what a cut stands for.
        let _ = stream.set_zero_linger();
        let control = Control { cut: false.into(), written: 0.into(), waker: Mutex::default() };
        let conn = Conn(Arc::new(control));
        self.conns.add(&conn);
        (Io { stream: Some(stream), conn }, addr)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

impl Connected<IncomingStream<'_, Accept>> for Conn {
    fn connect_info(stream: IncomingStream<'_, Accept>) -> Self {
        stream.io().conn.clone()
    }
}

/// A socket that fails once its connection is cut.
pub(crate) struct Io {
    stream: Option<TcpStream>,
    conn: Conn,
}

impl Io {
    fn live(&mut self) -> io::Result<Pin<&mut TcpStream>> {
        if self.conn.is_cut() {
            self.stream = None;
        }
        self.stream.as_mut().map(Pin::new).ok_or_else(|| io::ErrorKind::ConnectionReset.into())
    }
}

impl AsyncRead for Io {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        *self.conn.0.waker.lock().expect("not poisoned") = Some(cx.waker().clone());
        self.live()?.poll_read(cx, buf)
    }
}

impl AsyncWrite for Io {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let poll = self.live()?.poll_write(cx, buf);
        if let Poll::Ready(Ok(len)) = poll {
            self.conn.0.written.fetch_add(len, Ordering::SeqCst);
        }
        poll
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.live()?.poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // A polite end must not become a reset that overtakes the last answer.
        let mut stream = self.live()?;
        let _ = rustix::net::sockopt::set_socket_linger(&*stream, None);
        stream.as_mut().poll_shutdown(cx)
    }
}

/// A port of the loopback that stays ours whether or not somebody listens on it.
pub(crate) struct Port {
    number: u16,
    /// Bound, and the next to listen.
    spare: Option<TcpSocket>,
}

impl Port {
    /// A free one.
    pub(crate) fn take() -> io::Result<Self> {
        let spare = bind(0)?;
        Ok(Self { number: spare.local_addr()?.port(), spare: Some(spare) })
    }

    pub(crate) fn number(&self) -> u16 {
        self.number
    }

    /// Listens. The last listener must be gone.
    pub(crate) fn listen(&mut self) -> io::Result<TcpListener> {
        // Sockets may share an address for as long as none of them listens.
        let next = bind(self.number)?;
        let socket = self.spare.replace(next).expect("there is always one");
        socket.listen(1024)
    }
}

fn bind(port: u16) -> io::Result<TcpSocket> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(([127, 0, 0, 1], port).into())?;
    Ok(socket)
}

/// The pause that holds a stream to `bytes_per_s`.
pub(crate) fn pause_for(len: usize, bytes_per_s: u64) -> Duration {
    Duration::from_secs_f64(len as f64 / bytes_per_s.max(1) as f64)
}
