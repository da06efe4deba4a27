//! Files of lines: found, decompressed, read one line at a time.
//!
//! Gzip and Zstandard are told by their first bytes, not by their names. Only one line is held in memory,
//! lines and decompressed sizes are limited, so neither a huge file nor a decompression bomb exhausts memory.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use super::error::{WorkloadError, excerpt};

/// No trace has longer lines: 16 MiB hold a prompt of a million blocks.
const LONGEST_LINE_BYTES: u64 = 16 << 20;

/// What a compressed file may hold unless a setting says otherwise: 8 GiB.
pub const DECOMPRESSED_LIMIT_BYTES: u64 = 8 << 30;

/// Finds `path` relative to each base directory in turn; an absolute path stands for itself.
///
/// Without base directories the path is taken as it is.
pub fn find(path: &Path, base_dirs: &[PathBuf]) -> Result<PathBuf, WorkloadError> {
    let mut looked_at: Vec<PathBuf> = if path.is_absolute() || base_dirs.is_empty() {
        vec![path.into()]
    } else {
        base_dirs.iter().map(|dir| dir.join(path)).collect()
    };
    looked_at.dedup();
    match looked_at.iter().find(|candidate| candidate.exists()) {
        Some(found) => Ok(found.clone()),
        None => Err(WorkloadError::NotFound { path: path.into(), looked_at }),
    }
}

/// The lines of a text file, numbered from 1.
pub struct Lines {
    file: PathBuf,
    reader: Box<dyn BufRead>,
    buffer: Vec<u8>,
    number: u64,
}

/// One line, without its end (`\n` or `\r\n`).
#[derive(Clone, Copy)]
pub struct Line<'a> {
    pub file: &'a Path,
    pub number: u64,
    pub text: &'a str,
}

impl Lines {
    /// Opens a file, plain or compressed; a compressed one may not hold more than `decompressed_limit_bytes`.
    pub fn open(file: &Path, decompressed_limit_bytes: u64) -> Result<Self, WorkloadError> {
        Ok(Self {
            file: file.into(),
            reader: open(file, decompressed_limit_bytes)?,
            buffer: Vec::new(),
            number: 0,
        })
    }

    pub fn file(&self) -> &Path {
        &self.file
    }

    /// The next line that is not blank.
    ///
    /// Errors: reading or decompressing fails, a line is too long or no UTF-8.
    #[expect(clippy::should_implement_trait, reason = "lends its buffer, as no iterator can")]
    pub fn next(&mut self) -> Result<Option<Line<'_>>, WorkloadError> {
        loop {
            self.buffer.clear();
            let read = (&mut self.reader).take(LONGEST_LINE_BYTES).read_until(b'\n', &mut self.buffer);
            let read = read.map_err(|reason| WorkloadError::Io { file: self.file.clone(), reason })?;
            if read == 0 {
                return Ok(None);
            }
            self.number += 1;
            if read as u64 == LONGEST_LINE_BYTES && self.buffer.last() != Some(&b'\n') {
                return Err(self.line_error(format!(
                    "longer than {LONGEST_LINE_BYTES} bytes, expected a line of a text file"
                )));
            }
            if self.number == 1 {
                if self.buffer.starts_with(&[0xff, 0xfe]) || self.buffer.starts_with(&[0xfe, 0xff]) {
                    return Err(
                        self.line_error("UTF-16 text found, expected UTF-8; save the file as UTF-8".into())
                    );
                }
                if self.buffer.starts_with("\u{feff}".as_bytes()) {
                    self.buffer.drain(..3);
                }
            }
            if !self.buffer.trim_ascii().is_empty() {
                break;
            }
        }
        match std::str::from_utf8(&self.buffer) {
            Ok(text) => Ok(Some(Line {
                file: &self.file,
                number: self.number,
                text: text.trim_end_matches(['\n', '\r']),
            })),
            Err(error) => Err(self.line_error(format!("not UTF-8 text (byte {})", error.valid_up_to() + 1))),
        }
    }

    fn line_error(&self, message: String) -> WorkloadError {
        WorkloadError::Line { file: self.file.clone(), line: self.number, message }
    }
}

impl Line<'_> {
    pub fn error(&self, message: impl Into<String>) -> WorkloadError {
        WorkloadError::Line { file: self.file.into(), line: self.number, message: message.into() }
    }

    pub fn value_error(&self, column: &str, found: &str, expected: impl Into<String>) -> WorkloadError {
        WorkloadError::Value {
            file: self.file.into(),
            line: self.number,
            column: column.into(),
            found: excerpt(found),
            expected: expected.into(),
        }
    }
}

/// All of a file that is no longer than 1 GiB, plain or compressed.
pub fn read_text(file: &Path) -> Result<String, WorkloadError> {
    read_text_up_to(file, 1 << 30)
}

/// All of a file that is no longer than `limit_bytes`, plain or compressed.
pub fn read_text_up_to(file: &Path, limit_bytes: u64) -> Result<String, WorkloadError> {
    let mut text = String::new();
    let mut limited = Limited { inner: open(file, limit_bytes)?, left: limit_bytes, limit: limit_bytes };
    limited.read_to_string(&mut text).map_err(|reason| WorkloadError::Io { file: file.into(), reason })?;
    Ok(text)
}

/// The beginning of a file, plain or compressed: a line of a CSV file, up to `most_bytes` of JSON.
pub fn read_head(file: &Path, most_bytes: usize) -> Result<String, WorkloadError> {
    let io_error = |reason| WorkloadError::Io { file: file.into(), reason };
    let mut reader = open(file, DECOMPRESSED_LIMIT_BYTES)?;
    let start = reader.fill_buf().map_err(io_error)?;
    let start = start.strip_prefix("\u{feff}".as_bytes()).unwrap_or(start).trim_ascii_start();
    let mut head = Vec::new();
    if start.starts_with(b"{") || start.starts_with(b"[") {
        reader.take(most_bytes as u64).read_to_end(&mut head).map_err(io_error)?;
    } else {
        head.extend_from_slice(start.split(|&byte| byte == b'\n').next().unwrap_or_default());
    }
    let head = head.strip_prefix("\u{feff}".as_bytes()).unwrap_or(&head);
    Ok(String::from_utf8_lossy(head).into_owned())
}

fn open(file: &Path, decompressed_limit_bytes: u64) -> Result<Box<dyn BufRead>, WorkloadError> {
    let io_error = |reason| WorkloadError::Io { file: file.into(), reason };
    if file.is_dir() {
        return Err(WorkloadError::File {
            file: file.into(),
            message: "a directory found, expected a file".into(),
        });
    }
    let mut raw = BufReader::with_capacity(1 << 16, File::open(file).map_err(io_error)?);
    let magic = raw.fill_buf().map_err(io_error)?;
    let decoder: Box<dyn Read> = if magic.starts_with(&[0x1f, 0x8b]) {
        Box::new(flate2::bufread::MultiGzDecoder::new(raw))
    } else if magic.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) {
        Box::new(zstd::stream::read::Decoder::with_buffer(raw).map_err(io_error)?)
    } else {
        return Ok(Box::new(raw));
    };
    let limited = Limited { inner: decoder, left: decompressed_limit_bytes, limit: decompressed_limit_bytes };
    Ok(Box::new(BufReader::with_capacity(1 << 16, limited)))
}

/// Passes on at most `limit` bytes, then fails.
struct Limited<R> {
    inner: R,
    left: u64,
    limit: u64,
}

impl<R: Read> Read for Limited<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        match self.left.checked_sub(read as u64) {
            Some(left) => self.left = left,
            None => {
                return Err(io::Error::other(format!(
                    "holds more than {} bytes when read and decompressed; if a trace is meant to, raise its `decompressed_limit_bytes`",
                    self.limit
                )));
            }
        }
        Ok(read)
    }
}
