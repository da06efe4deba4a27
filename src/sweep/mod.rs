//! Grid file -> plan -> runs -> stored table.

pub mod manifest;
pub mod objectives;
pub mod row;
