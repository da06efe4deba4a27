//! Published files of sessions.

use scalefront::workload::formats::TraceFormat;
use scalefront::workload::trace::TraceLoop;
use scalefront::workload::{TraceSpec, Workload};

use super::{as_given, complaint_of_trace as complaint, read_trace as read};

fn closed(spec: &mut TraceSpec) {
    spec.closing = Some(TraceLoop::Closed);
}

fn pauses(workload: &Workload) -> Vec<(u32, u32, u32, f64)> {
    let sessions = workload.sessions.as_ref().unwrap();
    (0..workload.len())
        .map(|at| (sessions.session[at], sessions.turn[at], sessions.waits_for[at], sessions.pause_s[at]))
        .collect()
}

const MOONCAKE: &str = r#"{"session_id": "a", "timestamp": 1000, "input_length": 1024, "output_length": 512, "hash_ids": [1, 2]}
{"session_id": "b", "timestamp": 1500, "input_length": 600, "output_length": 10, "hash_ids": [1, 9]}
{"session_id": "a", "delay": 4000, "input_length": 2048, "output_length": 50, "hash_ids": [1, 2, 3, 4]}
{"session_id": "b", "delay_ms": 500, "input_length": 700, "output_length": 20, "hash_ids": [1, 8]}
"#;

#[test]
fn mooncakes_later_turns_come_some_time_after_the_answer() {
    let (workload, notes) = read(MOONCAKE, as_given).unwrap();
    assert_eq!(notes.format, TraceFormat::Mooncake);
    // In order of the earliest moment: b's second turn may come at 2 s, a's at 5 s.
    assert_eq!(pauses(&workload), [(0, 1, 0, 1.0), (1, 1, 0, 1.5), (1, 2, 1, 0.5), (0, 2, 1, 4.0)]);
    assert_eq!(workload.arrived_at_s, [1.0, 1.5, 2.0, 5.0]);
    assert_eq!(workload.prefill_tokens, [1024, 600, 700, 2048]);
    // What a's second prompt begins with was said in its first turn, the answer included: three blocks of 512.
    let prompts = workload.prompts().unwrap();
    let [first, second] = [0, 3].map(|request| prompts.of(request).runs.to_vec());
    assert_eq!(first.last().unwrap().end, 3);
    assert_eq!(second[..first.len()], first[..]);
    // All at half the time.
    let (faster, _) = read(MOONCAKE, |spec| spec.time_scale = 0.5).unwrap();
    assert_eq!(faster.arrived_at_s, [0.5, 0.75, 1.0, 2.5]);
    // One session at a time.
    let (lanes, _) = read(MOONCAKE, |spec| spec.lanes = Some(1)).unwrap();
    assert_eq!(lanes.arrived_at_s, [0.0, 4.0, 4.0, 4.5]);
}

#[test]
fn of_delta_only_what_is_new_is_written() {
    let (workload, _) = read(MOONCAKE, |spec| spec.format = Some(TraceFormat::MooncakeDelta)).unwrap();
    assert_eq!(workload.prefill_tokens, [1024, 600, 600 + 10 + 700, 1024 + 512 + 2048]);
    let prompts = workload.prompts().unwrap();
    let runs = |request| prompts.of(request).runs.to_vec();
    // Whole blocks of first prompts may be alike; what follows is the session's own, to the token.
    assert_eq!((runs(0)[0], runs(1)[0]), (runs(1)[0], runs(0)[0]));
    assert_eq!(runs(3)[..3], runs(0)[..]);
    assert_eq!((runs(0).last().unwrap().end, runs(3).last().unwrap().end), (1536, 1024 + 512 + 2048 + 50));
}

const AGENTS: &str = r#"{"request_id": "r", "timestamp": 0, "input_length": 100, "output_length": 10, "prefix_reset": true}
{"request_id": "x", "wait_for": ["r"], "delay": 100, "tool_wait_ms": 500, "input_length": 200, "output_length": 10}
{"request_id": "y", "wait_for": ["r"], "delay": 0, "input_length": 300, "output_length": 10}
{"request_id": "j", "wait_for": ["x", "y"], "tool_wait_ms": 250, "input_length": 400, "output_length": 10}
{"request_id": "other", "timestamp": 300, "input_length": 500, "output_length": 10}
"#;

#[test]
fn agents_fan_out_and_join() {
    let (workload, notes) = read(AGENTS, as_given).unwrap();
    assert_eq!(notes.format, TraceFormat::AgenticMooncake);
    assert_eq!(workload.prefill_tokens, [100, 300, 500, 200, 400]);
    assert_eq!(
        pauses(&workload),
        [(0, 1, 0, 0.0), (0, 2, 1, 0.0), (1, 1, 0, 0.3), (0, 2, 1, 0.6), (0, 3, 2, 0.25)]
    );
    assert_eq!(workload.sessions.unwrap().lengths, [4, 1]);
}

#[test]
fn agents_wait_for_what_they_name_and_nothing_else() {
    // Two roots of a session come when they come; what waits pauses as told, whenever it came when it was
    // recorded.
    let rows = r#"{"request_id": "a", "session_id": "s", "timestamp": 0, "input_length": 100, "output_length": 10}
{"request_id": "b", "session_id": "s", "timestamp": 500, "delay": 300, "input_length": 200, "output_length": 10}
{"request_id": "c", "session_id": "s", "timestamp": 9000, "wait_for": ["a", "b"], "input_length": 300, "output_length": 10}
"#;
    let (workload, notes) = read(rows, as_given).unwrap();
    assert_eq!(
        (notes.format, pauses(&workload)),
        (TraceFormat::AgenticMooncake, vec![(0, 1, 0, 0.0), (0, 1, 0, 0.5), (0, 2, 2, 0.0)])
    );
    let told = complaint(&rows.replacen(r#""timestamp": 500, "#, "", 1), as_given);
    assert!(
        told.starts_with(
            ", line 2: neither `timestamp` nor `wait_for` found, expected when this request comes"
        ),
        "{told}"
    );
}

#[test]
fn aiperfs_sessions_grow() {
    let sessions = r#"{"session_id": "a", "turns": [{"timestamp": 0, "text": "twelve chars", "output_length": 50}, {"delay": 2000, "input_length": 7, "output_length": 8}]}
{"session_id": "b", "turns": [{"timestamp": 100, "input_length": 9, "output_length": 1, "role": "user"}]}
"#;
    let (workload, notes) = read(sessions, as_given).unwrap();
    assert_eq!(notes.format, TraceFormat::AiPerfSessions);
    assert_eq!(
        (workload.prefill_tokens.clone(), workload.decode_tokens.clone()),
        (vec![3, 9, 3 + 50 + 7], vec![50, 1, 8])
    );
    assert_eq!(pauses(&workload), [(0, 1, 0, 0.0), (1, 1, 0, 0.1), (0, 2, 1, 2.0)]);
    assert!(notes.assumed.iter().any(|told| told.contains("4 characters")), "{:?}", notes.assumed);
    let told =
        complaint(r#"{"session_id": "a", "turns": [{"input_length": 9, "output_length": 1}]}"#, as_given);
    assert!(
        told.starts_with(", line 1: no `timestamp` found in the first turn of a session")
            && told.contains("`lanes`"),
        "{told}"
    );
}

#[test]
fn recorded_sessions_close_their_loops_only_if_asked() {
    let burst = "Timestamp,Session ID,Elapsed time,Model,Request tokens,Response tokens,Total tokens,Log Type\n\
                 100,7,3.5,GPT-4,50,20,70,Conversation log\n\
                 101,,1,GPT-4,60,20,80,API log\n\
                 110,7,2,GPT-4,90,30,120,Conversation log\n\
                 111,8,2,GPT-4,90,0,90,Conversation log\n";
    let (open, _) = read(burst, as_given).unwrap();
    assert!(open.sessions.is_none());
    let (workload, notes) = read(burst, closed).unwrap();
    assert_eq!((notes.format, notes.skipped), (TraceFormat::BurstGpt, 1));
    assert_eq!(pauses(&workload), [(0, 1, 0, 0.0), (1, 1, 0, 1.0), (0, 2, 1, 6.5)]);
    let chats = r#"{"chat_id": 0, "parent_chat_id": -1, "timestamp": 0.5, "input_length": 30, "output_length": 90, "turn": 1, "hash_ids": [0, 1]}
{"chat_id": 1, "parent_chat_id": 0, "timestamp": 60.5, "input_length": 150, "output_length": 9, "turn": 2, "hash_ids": [0, 2, 3, 4, 5, 6, 7, 8, 9, 10]}
"#;
    assert!(read(chats, as_given).unwrap().0.sessions.is_none());
    let (workload, notes) = read(chats, closed).unwrap();
    assert_eq!(
        (notes.format, pauses(&workload)),
        (TraceFormat::QwenBailian, vec![(0, 1, 0, 0.5), (0, 2, 1, 60.0)])
    );
    assert!(notes.assumed.iter().any(|told| told.contains("gaps between timestamps")), "{:?}", notes.assumed);
    // A recording begins somewhere: what goes on after a chat before it is counted, and is a first turn here.
    let later = chats.replace(r#""parent_chat_id": -1"#, r#""parent_chat_id": 77"#);
    let (workload, notes) = read(&later, closed).unwrap();
    assert_eq!(pauses(&workload), [(0, 1, 0, 0.5), (0, 2, 1, 60.0)]);
    assert!(
        notes
            .assumed
            .iter()
            .any(|told| told.starts_with("1 requests go on after one that is not in the file")),
        "{:?}",
        notes.assumed
    );
}

#[test]
fn what_cannot_be_is_told_with_its_line() {
    let broken = |from: &str, to: &str| complaint(&AGENTS.replacen(from, to, 1), as_given);
    for (told, expected) in [
        (
            broken(r#"["x", "y"]"#, r#"["x", "z"]"#),
            ", line 4: waits for `z`, which is not in the file; expected the id of a request",
        ),
        (
            broken(r#""wait_for": ["r"], "delay": 0"#, r#""wait_for": ["j"], "delay": 0"#),
            "waits for itself, by way of what it waits for",
        ),
        (
            broken(r#""delay": 100"#, r#""delay": -100"#),
            ", line 2, column `delay`: `-100` found, expected a pause of at least 0",
        ),
        (
            broken(r#""delay": 100"#, r#""delay": 1e300"#),
            ", line 2: a time or pause of 1e297 s found, expected at most 1000000000 s",
        ),
        (broken(r#""tool_wait_ms": 250"#, r#""tool_wait_ms": "soon""#), ", line 4, column `tool_wait_ms`"),
        (
            broken(r#""request_id": "y""#, r#""request_id": "x""#),
            ", line 3: `x` found twice, first in line 2",
        ),
        (broken(r#""timestamp": 300, "#, ""), ", line 5: neither `timestamp` nor `wait_for` found"),
        (broken(r#""input_length": 200"#, r#""input_length": -2"#), ", line 2, column `input_length`"),
        (
            broken(r#"["x", "y"]"#, "3"),
            ", line 4, column `wait_for`: `3` found, expected a list of ids of requests",
        ),
        (
            complaint(AGENTS, |spec| spec.closing = Some(TraceLoop::Open)),
            "`loop` \"open\" found, but turns in `agentic_mooncake` format wait",
        ),
        (
            complaint(AGENTS, |spec| spec.start_s = Some(3.0)),
            "`start_s` found, expected none of them for a trace of sessions",
        ),
        (
            complaint("arrived_at,num_prefill_tokens,num_decode_tokens\n0,1,1\n", closed),
            "`loop` found, but no sessions",
        ),
    ] {
        assert!(told.contains(expected), "{told}\n{expected}");
    }
    // What is new in a prompt goes on after what was said before, which the file has to have said.
    let late = r#"{"request_id": "a", "wait_for": ["b"], "input_length": 5, "output_length": 1}
{"request_id": "b", "timestamp": 0, "input_length": 5, "output_length": 1}
"#;
    let told = complaint(late, |spec| spec.format = Some(TraceFormat::MooncakeDelta));
    assert!(
        told.starts_with(", line 1: waits for nothing that comes before it in the file; expected that"),
        "{told}"
    );
    let grows = |tokens: u32| {
        let turn = format!(
            r#"{{"session_id": "a", "timestamp": 0, "delay": 0, "input_length": {tokens}, "output_length": 1}}"#
        );
        complaint(&format!("{turn}\n{turn}\n{turn}\n"), |spec| spec.format = Some(TraceFormat::MooncakeDelta))
    };
    assert!(
        grows(400_000_000).starts_with(", line 3: a context of 1200000002 tokens"),
        "{}",
        grows(400_000_000)
    );
}

#[test]
fn settings_of_benchmarks_are_drawn() {
    let vllm = r#"{
        "filetype": "generate_conversations", "num_conversations": 24, "text_files": ["pg1184.txt"], "print_stats": false,
        "prompt_input": {
            "num_turns": {"distribution": "uniform", "min": 12, "max": 18},
            "common_prefix_num_tokens": {"distribution": "constant", "value": 500},
            "prefix_num_tokens": {"distribution": "lognormal", "average": 1000, "max": 5000},
            "num_tokens": {"distribution": "uniform", "min": 120, "max": 160}},
        "prompt_output": {"num_tokens": {"distribution": "uniform", "min": 80, "max": 120}}
    }"#;
    let (workload, notes) = read(vllm, |spec| spec.lanes = Some(4)).unwrap();
    assert_eq!(notes.format, TraceFormat::VllmMultiTurn);
    let sessions = workload.sessions.as_ref().unwrap();
    assert_eq!((sessions.len(), sessions.lanes.unwrap().number), (24, 4));
    assert!(sessions.lengths.iter().all(|turns| (6..=9).contains(turns)), "{:?}", sessions.lengths);
    assert!(workload.decode_tokens.iter().all(|tokens| (80..=120).contains(tokens)));
    let first =
        || (0..workload.len()).filter(|&at| sessions.turn[at] == 1).map(|at| workload.prefill_tokens[at]);
    assert!(first().all(|tokens| (621..=5660).contains(&tokens)));
    let mean = f64::from(first().sum::<u32>()) / 24.0;
    assert!((1400.0..1900.0).contains(&mean), "{mean}");
    // Every question has its answer.
    const UNIFORM: &str = r#""uniform", "min": 12, "max": 18"#;
    let five = vllm.replacen(UNIFORM, r#""constant", "value": 5"#, 1);
    let (workload, _) = read(&five, as_given).unwrap();
    assert!(workload.sessions.unwrap().lengths.iter().all(|&turns| turns == 3));
    let guidellm = r#"{"prompt_tokens": 512, "output_tokens": 128, "output_tokens_stdev": 20, "turns": 5, "prefix_tokens": 100, "delay": 2}"#;
    let (workload, notes) = read(guidellm, |spec| spec.max_requests = Some(50)).unwrap();
    assert_eq!((notes.format, workload.len()), (TraceFormat::GuideLlmSynthetic, 50));
    assert!(
        notes.assumed.iter().any(|told| told.starts_with("one session at a time")),
        "{:?}",
        notes.assumed
    );
    let sessions = workload.sessions.as_ref().unwrap();
    assert_eq!((workload.prefill_tokens[0], sessions.pause_s[0], sessions.pause_s[1]), (612, 0.0, 2.0));
    for (told, expected) in [
        (complaint(guidellm, as_given), "neither `samples` nor, in the grid, `max_requests` found"),
        (
            complaint(&guidellm.replace(": 20", ": -20"), |spec| spec.max_requests = Some(5)),
            "`output_tokens_stdev`: -20 found",
        ),
        (
            complaint(&vllm.replacen("uniform", "pareto", 1), as_given),
            "`num_turns.distribution`: `pareto` found, expected `constant`",
        ),
        (complaint(&vllm.replacen(UNIFORM, r#""zipf""#, 1), as_given), "`num_turns`: no `alpha` found"),
        (
            complaint(&vllm.replacen(UNIFORM, r#""zipf", "alpha": 1"#, 1), as_given),
            "`num_turns`: `alpha` 1 found, expected above 1",
        ),
        (
            complaint(&vllm.replacen(UNIFORM, r#""poisson", "alpha": 1e12"#, 1), as_given),
            "`alpha` 1000000000000 found, expected a mean of",
        ),
        (
            complaint(&vllm.replacen(UNIFORM, r#""zipf", "alpha": 1.01"#, 1), as_given),
            "expected at most 100000; bound them, as by `max`",
        ),
        (complaint(&vllm.replacen(": 24", ": 0", 1), as_given), "0 sessions found, expected 1 to"),
        (
            complaint(&vllm.replacen(": 24", ": 1e12", 1), as_given),
            "1000000000000 sessions found, expected 1 to",
        ),
        (complaint(&vllm.replacen(": 500", ": 2e9", 1), as_given), "bound turns and tokens, as by `max`"),
        (
            complaint(&vllm.replace("num_conversations", "conversations"), as_given),
            "no `num_conversations` found",
        ),
    ] {
        assert!(told.contains(expected), "{told}");
    }
}

#[test]
fn odd_files_of_sessions_are_read_or_told() {
    let told = |notes: &scalefront::workload::TraceNotes, what: &str| {
        assert!(notes.assumed.iter().any(|told| told.contains(what)), "{what}: {:?}", notes.assumed);
    };
    // Sessions without turns, and ones of a single turn without a pause.
    let sessions = r#"{"session_id": "a", "turns": []}
{"session_id": "b", "turns": [{"timestamp": 0, "input_length": 5, "output_length": 2}]}
"#;
    let (workload, notes) = read(sessions, as_given).unwrap();
    assert_eq!(workload.len(), 1);
    told(&notes, "1 sessions have no turns and are left out");
    let none = complaint(r#"{"session_id": "a", "turns": []}"#, as_given);
    assert!(none.contains("no request found, expected at least one"), "{none}");
    // A turn that was recorded before the answer to the one before it had ended.
    let overlaps = "Timestamp,Session ID,Elapsed time,Model,Request tokens,Response tokens,Total tokens,Log Type\n\
                    5,a,10,m,10,5,15,c\n8,a,1,m,10,5,15,c\n";
    let (workload, notes) = read(overlaps, closed).unwrap();
    assert_eq!(pauses(&workload), [(0, 1, 0, 0.0), (0, 2, 1, 0.0)]);
    told(&notes, "1 requests came before what they wait for had ended, and come at once after it");
    // What is waited for is there, and cut off.
    let cut = complaint(&AGENTS.replace(r#"["r"]"#, r#"["other"]"#), |spec| spec.max_requests = Some(3));
    assert!(
        cut.contains("waits for `other`, which is not among the first `max_requests` of the file"),
        "{cut}"
    );
    // A fan-out to 5,000 agents and their join, 20,000 turns one after the other, and one that waits for the
    // same twice.
    let row = |id: &str, waits: &[String]| {
        format!(r#"{{"request_id": "{id}", "wait_for": {waits:?}, "input_length": 9, "output_length": 1}}"#)
    };
    let root = r#"{"request_id": "r", "timestamp": 0, "input_length": 9, "output_length": 1}"#.to_owned();
    let agents: Vec<String> = (0..5000).map(|agent| format!("x{agent}")).collect();
    let mut lines = vec![root.clone()];
    lines.extend(agents.iter().map(|agent| row(agent, &["r".into(), "r".into()])));
    lines.push(row("join", &agents));
    let (workload, _) = read(&lines.join("\n"), as_given).unwrap();
    let sessions = workload.sessions.unwrap();
    assert_eq!(
        (sessions.len(), sessions.turn[5001], sessions.waits_for[1], sessions.waits_for[5001]),
        (1, 3, 1, 5000)
    );
    let mut lines = vec![root];
    lines.extend((0..20_000).map(|turn| {
        row(&format!("t{turn}"), &[if turn == 0 { "r".into() } else { format!("t{}", turn - 1) }])
    }));
    let (workload, _) = read(&lines.join("\n"), as_given).unwrap();
    assert_eq!(workload.sessions.unwrap().most_turns(), 20_001);
}

#[test]
fn benchmarks_draw_zipf_and_poisson() {
    let document = |turns: &str, tokens: &str| {
        format!(
            r#"{{"filetype": "generate_conversations", "num_conversations": 2000,
            "prompt_input": {{"num_turns": {{"distribution": {turns}}}, "num_tokens": {{"distribution": {tokens}}}}},
            "prompt_output": {{"num_tokens": {{"distribution": "poisson", "alpha": 40, "max": 50}}}}}}"#
        )
    };
    let zipf = document(r#""zipf", "alpha": 1.5, "max": 20"#, r#""poisson", "alpha": 100"#);
    let (workload, _) = read(&zipf, as_given).unwrap();
    let turns = &workload.sessions.as_ref().unwrap().lengths;
    // Up to 2 messages are one turn: (1 + 2^-1.5) / zeta(1.5). What is above the maximum of 20 messages has 10.
    let share = |turns_are: u32| turns.iter().filter(|&&turns| turns == turns_are).count() as f64 / 2000.0;
    assert!((share(1) - 0.5182).abs() < 0.04, "{}", share(1));
    assert!(turns.iter().all(|turns| (1..=10).contains(turns)) && share(10) > 0.1, "{}", share(10));
    assert!(workload.decode_tokens.iter().all(|tokens| (10..=50).contains(tokens)));
    let first = (0..workload.len()).filter(|&at| workload.sessions.as_ref().unwrap().turn[at] == 1);
    let mean = first.map(|at| f64::from(workload.prefill_tokens[at])).sum::<f64>() / 2000.0;
    assert!((mean - 100.0).abs() < 1.0, "{mean}");
    // The same under any seed, as the file is; without a bound in vLLM's sense too.
    assert_eq!(read(&zipf, as_given).unwrap().0, workload);
    let (unbounded, _) =
        read(&document(r#""poisson", "alpha": 6, "max": 0"#, r#""constant", "value": 9"#), as_given).unwrap();
    assert!(unbounded.sessions.unwrap().lengths.iter().any(|&turns| turns > 4));
}

#[test]
fn turns_with_times_wait_where_turns_always_wait() {
    let delta = r#"{"session_id": "a", "timestamp": 0, "input_length": 1000, "output_length": 10}
{"session_id": "a", "timestamp": 50, "input_length": 50, "output_length": 10}
{"session_id": "a", "timestamp": 90, "input_length": 50, "output_length": 10}
"#;
    let (workload, _) = read(delta, |spec| spec.format = Some(TraceFormat::MooncakeDelta)).unwrap();
    assert_eq!(workload.prefill_tokens, [1000, 1060, 1120]);
    assert_eq!(workload.sessions.unwrap().turn, [1, 2, 3]);
    // Where turns may be open, their times are theirs.
    let (open, _) = read(&delta.replace("1000,", r#"1000, "hash_ids": [1, 2],"#), |spec| {
        spec.format = Some(TraceFormat::Mooncake)
    })
    .unwrap();
    assert_eq!(open.prefill_tokens, [1000, 50, 50]);
}

#[test]
fn drawn_sessions_are_as_many_as_asked_for() {
    let vllm = r#"{"filetype": "generate_conversations", "num_conversations": 50,
        "prompt_input": {"num_turns": {"distribution": "constant", "value": 4}, "num_tokens": {"distribution": "constant", "value": 9}},
        "prompt_output": {"num_tokens": {"distribution": "constant", "value": 9}}}"#;
    let (workload, _) = read(vllm, |spec| spec.max_requests = Some(11)).unwrap();
    assert_eq!(workload.len(), 11);
    let guidellm =
        r#"{"prompt_tokens": 512, "output_tokens": 128, "turns": 3, "turns_min": 1, "turns_max": 50}"#;
    let (workload, _) = read(guidellm, |spec| spec.max_requests = Some(10)).unwrap();
    assert_eq!(workload.len(), 10);
    // More lanes than sessions are as many lanes as sessions, and take no room.
    let (lanes, _) = read(vllm, |spec| spec.lanes = Some(4_000_000_000)).unwrap();
    assert_eq!((lanes.arrived_at_s[0], lanes.sessions.unwrap().len()), (0.0, 50));
}
