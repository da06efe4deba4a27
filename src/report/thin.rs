//! Fewer points that look the same.

/// At most about `most` of `points`, which ascend in x: of each equal part of the x range the first, lowest,
/// highest and last.
pub fn thin(points: &[(f64, f64)], most: usize) -> Vec<(f64, f64)> {
    let (Some(first), Some(last)) = (points.first(), points.last()) else { return Vec::new() };
    if points.len() <= most || last.0 <= first.0 {
        return points.to_vec();
    }
    let bins = (most / 4).max(1) as f64;
    let bin = |point: &(f64, f64)| ((point.0 - first.0) / (last.0 - first.0) * bins).floor().min(bins - 1.0);
    let mut kept = Vec::new();
    let mut start = 0;
    while start < points.len() {
        let end =
            start + points[start..].iter().take_while(|point| bin(point) == bin(&points[start])).count();
        let part = start..end;
        let lowest = part.clone().min_by(|&a, &b| points[a].1.total_cmp(&points[b].1)).unwrap_or(start);
        let highest = part.max_by(|&a, &b| points[a].1.total_cmp(&points[b].1)).unwrap_or(start);
        let mut picks = [start, lowest, highest, end - 1];
        picks.sort_unstable();
        for (k, &pick) in picks.iter().enumerate() {
            if k == 0 || picks[k - 1] != pick {
                kept.push(points[pick]);
            }
        }
        start = end;
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extremes_and_ends_survive() {
        let mut points = (0..10_000).map(|i| (f64::from(i), f64::from(i % 7))).collect::<Vec<_>>();
        points[4321].1 = 99.0;
        points[7777].1 = -99.0;
        let kept = thin(&points, 400);
        assert!(kept.len() <= 400, "{}", kept.len());
        assert!(kept.windows(2).all(|pair| pair[0].0 < pair[1].0));
        for point in [points[0], points[4321], points[7777], points[9999]] {
            assert!(kept.contains(&point), "{point:?}");
        }
        assert_eq!(thin(&points[..100], 400), points[..100]);
    }
}
