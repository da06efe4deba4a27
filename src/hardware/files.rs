//! Where files named in settings are looked for, and how those are read that need more than the standard
//! library.

use std::path::{Path, PathBuf};

use super::HardwareError;

/// Columns of a table file, in the order asked for.
#[derive(Debug, Clone, PartialEq)]
pub enum Columns {
    Numbers(Vec<f64>),
    Texts(Vec<String>),
}

/// Reads the named columns of a Parquet file; columns that are not there are `None`. Texts come back as
/// texts, everything else as numbers.
pub type ReadParquet = fn(&Path, &[&str]) -> Result<Vec<Option<Columns>>, String>;

/// What loading a model of the hardware may use.
#[derive(Debug, Clone, Copy, Default)]
pub struct Files<'a> {
    /// Relative paths are looked for under each in turn; under the working directory if there is none.
    pub base_dirs: &'a [PathBuf],
    /// Condensed imports are kept here by content hash; nowhere if absent.
    pub cache_dir: Option<&'a Path>,
    /// Calibrations are looked for here by their names, under each of the base directories.
    pub calibrations_dir: Option<&'a Path>,
    /// This room reads no Parquet; whoever does lends it.
    pub parquet: Option<ReadParquet>,
}

impl Files<'_> {
    /// The first of the places a path may be at where there is something.
    pub fn find(&self, path: &Path) -> Result<PathBuf, HardwareError> {
        let places: Vec<PathBuf> = match path.is_absolute() || self.base_dirs.is_empty() {
            true => vec![path.into()],
            false => self.base_dirs.iter().map(|dir| dir.join(path)).collect(),
        };
        match places.iter().find(|place| place.exists()) {
            Some(place) => Ok(place.clone()),
            None => Err(HardwareError::NotFound { path: path.into(), places }),
        }
    }
}
