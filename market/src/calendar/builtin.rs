//! The calendars shipped with the crate (`calendars/*.toml`), each built at its first use.

use super::spec::Spec;
use super::{Calendar, around_clock};
use crate::error::{Error, Result};
use crate::nearest::nearest;
use std::borrow::Cow;
use std::sync::OnceLock;

// COUNT, IDS in order, FILES beside them, ALIASES with their place, and KEPT, what releases shipped that is no more as it was, with
// id, version and text: written by build.rs.
include!(concat!(env!("OUT_DIR"), "/calendars.rs"));

static BUILT: [OnceLock<Result<Calendar>>; COUNT] = [const { OnceLock::new() }; COUNT];

pub(super) fn calendar(name: &str) -> Result<Calendar> {
    if let Some(boundary) = name.strip_prefix(around_clock::PREFIX) {
        return around_clock::calendar(boundary);
    }
    let index = IDS.binary_search(&name).ok().or_else(|| alias(name)).ok_or_else(|| {
        let aliases = ALIASES.iter().map(|(alias, _)| *alias);
        let nearest = nearest(name, IDS.iter().copied().chain(aliases)).map(str::to_string);
        Error::Unknown { what: "calendar", name: name.to_string(), nearest }
    })?;
    BUILT[index].get_or_init(|| Calendar::of(Spec::parse(FILES[index])?, Cow::Borrowed(FILES[index]))).clone()
}

pub(super) fn kept(id: &str, version: u32) -> Option<Result<Calendar>> {
    let (.., text) = KEPT.iter().find(|(kept, number, _)| *kept == id && *number == version)?;
    Some(Spec::parse(text).and_then(|spec| Calendar::of(spec, Cow::Borrowed(text))))
}

fn alias(name: &str) -> Option<usize> {
    ALIASES.iter().find(|(alias, _)| *alias == name).map(|(_, index)| *index)
}
