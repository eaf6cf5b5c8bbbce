//! `session_ohlc` against an independent model, however the trades are stored: rows, blocks, a mix, in any order, with and
//! without parallel workers.

use anyhow::Result;
use market::{Calendar, Segments, Session, Trade, TradeDate, Trades};
use tests::model::{self, Gaps, Shown, Width};
use tests::store::{self, Chance, flat, fresh, generate, insert, put, same, seal, sessions, texts};
use tokio_postgres::Client;

const MINUTE: i64 = 60_000_000_000;

/// A question to both sides: its SQL and what the model needs.
struct Question {
    timeframe: &'static str,
    width: Width,
    segments: &'static str,
    gaps: Gaps,
}

const QUESTIONS: [Question; 14] = [
    Question { timeframe: "5m", width: Width::Time(5 * MINUTE), segments: "RTH", gaps: Gaps::None },
    Question { timeframe: "1h", width: Width::Time(60 * MINUTE), segments: "ETH", gaps: Gaps::None },
    Question { timeframe: "7m", width: Width::Time(7 * MINUTE), segments: "ETH", gaps: Gaps::Previous },
    Question { timeframe: "30s", width: Width::Time(MINUTE / 2), segments: "RTH", gaps: Gaps::None },
    Question { timeframe: "1m", width: Width::Time(MINUTE), segments: "ALL", gaps: Gaps::None },
    Question { timeframe: "90m", width: Width::Time(90 * MINUTE), segments: "RTH", gaps: Gaps::Null },
    Question { timeframe: "15m", width: Width::Time(15 * MINUTE), segments: "POST", gaps: Gaps::Previous },
    Question { timeframe: "1d", width: Width::Day, segments: "RTH", gaps: Gaps::None },
    Question { timeframe: "1d", width: Width::Day, segments: "ETH", gaps: Gaps::Previous },
    Question { timeframe: "1d", width: Width::Day, segments: "ALL", gaps: Gaps::None },
    Question { timeframe: "1d", width: Width::Day, segments: "POST", gaps: Gaps::Null },
    Question { timeframe: "1w", width: Width::Week, segments: "RTH", gaps: Gaps::None },
    Question { timeframe: "1w", width: Width::Week, segments: "ETH", gaps: Gaps::Previous },
    Question { timeframe: "1w", width: Width::Week, segments: "ALL", gaps: Gaps::Null },
];

async fn ask(client: &Client, symbol: &str, q: &Question, asked: (&str, &str)) -> Result<Vec<Shown>> {
    let fill = match q.gaps {
        Gaps::None => "none",
        Gaps::Previous => "previous",
        Gaps::Null => "null",
    };
    let rows = client
        .query(
            "SELECT trade_date::text, (EXTRACT(epoch FROM bar_at) * 1000000)::int8, (EXTRACT(epoch FROM bar_end) * 1000000)::int8,
                    open, high, low, close, volume, trades, vwap
             FROM market.session_ohlc($1, $2, $3::text::date, $4::text::date, segments => $5, fill => $6) ORDER BY 2",
            &[&symbol, &q.timeframe, &asked.0, &asked.1, &q.segments, &fill],
        )
        .await?;
    Ok(rows
        .iter()
        .map(|r| {
            let price = |i| r.get::<_, Option<f64>>(i);
            let prices = match (price(3), price(4), price(5), price(6)) {
                (Some(o), Some(h), Some(l), Some(c)) => Some([o, h, l, c]),
                _ => None,
            };
            let at = (r.get::<_, i64>(1) * 1000, r.get::<_, i64>(2) * 1000);
            Shown { date: r.get(0), at, prices, volume: r.get(7), trades: r.get(8), vwap: r.get(9) }
        })
        .collect())
}

fn compare(what: &str, found: &[Shown], expected: &[Shown]) {
    for (f, e) in found.iter().zip(expected) {
        let close = match (f.vwap, e.vwap) {
            (Some(f), Some(e)) => (f - e).abs() <= 1e-12 * e.abs(),
            (f, e) => f == e,
        };
        assert!(close, "{what}: vwap\nfound    {f:?}\nexpected {e:?}");
        assert!(
            Shown { vwap: None, ..f.clone() } == Shown { vwap: None, ..e.clone() },
            "{what}\nfound    {f:?}\nexpected {e:?}"
        );
    }
    assert_eq!(found.len(), expected.len(), "{what}: number of bars");
}

async fn bars_are_the_models(calendar: &str, seed: u64) -> Result<()> {
    let (_db, client, _) = fresh("model", calendar).await?;
    let known = Calendar::builtin(calendar)?;
    // the model also knows the sessions around those with trades
    let all = sessions(&known, "2025-11-03", "2025-12-14")?;
    let (stored_from, stored_till) = (TradeDate::parse("2025-11-19")?, TradeDate::parse("2025-12-02")?);
    let days: Vec<Session<'_>> =
        all.iter().filter(|s| (stored_from..=stored_till).contains(&s.trade_date)).copied().collect();
    let mut chance = Chance::new(seed);
    let mut stored: Vec<Trades> = generate(&mut chance, &days, 400);
    stored[3] = Trades::new();
    let trades = flat(&stored);
    let mut symbols = Vec::new();
    for how in ["ROWS", "BLOCKS", "SEALED", "MIX"] {
        let id = store::instrument(&client, how, calendar).await?;
        let mut shuffled = trades.clone();
        chance.shuffle(&mut shuffled);
        match how {
            "ROWS" => insert(&client, id, &shuffled).await?,
            "BLOCKS" => {
                for day in stored.iter().rev().filter(|d| !d.is_empty()) {
                    put(&client, id, day).await?;
                }
            }
            "SEALED" => {
                for some in shuffled.chunks(shuffled.len() / 3 + 1) {
                    insert(&client, id, some).await?;
                    for day in &days {
                        seal(&client, how, day).await?;
                    }
                }
            }
            _ => {
                for (at, day) in stored.iter().enumerate().filter(|(_, d)| !d.is_empty()) {
                    let half: Trades = day.iter().filter(|_| chance.once_in(2)).collect();
                    if at % 3 != 0 {
                        put(&client, id, &half).await?;
                    }
                    let mut rows: Vec<Trade> = day
                        .iter()
                        .filter(|t| at % 3 == 0 || chance.once_in(5) || !half.iter().any(|h| h.key() == t.key()))
                        .collect();
                    chance.shuffle(&mut rows);
                    insert(&client, id, &rows).await?;
                    if at % 4 == 2 {
                        seal(&client, how, &days[at]).await?;
                    }
                }
            }
        }
        symbols.push(how);
    }
    client.batch_execute("CREATE TABLE ask (symbol text) WITH (parallel_workers = 2); INSERT INTO ask SELECT 'ROWS' FROM generate_series(1, 3); ANALYZE ask").await?;
    for asked in [
        ("2025-11-19", "2025-12-02"),
        ("2025-11-24", "2025-11-28"),
        ("2025-11-28", "2025-11-28"),
        ("2025-11-10", "2025-11-14"),
    ] {
        let dates = (TradeDate::parse(asked.0)?.0, TradeDate::parse(asked.1)?.0);
        for q in &QUESTIONS {
            let expected = model::bars(&all, &trades, q.width, Segments::parse(q.segments)?, q.gaps, dates);
            for symbol in &symbols {
                for source in ["auto", "minutes", "trades"] {
                    client.batch_execute(&format!("SET bellwether.source = {source}")).await?;
                    let what =
                        format!("{calendar} {symbol} {source} {} {} {:?} {asked:?}", q.timeframe, q.segments, q.gaps);
                    compare(&what, &ask(&client, symbol, q, asked).await?, &expected);
                }
            }
        }
    }
    workers_change_no_answer(&client, &symbols).await
}

/// The same question asked by the leader and by parallel workers.
async fn workers_change_no_answer(client: &Client, symbols: &[&str]) -> Result<()> {
    client.batch_execute("SET bellwether.source = auto; SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0; SET min_parallel_table_scan_size = 0").await?;
    for symbol in symbols {
        client.batch_execute(&format!("UPDATE ask SET symbol = '{symbol}'")).await?;
        for (timeframe, segments) in [("5m", "RTH"), ("30s", "ETH"), ("1d", "ALL")] {
            let sql = format!(
                "SELECT b.* FROM ask, LATERAL market.session_ohlc(symbol, '{timeframe}', '2025-11-19', '2025-12-02', segments => '{segments}') AS b ORDER BY b.bar_at, b.open"
            );
            let mut answers = Vec::new();
            for workers in [0, 2] {
                client.batch_execute(&format!("SET max_parallel_workers_per_gather = {workers}")).await?;
                let plan = texts(client, &format!("EXPLAIN (ANALYZE, COSTS OFF) {sql}")).await?.join("\n");
                assert_eq!(plan.contains("Workers Launched: 2"), workers == 2, "{plan}");
                answers.push(texts(client, &sql).await?);
            }
            same("workers", &answers[1], &answers[0]);
            // the view's scan, where the planner may use workers or not
            let sql = format!(
                "SELECT trade_date, segment, count(*), sum(size::numeric), min(price), max(price) FROM market.trades WHERE symbol = '{symbol}' GROUP BY 1, 2 ORDER BY 1, 2"
            );
            client.batch_execute("SET max_parallel_workers_per_gather = 0").await?;
            let alone = texts(client, &sql).await?;
            client.batch_execute("SET max_parallel_workers_per_gather = 2").await?;
            same("view", &texts(client, &sql).await?, &alone);
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn bars_of_an_equity_are_the_models_however_they_are_stored() -> Result<()> {
    bars_are_the_models("XNYS", 31).await
}

#[tokio::test(flavor = "multi_thread")]
async fn bars_of_a_future_are_the_models_however_they_are_stored() -> Result<()> {
    bars_are_the_models("CME_EQUITY", 32).await
}

#[tokio::test(flavor = "multi_thread")]
async fn bars_over_a_lunch_break_are_the_models_however_they_are_stored() -> Result<()> {
    bars_are_the_models("XHKG", 33).await
}

#[tokio::test(flavor = "multi_thread")]
async fn bars_with_closing_auctions_are_the_models_however_they_are_stored() -> Result<()> {
    bars_are_the_models("XLON", 34).await
}
