//! aiconfigurator-core's rules for answers between and beyond measured points.
//!
//! *Utilisation* is the share of the roofline time in the measured time. Where points are missing it is
//! carried over from the nearest ones, and the roofline of the question says the rest.

use std::ops::Range;

/// Times at points of three coordinates, nested: for each value of the first some of the second, for each of
/// these some of the third.
pub(super) struct Nested<R> {
    root: Node,
    leaves: Vec<Leaf>,
    /// Leaves of one first coordinate: its octaves, and where they are.
    parts: Vec<(f64, Range<usize>)>,
    roofline: R,
    /// The axis along which square roots of times lie on lines.
    sqrt_axis: Option<usize>,
}

enum Node {
    Leaf(f64),
    Branch(Vec<(f64, Node)>),
}

struct Leaf {
    point: [f64; 3],
    octaves: [f64; 3],
    ms: f64,
}

const AXES: usize = 3;
/// Points whose utilisation answers beyond the measured range.
const NEAREST: usize = 4;

impl<R: Fn([f64; 3]) -> f64> Nested<R> {
    /// Takes points in any order; of equal ones the last. `None` if there are too few to answer beyond them.
    pub fn new(mut points: Vec<([f64; 3], f64)>, sqrt_axis: Option<usize>, roofline: R) -> Option<Self> {
        points.sort_by(|(a, _), (b, _)| a.partial_cmp(b).expect("coordinates are finite"));
        let mut leaves: Vec<Leaf> = Vec::with_capacity(points.len());
        for (point, ms) in points {
            leaves.pop_if(|leaf| leaf.point == point);
            leaves.push(Leaf { point, octaves: point.map(libm::log2), ms });
        }
        let mut parts: Vec<(f64, Range<usize>)> = Vec::new();
        for part in leaves.chunk_by(|a, b| a.point[0] == b.point[0]) {
            let start = parts.last().map_or(0, |(_, known)| known.end);
            parts.push((part[0].octaves[0], start..start + part.len()));
        }
        (leaves.len() > NEAREST).then(|| Self {
            root: Self::branch(&leaves, 0),
            leaves,
            parts,
            roofline,
            sqrt_axis,
        })
    }

    fn branch(leaves: &[Leaf], axis: usize) -> Node {
        if axis == AXES {
            return Node::Leaf(leaves[0].ms);
        }
        Node::Branch(
            leaves
                .chunk_by(|a, b| a.point[axis] == b.point[axis])
                .map(|part| (part[0].point[axis], Self::branch(part, axis + 1)))
                .collect(),
        )
    }

    pub fn ms(&self, at: [f64; 3]) -> f64 {
        self.within(&self.root, 0, at).unwrap_or_else(|| self.beyond(at))
    }

    /// Axis by axis between the neighbours; a neighbour that does not reach far enough is left out, and the
    /// other's utilisation kept.
    fn within(&self, node: &Node, axis: usize, at: [f64; 3]) -> Option<f64> {
        let children = match node {
            Node::Leaf(ms) => return Some(*ms),
            Node::Branch(children) => children,
        };
        let x = at[axis];
        let index = children.partition_point(|(known, _)| *known < x);
        let (high, node) = children.get(index)?;
        if *high == x {
            return self.within(node, axis + 1, at);
        }
        let (low, low_node) = children.get(index.checked_sub(1)?)?;
        let moved = |known: f64, ms: f64| {
            let mut point = at;
            point[axis] = known;
            ms * (self.roofline)(at) / (self.roofline)(point)
        };
        let way = (x - low) / (high - low);
        match (self.within(low_node, axis + 1, at), self.within(node, axis + 1, at)) {
            (None, None) => None,
            (Some(ms), None) => Some(moved(*low, ms)),
            (None, Some(ms)) => Some(moved(*high, ms)),
            (Some(from), Some(to)) if self.sqrt_axis == Some(axis) => {
                Some((from.sqrt() + way * (to.sqrt() - from.sqrt())).powi(2))
            }
            (Some(from), Some(to)) => Some(from + way * (to - from)),
        }
    }

    /// Utilisation of the nearest points in octaves, weighted so that the fifth nearest just counts nothing.
    fn beyond(&self, at: [f64; 3]) -> f64 {
        let octaves = at.map(libm::log2);
        let mut nearest: Vec<(f64, &Leaf)> = Vec::with_capacity(NEAREST + 2);
        // Nearest parts first: those farther along their axis alone than enough leaves are not looked at.
        let mut parts: Vec<(f64, &Range<usize>)> =
            self.parts.iter().map(|(known, part)| ((known - octaves[0]).abs(), part)).collect();
        parts.sort_by(|(a, _), (b, _)| a.total_cmp(b));
        let of_parts = parts
            .into_iter()
            .flat_map(|(away, part)| self.leaves[part.clone()].iter().map(move |leaf| (away, leaf)));
        for (away, leaf) in of_parts {
            if nearest.len() > NEAREST && away * away > nearest[NEAREST].0 {
                break;
            }
            let distance: f64 = leaf.octaves.iter().zip(&octaves).map(|(a, b)| (a - b) * (a - b)).sum();
            if nearest.len() <= NEAREST || distance < nearest[NEAREST].0 {
                let place = nearest.partition_point(|(known, _)| *known <= distance);
                nearest.insert(place, (distance, leaf));
                nearest.truncate(NEAREST + 1);
            }
        }
        nearest.iter_mut().for_each(|(distance, _)| *distance = distance.sqrt());
        let radius = nearest[NEAREST].0;
        let weight = |distance: f64| ((radius - distance) / (radius * distance + 1e-12)).powi(2);
        let utilisation = |leaf: &Leaf| (self.roofline)(leaf.point) / leaf.ms;
        let (mut weights, mut weighted) = (0.0, 0.0);
        for (distance, leaf) in &nearest[..NEAREST] {
            weights += weight(*distance);
            weighted += weight(*distance) * utilisation(leaf);
        }
        if weights <= 0.0 {
            // All at one distance.
            (weights, weighted) =
                (NEAREST as f64, nearest[..NEAREST].iter().map(|(_, leaf)| utilisation(leaf)).sum());
        }
        (self.roofline)(at) * weights / weighted
    }
}

/// Times over rows for one measured shape of a matrix product.
pub(super) struct Site {
    pub n: f64,
    pub k: f64,
    /// Rows and ms, ascending.
    pub curve: Vec<(f64, f64)>,
}

/// Points at the end of a curve whose median utilisation holds beyond it.
const TAIL: usize = 3;
/// How far in octaves, and how many of the nearest shapes stand in for one that was not measured.
const FARTHEST_OCTAVES: f64 = 2.0;

impl Site {
    /// Lines between points; beyond them the roofline over the median utilisation at that end.
    fn ms(&self, m: f64, roofline: &impl Fn(f64, f64, f64) -> f64) -> f64 {
        let curve = &self.curve;
        let index = curve.partition_point(|(known, _)| *known < m);
        match curve.get(index) {
            Some((known, ms)) if *known == m => return *ms,
            Some((high, to)) if index > 0 => {
                let (low, from) = curve[index - 1];
                return from + (m - low) / (high - low) * (to - from);
            }
            _ => {}
        }
        let tail = if index == 0 {
            &curve[..TAIL.min(curve.len())]
        } else {
            &curve[curve.len().saturating_sub(TAIL)..]
        };
        let mut utilisations: Vec<f64> =
            tail.iter().map(|(m, ms)| roofline(*m, self.n, self.k) / ms).collect();
        utilisations.sort_by(f64::total_cmp);
        let middle = utilisations.len() / 2;
        let median = if utilisations.len() % 2 == 1 {
            utilisations[middle]
        } else {
            0.5 * (utilisations[middle - 1] + utilisations[middle])
        };
        roofline(m, self.n, self.k) / median
    }

    fn covers(&self, m: f64) -> bool {
        self.curve[0].0 <= m && m <= self.curve[self.curve.len() - 1].0
    }
}

/// A matrix product of one shape, answered by its own curve or by those of the nearest shapes.
pub(super) struct Product<'a, R> {
    n: f64,
    k: f64,
    own: Option<&'a Site>,
    /// By distance in octaves, near enough.
    near: Vec<(f64, &'a Site)>,
    roofline: R,
}

impl<'a, R: Fn(f64, f64, f64) -> f64> Product<'a, R> {
    /// `None` if no measured shape is near enough.
    pub fn new(sites: &'a [Site], n: f64, k: f64, roofline: R) -> Option<Self> {
        let own = sites.iter().find(|site| site.n == n && site.k == k);
        let distance = |site: &Site| libm::hypot(libm::log2(site.n / n), libm::log2(site.k / k));
        let mut near: Vec<(f64, &Site)> =
            sites.iter().map(|site| (distance(site), site)).filter(|(d, _)| *d <= FARTHEST_OCTAVES).collect();
        near.sort_by(|(a, _), (b, _)| a.total_cmp(b));
        (own.is_some() || !near.is_empty()).then_some(Self { n, k, own, near, roofline })
    }

    /// For `m` rows.
    pub fn ms(&self, m: f64) -> f64 {
        if let Some(site) = self.own {
            return site.ms(m, &self.roofline);
        }
        let covering = self.near.iter().filter(|(_, site)| site.covers(m)).take(NEAREST);
        let chosen: Vec<_> = if covering.clone().next().is_some() {
            covering.collect()
        } else {
            self.near.iter().take(NEAREST).collect()
        };
        let (mut weights, mut weighted) = (0.0, 0.0);
        for (distance, site) in chosen {
            let weight = 1.0 / (distance * distance + 1e-12);
            weights += weight;
            weighted += weight * (self.roofline)(m, site.n, site.k) / site.ms(m, &self.roofline);
        }
        (self.roofline)(m, self.n, self.k) * weights / weighted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn volume([x, y, z]: [f64; 3]) -> f64 {
        x * y * z
    }

    /// Half the points of a staircase: where all are measured, lines; where they end, constant utilisation.
    #[test]
    fn nested_points() {
        let mut points = Vec::new();
        for x in [1.0, 2.0, 4.0] {
            for y in [1.0, 2.0, 4.0] {
                for z in [1.0, 2.0, 4.0] {
                    if x * y * z <= 16.0 {
                        points.push(([x, y, z], 5.0 * volume([x, y, z])));
                    }
                }
            }
        }
        let table = Nested::new(points.clone(), None, volume).unwrap();
        for at in [
            [1.0, 2.0, 4.0],
            [3.0, 1.5, 2.0],
            [3.0, 2.0, 2.5],
            [4.0, 4.0, 4.0],
            [8.0, 4.0, 1.0],
            [1.0, 1.0, 64.0],
            [0.5, 1.0, 1.0],
        ] {
            assert!((table.ms(at) / (5.0 * volume(at)) - 1.0).abs() < 1e-9, "{at:?}: {}", table.ms(at));
        }
        let squares = points.iter().map(|&(at, _)| (at, at[1] * at[1])).collect();
        let table = Nested::new(squares, Some(1), |[_, y, _]| y * y).unwrap();
        assert!((table.ms([1.0, 3.0, 1.0]) - 9.0).abs() < 1e-12);
        assert!(Nested::new(points[..4].to_vec(), None, volume).is_none());
    }

    #[test]
    fn products_of_measured_and_other_shapes() {
        let roofline = |m: f64, n: f64, k: f64| m * n * k;
        let site = |n: f64, k: f64, utilisation: f64, last: f64| Site {
            n,
            k,
            curve: [1.0, 2.0, 4.0, last].map(|m| (m, roofline(m, n, k) / utilisation)).to_vec(),
        };
        let sites = [site(8.0, 8.0, 0.5, 8.0), site(16.0, 8.0, 0.25, 16.0)];
        let product = |n, k| Product::new(&sites, n, k, roofline);
        assert_eq!(product(8.0, 8.0).unwrap().ms(3.0), 384.0);
        assert_eq!(product(8.0, 8.0).unwrap().ms(32.0), 4096.0);
        // Between the two: the mean of their utilisations; where only one was measured, its.
        let between = product(8.0 * 2.0_f64.sqrt(), 8.0).unwrap();
        assert!((between.ms(4.0) / (4.0 * 64.0 * 2.0_f64.sqrt() / 0.375) - 1.0).abs() < 1e-9);
        assert!((between.ms(12.0) / (12.0 * 64.0 * 2.0_f64.sqrt() / 0.25) - 1.0).abs() < 1e-9);
        assert!(product(1000.0, 8.0).is_none());
    }
}
