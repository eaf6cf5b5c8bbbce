//! What is answered, over stubbed numbers and the real calendars.

use crate::stub::{Stub, at, directory, now};
use bot::answer::{Answer, Answerer, Desk};
use bot::error::{RefusalKind, Unanswered};
use bot::terminal;
use proptest::prelude::*;

async fn ask(question: &str, now: i64) -> Result<Answer, Unanswered> {
    Desk::new(Stub::default()).answer(question, now).await
}

async fn text(question: &str) -> String {
    match ask(question, now()).await {
        Ok(answer) => terminal::render(&answer),
        Err(Unanswered::Refused(refusal)) => format!("!{refusal} {}", refusal.hint),
        Err(Unanswered::Failed(failure)) => format!("!!{failure}"),
    }
}

#[tokio::test]
async fn a_price_comes_with_contract_hours_and_state() {
    insta::assert_snapshot!(text("what was ES's RTH high yesterday?").await);
}

#[tokio::test]
async fn days_are_sessions_of_the_calendar() {
    let check = async |question: &str, now: &str, date: &str| {
        let title = ask(question, at(now)).await.map(|answer| answer.title);
        let title = title.unwrap_or_else(|error| format!("{error:?}"));
        assert!(title.contains(date), "{question} at {now}: {title}");
    };
    // Monday's yesterday is Friday.
    check("SPY high yesterday", "2025-11-24T12:00:00-05:00", "Fri 21 Nov 2025").await;
    // Sunday 18:00 in Chicago is Monday's session already, and its yesterday is Friday.
    check("ES high today", "2025-11-23T18:00:00-06:00", "Mon 24 Nov 2025").await;
    check("ES high yesterday", "2025-11-23T18:00:00-06:00", "Fri 21 Nov 2025").await;
    // Saturday has no session; the one before is Friday's.
    check("SPY high yesterday", "2025-11-22T12:00:00-05:00", "Fri 21 Nov 2025").await;
    check("SPY high today", "2025-11-22T12:00:00-05:00", "NoSession").await;
    // Late in the evening it is still today, and before the open today has nothing yet.
    check("SPY high today", "2025-11-25T22:30:00-05:00", "Tue 25 Nov 2025").await;
    check("SPY high yesterday", "2025-11-25T22:30:00-05:00", "Mon 24 Nov 2025").await;
    check("SPY high yesterday", "2025-11-25T02:00:00-05:00", "Mon 24 Nov 2025").await;
    // The day after Thanksgiving: yesterday is Wednesday.
    check("SPY high yesterday", "2025-11-28T10:00:00-05:00", "Wed 26 Nov 2025").await;
    check("SPY high on thursday", "2025-11-28T10:00:00-05:00", "NoSession").await;
    check("SPY high last 2 sessions", "2025-11-28T10:00:00-05:00", "Wed 26 Nov \u{2013} Fri 28 Nov 2025").await;
    check("SPY high last week", "2025-11-26T10:00:00-05:00", "Mon 17 Nov \u{2013} Fri 21 Nov 2025").await;
    check("SPY high nov 3", "2025-11-26T10:00:00-05:00", "Mon 3 Nov 2025").await;
    check("SPY high dec 3", "2025-11-26T10:00:00-05:00", "Tue 3 Dec 2024").await;
    check("SPY high 2 sessions ago", "2025-11-25T10:00:00-05:00", "Fri 21 Nov 2025").await;
    check("SPY high on 2026-01-02", "2025-11-25T10:00:00-05:00", "NoSession").await;
    check("SPY high on 1890-01-02", "2025-11-25T10:00:00-05:00", "NoSession").await;
    check("SPY high tomorrow", "2025-11-25T10:00:00-05:00", "NoSession").await;
}

#[tokio::test]
async fn hours_come_from_the_calendar() {
    let check = async |question: &str, now: &str, part: &str| {
        let text = terminal::render(&ask(question, at(now)).await.unwrap());
        assert!(text.contains(part), "{question} at {now}: {text}");
    };
    check("is NY open?", "2025-11-25T10:00:00-05:00", "Yes, until 16:00 EST on Tue 25 Nov 2025 (6 h 00 min left)")
        .await;
    check("is NY open?", "2025-11-25T17:00:00-05:00", "No. It opens at 09:30 EST on Wed 26 Nov 2025").await;
    check("is NY open?", "2025-11-27T11:00:00-05:00", "No: Thanksgiving").await;
    check("is ES open?", "2025-11-25T16:30:00-06:00", "No. It opens at 17:00 CST on Tue 25 Nov 2025 (in 30 min)").await;
    check("when does ES open?", "2025-11-22T12:00:00-06:00", "17:00 CST on Sun 23 Nov 2025").await;
    check("when does NY close", "2025-11-28T10:00:00-05:00", "13:00 EST on Fri 28 Nov 2025").await;
    check(
        "trading hours of tokyo on 2025-11-25",
        "2025-11-25T10:00:00+09:00",
        "09:00\u{2013}11:30, 12:30\u{2013}15:30 JST",
    )
    .await;
    check("SPY hours tomorrow", "2025-11-25T10:00:00-05:00", "Wed 26 Nov 2025").await;
}

#[tokio::test]
async fn a_root_means_the_contract_with_the_most_volume() {
    let answer = ask("ES volume yesterday", now()).await.unwrap();
    assert!(answer.notes.iter().any(|note| note.contains("ESZ25")), "{:?}", answer.notes);
    let answer = ask("ES.c.1 volume yesterday", now()).await.unwrap();
    assert!(answer.notes.iter().any(|note| note.contains("ESH26")), "{:?}", answer.notes);
    let answer = ask("ESH6 volume yesterday", now()).await.unwrap();
    assert!(answer.notes.iter().any(|note| note.contains("ESH26")), "{:?}", answer.notes);
    let refused = ask("ESM6 volume yesterday", now()).await.unwrap_err();
    assert!(matches!(refused, Unanswered::Refused(r) if r.kind == RefusalKind::UnknownSymbol));
}

#[tokio::test]
async fn no_trades_and_absurd_charts_are_refusals() {
    let empty = Desk::new(Stub { empty: true, ..Stub::default() });
    let refused = empty.answer("ES high yesterday", now()).await.unwrap_err();
    let Unanswered::Refused(refusal) = refused else { panic!("{refused:?}") };
    assert_eq!(refusal.kind, RefusalKind::NoTrades);
    assert!(refusal.hint.contains("2025-11-24"), "{refusal:?}");
    let refused = text("1m chart of ES last 60 sessions").await;
    assert!(refused.contains("candles, and a chart shows 1100"), "{refused}");
    let refused = text("overnight high of SPY yesterday").await;
    assert!(refused.contains("It has PRE, RTH, POST."), "{refused}");
}

#[tokio::test]
async fn a_failure_tells_nothing_but_a_reference() {
    let broken = Desk::new(Stub { broken: true, ..Stub::default() });
    let Err(Unanswered::Failed(failure)) = broken.answer("ES high yesterday", now()).await else { panic!() };
    let shown = failure.to_string();
    assert!(shown.contains(&failure.reference.to_string()));
    for secret in ["hunter2", "10.1.2.3", "password", "connection"] {
        assert!(!shown.contains(secret), "{shown}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// Whatever is asked, only symbols of the database reach the source of numbers.
    #[test]
    fn no_text_reaches_sql(question in "(ES|SPY|es|chart|')?[ -~]{0,60}( high| low| yesterday| 5m|;DROP)?") {
        let stub = Stub::default();
        let asked = stub.asked.clone();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let _ = runtime.block_on(Desk::new(stub).answer(&question, now()));
        let symbols: Vec<String> = directory().names().map(str::to_string).collect();
        for asked in asked.lock().unwrap().iter() {
            prop_assert!(symbols.contains(&asked.symbol), "{:?} asked for {:?}", question, asked);
        }
    }
}
