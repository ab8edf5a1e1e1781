//! One gateway of a fleet.

use crate::Client;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// A gateway under one of its addresses. Clones are the same one; equal are those with the same address and id.
#[derive(Debug, Clone)]
pub struct Member {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    id: String,
    client: Client,
    answers: AtomicBool,
}

impl Member {
    pub(super) fn new(id: &str, client: Client, answers: bool) -> Self {
        Self { inner: Arc::new(Inner { id: id.to_owned(), client, answers: AtomicBool::new(answers) }) }
    }

    /// Base URL of the inner listener.
    pub fn url(&self) -> &str {
        self.inner.client.base_url()
    }

    /// The gateway's id; empty while it has not told one.
    pub fn id(&self) -> &str {
        &self.inner.id
    }

    /// What to call it in logs and figures, and to tell its offsets from those of others: its id, else its URL.
    pub fn name(&self) -> &str {
        if self.id().is_empty() { self.url() } else { self.id() }
    }

    /// To speak to this one alone.
    pub fn client(&self) -> &Client {
        &self.inner.client
    }

    /// Whether it answered when it was last asked for anything of the fleet's.
    pub fn answers(&self) -> bool {
        self.inner.answers.load(Ordering::Relaxed)
    }

    pub(super) fn set_answers(&self, answers: bool) {
        self.inner.answers.store(answers, Ordering::Relaxed);
    }
}

impl PartialEq for Member {
    fn eq(&self, other: &Self) -> bool {
        self.url() == other.url() && self.id() == other.id()
    }
}

impl Eq for Member {}
