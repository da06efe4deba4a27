use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};

use super::space::{Candidate, arms, cell, pairs};
use super::*;
use crate::sweep::grid::Grid;
use crate::sweep::grid::source::Source;

/// Counts runs, and may call them off.
#[derive(Default)]
struct Watch {
    ended: AtomicUsize,
    most: Option<usize>,
}

impl Progress for Watch {
    fn run_ended(&self, _requests: u64) {
        self.ended.fetch_add(1, Ordering::Relaxed);
    }

    fn is_interrupted(&self) -> bool {
        self.most.is_some_and(|most| self.ended.load(Ordering::Relaxed) >= most)
    }
}

fn parsed(grid: &Value) -> Grid {
    let source = Source { file: "x.json".into(), text: grid.to_string() };
    Grid::parse(source, Path::new("x.json"), Vec::new()).unwrap()
}

fn plan(grid: &Value) -> Plan {
    Plan::new(parsed(grid)).unwrap()
}

/// Two workloads and two seeds, three families: one along a line of 41 points, a fleet by size, one in a
/// plane.
fn grid() -> Value {
    let workload = |name: &str, rate: f64, factor: f64| {
        let phases =
            json!([{"duration_s": 120, "rate_per_s": rate}, {"duration_s": 60, "rate_per_s": factor * rate}]);
        json!({"name": name, "generate": {"arrivals": {"poisson": {"phases": phases}},
            "lengths": {"fixed": {"prefill_tokens": 256, "decode_tokens": 4}}}})
    };
    json!({
        "workloads": [workload("jump", 6.0, 3.0), workload("fall", 18.0, 0.4)],
        "seeds": [1, 2],
        "cluster": {"max_replicas": 12, "replica_scheduler": {"vllm": {"batch_size_cap": 16}}},
        "autoscalers": [
            {"frontier": {"service_level": {"from": 0, "to": 1, "points": 41}}},
            {"static": {"replicas": {"from": 1, "to": 12, "step": 1}}},
            {"keda": {"target_per_replica": [1, 2, 4, 8, 16, 32], "metric": ["outstanding_requests", "running_requests"]},
                "min_replicas": [1, 2, 3]}
        ],
        "objectives": {"constraints": {"p90_e2e_s": 1.0}}
    })
}

fn search_in(dir: &Path, plan: &Plan, budget: usize, threads: usize, watch: &Watch) -> Recommendation {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
    pool.install(|| search(plan, dir, budget, watch)).unwrap()
}

/// The cheapest by running everything.
fn exhaustive(plan: &Plan) -> Option<(Candidate, f64)> {
    let dir = tempfile::tempdir().unwrap();
    let journal = Journal::create(dir.path(), &Header::new(plan, None, plan.unique().len())).unwrap();
    let mut race =
        Race::new(plan, pairs(&plan.grid), &journal, CellLimits::default(), usize::MAX, BTreeMap::new());
    // One heat against nobody: whoever keeps the limits runs to the end.
    let all: Vec<Candidate> =
        arms(&plan.grid).iter().flat_map(|arm| arm.places().map(|(_, at)| *at).collect::<Vec<_>>()).collect();
    race.heat(&all, &Watch::default()).unwrap();
    assert_eq!(race.standings.len(), all.len());
    race.best
}

#[test]
fn arms_hold_every_setting_once() {
    let grid = parsed(&grid());
    let arms = arms(&grid);
    // A metric is no number: two arms of KEDA.
    assert_eq!(
        arms.iter().map(|arm| arm.sizes.clone()).collect::<Vec<_>>(),
        [vec![41], vec![12], vec![6, 3], vec![6, 3]]
    );
    let pairs = pairs(&grid);
    let mut cells: Vec<u64> = arms
        .iter()
        .flat_map(|arm| arm.places())
        .flat_map(|(_, at)| pairs.iter().map(|pair| cell(&grid, *at, *pair)))
        .collect();
    cells.sort_unstable();
    assert_eq!(cells, (0..grid.count()).collect::<Vec<_>>());
    let coordinates = (0..grid.count()).map(|index| grid.index(&grid.coordinates(index)));
    assert!(coordinates.eq(0..grid.count()));
}

#[test]
fn the_search_finds_what_running_everything_finds() {
    let plan = plan(&grid());
    let (best, cost) = exhaustive(&plan).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let budget = plan.unique().len() / 4;
    let found = search_in(dir.path(), &plan, budget, 2, &Watch::default());
    let setting = found.best.as_ref().unwrap();
    assert!(found.runs <= budget, "{} of {budget}", found.runs);
    let month = setting.cost_usd_per_month.unwrap();
    assert_eq!(setting.candidate, best, "{month} a month instead of {cost} in all\n{found}");
    assert!(
        setting.limits.len() == 2
            && setting.limits.iter().all(|limit| limit.kept && limit.margin.unwrap() >= 0.0)
    );
    assert!(!found.neighbours.is_empty() && found.fixed.is_some(), "{found}");
    let answer = found.to_json(Some("apply it"));
    for field in [
        "setting",
        "cost_usd_per_month",
        "constraints",
        "robustness",
        "runs",
        "provenance",
        "verdict",
        "apply",
    ] {
        assert!(!answer[field].is_null(), "{field}: {answer:#}");
    }
    assert_eq!(answer["constraints"][0]["metric"], "p90_e2e_s");
}

#[test]
fn answers_do_not_depend_on_threads_nor_on_what_ran_before() {
    let plan = plan(&grid());
    let (one, four) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let alone = search_in(one.path(), &plan, 60, 1, &Watch::default());
    let together = search_in(four.path(), &plan, 60, 4, &Watch::default());
    assert_eq!(alone.to_json(None), together.to_json(None));
    // Interrupted, and then gone on with; and once more with everything there.
    let dir = tempfile::tempdir().unwrap();
    let cut = search_in(dir.path(), &plan, 60, 2, &Watch { most: Some(25), ..Watch::default() });
    assert!(cut.ended == Ended::Interrupted && cut.runs < 60, "{cut}");
    let watch = Watch::default();
    let whole = search_in(dir.path(), &plan, 60, 2, &watch);
    let ran = watch.ended.into_inner();
    assert!(whole.reused >= 20 && ran + whole.reused == whole.runs, "{ran} {} {}", whole.reused, whole.runs);
    assert_eq!(Recommendation { reused: 0, ..whole }, Recommendation { reused: 0, ..alone.clone() });
    let idle = Watch::default();
    let again = search_in(dir.path(), &plan, 60, 2, &idle);
    assert_eq!((idle.ended.into_inner(), again.best), (0, alone.best));
}

#[test]
fn where_none_keeps_the_limits_the_nearest_is_named() {
    let mut grid = grid();
    grid["objectives"]["constraints"] = json!({"p90_e2e_s": {"jump": 1e-6, "fall": 2}});
    let plan = plan(&grid);
    let dir = tempfile::tempdir().unwrap();
    let found = search_in(dir.path(), &plan, 50, 2, &Watch::default());
    let verdict = found.verdict();
    assert!(
        found.best.is_none()
            && verdict.starts_with("No setting that was looked at keeps the limits; nearest comes"),
        "{verdict}"
    );
    assert!(verdict.contains("p90_e2e_s ≤ 0.000001 on `jump`"), "{verdict}");
    let answer = found.to_json(None);
    assert!(answer["setting"].is_null() && answer["nearest"]["constraints"][0]["kept"] == false);
}

#[test]
fn ranges_are_searched_between_their_points_where_that_makes_sense() {
    let mut grid = grid();
    grid["autoscalers"][1]["static"]["replicas"] = json!({"from": 1, "to": 12, "points": 12});
    let finer = refine::refined(&parsed(&grid), 4).unwrap();
    let counts: Vec<u64> = finer.autoscalers.iter().map(crate::sweep::grid::Section::count).collect();
    assert_eq!(counts, [161, 12, 36], "replicas are whole");
    let values = |grid: &Grid| {
        (0..grid.autoscalers[0].count())
            .map(|i| grid.autoscalers[0].varying(i)[0].1.clone())
            .collect::<Vec<_>>()
    };
    let (few, many) = (values(&parsed(&grid)), values(&finer));
    assert!(few.iter().all(|value| many.contains(value)), "points of before are points still");
}

#[test]
fn without_limits_there_is_nothing_to_recommend() {
    let mut grid = grid();
    grid["objectives"] = json!({});
    assert!(check(&plan(&grid)).unwrap_err().to_string().contains("objectives.constraints: no limits found"));
    grid["objectives"] = json!({"constraints": {"p90_e2e_s": {"jump": 1}}});
    assert!(check(&plan(&grid)).unwrap_err().to_string().contains("no limit on workload `fall` found"));
}

/// A fleet twice as large carries about twice as much, and what it carries keeps the limits where a little
/// more breaks them.
#[test]
fn the_largest_load_grows_with_the_fleet() {
    let mut grid = grid();
    grid["workloads"] = json!([grid["workloads"][0]]);
    grid["seeds"] = json!([1]);
    grid["autoscalers"] = json!([{"static": {"replicas": [2, 4]}}]);
    let plan = plan(&grid);
    let loads = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let dir = tempfile::tempdir().unwrap();
        pool.install(|| load::largest(&plan, dir.path(), 0.05, &Watch::default())).unwrap()
    };
    let found = loads(1);
    assert_eq!(found, loads(3));
    assert!(found.finished() && found.ran == found.carried.iter().map(|carried| carried.runs).sum::<usize>());
    let found = found.carried;
    let factor = |replicas: u64| {
        let of = |carried: &&load::Carried| carried.autoscaler["static"]["replicas"] == replicas;
        found.iter().find(of).unwrap().factor.unwrap()
    };
    let ratio = factor(4) / factor(2);
    assert!((1.6..2.6).contains(&ratio), "{ratio}: {found:#?}");
    assert!(found.iter().all(|carried| carried.broken.is_some() && carried.rate_per_s.unwrap() > 0.0));
}

/// Called off after any number of loads it says what it has; asked again it goes on, to what it finds in one
/// go.
#[test]
fn the_largest_load_is_anytime_and_goes_on() {
    let mut grid = grid();
    grid["workloads"] = json!([grid["workloads"][0]]);
    grid["seeds"] = json!([1]);
    grid["autoscalers"] = json!([{"static": {"replicas": [2, 3, 4]}}]);
    let plan = plan(&grid);
    let in_dir = |dir: &Path, precision: f64, most: Option<usize>| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build().unwrap();
        pool.install(|| load::largest(&plan, dir, precision, &Watch { most, ..Watch::default() })).unwrap()
    };
    let (dir, alone) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let whole = in_dir(alone.path(), 0.05, None);
    let cut = in_dir(dir.path(), 0.05, Some(5));
    assert!(!cut.finished() && (5..8).contains(&cut.ran), "{cut:#?}");
    assert!(
        !cut.carried.is_empty()
            && cut.carried.iter().any(|carried| carried.factor.is_some() && !carried.finished),
        "{cut:#?}"
    );
    assert!(
        cut.carried.iter().find(|carried| !carried.finished).unwrap().line().contains(" at least "),
        "{cut:#?}"
    );
    // A line that was cut off counts for nothing, and spoils none after it.
    let path = dir.path().join("loads.jsonl");
    let mut text = std::fs::read_to_string(&path).unwrap();
    text.truncate(text.len() - 20);
    std::fs::write(&path, text).unwrap();
    let rest = in_dir(dir.path(), 0.05, None);
    assert_eq!((&rest.carried, rest.ran), (&whole.carried, whole.ran - cut.ran + 1));
    assert_eq!(in_dir(dir.path(), 0.05, None).ran, 0, "nothing is tried twice");
    let finer = in_dir(dir.path(), 0.01, None);
    assert!(
        finer.ran > 0 && finer.carried.iter().all(|carried| carried.runs > 7),
        "goes on to a finer answer: {finer:#?}"
    );
    // Other limits are another question.
    let mut other = grid.clone();
    other["objectives"]["constraints"] = json!({"p90_e2e_s": 0.9});
    assert!(load::largest(&self::plan(&other), dir.path(), 0.05, &Watch::default()).unwrap().ran > 0);
}
