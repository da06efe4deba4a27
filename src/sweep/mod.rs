//! Grid file -> plan -> runs -> stored table.

pub mod axes;
pub mod cell;
pub mod grid;
pub mod manifest;
pub mod objectives;
pub mod plan;
pub mod row;
pub mod source;
