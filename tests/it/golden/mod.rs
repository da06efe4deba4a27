//! Recorded runs that are in the repository; those that rest on public traces are looked for outside, in
//! `tests/given`.

mod case;

use std::path::Path;

pub use case::{Case, assert_runs_agree};

#[test]
fn scale_down_with_least_outstanding() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/j_scale_down_lor");
    let deviation = Case::load(&dir, None).check();
    println!("j_scale_down_lor: {deviation:?}");
}
