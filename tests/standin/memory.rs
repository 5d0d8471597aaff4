//! What the server from memory keeps, and how it meets a request.

use std::sync::{Mutex, MutexGuard};

use super::answer::{self, Reply};
use super::call::Call;
use super::work::{Payload, Store};

/// All of it, behind one lock: one request at a time does its work.
#[derive(Default)]
pub(crate) struct Memory(Mutex<Inside>);

#[derive(Default)]
pub(crate) struct Inside {
    pub(crate) store: Store,
    /// The bearer key that every request must carry.
    pub(crate) key: Option<String>,
}

impl Memory {
    pub(crate) fn lock(&self) -> MutexGuard<'_, Inside> {
        self.0.lock().expect("not poisoned")
    }

    /// Forgets what a restart forgets.
    pub(crate) fn forget_uploads(&self) {
        self.lock().store.uploads.clear();
    }

    /// Part of a part has come, over a connection that nobody knows to be gone.
    pub(crate) fn wait_for_the_rest(&self, call: &Call) {
        let mut inside = self.lock();
        if let (Some(upload), Ok(number)) = (inside.store.uploads.get_mut(&call.id), call.rest.parse()) {
            upload.arriving.insert(number);
        }
    }

    pub(crate) fn answer(&self, call: &Call, payload: &Payload) -> Reply {
        let mut inside = self.lock();
        let known = inside
            .key
            .as_ref()
            .is_none_or(|known| payload.key.as_deref() == Some(&format!("Bearer {known}")));
        match call.op {
            _ if payload.agent.to_lowercase().contains("oxen") => {
                answer::error(426, "update_required", "Update Required", "")
            }
            _ if !known => answer::message(401, "unauthorized"),
            None => answer::message(404, "resource_not_found"),
            Some(op) => inside.store.work(op, call, payload),
        }
    }
}
