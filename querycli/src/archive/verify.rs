//! `archive verify`: whether every byte is as it was written, and every session what its manifest and its database say.

use super::manifest::{
    CALENDARS, MINUTES, Manifest, SESSIONS, TRADES, changed, manifest_file, minutes_file, symbol_of_folder, trades_file,
};
use super::place::{Found, LOCK, TEMPORARY};
use super::push::calendar_of_file;
use super::{Archive, Contents, Selection, file, halts};
use crate::db::Db;
use crate::error::{Error, Result};
use market::{MinuteBar, TradeDate, decode_minutes};
use std::collections::BTreeSet;

/// Sessions whose manifests are asked for at once.
const SESSIONS_AT_ONCE: usize = 64;

/// What to look at.
#[derive(Clone, Debug, Default)]
pub struct Verify {
    /// Which sessions.
    pub selection: Selection,
    /// Compare hashes alone, without decoding.
    pub quick: bool,
}

/// What was found out about a session or a file.
#[derive(Clone, Debug)]
pub enum Verified {
    /// All is well.
    Good(Box<Manifest>),
    /// Something is not as it was written.
    Bad(String, Error),
    /// A file that no manifest names: of an interrupted push, or of a session's earlier state.
    Leftover(Found),
}

/// Checks the sessions of the selection and, if it is everything, looks for files that belong to none.
///
/// # Errors
/// A folder that cannot be read. What is wrong with a session is told to `each`.
pub fn verify(archive: &Archive, verify: &Verify, mut each: impl FnMut(&Verified)) -> Result<()> {
    let (mut named, mut doubtful) = (BTreeSet::new(), Vec::new());
    // before the manifests: what a push brings meanwhile is none of ours
    let all = archive.place.files("")?;
    for some in archive.sessions(&Selection::default())?.chunks(SESSIONS_AT_ONCE) {
        archive.expect(some.iter().map(|(symbol, day)| (symbol.as_str(), *day)));
        let mut sessions = Vec::new();
        for (symbol, day) in some {
            let name = manifest_file(symbol, *day);
            let found =
                archive.manifest(symbol, *day).and_then(|found| found.ok_or_else(|| changed(&name, "it is not there")));
            match &found {
                Ok(manifest) => named.extend(manifest.contents().map(|content| content.file.clone())),
                // what it names cannot be read, and may be the only copy
                Err(_) => doubtful.extend(files_of(symbol, *day)),
            }
            named.insert(name);
            if verify.selection.takes(symbol, *day) {
                sessions.push((format!("{symbol} {day}"), found));
            }
        }
        let files = sessions.iter().flat_map(|(_, found)| found.iter().flat_map(Manifest::contents)).cloned();
        let mut files = archive.contents(files);
        for (name, found) in sessions {
            match found.and_then(|manifest| check(&mut files, manifest, !verify.quick)) {
                Ok(manifest) => each(&Verified::Good(Box::new(manifest))),
                Err(error) => each(&Verified::Bad(name, error)),
            }
        }
    }
    for file in all {
        let name = file.name.as_str();
        let of_a_session = named.contains(name)
            || (!name.ends_with(TEMPORARY) && doubtful.iter().any(|start| name.starts_with(start.as_str())));
        // a store may have other programs' objects below the same prefix
        let not_ours = archive.place.is_store() && !is_ours(name);
        if of_a_session || not_ours || name == LOCK {
            continue;
        }
        match stray(name) {
            // A manifest in a place where none can be: renamed, and so a session that is missing elsewhere.
            Some(error) => each(&Verified::Bad(file.name, error)),
            None => each(&Verified::Leftover(file)),
        }
    }
    Ok(())
}

/// Whether a push may have written a file of this name.
fn is_ours(name: &str) -> bool {
    let is_hash = |text: &str| text.len() == 16 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let parts: Vec<&str> = name.split('/').collect();
    match parts[..] {
        [TRADES, symbol, day, file] => {
            let day = day.strip_prefix("trade_date=").is_some_and(|day| TradeDate::parse(day).is_ok());
            symbol_of_folder(symbol).is_some() && day && file.strip_suffix(".parquet").is_some_and(is_hash)
        }
        [MINUTES, symbol, file] => {
            let hash =
                file.strip_suffix(".bars").and_then(|file| Some((file.get(..10)?, file.get(10..)?.strip_prefix('-')?)));
            symbol_of_folder(symbol).is_some()
                && hash.is_some_and(|(day, hash)| TradeDate::parse(day).is_ok() && is_hash(hash))
        }
        [CALENDARS, file] => calendar_of_file(file).is_some_and(|(.., hash)| is_hash(&hash)),
        // a manifest in the wrong place is a session that is missing elsewhere
        [SESSIONS, symbol, file] => symbol_of_folder(symbol).is_some() && file.ends_with(".json"),
        _ => false,
    }
}

/// How the names of a session's files begin; any calendar may be of it.
fn files_of(symbol: &str, day: TradeDate) -> [String; 3] {
    let (trades, minutes) = (trades_file(symbol, day, 0), minutes_file(symbol, day, 0));
    let up_to = |name: &str, end: char| name.rfind(end).map_or(String::new(), |at| name[..=at].to_owned());
    [up_to(&trades, '/'), up_to(&minutes, '-'), format!("{CALENDARS}/")]
}

/// Checks a session's files, which come next; all of them come, also behind a broken one.
fn check(files: &mut Contents, manifest: Manifest, decode: bool) -> Result<Manifest> {
    let mut read = Vec::new();
    for content in manifest.contents() {
        let bytes = files.next_file().and_then(|bytes| bytes.ok_or_else(|| changed(&content.file, "it is not there")));
        read.push((content, bytes));
    }
    for (content, bytes) in read {
        let bytes = bytes?;
        if decode && *content == manifest.trades {
            let trades = file::read(bytes)?;
            if market::digest(&trades) != manifest.digest()? || trades.len() as u64 != manifest.n {
                return Err(changed(&content.file, "its trades have another digest than the manifest says"));
            }
        } else if decode && Some(content) == manifest.minutes.as_ref() {
            let mut minutes: Vec<MinuteBar> = Vec::new();
            decode_minutes(&bytes, &mut minutes)?;
        }
    }
    Ok(manifest)
}

/// What a file that belongs to no session is; `None` if it is only left over.
fn stray(file: &str) -> Option<Error> {
    if file.ends_with(TEMPORARY) {
        return None;
    }
    let mut parts = file.splitn(3, '/');
    let (folder, symbol) = (parts.next()?, parts.next().unwrap_or_default());
    match folder {
        TRADES | MINUTES | CALENDARS => None,
        SESSIONS if symbol_of_folder(symbol).is_some() || !file.ends_with(".json") => {
            Some(changed(file, "its name is no session's"))
        }
        _ => None,
    }
}

/// Compares with what the database believes to be in this archive.
///
/// # Errors
/// What the server says.
pub async fn against(db: &Db, archive: &Archive, selection: &Selection, mut each: impl FnMut(&Verified)) -> Result<()> {
    let sql =
        "SELECT i.symbol, a.trade_date::text, a.digest, s.digest, i.id, market.halts_digest(i.id, a.trade_date) <> ''
               FROM market.archived_sessions AS a JOIN market.instruments AS i ON i.id = a.instrument_id
               LEFT JOIN LATERAL (SELECT min(b.digest) AS digest FROM market.session_bars AS b
                 WHERE b.instrument_id = a.instrument_id AND b.trade_date = a.trade_date) AS s ON true
               WHERE a.location = $1 ORDER BY 1, 2";
    let client = db.leader().await?;
    for row in client.query(sql, &[&archive.location()]).await? {
        let (symbol, day) = (row.get::<_, String>(0), TradeDate::parse(row.get(1))?);
        if !selection.takes(&symbol, day) {
            continue;
        }
        let (told, stored) = (row.get::<_, i64>(2) as u64, row.get::<_, Option<i64>>(3).map(|digest| digest as u64));
        let name = format!("{symbol} {day}");
        let found = match archive.manifest(&symbol, day) {
            // said already when the archive was looked at
            Err(_) => continue,
            Ok(found) => found,
        };
        let noted = match row.get(5) {
            true => halts::noted(&client, row.get(4), day).await?,
            false => Vec::new(),
        };
        let digest = found.as_ref().map(Manifest::digest).transpose()?;
        let archived =
            found.as_ref().and_then(|manifest| manifest.halts.as_ref()).map_or(&[][..], |halts| &halts.noted);
        let problem = match digest {
            None => "the database believes it archived, and it is not".to_owned(),
            Some(digest) if digest != told => {
                format!("the archive has {digest:016x}, the database was told {told:016x}")
            }
            Some(digest) if stored.is_some_and(|stored| stored != digest) => {
                "the session was sealed again since; push it again".to_owned()
            }
            Some(_) if noted != archived => {
                format!(
                    "the database has {} halts, the archive {}, or others; push it again",
                    noted.len(),
                    archived.len()
                )
            }
            Some(_) => continue,
        };
        each(&Verified::Bad(name.clone(), Error::world(format!("{name}: {problem}"), "run querycli archive push")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::Place;
    use super::super::batch::{Item, commit};
    use super::super::manifest::{Content, FORMAT, Halts, Origin, SegmentRow, Terms};
    use super::*;
    use market::block::Core;
    use market::{Calendar, MinuteFold, Trade, Trades, encode_minutes};

    /// An archive of one session, made without a database.
    fn archive(folder: &std::path::Path) -> Result<Archive> {
        let archive = Archive::at(Place::parse(&folder.display().to_string())?);
        let day = TradeDate::parse("2025-11-28")?;
        let calendar = Calendar::builtin("XNYS")?;
        let session = calendar.session(day)?.ok_or_else(|| Error::world("no session", ""))?;
        let open = session.spans.first().map_or(session.from, |span| span.open);
        let trades: Trades = (0..3000)
            .map(|i| Trade {
                ts: open + i * 7_000_000_123,
                seq: i,
                price: 100_000_000_000 + i % 17 * 10_000_000,
                size: i % 5 * 1_000_000_000,
                trade_id: i * 3,
                ..Trade::default()
            })
            .filter(|trade| trade.ts < session.till)
            .collect();
        let (mut core, mut fold) = (Core::new(), MinuteFold::new(&session));
        core.set(&trades, 0..trades.len());
        fold.push(&core);
        let (parquet, minutes) = (file::write(&trades, &[])?, encode_minutes(&fold.finish())?);
        let digest = market::digest(&trades);
        let of_trades = Content::of(trades_file("X", day, digest), &parquet);
        let of_minutes = Content::of(minutes_file("X", day, 1), &minutes);
        let manifest = Manifest {
            format: FORMAT,
            symbol: "X".into(),
            trade_date: day.to_string(),
            n: trades.len() as u64,
            digest: format!("{digest:016x}"),
            first_ts: open,
            last_ts: open,
            state: "final".into(),
            revision: 0,
            sealed_at: String::new(),
            calendar_version: 1,
            instrument: Terms { kind: "equity".into(), calendar: "XNYS".into(), ..Terms::default() },
            origin: Origin::default(),
            trades: of_trades.clone(),
            minutes: Some(of_minutes.clone()),
            calendar: None,
            bars: vec![SegmentRow::default()],
            halts: Some(Halts::default()),
            checksum: String::new(),
        };
        let files = vec![(of_trades, parquet.into()), (of_minutes, minutes.into())];
        let item = Item { manifest, files, trades: Some(trades), known: false, halts_digest: String::new() };
        commit(&archive, &[item]).into_iter().collect::<Result<Vec<()>>>()?;
        Ok(archive)
    }

    fn broken(archive: &Archive, quick: bool) -> Result<usize> {
        let mut bad = 0;
        archive.forget();
        verify(archive, &Verify { quick, ..Verify::default() }, |found| match found {
            Verified::Good(_) => {}
            // nor is what a broken manifest names left over: prune would remove it
            other => {
                assert!(matches!(other, Verified::Bad(..)), "{other:?}");
                bad += 1;
            }
        })?;
        Ok(bad)
    }

    #[test]
    fn a_flipped_bit_is_found_in_every_byte_of_every_file() -> Result<()> {
        let folder = tempfile::tempdir().map_err(|error| Error::world(error.to_string(), ""))?;
        let archive = archive(folder.path())?;
        assert_eq!(broken(&archive, false)?, 0);
        let files = archive.place.files("")?;
        assert_eq!(files.len(), 3, "{files:?}");
        let mut flips = 0;
        for name in files {
            let path = folder.path().join(&name.name);
            let name = name.name;
            let whole = std::fs::read(&path).map_err(|error| Error::world(error.to_string(), ""))?;
            let write =
                |bytes: &[u8]| std::fs::write(&path, bytes).map_err(|error| Error::world(error.to_string(), ""));
            // every byte of the small files, a prime step through the large one, and both its ends
            let step = if whole.len() > 20_000 { 37 } else { 1 };
            let ends = (0..whole.len()).filter(|at| *at < 64 || at + 512 > whole.len());
            for at in (0..whole.len()).step_by(step).chain(ends) {
                let mut flipped = whole.clone();
                flipped[at] ^= 1 << (at % 8);
                write(&flipped)?;
                assert_eq!(broken(&archive, true)?, 1, "{name}, byte {at}");
                flips += 1;
            }
            for cut in [0, 1, whole.len() / 2, whole.len() - 1] {
                write(&whole[..cut])?;
                assert_eq!(broken(&archive, true)?, 1, "{name}, cut at {cut}");
            }
            write(&whole)?;
        }
        assert!(flips > 3000, "{flips}");
        assert_eq!(broken(&archive, false)?, 0);
        Ok(())
    }
}
