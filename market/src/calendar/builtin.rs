//! The calendars shipped with the crate, each built at its first use.

use super::Calendar;
use super::spec::Spec;
use crate::error::{Error, Result};
use crate::nearest::nearest;
use std::sync::OnceLock;

const COUNT: usize = 8;

pub(super) const IDS: &[&str] = &["24/7", "CME_ENERGY", "CME_EQUITY", "CME_METALS", "XHKG", "XLON", "XNYS", "XTKS"];

const FILES: [&str; COUNT] = [
    include_str!("../../calendars/24_7.toml"),
    include_str!("../../calendars/CME_ENERGY.toml"),
    include_str!("../../calendars/CME_EQUITY.toml"),
    include_str!("../../calendars/CME_METALS.toml"),
    include_str!("../../calendars/XHKG.toml"),
    include_str!("../../calendars/XLON.toml"),
    include_str!("../../calendars/XNYS.toml"),
    include_str!("../../calendars/XTKS.toml"),
];

static BUILT: [OnceLock<Result<Calendar>>; COUNT] = [const { OnceLock::new() }; COUNT];
static ALIASES: OnceLock<Vec<(String, usize)>> = OnceLock::new();

pub(super) fn calendar(name: &str) -> Result<Calendar> {
    let index = IDS.iter().position(|id| *id == name).or_else(|| alias(name)).ok_or_else(|| {
        let aliases = aliases().iter().map(|(alias, _)| alias.as_str());
        let nearest = nearest(name, IDS.iter().copied().chain(aliases)).map(str::to_string);
        Error::Unknown { what: "calendar", name: name.to_string(), nearest }
    })?;
    BUILT[index].get_or_init(|| Calendar::from_toml(FILES[index])).clone()
}

fn alias(name: &str) -> Option<usize> {
    aliases().iter().find(|(alias, _)| alias == name).map(|(_, index)| *index)
}

fn aliases() -> &'static [(String, usize)] {
    ALIASES.get_or_init(|| {
        let mut aliases = Vec::new();
        for (index, text) in FILES.iter().enumerate() {
            let names = Spec::parse(text).map(|spec| spec.aliases).unwrap_or_default();
            aliases.extend(names.into_iter().map(|alias| (alias, index)));
        }
        aliases
    })
}
