//! The `bot` program: `bot ask` in a terminal, `bot run` in Discord.

use anyhow::{Context, Result};
use bot::answer::{Answerer, Desk};
use bot::discord::{self, Secret, Settings};
use bot::error::Unanswered;
use bot::postgres::Postgres;
use bot::{chart, terminal};
use chrono::{DateTime, Utc};
use clap::{Parser, Subcommand};
use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

/// Answers questions about trading sessions, in a terminal or in Discord.
///
/// A question uses a closed list of words, and symbols of the database. Days are trading sessions: "yesterday" on a Monday
/// is Friday's session, and Sunday 17:00 in Chicago is Monday's already.
#[derive(Parser)]
#[command(name = "bot", version, after_help = EXAMPLES)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
Examples:
  bot ask \"what was ES's RTH high yesterday?\" --chart high.png
  bot ask \"chart GC 15m last 3 sessions\" --chart gc.png --svg gc.svg
  bot ask \"is NY open?\"
  bot ask \"SPY vwap on 2013-10-07\" --now 2013-10-08T12:00:00-04:00

The database comes from --db or the environment variable BELLWETHER_DB.";

#[derive(Subcommand)]
enum Command {
    /// Answers one question.
    ///
    /// Prints the answer, its trade date, its hours in exchange time and whether it is final. Exit code 0: answered;
    /// 1: the question was refused (the hint says what to ask); 2: something went wrong.
    Ask(Ask),
    /// Answers /ask in Discord until it is stopped.
    ///
    /// The bot's token comes from the environment variable DISCORD_TOKEN and is never printed. Create an application at
    /// https://discord.com/developers, add a bot to it, and invite it with the scopes "bot" and "applications.commands"; it
    /// needs no privileged intents. SIGINT and SIGTERM stop it after the answers under way.
    Run(Run),
}

#[derive(clap::Args)]
struct Run {
    /// Database with the extension: postgresql://user@host:5432/database. A role with market_reader is enough.
    #[arg(long, env = "BELLWETHER_DB", hide_env_values = true, value_name = "URL")]
    db: String,
}

#[derive(clap::Args)]
struct Ask {
    /// The question, such as "what was ES's RTH high yesterday?"; "help" shows more.
    question: String,
    /// Database with the extension: postgresql://user@host:5432/database.
    #[arg(long, env = "BELLWETHER_DB", hide_env_values = true, value_name = "URL")]
    db: String,
    /// Write a candlestick chart of the answer to this PNG file.
    #[arg(long, value_name = "FILE.png")]
    chart: Option<PathBuf>,
    /// Write the same chart as SVG.
    #[arg(long, value_name = "FILE.svg")]
    svg: Option<PathBuf>,
    /// Answer as if it were this instant, such as 2025-11-25T09:00:00-06:00; otherwise the computer's clock.
    #[arg(long, value_name = "INSTANT")]
    now: Option<DateTime<Utc>>,
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    log();
    let done = match arguments.command {
        Command::Ask(ask) => answer(ask).await,
        Command::Run(run) => serve(run).await,
    };
    done.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::from(2)
    })
}

fn log() {
    // Tokens appear in serenity's debug spans, so its level is fixed whatever the environment says.
    let level = std::env::var("BELLWETHER_LOG").unwrap_or_else(|_| "info".to_string());
    let filter = tracing_subscriber::EnvFilter::try_new(format!("{level},serenity=warn,hyper_util=warn,h2=warn"))
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info,serenity=warn,hyper_util=warn"));
    let colours = std::io::stderr().is_terminal();
    tracing_subscriber::fmt().with_env_filter(filter).with_ansi(colours).with_writer(std::io::stderr).init();
}

async fn serve(run: Run) -> Result<ExitCode> {
    let token = std::env::var("DISCORD_TOKEN").ok().filter(|token| !token.trim().is_empty());
    let token = token.context("DISCORD_TOKEN is not set; put the bot's token there (see bot run --help)")?;
    let desk = Desk::new(Postgres::new(&run.db)?);
    let settings = Settings { token: Secret::new(token), api: None };
    discord::run(settings, Arc::new(desk), stopped()).await?;
    Ok(ExitCode::SUCCESS)
}

/// Returns when the process is asked to stop.
async fn stopped() {
    let interrupted = tokio::signal::ctrl_c();
    #[cfg(unix)]
    {
        if let Ok(mut terminated) = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) {
            tokio::select! { _ = interrupted => {}, _ = terminated.recv() => {} }
            return;
        }
    }
    // Without a handler the process cannot be asked; it still ends when the gateway does.
    if interrupted.await.is_err() {
        std::future::pending::<()>().await;
    }
}

async fn answer(ask: Ask) -> Result<ExitCode> {
    let desk = Desk::new(Postgres::new(&ask.db)?);
    let now = ask.now.unwrap_or_else(Utc::now);
    let now = now.timestamp_nanos_opt().context("--now lies beyond the years 1677 to 2262")?;
    let answer = match desk.answer(&ask.question, now).await {
        Ok(answer) => answer,
        Err(Unanswered::Refused(refusal)) => {
            eprintln!("{}", refusal.message);
            if !refusal.hint.is_empty() {
                eprintln!("hint: {}", refusal.hint);
            }
            return Ok(ExitCode::from(1));
        }
        Err(Unanswered::Failed(failure)) => {
            failure.log();
            eprintln!("{failure}");
            return Ok(ExitCode::from(2));
        }
    };
    print!("{}", terminal::render(&answer));
    if ask.chart.is_none() && ask.svg.is_none() {
        return Ok(ExitCode::SUCCESS);
    }
    let Some(chart) = &answer.chart else {
        eprintln!("hint: there is nothing to draw for this question, so no chart was written");
        return Ok(ExitCode::SUCCESS);
    };
    let svg = chart::svg(chart);
    if let Some(path) = &ask.svg {
        std::fs::write(path, &svg).with_context(|| format!("cannot write {}", path.display()))?;
    }
    if let Some(path) = &ask.chart {
        std::fs::write(path, chart::png(&svg)?).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(ExitCode::SUCCESS)
}
