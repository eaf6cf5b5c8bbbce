//! From the extension's SQL to DataFusion's: `market.` in front of functions, and arguments by name.
//!
//! DataFusion knows neither schemas of functions nor named arguments of table functions, so both are resolved in the parsed
//! statement, before planning: every call gets its bare name and its arguments in declared order, NULL where one is left out.

use crate::analytics::DOCS;
use crate::asof;
use crate::error::{Error, Result};
use crate::limit;
use crate::spelled;
use datafusion::sql::parser::{CopyToSource, Statement};
use datafusion::sql::sqlparser::ast::Statement as Sql;
use datafusion::sql::sqlparser::ast::{
    AccessExpr, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, Ident, ObjectName, ObjectNamePart,
    Query, Select, Subscript, TableFactor, Value, VisitMut, VisitorMut,
};
use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
use datafusion::sql::sqlparser::parser::Parser;
use std::ops::ControlFlow;

/// Functions of the extension with their parameters, as SQL declares them.
const FUNCTIONS: &[(&str, &[&str])] = &[
    ("trade_date", &["ts", "calendar"]),
    ("segment", &["ts", "calendar"]),
    ("is_open", &["ts", "calendar", "segments"]),
    ("is_session", &["day", "calendar"]),
    ("next_session", &["day", "calendar", "n"]),
    ("next_open", &["ts", "calendar", "segments"]),
    ("next_close", &["ts", "calendar", "segments"]),
    ("session_bucket", &["timeframe", "ts", "calendar", "segments"]),
    ("halted_seconds", &["symbol", "from_ts", "till", "segments"]),
    ("ohlc", &["price", "size", "ts", "seq"]),
    ("rollup", &["bar"]),
    ("vwap", &["price", "size"]),
    ("auctions", &["calendar", "first", "last"]),
    ("sessions", &["calendar", "first", "last", "segments", "hours"]),
    ("session_of", &["ts", "calendar"]),
    ("activity_ohlc", &["symbol", "kind", "threshold", "first", "last", "segments", "known_at"]),
    ("session_flow", &["symbol", "timeframe", "first", "last", "segments", "day", "known_at"]),
    ("session_levels", &["symbol", "day", "segments", "opening_minutes", "close", "skip_shortened", "known_at"]),
    ("session_profile", &["symbol", "day", "segments", "bin", "period", "value_area", "known_at"]),
    ("session_stat", &["symbol", "first", "last", "kind", "known_at"]),
    ("trades_between", &["symbol", "first", "last", "known_at"]),
    ("session_states", &["symbol", "first", "last", "known_at"]),
    ("explain_bar", &["symbol", "timeframe", "at", "segments", "known_at"]),
    ("session_ohlc", &["symbol", "timeframe", "first", "last", "segments", "fill", "known_at", "clock", "day"]),
];

/// The extension's functions, and those that only querycli has.
fn all() -> impl Iterator<Item = (&'static str, &'static [&'static str])> {
    FUNCTIONS.iter().copied().chain(DOCS.iter().map(|doc| (doc.name, doc.parameters)))
}

/// The functions' names.
pub fn names() -> impl Iterator<Item = &'static str> {
    all().map(|(name, _)| name)
}

/// The parameters of a function; none if it is not known.
pub fn parameters(function: &str) -> &'static [&'static str] {
    all().find(|(name, _)| *name == function).map_or(&[], |(_, parameters)| parameters)
}

/// Between the elements of a text array that became one text, so that table functions need no arrays.
pub const ARRAY_SEPARATOR: char = '\u{1f}';

/// Rewrites a statement in place.
///
/// # Errors
/// An argument name that the function does not have, or one given twice.
pub fn rewrite(statement: &mut Statement) -> Result<()> {
    let mut visitor = Calls;
    let broken = match statement {
        Statement::Statement(inner) => {
            spelled::settings(inner)?;
            let done = inner.visit(&mut visitor);
            if let Sql::Query(query) = inner.as_mut() {
                spelled::name_columns(query);
            }
            done
        }
        Statement::Explain(explain) => return rewrite(&mut explain.statement),
        Statement::CopyTo(copy) => match &mut copy.source {
            CopyToSource::Query(query) => query.visit(&mut visitor),
            CopyToSource::Relation(_) => ControlFlow::Continue(()),
        },
        _ => ControlFlow::Continue(()),
    };
    match broken {
        ControlFlow::Break(error) => Err(error),
        ControlFlow::Continue(()) => Ok(()),
    }
}

/// Whether a statement changes tables or what is in them.
pub fn changes_tables(statement: &Statement) -> bool {
    let Statement::Statement(inner) = statement else { return false };
    matches!(
        **inner,
        Sql::Insert(_)
            | Sql::Update { .. }
            | Sql::Delete(_)
            | Sql::Merge { .. }
            | Sql::Truncate { .. }
            | Sql::AlterTable { .. }
            | Sql::Drop { .. }
    )
}

struct Calls;

impl VisitorMut for Calls {
    type Break = Error;

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<Error> {
        match limit::limits(query) {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => ControlFlow::Break(error),
        }
    }

    fn pre_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<Error> {
        if let TableFactor::Table { name, args: Some(args), .. } = factor {
            let Some((bare, parameters)) = known(name) else { return ControlFlow::Continue(()) };
            *name = single(bare);
            match in_order(bare, parameters, std::mem::take(&mut args.args)) {
                Ok(ordered) => args.args = ordered.into_iter().map(joined).collect(),
                Err(error) => return ControlFlow::Break(error),
            }
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_select(&mut self, select: &mut Select) -> ControlFlow<Error> {
        asof::wrap(select);
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<Error> {
        if let Some(fields) = fields_of(expr) {
            *expr = fields;
        }
        match spelled::as_datafusion(expr) {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => ControlFlow::Break(error),
        }
    }

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<Error> {
        let Expr::Function(function) = expr else { return ControlFlow::Continue(()) };
        let Some((bare, parameters)) = known(&function.name) else { return ControlFlow::Continue(()) };
        function.name = single(bare);
        if let FunctionArguments::List(list) = &mut function.args {
            // vwap is an aggregate of prices and sizes, and a function of a bar.
            if bare == "vwap" && list.args.len() == 1 {
                function.name = single("bar_vwap");
                return ControlFlow::Continue(());
            }
            match in_order(bare, parameters, std::mem::take(&mut list.args)) {
                Ok(ordered) => list.args = ordered,
                Err(error) => return ControlFlow::Break(error),
            }
        }
        ControlFlow::Continue(())
    }
}

/// `(bar).open` and `bar['open']` as calls of `get_field`, which DataFusion has even where it cannot plan the operators.
fn fields_of(expr: &Expr) -> Option<Expr> {
    let Expr::CompoundFieldAccess { root, access_chain } = expr else { return None };
    let mut value = (**root).clone();
    for access in access_chain {
        let name = match access {
            AccessExpr::Dot(Expr::Identifier(name)) => name.value.clone(),
            AccessExpr::Subscript(Subscript::Index { index: Expr::Value(text) }) => text.value.clone().into_string()?,
            _ => return None,
        };
        let text = Expr::Value(Value::SingleQuotedString(name).into());
        value = call("get_field", vec![value, text])?;
    }
    Some(value)
}

/// A call of a function.
pub fn call(name: &str, arguments: Vec<Expr>) -> Option<Expr> {
    let mut call = Parser::new(&PostgreSqlDialect {}).try_with_sql(&format!("{name}()")).ok()?.parse_expr().ok()?;
    if let Expr::Function(Function { args: FunctionArguments::List(list), .. }) = &mut call {
        list.args = arguments.into_iter().map(|arg| FunctionArg::Unnamed(FunctionArgExpr::Expr(arg))).collect();
    }
    Some(call)
}

fn single(name: &str) -> ObjectName {
    ObjectName(vec![ObjectNamePart::Identifier(Ident::new(name))])
}

/// The function a name means: its own, or with `market.` in front.
fn known(name: &ObjectName) -> Option<(&'static str, &'static [&'static str])> {
    let parts: Vec<String> =
        name.0.iter().map(|part| part.as_ident().map(|i| i.value.to_ascii_lowercase())).collect::<Option<_>>()?;
    let bare = match parts.as_slice() {
        [bare] => bare,
        [schema, bare] if schema == "market" => bare,
        _ => return None,
    };
    all().find(|(known, _)| known == bare)
}

fn in_order(function: &str, parameters: &[&str], args: Vec<FunctionArg>) -> Result<Vec<FunctionArg>> {
    let mut ordered: Vec<Option<FunctionArg>> = Vec::new();
    for arg in args {
        let (name, value) = match arg {
            FunctionArg::Named { name, arg, .. } => (name.value, arg),
            FunctionArg::ExprNamed { name: Expr::Identifier(name), arg, .. } => (name.value, arg),
            unnamed => {
                ordered.push(Some(unnamed));
                continue;
            }
        };
        let name = name.to_ascii_lowercase();
        // the overload for many symbols calls its first parameter so
        let wanted = if name == "symbols" { "symbol" } else { name.as_str() };
        let Some(at) = parameters.iter().position(|parameter| *parameter == wanted) else {
            return Err(Error::question(
                format!("{function} has no argument named \"{name}\""),
                format!("it has {}", parameters.join(", ")),
            ));
        };
        if ordered.len() <= at {
            ordered.resize(at + 1, None);
        }
        if ordered[at].is_some() {
            return Err(Error::question(format!("{function}: the argument \"{name}\" is given twice"), "give it once"));
        }
        ordered[at] = Some(FunctionArg::Unnamed(value));
    }
    if ordered.len() > parameters.len() {
        return Err(Error::question(
            format!("{function} takes at most {} arguments, not {}", parameters.len(), ordered.len()),
            format!("they are {}", parameters.join(", ")),
        ));
    }
    let null = || FunctionArg::Unnamed(FunctionArgExpr::Expr(Expr::Value(Value::Null.into())));
    Ok(ordered.into_iter().map(|arg| arg.unwrap_or_else(null)).collect())
}

/// An array of texts as one text; anything else as it is.
fn joined(arg: FunctionArg) -> FunctionArg {
    let FunctionArg::Unnamed(FunctionArgExpr::Expr(Expr::Array(array))) = &arg else { return arg };
    let texts: Option<Vec<String>> = array
        .elem
        .iter()
        .map(|element| match element {
            Expr::Value(value) => value.value.clone().into_string(),
            _ => None,
        })
        .collect();
    let Some(texts) = texts else { return arg };
    // A separator at the end tells an array of one from a text.
    let text = texts.iter().flat_map(|text| [text.clone(), ARRAY_SEPARATOR.to_string()]).collect::<String>();
    FunctionArg::Unnamed(FunctionArgExpr::Expr(Expr::Value(Value::SingleQuotedString(text).into())))
}
