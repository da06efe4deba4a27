//! Simulations beside measured runs of real servers: a small folder of our own. The published runs are in
//! `tests/given`.

use std::fs;
use std::path::Path;

use scalefront::hardware::Overheads;
use scalefront::simulation::Workspace;
use scalefront::validation::calibrate::calibrate;
use scalefront::validation::{Experiments, Replay, Served, compare, errors, prepare};
use serde_json::{Value, json};

use super::cli::{scalefront, stderr, stdout};

fn experiment(id: &str, model: &str, gpu: &str) -> Value {
    json!({
        "id": id, "model": model, "model_kind": "dense", "gpu": gpu, "tp": 1, "precision": "BF16", "caveats": ["prose is ignored"],
        "engine": {"engine": "vLLM", "version": "0.15.1", "max_num_seqs": 32, "max_num_batched_tokens": 2048, "kv_blocks_gpu": 5000},
        "load": {
            "stages": [{"stage": 0, "rate_per_s": 4, "duration_s": 100}, {"stage": 1, "rate_per_s": 8, "duration_s": 60, "num_requests": 480}],
            "prompt": {"nominal_tokens": 400, "served_tokens": null}, "prefix": {"groups": 5, "prompts_per_group": 4, "shared_prefix_len": 100},
            "output": {"tokens": 60}}
    })
}

/// A folder whose measured values are what simulations with `truth` say.
fn folder(dir: &Path, truth: &Overheads) -> Experiments {
    let runs = [
        experiment("seven", "meta-llama/Llama-2-7b-hf", "H100-80GB-SXM"),
        experiment("eight", "meta-llama/Llama-3.1-8B", "H100-80GB-SXM"),
        experiment("twelve", "mistralai/Mistral-Nemo-Instruct-2407", "H100-80GB-SXM"),
        experiment("experts", "Qwen/Qwen3-Next-80B-A3B-Instruct", "H100-80GB-SXM"),
        experiment("unheard-of", "meta-llama/Llama-2-7b-hf", "ABACUS 3000"),
    ];
    let mut described = runs.to_vec();
    described.push(json!({"id": "scribbled", "model": 7}));
    fs::write(dir.join("experiments.json"), json!(described).to_string()).unwrap();
    let mut csv = String::from("experiment_id,stage,metric,value,unit,derived\n");
    for run in &runs {
        // Without values there would be nothing to compare, so that nothing would be said.
        for stage in ["0", "1", "0w", "1w", "all"] {
            for metric in ["ttft_mean", "tpot_mean", "e2e_mean", "e2e_p99"] {
                csv += &format!("{},{stage},{metric},1,ms,0\n", run["id"].as_str().unwrap());
            }
        }
    }
    fs::write(dir.join("measured.csv"), &csv).unwrap();
    let experiments = Experiments::read(dir).unwrap();
    let (replays, skipped) = prepare(&experiments, |_| true);
    assert_eq!((replays.len(), skipped.len()), (3, 3));
    let rows = compare(&replays.iter().collect::<Vec<_>>(), &experiments.measured, &[1], |replay| {
        Ok(replay.overheads(truth))
    })
    .unwrap();
    csv = csv
        .lines()
        .filter(|line| {
            line.starts_with("experiment_id") || line.starts_with("experts") || line.starts_with("unheard")
        })
        .map(|line| format!("{line}\n"))
        .collect();
    let lines = rows
        .iter()
        .map(|row| format!("{},{},{},{},ms,0\n", row.experiment, row.stage, row.metric, row.simulated_ms));
    fs::write(dir.join("measured.csv"), lines.fold(csv, |csv, line| csv + &line)).unwrap();
    Experiments::read(dir).unwrap()
}

const TRUTH: Overheads = Overheads {
    kernel_time_factor: 1.1,
    step_ms: 0.6,
    per_sequence_us: 0.0,
    sampling_ns_per_logit: 0.3,
    api_ms: 8.0,
    ..Overheads::NONE
};

#[test]
fn runs_that_cannot_be_simulated_say_why() {
    let dir = tempfile::tempdir().unwrap();
    let experiments = folder(dir.path(), &TRUTH);
    let (_, skipped) = prepare(&experiments, |_| true);
    assert!(
        skipped[0].experiment == "scribbled"
            && skipped[0].reason.contains("experiments.json: model: invalid type"),
        "{skipped:?}"
    );
    assert!(
        skipped[1].reason.contains("model `Qwen/Qwen3-Next-80B-A3B-Instruct` is not in the catalogue"),
        "{skipped:?}"
    );
    assert!(skipped[2].reason.contains("device `ABACUS 3000` is not in the catalogue"), "{skipped:?}");
}

#[test]
fn a_run_has_the_requests_it_states_and_finds_prompts_that_come_again() {
    let dir = tempfile::tempdir().unwrap();
    let experiments = folder(dir.path(), &TRUTH);
    let replay = Replay::new(&experiments, &experiments.list[0]).unwrap();
    let served = replay.run(&TRUTH, 1, &mut Workspace::default()).unwrap();
    let of_stage = |stage| served.iter().filter(|one| one.stage == stage).collect::<Vec<_>>();
    assert_eq!((of_stage(0).len(), of_stage(1).len()), (400, 480));
    // Twenty prompts are computed, then found.
    let mean =
        |requests: &[&Served]| requests.iter().map(|one| one.ttft_ms).sum::<f64>() / requests.len() as f64;
    let (cold, warm) = (mean(&of_stage(0)[..10]), mean(&of_stage(0)[100..]));
    assert!(cold > warm + 1.0, "{cold} and {warm} ms");
}

/// What was put in comes out again, whichever model is left out.
#[test]
fn a_calibration_finds_the_overheads_that_runs_were_made_with() {
    let dir = tempfile::tempdir().unwrap();
    let experiments = folder(dir.path(), &TRUTH);
    let (replays, _) = prepare(&experiments, |_| true);
    let calibration = calibrate(&replays, &experiments.measured, &[1], |_, _, _| {}).unwrap();
    let found = calibration.fit.overheads("h100");
    assert!((found.kernel_time_factor - TRUTH.kernel_time_factor).abs() < 0.02, "{found:?}");
    assert!((found.api_ms - TRUTH.api_ms).abs() < 0.5, "{found:?}");
    for rows in [&calibration.all, &calibration.left_out] {
        let errors = errors(rows.iter().filter(|row| row.judged)).unwrap();
        assert!(errors.median < 0.01 && errors.count == 24, "{errors:?}");
    }
}

/// What was measured of a model has no say in the fit without it.
#[test]
fn a_model_left_out_is_unknown_to_its_fit() {
    let dir = tempfile::tempdir().unwrap();
    let experiments = folder(dir.path(), &TRUTH);
    let (replays, _) = prepare(&experiments, |_| true);
    let before = calibrate(&replays, &experiments.measured, &[1], |_, _, _| {}).unwrap();
    let path = dir.path().join("measured.csv");
    let slower = |line: &str| match line.split(',').collect::<Vec<_>>()[..] {
        ["eight", stage, metric, value, ..] => {
            format!("eight,{stage},{metric},{},ms,0\n", value.parse::<f64>().unwrap() * 1.5)
        }
        _ => format!("{line}\n"),
    };
    fs::write(&path, fs::read_to_string(&path).unwrap().lines().map(slower).collect::<String>()).unwrap();
    let measured = Experiments::read(dir.path()).unwrap().measured;
    let after = calibrate(&replays, &measured, &[1], |_, _, _| {}).unwrap();
    assert_ne!(before.fit, after.fit);
    for ((model, before), (_, after)) in before.without.iter().zip(&after.without) {
        assert_eq!(before == after, model == "meta-llama/Llama-3.1-8B", "{model}");
    }
}

#[test]
fn the_commands_print_tables_and_write_them() {
    let dir = tempfile::tempdir().unwrap();
    folder(dir.path(), &TRUTH);
    let given = r#"{"given": {"kernel_time_factor": 1.1, "step_ms": 0.6, "sampling_ns_per_logit": 0.3, "api_ms": 8}}"#;
    let output = scalefront(dir.path(), &["hardware", "validate", ".", "--seeds", "1", "--overheads", given]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let text = stdout(&output);
    assert!(
        text.contains("3 measured runs simulated, 3 skipped") && text.contains("skipped: experts: model"),
        "{text}"
    );
    assert!(
        text.lines().any(|line| line.starts_with("e2e_mean") && line.contains("     6     0.0")),
        "{text}"
    );
    let table = fs::read_to_string(dir.path().join("results/validation/validation.csv")).unwrap();
    assert_eq!(table.lines().count(), 1 + 3 * 5 * 4);
    let output =
        scalefront(dir.path(), &["hardware", "calibrate", "experiments.json", "--seeds", "1", "--only", "e"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(stdout(&output).contains("Every model left out in turn"), "{}", stdout(&output));
    let output = scalefront(dir.path(), &["hardware", "calibrate", ".", "--seeds", "1", "--only", "eight"]);
    assert!(
        stdout(&output).contains("meta-llama/Llama-3.1-8B is the only model: left out, nothing remains"),
        "{}",
        stdout(&output)
    );
    for (arguments, said) in [
        (
            vec!["hardware", "validate", "nowhere"],
            "nowhere: cannot be read, expected a folder with experiments.json",
        ),
        (
            vec!["hardware", "validate", ".", "--only", "experts"],
            "experts: model `Qwen/Qwen3-Next-80B-A3B-Instruct`",
        ),
        (
            vec!["hardware", "validate", ".", "--overheads", "{\"given\": {\"api_ms\": -1}}"],
            "`given.api_ms`: -1 found",
        ),
    ] {
        let output = scalefront(dir.path(), &arguments);
        assert_eq!(output.status.code(), Some(2));
        assert!(stderr(&output).contains(said), "{}", stderr(&output));
    }
}
