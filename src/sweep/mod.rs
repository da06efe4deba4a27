//! Grid file -> plan -> runs -> stored table.

pub mod axes;
pub mod grid;
pub mod manifest;
pub mod objectives;
pub mod row;
pub mod source;
