//! Agreement of predictions with opinion scores.

/// Pearson's linear correlation; NaN where a side does not vary or there are fewer than two pairs.
pub fn plcc(a: &[f64], b: &[f64]) -> f64 {
    let n = a.len().min(b.len()) as f64;
    let mean = |v: &[f64]| v.iter().sum::<f64>() / n;
    let (ma, mb) = (mean(a), mean(b));
    let (mut sab, mut saa, mut sbb) = (0.0, 0.0, 0.0);
    for (x, y) in a.iter().zip(b) {
        sab += (x - ma) * (y - mb);
        saa += (x - ma).powi(2);
        sbb += (y - mb).powi(2);
    }
    sab / (saa * sbb).sqrt()
}

/// Ranks from 1, equal values sharing the mean of theirs.
pub fn ranks(values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&i, &j| values[i].total_cmp(&values[j]));
    let mut ranks = vec![0.0; values.len()];
    let mut start = 0;
    while start < order.len() {
        let mut end = start + 1;
        while end < order.len() && values[order[end]] == values[order[start]] {
            end += 1;
        }
        for &i in &order[start..end] {
            ranks[i] = (start + 1 + end) as f64 / 2.0;
        }
        start = end;
    }
    ranks
}

/// Spearman's rank correlation, ties sharing ranks.
pub fn srcc(a: &[f64], b: &[f64]) -> f64 {
    plcc(&ranks(a), &ranks(b))
}

/// Kendall's tau-b, which corrects for ties.
pub fn krcc(a: &[f64], b: &[f64]) -> f64 {
    let (mut agreement, mut varied_a, mut varied_b) = (0i64, 0i64, 0i64);
    for i in 0..a.len() {
        for j in 0..i {
            let sign = |v: f64| i64::from(v > 0.0) - i64::from(v < 0.0);
            let (x, y) = (sign(a[i] - a[j]), sign(b[i] - b[j]));
            agreement += x * y;
            varied_a += x.abs();
            varied_b += y.abs();
        }
    }
    agreement as f64 / (varied_a as f64 * varied_b as f64).sqrt()
}

/// Root of the mean squared difference.
pub fn rmse(a: &[f64], b: &[f64]) -> f64 {
    (a.iter().zip(b).map(|(x, y)| (x - y).powi(2)).sum::<f64>() / a.len() as f64).sqrt()
}

/// Predictions mapped to opinions by the usual four-parameter logistic function (VQEG),
/// `b2 + (b1 - b2) / (1 + exp(-(x - b3) / |b4|))`, fitted by damped least squares (Levenberg and Marquardt).
pub fn logistic_fit(predictions: &[f64], opinions: &[f64]) -> Vec<f64> {
    let n = predictions.len() as f64;
    let mean = predictions.iter().sum::<f64>() / n;
    let deviation = (predictions.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n).sqrt().max(1e-12);
    // Standardised predictions, so that one start suits every scale.
    let x: Vec<f64> = predictions.iter().map(|x| (x - mean) / deviation).collect();
    let high = opinions.iter().copied().fold(f64::MIN, f64::max);
    let low = opinions.iter().copied().fold(f64::MAX, f64::min);
    let falling = plcc(predictions, opinions) < 0.0;
    let mut b = if falling { [low, high, 0.0, 1.0] } else { [high, low, 0.0, 1.0] };
    let value = |b: &[f64; 4], x: f64| b[1] + (b[0] - b[1]) / (1.0 + (-(x - b[2]) / b[3].abs().max(1e-6)).exp());
    let error = |b: &[f64; 4]| x.iter().zip(opinions).map(|(&x, y)| (value(b, x) - y).powi(2)).sum::<f64>();
    let (mut current, mut damping) = (error(&b), 1e-2);
    for _ in 0..200 {
        // Normal equations J^T J step = J^T residual, from the analytic gradient.
        let (mut jtj, mut jtr) = ([[0.0; 4]; 4], [0.0; 4]);
        for (&x, y) in x.iter().zip(opinions) {
            let width = b[3].abs().max(1e-6);
            let s = 1.0 / (1.0 + (-(x - b[2]) / width).exp());
            let slope = (b[0] - b[1]) * s * (1.0 - s) / width;
            let j = [s, 1.0 - s, -slope, -slope * (x - b[2]) / width * b[3].signum()];
            let r = y - value(&b, x);
            for p in 0..4 {
                jtr[p] += j[p] * r;
                for q in 0..4 {
                    jtj[p][q] += j[p] * j[q];
                }
            }
        }
        for (p, row) in jtj.iter_mut().enumerate() {
            row[p] = row[p] * (1.0 + damping) + 1e-12;
        }
        let step = solve(jtj, jtr);
        let moved = std::array::from_fn(|i| b[i] + step[i]);
        let next = error(&moved);
        if next.is_finite() && next < current {
            let gain = (current - next) / current.max(1e-300);
            (b, current, damping) = (moved, next, damping * 0.3);
            if gain < 1e-10 {
                break;
            }
        } else {
            damping *= 4.0;
            if damping > 1e12 {
                break;
            }
        }
    }
    x.iter().map(|&x| value(&b, x)).collect()
}

/// Gaussian elimination with pivoting.
fn solve(mut a: [[f64; 4]; 4], mut r: [f64; 4]) -> [f64; 4] {
    for i in 0..4 {
        let pivot = (i..4).max_by(|&p, &q| a[p][i].abs().total_cmp(&a[q][i].abs())).unwrap_or(i);
        a.swap(i, pivot);
        r.swap(i, pivot);
        for row in i + 1..4 {
            let factor = a[row][i] / a[i][i];
            for column in i..4 {
                a[row][column] -= factor * a[i][column];
            }
            r[row] -= factor * r[i];
        }
    }
    for i in (0..4).rev() {
        for column in i + 1..4 {
            r[i] -= a[i][column] * r[column];
        }
        r[i] /= a[i][i];
    }
    r
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_as_scipy_gives_them() {
        let a = [1.0, 2.0, 2.0, 4.0, 5.0, 7.0];
        let b = [2.0, 1.0, 3.0, 3.0, 6.0, 5.0];
        // scipy.stats.pearsonr, spearmanr, kendalltau (variant b)
        assert!((plcc(&a, &b) - 0.808_607_540_062_64).abs() < 1e-12, "{}", plcc(&a, &b));
        assert!((srcc(&a, &b) - 0.808_823_529_411_765).abs() < 1e-12, "{}", srcc(&a, &b));
        assert!((krcc(&a, &b) - 0.642_857_142_857_143).abs() < 1e-12, "{}", krcc(&a, &b));
        assert_eq!(ranks(&a), [1.0, 2.5, 2.5, 4.0, 5.0, 6.0]);
    }

    #[test]
    fn the_logistic_fit_recovers_a_logistic_curve() {
        let x: Vec<f64> = (0..50).map(|i| f64::from(i) * 0.4 - 3.0).collect();
        for sign in [1.0, -1.0] {
            let y: Vec<f64> = x.iter().map(|x| 20.0 + 60.0 / (1.0 + (-sign * (x - 6.0) / 2.0).exp())).collect();
            let fitted = logistic_fit(&x, &y);
            assert!(rmse(&fitted, &y) < 1e-4, "{}", rmse(&fitted, &y));
        }
    }

    #[test]
    fn constant_predictions_have_no_correlation() {
        assert!(plcc(&[1.0; 5], &[1.0, 2.0, 3.0, 4.0, 5.0]).is_nan());
        assert!(logistic_fit(&[1.0; 5], &[1.0, 2.0, 3.0, 4.0, 5.0]).iter().all(|v| v.is_finite()));
    }
}
