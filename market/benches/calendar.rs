//! What calendars cost: the first use of each, their memory, and locating an instant, in order and at random. Asserts that
//! both orders give the same answers.
//!
//! `cargo bench -p market --bench calendar`. One core, wall time.

use market::{BucketCursor, Calendar, Segments, Timeframe};
use std::error::Error;
use std::hint::black_box;
use std::time::{Duration, Instant};

const MINUTE: i64 = 60_000_000_000;
const ASKED: usize = 1_000_000;

fn main() -> Result<(), Box<dyn Error>> {
    let before = resident();
    let mut first_uses = Vec::new();
    for id in Calendar::builtin_ids() {
        let start = Instant::now();
        Calendar::builtin(id)?;
        first_uses.push((start.elapsed(), *id));
    }
    first_uses.sort();
    let all: Duration = first_uses.iter().map(|(time, _)| *time).sum();
    let (worst, id) = first_uses[first_uses.len() - 1];
    println!("first use       {:6.2} ms at most ({id}), {all:.0?} for all {}", ms(worst), first_uses.len());
    if let (Some(before), Some(after)) = (before, resident()) {
        println!("memory          {:6.1} MB for all of them", (after - before) as f64 / 1e6);
    }
    for id in ["XNYS", "CME_EQUITY", "CME_ENERGY", "XSGE_GOLD", "24/7"] {
        let calendar = Calendar::builtin(id)?;
        let (from, till) = calendar.window();
        let step = (till - from) / ASKED as i64;
        let ordered: Vec<i64> = (0..ASKED as i64).map(|at| from + at * step).collect();
        let mut random = ordered.clone();
        let mut state = 1u64;
        for at in (1..random.len()).rev() {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            random.swap(at, ((u128::from(state) * (at as u128 + 1)) >> 64) as usize);
        }
        let mut sums = Vec::new();
        for (order, instants) in [("ordered", &ordered), ("random", &random)] {
            let mut cursor = calendar.cursor();
            let (date, sum) = best(instants, |ts| Ok(i64::from(cursor.trade_date(ts)?.0)));
            let mut cursor = BucketCursor::new(&calendar, Timeframe::Intraday(5 * MINUTE), Segments::ETH);
            let (bucket, opens) =
                best(instants, |ts| Ok(cursor.bucket_at(ts)?.map_or(0, |bucket| bucket.open / MINUTE)));
            println!("{id:11} {order:8} trade_date {date:5.1} ns, bucket {bucket:5.1} ns a call");
            sums.push((sum?, opens?));
        }
        assert_eq!(sums[0], sums[1], "{id}: the order of the questions changes no answer");
    }
    Ok(())
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// Nanoseconds a call, and the sum of the answers. Each thousand calls is timed apart, and its least of nine passes counts, so
/// that other work on the machine does not.
fn best(instants: &[i64], mut ask: impl FnMut(i64) -> market::Result<i64>) -> (f64, market::Result<i64>) {
    let mut least = vec![Duration::MAX; instants.len().div_ceil(1000)];
    let mut answer = Ok(0);
    for _ in 0..9 {
        answer = Ok(0);
        for (least, some) in least.iter_mut().zip(instants.chunks(1000)) {
            let start = Instant::now();
            let sum = some.iter().try_fold(0, |sum, ts| Ok(sum + ask(black_box(*ts))?));
            *least = start.elapsed().min(*least);
            answer = answer.and_then(|before: i64| Ok(before + sum?));
        }
    }
    (least.iter().sum::<Duration>().as_secs_f64() * 1e9 / instants.len() as f64, answer)
}

/// Bytes of memory that this process holds, where the system tells.
fn resident() -> Option<usize> {
    let text = std::fs::read_to_string("/proc/self/statm").ok()?;
    Some(text.split_whitespace().nth(1)?.parse::<usize>().ok()? * 4096)
}
