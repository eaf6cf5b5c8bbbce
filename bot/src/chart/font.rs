//! How wide a text is, in the two weights of Inter that `assets/` holds.

/// The family name of both weights.
pub const FAMILY: &str = "Inter";
/// The font files, for the renderer.
pub const FILES: [&[u8]; 2] =
    [include_bytes!("../../assets/Inter-Regular.otf"), include_bytes!("../../assets/Inter-SemiBold.otf")];

/// A weight of the font.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weight {
    /// 400.
    Regular,
    /// 600.
    SemiBold,
}

// Advance widths of U+0020 to U+007E in 1/2816 em, as assets/subset.py prints them. Digits are tabular.
const UNITS: f64 = 2_816.0;
#[rustfmt::skip]
const REGULAR: [u16; 95] = [792, 784, 1136, 1776, 1796, 2288, 1800, 624, 1020, 1020, 1408, 1856, 788, 1296, 776, 1004, 1824, 1824, 1824, 1824, 1824, 1824, 1824, 1824, 1824, 1824, 776, 788, 1856, 1856, 1856, 1428, 2636, 1904, 1832, 2048, 2024, 1684, 1652, 2092, 2084, 744, 1528, 1836, 1584, 2504, 2120, 2144, 1788, 2144, 1800, 1796, 1808, 2088, 1904, 2672, 1808, 1872, 1760, 1020, 1004, 1020, 1320, 1272, 1400, 1588, 1748, 1572, 1748, 1640, 1016, 1716, 1664, 668, 668, 1532, 668, 2448, 1648, 1680, 1716, 1716, 1048, 1472, 1024, 1636, 1568, 2288, 1520, 1568, 1524, 1020, 920, 1020, 1856];
#[rustfmt::skip]
const SEMI_BOLD: [u16; 95] = [699, 870, 1115, 1811, 1828, 2376, 1866, 600, 1108, 1108, 1530, 1894, 831, 1312, 818, 1066, 1888, 1888, 1888, 1888, 1885, 1888, 1888, 1888, 1888, 1888, 818, 831, 1894, 1894, 1894, 1532, 2814, 2038, 1851, 2094, 2040, 1711, 1649, 2126, 2095, 774, 1579, 1906, 1594, 2552, 2086, 2182, 1812, 2184, 1832, 1828, 1858, 2066, 2038, 2835, 1944, 1984, 1838, 1108, 1066, 1108, 1355, 1318, 1400, 1618, 1775, 1626, 1775, 1669, 1062, 1761, 1726, 734, 734, 1602, 734, 2528, 1717, 1712, 1759, 1759, 1117, 1546, 1070, 1713, 1622, 2358, 1584, 1622, 1582, 1108, 1008, 1108, 1894];

/// The width of a text in pixels. Letters beyond ASCII count as a capital letter.
pub fn width(text: &str, size: f64, weight: Weight) -> f64 {
    let table = if weight == Weight::Regular { &REGULAR } else { &SEMI_BOLD };
    let units: f64 = text
        .chars()
        .map(|c| (c as usize).checked_sub(0x20).and_then(|at| table.get(at)).map_or(1_904.0, |units| f64::from(*units)))
        .sum();
    units / UNITS * size
}
