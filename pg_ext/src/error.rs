//! Domain errors as PostgreSQL errors: one SQLSTATE a kind, with the hint the domain gives.

use market::ErrorKind;
use pgrx::prelude::*;

/// Raises the error; never returns.
#[cold]
pub fn raise(error: &market::Error) -> ! {
    let code = match error.kind() {
        ErrorKind::NotFound => PgSqlErrorCode::ERRCODE_UNDEFINED_OBJECT,
        ErrorKind::OutOfBounds => PgSqlErrorCode::ERRCODE_DATETIME_FIELD_OVERFLOW,
        ErrorKind::InvalidInput => PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE,
        ErrorKind::Overflow => PgSqlErrorCode::ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE,
        ErrorKind::Corrupt => PgSqlErrorCode::ERRCODE_DATA_CORRUPTED,
    };
    raise_with(code, &error.to_string(), &error.hint())
}

/// Raises any error with a message and a hint (empty: none); never returns.
#[cold]
pub fn raise_with(code: PgSqlErrorCode, message: &str, hint: &str) -> ! {
    let report = pgrx::pg_sys::panic::ErrorReport::new(code, message.to_owned(), "");
    let report = if hint.is_empty() { report } else { report.set_hint(hint.to_owned()) };
    report.report(PgLogLevel::ERROR);
    unreachable!("a report at ERROR does not return")
}

/// The value, or the domain's error raised.
pub trait OrRaise<T> {
    /// The value, or the error raised.
    fn or_raise(self) -> T;
}

impl<T> OrRaise<T> for market::Result<T> {
    #[inline]
    fn or_raise(self) -> T {
        match self {
            Ok(value) => value,
            Err(error) => raise(&error),
        }
    }
}
