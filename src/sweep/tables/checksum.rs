//! By what a stored table is known again: `manifest.json` has it of each table beside it that is read again.

use std::fs::File;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

/// Length and hash of a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checksum {
    pub bytes: u64,
    pub blake3: String,
}

impl Checksum {
    /// Of the file as it is now.
    pub fn of_file(path: &Path) -> Result<Self> {
        let hash = || -> Result<Self> {
            let mut hasher = blake3::Hasher::new();
            hasher.update_reader(File::open(path)?)?;
            Ok(Self { bytes: hasher.count(), blake3: hasher.finalize().to_hex().to_string() })
        };
        hash().with_context(|| format!("{}: cannot read", path.display()))
    }

    fn of(bytes: &[u8]) -> Self {
        Self { bytes: bytes.len() as u64, blake3: blake3::hash(bytes).to_hex().to_string() }
    }

    /// Fails on other bytes than those it is of.
    pub fn verify(&self, bytes: &[u8]) -> Result<()> {
        self.compare(&Self::of(bytes))
    }

    /// The same for a file, which the error names.
    pub fn verify_file(&self, path: &Path) -> Result<()> {
        self.compare(&Self::of_file(path)?).with_context(|| path.display().to_string())
    }

    fn compare(&self, found: &Self) -> Result<()> {
        ensure!(
            self == found,
            "{} bytes of checksum {:.16} found, expected {} of {:.16}: it has changed since it was stored",
            found.bytes,
            found.blake3,
            self.bytes,
            self.blake3
        );
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_bit_more_or_less_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        let bytes: Vec<u8> = (0..100_000u32).map(|i| i as u8).collect();
        std::fs::write(&path, &bytes).unwrap();
        let checksum = Checksum::of_file(&path).unwrap();
        checksum.verify(&bytes).unwrap();
        checksum.verify_file(&path).unwrap();
        for at in [0, 70_000, bytes.len() - 1] {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            let error = checksum.verify(&changed).unwrap_err().to_string();
            assert!(error.contains("100000 bytes of checksum") && error.contains("has changed"), "{error}");
        }
        std::fs::write(&path, &bytes[1..]).unwrap();
        let error = format!("{:#}", checksum.verify_file(&path).unwrap_err());
        assert!(error.contains("/a: 99999 bytes"), "{error}");
    }
}
