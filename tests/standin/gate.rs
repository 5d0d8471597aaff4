//! What stands before a server: connections that break, answers that are wrong, and a count of everything.
//!
//! Behind it is either a server of ours, from memory, or the real one.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{ConnectInfo, Request, State};
use axum::http::Method;
use axum::http::header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, USER_AGENT};
use axum::response::Response;
use futures_util::{StreamExt, stream};
use oxen_sync::oxen::Op;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::answer::Reply;
use super::call::Call;
use super::conn::{self, Accept, Conn, Conns, Port};
use super::faults::{Action, Rule, Rules};
use super::memory::Memory;
use super::upstream::Upstream;
use super::work::{Kept, Payload};

/// The longest that [`Gate::until`] waits.
const WAIT_MAX: Duration = Duration::from_secs(30);

/// A running server on a port of the loopback. It stops when this is dropped.
pub(crate) struct Gate {
    shared: Arc<Shared>,
    conns: Arc<Conns>,
    port: Mutex<Port>,
    accepting: Mutex<Option<JoinHandle<()>>>,
}

/// Who does the work.
pub(crate) enum Backend {
    Memory(Arc<Memory>),
    Upstream(Upstream),
}

struct Shared {
    backend: Backend,
    inside: Mutex<Inside>,
    /// Counts everything that happens, so that waiting needs no sleep.
    events: watch::Sender<u64>,
}

#[derive(Default)]
struct Inside {
    rules: Rules,
    counts: BTreeMap<&'static str, Count>,
}

/// How much was asked of one kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Count {
    /// Requests that came, also those that met a fault.
    pub(crate) requests: u64,
    /// The bytes of their bodies that were read.
    pub(crate) body_bytes: u64,
}

impl Gate {
    /// Opens on a free port.
    pub(crate) fn open(backend: Backend) -> Self {
        let shared = Arc::new(Shared { backend, inside: Mutex::default(), events: watch::Sender::new(0) });
        let port = Mutex::new(Port::take().expect("the loopback has a free port"));
        let gate = Self { shared, conns: Arc::default(), port, accepting: Mutex::default() };
        gate.come_up();
        gate
    }

    /// Listens, again on the same port.
    pub(crate) fn come_up(&self) {
        let listener = self.port.lock().expect("not poisoned").listen().expect("the port is ours");
        let app = Router::new().fallback(handle).with_state(self.shared.clone());
        let app = app.into_make_service_with_connect_info::<Conn>();
        let accept = Accept::new(listener, self.conns.clone());
        let task = tokio::spawn(async move {
            let _ = axum::serve(accept, app).await;
        });
        *self.accepting.lock().expect("not poisoned") = Some(task);
    }

    /// The address to give to a client.
    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port.lock().expect("not poisoned").number())
    }

    /// Stops listening and resets every connection; what is committed stays, uploads are forgotten.
    pub(crate) async fn go_down(&self) {
        let task = self.accepting.lock().expect("not poisoned").take();
        if let Some(task) = task {
            task.abort();
            let _ = task.await;
        }
        self.conns.cut_all();
        if let Backend::Memory(memory) = &self.shared.backend {
            memory.forget_uploads();
        }
    }

    /// Resets every connection, and takes new ones.
    pub(crate) fn cut_connections(&self) {
        self.conns.cut_all();
    }

    /// Adds a fault behind those that are there.
    pub(crate) fn fault(&self, rule: Rule) {
        self.inside().rules.add(rule);
    }

    /// How many faults are still to come.
    pub(crate) fn faults_left(&self) -> usize {
        self.inside().rules.left()
    }

    /// Takes all faults back.
    pub(crate) fn clear_faults(&self) {
        self.inside().rules.clear();
    }

    /// What was asked of one kind so far.
    pub(crate) fn count(&self, op: Op) -> Count {
        self.inside().counts.get(kind(Some(op))).copied().unwrap_or_default()
    }

    /// All requests so far, of whatever kind.
    pub(crate) fn requests(&self) -> u64 {
        self.inside().counts.values().map(|count| count.requests).sum()
    }

    /// A signal whose value changes with everything that happens here: requests, answers, commits.
    pub(crate) fn events(&self) -> watch::Receiver<u64> {
        self.shared.events.subscribe()
    }

    /// Waits until `done` holds, looking whenever something has happened.
    ///
    /// # Panics
    /// After 30 s, with `what`.
    pub(crate) async fn until(&self, what: &str, done: impl Fn(&Self) -> bool) {
        self.wait_for(what, || done(self)).await;
    }

    pub(super) async fn wait_for(&self, what: &str, done: impl Fn() -> bool) {
        let mut events = self.events();
        let wait = async {
            while !done() {
                events.changed().await.expect("the sender lives in self");
            }
        };
        tokio::time::timeout(WAIT_MAX, wait).await.unwrap_or_else(|_| panic!("waited in vain until {what}"));
    }

    fn inside(&self) -> MutexGuard<'_, Inside> {
        self.shared.inside()
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        if let Some(task) = self.accepting.lock().expect("not poisoned").take() {
            task.abort();
        }
        self.conns.cut_all();
    }
}

impl Shared {
    fn inside(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().expect("not poisoned")
    }

    fn happened(&self) {
        self.events.send_modify(|count| *count += 1);
    }
}

fn kind(op: Option<Op>) -> &'static str {
    match op {
        None | Some(Op::Setup) => "unknown",
        Some(Op::Health) => "health",
        Some(Op::FindRepo) => "find repo",
        Some(Op::CreateRepo) => "create repo",
        Some(Op::ReadBranch) => "read branch",
        Some(Op::ListBranches) => "list branches",
        Some(Op::CreateBranch) => "create branch",
        Some(Op::PutFiles) => "put files",
        Some(Op::OpenWorkspace) => "open workspace",
        Some(Op::ListWorkspaces) => "list workspaces",
        Some(Op::DeleteWorkspace) => "delete workspace",
        Some(Op::StageFiles) => "stage files",
        Some(Op::StageRemovals) => "stage removals",
        Some(Op::MergeWorkspace) => "merge workspace",
        Some(Op::BeginUpload) => "begin upload",
        Some(Op::PutPart) => "put part",
        Some(Op::ReadEntry) => "read entry",
        Some(Op::ListDir) => "list dir",
        Some(Op::ReadFile) => "read file",
        Some(Op::ReadHistory) => "read history",
    }
}

async fn handle(
    State(shared): State<Arc<Shared>>,
    ConnectInfo(conn): ConnectInfo<Conn>,
    request: Request,
) -> Response {
    let call = Call::new(request.method(), request.uri());
    let fault = {
        let mut inside = shared.inside();
        inside.counts.entry(kind(call.op)).or_default().requests += 1;
        inside.rules.take(&call)
    };
    shared.happened();
    let response = serve(&shared, &conn, call, fault, request).await;
    shared.happened();
    response
}

async fn serve(
    shared: &Arc<Shared>,
    conn: &Conn,
    call: Call,
    fault: Option<Action>,
    request: Request,
) -> Response {
    match &fault {
        Some(Action::ResetBefore) => return cut(conn),
        Some(Action::HangBefore) => std::future::pending().await,
        Some(Action::Delay(wait)) => tokio::time::sleep(*wait).await,
        _ => {}
    }
    let (head, body) = request.into_parts();
    let header = |name| head.headers.get(&name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let (body, is_whole) = read(shared, &call, fault.as_ref(), body).await;
    if !is_whole {
        if let Some(Action::Vanish { .. }) = fault {
            match &shared.backend {
                Backend::Memory(memory) => memory.wait_for_the_rest(&call),
                Backend::Upstream(upstream) => upstream.begin(&head, &call, body),
            }
        }
        return cut(conn);
    }
    if let Some(Action::Reply { status, headers, body }) = fault {
        let headers = headers.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        let body = Bytes::from(body);
        return Reply { status, headers, body: body.clone() }.into_response(Body::from(body));
    }
    let kept = match fault {
        Some(Action::StageHalf) => Kept::Half,
        Some(Action::LoseHalf) => Kept::HalfUnsaid,
        _ => Kept::All,
    };
    let payload = Payload {
        agent: header(USER_AGENT).unwrap_or_default(),
        key: header(AUTHORIZATION),
        content_type: header(CONTENT_TYPE).unwrap_or_default(),
        body,
        kept,
    };
    // The server does its work to the end, whatever becomes of the connection.
    let work = tokio::spawn(work(Arc::clone(shared), head.method, call, payload, fault.clone()));
    if let Some(Action::LandLate(_)) = fault {
        return cut(conn);
    }
    let Ok(Some(reply)) = work.await else { return cut(conn) };
    match fault {
        Some(Action::ResetAfter) => cut(conn),
        Some(Action::HangAfter) => {
            shared.happened();
            std::future::pending().await
        }
        Some(Action::CutAnswer { after_bytes }) => cut_answer(conn, reply, after_bytes),
        Some(Action::Throttle { bytes_per_s }) => throttled(reply, bytes_per_s),
        _ => {
            let body = reply.body.clone();
            reply.into_response(Body::from(body))
        }
    }
}

async fn work(
    shared: Arc<Shared>,
    method: Method,
    call: Call,
    payload: Payload,
    fault: Option<Action>,
) -> Option<Reply> {
    if let Some(Action::LandLate(wait)) = fault {
        tokio::time::sleep(wait).await;
    }
    let reply = match &shared.backend {
        Backend::Memory(memory) => Some(memory.answer(&call, &payload)),
        Backend::Upstream(upstream) => upstream.answer(method, &call, payload).await,
    };
    shared.happened();
    reply
}

/// The body, and whether it is whole: the connection may end, or is to be cut, before it does.
async fn read(shared: &Shared, call: &Call, fault: Option<&Action>, body: Body) -> (Bytes, bool) {
    let mut chunks = body.into_data_stream();
    let mut whole = Vec::new();
    loop {
        let cut_after = match fault {
            Some(Action::ResetInside { after_bytes } | Action::Vanish { after_bytes }) => Some(*after_bytes),
            _ => None,
        };
        if cut_after.is_some_and(|len| whole.len() >= len) {
            return (Bytes::from(whole), false);
        }
        let chunk = match chunks.next().await {
            Some(Ok(chunk)) => chunk,
            Some(Err(_)) => return (Bytes::from(whole), false),
            None => return (Bytes::from(whole), cut_after.is_none()),
        };
        shared.inside().counts.entry(kind(call.op)).or_default().body_bytes += chunk.len() as u64;
        whole.extend_from_slice(&chunk);
        if let Some(Action::Throttle { bytes_per_s }) = fault {
            tokio::time::sleep(conn::pause_for(chunk.len(), *bytes_per_s)).await;
        }
    }
}

/// The answer that never gets out.
fn cut(conn: &Conn) -> Response {
    conn.cut();
    Response::new(Body::empty())
}

fn cut_answer(conn: &Conn, reply: Reply, after_bytes: usize) -> Response {
    let (len, head) = (reply.body.len(), reply.body.slice(..after_bytes.min(reply.body.len())));
    let (conn, before) = (conn.clone(), conn.written());
    let rest = stream::once(async move {
        // What was given before must be on its way before the connection goes.
        while conn.written() == before {
            tokio::task::yield_now().await;
        }
        conn.cut();
        Err(io::Error::from(io::ErrorKind::ConnectionReset))
    });
    let body = Body::from_stream(stream::once(async move { Ok(head) }).chain(rest));
    with_len(reply.into_response(body), len)
}

fn throttled(reply: Reply, bytes_per_s: u64) -> Response {
    let (len, mut rest) = (reply.body.len(), reply.body.clone());
    let piece = usize::try_from(bytes_per_s / 10).unwrap_or(usize::MAX).max(1);
    let chunks = std::iter::from_fn(move || (!rest.is_empty()).then(|| rest.split_to(piece.min(rest.len()))));
    let body = Body::from_stream(stream::iter(chunks).then(move |chunk| async move {
        tokio::time::sleep(conn::pause_for(chunk.len(), bytes_per_s)).await;
        Ok::<_, io::Error>(chunk)
    }));
    with_len(reply.into_response(body), len)
}

fn with_len(mut response: Response, len: usize) -> Response {
    response.headers_mut().insert(CONTENT_LENGTH, len.into());
    response
}
