//! What a reader asks of runs, and what takes runs of its own to say.

pub mod verdict;
pub mod robustness;
pub mod recommend;
pub mod oracle;
pub mod informed;
pub mod levels;
pub mod shadow;
pub mod stored;
