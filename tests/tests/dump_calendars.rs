//! A dump holds what users did to calendars: versions, drafts, exceptions, halts.

use anyhow::Result;
use tests::cluster;
use tests::store::{copied, texts};

/// A user's calendar, a corrected shipped one, a draft and halts come back, and the next version counts on from there.
#[tokio::test]
async fn a_restored_dump_has_the_users_calendars() -> Result<()> {
    let database = cluster::database("dumped_calendars").await?;
    let client = database.client().await?;
    client.batch_execute("SELECT market.add_instrument('SPY', calendar => 'XNYS', tick_size => 0.01)").await?;
    let own = "schema = 1\nid = \"ACME\"\naliases = [\"ACME_ALL\"]\ntz = \"America/New_York\"\nknown = [2025-01-01, 2026-12-31]\n\
               [[hours]]\ndays = \"mon-fri\"\nRTH = \"10:00-15:00\"\n";
    client.query_one("SELECT market.calendar_define($1, 'ours')", &[&own]).await?;
    client
        .batch_execute(
            "SELECT market.calendar_publish('ACME', 'first');
             SELECT market.calendar_except('XNYS', '2025-12-02', 'RTH = \"09:30-12:00\"', 'flood');
             SELECT market.calendar_publish('XNYS', 'flood');
             SELECT market.calendar_except('XNYS', '2025-12-03', 'closed = true', 'still a draft');
             INSERT INTO market.calendar_exceptions (calendar, trade_date, kind, from_ts, till_ts, note)
             VALUES ('XNYS', '2025-12-04', 'outage', '2025-12-04 15:00+00', '2025-12-04 15:30+00', 'a power cut');
             SELECT market.note_halt('SPY', '2025-12-04 16:00+00', '2025-12-04 16:05+00', 'news')",
        )
        .await?;
    let questions = [
        "SELECT calendar, version, state, note, published_by, md5(toml || exceptions) FROM market.calendar_versions ORDER BY 1, 2",
        "SELECT calendar, trade_date, kind, toml, instrument_id, from_ts, till_ts, note FROM market.calendar_exceptions ORDER BY id",
        "SELECT * FROM market.sessions('ACME_ALL', '2025-12-01', '2025-12-05')",
        "SELECT * FROM market.sessions('XNYS', '2025-12-01', '2025-12-05', hours => 'actual')",
        "SELECT * FROM market.sessions('XNYS@1', '2025-12-01', '2025-12-05')",
        "SELECT * FROM market.sessions('XNYS@draft', '2025-12-01', '2025-12-05', 'RTH')",
        "SELECT id, version FROM market.calendars WHERE id IN ('ACME', 'XNYS')",
    ];
    let mut before = Vec::new();
    for question in questions {
        before.push(texts(&client, question).await?);
    }
    assert!(before.iter().all(|answer| !answer.is_empty()), "{before:?}");
    let restored = copied(&database, "restored_calendars").await?;
    let client = restored.client().await?;
    for (question, expected) in questions.iter().zip(&before) {
        assert_eq!(texts(&client, question).await?, *expected, "{question}");
    }
    // the draft is published there under the next number, and a new exception finds a free id
    assert_eq!(texts(&client, "SELECT version FROM market.calendar_publish('XNYS')").await?, ["3"]);
    client.batch_execute("SELECT market.note_halt('SPY', '2025-12-05 16:00+00')").await?;
    Ok(())
}
