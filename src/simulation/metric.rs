//! The metrics of a run, each defined once: name, unit, meaning, which way is better, and what a run needs to
//! have it.
//!
//! Columns of tables, labels of figures, checks of objectives and the documentation all derive from this
//! table.

mod fleets;
mod sessions;

use std::fmt;
use std::sync::LazyLock;

use super::metrics::{Distribution, MetricValue, RunMetrics};
use super::record::RequestRecord;
use Better::{Less, More, Neither};
use Source::{Count, Number, Optional};

/// Days of a month, wherever money is given by the month: 365.25 / 12, rounded up.
pub const DAYS_PER_MONTH: f64 = 30.44;

/// Which way a metric is better.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Better {
    Less,
    More,
    /// It describes a run and does not judge it.
    Neither,
}

/// What a run must have, or else the metric has no value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Needs {
    Nothing,
    /// `cluster.latency_limits`.
    LatencyLimits,
    /// Requests with more than one output token.
    SeveralOutputTokens,
    /// A replica scheduler that caches prefixes, and prompts that share them.
    PrefixCaching,
    /// `cluster.node_pool` or `cluster.max_devices`.
    LimitedDevices,
    /// A workload of sessions.
    Sessions,
    /// The same and `cluster.latency_limits`.
    SessionsAndLimits,
    /// The same and a replica scheduler that caches prefixes.
    SessionsAndCaching,
    /// `cluster.pools`.
    Pools,
    /// Pools of role `prefill`.
    PrefillPools,
    /// `cluster.budget`.
    Budget,
}

/// What is measured of each request.
#[derive(Debug, Clone, Copy)]
pub struct Quantity {
    /// Such as `ttft_s`: the end of the names of its statistics.
    pub name: &'static str,
    /// Such as `time to first token`.
    pub label: &'static str,
    pub meaning: &'static str,
    pub needs: Needs,
    distribution: fn(&RunMetrics) -> Option<Distribution>,
    /// Of a recorded request; None where it does not have it.
    pub of_request: fn(&RequestRecord) -> Option<f64>,
}

/// The quantities in the order of their columns.
pub const QUANTITIES: [Quantity; 5] = [
    Quantity {
        name: "e2e_s",
        label: "end-to-end latency",
        meaning: "arrival to last token",
        needs: Needs::Nothing,
        distribution: |metrics| metrics.e2e_s,
        of_request: |request| Some(request.completed_at_s? - request.arrived_at_s),
    },
    Quantity {
        name: "ttft_s",
        label: "time to first token",
        meaning: "arrival to first token",
        needs: Needs::Nothing,
        distribution: |metrics| metrics.ttft_s,
        of_request: |request| {
            request.completed_at_s.and(request.first_token_at_s).map(|at_s| at_s - request.arrived_at_s)
        },
    },
    Quantity {
        name: "tpot_s",
        label: "time per output token",
        meaning: "time per output token after the first, of requests with more than one",
        needs: Needs::SeveralOutputTokens,
        distribution: |metrics| metrics.tpot_s,
        of_request: |request| {
            let decoding_s = request.completed_at_s? - request.first_token_at_s?;
            (request.decode_tokens > 1).then(|| decoding_s / f64::from(request.decode_tokens - 1))
        },
    },
    Quantity {
        name: "scheduling_delay_s",
        label: "scheduling delay",
        meaning: "arrival to first time in a batch",
        needs: Needs::Nothing,
        distribution: |metrics| metrics.scheduling_delay_s,
        of_request: |request| {
            request.completed_at_s.and(request.scheduled_at_s).map(|at_s| at_s - request.arrived_at_s)
        },
    },
    Quantity {
        name: "normalized_latency_s",
        label: "normalized latency",
        meaning: "end-to-end latency over output tokens",
        needs: Needs::Nothing,
        distribution: |metrics| metrics.normalized_latency_s,
        of_request: |request| {
            Some((request.completed_at_s? - request.arrived_at_s) / f64::from(request.decode_tokens))
        },
    },
];

/// A statistic of a quantity: beginning of the metric's name, label, meaning, value.
type Statistic = (&'static str, &'static str, &'static str, fn(&Distribution) -> f64);

const STATISTICS: [Statistic; 7] = [
    ("mean", "Mean", "mean", |d| d.mean),
    ("p50", "P50", "50th percentile (nearest rank)", |d| d.p50),
    ("p75", "P75", "75th percentile (nearest rank)", |d| d.p75),
    ("p90", "P90", "90th percentile (nearest rank)", |d| d.p90),
    ("p95", "P95", "95th percentile (nearest rank)", |d| d.p95),
    ("p99", "P99", "99th percentile (nearest rank)", |d| d.p99),
    ("max", "Maximum", "maximum", |d| d.max),
];

#[derive(Debug, Clone, Copy)]
enum Source {
    Count(fn(&RunMetrics) -> u64),
    Number(fn(&RunMetrics) -> f64),
    Optional(fn(&RunMetrics) -> Option<f64>),
    Statistic(fn(&RunMetrics) -> Option<Distribution>, fn(&Distribution) -> f64),
}

/// A metric of a run: a column of `runs.parquet`.
#[derive(Debug, Clone)]
pub struct Metric {
    pub name: String,
    /// Without its unit: `P90 end-to-end latency`.
    pub label: String,
    /// Such as `s` or `US$`; empty for shares and for numbers that count nothing.
    pub unit: &'static str,
    pub description: String,
    pub better: Better,
    pub needs: Needs,
    /// What it is a statistic of, if it is one.
    pub quantity: Option<&'static Quantity>,
    source: Source,
}

impl Metric {
    /// Of latencies of requests the percentile, 100 for the largest; None of anything else, means included.
    pub fn percentile(&self) -> Option<f64> {
        let Source::Statistic(..) = self.source else { return None };
        match self.name.split_once('_')?.0 {
            "max" => Some(100.0),
            statistic => statistic.strip_prefix('p')?.parse().ok(),
        }
    }

    /// Its value by the distribution of its quantity, if it is a statistic of one.
    pub fn of_distribution(&self, distribution: &Distribution) -> Option<f64> {
        let Source::Statistic(_, statistic) = self.source else { return None };
        Some(statistic(distribution))
    }

    pub fn value(&self, metrics: &RunMetrics) -> MetricValue {
        let optional = |value: Option<f64>| value.map_or(MetricValue::Absent, MetricValue::Number);
        match self.source {
            Count(count) => MetricValue::Count(count(metrics)),
            Number(number) => MetricValue::Number(number(metrics)),
            Optional(number) => optional(number(metrics)),
            Source::Statistic(distribution, value) => optional(distribution(metrics).as_ref().map(value)),
        }
    }

    /// Whether its values are whole numbers.
    pub fn is_count(&self) -> bool {
        matches!(self.source, Count(_))
    }
}

impl fmt::Display for Needs {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(match self {
            Self::Nothing => "",
            Self::LatencyLimits => "`cluster.latency_limits`",
            Self::SeveralOutputTokens => "requests with more than one output token",
            Self::PrefixCaching => "a replica scheduler that caches prefixes, and prompts that share them",
            Self::LimitedDevices => "`cluster.node_pool` or `cluster.max_devices`",
            Self::Sessions => "a workload of sessions",
            Self::SessionsAndLimits => "a workload of sessions and `cluster.latency_limits`",
            Self::SessionsAndCaching => "a workload of sessions and a replica scheduler that caches prefixes",
            Self::Pools => "`cluster.pools`",
            Self::PrefillPools => "a pool of role `prefill`",
            Self::Budget => "`cluster.budget`",
        })
    }
}

/// All metrics, in the order of their columns.
pub fn all() -> &'static [Metric] {
    static ALL: LazyLock<Vec<Metric>> = LazyLock::new(|| {
        let statistics = QUANTITIES
            .iter()
            .flat_map(|quantity| STATISTICS.iter().map(move |statistic| of_quantity(quantity, statistic)));
        COUNTS
            .iter()
            .map(Row::metric)
            .chain(statistics)
            .chain(OTHERS.iter().chain(&sessions::ROWS).chain(&fleets::ROWS).map(Row::metric))
            .collect()
    });
    &ALL
}

/// The metric called `name`.
pub fn find(name: &str) -> Option<&'static Metric> {
    all().iter().find(|metric| metric.name == name)
}

fn of_quantity(quantity: &'static Quantity, &(name, label, meaning, value): &Statistic) -> Metric {
    Metric {
        name: format!("{name}_{}", quantity.name),
        label: format!("{label} {}", quantity.label),
        unit: "s",
        description: format!(
            "{}: {meaning} over completed requests ({}).",
            sentence(quantity.label),
            quantity.meaning
        ),
        better: Less,
        needs: quantity.needs,
        quantity: Some(quantity),
        source: Source::Statistic(quantity.distribution, value),
    }
}

/// With a capital at its beginning.
fn sentence(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
}

/// A metric that is no statistic of a quantity.
struct Row {
    name: &'static str,
    label: &'static str,
    unit: &'static str,
    better: Better,
    needs: Needs,
    source: Source,
    description: &'static str,
}

impl Row {
    fn metric(&self) -> Metric {
        let &Self { name, label, unit, better, needs, source, description } = self;
        Metric {
            name: name.into(),
            label: label.into(),
            unit,
            description: description.into(),
            better,
            needs,
            quantity: None,
            source,
        }
    }
}

const fn row(
    name: &'static str,
    label: &'static str,
    unit: &'static str,
    better: Better,
    source: Source,
    description: &'static str,
) -> Row {
    Row { name, label, unit, better, needs: Needs::Nothing, source, description }
}

const fn needing(needs: Needs, row: Row) -> Row {
    Row { needs, ..row }
}

const COUNTS: [Row; 6] = [
    row("num_requests", "Requests", "requests", Neither, Count(|m| m.num_requests), "Requests that arrived."),
    row(
        "num_completed",
        "Completed requests",
        "requests",
        More,
        Count(|m| m.num_completed),
        "Requests that were answered in full.",
    ),
    row(
        "num_rejected",
        "Rejected requests",
        "requests",
        Less,
        Count(|m| m.num_rejected),
        "Requests that could never have been admitted, larger than a replica's memory or a batch, and those that were refused. Latencies are \
         those of the others.",
    ),
    row(
        "num_refused",
        "Refused requests",
        "requests",
        Less,
        Count(|m| m.num_refused),
        "Rejected requests that a replica refused because its queue was full (`max_num_queued_reqs`, `max_num_queued_tokens`). Nobody retries.",
    ),
    row(
        "num_cut",
        "Requests cut off",
        "requests",
        Less,
        Count(|m| m.num_cut),
        "Requests that a replica told to leave had not finished within `scale_down_grace_s`, or whose clients gave up (`client_timeout_s`). \
         Latencies are those of the others.",
    ),
    row(
        "num_restarts",
        "Restarts",
        "restarts",
        Less,
        Count(|m| m.num_restarts),
        "How often a request lost its place in memory and began anew.",
    ),
];

const OTHERS: [Row; 35] = [
    needing(
        Needs::LatencyLimits,
        row(
            "attainment",
            "Attainment",
            "",
            More,
            Optional(|m| m.attainment),
            "Share of all requests that kept every stated latency limit; those rejected or cut off did not.",
        ),
    ),
    needing(
        Needs::LatencyLimits,
        row(
            "violation_rate",
            "Violation rate",
            "",
            Less,
            Optional(|m| m.attainment.map(|attainment| 1.0 - attainment)),
            "Share of all requests that broke a stated latency limit, were rejected or cut off: 1 less attainment.",
        ),
    ),
    needing(
        Needs::LatencyLimits,
        row(
            "goodput_per_s",
            "Goodput",
            "requests/s",
            More,
            Optional(|m| m.goodput_per_s),
            "Requests that kept every stated latency limit, per second of the run.",
        ),
    ),
    row("total_cost_usd", "Total cost", "US$", Less, Number(|m| m.total_cost_usd), "What the run cost."),
    row(
        "mean_cost_usd_per_hour",
        "Mean cost",
        "US$/h",
        Less,
        Number(|m| m.mean_cost_usd_per_hour),
        "Total cost over the length of the run.",
    ),
    row(
        "cost_usd_per_day",
        "Cost per day",
        "US$/day",
        Less,
        Number(|m| 24.0 * m.mean_cost_usd_per_hour),
        "What 24 hours of such traffic cost.",
    ),
    row(
        "cost_usd_per_month",
        "Cost per month",
        "US$/month",
        Less,
        Number(|m| DAYS_PER_MONTH * 24.0 * m.mean_cost_usd_per_hour),
        "What a month of such traffic costs: 30.44 days.",
    ),
    row(
        "cost_usd_per_million_tokens",
        "Cost per million tokens",
        "US$ per million tokens",
        Less,
        Optional(|m| m.cost_usd_per_million_tokens),
        "Total cost over the prompt and output tokens of completed requests, in millions.",
    ),
    row(
        "simulated_s",
        "Length of the run",
        "s",
        Less,
        Number(|m| m.simulated_s),
        "From the first moment of the workload to the end of the run.",
    ),
    row("num_batches", "Batches", "batches", Neither, Count(|m| m.num_batches), "Batches that were run."),
    row(
        "busy_s",
        "Busy time",
        "s",
        Less,
        Number(|m| m.busy_s),
        "Time that pipeline stages worked on batches, summed over stages.",
    ),
    row(
        "replica_hours",
        "Replica hours",
        "h",
        Less,
        Number(|m| m.replica_hours),
        "Time that replicas existed, summed over replicas.",
    ),
    row(
        "node_hours",
        "Node hours",
        "h",
        Less,
        Number(|m| m.node_hours),
        "Time that nodes were billed, summed over nodes.",
    ),
    row(
        "utilization",
        "Utilization",
        "",
        More,
        Number(|m| m.utilization),
        "Busy share of the time that replicas existed.",
    ),
    row(
        "mean_replicas",
        "Mean replicas",
        "replicas",
        Less,
        Number(|m| m.mean_replicas),
        "Mean number of replicas over time.",
    ),
    row(
        "most_replicas",
        "Most replicas",
        "replicas",
        Less,
        Count(|m| m.max_replicas as u64),
        "Most replicas that existed at once.",
    ),
    row(
        "fewest_replicas",
        "Fewest replicas",
        "replicas",
        Neither,
        Count(|m| m.min_replicas as u64),
        "Fewest replicas that existed at once.",
    ),
    row(
        "scale_ups",
        "Scale-ups",
        "replicas",
        Less,
        Count(|m| m.scale_ups),
        "Replicas that joined after a decision.",
    ),
    row(
        "scale_downs",
        "Scale-downs",
        "replicas",
        Less,
        Count(|m| m.scale_downs),
        "Replicas that left after a decision.",
    ),
    row(
        "starts_cancelled",
        "Starts called off",
        "replicas",
        Less,
        Count(|m| m.starts_cancelled),
        "Replicas that were called off before they served.",
    ),
    row(
        "scale_ups_per_day",
        "Scale-ups per day",
        "replicas/day",
        Less,
        Number(scale_ups_per_day),
        "Scale-ups over the days of the run.",
    ),
    row(
        "reversals",
        "Reversals",
        "",
        Less,
        Count(|m| m.reversals),
        "How often scaling turned from up to down or back.",
    ),
    row(
        "at_max_replicas_s",
        "Time at the most replicas",
        "s",
        Less,
        Number(|m| m.at_max_replicas_s),
        "Time in which as many replicas served or started as `max_replicas` allows.",
    ),
    row(
        "replicas_lost",
        "Replicas lost",
        "replicas",
        Less,
        Count(|m| m.replicas_lost),
        "Replicas that crashed or were reclaimed.",
    ),
    needing(
        Needs::LimitedDevices,
        row(
            "replicas_pending_s",
            "Pending replicas",
            "s",
            Less,
            Optional(|m| m.replicas_pending_s),
            "Time that ordered replicas waited for devices or nodes, summed over replicas.",
        ),
    ),
    row(
        "mean_queued_requests",
        "Mean queued requests",
        "requests",
        Less,
        Number(|m| m.mean_queued_requests),
        "Requests that were not in a replica's memory, mean over time.",
    ),
    row(
        "max_queued_requests",
        "Most queued requests",
        "requests",
        Less,
        Count(|m| m.max_queued_requests),
        "Most requests at once that were not in a replica's memory.",
    ),
    row(
        "below_demand_s",
        "Time below demand",
        "s",
        Less,
        Number(|m| m.below_demand_s),
        "Time in which there were more unfinished requests than the serving replicas hold in full batches.",
    ),
    row(
        "mean_kv_use",
        "Mean KV use",
        "",
        Neither,
        Number(|m| m.mean_kv_use),
        "Share of KV blocks in use, mean over time and replicas.",
    ),
    row(
        "max_kv_use",
        "Largest KV use",
        "",
        Less,
        Number(|m| m.max_kv_use),
        "Largest share of KV blocks in use on one replica.",
    ),
    needing(
        Needs::PrefixCaching,
        row(
            "prefix_hit_rate",
            "Prefix hit rate",
            "",
            More,
            Optional(|m| m.prefix_hit_rate),
            "Share of the prompt tokens of completed requests that were cached when they were admitted.",
        ),
    ),
    row(
        "num_sessions",
        "Sessions",
        "sessions",
        Neither,
        Count(|m| m.sessions.map_or(0, |sessions| sessions.num_sessions)),
        "Sessions of the workload; 0 where requests belong to none.",
    ),
    row(
        "num_sessions_completed",
        "Completed sessions",
        "sessions",
        More,
        Count(|m| m.sessions.map_or(0, |sessions| sessions.num_sessions_completed)),
        "Sessions of which every request was answered.",
    ),
    row(
        "num_sessions_abandoned",
        "Abandoned sessions",
        "sessions",
        Less,
        Count(|m| m.sessions.map_or(0, |sessions| sessions.num_sessions_abandoned)),
        "Sessions whose users waited longer for a first token than `patience_s` and did not come back.",
    ),
    row(
        "num_turns_cancelled",
        "Cancelled turns",
        "requests",
        Less,
        Count(|m| m.sessions.map_or(0, |sessions| sessions.num_turns_cancelled)),
        "Requests that never arrived because their sessions ended before: an earlier one was rejected, or its user left.",
    ),
];

fn scale_ups_per_day(metrics: &RunMetrics) -> f64 {
    if metrics.simulated_s > 0.0 { metrics.scale_ups as f64 * 86_400.0 / metrics.simulated_s } else { 0.0 }
}

impl RunMetrics {
    /// Names of the columns, in their order.
    pub fn names() -> Vec<String> {
        all().iter().map(|metric| metric.name.clone()).collect()
    }

    /// Names and values in the order they are stored.
    pub fn columns(&self) -> Vec<(String, MetricValue)> {
        all().iter().map(|metric| (metric.name.clone(), metric.value(self))).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_metric_is_defined_once_and_says_what_it_is() {
        let names = all().iter().map(|metric| metric.name.as_str()).collect::<BTreeSet<_>>();
        assert_eq!(names.len(), all().len());
        for metric in all() {
            assert!(metric.description.ends_with('.') && metric.description.len() > 15, "{metric:?}");
            assert!(metric.label.starts_with(|c: char| c.is_uppercase()), "{metric:?}");
            assert!(std::ptr::eq(find(&metric.name).unwrap(), metric));
        }
        assert!(find("p91_e2e_s").is_none());
    }

    /// The name's ending is the unit that the definition states.
    #[test]
    fn names_carry_the_units_of_their_definitions() {
        let endings = [
            ("_usd_per_hour", "US$/h"),
            ("_usd_per_day", "US$/day"),
            ("_usd_per_month", "US$/month"),
            ("_usd_per_million_tokens", "US$ per million tokens"),
            ("_per_day", "replicas/day"),
            ("_per_s", "requests/s"),
            ("_usd", "US$"),
            ("_hours", "h"),
            ("_s", "s"),
        ];
        for metric in all() {
            if let Some((_, unit)) = endings.iter().find(|(ending, _)| metric.name.ends_with(ending)) {
                assert_eq!(metric.unit, *unit, "{}", metric.name);
            } else {
                assert!(!metric.unit.contains("US$") && metric.unit != "s", "{}", metric.name);
            }
        }
    }

    #[test]
    fn values_are_those_of_the_run() {
        let latency = Distribution { mean: 1.0, p50: 2.0, p75: 3.0, p90: 4.0, p95: 5.0, p99: 6.0, max: 7.0 };
        let run = RunMetrics {
            num_requests: 9,
            attainment: Some(0.75),
            ttft_s: Some(latency),
            mean_cost_usd_per_hour: 2.0,
            scale_ups: 3,
            simulated_s: 43_200.0,
            ..RunMetrics::default()
        };
        let value = |name: &str| find(name).unwrap().value(&run);
        assert_eq!(value("num_requests"), MetricValue::Count(9));
        assert_eq!(value("p99_ttft_s"), MetricValue::Number(6.0));
        assert_eq!(value("p99_tpot_s"), MetricValue::Absent);
        assert_eq!(value("violation_rate"), MetricValue::Number(0.25));
        assert_eq!(value("goodput_per_s"), MetricValue::Absent);
        assert_eq!(value("cost_usd_per_month"), MetricValue::Number(2.0 * 24.0 * 30.44));
        assert_eq!(value("scale_ups_per_day"), MetricValue::Number(6.0));
    }
}
