//! One binary for all integration tests.

mod audit;
mod benches;
mod bounds;
mod calibration;
#[cfg(feature = "report")]
mod browser;
mod circles;
mod cli;
mod cluster;
mod coming_and_going;
mod controllers;
mod deployment;
#[cfg(feature = "report")]
mod compare;
mod decisions;
mod determinism;
mod disk;
#[cfg(feature = "report")]
mod docs;
mod events;
#[cfg(unix)]
mod external;
mod fleet;
mod fleets;
mod giving_up;
mod golden;
mod hardware;
mod hostile;
#[cfg(feature = "report")]
mod leaderboard;
mod leaving;
mod levels;
mod limits;
mod long_prompts;
mod manifests;
mod mutants;
mod oracle;
mod passes;
mod policies;
mod pool_reports;
mod pools;
mod properties;
mod queueing;
mod quirks;
mod recommend;
mod reliability;
mod rows;
mod scenario;
mod schedulers;
mod schema;
mod session_commands;
mod sessions;
mod sglang;
mod shadow;
mod shards;
mod sound;
mod tidy;
mod validation;
mod verdict;
