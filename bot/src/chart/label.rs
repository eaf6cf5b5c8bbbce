//! Where labels go so that they cover neither each other nor, if it can be helped, the candles.

/// A rectangle in pixels.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rect {
    /// Left edge.
    pub x: f64,
    /// Top edge.
    pub y: f64,
    /// Width.
    pub w: f64,
    /// Height.
    pub h: f64,
}

impl Rect {
    /// The area both cover.
    pub fn overlap(&self, other: &Rect) -> f64 {
        let w = (self.x + self.w).min(other.x + other.w) - self.x.max(other.x);
        let h = (self.y + self.h).min(other.y + other.h) - self.y.max(other.y);
        if w > 0.0 && h > 0.0 { w * h } else { 0.0 }
    }

    fn grown(&self, by: f64) -> Rect {
        Rect { x: self.x - by, y: self.y - by, w: self.w + 2.0 * by, h: self.h + 2.0 * by }
    }

    fn within(&self, outer: &Rect) -> bool {
        self.x >= outer.x
            && self.y >= outer.y
            && self.x + self.w <= outer.x + outer.w
            && self.y + self.h <= outer.y + outer.h
    }
}

/// Places labels one by one; the first have the best places.
pub struct Placer {
    bounds: Rect,
    candles: Vec<Rect>,
    labels: Vec<Rect>,
}

/// The side of its point on which a label is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Over it.
    Above,
    /// Under it.
    Below,
    /// Before it.
    Left,
    /// After it.
    Right,
}

impl Placer {
    /// For labels inside `bounds` that should not cover the candles.
    pub fn new(bounds: Rect, candles: Vec<Rect>) -> Placer {
        Placer { bounds, candles, labels: Vec::new() }
    }

    /// Keeps other labels off a rectangle.
    pub fn reserve(&mut self, rect: Rect) {
        self.labels.push(rect);
    }

    /// The best place for a label of that size at a point; `None` if every place would cover another label.
    pub fn place(&mut self, x: f64, y: f64, w: f64, h: f64, wanted: Side) -> Option<Rect> {
        let mut best: Option<(f64, Rect)> = None;
        for side in [wanted, Side::Above, Side::Below, Side::Right, Side::Left] {
            for distance in [9.0, 20.0, 34.0, 52.0, 76.0, 104.0] {
                for shift in [0.0, -0.42, 0.42] {
                    let rect = match side {
                        Side::Above => Rect { x: x - w / 2.0 + shift * w, y: y - distance - h, w, h },
                        Side::Below => Rect { x: x - w / 2.0 + shift * w, y: y + distance, w, h },
                        Side::Left => Rect { x: x - distance - w, y: y - h / 2.0 + shift * h, w, h },
                        Side::Right => Rect { x: x + distance, y: y - h / 2.0 + shift * h, w, h },
                    };
                    let rect = Rect {
                        x: rect.x.clamp(self.bounds.x, (self.bounds.x + self.bounds.w - w).max(self.bounds.x)),
                        ..rect
                    };
                    if !rect.within(&self.bounds) || self.labels.iter().any(|l| l.overlap(&rect.grown(3.0)) > 0.0) {
                        continue;
                    }
                    let covered: f64 = self.candles.iter().map(|candle| candle.overlap(&rect.grown(2.0))).sum();
                    let cost = covered * 3.0 + distance + 14.0 * shift.abs() + if side == wanted { 0.0 } else { 30.0 };
                    if best.is_none_or(|(least, _)| cost < least) {
                        best = Some((cost, rect));
                    }
                }
            }
        }
        let (_, rect) = best?;
        self.labels.push(rect);
        Some(rect)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_at_one_point_do_not_touch() {
        let bounds = Rect { x: 0.0, y: 0.0, w: 400.0, h: 300.0 };
        let mut placer = Placer::new(bounds, vec![Rect { x: 195.0, y: 100.0, w: 10.0, h: 80.0 }]);
        let placed: Vec<Rect> = [Side::Above, Side::Below, Side::Left, Side::Right, Side::Above]
            .into_iter()
            .filter_map(|side| placer.place(200.0, 140.0, 70.0, 18.0, side))
            .collect();
        assert_eq!(placed.len(), 5);
        for (at, one) in placed.iter().enumerate() {
            assert!(one.within(&bounds));
            assert!(placed[at + 1..].iter().all(|other| one.overlap(other) == 0.0), "{placed:?}");
        }
    }
}
