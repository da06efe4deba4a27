//! Files: what the system says of them, in the words of whoever named them, and writing them whole or not at
//! all.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::Path;

use anyhow::{Context, Result, ensure};

/// The reason alone, where a library has put a path of its own beside it: the caller names the file.
pub fn plain(error: io::Error) -> io::Error {
    if error.get_ref().is_some() { error.kind().into() } else { error }
}

/// Makes a directory, and those above it that are missing.
///
/// Errors: as the system says; a file that is in the way is named.
pub fn make_directory(path: &Path) -> io::Result<()> {
    fs::create_dir_all(path).map_err(|error| {
        let in_the_way = path.ancestors().find(|ancestor| ancestor.exists() && !ancestor.is_dir());
        match in_the_way {
            Some(file) => {
                io::Error::other(format!("`{}`: a file found, expected a directory", file.display()))
            }
            None => error,
        }
    })
}

/// `text` as one word of a POSIX shell.
pub fn shell_word(text: impl AsRef<str>) -> String {
    let text = text.as_ref();
    let plain = |c: char| c.is_ascii_alphanumeric() || "_@%+=:,./-".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        text.into()
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

/// A path as one word of a POSIX shell.
pub fn shell_path(path: &Path) -> String {
    shell_word(path.to_string_lossy())
}

/// Stores `value` as indented JSON.
pub fn write_json(path: &Path, value: &impl serde::Serialize) -> Result<()> {
    write_atomically(path, |out| {
        serde_json::to_writer_pretty(&mut *out, value)?;
        Ok(out.write_all(b"\n")?)
    })
}

/// Writes `path` through a temporary file in the same directory, which is synced and then renamed.
///
/// Fails, leaving whatever `path` held before, when the directory cannot be written or `write` fails.
pub fn write_atomically(path: &Path, write: impl FnOnce(&mut BufWriter<&File>) -> Result<()>) -> Result<()> {
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    ensure!(
        !path.is_dir(),
        "{}: a directory found, expected the name of a file; add one to it",
        path.display()
    );
    ensure!(
        directory.is_dir(),
        "{}: {}, expected a directory to write `{}` into; make it, or choose another",
        directory.display(),
        if directory.exists() { "a file found" } else { "no such directory" },
        path.file_name().unwrap_or_default().display()
    );
    let mut builder = tempfile::Builder::new();
    builder.prefix(".").suffix(".partial");
    #[cfg(unix)]
    {
        // Temporary files are private by default; results are meant to be shared, as far as the umask allows.
        use std::os::unix::fs::PermissionsExt;
        builder.permissions(fs::Permissions::from_mode(0o666));
    }
    let temporary = builder
        .tempfile_in(directory)
        .map_err(plain)
        .with_context(|| format!("{}: cannot create a file in this directory", directory.display()))?;
    let mut writer = BufWriter::new(temporary.as_file());
    write(&mut writer)
        .and_then(|()| Ok(writer.flush()?))
        .with_context(|| format!("{}: cannot write", path.display()))?;
    drop(writer);
    temporary.as_file().sync_all().with_context(|| format!("{}: cannot write to disk", path.display()))?;
    temporary
        .persist(path)
        .map_err(|error| error.error)
        .with_context(|| format!("{}: cannot replace", path.display()))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use anyhow::bail;

    use super::*;

    #[test]
    fn words_are_quoted_where_a_shell_would_split_or_expand_them() {
        for (text, expected) in [
            ("results/lab3", "results/lab3"),
            ("my grid.json", "'my grid.json'"),
            ("it's", r"'it'\''s'"),
            ("$HOME", "'$HOME'"),
            ("", "''"),
            ("--out=a", "--out=a"),
        ] {
            assert_eq!(shell_word(text), expected);
        }
    }

    #[test]
    fn a_file_in_the_way_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        fs::write(&file, "").unwrap();
        let error = make_directory(&file.join("below")).unwrap_err().to_string();
        assert_eq!(error, format!("`{}`: a file found, expected a directory", file.display()));
        make_directory(&dir.path().join("a/b")).unwrap();
    }

    #[test]
    fn a_path_that_a_library_added_goes() {
        let error = tempfile::NamedTempFile::new_in("/no/such/place").unwrap_err();
        assert!(error.to_string().contains("/no/such/place"));
        let error = plain(error);
        assert_eq!((error.kind(), error.to_string().contains("place")), (io::ErrorKind::NotFound, false));
    }

    #[test]
    fn a_failed_write_leaves_the_old_file_and_no_litter() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.txt");
        write_atomically(&path, |out| Ok(out.write_all(b"old")?)).unwrap();
        let error = write_atomically(&path, |out| {
            out.write_all(b"half")?;
            bail!("no more paper")
        });
        assert!(format!("{:#}", error.unwrap_err()).contains("no more paper"));
        assert_eq!(fs::read(&path).unwrap(), b"old");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_cannot_be_written_to_is_named_once() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("file"), "").unwrap();
        let said = |below: &str| {
            let error = format!("{:#}", write_atomically(&dir.path().join(below), |_| Ok(())).unwrap_err());
            error.replace(&dir.path().display().to_string(), "DIR")
        };
        let remedy = "expected a directory to write `a.txt` into; make it, or choose another";
        assert_eq!(said("no/a.txt"), format!("DIR/no: no such directory, {remedy}"));
        assert_eq!(said("file/a.txt"), format!("DIR/file: a file found, {remedy}"));
        assert_eq!(said(""), "DIR/: a directory found, expected the name of a file; add one to it");
    }
}
