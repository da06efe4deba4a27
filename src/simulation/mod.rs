//! The event loop: clock, events, requests, what a run records.

mod cluster;

pub use cluster::ClusterSettings;
