//! The one thread that writes: takes whatever steps have gathered, runs them in one transaction, commits, and
//! only then answers. While a commit waits for the disk the next steps gather, so the number of commits adapts
//! to the load.

use super::db::DbError;
use rusqlite::{Connection, Transaction, TransactionBehavior};
use std::thread;
use tokio::sync::{mpsc, oneshot};

/// Steps in one transaction, at most: bounds how long others wait for the file's lock.
const BATCH_MAX: usize = 512;

/// Steps that wait for the thread, at most; then callers wait.
const WAITING_MAX: usize = 1024;

/// Runs in the transaction, or learns why there is none; what it returns is called after the commit, with the
/// commit's outcome.
type Step = Box<dyn FnOnce(Result<&Transaction<'_>, DbError>) -> Told + Send>;
type Told = Box<dyn FnOnce(Result<(), DbError>) + Send>;

/// Clones share the thread; it ends, and closes the file, when the last one is dropped.
#[derive(Debug, Clone)]
pub(super) struct Writer {
    steps: mpsc::Sender<Step>,
}

impl Writer {
    pub(super) fn start(connection: Connection) -> std::io::Result<Self> {
        let (steps, waiting) = mpsc::channel(WAITING_MAX);
        thread::Builder::new().name("orders-sqlite".to_owned()).spawn(move || run(connection, waiting))?;
        Ok(Self { steps })
    }

    /// One step, durable when this returns `Ok`. It must write with one statement: a failed step's earlier
    /// statements would be committed with the rest of the batch.
    ///
    /// Cancel safety: the step may still run.
    pub(super) async fn step<T: Send + 'static>(
        &self,
        step: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, DbError> {
        let (answer, answered) = oneshot::channel();
        let step: Step = Box::new(move |tx| {
            let result = tx.and_then(|tx| step(tx).map_err(DbError::from));
            Box::new(move |committed| {
                // Nobody waits any more when the caller was cancelled.
                let _cancelled = answer.send(committed.and(result));
            })
        });
        self.steps.send(step).await.map_err(|_| DbError::Closed)?;
        answered.await.map_err(|_| DbError::Closed)?
    }
}

fn run(mut connection: Connection, mut waiting: mpsc::Receiver<Step>) {
    let mut batch = Vec::with_capacity(BATCH_MAX);
    while waiting.blocking_recv_many(&mut batch, BATCH_MAX) > 0 {
        commit(&mut connection, &mut batch);
    }
}

fn commit(connection: &mut Connection, batch: &mut Vec<Step>) {
    // Immediate: waits for the lock before anything is read, so a step never fails half-way on a busy file.
    let (told, committed) = match connection.transaction_with_behavior(TransactionBehavior::Immediate) {
        Ok(tx) => {
            let told: Vec<Told> = batch.drain(..).map(|step| step(Ok(&tx))).collect();
            (told, tx.commit().map_err(DbError::from))
        }
        Err(error) => {
            let error = DbError::from(error);
            tracing::warn!(%error, steps = batch.len(), "the order database takes no transaction");
            (batch.drain(..).map(|step| step(Err(error.clone()))).collect(), Ok(()))
        }
    };
    for tell in told {
        tell(committed.clone());
    }
}
