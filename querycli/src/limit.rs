//! LIMIT, OFFSET and FETCH FIRST as PostgreSQL reads them: its roundings, and its words for what cannot be.

use crate::error::{Error, Result};
use datafusion::sql::sqlparser::ast::{Expr, Fetch, LimitClause, Query, UnaryOperator, Value};

/// Puts whole numbers into a query's clauses.
///
/// # Errors
/// What is negative, too large, or no number.
pub fn limits(query: &mut Query) -> Result<()> {
    if let Some(Fetch { with_ties: false, percent: false, quantity }) = &query.fetch {
        // the standard's way to say LIMIT; PostgreSQL takes one of them
        let rows = quantity.clone().unwrap_or_else(|| number(1));
        match &mut query.limit_clause {
            None => {
                query.limit_clause =
                    Some(LimitClause::LimitOffset { limit: Some(rows), offset: None, limit_by: Vec::new() });
            }
            Some(LimitClause::LimitOffset { limit: limit @ None, .. }) => *limit = Some(rows),
            Some(_) => {
                return Err(Error::question(
                    "syntax error at or near \"FETCH\"",
                    "write LIMIT or FETCH FIRST, not both",
                ));
            }
        }
        query.fetch = None;
    }
    match &mut query.limit_clause {
        Some(LimitClause::LimitOffset { limit, offset, .. }) => {
            limit.as_mut().map_or(Ok(()), |limit| whole("LIMIT", limit))?;
            offset.as_mut().map_or(Ok(()), |offset| whole("OFFSET", &mut offset.value))
        }
        Some(LimitClause::OffsetCommaLimit { .. }) => {
            Err(Error::question("LIMIT #,# syntax is not supported", "use separate LIMIT and OFFSET clauses"))
        }
        None => Ok(()),
    }
}

fn number(value: i64) -> Expr {
    Expr::Value(Value::Number(value.to_string(), false).into())
}

/// A literal as the whole number that it is; other expressions stay as they are.
fn whole(clause: &str, expr: &mut Expr) -> Result<()> {
    let Some(text) = literal(expr) else { return Ok(()) };
    let hint = match clause {
        "LIMIT" => "LIMIT takes a whole number from 0 to 9223372036854775807, or ALL; leave it out for all rows",
        _ => "OFFSET takes a whole number from 0 to 9223372036854775807",
    };
    let value = match (&text, text.digits().parse::<i64>()) {
        (_, Ok(value)) => value,
        (Literal::Text(text), _) => {
            return Err(Error::question(format!("invalid input syntax for type bigint: \"{text}\""), hint));
        }
        // What is no fraction needs no rounding, and is too large.
        (Literal::Number(digits), _) => match digits.parse::<f64>().map(f64::round) {
            Ok(value) if value.abs() < i64::MAX as f64 => value as i64,
            _ => return Err(Error::question("bigint out of range", hint)),
        },
    };
    if value < 0 {
        return Err(Error::question(format!("{clause} must not be negative"), hint));
    }
    *expr = number(value);
    Ok(())
}

enum Literal {
    Number(String),
    Text(String),
}

impl Literal {
    fn digits(&self) -> &str {
        match self {
            Literal::Number(digits) => digits,
            Literal::Text(text) => text.trim(),
        }
    }
}

fn literal(expr: &Expr) -> Option<Literal> {
    match expr {
        Expr::Nested(inner) => literal(inner),
        Expr::Value(value) => match &value.value {
            Value::Number(digits, _) => Some(Literal::Number(digits.clone())),
            Value::SingleQuotedString(text) => Some(Literal::Text(text.clone())),
            _ => None,
        },
        Expr::UnaryOp { op: UnaryOperator::Minus, expr } => match literal(expr)? {
            Literal::Number(digits) => Some(Literal::Number(format!("-{digits}"))),
            Literal::Text(_) => None,
        },
        Expr::UnaryOp { op: UnaryOperator::Plus, expr } => literal(expr),
        _ => None,
    }
}
