//! What happens beside writing: maintenance, new calendars, gaps of a feed, transactions that begin, end and roll back.

use crate::BOOKS;
use crate::stream::{Connection, Open, Stream, symbol};
use anyhow::Result;
use std::collections::BTreeSet;
use tests::ledger::Effect;

impl Stream {
    pub async fn maintain(&mut self, at: usize) -> Result<()> {
        let others = |c: &Connection| c.open.as_ref().is_some_and(|open| open.publishes);
        if self.connections[at].open.is_some() || self.connections.iter().any(others) {
            return Ok(());
        }
        // a slot is not truncated under a transaction that looked at it, and waiting for it takes a tenth of a second
        let alone = self.connections.iter().all(|c| c.open.is_none());
        let job = ["seal", "verify", "slots", "partitions", "history"][self.chance.within(0, 5) as usize];
        if job == "slots" && !alone {
            return Ok(());
        }
        self.say(at, format!("maintain {job}"));
        self.connections[at].client.batch_execute(&format!("CALL market.maintain('{job}')")).await?;
        let state = "SELECT job, coalesce(last_error, '') FROM market.job_status WHERE job = $1";
        let rows = self.connections[at].query(state, &[&job]).await?;
        assert_eq!(rows[0].get::<_, String>(1), "", "maintain {job}");
        if job == "seal" {
            let taken: BTreeSet<(usize, i32)> =
                self.connections.iter().filter_map(|c| c.open.as_ref()).flat_map(|open| open.locks.clone()).collect();
            for b in 0..BOOKS {
                for w in self.known[self.committed.calendar].windows.clone() {
                    if !taken.contains(&(b, w.date)) {
                        let effects = self.committed.seal(b, &w);
                        self.note(at, effects);
                    }
                }
            }
        }
        Ok(())
    }

    pub async fn publish(&mut self, at: usize) -> Result<()> {
        let busy = |c: &Connection| c.open.as_ref().is_some_and(|open| open.publishes || !open.locks.is_empty());
        if self.connections.iter().enumerate().any(|(n, c)| n != at && busy(c))
            || self.connections[at].open.as_ref().is_some_and(|open| open.snapshot.is_some())
        {
            return Ok(());
        }
        let view = self.view(at);
        let next = (view.calendar + self.chance.within(1, self.known.len() as i64) as usize) % self.known.len();
        self.say(at, format!("publish calendar {next}"));
        let toml = self.known[next].toml.clone();
        self.connections[at].query("SELECT market.calendar_define($1)", &[&toml]).await?;
        self.connections[at].query("SELECT market.calendar_publish('ACME')", &[]).await?;
        let effects = view.publish(next, &self.known[next].windows);
        self.note(at, effects);
        if let Some(open) = &mut self.connections[at].open {
            open.publishes = true;
        }
        Ok(())
    }

    pub async fn transact(&mut self, at: usize) -> Result<()> {
        let snapshot = self.committed.clone();
        let chance = self.chance.within(0, 10);
        let connection = &mut self.connections[at];
        let what = match &mut connection.open {
            None => {
                let isolation = if chance < 4 { "REPEATABLE READ" } else { "READ COMMITTED" };
                let sql = format!("BEGIN ISOLATION LEVEL {isolation}");
                connection.client.batch_execute(&sql).await?;
                // the first statement takes the snapshot
                connection.client.batch_execute("SELECT FROM market.instruments").await?;
                connection.open = Some(Open {
                    snapshot: (chance < 4).then_some(snapshot),
                    effects: Vec::new(),
                    savepoints: Vec::new(),
                    locks: Vec::new(),
                    publishes: false,
                });
                sql
            }
            Some(open) => match chance {
                0..=2 => {
                    open.savepoints.push((open.effects.len(), open.locks.len()));
                    let sql = format!("SAVEPOINT s{}", open.savepoints.len());
                    connection.client.batch_execute(&sql).await?;
                    sql
                }
                3..=4 if !open.savepoints.is_empty() => {
                    let depth = 1 + chance as usize % open.savepoints.len();
                    let sql = format!("ROLLBACK TO SAVEPOINT s{depth}");
                    let (effects, locks) = open.savepoints[depth - 1];
                    open.effects.truncate(effects);
                    open.locks.truncate(locks);
                    open.savepoints.truncate(depth);
                    connection.client.batch_execute(&sql).await?;
                    sql
                }
                5 if !open.savepoints.is_empty() => {
                    let sql = format!("RELEASE SAVEPOINT s{}", open.savepoints.len());
                    open.savepoints.pop();
                    connection.client.batch_execute(&sql).await?;
                    sql
                }
                6..=7 => {
                    connection.client.batch_execute("ROLLBACK").await?;
                    connection.open = None;
                    "ROLLBACK".to_owned()
                }
                _ => {
                    connection.client.batch_execute("COMMIT").await?;
                    let effects = connection.open.take().map(|open| open.effects).unwrap_or_default();
                    effects.iter().for_each(|effect| self.committed.apply(effect));
                    "COMMIT".to_owned()
                }
            },
        };
        self.say(at, what);
        Ok(())
    }

    /// A feed notices a gap, or closes one: sessions that are sealed meanwhile stay provisional.
    pub async fn gap(&mut self, at: usize) -> Result<()> {
        if self.connections[at].open.is_some() {
            return Ok(());
        }
        let b = self.chance.within(0, BOOKS as i64) as usize;
        let open: Vec<i64> = self.committed.books[b].gaps.keys().copied().collect();
        let effect = if open.is_empty() || self.chance.once_in(3) {
            let from = self.instants[self.chance.within(0, self.instants.len() as i64) as usize] / 1000;
            let till = from + [0, 1, 3_600_000_000][self.chance.within(0, 3) as usize];
            self.say(at, format!("gap of {}: {from} to {till}", symbol(b)));
            let sql =
                "INSERT INTO market.feed_gaps (feed, instrument_id, first_missing, last_missing, from_ts, till_ts)
                VALUES ('f', $1, 1, 2, timestamptz 'epoch' + $2::int8 * interval '1 microsecond',
                        timestamptz 'epoch' + $3::int8 * interval '1 microsecond') RETURNING id";
            let id = self.connections[at].query(sql, &[&self.ids[b], &from, &till]).await?[0].get(0);
            Effect::Gap(b, id, Some((from * 1000, till * 1000)))
        } else {
            let id = open[self.chance.within(0, open.len() as i64) as usize];
            self.say(at, format!("gap {id} of {} is closed", symbol(b)));
            self.connections[at].query("UPDATE market.feed_gaps SET closed_at = now() WHERE id = $1", &[&id]).await?;
            Effect::Gap(b, id, None)
        };
        self.note(at, vec![effect]);
        Ok(())
    }
}
