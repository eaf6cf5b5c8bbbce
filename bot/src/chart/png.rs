//! Pixels of an SVG, with the two fonts of `assets/` and no others.

use super::font;
use anyhow::{Context, Result, ensure};
use resvg::tiny_skia::{Pixmap, Transform};
use resvg::usvg::{Options, Tree, fontdb};
use std::sync::{Arc, OnceLock};

/// Renders an SVG of ours. Takes tens of milliseconds: not for an async task.
///
/// # Errors
/// If the text is not an SVG, or one larger than 4,000 pixels.
pub fn png(svg: &str) -> Result<Vec<u8>> {
    let options = Options { font_family: font::FAMILY.to_string(), fontdb: fonts(), ..Options::default() };
    let tree = Tree::from_str(svg, &options).context("the chart is not an SVG")?;
    let size = tree.size().to_int_size();
    ensure!(size.width() <= 4_000 && size.height() <= 4_000, "a chart of {}x{} pixels", size.width(), size.height());
    let mut pixels = Pixmap::new(size.width(), size.height()).context("a chart without pixels")?;
    resvg::render(&tree, Transform::identity(), &mut pixels.as_mut());
    pixels.encode_png().context("the chart cannot be encoded")
}

fn fonts() -> Arc<fontdb::Database> {
    static FONTS: OnceLock<Arc<fontdb::Database>> = OnceLock::new();
    let load = || {
        let mut database = fontdb::Database::new();
        font::FILES.into_iter().for_each(|file| database.load_font_data(file.to_vec()));
        Arc::new(database)
    };
    Arc::clone(FONTS.get_or_init(load))
}
