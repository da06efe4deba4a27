//! Whole files or none: a file appears under its name only when it is complete and on disk.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use anyhow::{Context, Result};

/// Writes `path` through a temporary file in the same directory, which is synced and then renamed.
///
/// Fails, leaving whatever `path` held before, when the directory cannot be written or `write` fails.
pub fn write_atomically(path: &Path, write: impl FnOnce(&mut BufWriter<&File>) -> Result<()>) -> Result<()> {
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let mut builder = tempfile::Builder::new();
    builder.prefix(".").suffix(".partial");
    #[cfg(unix)]
    {
        // Temporary files are private by default; results are meant to be shared, as far as the umask allows.
        use std::os::unix::fs::PermissionsExt;
        builder.permissions(std::fs::Permissions::from_mode(0o666));
    }
    let temporary =
        builder.tempfile_in(directory).with_context(|| format!("{}: cannot create a file in this directory", directory.display()))?;
    let mut writer = BufWriter::new(temporary.as_file());
    write(&mut writer).and_then(|()| Ok(writer.flush()?)).with_context(|| format!("{}: cannot write", path.display()))?;
    drop(writer);
    temporary.as_file().sync_all().with_context(|| format!("{}: cannot write to disk", path.display()))?;
    temporary.persist(path).with_context(|| format!("{}: cannot replace", path.display()))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_write_leaves_the_old_file_and_no_litter() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.txt");
        write_atomically(&path, |out| Ok(out.write_all(b"old")?)).unwrap();
        let error = write_atomically(&path, |out| {
            out.write_all(b"half")?;
            anyhow::bail!("no more paper")
        });
        assert!(format!("{:#}", error.unwrap_err()).contains("no more paper"));
        assert_eq!(std::fs::read(&path).unwrap(), b"old");
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_missing_directory_is_named() {
        let error = write_atomically(Path::new("no/such/place/a.txt"), |_| Ok(())).unwrap_err();
        assert!(format!("{error:#}").contains("no/such/place"), "{error:#}");
    }
}
