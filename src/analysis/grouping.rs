//! Rows of a table that belong together.
//!
//! polars groups; what groups come to is added up by whoever asks: polars has given up its eager sums for
//! those of its lazy engine, which is not built in.

use anyhow::Result;
use polars::prelude::{Column as PolarsColumn, DataFrame, GroupsIndicator};

/// Rows with equal values of all of `by`, nulls among themselves: each group in the order of the table,
/// groups in that of their first rows.
///
/// On one thread, so that the order hangs on nothing else.
pub fn rows_by(frame: &DataFrame, by: &[&str]) -> Result<Vec<Vec<usize>>> {
    let keys: Vec<PolarsColumn> =
        by.iter().map(|name| frame.column(name).cloned()).collect::<Result<_, _>>()?;
    let groups = frame.group_by_with_series(keys, false, true)?.into_groups();
    let rows = |group: GroupsIndicator| match group {
        GroupsIndicator::Idx((_, rows)) => rows.iter().map(|&row| row as usize).collect(),
        GroupsIndicator::Slice([first, len]) => (first as usize..(first + len) as usize).collect(),
    };
    Ok(groups.iter().map(rows).collect())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::super::table::{Column, to_frame};
    use super::*;

    #[test]
    fn equal_values_and_nulls_are_together() {
        let names = ["b", "a", "b", "c"].map(String::from).to_vec();
        let seeds = vec![Some(1), None, Some(1), None];
        let frame =
            to_frame(vec![("name", Column::Text(names)), ("seed", Column::OptionalInt(seeds))]).unwrap();
        assert_eq!(rows_by(&frame, &["name"]).unwrap(), [vec![0, 2], vec![1], vec![3]]);
        assert_eq!(rows_by(&frame, &["seed"]).unwrap(), [[0, 2], [1, 3]]);
        assert_eq!(rows_by(&frame, &["seed", "name"]).unwrap(), [vec![0, 2], vec![1], vec![3]]);
        assert!(rows_by(&frame, &["rate"]).unwrap_err().to_string().contains("rate"));
    }

    proptest! {
        /// As one would do it by hand.
        #[test]
        fn groups_are_those_of_a_map(keys in prop::collection::vec((0i64..4, 0i64..3), 0..40)) {
            let columns = [("a", keys.iter().map(|key| key.0).collect()), ("b", keys.iter().map(|key| key.1).collect())];
            let frame = to_frame(columns.map(|(name, values)| (name, Column::Int(values))).to_vec()).unwrap();
            let mut expected: BTreeMap<(i64, i64), Vec<usize>> = BTreeMap::new();
            keys.iter().enumerate().for_each(|(row, key)| expected.entry(*key).or_default().push(row));
            let mut found = rows_by(&frame, &["a", "b"]).unwrap();
            prop_assert!(found.is_sorted_by_key(|rows| rows[0]));
            found.sort_by_key(|rows| keys[rows[0]]);
            prop_assert_eq!(found, expected.into_values().collect::<Vec<_>>());
        }
    }
}
