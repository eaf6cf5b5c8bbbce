//! The schema `market`: files, the tables of the database, and what both have.

use crate::archive;
use crate::db::{self, Db};
use crate::error::external;
use crate::guard::Names;
use crate::known::Calendars;
use crate::sessions;
use crate::unpacked::Unpacked;
use async_trait::async_trait;
use datafusion::catalog::{SchemaProvider, TableProvider};
use datafusion::common::{DataFusionError, Result};
use datafusion::execution::context::SessionContext;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

/// Everything a statement can read.
pub struct Market {
    /// The database, if there is one.
    pub db: Option<Arc<Db>>,
    /// The database's calendars over the program's.
    pub calendars: Arc<Calendars>,
    /// The calendar of files' instruments, if it was named.
    pub calendar: Option<String>,
    /// Runs plans of our own.
    pub context: SessionContext,
    /// What the user calls files.
    pub names: Arc<Names>,
    tables: Mutex<BTreeMap<String, Arc<dyn TableProvider>>>,
    file_trades: Mutex<Option<Arc<dyn TableProvider>>>,
    unpacked: Weak<Unpacked>,
}

impl fmt::Debug for Market {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("market")
    }
}

impl Market {
    /// Without files yet.
    pub fn new(
        db: Option<Arc<Db>>,
        calendars: Arc<Calendars>,
        calendar: Option<String>,
        context: SessionContext,
        names: Arc<Names>,
        unpacked: Weak<Unpacked>,
    ) -> Market {
        Market {
            db,
            calendars,
            calendar,
            context,
            names,
            tables: Mutex::default(),
            file_trades: Mutex::default(),
            unpacked,
        }
    }

    fn tables(&self) -> MutexGuard<'_, BTreeMap<String, Arc<dyn TableProvider>>> {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Names a table; gives back the one that had the name.
    pub fn put(&self, name: &str, table: Arc<dyn TableProvider>) -> Option<Arc<dyn TableProvider>> {
        self.tables().insert(name.to_owned(), table)
    }

    /// Keeps a folder of unpacked files as long as the session.
    pub fn keep(&self, folder: tempfile::TempDir) {
        Unpacked::keep(&self.unpacked, folder);
    }

    /// A name of a table that was put here.
    pub fn name_of(&self, table: &Arc<dyn TableProvider>) -> Option<String> {
        self.tables().iter().find(|(_, known)| Arc::ptr_eq(known, table)).map(|(name, _)| name.clone())
    }

    /// The file that `session_ohlc` reads without a database.
    pub fn set_file_trades(&self, table: Arc<dyn TableProvider>) {
        *self.file_trades.lock().unwrap_or_else(PoisonError::into_inner) = Some(table);
    }

    /// See [`Market::set_file_trades`].
    pub fn file_trades(&self) -> Option<Arc<dyn TableProvider>> {
        self.file_trades.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[async_trait]
impl SchemaProvider for Market {
    fn table_names(&self) -> Vec<String> {
        let mut names: BTreeSet<String> = self.tables().keys().cloned().collect();
        names.insert("calendars".into());
        if let Some(db) = &self.db {
            names.extend(db.relations.iter().cloned());
            if !db.has_server() {
                names.extend(archive::TABLES.iter().map(|name| (*name).to_owned()));
            }
        }
        names.into_iter().collect()
    }

    async fn table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>, DataFusionError> {
        if let Some(table) = self.tables().get(name) {
            return Ok(Some(Arc::clone(table)));
        }
        if name == "calendars" {
            // as in the database a view: what is made anew for each question takes no changes
            return Ok(Some(self.context.read_table(sessions::calendars(&self.calendars)?)?.into_view()));
        }
        match &self.db {
            Some(db) if name == "trades" => Ok(Some(Arc::new(db::TradesTable::new(Arc::clone(db))))),
            Some(db) if !db.has_server() => archive::table(db, name).map_err(external),
            Some(db) if db.relations.iter().any(|relation| relation == name) => {
                Ok(Some(Arc::new(db::PgTable::open(Arc::clone(db), name).await.map_err(external)?)))
            }
            _ => Ok(None),
        }
    }

    fn register_table(&self, name: String, table: Arc<dyn TableProvider>) -> Result<Option<Arc<dyn TableProvider>>> {
        Ok(self.put(&name, table))
    }

    fn deregister_table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        Ok(self.tables().remove(name))
    }

    fn table_exist(&self, name: &str) -> bool {
        self.table_names().iter().any(|known| known == name)
    }
}
