//! Records that were appended for a note. Once a record is durable its note is cleared: with the sale's next batch, at
//! once when none is under way.

use super::batcher::Batcher;
use crate::pipeline::CoreDurable;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use tidegate_stock::Lsn;
use tidegate_stock::redis::Note;
use tokio::sync::{Notify, oneshot};

/// Of one thread, in the order of its log positions. Bounded by what the log accepts without having written it.
#[derive(Default)]
pub(super) struct Owed {
    entries: RefCell<VecDeque<Entry>>,
    wake: Notify,
}

struct Entry {
    lsn: Lsn,
    batcher: Rc<Batcher>,
    note: Note,
    cleared: Option<oneshot::Sender<()>>,
}

impl Owed {
    /// The record of `note` stands before `lsn`. `cleared` hears when Redis has taken the note off.
    pub(super) fn push(
        &self,
        lsn: Lsn,
        batcher: &Rc<Batcher>,
        note: Note,
        cleared: Option<oneshot::Sender<()>>,
    ) {
        self.entries.borrow_mut().push_back(Entry { lsn, batcher: batcher.clone(), note, cleared });
        self.wake.notify_one();
    }

    /// Hands notes on as the log becomes durable, until it fails. What stands then is claimed by another gateway.
    pub(super) async fn run(&self, durable: &CoreDurable) {
        loop {
            let first = self.entries.borrow().front().map(|entry| entry.lsn);
            let Some(first) = first else {
                self.wake.notified().await;
                continue;
            };
            if durable.wait(first).await.is_err() {
                return;
            }
            let mut entries = self.entries.borrow_mut();
            let mut touched: Vec<Rc<Batcher>> = Vec::new();
            while entries.front().is_some_and(|entry| durable.is_reached(entry.lsn)) {
                let Some(Entry { batcher, note, cleared, .. }) = entries.pop_front() else { break };
                batcher.clear(note, cleared);
                if !touched.iter().any(|known| Rc::ptr_eq(known, &batcher)) {
                    touched.push(batcher);
                }
            }
            drop(entries);
            for batcher in touched {
                batcher.kick();
            }
        }
    }
}
