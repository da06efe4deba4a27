//! Traces written and read back, and the samples, which are one workload in every format.

use std::path::Path;

use proptest::prelude::*;
use scalefront::workload::formats::TraceFormat;
use scalefront::workload::{PrefixBlocks, TraceSpec, Workload, trace};
use serde_json::json;

fn round_trip(workload: &Workload, format: TraceFormat) -> (Workload, Vec<u8>) {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("trace");
    format.write(workload, &file).unwrap();
    assert_eq!(std::fs::read_dir(&dir).unwrap().count(), 1, "no temporary file is left");
    (trace::read(&TraceSpec::new(&file), &[]).unwrap().0, std::fs::read(file).unwrap())
}

fn any_workload() -> impl Strategy<Value = Workload> {
    let request = (0.0f64..1e4, 1u32..100_000, 1u32..5000, prop::collection::vec(any::<u64>(), 0..4));
    prop::collection::vec(request, 1..20).prop_map(|requests| {
        let mut workload = Workload { prefix: Some(PrefixBlocks::new(512)), ..Workload::default() };
        for (at, prefill, decode, ids) in requests {
            workload.push(at, prefill, decode);
            workload.prefix.as_mut().unwrap().push(&ids, prefill);
        }
        workload.sort();
        workload.prefix = workload.prefix.filter(|prefix| !prefix.ids().is_empty());
        workload
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn what_is_written_is_read_back(workload in any_workload()) {
        prop_assert_eq!(&round_trip(&workload, TraceFormat::Mooncake).0, &workload);
        let plain = Workload { prefix: None, ..workload };
        prop_assert_eq!(&round_trip(&plain, TraceFormat::Vidur).0, &plain);

        let azure = round_trip(&plain, TraceFormat::Azure).0;
        prop_assert_eq!(&azure.prefill_tokens, &plain.prefill_tokens);
        for (found, at) in azure.arrived_at_s.iter().zip(&plain.arrived_at_s) {
            prop_assert!((found - (at - plain.arrived_at_s[0])).abs() <= 1.01e-7);
        }
        prop_assert_eq!(&round_trip(&azure, TraceFormat::Azure).0, &azure);
    }
}

#[test]
fn the_samples_are_one_workload() {
    let sample = |name: &str| {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("traces/samples").join(name);
        trace::read(&TraceSpec::new(path), &[]).unwrap()
    };
    let (mooncake, notes) = sample("mooncake.jsonl");
    assert_eq!((mooncake.len(), notes.format), (300, TraceFormat::Mooncake));
    let prefix = mooncake.prefix.clone().unwrap();
    assert_eq!(prefix.of(0)[0], prefix.of(1)[0]);
    let plain = Workload { prefix: None, ..mooncake };
    assert_ne!(plain.fingerprint(), Workload { prefix: Some(prefix), ..plain.clone() }.fingerprint());
    for (name, format, skipped) in
        [("vidur.csv", TraceFormat::Vidur, 0), ("azure.csv", TraceFormat::Azure, 0), ("burstgpt.csv", TraceFormat::BurstGpt, 12)]
    {
        let (workload, notes) = sample(name);
        assert_eq!((notes.format, notes.skipped), (format, skipped));
        assert_eq!(workload, plain, "{name}");
    }
    // The published bytes are what is written, too.
    for (name, format) in [("vidur.csv", TraceFormat::Vidur), ("mooncake.jsonl", TraceFormat::Mooncake)] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("traces/samples").join(name);
        assert!(round_trip(&sample(name).0, format).1 == std::fs::read(path).unwrap(), "{name}");
    }
}

#[test]
fn failures_of_burstgpt_are_kept_on_demand() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("traces/samples/burstgpt.csv");
    let (workload, notes) = trace::read(&TraceSpec { keep_failures: true, ..TraceSpec::new(path) }, &[]).unwrap();
    assert_eq!((workload.len(), notes.skipped), (312, 0));
    assert_eq!(workload.decode_tokens[8], 1);
}

#[test]
fn cut_prompts_lose_their_last_blocks() {
    let dir = tempfile::tempdir().unwrap();
    let line = r#"{"timestamp": 1500.5, "input_length": 1300, "output_length": 24, "hash_ids": [7, 8, 9], "session_id": 3}"#;
    std::fs::write(dir.path().join("t"), line).unwrap();
    let spec = TraceSpec { max_tokens: Some(1024), ..TraceSpec::new("t") };
    let (workload, notes) = trace::read(&spec, &[dir.path().into()]).unwrap();
    assert_eq!((workload.arrived_at_s[0], workload.prefill_tokens[0], notes.cut), (1.5005, 1000, 1));
    assert_eq!(workload.prefix.unwrap().of(0), [7, 8]);
}

#[test]
fn complaints() {
    let read = |content: &str| {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("trace"), content).unwrap();
        let complaint = super::load_json(json!({"name": "t", "trace": {"path": "trace"}}), 1, &[dir.path().into()]).unwrap_err();
        complaint.to_string().split_once("/trace").unwrap().1.to_owned()
    };
    let example = r#"expected a line such as {"timestamp": 0, "input_length": 6758, "output_length": 500, "hash_ids": [0, 1]}"#;
    assert_eq!(read(r#"{"timestamp": 0}"#), format!(", line 1: missing field `input_length` (byte 16), {example}"));
    assert_eq!(read(r#"{"timestamp": 0"#), format!(", line 1: EOF while parsing an object (byte 15), {example}"));
    assert_eq!(
        read(r#"{"timestamp": "now", "input_length": 1, "output_length": 1}"#),
        ", line 1, column `timestamp`: `\"now\"` found, expected milliseconds as a finite number of at least 0"
    );
    assert_eq!(
        read(r#"{"timestamp": 1, "input_length": -1, "output_length": 1}"#),
        ", line 1, column `input_length`: `-1` found, expected a number of tokens from 0 to 1000000000"
    );
    assert_eq!(
        read("when,what\n1,2\n"),
        ", line 1: `when,what` found, expected the first line of a known format: \
         `vidur` (arrived_at,num_prefill_tokens,num_decode_tokens), `azure` (TIMESTAMP,ContextTokens,GeneratedTokens), \
         `mooncake` ({\"timestamp\": 0, \"input_length\": 6758, \"output_length\": 500, \"hash_ids\": [0, 1]}), \
         `burstgpt` (Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type)"
    );

    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("trace");
    let mut workload = Workload::default();
    workload.push(1e12, 1, 1);
    let complaint = TraceFormat::BurstGpt.write(&workload, &file).unwrap_err().to_string();
    assert!(complaint.ends_with("/trace: BurstGPT traces are only read, expected `vidur`, `azure` or `mooncake` to write"), "{complaint}");
    let complaint = TraceFormat::Azure.write(&workload, &file).unwrap_err().to_string();
    assert!(complaint.ends_with("/trace: an arrival at 1000000000000 s, later than this format can tell"), "{complaint}");
    assert!(!file.exists());
}
