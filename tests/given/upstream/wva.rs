//! llm-d's workload variant autoscaler: both saturation analyzers, the throughput analyzer and the optimizer,
//! really run.

use scalefront::autoscaler::peaks::Peak;
use scalefront::autoscaler::wva::WvaVersion;
use scalefront::autoscaler::wva::saturation::{WvaInput, WvaReplica};
use scalefront::autoscaler::wva_v1::{WvaCounts, WvaV1Settings};
use scalefront::autoscaler::wva_v2::{WvaAnalyzers, WvaOptimizer, WvaV2Settings};

use super::{Row, Series, Tally, series};

fn version(series: &Series) -> WvaVersion {
    let february = series.setting("code") == Some("feb") || series.name.contains("_feb");
    if february { WvaVersion::February } else { WvaVersion::August }
}

/// Replicas that the optimizer of August may reach; in February nothing bounds it.
fn most(series: &Series) -> u32 {
    match version(series) {
        WvaVersion::February => 1_000_000,
        WvaVersion::August if series.settings.is_empty() => 20,
        WvaVersion::August => 12,
    }
}

/// `use:queue:tokens`, and `:inter-token s:tokens/s` in series of the throughput analyzer.
fn replicas(row: Row) -> Vec<WvaReplica> {
    let replica = |text: &str| {
        let parts: Vec<f64> = text.split(':').map(|part| part.parse().unwrap()).collect();
        WvaReplica {
            kv_use: parts[0],
            queued_requests: parts[1] as u32,
            tokens_in_use: parts[2] as i64,
            itl_s: parts.get(3).copied().unwrap_or(0.0),
            generated_tokens_per_s: parts.get(4).copied().unwrap_or(0.0),
        }
    };
    row.list("replicas").map(replica).collect()
}

pub fn saturation_v1() {
    let mut tally = Tally::default();
    for series in series("wva").iter().filter(|series| series.name.contains("_v1_")) {
        let settings = WvaV1Settings { version: version(series), ..WvaV1Settings::default() };
        for row in series.rows() {
            let peaks: Vec<Peak> = replicas(row)
                .into_iter()
                .map(|replica| Peak {
                    kv_use: replica.kv_use,
                    queued_requests: f64::from(replica.queued_requests),
                })
                .collect();
            let [current, pending, previous_target] =
                ["current", "pending", "previous_target"].map(|column| row.count(column));
            let (target, ..) = settings.target(&peaks, WvaCounts { current, pending, previous_target });
            let target =
                if settings.version == WvaVersion::August { target.clamp(1, most(series)) } else { target };
            tally.compare(
                || format!("{} at {} s", series.name, row.text("time_s")),
                target,
                row.count("target"),
            );
        }
    }
    tally.conclude("wva, saturation analyzer V1");
}

pub fn saturation_v2_and_throughput() {
    let (mut analyses, mut targets) = (Tally::default(), Tally::default());
    for series in series("wva").iter().filter(|series| !series.name.contains("_v1_")) {
        let analyzers = match series.setting("analyzer") {
            Some("throughput only") => WvaAnalyzers::Throughput,
            Some("V2 and throughput") => WvaAnalyzers::SaturationAndThroughput,
            _ => WvaAnalyzers::Saturation,
        };
        let engine = series
            .number("max_num_batched_tokens")
            .filter(|&tokens| tokens > 0.0)
            .map(|tokens| (tokens, series.number("max_num_seqs").unwrap_or(256.0)));
        let settings = WvaV2Settings { version: version(series), analyzers, ..WvaV2Settings::default() };
        let mut optimizer = WvaOptimizer::new(&settings, engine);
        for row in series.rows() {
            let at = || format!("{} at {} s", series.name, row.text("time_s"));
            let replicas = replicas(row);
            let input = WvaInput {
                now_s: row.number("time_s"),
                replicas: &replicas,
                pending: row.count("pending"),
                kv_tokens: if series.settings.is_empty() { 10_000 } else { 20_480 },
                prefill_tokens: row.number("avg_in"),
                decode_tokens: row.number("avg_out"),
                arrivals_per_s: row.number("arrival_rate"),
                gateway_queue: row.count("queue_size"),
                gateway_bytes: row.number("queue_bytes"),
            };
            let target = optimizer.reconcile(&input, &input, row.count("current"), most(series));
            targets.compare(at, target.map_or(-1, i64::from), row.number("target") as i64);
            let [saturation, throughput] = optimizer.analyses;
            let mut compare = |column: &str, ours: f64| {
                if !row.text(column).is_empty() {
                    let theirs = row.number(column);
                    let close = (ours - theirs).abs() <= 1e-6 * theirs.abs().max(1.0);
                    analyses.compare(
                        || format!("{}, {column}", at()),
                        if close { theirs } else { ours },
                        theirs,
                    );
                }
            };
            let (required, spare) =
                saturation.balance(settings.scale_up_threshold, settings.scale_down_boundary);
            compare("per_replica_capacity", saturation.per_replica);
            compare("supply", saturation.supply);
            compare("demand", saturation.demand);
            compare("required", required);
            compare("spare", spare);
            let (required, spare) =
                throughput.balance(settings.scale_up_threshold, settings.scale_down_boundary);
            compare("ta_per_replica", throughput.per_replica);
            compare("ta_supply", throughput.supply);
            compare("ta_demand", throughput.demand);
            compare("ta_required", required);
            compare("ta_spare", spare);
        }
    }
    analyses.conclude("wva, analyses");
    targets.conclude("wva, targets");
}
