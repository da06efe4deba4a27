//! The cheapest setting that keeps the limits, searched rather than enumerated.

/// What a search leaves behind.
pub const FILE: &str = "recommendation.json";
