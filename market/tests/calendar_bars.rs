//! Our buckets against the bar boundaries that two reference packages give.

#![allow(clippy::unwrap_used, reason = "a test that cannot read its input has failed")]

mod support;

use market::{Bucket, Calendar, Segments, Timeframe, TradeDate, bucket_at, buckets};
use std::collections::BTreeMap;

/// The file, our calendar, the timeframe and the selection it was made with. Left out are the files of calendars we do
/// not ship and `xc_CMES`, whose sessions have no daily break.
const FILES: [(&str, &str, &str, Segments); 12] = [
    ("mc_CME_Equity_halt_1h", "CME_EQUITY", "1h", Segments::ETH),
    ("mc_CME_Globex_Equity_1h", "CME_EQUITY", "1h", Segments::ETH),
    ("mc_CME_Globex_Energy_and_Metals_1h", "CME_METALS", "1h", Segments::ETH),
    ("mc_HKEX_1h", "XHKG", "1h", Segments::RTH),
    ("mc_NYSE_RTH_ETH_30min", "XNYS", "30m", Segments::ETH),
    ("xc_24_7_4h", "24/7", "4h", Segments::ETH),
    ("xc_XHKG_1h", "XHKG", "1h", Segments::RTH),
    ("xc_XHKG_25min", "XHKG", "25m", Segments::RTH),
    ("xc_XLON_1h", "XLON", "1h", Segments::RTH),
    ("xc_XNYS_30min", "XNYS", "30m", Segments::RTH),
    ("xc_XNYS_4h", "XNYS", "4h", Segments::RTH),
    ("xc_XTKS_45min", "XTKS", "45m", Segments::RTH),
];

#[test]
fn bars_agree_with_the_reference_packages() {
    let Some(data) = support::test_data("bars_agree_with_the_reference_packages") else { return };
    let listed = support::listed_differences();
    for (file, id, timeframe, segments) in FILES {
        let calendar = Calendar::builtin(id).unwrap();
        let timeframe = Timeframe::parse(timeframe).unwrap();
        let mut sessions: BTreeMap<TradeDate, Vec<(i64, i64)>> = BTreeMap::new();
        for row in support::csv_rows(&data.join(format!("calendars/bars/bars_{file}.csv"))) {
            let bar = (support::instant(&row["start_utc"]).unwrap(), support::instant(&row["end_utc"]).unwrap());
            sessions.entry(TradeDate::parse(&row["session"]).unwrap()).or_default().push(bar);
        }
        let (mut equal, mut meant) = (0, 0);
        for (date, theirs) in &sessions {
            let session = calendar.session(*date).unwrap();
            let mut ours = Vec::new();
            session.iter().for_each(|session| buckets(session, timeframe, segments, &mut ours));
            for bucket in &ours {
                let (first, last) = (bucket.open, bucket.close - 1);
                assert_eq!(bucket_at(&calendar, timeframe, first, segments), Ok(Some(*bucket)), "{file} {date}");
                assert_eq!(bucket_at(&calendar, timeframe, last, segments), Ok(Some(*bucket)), "{file} {date}");
            }
            let ours: Vec<_> = ours.iter().map(|Bucket { open, close, .. }| (*open, *close)).collect();
            if ours == *theirs {
                equal += 1;
                continue;
            }
            // The same session differs in the golden file, on purpose.
            let difference = listed.iter().find(|row| {
                row.calendar == id
                    && file.starts_with(&row.peer)
                    && row.dates.iter().any(|(first, last)| (first..=last).contains(&date))
            });
            assert!(difference.is_some(), "{file} {date}: {ours:?} instead of {theirs:?}");
            meant += 1;
        }
        println!("{file}: {equal} sessions equal, {meant} differ on purpose");
        assert!(equal > 3 * meant && equal > 0, "{file}: {equal} sessions equal, {meant} differ on purpose");
    }
}
