//! What the system says of files, told once and in the words of whoever named them.

use std::io;
use std::path::Path;

/// The reason alone, where a library has put a path of its own beside it: the caller names the file.
pub fn plain(error: io::Error) -> io::Error {
    if error.get_ref().is_some() { error.kind().into() } else { error }
}

/// Makes a directory, and those above it that are missing.
///
/// Errors: as the system says; a file that is in the way is named.
pub fn make_directory(path: &Path) -> io::Result<()> {
    std::fs::create_dir_all(path).map_err(|error| {
        let in_the_way = path.ancestors().find(|ancestor| ancestor.exists() && !ancestor.is_dir());
        match in_the_way {
            Some(file) => io::Error::other(format!("`{}`: a file found, expected a directory", file.display())),
            None => error,
        }
    })
}

/// `text` as one word of a POSIX shell.
pub fn shell_word(text: impl AsRef<str>) -> String {
    let text = text.as_ref();
    let plain = |c: char| c.is_ascii_alphanumeric() || "_@%+=:,./-".contains(c);
    if !text.is_empty() && text.chars().all(plain) { text.into() } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

/// A path as one word of a POSIX shell.
pub fn shell_path(path: &Path) -> String {
    shell_word(path.to_string_lossy())
}

#[cfg(test)]
mod tests {
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
        std::fs::write(&file, "").unwrap();
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
}
