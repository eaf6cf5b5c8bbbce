//! Which calendar a name means: the database's published versions, or those of an archive alone, over those that come with the
//! program.
//!
//! Read with every statement's snapshot, so that trades and calendar are of the same moment. A version never changes, so its
//! file is fetched and parsed once and kept for the program's life.

use crate::archive::Archive;
use crate::error::{Error, Result};
use market::calendar::Halt;
use market::{Calendar, Nanos, TradeDate};
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use tokio_postgres::{Client, Row};

/// The calendars a session can ask.
#[derive(Default)]
pub struct Calendars {
    known: Mutex<Known>,
    /// Tells of halts, and of calendars that earlier releases shipped, where there is no database.
    archive: OnceLock<Arc<Archive>>,
}

#[derive(Default)]
struct Known {
    /// The user's published versions: the digest of each file.
    versions: BTreeMap<(String, i32), String>,
    aliases: HashMap<String, String>,
    /// Of whole markets, by the calendar's name in the table.
    halts: HashMap<String, Vec<Halt>>,
}

/// By id, version and digest; the shipped ones by name, version -1. Those of several versions by what they are made of.
type Parsed = HashMap<(String, i32, String), &'static Calendar>;

static PARSED: Mutex<Option<Parsed>> = Mutex::new(None);

fn parsed<R>(f: impl FnOnce(&mut Parsed) -> R) -> R {
    f(PARSED.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_default())
}

fn shipped(name: &str) -> market::Result<&'static Calendar> {
    let key = (name.to_owned(), -1, String::new());
    if let Some(known) = parsed(|all| all.get(&key).copied()) {
        return Ok(known);
    }
    let found: &'static Calendar = Box::leak(Box::new(Calendar::builtin(name)?));
    Ok(parsed(|all| *all.entry(key).or_insert(found)))
}

/// The columns of a halt in `market.calendar_exceptions`: beginning and end in microseconds, the ends of time being NULL, and why.
pub const HALT: &str = "CASE WHEN isfinite(from_ts) THEN (extract(epoch FROM from_ts) * 1000000)::int8 END,
    CASE WHEN isfinite(till_ts) THEN (extract(epoch FROM till_ts) * 1000000)::int8 END, coalesce(note, kind)";

/// A row of these.
pub fn halt(row: &Row) -> Halt {
    let nanos = |micros: i64| micros.saturating_mul(1000);
    Halt {
        from: row.get::<_, Option<i64>>(0).map_or(Nanos::MIN + 1, nanos),
        till: row.get::<_, Option<i64>>(1).map_or(Nanos::MAX, nanos),
        note: row.get(2),
    }
}

impl Calendars {
    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads what the database has, in the client's snapshot.
    ///
    /// # Errors
    /// What the server says; a calendar that this program cannot read.
    pub async fn refresh(&self, client: &Client) -> Result<()> {
        let sql = "SELECT calendar, version, md5(toml || exceptions), aliases FROM market.calendar_versions
                   WHERE state = 'published' ORDER BY calendar, version";
        let mut known = Known::default();
        for row in client.query(sql, &[]).await? {
            let (id, version, digest): (String, i32, String) = (row.get(0), row.get(1), row.get(2));
            let key = (id.clone(), version, digest.clone());
            if parsed(|all| !all.contains_key(&key)) {
                let sql =
                    "SELECT toml || exceptions FROM market.calendar_versions WHERE calendar = $1 AND version = $2";
                let file: String = client.query_one(sql, &[&id, &version]).await?.get(0);
                let found: &'static Calendar = Box::leak(Box::new(Calendar::versioned(&file, version as u32)?));
                parsed(|all| all.insert(key, found));
            }
            for alias in row.get::<_, Vec<String>>(3) {
                known.aliases.insert(alias, id.clone());
            }
            known.versions.insert((id, version), digest);
        }
        let sql = format!(
            "SELECT {HALT}, calendar FROM market.calendar_exceptions WHERE instrument_id IS NULL AND kind <> 'schedule' ORDER BY from_ts"
        );
        for row in client.query(&sql, &[]).await? {
            known.halts.entry(row.get(3)).or_default().push(halt(&row));
        }
        *self.known() = known;
        Ok(())
    }

    /// Those of an archive alone.
    ///
    /// # Errors
    /// A calendar in it that cannot be read.
    pub fn of_archive(archive: &Arc<Archive>) -> Result<Calendars> {
        let calendars = Calendars::default();
        archive.adopt_calendars(&calendars)?;
        // nobody has seen it before
        let _ = calendars.archive.set(Arc::clone(archive));
        Ok(calendars)
    }

    /// Makes a version known that no database tells of: an archive's. `file` is read once.
    ///
    /// # Errors
    /// A calendar that this program cannot read.
    pub fn adopt(&self, id: &str, version: i32, digest: &str, file: impl FnOnce() -> Result<String>) -> Result<()> {
        let found = self.filed(id, version, digest, file)?;
        let mut known = self.known();
        let shipped = Calendar::builtin(found.id()).is_ok();
        for alias in found.aliases().iter().filter(|_| !shipped) {
            known.aliases.insert(alias.clone(), id.to_owned());
        }
        known.versions.insert((id.to_owned(), version), digest.to_owned());
        Ok(())
    }

    /// A version that lies in an archive.
    ///
    /// # Errors
    /// A calendar that this program cannot read.
    pub fn filed(
        &self,
        id: &str,
        version: i32,
        digest: &str,
        file: impl FnOnce() -> Result<String>,
    ) -> Result<&'static Calendar> {
        let key = (id.to_owned(), version, digest.to_owned());
        if let Some(found) = parsed(|all| all.get(&key).copied()) {
            return Ok(found);
        }
        let found: &'static Calendar = Box::leak(Box::new(Calendar::versioned(&file()?, version as u32)?));
        Ok(parsed(|all| *all.entry(key).or_insert(found)))
    }

    /// What this program ships under a name, or an earlier release did, if it has this version.
    ///
    /// # Errors
    /// A kept calendar that cannot be read.
    pub fn released(&self, name: &str, version: i32) -> Result<Option<&'static Calendar>> {
        let Ok(today) = shipped(name) else { return Ok(None) };
        if today.version() as i32 == version {
            return Ok(Some(today));
        }
        let Some(kept) = u32::try_from(version).ok().and_then(|version| Calendar::kept(today.id(), version)) else {
            return Ok(None);
        };
        let kept = kept?;
        self.filed(today.id(), version, "kept", || Ok(kept.toml().to_owned())).map(Some)
    }

    /// A calendar with days of other versions, of the trade dates between two; itself where they say the same.
    ///
    /// # Errors
    /// Versions that cannot stand side by side.
    pub fn with_days(
        &self,
        base: &'static Calendar,
        (first, last): (TradeDate, TradeDate),
        days: &BTreeMap<TradeDate, &'static Calendar>,
    ) -> Result<&'static Calendar> {
        let mut mixed: BTreeMap<TradeDate, Calendar> = BTreeMap::new();
        let mut versions: Vec<&'static Calendar> = Vec::new();
        for version in days.values() {
            if !version.is_same(base) && !versions.iter().any(|known| known.is_same(version)) {
                versions.push(version);
            }
        }
        for version in versions {
            for (day, _) in base.changes(version).filter(|(day, _)| (first..=last).contains(day)) {
                // a day without a session of its own is as the next that has one
                if let Some((_, of)) = days.range(day..).next()
                    && of.is_same(version)
                {
                    mixed.insert(day, (*of).clone());
                }
            }
        }
        if mixed.is_empty() {
            return Ok(base);
        }
        let made_of: Vec<String> = mixed.iter().map(|(day, of)| format!("{day} {:p}", of.toml())).collect();
        let key = (format!("{} {:p}", base.id(), base.toml()), -2, made_of.join(" "));
        if let Some(found) = parsed(|all| all.get(&key).copied()) {
            return Ok(found);
        }
        let found: &'static Calendar = Box::leak(Box::new(base.with_days(&mixed)?));
        Ok(parsed(|all| *all.entry(key).or_insert(found)))
    }

    /// What an archive alone says of a calendar that an earlier release shipped otherwise: its sessions name a version.
    fn in_archive(&self, shipped: &'static Calendar) -> Result<&'static Calendar> {
        let Some(archive) = self.archive.get() else { return Ok(shipped) };
        if Calendar::kept_versions(shipped.id()).next().is_none() {
            return Ok(shipped);
        }
        match archive.released_version(shipped.id())? {
            Some(version) => Ok(self.released(shipped.id(), version)?.unwrap_or(shipped)),
            None => Ok(shipped),
        }
    }

    /// The calendar of a name: an id, an alias, an old version such as `XNYS@1`, or what this program ships, `XNYS@shipped`.
    ///
    /// # Errors
    /// `Unknown` with the nearest name.
    pub fn find(&self, name: &str) -> Result<&'static Calendar> {
        let (name, version) = Calendar::name_and_version(name);
        let by_name = shipped(name);
        let known = self.known();
        let versions_of = |id: &str| known.versions.range((id.to_owned(), i32::MIN)..=(id.to_owned(), i32::MAX));
        // a name that a user gave stays the user's, also when the program ships a calendar of that name later
        let id = match (known.aliases.get(name), &by_name) {
            _ if versions_of(name).next().is_some() => name,
            (Some(id), _) => id,
            (None, Ok(shipped)) => shipped.id(),
            (None, Err(_)) => name,
        };
        let shipped = match by_name {
            Ok(named) if named.id() != id => Calendar::builtin_of_id(id).and_then(|found| shipped(found.id())),
            other => other,
        };
        let versions = versions_of(id);
        let Some(version) = version else {
            return match versions.last() {
                Some(((id, version), digest)) => stored(id, *version, digest),
                None => {
                    drop(known);
                    self.in_archive(shipped?)
                }
            };
        };
        if version == "draft" {
            return Err(Error::question(
                format!("{id}@draft can be asked in the database only"),
                "ask market.calendar_diff() there, or publish it first",
            ));
        }
        if version == "shipped" {
            return Ok(shipped?);
        }
        let number = version.parse::<i32>().ok();
        if let Some(((id, version), digest)) = versions.clone().find(|((_, version), _)| Some(*version) == number) {
            return stored(id, *version, digest);
        }
        match shipped {
            Ok(shipped) if Some(shipped.version() as i32) == number => Ok(shipped),
            Err(error) if versions.clone().next().is_none() => Err(error.into()),
            shipped => {
                let mut all: Vec<i32> = versions.map(|((_, version), _)| *version).collect();
                all.extend(shipped.ok().map(|shipped| shipped.version() as i32));
                all.sort_unstable();
                all.dedup();
                let all: Vec<String> = all.iter().map(|version| format!("{id}@{version}")).collect();
                let message = format!("calendar {id} has no published version \"{version}\"");
                Err(Error::question(message, format!("ask for {}", all.join(", "))))
            }
        }
    }

    /// Every calendar in force, by id.
    ///
    /// # Errors
    /// A calendar that cannot be read.
    pub fn all(&self) -> Result<Vec<&'static Calendar>> {
        let mut ids: Vec<String> = Calendar::builtin_ids().iter().map(|id| (*id).to_owned()).collect();
        ids.extend(self.known().versions.keys().map(|(id, _)| id.clone()));
        ids.sort_unstable();
        ids.dedup();
        ids.iter().map(|id| self.find(id)).collect()
    }

    /// When a whole market stood still between two trade dates; a database tells also of other times.
    ///
    /// # Errors
    /// A manifest that is not what was written.
    pub fn halts(&self, calendar: &Calendar, dates: (TradeDate, TradeDate)) -> Result<Vec<Halt>> {
        if let Some(archive) = self.archive.get() {
            return archive.market_halts(calendar, dates);
        }
        let known = self.known();
        let names = std::iter::once(calendar.id()).chain(calendar.aliases().iter().map(String::as_str));
        Ok(names.filter_map(|name| known.halts.get(name)).flatten().cloned().collect())
    }
}

fn stored(id: &str, version: i32, digest: &str) -> Result<&'static Calendar> {
    let key = (id.to_owned(), version, digest.to_owned());
    parsed(|all| all.get(&key).copied())
        .ok_or_else(|| Error::world(format!("version {version} of calendar {id} was not read"), "ask again"))
}
