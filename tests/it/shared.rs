//! Data that may not be committed: found beside the repository, or the test says that it was skipped.

use std::path::PathBuf;

/// `SCALEFRONT_SHARED`, or `shared` beside the repository. `None`, with a line on stderr, where there is no such path in it.
pub fn path(inside: &str) -> Option<PathBuf> {
    let root =
        std::env::var_os("SCALEFRONT_SHARED").map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared"), PathBuf::from);
    let path = root.join(inside);
    if !path.exists() {
        eprintln!("SKIPPED: {} is not there", path.display());
        return None;
    }
    Some(path)
}
