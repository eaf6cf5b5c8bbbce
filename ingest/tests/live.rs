//! The live feed against a replay server: every trade once, whatever the network and the database do.

mod support;

use ingest::Error;
use ingest::db::{Creating, Place};
use ingest::feed::Reject;
use ingest::live::sequence::{Commit, Gap, Mark};
use ingest::live::sink::Sink;
use ingest::live::{self, Options, Venue, socket};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use support::replay::{self, End, Step};
use tokio::sync::{Notify, mpsc, watch};

/// What a database would hold, and what goes wrong with it.
#[derive(Default)]
struct Store {
    ids: Vec<i64>,
    marks: BTreeMap<i32, Mark>,
    gaps: Vec<Gap>,
    rejects: usize,
    /// For each commit to come: lost before it happened, or after.
    failures: Vec<Lost>,
}

#[derive(Clone, Copy, PartialEq)]
enum Lost {
    Never,
    Before,
    After,
}

#[derive(Clone, Default)]
struct Stub {
    store: Arc<Mutex<Store>>,
    changed: Arc<Notify>,
}

impl Stub {
    fn lost() -> Error {
        Error::Connection("the connection is gone".into())
    }

    async fn until(&self, done: impl Fn(&Store) -> bool) {
        let wait = async {
            loop {
                let changed = self.changed.notified();
                if done(&self.store.lock().expect("nobody panicked")) {
                    return;
                }
                changed.await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), wait).await.expect("the trades arrive within a minute");
    }
}

impl Sink for Stub {
    async fn marks(&mut self) -> ingest::Result<BTreeMap<i32, Mark>> {
        Ok(self.store.lock().expect("nobody panicked").marks.clone())
    }

    async fn commit(&mut self, commit: &Commit) -> ingest::Result<()> {
        let mut store = self.store.lock().expect("nobody panicked");
        let failure = store.failures.pop().unwrap_or(Lost::Never);
        if failure == Lost::Before {
            return Err(Stub::lost());
        }
        for (instrument, (before, now)) in &commit.marks {
            assert_eq!(store.marks.get(instrument).copied(), *before, "a batch is made after the mark it replaces");
            store.marks.insert(*instrument, *now);
        }
        store.ids.extend(commit.trades.iter().map(|(_, t)| t.seq));
        store.gaps.extend(&commit.gaps);
        drop(store);
        self.changed.notify_waiters();
        if failure == Lost::After { Err(Stub::lost()) } else { Ok(()) }
    }

    async fn reject(&mut self, _: &Reject) -> ingest::Result<()> {
        self.store.lock().expect("nobody panicked").rejects += 1;
        self.changed.notify_waiters();
        Ok(())
    }
}

fn options(url: &str) -> Options {
    Options {
        db: Place::parse("postgresql://nobody@localhost/nowhere").expect("a URL"),
        venue: Venue::Binance,
        symbols: vec!["btcusdt".into()],
        url: Some(url.into()),
        creating: Creating::default(),
        batch: 500,
        flush: Duration::from_millis(20),
        silence: Duration::from_millis(500),
        backoff: Duration::from_millis(5),
    }
}

/// Follows `steps` until `done`, then stops.
async fn follow(stub: &Stub, steps: Vec<Step>, done: impl Fn(&Store) -> bool) -> (live::Totals, replay::Replay) {
    let server = replay::serve(steps).await;
    let options = options(&server.url);
    let (stop, stopped) = watch::channel(false);
    let (arrivals, received) = mpsc::channel(1000);
    let follow = socket::Follow {
        url: server.url.clone(),
        symbols: vec!["BTCUSDT".into()],
        silence: options.silence,
        backoff: options.backoff,
    };
    let socket = tokio::spawn(socket::follow(follow, arrivals, stopped.clone()));
    let stopping = async {
        stub.until(done).await;
        stop.send(true).expect("both tasks listen");
    };
    let (totals, ()) = tokio::join!(live::write(stub.clone(), &[1], received, &options, stopped), stopping);
    let totals = totals.expect("no error");
    socket.await.expect("no panic");
    (totals, server)
}

/// Messages of the capture up to its `n`-th trade, with everything between.
fn messages(n: usize) -> Option<Vec<String>> {
    let path = support::testdata("ticks/binance/btcusdt_spot_20240809.ndjson.gz")?;
    let mut left = n;
    Some(
        replay::capture(&path)
            .into_iter()
            .take_while(|m| {
                let wanted = left > 0;
                left -= usize::from(left > 0 && replay::is_trade(m));
                wanted
            })
            .collect(),
    )
}

fn assert_each_once(ids: &[i64], n: usize) {
    assert_eq!(ids.len(), n);
    assert!(ids.windows(2).all(|w| w[1] == w[0] + 1), "ids follow each other");
}

#[tokio::test]
async fn disconnects_in_mid_stream_neither_lose_nor_repeat_a_trade() {
    let Some(all) = messages(10_147) else { return };
    let stub = Stub::default();
    // Each connection begins some messages before the last one broke off, as a venue's snapshot does.
    let cut = |from: usize, till: usize, then| Step { messages: all[from..till].to_vec(), then };
    let n = all.len();
    let steps = vec![
        cut(0, n / 5, End::Drop),
        cut(n / 5 - 1000, n / 2, End::Close),
        Step { messages: vec![], then: End::Drop },
        cut(n / 2 - 5000, n * 3 / 4, End::Silent),
        cut(n * 3 / 4 - 1, n, End::Stay),
    ];
    let (totals, server) = follow(&stub, steps, |s| s.ids.len() >= 10_147).await;
    let store = stub.store.lock().expect("nobody panicked");
    assert_each_once(&store.ids, 10_147);
    assert_eq!(store.ids[0], 3_735_693_016);
    assert_eq!((totals.trades, totals.gaps, totals.rejects, totals.connections), (10_147, 0, 0, 5));
    assert!(totals.known > 0, "repeated trades were seen");
    assert!(server.pongs.load(std::sync::atomic::Ordering::SeqCst) > 0, "pings are answered");
}

#[tokio::test]
async fn a_commit_whose_answer_was_lost_is_not_repeated() {
    let Some(all) = messages(3000) else { return };
    let stub = Stub::default();
    stub.store.lock().expect("nobody panicked").failures =
        vec![Lost::After, Lost::Never, Lost::Before, Lost::After, Lost::Never];
    let (totals, _server) =
        follow(&stub, vec![Step { messages: all, then: End::Stay }], |s| s.ids.len() >= 3000 && s.failures.is_empty())
            .await;
    assert_each_once(&stub.store.lock().expect("nobody panicked").ids, 3000);
    assert_eq!(totals.gaps, 0);
}

#[tokio::test]
async fn what_the_venue_did_not_deliver_is_a_gap() {
    let Some(all) = messages(400) else { return };
    let trades: Vec<String> = all.into_iter().filter(|m| replay::is_trade(m)).collect();
    let stub = Stub::default();
    let steps = vec![
        Step { messages: trades[..100].to_vec(), then: End::Drop },
        Step { messages: trades[150..].to_vec(), then: End::Stay },
    ];
    let (totals, _server) = follow(&stub, steps, |s| s.ids.len() >= 350).await;
    let store = stub.store.lock().expect("nobody panicked");
    let first = 3_735_693_016;
    assert_eq!(totals.gaps, 1);
    assert_eq!((store.gaps[0].first, store.gaps[0].last), (first + 100, first + 149));
}

#[tokio::test]
async fn a_message_that_cannot_be_read_is_kept_and_passed_over() {
    let Some(all) = messages(10) else { return };
    let stub = Stub::default();
    let mut messages = all;
    messages.insert(3, "{\"e\":\"trade\",\"s\":\"BTCUSDT\"}".into());
    messages.insert(4, "not json".into());
    let steps = vec![Step { messages, then: End::Stay }];
    let (totals, _server) = follow(&stub, steps, |s| s.ids.len() == 10 && s.rejects == 2).await;
    assert_eq!((totals.trades, totals.rejects, totals.connections), (10, 2, 1));
}
