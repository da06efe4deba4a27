//! What a stretch of iterations will have come to after each of them.

use super::Progress;

/// After an iteration, or before the first.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Point {
    /// When it ended.
    pub at_s: f64,
    /// As in [`Progress`].
    pub kv_block_s: f64,
    /// Blocks in use once the next iteration has got its own. A whole number, as it is used.
    pub used_blocks: f64,
}

/// A stretch as it was looked ahead, written down for those that settle a part of it: to work it out again
/// would cost them ten times what it costs to write.
#[derive(Debug, Default)]
pub(super) struct Foreseen {
    from_iteration: u32,
    num_points: usize,
    points: Vec<Point>,
    /// Of a longer stretch: what there is before its last iteration.
    before_last: Option<Progress>,
}

/// Longer stretches are not written down one by one: who gets so far undisturbed is mostly left alone.
pub(super) const MOST_FORESEEN: u32 = 32;

/// What is foreseen follows from the rest of a run, and is not kept beside it.
impl Clone for Foreseen {
    fn clone(&self) -> Self {
        Self::default()
    }
}

/// Nor does it tell one run from another.
impl PartialEq for Foreseen {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Foreseen {
    pub fn forget(&mut self) {
        (self.num_points, self.before_last) = (0, None);
    }

    /// Begins anew with all but the last iteration of a stretch.
    pub fn keep(&mut self, before_last: Progress) {
        (self.num_points, self.before_last) = (0, Some(before_last));
    }

    pub fn before_last(&self) -> Option<Progress> {
        self.before_last
    }

    /// Begins anew with what there is before a stretch of so many iterations, at most [`MOST_FORESEEN`]; returns
    /// where to write what there is after each of them.
    #[inline]
    pub fn begin(&mut self, from_iteration: u32, before: Point, steps: u32) -> &mut [Point] {
        if self.points.is_empty() {
            self.points.resize(MOST_FORESEEN as usize + 1, Point::default());
        }
        (self.from_iteration, self.num_points, self.before_last) = (from_iteration, steps as usize + 1, None);
        let [first, others @ ..] = &mut self.points[..=steps as usize] else { unreachable!("at least one") };
        *first = before;
        others
    }

    /// Knows nothing beyond an iteration: there are no blocks for the next.
    pub fn end_with(&mut self, iteration: u32) {
        self.num_points = (iteration - self.from_iteration) as usize + 1;
    }

    /// The points from one iteration to a later one, both included, if they are known.
    pub fn between(&self, from_iteration: u32, to_iteration: u32) -> Option<&[Point]> {
        let place = |iteration: u32| iteration.wrapping_sub(self.from_iteration) as usize;
        self.points[..self.num_points].get(place(from_iteration)..=place(to_iteration))
    }

    pub fn bytes(&self) -> usize {
        size_of_val(&self.points[..])
    }
}
