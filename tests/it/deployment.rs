//! What a deployment does between a decision and a device: nodes that come late and go late, a limit on
//! devices, who goes first.

use proptest::prelude::*;
use scalefront::autoscaler::{Autoscaler, Decision, Snapshot};
use scalefront::settings::Faults;
use scalefront::simulation::{
    ClusterSettings, Detail, Parts, RunInputs, RunMetrics, Workspace, simulate_parts_in_detail, violations,
};
use serde_json::{Value, json};

use super::scenario::Scenario;

/// Decides at given times and holds in between.
struct Script(Vec<(f64, Decision)>);

impl Autoscaler for Script {
    fn decide(&mut self, now_s: f64, _snapshot: &Snapshot) -> Decision {
        self.0.iter().find(|(at_s, _)| *at_s == now_s).map_or(Decision::Hold, |(_, decision)| *decision)
    }
}

/// Replicas of four devices on nodes of eight at 8 dollars an hour, decisions every 5 s, starts of 100 s.
fn on_eight(
    changes: &Value,
    requests: impl IntoIterator<Item = (f64, u32, u32)>,
    script: &[(f64, Decision)],
    seed: u64,
) -> (RunMetrics, Detail) {
    let mut cluster = json!({"tune_interval_s": 5, "scale_up_delay_s": 100, "replica_scheduler": {"vllm": {"batch_size_cap": 8}}});
    changes.as_object().unwrap().iter().for_each(|(name, value)| cluster[name] = value.clone());
    let scenario = Scenario::new(cluster, json!("inferline"), requests);
    let inputs = RunInputs { stepping: true, devices_per_node: 8, seed, ..scenario.inputs() };
    let parts = Parts { autoscaler: Some(Box::new(Script(script.to_vec()))), ..Parts::of(&inputs) };
    let mut workspace = Workspace::default();
    let (metrics, detail) = simulate_parts_in_detail(&inputs, parts, &mut workspace).unwrap();
    let billing = &inputs.cluster.billing;
    if billing.minimum_s == 0.0 && !billing.cold_start {
        assert_eq!(violations(&inputs, &metrics, &detail, &workspace), [""; 0]);
    }
    (metrics, detail)
}

/// A request a second.
fn trickle(for_s: u32) -> impl Iterator<Item = (f64, u32, u32)> {
    (0..for_s).map(|i| (f64::from(i), 64, 2))
}

fn nodes(detail: &Detail) -> Vec<(f64, u64)> {
    let mut nodes: Vec<(f64, u64)> =
        detail.replicas.iter().map(|change| (change.time_s, change.num_nodes.unwrap())).collect();
    // The last word at each instant, where it says something new.
    nodes.reverse();
    nodes.dedup_by_key(|&mut (at_s, _)| at_s);
    nodes.reverse();
    nodes.dedup_by_key(|&mut (_, nodes)| nodes);
    nodes
}

fn joins(detail: &Detail) -> Vec<f64> {
    let grows = |two: &[scalefront::simulation::ReplicaRecord]| {
        (two[1].num_replicas > two[0].num_replicas).then_some(two[1].time_s)
    };
    detail.replicas.windows(2).filter_map(grows).collect()
}

const USD_PER_S: f64 = 8.0 / 3600.0;

/// Of three that are ordered, one finds room and joins after its start; the others wait 300 s for the node
/// that both fit on.
#[test]
fn who_finds_room_does_not_wait_for_a_node() {
    let pool = json!({"node_pool": {"provision_s": 300}});
    let (metrics, detail) = on_eight(&pool, trickle(600), &[(0.0, Decision::Up(3))], 1);
    assert_eq!(joins(&detail), [100.0, 400.0, 400.0]);
    assert_eq!(nodes(&detail), [(0.0, 1), (300.0, 2)], "a node is paid from its arrival");
    assert_eq!(metrics.replicas_pending_s, Some(600.0));
    let due_usd = (metrics.simulated_s + (metrics.simulated_s - 300.0)) * USD_PER_S;
    assert!((metrics.total_cost_usd - due_usd).abs() < 1e-9, "{} {due_usd}", metrics.total_cost_usd);

    // Whoever pays for starts pays for nodes from their order.
    let paid = json!({"node_pool": {"provision_s": 300}, "billing": {"cold_start": true}});
    let (metrics, detail) = on_eight(&paid, trickle(600), &[(0.0, Decision::Up(3))], 1);
    assert!((metrics.total_cost_usd - 2.0 * metrics.simulated_s * USD_PER_S).abs() < 1e-9);
    assert_eq!(nodes(&detail), [(0.0, 2)]);

    // What is called off waits no more; its node comes all the same, and is released when it has been empty
    // for long enough.
    let kept = json!({"node_pool": {"provision_s": 300, "release_after_s": 60}});
    let (metrics, detail) =
        on_eight(&kept, trickle(600), &[(0.0, Decision::Up(3)), (20.0, Decision::Down(2))], 1);
    assert_eq!(
        (joins(&detail), metrics.starts_cancelled, metrics.replicas_pending_s),
        (vec![100.0], 2, Some(40.0))
    );
    assert_eq!(nodes(&detail), [(0.0, 1), (300.0, 2), (360.0, 1)]);

    // Nodes that are always there need not come.
    let (_, detail) = on_eight(
        &json!({"node_pool": {"provision_s": 300, "min_nodes": 2}}),
        trickle(600),
        &[(0.0, Decision::Up(3))],
        1,
    );
    assert_eq!((joins(&detail), nodes(&detail)), (vec![100.0; 3], vec![(0.0, 2)]));

    // No more than there may be.
    let (metrics, detail) =
        on_eight(&json!({"node_pool": {"max_nodes": 1}}), trickle(600), &[(0.0, Decision::Up(3))], 1);
    assert_eq!((joins(&detail), nodes(&detail)), (vec![100.0], vec![(0.0, 1)]));
    assert_eq!(metrics.replicas_pending_s, Some(2.0 * metrics.simulated_s));
}

/// The least time that is paid holds for nodes.
#[test]
fn a_node_is_paid_for_its_least_time() {
    let script = [(0.0, Decision::Up(2)), (20.0, Decision::Down(2))];
    let run = |minimum_s: u32| {
        on_eight(&json!({"node_pool": {}, "billing": {"minimum_s": minimum_s}}), trickle(300), &script, 1)
    };
    let (free, detail) = run(0);
    assert_eq!(
        nodes(&detail),
        [(0.0, 1), (0.0, 2), (20.0, 1)][1..].to_vec(),
        "ordered and there at once, until both are called off"
    );
    let (paid, _) = run(60);
    assert!((paid.total_cost_usd - free.total_cost_usd - 40.0 * USD_PER_S).abs() < 1e-9);
    let (long, _) = run(1000);
    let due_usd = 2.0 * 1000.0 * USD_PER_S;
    assert!((long.total_cost_usd - due_usd).abs() < 1e-9, "{}", long.total_cost_usd);
}

/// Five on three nodes, (0, 3), (1, 4) and (2): two of them go, by each rule.
#[test]
fn who_goes_decides_which_node_is_freed() {
    let last = |choice: &str, placement: &str, initial: u32, down: u32, seed: u64| {
        let changes = json!({"scale_down_choice": choice, "node_pool": {"placement": placement}, "initial_replicas": initial});
        let (_, detail) = on_eight(&changes, trickle(120), &[(50.0, Decision::Down(down))], seed);
        let mut left: Vec<u32> =
            detail.requests.iter().filter(|r| r.arrived_at_s > 60.0).filter_map(|r| r.replica_id).collect();
        left.sort_unstable();
        left.dedup();
        (left, nodes(&detail).last().unwrap().1)
    };
    assert_eq!(last("newest_first", "least_allocated", 5, 2, 1), (vec![0, 1, 2], 3), "one on each node");
    assert_eq!(
        last("fewest_on_node", "least_allocated", 5, 2, 1),
        (vec![0, 1, 4], 2),
        "2 alone, then the newest beside 0"
    );
    assert_eq!(last("fewest_on_node", "least_allocated", 5, 3, 1), (vec![1, 4], 1));
    assert_eq!(last("idle_first", "least_allocated", 5, 2, 1), (vec![0, 3, 4], 2), "0 is at work");
    assert_eq!(
        last("newest_first", "most_allocated", 5, 2, 1),
        (vec![0, 1, 2], 2),
        "packed: (0, 1), (2, 3), (4)"
    );
    for seed in 0..8 {
        // Ranks are taken once: of the four that have a neighbour any two go, 2 stays.
        let (left, nodes) = last("replica_set", "least_allocated", 5, 2, seed);
        assert!(left.contains(&2) && left.len() == 3 && (2..=3).contains(&nodes), "{left:?} {nodes}");
    }
}

/// Of ages of 200, 100 and 90 s, the logarithms of nanoseconds are 37, 36 and 36: one of the two younger
/// goes, whichever.
#[test]
fn a_replica_set_compares_ages_by_their_logarithm() {
    let script = [(0.0, Decision::Up(1)), (10.0, Decision::Up(1)), (200.0, Decision::Down(1))];
    let mut gone = [0; 3];
    for seed in 0..40 {
        let changes = json!({"scale_down_choice": "replica_set"});
        let (_, detail) = on_eight(&changes, trickle(300), &script, seed);
        let served =
            |id: u32| detail.requests.iter().any(|r| r.arrived_at_s > 210.0 && r.replica_id == Some(id));
        (0..3).for_each(|id| gone[id as usize] += u32::from(!served(id)));
    }
    assert_eq!(gone[0], 0, "the oldest went");
    assert!(gone[1] + gone[2] == 40 && gone[1].min(gone[2]) >= 8, "{gone:?}");
}

/// A replica that finishes what it has keeps its devices; the one that was ordered for them waits, and then
/// starts.
#[test]
fn who_drains_holds_devices() {
    // A long answer each for two replicas, which then are told to stop: one of them is the least.
    let requests = || (0..2).map(|_| (1.0, 64, 2000)).chain((3..300).map(|i| (f64::from(i), 64, 2)));
    let script = [(5.0, Decision::Down(1)), (10.0, Decision::Up(2))];
    let changes = json!({"initial_replicas": 2, "max_devices": 12, "scale_down_choice": "newest_first"});
    let (metrics, detail) = on_eight(&changes, requests(), &script, 1);
    let freed_s = detail
        .replicas
        .iter()
        .find(|change| change.time_s > 10.0 && change.num_replicas == 1)
        .unwrap()
        .time_s;
    assert!(freed_s > 30.0 && freed_s < 110.0, "{freed_s}");
    assert_eq!(joins(&detail), [110.0, freed_s + 100.0], "three have devices, the fourth when one has left");
    assert!((metrics.replicas_pending_s.unwrap() - (freed_s - 10.0)).abs() < 1e-9);
    let (free, _) = on_eight(&json!({"initial_replicas": 2}), requests(), &script, 1);
    assert_eq!(free.replicas_pending_s, None);
}

#[test]
fn what_cannot_be_paid_or_held_is_refused() {
    let faults = |changes: Value| {
        let cluster: ClusterSettings = serde_json::from_value(changes).unwrap();
        let mut faults = Faults::default();
        cluster.check(&mut faults);
        faults
            .found
            .into_iter()
            .map(|fault| format!("{}: {}", fault.path, fault.message))
            .collect::<Vec<_>>()
            .join("\n")
    };
    for (changes, expected) in [
        (json!({"max_devices": 7, "initial_replicas": 2}), "max_devices: 7 found, expected at least 8: "),
        (
            json!({"node_pool": {"max_nodes": 1}, "min_replicas": 2, "initial_replicas": 2}),
            "node_pool.max_nodes: 1 found, expected at least 2: ",
        ),
        (
            json!({"node_pool": {}, "billing": {"unit": "device"}}),
            "billing.unit: `device` found, expected `node`: ",
        ),
        (
            json!({"node_pool": {}, "billing": {"drain": false}}),
            "billing.drain: false found, expected true: ",
        ),
        (
            json!({"scale_down_choice": "fewest_on_node"}),
            "scale_down_choice: `fewest_on_node` found, which has to know the nodes",
        ),
        (json!({"node_pool": {"provision_s": -1}}), "node_pool.provision_s: "),
    ] {
        assert!(faults(changes.clone()).contains(expected), "{changes}: {}", faults(changes.clone()));
    }
    assert_eq!(faults(json!({"node_pool": {}, "max_devices": 8, "scale_down_choice": "fewest_on_node"})), "");
}

fn pools() -> impl Strategy<Value = Value> {
    let placement = prop::sample::select(vec!["least_allocated", "most_allocated"]);
    let seconds = || prop_oneof![Just(0.0), 1.0..40.0_f64];
    (seconds(), seconds(), placement, 0..3_u32, prop::option::of(4..8_u32)).prop_map(
        |(provision_s, release_after_s, placement, min_nodes, max_nodes)| {
            let mut pool = json!({
                "provision_s": provision_s, "release_after_s": release_after_s, "placement": placement, "min_nodes": min_nodes});
            if let Some(max_nodes) = max_nodes {
                pool["max_nodes"] = json!(max_nodes);
            }
            pool
        },
    )
}

fn decisions() -> impl Strategy<Value = Vec<(f64, Decision)>> {
    let decision = prop_oneof![
        3 => Just(Decision::Hold),
        2 => (1..5_u32).prop_map(Decision::Up),
        2 => (1..5_u32).prop_map(Decision::Down),
    ];
    prop::collection::vec(decision, 30).prop_map(|all| (0..).map(|i| f64::from(i) * 5.0).zip(all).collect())
}

fn busy() -> impl Iterator<Item = (f64, u32, u32)> {
    (0..160).map(|i| (f64::from(i), 200 + 13 * (i % 7), 1 + 37 * (i % 5)))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    /// What is paid is the integral of the nodes held, never less than what `ceil` asks for at that moment;
    /// the quota holds at every moment ([`violations`] look at both, record by record); nodes that are not
    /// kept empty hold somebody.
    #[test]
    fn nodes_are_paid_and_quotas_kept(
        pool in prop::option::of(pools()), script in decisions(), initial in 1..5_u32,
        choice in prop::sample::select(vec!["idle_first", "replica_set", "newest_first", "fewest_on_node"]),
        order in prop::sample::select(vec!["starting_first", "serving_first"]),
        spare in prop::option::of(0..20_u32), up_s in prop_oneof![Just(0.0), 1.0..30.0_f64], lost in prop::bool::ANY,
    ) {
        let mut cluster = json!({
            "initial_replicas": initial, "scale_up_delay_s": up_s, "scale_down_order": order, "max_replicas": 12, "scale_down_choice": choice,
        });
        if choice == "fewest_on_node" && pool.is_none() {
            cluster["scale_down_choice"] = json!("idle_first");
        }
        if let Some(pool) = &pool {
            cluster["node_pool"] = pool.clone();
        }
        if let Some(spare) = spare {
            cluster["max_devices"] = json!(4 * initial + spare);
        }
        if lost {
            cluster["failures"] = json!({"mean_time_to_crash_s": 60, "mean_time_to_reclaim_s": 90, "reclaim_notice_s": 5});
        }
        let (metrics, detail) = on_eight(&cluster, busy(), &script, 7);
        prop_assert_eq!(metrics.num_completed, 160);
        let Some(pool) = pool else { return Ok(()) };
        let until = detail.replicas.iter().skip(1).map(|change| change.time_s).chain([metrics.simulated_s]);
        let node_s: f64 = detail.replicas.iter().zip(until).map(|(now, until_s)| now.num_nodes.unwrap() as f64 * (until_s - now.time_s)).sum();
        prop_assert!((metrics.node_hours * 3600.0 - node_s).abs() < 1e-6);
        prop_assert!((metrics.total_cost_usd - node_s * USD_PER_S).abs() < 1e-9);
        let (least, most) = (pool["min_nodes"].as_u64().unwrap(), pool["max_nodes"].as_u64().unwrap_or(u64::MAX));
        for change in &detail.replicas {
            let holding = change.num_replicas + change.num_starting - change.num_pending.unwrap();
            let nodes = change.num_nodes.unwrap();
            prop_assert!(nodes >= u64::from(holding.div_ceil(2)).max(least) && nodes <= most, "{:?}", change);
            if pool["release_after_s"] == 0.0 && pool["provision_s"] == 0.0 {
                prop_assert!(nodes <= u64::from(holding).max(least), "an empty node is kept: {:?}", change);
            }
        }
    }

    /// The same replicas at the same times cost less where they are packed anew at every moment.
    #[test]
    fn packing_at_every_moment_is_never_dearer(
        script in decisions(), initial in 1..5_u32, placement in prop::sample::select(vec!["least_allocated", "most_allocated"]),
    ) {
        let run = |changes: Value| {
            let mut cluster = json!({"initial_replicas": initial, "scale_up_delay_s": 7, "billing": {"cold_start": true}});
            changes.as_object().unwrap().iter().for_each(|(name, value)| cluster[name] = value.clone());
            on_eight(&cluster, busy(), &script, 7).0
        };
        let (tight, as_it_is) = (run(json!({})), run(json!({"node_pool": {"placement": placement}})));
        prop_assert_eq!(tight.e2e_s, as_it_is.e2e_s);
        prop_assert_eq!((tight.replica_hours, as_it_is.replicas_pending_s), (as_it_is.replica_hours, Some(0.0)));
        prop_assert!(tight.total_cost_usd <= as_it_is.total_cost_usd * (1.0 + 1e-12));
    }
}
