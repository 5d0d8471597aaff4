//! Work that may block, seen from tasks that may not.

use tokio::task::JoinError;

/// Runs `work` where blocking is allowed. A panic in there goes on here.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    joined(tokio::task::spawn_blocking(work).await)
}

/// The value of a task that nobody aborts; its panic goes on here.
pub(crate) fn joined<T>(task: Result<T, JoinError>) -> T {
    match task {
        Ok(value) => value,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(_) => panic!("the runtime is shutting down"),
        },
    }
}
