//! What a session knows by name: tables, their columns, functions, symbols.

use crate::Session;
use crate::error::{Error, Result};
use arrow::datatypes::SchemaRef;
use datafusion::catalog::SchemaProvider;

impl Session {
    /// The tables, in order.
    pub fn tables(&self) -> Vec<String> {
        self.market.table_names()
    }

    /// The columns of a table with their types.
    ///
    /// # Errors
    /// A table that is not there.
    pub async fn schema(&self, table: &str) -> Result<SchemaRef> {
        if let Some(db) = &self.market.db {
            db.begin().await?;
        }
        let found = self.market.table(table).await?;
        let missing = || Error::question(format!("unknown table \"{table}\""), "\\dt lists the tables");
        Ok(found.ok_or_else(missing)?.schema())
    }

    /// The names of a table's columns.
    ///
    /// # Errors
    /// A table that is not there.
    pub async fn columns(&self, table: &str) -> Result<Vec<String>> {
        Ok(self.schema(table).await?.fields().iter().map(|field| field.name().clone()).collect())
    }

    /// The functions that may stand in an expression, DataFusion's among them.
    pub fn functions(&self) -> Vec<String> {
        let state = self.context.state();
        let mut names: Vec<String> = state.scalar_functions().keys().cloned().collect();
        names.extend(state.aggregate_functions().keys().cloned());
        names.extend(state.window_functions().keys().cloned());
        names.sort_unstable();
        names.dedup();
        names
    }

    /// Symbols of the database, the first of them.
    ///
    /// # Errors
    /// What the server says.
    pub async fn symbols(&self, most: usize) -> Result<Vec<String>> {
        let Some(db) = self.market.db.as_ref().filter(|db| db.has_server()) else { return Ok(Vec::new()) };
        db.begin().await?;
        let mut rows = db.copy(&format!("SELECT symbol FROM market.instruments ORDER BY symbol LIMIT {most}")).await?;
        let mut symbols = Vec::new();
        while let Some(fields) = rows.next().await? {
            symbols.extend(fields.text(0)?.map(str::to_owned));
        }
        Ok(symbols)
    }

    /// What the file of trades is called in SQL: with a database `trades` is its view.
    pub(crate) fn file_trades_name(&self) -> String {
        let Some(wanted) = self.market.file_trades() else { return "trades".to_owned() };
        let name = self.market.name_of(&wanted).unwrap_or_else(|| "trades".to_owned());
        format!("\"{}\"", name.replace('"', "\"\""))
    }
}
