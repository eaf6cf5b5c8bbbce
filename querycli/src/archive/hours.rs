//! With which hours an archived session is read: with those of the calendar's version that its bars were made with.
//!
//! The calendar's file lies beside the sessions. Manifests of format 1 name no file of a calendar that came with the program; what
//! this program ships, or keeps of what earlier releases shipped, has their version, or nobody knows their hours.

use super::Archive;
use super::manifest::{CALENDARS, Content, Manifest, changed};
use super::push::{calendar_file, calendar_hash, calendar_of_file};
use crate::db::{Db, Instrument};
use crate::error::{Error, Result};
use crate::known::Calendars;
use market::{Calendar, TradeDate};
use std::collections::{BTreeMap, HashMap};

/// A calendar's file: what a manifest says of it, and its bytes.
type FileOf = (Content, Vec<u8>);

/// The files of calendars that a push wrote or found, by name and version.
#[derive(Default)]
pub struct Filed(HashMap<(String, i32), Option<FileOf>>);

impl Filed {
    /// The file of a calendar's version, as the database holds it, its library ships it, or this program knows it. `None` if the
    /// name says all (`24/7@17:00 America/New_York`), or nobody has that version any more.
    ///
    /// # Errors
    /// What the server says.
    pub async fn calendar(&mut self, db: &Db, name: &str, version: i32) -> Result<Option<FileOf>> {
        let key = (name.to_owned(), version);
        if let Some(known) = self.0.get(&key) {
            return Ok(known.clone());
        }
        let found = text(db, name, version).await?.map(|text| {
            let file = calendar_file(name, version, text.as_bytes());
            (Content::of(file, text.as_bytes()), text.into_bytes())
        });
        self.0.insert(key, found.clone());
        Ok(found)
    }
}

async fn text(db: &Db, name: &str, version: i32) -> Result<Option<String>> {
    let calendar = db.calendars.find(name)?;
    let id = calendar.id().to_owned();
    let client = db.leader().await?;
    let stored = "SELECT toml || exceptions FROM market.calendar_versions WHERE calendar = $1 AND version = $2 AND state = 'published'";
    if let Some(row) = client.query_opt(stored, &[&id, &version]).await? {
        return Ok(Some(row.get(0)));
    }
    let shipped =
        "SELECT market.calendar_toml(id || '@shipped') FROM market.shipped_calendars() WHERE id = $1 AND version = $2";
    if let Some(row) = client.query_opt(shipped, &[&id, &version]).await? {
        return Ok(Some(row.get(0)));
    }
    Ok(Calendar::kept(&id, version as u32).transpose()?.map(|kept| kept.toml().to_owned()))
}

impl Archive {
    /// The calendar that a session's bars were made with.
    ///
    /// # Errors
    /// A file that is not what was written; a version that nobody knows any more.
    pub fn calendar(&self, manifest: &Manifest, calendars: &Calendars) -> Result<&'static Calendar> {
        let (name, version) = (manifest.instrument.calendar.as_str(), manifest.calendar_version);
        let Some(content) = &manifest.calendar else {
            return calendars.released(name, version)?.ok_or_else(|| {
                let ships = match calendars.find(&format!("{name}@shipped")) {
                    Ok(shipped) => format!("it ships version {}", shipped.version()),
                    Err(_) => "it ships none of that name".to_owned(),
                };
                Error::world(
                    format!("{} was made with version {version} of calendar {name}, which this querycli does not know: {ships}", manifest.name()),
                    "use the querycli of its time or a newer one; querycli archive push files the calendar beside a session whose database knows it",
                )
            });
        };
        let file = content.file.strip_prefix(CALENDARS).and_then(|file| file.strip_prefix('/'));
        let Some((id, number, hash)) = file.and_then(calendar_of_file) else {
            return Err(changed(&content.file, "its name is no calendar's"));
        };
        calendars.filed(&id, number, &hash, || {
            let bytes = content.read(&self.place)?;
            Ok(String::from_utf8_lossy(&bytes).into_owned())
        })
    }

    /// The hours of an instrument between two trade dates: each archived session's own, also where its versions differ.
    ///
    /// # Errors
    /// A manifest that is not what was written; a version that nobody knows.
    pub fn hours(
        &self,
        instrument: &Instrument,
        (first, last): (TradeDate, TradeDate),
        calendars: &Calendars,
    ) -> Result<&'static Calendar> {
        let base = instrument.calendar;
        let days: Vec<TradeDate> =
            self.days(&instrument.symbol)?.into_iter().filter(|day| (first..=last).contains(day)).collect();
        self.expect(days.iter().map(|day| (instrument.symbol.as_str(), *day)));
        let mut others: BTreeMap<TradeDate, &'static Calendar> = BTreeMap::new();
        for day in &days {
            if let Some(manifest) = self.manifest(&instrument.symbol, *day)? {
                others.insert(*day, self.calendar(&manifest, calendars)?);
            }
        }
        calendars.with_days(base, (first, last), &others)
    }

    /// Makes the calendars that lie beside the sessions known, as a database does its own.
    ///
    /// # Errors
    /// A file that is not what was written.
    pub fn adopt_calendars(&self, calendars: &Calendars) -> Result<()> {
        let listed = self.place.list(CALENDARS)?.into_iter().map(|(name, _)| name);
        let named: Vec<(String, (String, i32, String))> =
            listed.filter_map(|name| Some((format!("{CALENDARS}/{name}"), calendar_of_file(&name)?))).collect();
        let files: Vec<String> = named.iter().map(|(file, _)| file.clone()).collect();
        for ((file, (id, version, hash)), read) in named.into_iter().zip(self.place.read_many(&files)) {
            let bytes = read?.unwrap_or_default();
            if calendar_hash(&bytes) != hash {
                return Err(changed(&file, "its bytes are not those that were written"));
            }
            calendars.adopt(&id, version, &hash, || Ok(String::from_utf8_lossy(&bytes).into_owned()))?;
        }
        Ok(())
    }

    /// The newest version of a calendar among those that the newest sessions name without a file.
    ///
    /// # Errors
    /// A manifest that is not what was written.
    pub fn released_version(&self, id: &str) -> Result<Option<i32>> {
        let mut found = None;
        let symbols = self.symbols()?;
        self.expect_newest(&symbols)?;
        for symbol in symbols {
            let Some(manifest) = self.newest(&symbol)? else { continue };
            let named = Calendar::builtin(&manifest.instrument.calendar).is_ok_and(|calendar| calendar.id() == id);
            if named && manifest.calendar.is_none() {
                found = found.max(Some(manifest.calendar_version));
            }
        }
        Ok(found)
    }
}
