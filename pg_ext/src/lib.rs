//! Bellwether inside PostgreSQL: Datum in, `market`, Datum out.
//!
//! The SQL objects are declared by hand in `sql/extension/`, one C function each; nothing here generates SQL.

::pgrx::pg_module_magic!();

mod add_instrument;
mod aggregate;
mod calendar;
mod error;
mod fmgr;
mod instrument;
mod numeric;
mod reference;
mod spi;
mod time;
