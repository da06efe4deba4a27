//! Functions of token counts, condensed into tables that are read in a few nanoseconds.
//!
//! A [`Table`] knows every count up to a bound exactly; beyond it a fixed number of points an octave, joined
//! by lines, so that the relative spacing and with it the relative error stays the same however far it
//! reaches.

use serde::{Deserialize, Serialize};

/// Points on an axis of counts: every integer below `2^exact_bits`, then `2^step_bits` points an octave.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Axis {
    exact_bits: u32,
    step_bits: u32,
    len: usize,
}

impl Axis {
    /// Reaches from 0 to `2^last_bits`. `step_bits` may not exceed `exact_bits`.
    pub const fn new(exact_bits: u32, step_bits: u32, last_bits: u32) -> Self {
        assert!(step_bits <= exact_bits && exact_bits <= last_bits && last_bits < 60);
        Self {
            exact_bits,
            step_bits,
            len: (1 << exact_bits) + ((last_bits - exact_bits) << step_bits) as usize + 1,
        }
    }

    /// The count of point `index`.
    pub fn point(self, index: usize) -> u64 {
        let exact = 1_usize << self.exact_bits;
        if index < exact {
            return index as u64;
        }
        let (octave, step) =
            ((index - exact) >> self.step_bits, (index - exact) & ((1 << self.step_bits) - 1));
        ((1 << self.step_bits) + step as u64) << (octave as u32 + self.exact_bits - self.step_bits)
    }

    /// Index of the last point at or below `count`, but never the very last, and how far `count` is on the
    /// way to the next one: above 1 beyond the end of the axis.
    #[inline]
    pub fn locate(self, count: u64) -> (usize, f64) {
        if count < 1 << self.exact_bits {
            return (count as usize, 0.0);
        }
        let octave = 63 - count.leading_zeros();
        let width_bits = octave - self.step_bits;
        let index = (1 << self.exact_bits)
            + (((octave - self.exact_bits) as usize) << self.step_bits)
            + ((count >> width_bits) as usize - (1 << self.step_bits));
        if index + 1 < self.len {
            return (index, (count & ((1 << width_bits) - 1)) as f64 / (1_u64 << width_bits) as f64);
        }
        let (from, to) = (self.point(self.len - 2), self.point(self.len - 1));
        (self.len - 2, (count - from) as f64 / (to - from) as f64)
    }
}

/// A function of one count.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Table {
    axis: Axis,
    values: Vec<f64>,
}

impl Table {
    pub fn new(axis: Axis, function: impl FnMut(u64) -> f64) -> Self {
        Self { axis, values: (0..axis.len).map(|index| axis.point(index)).map(function).collect() }
    }

    /// The value at `count`; beyond the end the last line goes on.
    #[inline]
    pub fn at(&self, count: u64) -> f64 {
        let (index, way) = self.axis.locate(count);
        let (from, to) = (self.values[index], self.values[index + 1]);
        from + way * (to - from)
    }
}

/// Cells of an [`Even`] part.
const CELLS: usize = 256;

/// A part of a [`Table`] whose points lie equally far apart: an octave, or the integers before the first. Its
/// points are known to be so many, so that no index has to be looked at twice.
#[derive(Debug, Clone, Copy)]
pub(super) struct Even<'a> {
    /// A count's cell begins at point `count >> width_bits`, counted from a multiple of [`CELLS`].
    values: &'a [f64; CELLS + 1],
    width_bits: u32,
    /// Share of the way to the next point. Points lie powers of two apart, so that to multiply by it is to
    /// divide, bit for bit.
    way_per_count: f64,
    /// The first count beyond.
    pub end: u64,
}

impl Even<'_> {
    /// What [`Table::at`] says, bit for bit.
    #[inline(always)]
    pub fn at(&self, count: u64) -> f64 {
        let cell = (count >> self.width_bits) as usize % CELLS;
        let way = (count & ((1 << self.width_bits) - 1)) as i64 as f64 * self.way_per_count;
        let (from, to) = (self.values[cell], self.values[cell + 1]);
        from + way * (to - from)
    }
}

impl Table {
    /// The part that `count` lies in, of an axis of [`CELLS`] points an octave and as many exact ones; none
    /// beyond the end, or of another axis.
    #[inline]
    pub fn even(&self, count: u64) -> Option<Even<'_>> {
        let Axis { exact_bits, step_bits, .. } = self.axis;
        if exact_bits != step_bits || 1 << step_bits != CELLS {
            return None;
        }
        // The integers before the first octave are as many as if they were one.
        let octave = (63 - (count | 1).leading_zeros()).max(exact_bits - 1);
        let width_bits = octave.saturating_sub(step_bits);
        let first = ((octave + 1 - exact_bits) as usize) << step_bits;
        Some(Even {
            values: self.values.get(first..)?.first_chunk()?,
            width_bits,
            way_per_count: 1.0 / (1_u64 << width_bits) as f64,
            end: 2 << octave,
        })
    }
}

/// A function of two counts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Grid {
    rows: Axis,
    columns: Axis,
    values: Vec<f64>,
}

impl Grid {
    pub fn new(rows: Axis, columns: Axis, mut function: impl FnMut(u64, u64) -> f64) -> Self {
        let mut values = Vec::with_capacity(rows.len * columns.len);
        for row in 0..rows.len {
            values.extend((0..columns.len).map(|column| function(rows.point(row), columns.point(column))));
        }
        Self { rows, columns, values }
    }

    /// The value at a pair of counts, bilinear between points and beyond the ends.
    #[inline]
    pub fn at(&self, row: u64, column: u64) -> f64 {
        let (row, row_way) = self.rows.locate(row);
        let (column, column_way) = self.columns.locate(column);
        let along = |row: usize| {
            let index = row * self.columns.len + column;
            let (from, to) = (self.values[index], self.values[index + 1]);
            from + column_way * (to - from)
        };
        let from = along(row);
        from + row_way * (along(row + 1) - from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AXIS: Axis = Axis::new(4, 2, 8);

    #[test]
    fn points_ascend_and_are_found() {
        for index in 0..AXIS.len - 1 {
            let (point, next) = (AXIS.point(index), AXIS.point(index + 1));
            assert!(next > point);
            assert_eq!(AXIS.locate(point), (index, 0.0));
            for count in point..next {
                assert_eq!(AXIS.locate(count), (index, (count - point) as f64 / (next - point) as f64));
            }
        }
        assert_eq!(AXIS.point(AXIS.len - 1), 256);
    }

    #[test]
    fn even_parts_agree_to_the_bit() {
        let table = Table::new(Axis::new(8, 8, 11), |count| 0.1 + (count as f64).sqrt());
        for count in 0..2048 {
            let even = table.even(count).unwrap();
            assert!(count < even.end);
            for count in [count, (count + 7).min(even.end - 1), even.end - 1] {
                assert_eq!(even.at(count), table.at(count), "{count}");
            }
        }
        assert!([2048, 2049, 1 << 40].iter().all(|&count| table.even(count).is_none()));
        assert!(Table::new(AXIS, |count| count as f64).even(3).is_none());
    }

    /// Lines are kept everywhere, beyond the end too.
    #[test]
    fn lines_are_exact() {
        let table = Table::new(AXIS, |count| 3.0 + 2.0 * count as f64);
        let grid = Grid::new(AXIS, AXIS, |row, column| 1.0 + row as f64 + 2.0 * column as f64);
        for count in (0..300).chain([5000]) {
            assert!((table.at(count) / (3.0 + 2.0 * count as f64) - 1.0).abs() < 1e-12);
            assert!((grid.at(count, 17) / (35.0 + count as f64) - 1.0).abs() < 1e-12);
            assert!((grid.at(9, count) / (10.0 + 2.0 * count as f64) - 1.0).abs() < 1e-12);
        }
    }
}
