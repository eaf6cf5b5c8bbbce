//! `/ask` in Discord: deferred at once, then an embed with the chart.
//!
//! What a user sees never holds more than an [`Answer`], a refusal or a reference; serenity's errors are logged with `{}`,
//! since their `{:?}` holds the interaction's token.

use crate::answer::{Answer, Answerer};
use crate::chart;
use crate::error::{Failure, Unanswered};
use crate::limit::{Flights, PerUser};
use crate::terminal;
use anyhow::{Context as _, Result, anyhow};
use serenity::all::{
    ClientBuilder, Command, CommandInteraction, CommandOptionType, Context, CreateAllowedMentions, CreateAttachment,
    CreateCommand, CreateCommandOption, CreateEmbed, CreateInteractionResponse, CreateInteractionResponseMessage,
    EditInteractionResponse, EventHandler, GatewayIntents, Http, HttpBuilder, Interaction, Ready,
};
use serenity::async_trait;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;

/// Questions of one user...
const QUESTIONS: usize = 5;
/// ...in this time.
const WITHIN: Duration = Duration::from_secs(30);
/// How long an answer may take before the user hears that it failed.
const PATIENCE: Duration = Duration::from_secs(25);
/// How long a stopping bot waits for the answers under way.
const GRACE: Duration = Duration::from_secs(30);
/// Charts drawn at once: each takes a core for tens of milliseconds.
const DRAWERS: usize = 2;

const BLUE: u32 = 0x6c_8c_ff;
const GREEN: u32 = 0x2f_b7_9a;
const AMBER: u32 = 0xe3_b6_55;
const RED: u32 = 0xf0_61_6d;

/// Text that is not printed.
#[derive(Clone)]
pub struct Secret(String);

impl Secret {
    /// Keeps a text to itself.
    pub fn new(text: String) -> Secret {
        Secret(text)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}

/// Where Discord is and who we are there.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The bot's token.
    pub token: Secret,
    /// Another address than Discord's, for tests: `http://127.0.0.1:1234`.
    pub api: Option<String>,
}

/// Serves until `stop` completes or the gateway gives up.
///
/// # Errors
/// If the gateway cannot be reached or refuses the token.
pub async fn run(settings: Settings, answerer: Arc<dyn Answerer>, stop: impl Future<Output = ()>) -> Result<()> {
    let flights = Flights::default();
    let handler = Handler {
        answerer,
        flights: flights.clone(),
        users: PerUser::new(QUESTIONS, WITHIN),
        drawers: Arc::new(Semaphore::new(DRAWERS)),
    };
    let http = http(&settings)?;
    // Interactions arrive without any intent; messages are none of our business.
    let client = ClientBuilder::new_with_http(http, GatewayIntents::empty()).event_handler(handler).await;
    let mut client = client.map_err(|error| anyhow!("cannot set up the gateway: {error}"))?;
    let shards = Arc::clone(&client.shard_manager);
    tokio::select! {
        ended = client.start() => ended.map_err(|error| anyhow!("the gateway ended: {error}"))?,
        () = stop => {
            tracing::info!("stopping");
            shards.shutdown_all().await;
        }
    }
    match flights.landed(GRACE).await {
        0 => tracing::info!("stopped"),
        left => tracing::warn!(left, "stopped with answers under way"),
    }
    Ok(())
}

fn http(settings: &Settings) -> Result<Http> {
    // serenity's own client would wait for ever.
    let client = reqwest::Client::builder().connect_timeout(Duration::from_secs(5)).timeout(Duration::from_secs(20));
    let builder = HttpBuilder::new(&settings.token.0).client(client.build().context("TLS cannot be set up")?);
    Ok(match &settings.api {
        // serenity uses another address only without its rate limiter.
        Some(api) => builder.proxy(api).ratelimiter_disabled(true).build(),
        None => builder.build(),
    })
}

/// The `/ask` command.
pub fn command() -> CreateCommand {
    let example = "what was ES's RTH high yesterday?  chart ES 15m last 3 sessions  is NY open?";
    let question = CreateCommandOption::new(CommandOptionType::String, "question", example)
        .required(true)
        .min_length(2)
        .max_length(crate::lexicon::MOST_CHARACTERS as u16);
    CreateCommand::new("ask").description("Session prices, charts and opening hours").add_option(question)
}

struct Handler {
    answerer: Arc<dyn Answerer>,
    flights: Flights,
    users: PerUser,
    drawers: Arc<Semaphore>,
}

#[async_trait]
impl EventHandler for Handler {
    async fn ready(&self, context: Context, _: Ready) {
        match Command::set_global_commands(&context.http, vec![command()]).await {
            Ok(_) => tracing::info!("ready; /ask is registered"),
            Err(error) => tracing::error!(%error, "/ask could not be registered"),
        }
    }

    async fn interaction_create(&self, context: Context, interaction: Interaction) {
        let Interaction::Command(command) = interaction else { return };
        if command.data.name != "ask" {
            return;
        }
        let _flight = self.flights.start();
        if let Err(error) = self.ask(&context.http, &command).await {
            tracing::error!(%error, "an answer could not be delivered");
        }
    }
}

impl Handler {
    async fn ask(&self, http: &Arc<Http>, command: &CommandInteraction) -> serenity::Result<()> {
        if let Err(wait) = self.users.admit(command.user.id.get(), Instant::now()) {
            let text = format!("One moment: ask again in {} s.", wait.as_secs() + 1);
            let message = CreateInteractionResponseMessage::new().content(text).ephemeral(true);
            return command.create_response(http, CreateInteractionResponse::Message(message)).await;
        }
        // Discord gives three seconds for a first reaction; nothing comes before it.
        command.defer(http).await?;
        let question = command.data.options.iter().find(|option| option.name == "question");
        let question = question.and_then(|option| option.value.as_str()).unwrap_or_default();
        let reply = match self.answer(question).await {
            Ok(answer) => self.answered(&answer).await,
            Err(Unanswered::Refused(refusal)) => {
                let hint = if refusal.hint.is_empty() { String::new() } else { format!("\n{}", plain(&refusal.hint)) };
                let text = format!("{}{hint}", plain(&refusal.message));
                reply(CreateEmbed::new().description(text).colour(AMBER))
            }
            Err(Unanswered::Failed(failure)) => {
                failure.log();
                reply(CreateEmbed::new().description(failure.to_string()).colour(RED))
            }
        };
        command.edit_response(http, reply).await.map(drop)
    }

    async fn answer(&self, question: &str) -> Result<Answer, Unanswered> {
        let now = chrono::Utc::now().timestamp_nanos_opt().unwrap_or(i64::MAX);
        match tokio::time::timeout(PATIENCE, self.answerer.answer(question, now)).await {
            Ok(answered) => answered,
            Err(_) => Err(Failure::new(anyhow!("no answer within {PATIENCE:?}")).into()),
        }
    }

    async fn answered(&self, answer: &Answer) -> EditInteractionResponse {
        let mut embed = CreateEmbed::new().title(clipped(&plain(&answer.title), 250)).description(description(answer));
        let Some(chart) = &answer.chart else { return reply(embed.colour(BLUE)) };
        embed = embed.colour(if chart.state == "final" { GREEN } else { AMBER });
        match self.draw(chart.clone()).await {
            Ok(png) => {
                reply(embed.image("attachment://chart.png")).new_attachment(CreateAttachment::bytes(png, "chart.png"))
            }
            Err(error) => {
                // The numbers are worth having without the picture.
                tracing::error!(error = format!("{error:#}"), "a chart could not be drawn");
                reply(embed)
            }
        }
    }

    async fn draw(&self, chart: chart::Chart) -> Result<Vec<u8>> {
        let _turn = self.drawers.acquire().await?;
        tokio::task::spawn_blocking(move || chart::png(&chart::svg(&chart))).await?
    }
}

/// A reply that mentions nobody, whatever its text.
fn reply(embed: CreateEmbed) -> EditInteractionResponse {
    EditInteractionResponse::new().embed(embed).allowed_mentions(CreateAllowedMentions::new())
}

/// Headline, notes and table within Discord's 4,096 characters.
fn description(answer: &Answer) -> String {
    let mut text = format!("**{}**", plain(&answer.headline));
    for note in &answer.notes {
        text.push('\n');
        text.push_str(&plain(note));
    }
    let mut text = clipped(&text, 2_000);
    let table = terminal::aligned(&answer.table);
    // A table cut in half says something else.
    if !table.is_empty() && table.chars().count() < 1_900 {
        text.push_str(&format!("\n```\n{table}```"));
    }
    text
}

/// The text with what Markdown would read escaped.
fn plain(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if matches!(c, '_' | '*' | '~' | '|' | '`' | '>' | '\\' | '[' | ']') {
            out.push('\\');
        }
        out.push(c);
    }
    out
}

fn clipped(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        text.to_string()
    } else {
        text.chars().take(most - 1).chain(['\u{2026}']).collect()
    }
}
