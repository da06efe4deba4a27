//! Why a run cannot go on: nothing is due any more, and requests are unfinished.

use std::fmt;

/// What keeps the unfinished requests from ever being served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Deadlock {
    /// No replica serves or starts, and nobody asks for one.
    NoReplica {
        /// In a fleet.
        pool: Option<String>,
        min_replicas: u32,
        /// A policy decides how many there are.
        scales: bool,
        /// The fleet's budget has refused some.
        budget_refused: bool,
    },
    /// Replicas wait for devices, and nobody gives any back.
    NoDevices { waiting: u32 },
    /// Replicas serve, and none starts a batch for what waits on it.
    NoBatch { replicas: u32, waiting: u32 },
    /// Replicas serve, and requests are held back before any of them.
    HeldBack { replicas: u32, waiting: u32 },
    /// Everything that has arrived has been served; what has not arrived waits for something else.
    NotArrived,
}

impl fmt::Display for Deadlock {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::NoReplica { pool, min_replicas, scales, budget_refused } => {
                match pool {
                    Some(pool) => write!(f, "pool `{pool}` has no replica, and ")?,
                    None => f.write_str("no replica serves, and ")?,
                }
                match (budget_refused, scales) {
                    (true, _) => f.write_str("`budget` has no room for one; raise it, or lower what other pools may take"),
                    (_, false) => f.write_str("a fixed fleet starts none; give it replicas"),
                    (_, true) if *min_replicas == 0 => {
                        f.write_str("the policy asks for none; it does not start from zero by itself: raise `min_replicas`, which is 0")
                    }
                    _ => write!(f, "the policy asks for none, though `min_replicas` is {min_replicas}"),
                }
            }
            Self::NoDevices { waiting } => {
                write!(
                    f,
                    "{waiting} replicas wait for devices that nobody gives back; raise the limit of `node_pool`"
                )
            }
            Self::NoBatch { replicas, waiting } => write!(
                f,
                "{replicas} replicas serve, and start no batch for {waiting} requests that wait on them: together these need more KV blocks \
                 than there are; raise `num_blocks`, or leave it out"
            ),
            Self::HeldBack { replicas, waiting } => {
                write!(
                    f,
                    "{replicas} replicas serve, and {waiting} requests are held back before them, by the router or for want of KV blocks"
                )
            }
            Self::NotArrived => {
                f.write_str("all that arrived were served; the rest waits for turns that never end")
            }
        }
    }
}
