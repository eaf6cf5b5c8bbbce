//! ASOF JOIN against a search through all pairs, and the filling of gaps.

#![allow(clippy::unwrap_used, reason = "a test that cannot run its program has failed")]

use std::fmt::Write as _;
use std::path::Path;
use std::process::{Command, Output};

fn run(dir: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_querycli"));
    command.current_dir(dir).args(arguments);
    for name in ["BELLWETHER_DB", "BELLWETHER_READ_DB", "BELLWETHER_ARCHIVE", "PGSERVICE"] {
        command.env_remove(name);
    }
    command.output().unwrap()
}

fn csv(dir: &Path, sql: &str) -> Vec<Vec<String>> {
    let out = run(dir, &["left.csv", "right.csv", "--format", "csv", "-c", sql]);
    assert!(out.status.success(), "{sql}: {}", String::from_utf8_lossy(&out.stderr));
    let text = String::from_utf8(out.stdout).unwrap();
    text.lines().skip(1).map(|line| line.split(',').map(str::to_owned).collect()).collect()
}

/// Numerical Recipes' generator: the rows are the same in every run.
struct Chance(u64);

impl Chance {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n
    }
}

#[derive(Clone, Debug)]
struct Row {
    id: u64,
    symbol: String,
    /// Milliseconds; some rows have none.
    ts: Option<u64>,
    seq: u64,
}

/// Few symbols and few instants, so that there are many ties; some symbols are on one side alone, some are missing.
fn rows(chance: &mut Chance, n: u64, symbols: &[&str]) -> Vec<Row> {
    let one = |id| Row {
        id,
        symbol: symbols[chance.below(symbols.len() as u64) as usize].to_owned(),
        ts: (chance.below(20) > 0).then(|| chance.below(300)),
        seq: 1000 + (id * 7919) % n,
    };
    (0..n).map(one).collect()
}

fn write(dir: &Path, name: &str, rows: &[Row]) {
    let mut text = "id,symbol,ts,seq\n".to_owned();
    for row in rows {
        let ts = row.ts.map_or(String::new(), |ts| format!("2025-11-28T14:30:00.{ts:03}Z"));
        writeln!(text, "{},{},{ts},{}", row.id, row.symbol, row.seq).unwrap();
    }
    std::fs::write(dir.join(name), text).unwrap();
}

#[test]
fn every_left_row_gets_the_last_right_row_in_time() {
    let dir = tempfile::tempdir().unwrap();
    let mut chance = Chance(20_251_128);
    let left = rows(&mut chance, 400, &["A", "B", "C", ""]);
    let right = rows(&mut chance, 300, &["A", "B", "D", ""]);
    write(dir.path(), "left.csv", &left);
    write(dir.path(), "right.csv", &right);
    let mut matched = 0;
    for (op, fits) in [
        (">=", (|l, r| l >= r) as fn(u64, u64) -> bool),
        (">", |l, r| l > r),
        ("<=", |l, r| l <= r),
        ("<", |l, r| l < r),
    ] {
        // The next one ahead is the first of those that fit, the last one behind the last.
        let ahead = op.starts_with('<');
        let mut expected = Vec::new();
        for l in &left {
            let fit = right.iter().filter(|r| {
                !l.symbol.is_empty() && l.symbol == r.symbol && matches!((l.ts, r.ts), (Some(l), Some(r)) if fits(l, r))
            });
            let found = match ahead {
                true => fit.min_by_key(|r| (r.ts, r.seq)),
                false => fit.max_by_key(|r| (r.ts, r.seq)),
            };
            matched += usize::from(found.is_some());
            expected.push(vec![l.id.to_string(), found.map_or(String::new(), |r| r.id.to_string())]);
        }
        let flipped = op.replace('>', "?").replace('<', ">").replace('?', "<");
        for join in [
            format!("l ASOF JOIN \"right\" AS r MATCH_CONDITION (l.ts {op} r.ts) ON l.symbol = r.symbol"),
            format!("l ASOF JOIN \"right\" AS r MATCH_CONDITION (r.ts {flipped} l.ts) USING (symbol)"),
        ] {
            let sql = format!("SELECT l.id, r.id AS found FROM \"left\" AS {join} ORDER BY l.id");
            assert_eq!(csv(dir.path(), &sql), expected, "{sql}");
        }
    }
    assert!(matched > 600, "{matched} rows found one");
}

/// Conditions that the tables check before the join must not change its answer: a bound on the left instant is one for right
/// rows only on the side where they are looked for.
#[test]
fn conditions_come_first_and_change_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut chance = Chance(20_251_129);
    write(dir.path(), "left.csv", &rows(&mut chance, 400, &["A", "B", "C", ""]));
    write(dir.path(), "right.csv", &rows(&mut chance, 300, &["A", "B", "D", ""]));
    // Of another unit in the other table, as dates are coarser than instants: the bound is converted.
    let finer = "(SELECT id, symbol, seq, arrow_cast(ts, 'Timestamp(Nanosecond, None)') AS ts FROM \"right\")";
    for (op, right) in [(">=", "\"right\""), (">", finer), ("<=", "\"right\""), ("<", finer), (">=", finer)] {
        let join = format!("\"left\" l ASOF JOIN {right} r MATCH_CONDITION (l.ts {op} r.ts) ON l.symbol = r.symbol");
        let conditions = [
            "l.symbol = 'A'",
            "l.symbol IN ('A', 'C') AND l.seq > 1100",
            "l.symbol IS NULL",
            "l.ts < TIMESTAMP '2025-11-28 14:30:00.100'",
            "l.ts >= TIMESTAMP '2025-11-28 14:30:00.100' AND l.ts <= TIMESTAMP '2025-11-28 14:30:00.200'",
            "TIMESTAMP '2025-11-28 14:30:00.250' < l.ts AND r.seq < 1200",
            "l.ts BETWEEN TIMESTAMP '2025-11-28 14:30:00.100' AND TIMESTAMP '2025-11-28 14:30:00.120'",
            "r.symbol = 'B' AND l.ts > r.ts",
            "r.id IS NULL AND l.symbol = 'B'",
        ];
        let questions: Vec<String> = conditions
            .iter()
            .flat_map(|condition| {
                // LIMIT is a wall that no condition passes.
                let inner = condition.replace("l.", "l_").replace("r.", "r_");
                [
                    format!("SELECT l.id, r.id AS found FROM {join} WHERE {condition} ORDER BY 1"),
                    format!(
                        "SELECT l_id AS id, found FROM (SELECT l.id AS l_id, l.symbol AS l_symbol, l.ts AS l_ts, l.seq AS l_seq, r.id AS found,
                           r.id AS r_id, r.symbol AS r_symbol, r.ts AS r_ts, r.seq AS r_seq FROM {join} LIMIT 1000) AS all_rows
                         WHERE {inner} ORDER BY 1"
                    ),
                ]
            })
            .collect();
        // All in one process; each answer begins with its header.
        let mut answers: Vec<Vec<Vec<String>>> = Vec::new();
        for row in csv(dir.path(), &format!("SELECT 1; {}", questions.join("; "))).split_off(1) {
            match (row == ["id", "found"], answers.last_mut()) {
                (false, Some(answer)) => answer.push(row),
                _ => answers.push(Vec::new()),
            }
        }
        assert_eq!(answers.len(), 2 * conditions.len());
        for (condition, pair) in conditions.iter().zip(answers.chunks(2)) {
            assert_eq!(pair[0], pair[1], "{op} {condition}");
            let may_be_empty = *condition == "r.symbol = 'B' AND l.ts > r.ts";
            assert!(may_be_empty || !pair[0].is_empty(), "{op} {condition} takes no row");
        }
    }
    for right in ["\"right\"", finer] {
        let sql = format!(
            "EXPLAIN SELECT l.id, r.id AS found FROM \"left\" l ASOF JOIN {right} r MATCH_CONDITION (l.ts >= r.ts)
               ON l.symbol = r.symbol WHERE l.symbol = 'A' AND l.ts < TIMESTAMP '2025-11-28 14:30:00.100'"
        );
        let plan = csv(dir.path(), &sql).concat().concat();
        let below = plan.split("AsofJoinExec").nth(1).unwrap();
        assert_eq!(below.matches("symbol@1 = A").count(), 2, "both tables are asked for one symbol: {plan}");
        assert_eq!(below.matches(" <").count(), 2, "and for its rows until then: {plan}");
    }
}

/// The right table needs several times the memory there is: it is sorted on disk, and the answer is the same.
#[test]
fn what_does_not_fit_into_memory_is_sorted() {
    let dir = tempfile::tempdir().unwrap();
    let series = |n: u32, step: u32, symbols: u32| {
        format!(
            "(SELECT 'symbol ' || value % {symbols} AS symbol, value AS id, value * 7 % 300007 AS seq,
               arrow_cast(value * {step} % 100003, 'Timestamp(Millisecond, None)') AS ts FROM generate_series(1, {n}))"
        )
    };
    let (left, right) = (series(10_000, 104_729, 3), series(600_000, 7919, 2));
    let join = format!("{left} AS l ASOF JOIN {right} AS r MATCH_CONDITION (l.ts >= r.ts) ON l.symbol = r.symbol");
    let ask = |memory: &str, sql: &str| {
        let out = run(dir.path(), &["--memory", memory, "--format", "csv", "-c", sql]);
        assert!(out.status.success(), "{memory}: {}", String::from_utf8_lossy(&out.stderr));
        let mut lines: Vec<String> = String::from_utf8(out.stdout).unwrap().lines().map(str::to_owned).collect();
        lines.sort_unstable();
        lines.join("\n")
    };
    let sql = format!("SELECT l.id, l.ts, r.id AS found, r.symbol, r.seq FROM {join}");
    let sorted = ask("64MB", &sql);
    assert_eq!(sorted.lines().count(), 10_001);
    assert!(sorted == ask("4GB", &sql), "another answer by sorting");
    let analyzed = ask("64MB", &format!("EXPLAIN ANALYZE {sql}"));
    assert!(analyzed.contains("sorted=1"), "{analyzed}");
}

/// Instants that are no integers inside have no index.
#[test]
fn instants_may_be_of_any_type_that_has_an_order() {
    let dir = tempfile::tempdir().unwrap();
    let mut chance = Chance(11);
    write(dir.path(), "left.csv", &rows(&mut chance, 200, &["A", "B"]));
    write(dir.path(), "right.csv", &rows(&mut chance, 200, &["A", "B"]));
    let ask = |left: &str, right: &str| {
        let join = format!("\"left\" l ASOF JOIN \"right\" r MATCH_CONDITION ({left} >= {right}) USING (symbol)");
        csv(dir.path(), &format!("SELECT l.id, r.id AS found FROM {join} ORDER BY 1"))
    };
    let expected = ask("l.seq", "r.seq");
    assert!(expected.iter().any(|row| row[1].is_empty()) && expected.iter().any(|row| !row[1].is_empty()));
    for kind in ["int", "float8", "numeric(20, 2)", "text"] {
        assert_eq!(ask(&format!("l.seq::{kind}"), &format!("r.seq::{kind}")), expected, "{kind}");
    }
    assert_eq!(ask("l.seq::smallint", "r.seq"), expected);
    assert_eq!(ask("l.seq", "r.seq + 0.0"), expected);
}

#[test]
fn asof_joins_stand_beside_other_joins_and_keep_names() {
    let dir = tempfile::tempdir().unwrap();
    let row = |id, symbol: &str, ts| Row { id, symbol: symbol.into(), ts: Some(ts), seq: id };
    write(dir.path(), "left.csv", &[row(1, "A", 100), row(2, "A", 200), row(3, "B", 150)]);
    write(dir.path(), "right.csv", &[row(10, "A", 90), row(11, "A", 150), row(12, "B", 200)]);
    let check = |sql: &str, expected: &[&str]| {
        let rows: Vec<String> = csv(dir.path(), sql).iter().map(|row| row.join(",")).collect();
        assert_eq!(rows, expected, "{sql}");
    };
    check(
        "SELECT l.id, a.id, b.id, o.id FROM \"left\" l JOIN \"left\" o ON o.id = l.id
           ASOF JOIN \"right\" a MATCH_CONDITION (l.ts >= a.ts) ON l.symbol = a.symbol
           ASOF JOIN \"right\" b MATCH_CONDITION (l.ts < b.ts) ON l.symbol = b.symbol
         ORDER BY l.id",
        &["1,10,11,1", "2,11,,2", "3,,12,3"],
    );
    // Without a key the whole table is one series.
    check(
        "SELECT l.id, r.id FROM \"left\" l ASOF JOIN \"right\" r MATCH_CONDITION (l.ts >= r.ts) ORDER BY l.id",
        &["1,10", "2,12", "3,11"],
    );
    // USING makes one column of two; ON leaves both.
    check(
        "SELECT * FROM (SELECT id, symbol FROM \"left\" WHERE id < 3) l JOIN
           (SELECT * FROM (SELECT symbol, ts FROM \"left\") x ASOF JOIN (SELECT symbol, ts AS at, seq FROM \"right\") y
              MATCH_CONDITION (x.ts >= y.at) USING (symbol)) z ON z.symbol = l.symbol AND z.seq = 11 WHERE l.id = 1",
        &["1,A,A,2025-11-28 14:30:00.2,2025-11-28 14:30:00.15,11"],
    );
    // Instants may be computed: half a tenth of a second later.
    check(
        "SELECT l.id, r.id FROM \"left\" l ASOF JOIN \"right\" r
           MATCH_CONDITION (l.ts >= r.ts + INTERVAL '60 milliseconds') ON l.symbol = r.symbol ORDER BY 1",
        &["1,", "2,10", "3,"],
    );
}

#[test]
fn what_is_no_asof_join_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let row = Row { id: 1, symbol: "A".into(), ts: Some(1), seq: 1 };
    write(dir.path(), "left.csv", std::slice::from_ref(&row));
    write(dir.path(), "right.csv", &[row]);
    for (join, expected) in [
        ("MATCH_CONDITION (l.ts = r.ts)", "compares the instant of one table with that of the other by >=, >, <= or <"),
        ("MATCH_CONDITION (l.ts >= l.ts)", "compares the instant of one table with that of the other"),
        (
            "MATCH_CONDITION (l.ts >= r.ts) ON l.id > r.id",
            "ON of an ASOF JOIN says which columns of the two tables are equal",
        ),
        ("MATCH_CONDITION (l.ts >= r.ts) USING (nothing)", "USING (nothing) is no column of both tables"),
        ("ON l.id = r.id", "MATCH_CONDITION"),
    ] {
        let sql = format!("SELECT * FROM \"left\" l ASOF JOIN \"right\" r {join}");
        let out = run(dir.path(), &["left.csv", "right.csv", "-c", &sql]);
        let error = String::from_utf8_lossy(&out.stderr);
        assert!(out.status.code() == Some(2) && error.contains(expected), "{sql}: {error}");
    }
}

/// New York's half day after Thanksgiving 2025 has seven half hours from 14:30 to 18:00 UTC (NYSE).
#[test]
fn gaps_show_in_the_grid_and_are_filled() {
    let dir = tempfile::tempdir().unwrap();
    let row = |id, ts| Row { id, symbol: "SPY".into(), ts: Some(ts), seq: id };
    write(dir.path(), "left.csv", &[row(1, 0)]);
    write(dir.path(), "right.csv", &[row(2, 1)]);
    let grid = "session_grid('30m', 'XNYS', '2025-11-27', '2025-11-28')";
    let rows = csv(dir.path(), &format!("SELECT trade_date, bar_at, bar_end FROM {grid} ORDER BY bar_at"));
    assert_eq!(rows.len(), 7);
    assert_eq!(rows[0], ["2025-11-28", "2025-11-28 14:30:00+00", "2025-11-28 15:00:00+00"]);
    assert_eq!(rows[6][2], "2025-11-28 18:00:00+00");
    let filled = csv(
        dir.path(),
        &format!(
            "WITH seen (bar_at, price) AS (VALUES (TIMESTAMPTZ '2025-11-28 15:00:00Z', 680.5), (TIMESTAMPTZ '2025-11-28 16:30:00Z', 681.25))
             SELECT g.bar_at, s.price, fill_previous(s.price) OVER (ORDER BY g.bar_at) AS filled
             FROM {grid} AS g LEFT JOIN seen AS s ON s.bar_at = g.bar_at ORDER BY g.bar_at"
        ),
    );
    let of = |at: usize| filled.iter().map(|row| row[at].as_str()).collect::<Vec<_>>();
    assert_eq!(of(1), ["", "680.5", "", "", "681.25", "", ""]);
    assert_eq!(of(2), ["", "680.5", "680.5", "680.5", "681.25", "681.25", "681.25"]);
}
