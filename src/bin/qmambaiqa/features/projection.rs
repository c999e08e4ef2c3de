//! Features to two dimensions.

use anyhow::{Context, Result, bail};
use nalgebra::{DMatrix, SymmetricEigen};

/// Two dimensions, with what each axis is called.
pub type Projected = (Vec<(f64, f64)>, [String; 2]);

/// The two principal components of rows of equal length. Signs are such that the largest weight is positive.
pub fn pca(rows: &[&[f32]]) -> Result<Projected> {
    let (n, d) = (rows.len(), rows.first().map_or(0, |r| r.len()));
    if n < 3 || d < 2 {
        bail!("a picture of features needs at least three pictures");
    }
    let mean: Vec<f64> = (0..d).map(|j| rows.iter().map(|r| f64::from(r[j])).sum::<f64>() / n as f64).collect();
    let centred = DMatrix::from_fn(n, d, |i, j| f64::from(rows[i][j]) - mean[j]);
    let eigen = SymmetricEigen::new(centred.transpose() * &centred);
    let mut order: Vec<usize> = (0..d).collect();
    order.sort_by(|&a, &b| eigen.eigenvalues[b].total_cmp(&eigen.eigenvalues[a]));
    let total = eigen.eigenvalues.sum();
    if total.is_nan() || total <= 0.0 {
        bail!("the features of all pictures are the same");
    }
    let component = |k: usize| {
        let vector = eigen.eigenvectors.column(order[k]);
        let largest = vector.iter().copied().max_by(|a, b| a.abs().total_cmp(&b.abs())).unwrap_or(1.0);
        &centred * vector * largest.signum()
    };
    let (first, second) = (component(0), component(1));
    let name = |k: usize| {
        format!("principal component {} ({:.0} % of the variance)", k + 1, 100.0 * eigen.eigenvalues[order[k]] / total)
    };
    Ok((first.iter().copied().zip(second.iter().copied()).collect(), [name(0), name(1)]))
}

/// t-SNE that starts from the principal components and runs on one thread, so that it gives the same picture each time: on
/// several, bhtsne adds in the order in which they come.
pub fn tsne(rows: &[&[f32]]) -> Result<Projected> {
    /// Neighbours that a point minds, where there are enough points.
    const PERPLEXITY: f64 = 30.0;
    const FEWEST: usize = 10;
    if rows.len() < FEWEST {
        bail!("t-SNE needs at least {FEWEST} pictures, here are {}; --projection pca draws fewer", rows.len());
    }
    let (start, _) = pca(rows)?;
    let scale = start.iter().map(|p| p.0 * p.0).sum::<f64>() / start.len() as f64;
    // As customary, small: a deviation of 1e-4 along the first axis.
    let small = |v: f64| (1e-4 * v / scale.sqrt()) as f32;
    let start: Vec<f32> = start.iter().flat_map(|p| [small(p.0), small(p.1)]).collect();
    let perplexity = PERPLEXITY.min((rows.len() - 1) as f64 / 3.0 - 1.0);
    let alone = rayon::ThreadPoolBuilder::new().num_threads(1).build().context("a thread for t-SNE")?;
    let points = alone.install(|| {
        let mut tsne = bhtsne::tSNE::<f32, &[f32], 2>::new(rows);
        tsne.perplexity(perplexity as f32).initial_embedding(start);
        tsne.barnes_hut(0.5, |a, b| a.iter().zip(b.iter()).map(|(a, b)| (a - b).powi(2)).sum::<f32>().sqrt());
        tsne.embedding().chunks_exact(2).map(|p| (f64::from(p[0]), f64::from(p[1]))).collect()
    });
    Ok((points, ["t-SNE 1".to_owned(), "t-SNE 2".to_owned()]))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Points on a long line and a short one across it: the first component is the long one.
    #[test]
    fn components_are_in_the_order_of_their_variance() {
        let data: Vec<[f32; 3]> =
            (-10..=10).flat_map(|i| [[0.5, 3.0 * i as f32, 0.0], [0.5 + 0.1 * i as f32, 0.0, 0.0]]).collect();
        let rows: Vec<&[f32]> = data.iter().map(|r| r.as_slice()).collect();
        let (points, names) = pca(&rows).unwrap();
        for (point, row) in points.iter().zip(&data) {
            let near = |a: f64, b: f32| (a - f64::from(b)).abs() < 1e-5;
            assert!(near(point.0, row[1]) && near(point.1, row[0] - 0.5), "{point:?} {row:?}");
        }
        assert!(names[0].contains("100 %"), "{names:?}");
        assert!(pca(&rows[..2]).is_err() && pca(&[&data[0][..]; 5]).is_err());
    }

    /// Two clusters far apart stay apart.
    #[test]
    fn clusters_stay_clusters_and_pictures_repeat() {
        let mut random = qmambaiqa::random::Random::new(1, 1);
        let data: Vec<Vec<f32>> = (0..60)
            .map(|i| (0..8).map(|_| random.normal() as f32 + if i % 2 == 0 { 0.0 } else { 20.0 }).collect())
            .collect();
        let rows: Vec<&[f32]> = data.iter().map(Vec::as_slice).collect();
        let (points, _) = tsne(&rows).unwrap();
        let centre = |k: usize| {
            let own: Vec<_> = points.iter().skip(k).step_by(2).collect();
            let n = own.len() as f64;
            (own.iter().map(|p| p.0).sum::<f64>() / n, own.iter().map(|p| p.1).sum::<f64>() / n)
        };
        let (a, b) = (centre(0), centre(1));
        let distance = |p: (f64, f64), q: (f64, f64)| (p.0 - q.0).hypot(p.1 - q.1);
        for (i, &point) in points.iter().enumerate() {
            let (own, other) = if i % 2 == 0 { (a, b) } else { (b, a) };
            assert!(distance(point, own) < distance(point, other), "{i}");
        }
        assert_eq!(tsne(&rows).unwrap().0, points);
        assert!(tsne(&rows[..9]).is_err());
    }
}
