//! The points of one series of a chart, and their local mean.

use super::numbers::{drawable, range};

/// How a [`Series`] is drawn.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
pub enum Style {
    /// One line through the points.
    Line,
    /// The points themselves, joined by a thin line: evaluations.
    Marks,
    /// A thin line through the points and a thick one through their local mean: at each point the value of
    /// the straight line that fits its neighbours best (Cleveland 1979), of which one d points away weighs
    /// (1 − 2/(span + 1))^d. So it does not lag behind a loss that falls, and ends where the loss ends.
    Smoothed {
        /// Points that the mean reaches to each side, about.
        span: f64,
    },
}

/// Named points of a chart.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Series {
    /// What the legend calls it.
    pub name: String,
    /// (x, y) in ascending x; NaN and infinity are gaps.
    pub points: Vec<(f64, f64)>,
    /// How it is drawn.
    pub style: Style,
    /// Which of the colours and dashes it has, from 0; `None` is that of its place among the others. What
    /// has one meaning in several figures has one colour by this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub colour: Option<usize>,
}

impl Series {
    /// A series drawn as one line.
    pub fn line(name: impl Into<String>, points: impl IntoIterator<Item = (f64, f64)>) -> Self {
        Self { name: name.into(), points: points.into_iter().collect(), style: Style::Line, colour: None }
    }

    /// A series drawn as marks.
    pub fn marks(name: impl Into<String>, points: impl IntoIterator<Item = (f64, f64)>) -> Self {
        Self { style: Style::Marks, ..Self::line(name, points) }
    }

    /// A series drawn thin, with its running mean over about `span` points drawn thick.
    pub fn smoothed(
        name: impl Into<String>,
        points: impl IntoIterator<Item = (f64, f64)>,
        span: f64,
    ) -> Self {
        Self { style: Style::Smoothed { span }, ..Self::line(name, points) }
    }

    /// The same series in the colour of this number.
    #[must_use]
    pub fn coloured(self, colour: usize) -> Self {
        Self { colour: Some(colour), ..self }
    }

    pub(super) fn mean(&self, span: f64) -> Vec<(f64, f64)> {
        let keep = 1.0 - 2.0 / (span.max(1.0) + 1.0);
        let finite: Vec<f64> = self.points.iter().map(|point| point.1).filter(|y| drawable(*y)).collect();
        let Some((low, high)) = range(finite.iter().copied()) else { return self.points.clone() };
        // Of numbers about 1 no product of sums overflows.
        let unit = low.abs().max(high.abs()).max(f64::MIN_POSITIVE);
        let scaled = || finite.iter().map(|y| y / unit);
        let before = Moments::along(scaled(), keep);
        let mut after = Moments::along(scaled().rev(), keep);
        after.reverse();
        let sides = before.iter().zip(&after).zip(scaled());
        let mut fitted = sides.map(|((before, after), y)| (before.with(after, y) * unit).clamp(low, high));
        let mut value = |y: f64| if drawable(y) { fitted.next() } else { None };
        self.points.iter().map(|&(x, y)| (x, value(y).unwrap_or(f64::NAN))).collect()
    }
}

/// Sums over the points up to one of them, which is at a distance of 0: of the weights w, of w·d and w·d² of
/// the distances d, of w·y and w·d·y.
#[derive(Clone, Copy, Default)]
struct Moments {
    weight: f64,
    first: f64,
    second: f64,
    value: f64,
    moment: f64,
}

impl Moments {
    /// The sums at each point; a point further weighs `keep` times as much.
    fn along(values: impl Iterator<Item = f64>, keep: f64) -> Vec<Self> {
        let mut sums = Self::default();
        let step = |y: f64| {
            let Self { weight, first, second, value, moment } = sums;
            sums = Self {
                weight: keep * weight + 1.0,
                first: keep * (first + weight),
                second: keep * (second + 2.0 * first + weight),
                value: keep * value + y,
                moment: keep * (moment + value),
            };
            sums
        };
        values.map(step).collect()
    }

    /// The value at this point, which is y, of the line that fits the points on both sides best.
    fn with(&self, other: &Self, y: f64) -> f64 {
        let weight = self.weight + other.weight - 1.0;
        let first = other.first - self.first;
        let second = self.second + other.second;
        let (value, moment) = (self.value + other.value - y, other.moment - self.moment);
        let spread = weight * second - first * first;
        // A point without neighbours, or with one on one side, which the line meets.
        if spread < 1e-9 { value / weight } else { (second * value - first * moment) / spread }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_local_mean_follows_a_line_and_ends_where_the_points_end() {
        let falling = Series::smoothed("", (0..40).map(|n| (f64::from(n), 2.0 - 0.05 * f64::from(n))), 8.0);
        for ((_, mean), (_, loss)) in falling.mean(8.0).iter().zip(&falling.points) {
            assert!((mean - loss).abs() < 1e-9, "{mean} at {loss}");
        }
        // Noise about it is smoothed away.
        let noisy = |n: i32| 2.0 - 0.05 * f64::from(n) + if n % 2 == 0 { 0.1 } else { -0.1 };
        let noisy = Series::smoothed("", (0..40).map(|n| (f64::from(n), noisy(n))), 8.0);
        for ((_, mean), (_, loss)) in noisy.mean(8.0).iter().zip(&falling.points).skip(4).take(32) {
            assert!((mean - loss).abs() < 0.03, "{mean} at {loss}");
        }
    }

    #[test]
    fn the_local_mean_is_the_weighted_least_squares_line_at_each_point() {
        let y: Vec<f64> = (0..12).map(|n| f64::from(n * n % 7)).collect();
        let series = Series::smoothed("", (0..).map(f64::from).zip(y.iter().copied()), 3.0);
        let keep: f64 = 0.5;
        for (i, (_, mean)) in series.mean(3.0).iter().enumerate() {
            let weighted = || {
                y.iter()
                    .enumerate()
                    .map(|(j, y)| (j as f64 - i as f64, y))
                    .map(|(d, y)| (keep.powf(d.abs()), d, y))
            };
            let sum =
                |of: &dyn Fn(f64, f64, f64) -> f64| weighted().map(|(w, d, y)| of(w, d, *y)).sum::<f64>();
            let (s0, s1, s2) = (sum(&|w, _, _| w), sum(&|w, d, _| w * d), sum(&|w, d, _| w * d * d));
            let (t0, t1) = (sum(&|w, _, y| w * y), sum(&|w, d, y| w * d * y));
            let fit = ((s2 * t0 - s1 * t1) / (s0 * s2 - s1 * s1)).clamp(0.0, 6.0);
            assert!((mean - fit).abs() < 1e-9, "{mean} is not {fit} at {i}");
        }
    }

    #[test]
    fn the_local_mean_of_few_or_odd_points() {
        let mean = |y: &[f64]| -> Vec<f64> {
            let series = Series::smoothed("", (0..).map(f64::from).zip(y.iter().copied()), 8.0);
            series.mean(8.0).iter().map(|point| point.1).collect()
        };
        assert_eq!(mean(&[]), [0.0; 0]);
        assert_eq!(mean(&[2.5]), [2.5]);
        assert!((mean(&[2.0, 1.0])[1] - 1.0).abs() < 1e-9);
        let gap = mean(&[2.0, f64::NAN, 2.0]);
        assert!(gap[1].is_nan() && gap[0] == 2.0 && gap[2] == 2.0, "{gap:?}");
        assert!(mean(&[1e299, 1e298, 1e299]).iter().all(|value| (1e298..=1e299).contains(value)));
        assert_eq!(mean(&[0.0, 0.0, 0.0]), [0.0; 3]);
    }
}
