//! `/ask` end to end, against a fake Discord.

use crate::fake_discord::{Call, FakeDiscord, Fault};
use crate::stub::{Stub, now};
use bot::answer::{Answer, Answerer, Desk};
use bot::discord::{Secret, Settings, run};
use bot::error::Unanswered;
use serde_json::Value;
use std::sync::{Arc, Mutex};
use std::time::Duration;

const TOKEN: &str = "fake.bot.token";

/// A desk whose clock stands still.
struct Standing(Desk<Stub>);

#[serenity::async_trait]
impl Answerer for Standing {
    async fn answer(&self, question: &str, _: i64) -> Result<Answer, Unanswered> {
        self.0.answer(question, now()).await
    }
}

struct Bot {
    stop: tokio::sync::oneshot::Sender<()>,
    task: tokio::task::JoinHandle<anyhow::Result<()>>,
}

impl Bot {
    /// Starts a bot and waits until `/ask` is registered.
    async fn start(discord: &mut FakeDiscord, stub: Stub) -> Bot {
        let settings = Settings { token: Secret::new(TOKEN.into()), api: Some(discord.api()) };
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let answerer = Arc::new(Standing(Desk::new(stub)));
        let task = tokio::spawn(run(settings, answerer, async move { drop(stopped.await) }));
        discord.wait_for(|call| matches!(call, Call::Identify { intents: 0 }).then_some(())).await;
        let (body, auth) = discord
            .wait_for(|call| match call {
                Call::Register { body, auth } => Some((body, auth)),
                _ => None,
            })
            .await;
        assert_eq!(body[0]["name"], "ask");
        assert_eq!(auth, format!("Bot {TOKEN}"));
        Bot { stop, task }
    }

    async fn stop(self) {
        self.stop.send(()).unwrap();
        tokio::time::timeout(Duration::from_secs(20), self.task).await.expect("it stops").unwrap().unwrap();
    }
}

async fn callback(discord: &mut FakeDiscord, wanted: &str) -> Value {
    discord
        .wait_for(|call| match call {
            Call::Callback { token, body } if token == wanted => Some(body),
            Call::Other { line } => panic!("unexpected call: {line}"),
            _ => None,
        })
        .await
}

async fn edit(discord: &mut FakeDiscord, wanted: &str) -> (Value, Vec<(String, Vec<u8>)>) {
    let (body, files) = discord
        .wait_for(|call| match call {
            Call::Edit { token, body, files } if token == wanted => Some((body, files)),
            Call::Other { line } => panic!("unexpected call: {line}"),
            _ => None,
        })
        .await;
    assert_eq!(body["allowed_mentions"]["parse"], serde_json::json!([]), "an answer mentions nobody");
    (body["embeds"][0].clone(), files)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_question_is_deferred_then_answered_with_a_chart() {
    let mut discord = FakeDiscord::start().await;
    let bot = Bot::start(&mut discord, Stub::default()).await;
    let token = discord.ask(42, "what was ES's RTH high yesterday?");
    assert_eq!(callback(&mut discord, &token).await["type"], 5);
    let (embed, files) = edit(&mut discord, &token).await;
    assert_eq!(embed["title"], "ES RTH high, Mon 24 Nov 2025");
    assert!(embed["description"].as_str().unwrap().contains("points"), "{embed}");
    assert_eq!(embed["image"]["url"], "attachment://chart.png");
    assert_eq!(files[0].0, "chart.png");
    assert!(files[0].1.starts_with(b"\x89PNG"));
    let token = discord.ask(42, "is NY open?");
    let (embed, files) = edit(&mut discord, &token).await;
    assert!(embed["description"].as_str().unwrap().contains("Yes, until 16:00 EST"), "{embed}");
    assert!(files.is_empty());
    bot.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_word_is_named_with_a_hint() {
    let mut discord = FakeDiscord::start().await;
    let bot = Bot::start(&mut discord, Stub::default()).await;
    let token = discord.ask(1, "what was ES's hihg yesterday?");
    let (embed, files) = edit(&mut discord, &token).await;
    let text = embed["description"].as_str().unwrap();
    assert!(text.contains("\"hihg\"") && text.contains("\"high\""), "{text}");
    assert!(files.is_empty());
    bot.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_error_shows_only_a_reference() {
    let mut discord = FakeDiscord::start().await;
    let bot = Bot::start(&mut discord, Stub { broken: true, ..Stub::default() }).await;
    let token = discord.ask(1, "what was ES's high yesterday?");
    let (embed, _) = edit(&mut discord, &token).await;
    let text = embed.to_string();
    assert!(text.contains("reference"), "{text}");
    assert!(!text.contains("hunter2") && !text.contains("10.1.2.3"), "{text}");
    bot.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_closed_gateway_is_resumed() {
    let mut discord = FakeDiscord::start().await;
    let bot = Bot::start(&mut discord, Stub::default()).await;
    discord.close_gateway(4000);
    discord.wait_for(|call| matches!(call, Call::Resume | Call::Identify { .. }).then_some(())).await;
    let token = discord.ask(1, "help");
    let (embed, _) = edit(&mut discord, &token).await;
    assert_eq!(embed["title"], "What you can ask");
    bot.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_who_asks_too_often_is_told_to_wait() {
    let mut discord = FakeDiscord::start().await;
    let bot = Bot::start(&mut discord, Stub::default()).await;
    for _ in 0..5 {
        let token = discord.ask(7, "help");
        assert_eq!(callback(&mut discord, &token).await["type"], 5);
    }
    let token = discord.ask(7, "help");
    let body = callback(&mut discord, &token).await;
    assert_eq!((&body["type"], &body["data"]["flags"]), (&4.into(), &64.into()), "only the asker sees it");
    assert!(body["data"]["content"].as_str().unwrap().contains("ask again in"));
    let token = discord.ask(8, "help");
    assert_eq!(callback(&mut discord, &token).await["type"], 5);
    bot.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopping_bot_delivers_the_answers_under_way() {
    let mut discord = FakeDiscord::start().await;
    let bot = Bot::start(&mut discord, Stub::default()).await;
    discord.fault(Fault::Delay(Duration::ZERO)); // The deferral.
    discord.fault(Fault::Delay(Duration::from_millis(1_500))); // The answer.
    let token = discord.ask(1, "help");
    callback(&mut discord, &token).await;
    bot.stop().await;
    edit(&mut discord, &token).await;
}

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn the_log_has_causes_and_references_but_no_tokens_and_no_questions() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter("info,serenity=warn,hyper_util=warn")
        .with_writer(move || writer.clone())
        .finish();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut reference = String::new();
    tracing::subscriber::with_default(subscriber, || {
        runtime.block_on(async {
            let mut discord = FakeDiscord::start().await;
            let bot = Bot::start(&mut discord, Stub { broken: true, ..Stub::default() }).await;
            let token = discord.ask(1, "what was ES's high yesterday?");
            let (embed, _) = edit(&mut discord, &token).await;
            let text = embed["description"].as_str().unwrap();
            reference = text.split("reference ").nth(1).unwrap()[..8].to_string();
            discord.fault(Fault::Status(500));
            let failing = discord.ask(1, "what was ES's high yesterday?");
            // The failed deferral is logged; a later question shows that the bot goes on.
            let token = discord.ask(2, "help");
            edit(&mut discord, &token).await;
            drop(failing);
            bot.stop().await;
        });
    });
    let log = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    assert!(log.contains(&reference) && log.contains("hunter2"), "{log}");
    assert!(log.contains("could not be delivered"), "{log}");
    for secret in [TOKEN, "interaction-token", "high yesterday"] {
        assert!(!log.contains(secret), "{secret} in {log}");
    }
}
