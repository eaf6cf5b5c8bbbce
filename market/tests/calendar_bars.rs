//! Our buckets against the bar boundaries that two reference packages give.

#![allow(clippy::unwrap_used, reason = "a test that cannot read its input has failed")]

mod support;

use market::{Bucket, Calendar, Segments, Timeframe, TradeDate, bucket_at, buckets};
use std::collections::BTreeMap;

#[test]
fn bars_agree_with_the_reference_packages() {
    let Some(data) = support::test_data("bars_agree_with_the_reference_packages") else { return };
    let compared = support::compared();
    let files = compared.iter().flat_map(|calendar| calendar.bars.iter().map(move |bars| (calendar, bars)));
    let mut count = 0;
    for (ours, (file, timeframe, segments)) in files {
        let calendar = Calendar::builtin(&ours.calendar).unwrap();
        let listed = &ours.listed;
        let (timeframe, segments) = (Timeframe::parse(timeframe).unwrap(), Segments::parse(segments).unwrap());
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
                file.starts_with(&row.peer) && row.dates.iter().any(|(first, last)| (first..=last).contains(&date))
            });
            assert!(difference.is_some(), "{file} {date}: {ours:?} instead of {theirs:?}");
            meant += 1;
        }
        println!("{file}: {equal} sessions equal, {meant} differ on purpose");
        assert!(equal > 3 * meant && equal > 0, "{file}: {equal} sessions equal, {meant} differ on purpose");
        count += 1;
    }
    assert!(count >= 12, "{count} files of bars");
}
