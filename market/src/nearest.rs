//! Which known name was probably meant: the "did you mean" of every error.

/// The candidate nearest to `name` by edit distance, ignoring case; `None` if nothing is near enough to be a typo.
///
/// Near enough is a third of the longer name's letters, at least one and at most three. Of names
/// equally near one with the same letters in another order is meant, then the first.
///
/// ```
/// let known = ["XNYS", "XLON", "CME_EQUITY"];
/// assert_eq!(market::nearest::nearest("CME_EQITY", known), Some("CME_EQUITY"));
/// assert_eq!(market::nearest::nearest("bananas", known), None);
/// ```
pub fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // Longer input is no typo of a name, and the distance is quadratic.
    const LONGEST: usize = 64;
    if name.len() > LONGEST {
        return None;
    }
    let wanted = letters(name);
    let sorted = |letters: &[char]| {
        let mut letters = letters.to_vec();
        letters.sort_unstable();
        letters
    };
    let wanted_letters = sorted(&wanted);
    let mut best: Option<((usize, bool), &str)> = None;
    for candidate in candidates {
        let letters = letters(candidate);
        let allowed = (wanted.len().max(letters.len()) / 3).clamp(1, 3);
        let distance = edit_distance(&wanted, &letters);
        if distance <= allowed {
            let rank = (distance, sorted(&letters) != wanted_letters);
            if best.is_none_or(|(least, _)| rank < least) {
                best = Some((rank, candidate));
            }
        }
    }
    best.map(|(_, candidate)| candidate)
}

fn letters(name: &str) -> Vec<char> {
    name.trim().chars().flat_map(char::to_lowercase).collect()
}

/// Insertions, deletions, substitutions and swaps of neighbours that turn one name into the other.
fn edit_distance(a: &[char], b: &[char]) -> usize {
    let mut before: Vec<usize> = vec![0; b.len() + 1];
    let mut last: Vec<usize> = (0..=b.len()).collect();
    let mut row = last.clone();
    for i in 1..=a.len() {
        row[0] = i;
        for j in 1..=b.len() {
            let substitution = usize::from(a[i - 1] != b[j - 1]);
            row[j] = (last[j - 1] + substitution).min(last[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                row[j] = row[j].min(before[j - 2] + 1);
            }
        }
        std::mem::swap(&mut before, &mut last);
        std::mem::swap(&mut last, &mut row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_typo_finds_its_name() {
        let known = ["XNSE", "XNYS", "XLON", "XTKS", "XHKG", "CME_EQUITY", "CME_METALS", "24/7"];
        for (typo, meant) in [
            ("xnys", Some("XNYS")),
            ("XNSY", Some("XNYS")),
            ("XLN", Some("XLON")),
            ("cme_equty", Some("CME_EQUITY")),
            ("CME METALS", Some("CME_METALS")),
            ("24-7", Some("24/7")),
            ("", None),
            ("frankfurt", None),
        ] {
            assert_eq!(nearest(typo, known), meant, "{typo}");
        }
    }
}
