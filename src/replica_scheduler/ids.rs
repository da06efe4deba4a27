//! Who a replica is, and where it is kept.

use std::fmt;

/// Who a replica is. Ids grow in order of joining and are never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ReplicaId(pub u32);

impl ReplicaId {
    /// The id of a request's replica before it has one.
    pub const NOWHERE: Self = Self(u32::MAX);
}

impl fmt::Display for ReplicaId {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Where a replica is kept. A lane is reused once its replica has left.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Lane(pub u32);

impl Lane {
    #[inline]
    pub fn index(self) -> usize {
        self.0 as usize
    }
}
