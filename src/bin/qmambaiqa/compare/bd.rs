//! Bjontegaard's deltas: the rate that one family of encodings saves against another at the same score, and the score that it
//! gains at the same rate (VCEG-M33), with piecewise cubic curves through the points.

use anyhow::{Result, bail};
use serde::Serialize;

/// Fewer points make no curve; four is what Bjontegaard's method takes.
const FEWEST: usize = 4;

/// One encoding.
#[derive(Debug, Clone, Copy)]
pub struct Point {
    /// Bits a second.
    pub rate: f64,
    pub score: f64,
}

/// Means over what both curves span.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Delta {
    /// Rate at the same score against the anchor's, in percent: less than 0 saves.
    pub rate: f64,
    /// Score at the same rate, less the anchor's.
    pub score: f64,
    /// The scores that both curves span, as a share of those that either spans: a small one makes little of the deltas.
    pub overlap: f64,
}

/// The points of one family: each has a higher rate, and a better score, than the one before.
pub struct Curve {
    /// Logarithms to base 10.
    rates: Vec<f64>,
    scores: Vec<f64>,
}

impl Curve {
    /// # Errors
    /// Fewer points than four, a score that does not rise with the rate.
    pub fn through(points: &[Point]) -> Result<Self> {
        if points.len() < FEWEST {
            bail!("has {} of the {FEWEST} rate points that make a curve", points.len());
        }
        let mut points = points.to_vec();
        points.sort_by(|a, b| a.rate.total_cmp(&b.rate));
        for (low, high) in points.iter().zip(&points[1..]) {
            if !(low.rate > 0.0 && high.rate > low.rate && high.score > low.score) {
                bail!(
                    "does not rise with the rate: {:.2} at {:.1} kbit/s, {:.2} at {:.1} kbit/s",
                    low.score,
                    low.rate / 1000.0,
                    high.score,
                    high.rate / 1000.0
                );
            }
        }
        Ok(Self {
            rates: points.iter().map(|p| p.rate.log10()).collect(),
            scores: points.iter().map(|p| p.score).collect(),
        })
    }
}

/// `test` against `anchor`.
///
/// # Errors
/// Curves that share no score or no rate.
pub fn delta(anchor: &Curve, test: &Curve) -> Result<Delta> {
    let Some((span, overlap)) = shared(&anchor.scores, &test.scores) else { bail!("no score in common") };
    let rate = |curve: &Curve| Spline::new(&curve.scores, &curve.rates).mean(span);
    let rate = 100.0 * (10f64.powf(rate(test) - rate(anchor)) - 1.0);
    let Some((span, _)) = shared(&anchor.rates, &test.rates) else { bail!("no rate in common") };
    let score = |curve: &Curve| Spline::new(&curve.rates, &curve.scores).mean(span);
    Ok(Delta { rate, score: score(test) - score(anchor), overlap })
}

/// What two rising series both span, and its share of what either does.
fn shared(a: &[f64], b: &[f64]) -> Option<((f64, f64), f64)> {
    let (low, high) = (a.first()?.max(*b.first()?), a.last()?.min(*b.last()?));
    let whole = a.last()?.max(*b.last()?) - a.first()?.min(*b.first()?);
    (high > low).then(|| ((low, high), (high - low) / whole))
}

/// A cubic Hermite spline that is monotone wherever its points are (PCHIP: Fritsch and Carlson's condition with Fritsch and
/// Butland's slopes), which does not swing between points as one cubic through all of them may.
struct Spline<'a> {
    x: &'a [f64],
    y: &'a [f64],
    slopes: Vec<f64>,
}

impl<'a> Spline<'a> {
    /// Of three points or more, whose `x` rise.
    fn new(x: &'a [f64], y: &'a [f64]) -> Self {
        let widths: Vec<f64> = x.windows(2).map(|w| w[1] - w[0]).collect();
        let secants: Vec<f64> = y.windows(2).zip(&widths).map(|(w, h)| (w[1] - w[0]) / h).collect();
        let inner = widths.windows(2).zip(secants.windows(2)).map(|(h, d)| {
            let (before, after) = (h[0] + 2.0 * h[1], 2.0 * h[0] + h[1]);
            if d[0] * d[1] > 0.0 { (before + after) / (before / d[0] + after / d[1]) } else { 0.0 }
        });
        let n = secants.len();
        let first = end(widths[0], widths[1], secants[0], secants[1]);
        let last = end(widths[n - 1], widths[n - 2], secants[n - 1], secants[n - 2]);
        let slopes = std::iter::once(first).chain(inner).chain(std::iter::once(last)).collect();
        Self { x, y, slopes }
    }

    /// The mean from one `x` to another, within the points.
    fn mean(&self, (from, to): (f64, f64)) -> f64 {
        let area: f64 = (0..self.x.len() - 1)
            .map(|i| {
                let (left, width) = (self.x[i], self.x[i + 1] - self.x[i]);
                let at = |x: f64| ((x - left) / width).clamp(0.0, 1.0);
                width * (self.antiderivative(i, at(to)) - self.antiderivative(i, at(from)))
            })
            .sum();
        area / (to - from)
    }

    /// Of piece `i` at `t` of its width, from its start.
    fn antiderivative(&self, i: usize, t: f64) -> f64 {
        let width = self.x[i + 1] - self.x[i];
        let (t2, t3, t4) = (t * t, t.powi(3), t.powi(4));
        self.y[i] * (t4 / 2.0 - t3 + t)
            + self.y[i + 1] * (t3 - t4 / 2.0)
            + width * self.slopes[i] * (t4 / 4.0 - 2.0 * t3 / 3.0 + t2 / 2.0)
            + width * self.slopes[i + 1] * (t4 / 4.0 - t3 / 3.0)
    }
}

/// The slope at an end: of the parabola through three points, held to what keeps the piece monotone.
fn end(near: f64, far: f64, secant: f64, next: f64) -> f64 {
    let slope = ((2.0 * near + far) * secant - near * next) / (near + far);
    match slope {
        s if s * secant <= 0.0 => 0.0,
        s if secant * next <= 0.0 && s.abs() > 3.0 * secant.abs() => 3.0 * secant,
        s => s,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn points(rates: &[f64], scores: &[f64]) -> Vec<Point> {
        rates.iter().zip(scores).map(|(&rate, &score)| Point { rate, score }).collect()
    }

    fn measure(anchor: &[Point], test: &[Point]) -> Result<Delta> {
        delta(&Curve::through(anchor)?, &Curve::through(test)?)
    }

    /// Against PyPI's bjontegaard 1.3.0:
    /// `bd_rate(ra, da, rt, dt, method="pchip", require_matching_points=False)` and `bd_psnr` of the same.
    #[test]
    fn deltas_are_those_of_another_implementation() {
        let check = |anchor: &[Point], test: &[Point], rate: f64, score: f64| {
            let found = measure(anchor, test).unwrap();
            assert!((found.rate - rate).abs() < 1e-9 && (found.score - score).abs() < 1e-9, "{found:?}");
        };
        check(
            &points(&[686.76, 309.58, 157.11, 85.95], &[40.28, 37.18, 34.24, 31.42]),
            &points(&[893.34, 407.8, 204.93, 112.75], &[40.39, 37.21, 34.17, 31.24]),
            31.379_878_202_397_627,
            -1.183_472_404_622_459_2,
        );
        // Other numbers of points, spans that overlap in part.
        check(
            &points(&[150.0, 320.0, 640.0, 1300.0, 2700.0], &[38.2, 55.1, 69.3, 80.4, 88.9]),
            &points(&[110.0, 240.0, 500.0, 1000.0, 2100.0, 4000.0], &[35.0, 56.2, 70.9, 83.3, 90.1, 94.0]),
            -29.636_480_574_205_994,
            6.114_087_460_434_36,
        );
    }

    #[test]
    fn half_the_rate_is_minus_fifty_percent() {
        let anchor = points(&[100.0, 200.0, 400.0, 800.0], &[30.0, 50.0, 60.0, 65.0]);
        let half: Vec<Point> = anchor.iter().map(|p| Point { rate: p.rate / 2.0, ..*p }).collect();
        let found = measure(&anchor, &half).unwrap();
        assert!((found.rate + 50.0).abs() < 1e-9 && (found.overlap - 1.0).abs() < 1e-12, "{found:?}");
        let same = measure(&anchor, &anchor).unwrap();
        assert!(same.rate.abs() < 1e-12 && same.score.abs() < 1e-12);
    }

    #[test]
    fn what_is_no_curve_is_said() {
        let good = points(&[100.0, 200.0, 400.0, 800.0], &[30.0, 50.0, 60.0, 65.0]);
        for (other, expected) in [
            (points(&[100.0], &[30.0]), "1 of the 4 rate points"),
            (points(&[1e5, 2e5, 4e5, 8e5], &[30.0, 60.0, 50.0, 65.0]), "60.00 at 200.0 kbit/s, 50.00 at 400.0 kbit/s"),
            (points(&[100.0, 200.0, 400.0, 800.0], &[66.0, 70.0, 80.0, 90.0]), "no score in common"),
            (points(&[1000.0, 2000.0, 4000.0, 8000.0], &[30.0, 50.0, 60.0, 65.0]), "no rate in common"),
            (points(&[0.0, 200.0, 400.0, 800.0], &[30.0, 50.0, 60.0, 65.0]), "does not rise"),
        ] {
            let said = measure(&good, &other).unwrap_err().to_string();
            assert!(said.contains(expected), "{said}");
        }
    }
}
