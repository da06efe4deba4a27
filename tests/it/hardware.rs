//! The commands about hardware.

/// The command as its users meet it: what is known, what one deployment does, and measured rows compared.
#[test]
fn command_line() {
    use super::cli::{scalefront, stderr, stdout};
    let dir = tempfile::tempdir().unwrap();
    let run = |arguments: &[&str]| scalefront(dir.path(), &[&["hardware"], arguments].concat());
    let list = stdout(&run(&["list"]));
    assert!(
        ["Qwen/Qwen3-14B", "b200_dgx", "UNFITTED", "yours to give"].iter().all(|part| list.contains(part)),
        "{list}"
    );
    let show = stdout(&run(&[
        "show",
        "--model",
        "Qwen/Qwen3-32B",
        "--node",
        "l40s_server",
        "--tensor-parallel",
        "1",
    ]));
    assert!(
        show.contains("gemm_eff_compute") && show.contains("the smallest `tensor_parallel` that fits is 2"),
        "{show}"
    );
    std::fs::write(
        dir.path().join("steps.csv"),
        "system,model,tp,phase,batch,isl_or_ctx,latency_ms\nh100_sxm,meta-llama/Meta-Llama-3.1-70B,4,prefill,1,2048,130\n",
    )
    .unwrap();
    let check = stdout(&run(&["check", "steps.csv"]));
    assert!(
        check.contains("prefill  h100_sxm    all                                    1   5.1 %  +5.1 %"),
        "{check}"
    );
    assert_eq!(dir.path().join("results/hardware/check.png").exists(), cfg!(feature = "report"));
    for (arguments, message) in [
        (vec!["check", "steps.csv", "--device", "tpu"], "none of 1 rows"),
        (vec!["show", "--node", "moon"], "unknown node `moon`"),
        (vec!["show", "--execution-time", "guess"], "unknown variant `guess`"),
        (
            vec!["show", "--execution-time", r#"{"analytical": {"constants": {"gemm_smooth_p": 0}}}"#],
            "`analytical.constants.gemm_smooth_p`: 0 found",
        ),
        (vec!["import"], "nothing to import in `analytical`"),
    ] {
        let output = run(&arguments);
        assert_eq!(output.status.code(), Some(2));
        assert!(stderr(&output).contains(message), "{}", stderr(&output));
    }
}
