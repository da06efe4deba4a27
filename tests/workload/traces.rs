//! Traces written by the tests: values, changes on the way in, and one case for every complaint.

use std::fs;
use std::path::PathBuf;

use scalefront::workload::{Workload, WorkloadError};
use serde_json::{Value, json};

const VIDUR: &str = "arrived_at,num_prefill_tokens,num_decode_tokens\n";
const AZURE: &str = "TIMESTAMP,ContextTokens,GeneratedTokens\r\n";

/// Reads `content` as a trace named `trace` with further settings.
fn read(content: impl AsRef<[u8]>, settings: Value) -> Result<Workload, WorkloadError> {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("trace"), content).unwrap();
    let mut trace = json!({"path": "trace"});
    trace.as_object_mut().unwrap().extend(settings.as_object().unwrap().clone());
    super::load_json(json!({"name": "t", "trace": trace}), 1, &[dir.path().into()])
}

/// The complaint about a trace, without the folder's changing name.
fn complaint(content: impl AsRef<[u8]>, settings: Value) -> String {
    let text = read(content, settings).unwrap_err().to_string();
    match text.split_once("/trace") {
        Some((_, rest)) => format!("trace{rest}"),
        None => text,
    }
}

fn columns(workload: &Workload) -> Vec<(f64, u32, u32)> {
    (0..workload.len())
        .map(|i| (workload.arrived_at_s[i], workload.prefill_tokens[i], workload.decode_tokens[i]))
        .collect()
}

#[test]
fn vidur_is_read_bit_for_bit() {
    let workload =
        read(format!("{VIDUR}0.006827693844968508,256,1\n3599.9767587201777,12.0,34\n"), json!({})).unwrap();
    assert_eq!(columns(&workload), [(0.006827693844968508, 256, 1), (3599.9767587201777, 12, 34)]);
}

#[test]
fn columns_are_found_by_name_and_text_quirks_do_not_matter() {
    let content = "\u{feff}\"id\",num_decode_tokens,\"num_prefill_tokens\",arrived_at\r\n\r\n\"a,\"\"b\",7, 300 ,-0.0\r\nc,8,400,1e0";
    assert_eq!(columns(&read(content, json!({})).unwrap()), [(0.0, 300, 7), (1.0, 400, 8)]);
    assert!(read(content, json!({})).unwrap().arrived_at_s[0].is_sign_positive());
}

#[test]
fn azure_counts_nanoseconds_from_the_first_request() {
    let content = format!(
        "{AZURE}2023-11-16 18:17:03.9799600,4808,10\r\n2023-11-16 18:17:04.0319600,3180,8\r\n2023-11-16 18:17:05,1,0"
    );
    assert_eq!(
        columns(&read(content, json!({})).unwrap()),
        [(0.0, 4808, 10), (0.052, 3180, 8), (1.02004, 1, 1)]
    );
}

#[test]
fn azure_of_2024_carries_offsets() {
    let content = format!(
        "{AZURE}2024-05-12 00:00:00+00:00,1,1\n2024-05-12 02:00:00.007909+02:00,1,1\n2024-05-12T00:00:01Z,1,1\n"
    );
    assert_eq!(read(content, json!({})).unwrap().arrived_at_s, [0.0, 0.007909, 1.0]);
}

#[test]
fn lengths_and_times_are_scaled_then_cut() {
    let content = format!("{VIDUR}1,100,10\n2,3,0\n3,5000,300\n4,9,9000\n");
    let settings =
        json!({"time_scale": 0.5, "prefill_scale": 0.333, "decode_scale": 1.5, "max_tokens": 1000});
    let expected = [(0.5, 33, 15), (1.0, 1, 1), (1.5, 550, 450), (2.0, 1, 999)];
    assert_eq!(columns(&read(content, settings).unwrap()), expected);
}

#[test]
fn sorting_keeps_ties_in_order_and_limits_come_after_it() {
    let content = format!("{VIDUR}5,1,1\n2,2,1\n5,3,1\n1,4,1\n");
    let workload = read(&content, json!({"sort": true, "max_requests": 3})).unwrap();
    assert_eq!(columns(&workload), [(1.0, 4, 1), (2.0, 2, 1), (5.0, 1, 1)]);
    let azure = format!("{AZURE}2023-11-16 18:17:04,1,1\n2023-11-16 18:17:03,2,1\n");
    assert_eq!(columns(&read(azure, json!({"sort": true})).unwrap()), [(0.0, 2, 1), (1.0, 1, 1)]);
}

#[test]
fn lines_after_the_last_wanted_request_are_not_read() {
    assert_eq!(read(format!("{VIDUR}1,1,1\n2,1,1\nbroken\n"), json!({"max_requests": 2})).unwrap().len(), 2);
}

#[test]
fn complaints_about_files() {
    assert_eq!(complaint("", json!({})), "trace: an empty file found, expected a trace");
    assert_eq!(complaint(VIDUR, json!({})), "trace: no request found, expected at least one");
    assert_eq!(
        complaint([0xff, 0xfe, b'a', 0], json!({})),
        "trace, line 1: UTF-16 text found, expected UTF-8; save the file as UTF-8"
    );
    assert_eq!(
        complaint([VIDUR.as_bytes(), b"1,\xff,2\n"].concat(), json!({})),
        "trace, line 2: not UTF-8 text (byte 3)"
    );
    assert_eq!(
        complaint("a,b\n1,2\n", json!({"format": "vidur"})),
        "trace, line 1: header `a,b` found, expected also the columns `arrived_at`, `num_prefill_tokens`, `num_decode_tokens`"
    );

    let spec = json!({"name": "t", "trace": {"path": "no.csv"}});
    let missing =
        super::load_json(spec, 1, &["traces".into(), PathBuf::from("/data")]).unwrap_err().to_string();
    assert_eq!(missing, "`no.csv`: no such file or directory; looked for `traces/no.csv`, `/data/no.csv`");
    let spec = json!({"name": "t", "trace": {"path": "tests"}});
    assert_eq!(
        super::load_json(spec, 1, &[]).unwrap_err().to_string(),
        "tests: a directory found, expected a file"
    );
}

#[test]
fn complaints_about_values() {
    let about = |lines: &str| complaint(format!("{VIDUR}1,1,1\n{lines}\n"), json!({}));
    let seconds = "expected seconds as a finite number of at least 0";
    for found in ["nan", "inf", "-1", "soon", ""] {
        assert_eq!(
            about(&format!("{found},1,1")),
            format!("trace, line 3, column `arrived_at`: `{found}` found, {seconds}")
        );
    }
    let tokens = "expected a number of tokens from 0 to 1000000000";
    for found in ["many", "-3", "NaN", "2e9"] {
        assert_eq!(
            about(&format!("2,{found},1")),
            format!("trace, line 3, column `num_prefill_tokens`: `{found}` found, {tokens}")
        );
    }
    assert_eq!(about("2,1"), "trace, line 3: 2 fields found, expected 3 as in the header");
    assert_eq!(
        about("0.5,1,1"),
        "trace, line 3: arrives 0.5 s before the request above it, expected arrivals in order of time; sort the trace, or set `sort` to true"
    );
    for found in ["2023-13-01 00:00:00", "yesterday", "18:17:03"] {
        let expected = format!(
            "trace, line 2, column `TIMESTAMP`: `{found}` found, expected a time such as `2023-11-16 18:17:03.9799600`"
        );
        assert_eq!(complaint(format!("{AZURE}{found},1,1\r\n"), json!({})), expected);
    }
    assert_eq!(
        complaint(format!("{VIDUR}1,900,1\n"), json!({"prefill_scale": 1e9})),
        "trace, line 2: 900000000000 tokens after `prefill_scale` 1000000000, expected at most 1000000000"
    );
    assert_eq!(
        complaint(format!("{VIDUR}1e300,1,1\n"), json!({"time_scale": 1e9})),
        "trace, line 2: arrival out of range after `time_scale` 1000000000"
    );
}

#[test]
fn complaints_about_settings() {
    let spec = json!({"name": "t", "trace": {
        "path": "", "time_scale": 0, "max_requests": 0, "max_tokens": 1, "prefill_scale": -1, "decompressed_limit_bytes": 0,
    }});
    let expected = "workload `t`: trace.path: an empty path found, expected a file; \
        trace.time_scale: 0 found, expected a finite number above 0; \
        trace.prefill_scale: -1 found, expected a finite number above 0; \
        trace.max_requests: 0 found, expected at least 1; \
        trace.max_tokens: 1 found, expected at least 2; \
        trace.decompressed_limit_bytes: 0 found, expected at least 1";
    assert_eq!(super::load_json(spec, 1, &[]).unwrap_err().to_string(), expected);
}

/// What a trace tells of requests goes with their scaled and cut lengths; settings go before it.
#[test]
fn a_trace_tells_what_requests_may_generate_and_how_urgent_they_are() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("told.csv");
    let lines = "arrived_at,num_prefill_tokens,priority,num_decode_tokens,max_new_tokens\n\
                 0,100,,10,\n1,100,7,10,400\n2,100,-3,10,5\n3,950,0,10,100\n";
    fs::write(&file, lines).unwrap();
    let load = |more: Value| {
        let mut spec =
            json!({"name": "told", "trace": {"path": file, "decode_scale": 2, "max_tokens": 1000}});
        more.as_object().unwrap().iter().for_each(|(name, value)| spec[name] = value.clone());
        super::load_json(spec, 1, &[]).unwrap()
    };
    let most = |workload: &Workload| {
        let mut limits = workload.output_limits().unwrap();
        workload.decode_tokens.iter().map(|&tokens| limits.next(tokens)).collect::<Vec<_>>()
    };
    let told = load(json!({}));
    assert_eq!(most(&told), [20, 800, 20, 50]);
    assert_eq!(told.priorities().unwrap().collect::<Vec<_>>(), [0, 7, -3, 0]);
    let set = load(
        json!({"outputs": {"max_new_tokens": {"fixed": {"tokens": 64}}}, "priorities": [{"share": 1, "priority": 2}]}),
    );
    assert_eq!((most(&set), set.priorities().unwrap().take(2).collect()), (vec![64; 4], vec![2, 2]));
    assert!(load(json!({"outputs": {"ignore_eos": true}})).output_limits().is_none());

    fs::write(&file, lines.replace(",7,", ",urgent,")).unwrap();
    let spec = json!({"name": "told", "trace": {"path": file}});
    let error = super::load_json(spec, 1, &[]).unwrap_err().to_string();
    assert!(
        error.contains("priority") && error.contains("`urgent`") && error.contains("a whole number"),
        "{error}"
    );
}
