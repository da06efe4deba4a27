//! Metrics that only fleets of several pools have.

use super::Better::{Less, Neither};
use super::Source::Optional;
use super::{Needs, Row, needing, row};

pub(super) const ROWS: [Row; 11] = [
    needing(
        Needs::PrefillPools,
        row(
            "transfers",
            "KV transfers",
            "",
            Neither,
            Optional(|m| m.fleet?.transfers.map(|transfers| transfers as f64)),
            "KV caches that went from a prefill to a decode replica.",
        ),
    ),
    needing(
        Needs::PrefillPools,
        row(
            "transfer_gb",
            "KV transferred",
            "GB",
            Neither,
            Optional(|m| m.fleet?.transfer_gb),
            "Their bytes, over all ranks that receive them.",
        ),
    ),
    needing(
        Needs::PrefillPools,
        row(
            "mean_transfer_ms",
            "Mean KV transfer",
            "ms",
            Less,
            Optional(|m| Some(m.fleet?.transfer_ms?.mean)),
            "From room for a KV cache on its decode replica to its arrival: mean.",
        ),
    ),
    needing(
        Needs::PrefillPools,
        row(
            "p90_transfer_ms",
            "P90 KV transfer",
            "ms",
            Less,
            Optional(|m| Some(m.fleet?.transfer_ms?.p90)),
            "From room for a KV cache on its decode replica to its arrival: 90th percentile (nearest rank).",
        ),
    ),
    needing(
        Needs::PrefillPools,
        row(
            "local_prefill_share",
            "Prefilled where decoded",
            "",
            Neither,
            Optional(|m| m.fleet?.local_prefill_share),
            "Share of completed requests that were prefilled on their decode replica.",
        ),
    ),
    needing(
        Needs::Pools,
        row(
            "mean_devices",
            "Mean devices",
            "devices",
            Less,
            Optional(|m| Some(m.fleet?.mean_devices)),
            "Devices of replicas, over time.",
        ),
    ),
    needing(
        Needs::Pools,
        row(
            "max_devices_used",
            "Most devices",
            "devices",
            Less,
            Optional(|m| Some(m.fleet?.max_devices as f64)),
            "Most devices of replicas at once, draining ones included.",
        ),
    ),
    needing(
        Needs::Budget,
        row(
            "budget_full_s",
            "Time without room",
            "s",
            Less,
            Optional(|m| m.fleet?.budget_full_s),
            "Time in which the budget had no room for one more replica of any pool.",
        ),
    ),
    needing(
        Needs::Budget,
        row(
            "scale_ups_cut",
            "Scale-ups cut",
            "replicas",
            Less,
            Optional(|m| m.fleet?.scale_ups_cut.map(|cut| cut as f64)),
            "Replicas that policies asked for and that found no room in the budget; asked for again, they count again.",
        ),
    ),
    needing(
        Needs::Pools,
        row(
            "least_attainment",
            "Attainment of the worst model",
            "",
            super::Better::More,
            Optional(|m| m.fleet?.least_attainment),
            "Share of the requests of a model that kept every stated latency limit: that of the model that fares worst.",
        ),
    ),
    needing(
        Needs::Pools,
        row(
            "jain_models",
            "Fairness among models",
            "",
            super::Better::More,
            Optional(|m| m.fleet?.jain_models),
            "Jain's index of the models' attainments: 1 where all fare alike, one over their number where one has all.",
        ),
    ),
];
