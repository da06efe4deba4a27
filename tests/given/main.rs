//! Tests that rest on data which may not be committed: recorded outputs of the reference, published traces,
//! measurements.
//!
//! The data is looked for in `../shared`, or where `SCALEFRONT_SHARED` says. A test whose data is absent is
//! ignored and says what it lacks; with `SCALEFRONT_SHARED_REQUIRED` set, as in continuous integration, it
//! fails. (Rust's own harness cannot ignore a test at run time.)

mod calibration;
#[path = "../it/golden/case.rs"]
mod case;
mod golden;
mod hardware;
#[cfg(feature = "report")]
mod pools;
mod quirks;
mod results;
#[allow(dead_code, reason = "here only tables are taken from it")]
#[path = "../it/scenario.rs"]
mod scenario;
#[cfg(feature = "report")]
mod sessions;
#[path = "../it/sound.rs"]
mod sound;
mod starts;
mod traces;
mod upstream;
mod validation;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use libtest_mimic::{Arguments, Completion, Failed, Trial};

/// Where the data is, if it is there.
fn shared() -> PathBuf {
    std::env::var_os("SCALEFRONT_SHARED")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared"), PathBuf::from)
}

/// A test that needs these files or directories of the data.
fn test(name: &str, needs: &[&str], check: impl FnOnce(&Path) + Send + 'static) -> Trial {
    let absent = needs.iter().map(|path| shared().join(path)).find(|path| !path.exists());
    Trial::ignorable_test(name, move || match absent {
        Some(path) if std::env::var_os("SCALEFRONT_SHARED_REQUIRED").is_some() => {
            Err(format!("{} is not there, and SCALEFRONT_SHARED_REQUIRED is set", path.display()).into())
        }
        Some(path) => Ok(Completion::ignored_with(format!("{} is not there", path.display()))),
        None => match catch_unwind(AssertUnwindSafe(|| check(&shared()))) {
            Ok(()) => Ok(Completion::Completed),
            // The panic's message and place are on stderr.
            Err(_) => Err(Failed::without_message()),
        },
    })
}

/// Golden cases by name.
fn golden(name: &str, cases: &'static [&'static str]) -> Trial {
    let needs: Vec<String> = cases.iter().map(|case| format!("golden/{case}/config.json")).collect();
    let mut needs: Vec<&str> = needs.iter().map(String::as_str).collect();
    needs.push("data/traces/Synthetic_Trace1_1hr.csv");
    test(&format!("golden::{name}"), &needs, |shared| golden::check(shared, cases))
}

fn quirk(name: &str, case: &str, check: fn(&Path)) -> Trial {
    test(&format!("quirks::{name}"), &[&format!("golden/quirks/{case}/config.json")], check)
}

fn hardware(name: &str, needs: &[&str], check: fn(&Path)) -> Trial {
    test(&format!("hardware::{name}"), needs, check)
}

fn trace(name: &str, trace: &str, check: fn(&Path)) -> Trial {
    test(&format!("traces::{name}"), &[&format!("data/traces/{trace}")], check)
}

/// What a program decided beside what the policy named after it decides.
fn upstream(program: &str, name: &str, check: fn()) -> Trial {
    test(
        &format!("upstream::{program}::{name}"),
        &[&format!("data/upstream_decisions/{program}/index.csv")],
        move |_| check(),
    )
}

fn main() {
    let tests = vec![
        golden(
            "vllm",
            &["a_vllm_rr_inferline", "c_vllm_rr_static2", "i_vllm_few_blocks", "h_vllm_rr_static2_tp2_pp2"],
        ),
        golden("sarathi", &["d_sarathi_rr_static2", "h2_sarathi_tp2_pp2"]),
        golden("orca", &["e_orca_rr_static2", "e2_orca_few_blocks"]),
        golden("lightllm", &["f_lightllm_rr_static2", "f2_lightllm_few_blocks"]),
        golden("faster_transformer", &["g2_faster_transformer_fixed"]),
        golden("whole_lab_trace", &["lab_full_rr", "lab_full_lor_labfit"]),
        quirk(
            "prompts_that_turn_into_decodes",
            "i2_sarathi_few_blocks",
            quirks::prompts_that_turn_into_decodes,
        ),
        quirk("memory_leak", "g_faster_transformer_rr_static2", quirks::memory_leak),
        quirk(
            "leaked_counter_and_stranded_requests",
            "k_no_eligible_rr",
            quirks::leaked_counter_and_stranded_requests,
        ),
        hardware("analytical_steps", &["data/hardware/aic_ground_truth.csv"], hardware::analytical_steps),
        hardware("analytical_mixtures", &["data/hardware/moe"], hardware::analytical_mixtures),
        hardware("analytical_quantised", &["data/hardware/moe"], hardware::analytical_quantised),
        hardware(
            "kv_capacity_as_logged",
            &["data/real_vllm", "data/real_vllm_moe"],
            hardware::kv_capacity_as_logged,
        ),
        hardware(
            "analytical_time_per_token",
            &["data/hardware/silicon_sample.csv"],
            hardware::analytical_time_per_token,
        ),
        hardware(
            "vidur_profile_of_the_lab",
            &["data/hardware/vidur/compute/a100", "data/hardware/vidur/network/a100_pairwise_nvlink"],
            hardware::vidur_profile_of_the_lab,
        ),
        hardware(
            "vidur_attention_profile",
            &[
                "data/hardware/vidur/compute/a100/meta-llama/Llama-2-70b-hf",
                "data/hardware/vidur/compute/a100_2023/attention.csv",
                "data/hardware/vidur/network/a100_dgx",
            ],
            hardware::vidur_attention_profile,
        ),
        #[cfg(feature = "report")]
        hardware(
            "aiconfigurator_import",
            &["data/hardware/aic_ground_truth.csv", "data/hardware/aiconfigurator"],
            hardware::aiconfigurator_import,
        ),
        #[cfg(feature = "report")]
        hardware(
            "aiconfigurator_mixtures",
            &[
                "data/hardware/moe/aic_moe_ground_truth_give.csv",
                "data/hardware/moe/aiconfigurator_moe_0.12.0",
                "data/hardware/aiconfigurator",
            ],
            hardware::aiconfigurator_mixtures,
        ),
        test("validation::real_servers", &["data/real_vllm"], validation::real_servers),
        test("validation::real_fleets", &["data/real_autoscaling"], validation::real_fleets),
        test("starts::cold_warm_hot", &["data/real_autoscaling"], starts::cold_warm_hot),
        test(
            "validation::real_mixtures",
            &["data/real_vllm", "data/real_vllm_moe"],
            validation::real_mixtures,
        ),
        trace("azure_2023_code", "AzureLLMInferenceTrace_code.csv", traces::azure_2023_code),
        trace("azure_2023_conversation", "AzureLLMInferenceTrace_conv.csv", traces::azure_2023_conversation),
        trace("the_lab_trace", "Synthetic_Trace1_1hr.csv", traces::the_lab_trace),
        trace("mooncake_conversation", "mooncake/conversation_trace.jsonl", traces::mooncake_conversation),
        trace("servegen_clients", "servegen", traces::servegen_clients),
        #[cfg(feature = "report")]
        test(
            "pools::as_the_peer",
            &["data/peer_outputs", "data/hardware/aiconfigurator"],
            pools::as_the_peer,
        ),
        #[cfg(feature = "report")]
        test(
            "pools::sessions_as_the_peer",
            &["data/peer_outputs", "data/hardware/aiconfigurator"],
            pools::sessions_as_the_peer,
        ),
        #[cfg(feature = "report")]
        test(
            "sessions::as_the_peer",
            &["data/peer_outputs", "data/hardware/aiconfigurator"],
            sessions::as_the_peer,
        ),
        test(
            "results::whole_files_are_what_the_server_saw",
            &["data/bench_files"],
            results::whole_files_are_what_the_server_saw,
        ),
        test(
            "results::whole_files_without_arrivals_are_refused",
            &["data/bench_files"],
            results::whole_files_without_arrivals_are_refused,
        ),
        test(
            "calibration::whole_files_are_calibrated_on",
            &["data/bench_files"],
            calibration::whole_files_are_calibrated_on,
        ),
        test(
            "calibration::two_rates_tell_what_goes_with_the_load",
            &["data/bench_files"],
            calibration::two_rates_tell_what_goes_with_the_load,
        ),
        upstream("aibrix", "decisions", upstream::aibrix::decisions),
        upstream("dynamo", "load_over_time", upstream::dynamo::load_over_time),
        upstream("dynamo", "throughput_over_time", upstream::dynamo::throughput_over_time),
        upstream("dynamo", "sizings", upstream::dynamo::sizings),
        upstream("dynamo", "forecasts", upstream::dynamo::forecasts),
        #[cfg(feature = "report")]
        test(
            "upstream::dynamo::mooncake_with_nvidias_simulator",
            &[
                "data/upstream_decisions/dynamo",
                "data/hardware/aiconfigurator",
                "data/traces/mooncake/conversation_trace.jsonl",
            ],
            upstream::dynamo_whole_runs::mooncake,
        ),
        upstream("hpa", "single_calculations", upstream::hpa::single_calculations),
        upstream("hpa", "decisions", upstream::hpa::decisions),
        upstream("knative", "decisions", upstream::knative::decisions),
        upstream("knative", "scale_to_zero", upstream::knative::scale_to_zero),
        upstream("ray", "decisions_over_time", upstream::ray::decisions_over_time),
        upstream("ray", "single_decisions", upstream::ray::single_decisions),
        upstream("wva", "saturation_v1", upstream::wva::saturation_v1),
        upstream("wva", "saturation_v2_and_throughput", upstream::wva::saturation_v2_and_throughput),
    ];
    libtest_mimic::run(&Arguments::from_args(), tests).exit();
}
