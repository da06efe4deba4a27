use super::*;

fn grid(text: &str) -> Result<Grid, String> {
    let source = Source { file: "sweeps/x.json".into(), text: text.into() };
    Grid::parse(source, Path::new("sweeps/x.json"), Vec::new()).map_err(|error| error.to_string())
}

const WORKLOAD: &str = r#"{"name": "w", "generate": {"arrivals": {"poisson": {"phases": [{"duration_s": 9, "rate_per_s": 2}]}}, "lengths": {"fixed": {"prefill_tokens": 256, "decode_tokens": 1}}}}"#;

fn with(sections: &str) -> String {
    format!("{{\"workloads\": [{WORKLOAD}],\n{sections}}}")
}

#[test]
fn defaults() {
    let grid = grid(&with(r#""autoscalers": ["inferline"]"#)).unwrap();
    assert_eq!((grid.name.as_str(), grid.seeds.as_slice(), grid.count()), ("x", [1].as_slice(), 1));
    assert_eq!(grid.cluster.get(0), ClusterSettings::default());
    assert_eq!(grid.autoscalers[0].get(0).family(), "inferline");
    assert_eq!(grid.objectives, Objectives::default());
}

#[test]
fn cells_run_through_every_combination_once() {
    let grid = grid(&with(
        r#""seeds": {"from": 5, "to": 7, "step": 1}, "cluster": {"global_scheduler": ["round_robin", "least_outstanding"], "max_replicas": [8, 9]},
           "autoscalers": [{"static": {"replicas": [4, 6, 8]}}, {"label": "lazy", "inferline": {"look_back_s": [40, {"up": 20, "down": 80}]}}]"#,
    ))
    .unwrap();
    assert_eq!(grid.seeds, [5, 6, 7]);
    assert_eq!(grid.count(), 3 * 4 * 5);
    let seen: Vec<_> = (0..grid.count())
        .map(|i| grid.coordinates(i))
        .map(|c| (c.seed, c.cluster_combination, c.autoscaler, c.autoscaler_combination))
        .collect();
    assert!(seen.is_sorted());
    assert_eq!(seen.iter().collect::<BTreeSet<_>>().len(), 60);
    assert_eq!(grid.autoscalers[1].get(1).family(), "lazy");
    let AutoscalerSettings::Inferline(settings) = grid.autoscalers[1].get(1).settings else {
        panic!("inferline expected")
    };
    assert_eq!((settings.look_back_s.up, settings.look_back_s.down), (20.0, 80.0));
    let axes: Vec<_> = grid.axes().into_iter().map(|axis| axis.path).collect();
    assert_eq!(
        axes,
        [
            "cluster.global_scheduler",
            "cluster.max_replicas",
            "autoscalers[0].static.replicas",
            "autoscalers[1].inferline.look_back_s"
        ]
    );
}

#[test]
fn misspelt_fields_and_names() {
    assert_eq!(
        grid(&with("\"autoscalers\": [\"inferline\",\n  {\"inferline\": {\"look_back\": 80}}]")).unwrap_err(),
        "sweeps/x.json:3:18: autoscalers[1].inferline.look_back: unknown field `look_back`, expected one of `look_back_s`, `min_window_s`, \
         `stabilization_delay_s`, `initial_replica_token_throughput`, `throughput_alpha`, `throughput_measure`; did you mean `look_back_s`?"
    );
    let routed =
        grid(&with(r#""cluster": {"global_scheduler": ["round_robin", "least_outstandin"]}, "autoscalers": ["inferline"]"#)).unwrap_err();
    assert!(
        routed.starts_with("sweeps/x.json:2:49: cluster.global_scheduler[1]: unknown variant `least_outstandin`, expected one of "),
        "{routed}"
    );
    assert!(routed.ends_with("; did you mean `least_outstanding`?"), "{routed}");
    assert_eq!(
        grid(&with(r#""autoscaler": [], "autoscalers": [{"inferlin": {}}]"#)).unwrap_err(),
        "sweeps/x.json:2:1: autoscaler: unknown field `autoscaler`, expected one of `name`, `question`, `workloads`, `seeds`, `cluster`, `autoscalers`, `objectives`, `$schema`; did you mean `autoscalers`?"
    );
    let scaled = grid(&with(r#""autoscalers": [{"inferlin": {}}]"#)).unwrap_err();
    assert!(
        scaled.starts_with(
            "sweeps/x.json:2:17: autoscalers[0]: unknown variant `inferlin`, expected one of `static`, "
        ),
        "{scaled}"
    );
    assert!(scaled.ends_with("; did you mean `inferline`?"), "{scaled}");
}

#[test]
fn every_faulty_value_is_told_where_it_stands() {
    let error = grid(&with(
        r#""cluster": {"tune_interval_s": [5, 0, -1], "memory_margin_fraction": 2}, "autoscalers": [{"inferline": {"look_back_s": [80, 10]}}]"#,
    ))
    .unwrap_err();
    assert_eq!(
        error.lines().collect::<Vec<_>>(),
        [
            "sweeps/x.json:2:36: cluster.tune_interval_s[1]: 0 found, expected a finite number of at least 0.001 (seconds)",
            "sweeps/x.json:2:39: cluster.tune_interval_s[2]: -1 found, expected a finite number of at least 0.001 (seconds)",
            "sweeps/x.json:2:70: cluster.memory_margin_fraction: 2 found, expected a number from 0 to 1",
            "sweeps/x.json:2:104: autoscalers[0].inferline.min_window_s: 20 found, expected at most `look_back_s` (10)",
        ]
    );
}

/// What serde calls by names of Rust's is said in words of the file's format.
#[test]
fn values_of_another_kind() {
    let cases = [
        (
            r#""cluster": {"max_replicas": 0}, "autoscalers": ["inferline"]"#,
            "cluster.max_replicas: 0 found, expected at least 1",
        ),
        (
            r#""cluster": {"max_replicas": -1}, "autoscalers": ["inferline"]"#,
            "cluster.max_replicas: invalid value: integer `-1`, expected a whole number from 0 to 4294967295",
        ),
        (
            r#""cluster": {"tune_interval_s": "5"}, "autoscalers": ["inferline"]"#,
            "cluster.tune_interval_s: invalid type: string \"5\", expected a number",
        ),
        (
            r#""autoscalers": [{"frontier": 3}]"#,
            "autoscalers[0].frontier: invalid type: integer `3`, expected an object of settings",
        ),
        (
            r#""autoscalers": ["static"]"#,
            "autoscalers[0]: missing field `replicas`, which has no default: give {\"static\": {..}}",
        ),
    ];
    for (text, expected) in cases {
        let error = grid(&with(text)).unwrap_err();
        let (_, told) = error.split_once(": ").unwrap();
        assert_eq!(told, expected, "{text}");
    }
}

#[test]
fn broken_files() {
    let cases = [
        (
            "{\"a\": 1,\n}",
            "sweeps/x.json:2:1: not valid JSON: trailing comma (comments and trailing commas are no part of JSON)",
        ),
        (
            "[1]",
            "sweeps/x.json:1:1: a grid file is an object, {\"workloads\": [..], \"autoscalers\": [..], ..}",
        ),
        (
            "{\"name\": \"a\",\n \"name\": \"b\"}",
            "sweeps/x.json:2:2: name: `name` found twice, first in line 1, expected once",
        ),
        (
            r#"{"name": "../up"}"#,
            "sweeps/x.json:1:1: autoscalers: no `autoscalers` found, expected a list of at least one",
        ),
    ];
    for (text, expected) in cases {
        assert_eq!(grid(text).unwrap_err().lines().next(), Some(expected), "{text}");
    }
    let error = grid(&with(
        r#""name": "../up", "seeds": [1, -2], "autoscalers": [], "objectives": {"latency": ["a", "b"]}"#,
    ))
    .unwrap_err();
    assert_eq!(
        error.lines().collect::<Vec<_>>(),
        [
            "sweeps/x.json:2:9: name: `../up` found, expected a name fit for a directory: letters, digits, `-`, `_` and `.`, the first a letter or digit, at most 100",
            "sweeps/x.json:2:31: seeds[1]: -2 found, expected a whole number from 0 to 9223372036854775807",
            "sweeps/x.json:2:51: autoscalers: an empty list found, expected at least one entry",
            "sweeps/x.json:2:81: objectives.latency: several values found, expected one: all runs of a sweep are judged alike",
        ]
    );
    let deep = format!("{}1{}", "[".repeat(200), "]".repeat(200));
    assert!(grid(&deep).unwrap_err().contains("not valid JSON: recursion limit exceeded"));
}

#[test]
fn too_many_cells_are_refused_at_once() {
    let axis = r#"{"from": 1, "to": 4000, "step": 1}"#;
    let text = with(&format!(
        r#""cluster": {{"tune_interval_s": {axis}, "scale_up_delay_s": {axis}}}, "autoscalers": ["inferline"]"#
    ));
    assert_eq!(
        grid(&text).unwrap_err(),
        "sweeps/x.json:1:1: 16000000 runs found, expected at most 1000000; the largest axes are `cluster.tune_interval_s` (4000 values), \
         `cluster.scale_up_delay_s` (4000 values), `seeds` (1 values): give them fewer values"
    );
}

/// What is wrong from the start is told without a look at all the rest: nothing of `max_replicas`, whose
/// faulty value comes late.
#[test]
fn refused_soon() {
    let late = |values: u32| {
        let axis = format!(r#"{{"from": 1, "to": {values}, "step": 1}}"#);
        grid(&with(&format!(
            r#""cluster": {{"max_replicas": [8, 0], "tune_interval_s": {axis}, "scale_up_delay_s": -1}}, "autoscalers": ["inferline"]"#
        )))
        .unwrap_err()
    };
    let told = |text: &str| {
        ["scale_up_delay_s", "max_replicas"].map(|field| text.contains(&format!("cluster.{field}")))
    };
    assert_eq!(told(&late(4000)), [true, true]);
    assert_eq!(told(&late(400_000)), [true, false]);
}

#[test]
fn unique_workload_names() {
    let text = format!(r#"{{"workloads": [{WORKLOAD}, {WORKLOAD}], "autoscalers": ["inferline"]}}"#);
    assert!(
        grid(&text)
            .unwrap_err()
            .ends_with("workloads[1].name: `w` found twice, expected a name of its own for each workload")
    );
}

/// Every field whose schema is a list is in the table of lists, and the table has no other entry.
#[test]
fn lists_by_nature_are_those_of_the_schema() {
    fn collect(schema: &Value, found: &mut BTreeSet<String>) {
        match schema {
            Value::Object(members) => {
                if let Some(Value::Object(properties)) = members.get("properties") {
                    let is_list = |schema: &Value| {
                        schema["type"] == "array"
                            || schema["type"].as_array().is_some_and(|types| types.contains(&"array".into()))
                    };
                    found.extend(
                        properties.iter().filter(|(_, schema)| is_list(schema)).map(|(name, _)| name.clone()),
                    );
                }
                members.values().for_each(|schema| collect(schema, found));
            }
            Value::Array(schemas) => schemas.iter().for_each(|schema| collect(schema, found)),
            _ => {}
        }
    }
    let mut found = BTreeSet::new();
    collect(schemars::schema_for!(GridFile).as_value(), &mut found);
    assert_eq!(found, axes::LISTS.iter().map(|name| name.to_string()).collect());
}

#[test]
fn what_could_not_hold_is_refused() {
    let pools = |more: &str| {
        format!(
            r#""cluster": {{{more}, "replica_scheduler": "vllm_v1", "pools": [{{"name": "p", "role": "prefill"}}, {{"name": "d", "role": "decode"}}]}}"#
        )
    };
    let cases = [
        (
            r#""autoscalers": [{"label": "static", "hpa": {}}, {"static": {"replicas": 2}}]"#.to_owned(),
            "autoscalers[0].label: `static` found, which is also another policy of this file",
        ),
        (
            r#""cluster": {"latency_limits": {"ttft_s": 1}}, "autoscalers": ["inferline"],
               "objectives": {"constraints": {"session_attainment": 0.9}}"#
                .to_owned(),
            "no workload of this grid has them: see `sessions`",
        ),
        (
            r#""autoscalers": ["inferline"], "objectives": {"constraints": {"session_attainment": 0.9}}"#
                .to_owned(),
            "which say what a request has to keep",
        ),
        (
            format!(
                r#"{}, "autoscalers": [{{"static": {{"replicas": 9}}}}]"#,
                pools(r#""budget": {"devices": 8}"#)
            ),
            "fixed pools do not fit into `cluster.budget.devices`: 8 found, expected at least 72",
        ),
        (
            format!(
                r#"{}, "autoscalers": ["keda"]"#,
                pools(r#""pool_router": {"weighted": {"weights": {"p": 1}}}"#)
            ),
            "cluster.pool_router.weighted.weights: no weight above 0 found for decode pools of model",
        ),
    ];
    for (sections, expected) in cases {
        let told = grid(&with(&sections)).unwrap_err();
        assert!(told.contains(expected), "{sections}: {told}");
    }
    // Alone it is as good as any.
    grid(&with(r#""autoscalers": [{"label": "hpa", "hpa": {}}, {"label": "static", "keda": {}}]"#)).unwrap();
    let all = with(r#""autoscalers": ["inferline"]"#).replacen(r#""name": "w""#, r#""name": "*""#, 1);
    assert!(grid(&all).unwrap_err().contains("`*` found, which stands for all workloads together"));
}
