//! What a trace means beside its numbers: units, blocks, sessions; what is assumed and what is doubted.

use scalefront::workload::TraceSpec;
use scalefront::workload::formats::{TimeUnit, TraceFormat};

use super::{as_given, complaint_of_trace as complaint, read_trace as read};

fn in_seconds(spec: &mut TraceSpec) {
    spec.time_unit = Some(TimeUnit::Seconds);
}

/// Lines with Mooncake's names, one each `every` of whatever a timestamp counts, with ids of blocks of so
/// many tokens.
fn lines(requests: u32, every: f64, block_tokens: u32, more: &str) -> String {
    let line = |k: u32| {
        let input = 700 + 37 * (k % 9);
        let ids: Vec<String> =
            (0..input.div_ceil(block_tokens)).map(|block| (block + 100 * (k % 3)).to_string()).collect();
        let at = f64::from(k) * every;
        format!(
            "{{{more}\"timestamp\": {at}, \"input_length\": {input}, \"output_length\": 5, \"hash_ids\": [{}]}}\n",
            ids.join(", ")
        )
    };
    (0..requests).map(line).collect()
}

const CHAT: &str = r#""chat_id": 7, "parent_chat_id": -1, "turn": 1, "type": "text", "#;

#[test]
fn qwen_bailian_is_told_by_its_chats() {
    let (workload, notes) = read(&lines(40, 0.9, 16, CHAT), as_given).unwrap();
    assert_eq!((notes.format, notes.time_unit), (TraceFormat::QwenBailian, Some(TimeUnit::Seconds)));
    assert_eq!((workload.arrived_at_s[10], workload.prefix.unwrap().block_tokens), (9.0, 16));
    assert_eq!((notes.doubts.len(), notes.mismatched), (0, 0));
    assert_eq!(notes.not_read, ["chat_id", "parent_chat_id", "turn", "type"]);
    let assumed = notes.assumed.join("; ");
    assert!(
        assumed.contains("`qwen_bailian`, by the first line")
            && assumed.contains("count seconds")
            && assumed.contains("for 16 prompt tokens")
    );

    // Named as what it is not, it is refused by its blocks; told what it is, it is read.
    let told = complaint(&lines(40, 0.9, 16, CHAT), |spec| spec.format = Some(TraceFormat::Mooncake));
    assert!(
        told.contains(
            "40 of 40 requests have another number of `hash_ids` than their prompt has blocks of 512 tokens"
        ),
        "{told}"
    );
    assert!(told.ends_with("40 fit blocks of 16: set `block_tokens` to 16, and `time_unit` to \"s\" if timestamps are seconds"), "{told}");
}

#[test]
fn units_and_blocks_are_as_told() {
    let set =
        |spec: &mut TraceSpec| (spec.time_unit, spec.block_tokens) = (Some(TimeUnit::Seconds), Some(64));
    let (workload, notes) = read(&lines(40, 0.9, 64, ""), set).unwrap();
    assert_eq!(
        (workload.arrived_at_s[10], workload.prefix.unwrap().block_tokens, notes.doubts.len()),
        (9.0, 64, 0)
    );
    assert_eq!(notes.assumed, ["the format is `mooncake`, by the first line"]);

    // Milliseconds are shifted, not divided.
    let vidur = "arrived_at,num_prefill_tokens,num_decode_tokens\n27,5,5\n3536999,5,5\n";
    let workload = read(vidur, |spec| spec.time_unit = Some(TimeUnit::Milliseconds)).unwrap().0;
    assert_eq!(workload.arrived_at_s, [0.027, 3536.999]);

    let azure = "TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:17:03.9799600,48,10\n";
    assert_eq!(
        complaint(azure, in_seconds),
        ": a trace in `azure` format found, whose times need no unit; leave out `time_unit`"
    );
    let told = complaint(azure, |spec| spec.block_tokens = Some(16));
    assert_eq!(
        told,
        ", line 2: no `hash_ids` found in a trace in `azure` format; leave out `block_tokens` (16)"
    );
    let told = complaint(&lines(2, 1.0, 16, "\"block_size\": 16, "), |spec| spec.block_tokens = Some(32));
    assert_eq!(told, ", line 1: blocks of 16 tokens found, `block_tokens` is 32; leave it out");
    let both = lines(1, 1.0, 512, "") + &lines(1, 1.0, 16, "\"block_size\": 16, ");
    assert_eq!(
        complaint(&both, as_given),
        ", line 2: blocks of 16 tokens found after such of 512, expected one size in a trace"
    );
}

#[test]
fn ids_that_do_not_fit_are_counted() {
    let some = lines(30, 500.0, 512, "")
        + r#"{"timestamp": 20000, "input_length": 9000, "output_length": 5, "hash_ids": [1, 2]}"#;
    let (_, notes) = read(&some, as_given).unwrap();
    assert_eq!(notes.mismatched, 1);
    assert_eq!(
        notes.doubts,
        ["1 of 31 requests have another number of `hash_ids` than their prompt has blocks of 512 tokens"]
    );
    // Whoever says what a block holds is believed, and told.
    let (_, notes) = read(&lines(30, 500.0, 16, ""), |spec| spec.block_tokens = Some(512)).unwrap();
    assert_eq!((notes.mismatched, notes.doubts.len()), (30, 1));
    // No ids are no mismatch.
    let (workload, notes) =
        read(r#"{"timestamp": 0, "input_length": 9000, "output_length": 5, "hash_ids": []}"#, as_given)
            .unwrap();
    assert_eq!((workload.prefix, notes.mismatched, notes.block_tokens), (None, 0, None));
}

#[test]
fn seconds_taken_for_milliseconds_are_doubted() {
    for (every, doubted) in
        [(0.9, true), (1.0, true), (7.125, true), (500.0, false), (100.0, false), (33.333_333_333, false)]
    {
        let doubts = read(&lines(40, every, 512, ""), as_given).unwrap().1.doubts;
        assert_eq!(doubts.len(), usize::from(doubted), "{every}: {doubts:?}");
        assert!(
            !doubted || doubts[0].ends_with("if they are seconds, set `time_unit` to \"s\""),
            "{doubts:?}"
        );
        assert_eq!(read(&lines(40, every, 512, ""), in_seconds).unwrap().1.doubts.len(), 0);
    }
}

#[test]
fn without_hash_ids_the_unit_has_to_be_said() {
    let guidellm = "{\"timestamp\": 0.5, \"input_length\": 30, \"output_length\": 5}\n{\"timestamp\": 1.5, \"input_length\": 30, \"output_length\": 5}\n";
    let told = complaint(guidellm, as_given);
    assert!(
        told.starts_with(", line 1: no `hash_ids` found beside `timestamp`")
            && told.ends_with("say which with `time_unit`, \"ms\" or \"s\""),
        "{told}"
    );
    assert_eq!(read(guidellm, in_seconds).unwrap().0.arrived_at_s, [0.5, 1.5]);
    assert_eq!(
        read(guidellm, |spec| spec.format = Some(TraceFormat::Mooncake)).unwrap().0.arrived_at_s,
        [0.0005, 0.0015]
    );
}

#[test]
fn layouts_of_sessions_that_are_not_read_are_refused_by_their_names() {
    for (line, name) in [
        (
            r#"{"session_id": "a", "arrival_time_ns": 5, "sub_requests": [{"input_toks": 4}]}"#,
            "LLMServingSim's layout",
        ),
        (
            r#"{"id": "a", "block_size": 64, "hash_id_scope": "local", "requests": [{"t": 0, "in": 5, "out": 6}]}"#,
            "weka",
        ),
    ] {
        let told = complaint(line, as_given);
        assert!(
            told.contains(name)
                && told.contains("is not read: expected one request a line with a `timestamp` of its own"),
            "{told}"
        );
    }
    let nameless = "{\"timestamp\": 0, \"input_length\": 30, \"output_length\": 5, \"hash_ids\": [1]}\n\
                    {\"delay\": 4000, \"input_length\": 30, \"output_length\": 5, \"hash_ids\": [1]}\n";
    let told = complaint(nameless, as_given);
    assert!(
        told.starts_with(
            ", line 2: a request with `delay` and no `timestamp` found, the later turn of a session"
        ),
        "{told}"
    );
    assert!(
        told.ends_with("expected also the `session_id` of each request, and no `loop` \"open\""),
        "{told}"
    );
    // Turns that all have their times are requests like others; what is not kept of them is named.
    let (workload, notes) =
        read(&lines(3, 500.0, 512, "\"session_id\": \"a\", \"delay\": 5, "), as_given).unwrap();
    assert_eq!((workload.len(), notes.not_read), (3, vec!["session_id".to_owned(), "delay".to_owned()]));
}

#[test]
fn what_is_not_read_is_named() {
    let azure =
        "TIMESTAMP,NumImages,ContextTokens,GeneratedTokens,Region\n2024-10-15 00:00:10+00:00,3,48,10,x\n";
    let notes = read(azure, as_given).unwrap().1;
    assert_eq!(notes.not_read, ["NumImages", "Region"]);
    assert_eq!(
        notes.doubts,
        ["`NumImages` not read: requests are taken to have no more work than their text tokens"]
    );
    assert_eq!(
        notes.assumed,
        ["the format is `azure`, by the first line", "time starts at the first request"]
    );
}

#[test]
fn json_spread_over_lines_gets_a_remedy() {
    for document in [
        "{\n  \"timestamp\": 0,\n  \"input_length\": 5\n}\n",
        "[\n{}\n]",
        "[{\"timestamp\": 0}]",
        "{ \"timestamp\": 0,\n\"x\": 1}",
    ] {
        let told = complaint(document, as_given);
        assert!(
            told.starts_with(", line 1: a JSON document found, expected JSON lines, one request each; `jq -c '.[]' FILE` makes lines"),
            "{told}"
        );
    }
}

#[test]
fn windows_count_the_traces_own_time() {
    let rows: String = (0..100).map(|k| format!("{k},5,{}\n", k + 1)).collect();
    let vidur = format!("arrived_at,num_prefill_tokens,num_decode_tokens\n{rows}");
    let window = |start_s: f64, duration_s: f64| {
        move |spec: &mut TraceSpec| {
            (spec.start_s, spec.duration_s, spec.time_scale) = (Some(start_s), Some(duration_s), 0.5)
        }
    };
    let workload = read(&vidur, window(30.0, 40.0)).unwrap().0;
    assert_eq!(
        (workload.len(), workload.decode_tokens[0], workload.arrived_at_s[1], workload.duration_s),
        (40, 31, 0.5, Some(20.0))
    );
    // Silence at the end counts.
    let workload = read(&vidur, window(90.0, 1000.0)).unwrap().0;
    assert_eq!((workload.len(), workload.duration_s), (10, Some(500.0)));
    // Unless more requests would come.
    let few = |most: u64| {
        move |spec: &mut TraceSpec| (spec.duration_s, spec.max_requests) = (Some(50.0), Some(most))
    };
    let workload = read(&vidur, few(20)).unwrap().0;
    assert_eq!((workload.len(), workload.duration_s), (20, None));
    assert_eq!(read(&vidur, few(50)).unwrap().0.duration_s, Some(50.0));
    let told = complaint(&vidur, window(100.0, 10.0));
    assert_eq!(told, ": no request from `start_s` 100 s to 110 s found: its requests come at 0 s to 99 s");

    // Where time starts at the first request, so does the window.
    let burst: String = (0..100).map(|k| format!("{},5,{}\n", 500 + k, k + 1)).collect();
    let burst = format!("Timestamp,Request tokens,Response tokens\n{burst}");
    let workload = read(&burst, window(30.0, 40.0)).unwrap().0;
    assert_eq!((workload.len(), workload.decode_tokens[0], workload.arrived_at_s[0]), (40, 31, 0.0));
}

/// What is mended in lengths is said; a column that stands twice is refused, since either may be meant.
#[test]
fn lengths_that_are_mended_are_told() {
    let rows = |rows: &str| format!("arrived_at,num_prefill_tokens,num_decode_tokens\n{rows}");
    let (workload, notes) = read(&rows("0,0,5\n1,20,0\n2,5.7,2\n3,256.0,1\n"), as_given).unwrap();
    assert_eq!((workload.prefill_tokens, workload.decode_tokens), (vec![1, 20, 5, 256], vec![5, 1, 2, 1]));
    let assumed = notes.assumed.join("; ");
    assert!(assumed.contains("2 requests with 0 tokens of prompt or output: they count 1"), "{assumed}");
    assert!(assumed.contains("1 request with parts of tokens: whole ones count"), "{assumed}");
    let (_, notes) = read(&rows("0,1,5\n"), as_given).unwrap();
    assert!(!notes.assumed.join("; ").contains("tokens"), "{:?}", notes.assumed);

    let twice = "arrived_at,num_prefill_tokens,num_decode_tokens,num_decode_tokens\n0,5,2,9\n";
    assert!(complaint(twice, as_given).contains("column `num_decode_tokens` found more than once"));
}
