//! The benches at tiny size, so that they cannot rot: each answers, and answers alike when asked again.

#[path = "../../benches/cases/mod.rs"]
mod cases;

use cases::{Case, Size};

#[test]
fn every_case_answers_the_same_twice() {
    let mut all = vec![cases::bare(Size::Tiny)];
    all.extend(cases::engine(Size::Tiny));
    all.extend(cases::decode(Size::Tiny));
    all.extend(cases::day(Size::Tiny));
    all.extend(cases::prefix_caching(Size::Tiny));
    all.extend(cases::sweep(Size::Tiny));
    all.extend(cases::import(Size::Tiny));
    all.extend(cases::fleets(Size::Tiny));
    all.extend(cases::search(Size::Tiny, "round_robin", 40));
    for Case { name, elements, run } in &mut all {
        assert!(*elements > 0, "{name} has nothing to do");
        let digest = run();
        assert_eq!(run(), digest, "{name} answers otherwise the second time");
    }
}

/// One pool that is called so gives what no pools give.
#[test]
fn a_fleet_of_one_pool_is_no_fleet() {
    let mut cases = cases::fleets(Size::Tiny);
    assert_eq!((cases[0].run)(), (cases[1].run)());
}

/// What the bench compares finds the same.
#[test]
fn searches_by_whole_and_by_shared_runs_agree() {
    for router in ["round_robin", "least_outstanding"] {
        let [mut whole, mut shared] = cases::search(Size::Small, router, 60);
        assert_eq!((whole.run)(), (shared.run)(), "{router}");
    }
}

/// The naive twin of the bench is one of the policy's own.
#[test]
fn the_envelope_and_its_naive_twin_agree() {
    for in_look_back in [10, 1000] {
        let mut one = cases::envelope(5000, in_look_back);
        let mut other = cases::naive_envelope(5000, in_look_back);
        assert_eq!((one.run)(), (other.run)(), "{in_look_back} requests in the look-back");
    }
}

/// Single operations are measured: an operation costs less than the worst one, and all of them something.
#[test]
fn costs_of_the_envelope_are_measured() {
    let costs = cases::envelope_costs(1000, 1);
    assert!(0.0 < costs.update_ns && costs.update_ns <= costs.worst_update_ns, "{costs:?}");
    assert!(0.0 < costs.query_ns && costs.query_ns <= costs.worst_query_ns, "{costs:?}");
    assert!(cases::naive_query_ns(1000, 1) > 0.0);
}

/// The bare loop does the work that it is compared with: same traffic, all of it served, in about the same
/// time and as many replicas.
#[test]
fn the_bare_loop_is_a_fair_rival() {
    let setup = cases::lab(Size::Small, "round_robin");
    let (p90_s, replica_s) = cases::run_bare(&setup);
    let metrics = scalefront::simulation::simulate(&setup.inputs(), &mut Default::default()).unwrap();
    let engine_p90_s = metrics.e2e_s.unwrap().p90;
    assert!(
        p90_s > 0.5 * engine_p90_s && p90_s < 2.0 * engine_p90_s,
        "P90 {p90_s} s, the engine's {engine_p90_s} s"
    );
    let share = replica_s / 3600.0 / metrics.replica_hours;
    assert!((0.5..2.0).contains(&share), "{share} of the engine's replica-hours");
}
