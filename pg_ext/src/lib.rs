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
mod query;
mod reference;
mod spi;
mod store;
mod time;
mod trades;
mod worker;

/// Called by PostgreSQL when it loads the library into a backend.
#[pgrx::pg_guard]
pub extern "C-unwind" fn _PG_init() {
    query::define_settings();
    query::init();
    fmgr::define_settings();
    store::define_settings();
    worker::init();
}
