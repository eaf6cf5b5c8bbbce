//! Which calendar a name means: the database's published versions over those that come with the program.
//!
//! Read with every statement's snapshot, so that trades and calendar are of the same moment. A version never changes, so its
//! file is fetched and parsed once and kept for the program's life.

use crate::error::{Error, Result};
use market::calendar::Halt;
use market::{Calendar, Nanos};
use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio_postgres::{Client, Row};

/// The calendars a session can ask.
#[derive(Default)]
pub struct Calendars(Mutex<Known>);

#[derive(Default)]
struct Known {
    /// The user's published versions: the digest of each file.
    versions: BTreeMap<(String, i32), String>,
    aliases: HashMap<String, String>,
    /// Of whole markets, by the calendar's name in the table.
    halts: HashMap<String, Vec<Halt>>,
}

/// By id, version and digest; the shipped ones by name, version -1.
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
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
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

    /// Makes a published version known that no database tells of: an archive's.
    ///
    /// # Errors
    /// A calendar that this program cannot read.
    pub fn adopt(&self, id: &str, version: i32, file: &str) -> Result<()> {
        let digest = format!("{:016x}", xxhash_rust::xxh3::xxh3_64(file.as_bytes()));
        let key = (id.to_owned(), version, digest.clone());
        if parsed(|all| !all.contains_key(&key)) {
            let found: &'static Calendar = Box::leak(Box::new(Calendar::versioned(file, version as u32)?));
            parsed(|all| all.insert(key, found));
        }
        self.known().versions.insert((id.to_owned(), version), digest);
        Ok(())
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
                None => Ok(shipped?),
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

    /// When a whole market stood still.
    pub fn halts(&self, calendar: &Calendar) -> Vec<Halt> {
        let known = self.known();
        let names = std::iter::once(calendar.id()).chain(calendar.aliases().iter().map(String::as_str));
        names.filter_map(|name| known.halts.get(name)).flatten().cloned().collect()
    }
}

fn stored(id: &str, version: i32, digest: &str) -> Result<&'static Calendar> {
    let key = (id.to_owned(), version, digest.to_owned());
    parsed(|all| all.get(&key).copied())
        .ok_or_else(|| Error::world(format!("version {version} of calendar {id} was not read"), "ask again"))
}
