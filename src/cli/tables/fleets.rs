//! The record of a run with pools: the usual tables, with the pool in each row.

use scalefront::analysis::Column;
use scalefront::analysis::table::Described;
use scalefront::simulation::{Detail, Hops, PoolDetail, RequestRecord};

use super::detail::{batches, decisions, replicas, requests};

/// `requests`, `batches`, `replicas` and `decisions`.
pub fn tables(detail: &Detail) -> [(&'static str, Vec<Described>); 4] {
    let name = |pool: u32| detail.pools[pool as usize].name.clone();
    let mut of_requests = requests(&detail.requests);
    of_requests.extend(hops(&detail.requests, &name));
    let all = |lengths: fn(&PoolDetail) -> usize| {
        let names = detail.pools.iter().flat_map(|pool| vec![pool.name.clone(); lengths(pool)]);
        ("pool", "The pool.", Column::Text(names.collect()))
    };
    // Each pool for itself, in their order: replicas and batches have numbers of their own in each.
    let together: Detail = detail.pools.iter().fold(Detail::default(), |mut all, pool| {
        all.batches.extend(pool.batches.iter().cloned());
        all.replicas.extend(pool.replicas.iter().cloned());
        all.tunes.extend(pool.tunes.iter().cloned());
        all
    });
    let with_pool = |mut columns: Vec<Described>, pool: Described| {
        columns.push(pool);
        columns
    };
    [
        ("requests", of_requests),
        ("batches", with_pool(batches(&together.batches), all(|pool| pool.batches.len()))),
        ("replicas", with_pool(replicas(&together.replicas), all(|pool| pool.replicas.len()))),
        (
            "decisions",
            with_pool(
                decisions(&together.tunes),
                all(|pool| pool.tunes.iter().map(|tune| tune.evidence.len().max(1)).sum()),
            ),
        ),
    ]
}

/// A request's way from pool to pool.
fn hops(rows: &[RequestRecord], name: &dyn Fn(u32) -> String) -> Vec<Described> {
    let text = |value: &dyn Fn(&Hops) -> Option<u32>| {
        Column::OptionalText(rows.iter().map(|row| row.hops.as_ref().and_then(value).map(name)).collect())
    };
    let int = |value: &dyn Fn(&Hops) -> Option<u32>| {
        Column::OptionalInt(
            rows.iter().map(|row| row.hops.as_ref().and_then(value).map(Into::into)).collect(),
        )
    };
    let time = |value: &dyn Fn(&Hops) -> Option<f64>| {
        Column::OptionalFloat(rows.iter().map(|row| row.hops.as_ref().and_then(value)).collect())
    };
    vec![
        ("pool", "Pool it began in; `replica_id` is its replica there.", text(&|hops| Some(hops.pool))),
        ("decode_pool", "Pool it decoded in, if it was prefilled apart.", text(&|hops| hops.decode_pool)),
        ("decode_replica_id", "Its replica there.", int(&|hops| hops.decode_replica_id)),
        (
            "prefill_end_s",
            "When its prompt was computed, if apart; after a loss, for the last time.",
            time(&|hops| hops.prefill_end_s),
        ),
        ("transfer_start_s", "When there was room for its KV cache.", time(&|hops| hops.transfer_start_s)),
        ("transfer_end_s", "When its KV cache had arrived.", time(&|hops| hops.transfer_end_s)),
        (
            "reused_tokens",
            "Tokens of its prompt that its decode replica had cached.",
            int(&|hops| Some(hops.reused_tokens)),
        ),
    ]
}
