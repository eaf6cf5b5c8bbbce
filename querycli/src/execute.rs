//! One statement, from its text to the printed rows: streamed, cancellable, within limits.

use crate::cli::options::Limits;
use crate::error::{Error, Result};
use crate::guard::{self, THREAD};
use crate::output::{Format, Target};
use crate::progress::Progress;
use crate::{Rows, Session, output};
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::sql::parser::Statement;
use futures_util::StreamExt;
use std::future::Future;
use std::sync::LazyLock;
use std::time::Duration;
use tokio::runtime::{Handle, Runtime, RuntimeFlavor};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// The threads that statements run on. A plan may compute for long without a pause; Ctrl-C and the clock are heard elsewhere.
pub fn workers() -> &'static Runtime {
    static WORKERS: LazyLock<Runtime> = LazyLock::new(|| {
        let runtime = tokio::runtime::Builder::new_multi_thread().thread_name(THREAD).enable_all().build();
        runtime.expect("threads can be started: without them there is no program")
    });
    &WORKERS
}

/// Waits where nothing can be awaited: a function of rows, the planning of one of tables, a reader of an archive that may lie in a
/// store. On the threads that statements run on another takes this one's place meanwhile.
pub fn wait<T: Send>(asked: impl Future<Output = T> + Send) -> T {
    match Handle::try_current() {
        Ok(handle) if handle.runtime_flavor() == RuntimeFlavor::MultiThread => {
            tokio::task::block_in_place(|| handle.block_on(asked))
        }
        Err(_) => workers().block_on(asked),
        // a runtime of one thread would wait for itself
        Ok(_) => std::thread::scope(|scope| {
            let waiting = scope.spawn(|| workers().block_on(asked));
            waiting.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        }),
    }
}

fn lost(error: &tokio::task::JoinError) -> Error {
    Error::world(format!("querycli has a defect: {error}"), "please report it, with the statement")
}

/// Opens a session whose connections live on the workers.
///
/// # Errors
/// Those of [`Session::open`].
pub async fn open(options: crate::Options) -> Result<Session> {
    workers().spawn(Session::open(options)).await.map_err(|error| lost(&error))?
}

/// All rows of a statement.
///
/// # Errors
/// Those of [`Session::rows`].
pub async fn rows(session: &Session, sql: String) -> Result<Rows> {
    let of = session.clone();
    let mut running = Running(workers().spawn(async move { of.rows(&sql).await }));
    (&mut running.0).await.map_err(|error| lost(&error))?
}

/// What came of a statement.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Rows printed.
    pub rows: usize,
    /// Whether there were more.
    pub cut: bool,
}

/// How often a bar shows that work goes on.
const TICK: Duration = Duration::from_millis(200);

/// What the running statement sends.
enum Piece {
    Schema(SchemaRef),
    Rows(RecordBatch),
}

/// Ends with the future that owns it: a statement that is not waited for any more does not run on.
struct Running<T>(JoinHandle<T>);

impl<T> Drop for Running<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Runs a statement and prints its rows. Ctrl-C and the time limit cancel it.
///
/// # Errors
/// What is wrong with the statement or the world; that it was cancelled.
pub async fn print(
    session: &Session,
    statement: Statement,
    limits: Limits,
    format: Format,
    target: &mut Target,
) -> Result<Outcome> {
    let progress = Progress::rows(target.is_terminal());
    let (sender, mut pieces) = mpsc::channel(4);
    let of = session.clone();
    // A task of its own: it can be given up even while it computes.
    let _running = Running(workers().spawn(async move {
        // Its silence would look like an answer's end.
        if let Err(panic) = guard::caught(produce(&of, statement, &sender)).await {
            drop(sender.send(Err(guard::defect(&panic, ""))).await);
        }
    }));
    within(limits, async {
        let mut sink: Option<Box<dyn output::Sink + '_>> = None;
        let mut outcome = Outcome::default();
        let mut target = Some(target);
        let mut clock = tokio::time::interval(TICK);
        loop {
            let piece = tokio::select! {
                biased;
                piece = pieces.recv() => piece,
                _ = clock.tick() => {
                    progress.tick();
                    continue;
                }
            };
            let Some(piece) = piece else { break };
            match piece? {
                // An answer without columns is that of a statement which has none.
                Piece::Schema(schema) if schema.fields().is_empty() => {}
                Piece::Schema(schema) => {
                    if let Some(target) = target.take() {
                        target.begin(format)?;
                        sink = Some(format.sink(&schema, target.out())?);
                    }
                }
                Piece::Rows(mut rows) => {
                    let left = limits.max_rows.map_or(usize::MAX, |most| most - outcome.rows.min(most));
                    if rows.num_rows() > left {
                        outcome.cut = true;
                        rows = rows.slice(0, left);
                    }
                    outcome.rows += rows.num_rows();
                    progress.advance(rows.num_rows());
                    if let Some(sink) = &mut sink {
                        sink.write(&rows)?;
                    }
                    if outcome.cut {
                        break;
                    }
                }
            }
        }
        if let Some(sink) = sink {
            sink.finish(outcome.cut)?;
        }
        Ok(outcome)
    })
    .await
    .inspect(|outcome| {
        if outcome.cut && !format.tells_of_more() {
            progress.note(&format!("note: cut after {} rows by --max-rows; there are more", outcome.rows));
        }
    })
}

async fn produce(session: &Session, statement: Statement, sender: &mpsc::Sender<Result<Piece>>) {
    let mut rows = match session.begin(statement).await {
        Ok(rows) => rows,
        Err(error) => return drop(sender.send(Err(error)).await),
    };
    if sender.send(Ok(Piece::Schema(rows.schema()))).await.is_err() {
        return;
    }
    while let Some(batch) = rows.next().await {
        let failed = batch.is_err();
        // A receiver that is gone has enough.
        if sender.send(batch.map(Piece::Rows).map_err(Error::from)).await.is_err() || failed {
            return;
        }
    }
}

/// Gives a future up at Ctrl-C and at the time limit.
///
/// # Errors
/// The future's own, and that it was given up.
pub async fn within<T>(limits: Limits, work: impl Future<Output = Result<T>>) -> Result<T> {
    let expired = async {
        match limits.timeout {
            Some(time) => tokio::time::sleep(time).await,
            None => std::future::pending().await,
        }
    };
    let interrupted = async {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    };
    tokio::select! {
        done = work => done,
        () = expired => {
            let time = limits.timeout.unwrap_or_default();
            Err(Error::world(
                format!("cancelled: it took longer than {time:?}"),
                "ask for less, or give it more with --timeout",
            ))
        }
        () = interrupted => Err(Error::world(CANCELLED, "")),
    }
}

const CANCELLED: &str = "cancelled";

/// Whether the user pressed Ctrl-C.
pub fn is_cancelled(error: &Error) -> bool {
    error.message == CANCELLED
}
