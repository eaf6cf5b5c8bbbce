//! What PostgreSQL spells otherwise than DataFusion, or DataFusion would take for something else, in the parsed statement.

use crate::error::{Error, Result};
use crate::postgres::{chrono_pattern, read_instant};
use crate::rewrite::call;
use chrono::Duration;
use datafusion::sql::sqlparser::ast::{
    BinaryOperator, DataType as Type, Expr, FunctionArg, FunctionArgExpr, FunctionArguments, GroupByExpr, Ident,
    ObjectName, ObjectNamePart, Query, SelectItem, SetExpr, Statement, TimezoneInfo, TypedString, Value,
};

/// Functions that are there under another name.
const NAMES: [(&str, &str); 5] = [
    ("variance", "var_samp"),
    ("every", "bool_and"),
    ("sign", "signum"),
    ("gen_random_uuid", "uuid"),
    ("char_length", "length"),
];

/// Rewrites an expression whose parts have been rewritten.
///
/// # Errors
/// A pattern that cannot be read.
pub fn as_datafusion(expr: &mut Expr) -> Result<()> {
    let changed = match expr {
        // DataFusion's own only says how others should show the instant.
        Expr::AtTimeZone { timestamp, time_zone } => {
            call("timezone", vec![time_zone.as_ref().clone(), timestamp.as_ref().clone()])
        }
        // Table functions take constants, and make them themselves.
        Expr::TypedString(TypedString { data_type: Type::Timestamp(_, zone), value, .. }) => {
            if let Some(text) = value.value.clone().into_string().and_then(|text| whole_time(&text, *zone)) {
                value.value = Value::SingleQuotedString(text);
            }
            None
        }
        Expr::Cast { expr, data_type: Type::Timestamp(_, zone), .. } => {
            if let Some(text) = text(expr).and_then(|text| whole_time(&text, *zone)) {
                **expr = Expr::Value(Value::SingleQuotedString(text).into());
            }
            None
        }
        Expr::SimilarTo { negated, expr, pattern, escape_char: None } => similar(expr, pattern, *negated)?,
        Expr::Function(function) => {
            let [ObjectNamePart::Identifier(name)] = function.name.0.as_mut_slice() else { return Ok(()) };
            let lower = name.value.to_ascii_lowercase();
            if let Some((_, known)) = NAMES.iter().find(|(other, _)| *other == lower) {
                function.name = ObjectName(vec![ObjectNamePart::Identifier(Ident::new(*known))]);
                return Ok(());
            }
            let FunctionArguments::List(list) = &mut function.args else { return Ok(()) };
            let mut arguments: Vec<&mut Expr> = list.args.iter_mut().filter_map(argument).collect();
            match (lower.as_str(), arguments.as_mut_slice()) {
                ("to_date" | "to_timestamp", [_, pattern]) => {
                    if let Some(text) = text(pattern).filter(|text| !text.contains('%')) {
                        **pattern = Expr::Value(Value::SingleQuotedString(chrono_pattern(&text)?).into());
                    }
                    None
                }
                // The day there, and the instant at which it began.
                ("date_trunc", [unit, ts, zone]) => call("timezone", vec![(*zone).clone(), (*ts).clone()])
                    .and_then(|clock| call("date_trunc", vec![(*unit).clone(), clock]))
                    .and_then(|cut| call("timezone", vec![(*zone).clone(), cut])),
                _ => None,
            }
        }
        _ => None,
    };
    if let Some(changed) = changed {
        *expr = changed;
    }
    Ok(())
}

/// A time with its seconds, in UTC, as Arrow reads it.
fn whole_time(text: &str, zone: TimezoneInfo) -> Option<String> {
    let written = read_instant(text)?;
    let zoned = matches!(zone, TimezoneInfo::Tz | TimezoneInfo::WithTimeZone);
    let clock = match zoned {
        true => written.clock - Duration::seconds(i64::from(written.east.unwrap_or(0))),
        false => written.clock,
    };
    Some(format!("{}{}", clock.format("%Y-%m-%dT%H:%M:%S%.f"), if zoned { "Z" } else { "" }))
}

/// Refuses what would be accepted and change nothing, or half of it.
///
/// # Errors
/// A time zone other than UTC.
pub fn settings(statement: &Statement) -> Result<()> {
    let Statement::Set(_) = statement else { return Ok(()) };
    let text = statement.to_string().to_ascii_lowercase();
    let zone = ["timezone", "time zone", "time_zone"].iter().any(|name| text.contains(name));
    if zone && !text.contains("utc") {
        return Err(Error::question(
            "times are those of UTC here",
            "ts AT TIME ZONE 'America/New_York' is what a clock shows there; to_char writes it",
        ));
    }
    Ok(())
}

/// Columns get the names that PostgreSQL gives them, where DataFusion's would be those of its own types.
pub fn name_columns(query: &mut Query) {
    let SetExpr::Select(select) = query.body.as_mut() else { return };
    // A name might mean something else in there.
    let grouped = !matches!(&select.group_by, GroupByExpr::Expressions(by, _) if by.is_empty());
    let plain = |expr: &Expr| match expr {
        Expr::Identifier(name) => Some(name.value.clone()),
        Expr::CompoundIdentifier(names) => names.last().map(|name| name.value.clone()),
        _ => None,
    };
    let name = |item: &SelectItem| match item {
        SelectItem::UnnamedExpr(expr) => match expr {
            Expr::Cast { expr, .. } if !grouped => plain(expr),
            Expr::Value(_)
            | Expr::TypedString(_)
            | Expr::Interval(_)
            | Expr::BinaryOp { .. }
            | Expr::UnaryOp { .. } => Some("?column?".to_owned()),
            Expr::Case { .. } => Some("case".to_owned()),
            other => plain(other),
        },
        SelectItem::ExprWithAlias { alias, .. } => Some(alias.value.clone()),
        _ => None,
    };
    let names: Vec<Option<String>> = select.projection.iter().map(name).collect();
    for (item, name) in select.projection.iter_mut().zip(&names) {
        // DataFusion wants no name twice.
        let once = name.is_some() && names.iter().filter(|other| *other == name).count() == 1;
        if let (SelectItem::UnnamedExpr(expr), Some(name), true) = (&*item, name, once)
            && plain(expr).is_none()
        {
            *item = SelectItem::ExprWithAlias { expr: expr.clone(), alias: Ident::with_quote('"', name) };
        }
    }
}

fn argument(argument: &mut FunctionArg) -> Option<&mut Expr> {
    match argument {
        FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => Some(expr),
        _ => None,
    }
}

fn text(expr: &Expr) -> Option<String> {
    match expr {
        Expr::Value(value) => value.value.clone().into_string(),
        _ => None,
    }
}

/// `SIMILAR TO` as a regular expression over the whole text: DataFusion looks for one anywhere in it.
fn similar(expr: &Expr, pattern: &Expr, negated: bool) -> Result<Option<Expr>> {
    let Some(pattern) = text(pattern) else {
        return Err(Error::question(
            "SIMILAR TO takes a pattern in quotes here",
            "or a regular expression: x ~ pattern",
        ));
    };
    let mut regex = "^(?s:".to_owned();
    let mut chars = pattern.chars();
    while let Some(c) = chars.next() {
        match c {
            '%' => regex.push_str(".*"),
            '_' => regex.push('.'),
            '\\' => {
                regex.push('\\');
                regex.extend(chars.next());
            }
            '.' | '^' | '$' => regex.extend(['\\', c]),
            other => regex.push(other),
        }
    }
    regex.push_str(")$");
    Ok(Some(Expr::BinaryOp {
        left: Box::new(expr.clone()),
        op: if negated { BinaryOperator::PGRegexNotMatch } else { BinaryOperator::PGRegexMatch },
        right: Box::new(Expr::Value(Value::SingleQuotedString(regex).into())),
    }))
}
