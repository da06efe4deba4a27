//! Traces written and read back, and the samples, which are one workload in every format.

use std::path::Path;

use proptest::prelude::*;
use scalefront::workload::formats::TraceFormat;
use scalefront::workload::{PrefixBlocks, Told, TraceSpec, Workload, trace};
use serde_json::json;

fn round_trip(workload: &Workload, format: TraceFormat) -> (Workload, Vec<u8>) {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("trace");
    format.write(workload, &file).unwrap();
    assert_eq!(std::fs::read_dir(&dir).unwrap().count(), 1, "no temporary file is left");
    (trace::read(&TraceSpec::new(&file), &[]).unwrap().0, std::fs::read(file).unwrap())
}

/// Requests whose prompts begin alike in some blocks: ids for all of a prompt, for some of it, or for none.
fn any_workload() -> impl Strategy<Value = Workload> {
    let request = (0.0f64..1e4, 1u32..20_000, 1u32..5000, any::<u64>(), 0usize..60);
    let block_tokens = prop::sample::select(vec![512, 16, 1, 64, 100, 4096]);
    (prop::collection::vec(request, 1..20), block_tokens, 0..3, any::<[bool; 2]>()).prop_map(
        |(requests, block_tokens, ids_are, told)| {
            let mut workload =
                Workload { prefix: Some(PrefixBlocks::new(block_tokens)), ..Workload::default() };
            for (at, prefill, decode, own, shared) in requests {
                workload.push(at, prefill, decode);
                let blocks = match ids_are {
                    0 => prefill.div_ceil(block_tokens) as usize,
                    1 => shared,
                    _ => 0,
                };
                let ids: Vec<u64> = (0..blocks)
                    .map(|block| if block < shared { block as u64 } else { own ^ block as u64 })
                    .collect();
                workload.prefix.as_mut().unwrap().push(&ids, prefill);
            }
            let own = |request: u32| request.wrapping_mul(0x9e37_79b9);
            let more = |(request, tokens): (u32, &u32)| tokens + own(request) % 100;
            workload.told = Told {
                max_new_tokens: told[0].then(|| (0..).zip(&workload.decode_tokens).map(more).collect()),
                priorities: told[1]
                    .then(|| (0..workload.len() as u32).map(|request| own(request).cast_signed()).collect()),
            };
            workload.sort();
            workload.prefix = workload.prefix.filter(|prefix| !prefix.ids().is_empty());
            workload
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    /// Tokens and prompts come back from every format, arrivals as exactly as it says.
    #[test]
    fn what_is_written_is_read_back(workload in any_workload()) {
        for format in TraceFormat::ALL {
            if format.write(&workload, Path::new("/nonexistent/trace")).is_err_and(|error| error.to_string().contains("only read")) {
                continue;
            }
            let again = round_trip(&workload, format).0;
            prop_assert_eq!((&again.prefill_tokens, &again.decode_tokens), (&workload.prefill_tokens, &workload.decode_tokens));
            prop_assert_eq!((&again.prefix, &again.told), (&workload.prefix, &workload.told), "{:?}", format);
            if format == TraceFormat::Azure {
                for (found, at) in again.arrived_at_s.iter().zip(&workload.arrived_at_s) {
                    prop_assert!((found - (at - workload.arrived_at_s[0])).abs() <= 1.01e-7);
                }
                prop_assert_eq!(&round_trip(&again, format).0, &again);
            } else {
                prop_assert_eq!(&again, &workload, "{:?}", format);
            }
        }
    }

    /// A window holds the requests of its time and no others, shifted to its start, whatever the format's
    /// clock and the order of lines.
    #[test]
    fn windows_hold_their_time(workload in any_workload(), start_s in 0.0f64..1e4, duration_s in 1.0f64..5e3, sort in any::<bool>()) {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("trace");
        TraceFormat::Vidur.write(&workload, &file).unwrap();
        if sort {
            let text = std::fs::read_to_string(&file).unwrap();
            let (header, rows) = text.split_once('\n').unwrap();
            let rows: Vec<&str> = rows.lines().rev().collect();
            std::fs::write(&file, format!("{header}\n{}\n", rows.join("\n"))).unwrap();
        }
        let spec = TraceSpec { start_s: Some(start_s), duration_s: Some(duration_s), sort, ..TraceSpec::new(&file) };
        let wanted: Vec<usize> = (0..workload.len()).filter(|&request| {
            let since_s = workload.arrived_at_s[request] - start_s;
            (0.0..duration_s).contains(&since_s)
        }).collect();
        match trace::read(&spec, &[]) {
            Err(error) => {
                prop_assert!(wanted.is_empty(), "{}", error);
                prop_assert!(error.to_string().contains("no request from `start_s`"), "{}", error);
            }
            Ok((found, _)) => {
                let expected: Vec<f64> = wanted.iter().map(|&request| workload.arrived_at_s[request] - start_s).collect();
                prop_assert_eq!(&found.arrived_at_s, &expected);
                prop_assert_eq!(found.duration_s, Some(duration_s));
                let mut ids: Vec<&[u64]> = wanted.iter().map(|&request| workload.prefix.as_ref().map_or(&[][..], |prefix| prefix.of(request))).collect();
                let mut found_ids: Vec<&[u64]> = (0..found.len()).map(|request| found.prefix.as_ref().map_or(&[][..], |prefix| prefix.of(request))).collect();
                ids.sort();
                found_ids.sort();
                prop_assert_eq!(found_ids, ids);
            }
        }
    }
}

#[test]
fn exports_say_what_is_lost() {
    let mut workload =
        Workload { prefix: Some(PrefixBlocks::new(16)), duration_s: Some(60.0), ..Workload::default() };
    workload.push(0.5, 40, 1);
    workload.prefix.as_mut().unwrap().push(&[1, 2, 3], 40);
    let lost = |format: TraceFormat| format.lost_by(&workload).join("; ");
    let silence =
        "the 59.500 s of silence after the last request are in no trace: read it with `\"duration_s\": 60`";
    assert!(lost(TraceFormat::Mooncake).starts_with(silence));
    assert!(lost(TraceFormat::Mooncake).contains("stand for blocks of 16 prompt tokens, not 512"));
    assert!(lost(TraceFormat::Vidur).contains("two more columns, `block_tokens` and `hash_ids`"));
    assert!(lost(TraceFormat::Azure).contains("all arrivals are 0.5 s earlier"));
    assert!(
        String::from_utf8(round_trip(&workload, TraceFormat::Mooncake).1)
            .unwrap()
            .contains(r#""hash_ids": [1, 2, 3], "block_size": 16}"#)
    );
    assert!(
        String::from_utf8(round_trip(&workload, TraceFormat::Vidur).1)
            .unwrap()
            .ends_with(",block_tokens,hash_ids\n0.5,40,1,16,1 2 3\n")
    );
    let plain = Workload { prefix: None, duration_s: None, ..workload.clone() };
    assert_eq!(TraceFormat::Mooncake.lost_by(&plain), Vec::<String>::new());
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
    for (name, format, skipped) in [
        ("vidur.csv", TraceFormat::Vidur, 0),
        ("azure.csv", TraceFormat::Azure, 0),
        ("burstgpt.csv", TraceFormat::BurstGpt, 12),
    ] {
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
    let (workload, notes) =
        trace::read(&TraceSpec { keep_failures: true, ..TraceSpec::new(path) }, &[]).unwrap();
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
        let complaint =
            super::load_json(json!({"name": "t", "trace": {"path": "trace"}}), 1, &[dir.path().into()])
                .unwrap_err();
        complaint.to_string().split_once("/trace").unwrap().1.to_owned()
    };
    let example = r#"expected a line such as {"timestamp": 0, "input_length": 6758, "output_length": 500, "hash_ids": [0, 1]}"#;
    assert_eq!(
        read(r#"{"timestamp": 0}"#),
        format!(", line 1: missing field `input_length` (byte 16), {example}")
    );
    assert_eq!(
        read(r#"{"timestamp": 0"#),
        format!(", line 1: EOF while parsing an object (byte 15), {example}")
    );
    assert_eq!(
        read(r#"{"timestamp": "now", "input_length": 1, "output_length": 1, "hash_ids": []}"#),
        ", line 1, column `timestamp`: `\"now\"` found, expected milliseconds as a finite number of at least 0"
    );
    assert_eq!(
        read(r#"{"timestamp": 1, "input_length": -1, "output_length": 1, "hash_ids": []}"#),
        ", line 1, column `input_length`: `-1` found, expected a number of tokens from 0 to 1000000000"
    );
    assert_eq!(
        read("when,what\n1,2\n"),
        ", line 1: `when,what` found, expected the first line of a known format: \
         `vidur` (arrived_at,num_prefill_tokens,num_decode_tokens), `azure` (TIMESTAMP,ContextTokens,GeneratedTokens), \
         `mooncake` ({\"timestamp\": 0, \"input_length\": 6758, \"output_length\": 500, \"hash_ids\": [0, 1]}), \
         `mooncake_delta` (sessions), `agentic_mooncake` (sessions), `aiperf_sessions` (sessions), `vllm_multi_turn` (sessions), \
         `guidellm_synthetic` (sessions), `qwen_bailian` ({\"chat_id\": 0, \"parent_chat_id\": -1, \"timestamp\": 0.5, \"input_length\": 30, \"output_length\": 90, \
         \"turn\": 1, \"hash_ids\": [0, 1]}), \
         `burstgpt` (Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type), `vllm_bench` (results of vllm bench serve), \
         `guidellm` (results of GuideLLM), `aiperf` (results of AIPerf), `inference_perf` (results of inference-perf), \
         `sglang_bench` (results of SGLang's bench_serving)"
    );

    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("trace");
    let mut workload = Workload::default();
    workload.push(1e12, 1, 1);
    let complaint = TraceFormat::BurstGpt.write(&workload, &file).unwrap_err().to_string();
    assert!(
        complaint.ends_with("/trace: traces in `burstgpt` format are only read, expected one of `vidur`, `azure`, `mooncake` to write"),
        "{complaint}"
    );
    let complaint = TraceFormat::Azure.write(&workload, &file).unwrap_err().to_string();
    assert!(
        complaint.ends_with("/trace: an arrival at 1000000000000 s, later than this format can tell"),
        "{complaint}"
    );
    assert!(!file.exists());
}
