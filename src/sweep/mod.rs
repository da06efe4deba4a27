//! Grid file -> plan -> runs -> stored table -> answers. Each room knows only those above it in this list.

pub mod panics;
pub mod tables;
pub mod objectives;
pub mod grid;
pub mod plan;
pub mod run;
pub mod store;
pub mod answers;
pub mod policies;
pub mod reference;
