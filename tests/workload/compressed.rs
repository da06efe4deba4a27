//! Compressed traces are read like plain ones, and bombs are refused.

use std::fs;
use std::io::Write;

use scalefront::workload::{Workload, WorkloadError};
use serde_json::json;

const TRACE: &str = "arrived_at,num_prefill_tokens,num_decode_tokens\n1,2,3\n";

fn gzip(content: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(content).unwrap();
    encoder.finish().unwrap()
}

fn read(content: &[u8], limit_bytes: u64) -> Result<Workload, WorkloadError> {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("trace"), content).unwrap();
    let trace = json!({"path": "trace", "decompressed_limit_bytes": limit_bytes});
    super::load_json(json!({"name": "t", "trace": trace}), 1, &[dir.path().into()])
}

#[test]
fn gzip_and_zstandard_are_told_by_their_first_bytes() {
    let plain = read(TRACE.as_bytes(), 1).unwrap();
    assert_eq!(read(&gzip(TRACE.as_bytes()), 1000).unwrap(), plain);
    assert_eq!(read(&zstd::encode_all(TRACE.as_bytes(), 3).unwrap(), 1000).unwrap(), plain);
    let (header, rest) = TRACE.split_at(20);
    let members = [gzip(header.as_bytes()), gzip(rest.as_bytes())].concat();
    assert_eq!(read(&members, 1000).unwrap(), plain);
}

#[test]
fn bombs_and_truncated_files_are_refused() {
    let limit = "holds more than 1000 bytes when read and decompressed; if a trace is meant to, raise its `decompressed_limit_bytes`";
    let many_lines = format!("{TRACE}{}", "2,3,4\n".repeat(1000));
    for bomb in [gzip(many_lines.as_bytes()), zstd::encode_all(many_lines.as_bytes(), 3).unwrap()] {
        assert!(read(&bomb, 1000).unwrap_err().to_string().ends_with(limit));
        assert_eq!(read(&bomb, 10_000).unwrap().len(), 1001);
    }
    let one_line = gzip(&vec![b'1'; 20 << 20]);
    let complaint = read(&one_line, 1 << 30).unwrap_err().to_string();
    assert!(
        complaint.ends_with("trace, line 1: longer than 16777216 bytes, expected a line of a text file"),
        "{complaint}"
    );
    let whole = gzip(many_lines.as_bytes());
    assert!(matches!(read(&whole[..whole.len() / 2], 10_000), Err(WorkloadError::Io { .. })));
}
