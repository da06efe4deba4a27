//! The record of a run: what each of its columns is.

use scalefront::analysis::Column;
use scalefront::analysis::table::Described;
use scalefront::simulation::{BatchRecord, ReplicaRecord, RequestRecord, TuneRecord};

/// A column of whole numbers, of decimal numbers, and of either with gaps.
fn ints<T>(rows: &[T], value: impl Fn(&T) -> i64) -> Column {
    Column::Int(rows.iter().map(value).collect())
}

fn floats<T>(rows: &[T], value: impl Fn(&T) -> f64) -> Column {
    Column::Float(rows.iter().map(value).collect())
}

fn times<T>(rows: &[T], value: impl Fn(&T) -> Option<f64>) -> Column {
    Column::OptionalFloat(rows.iter().map(value).collect())
}

pub(super) fn requests(rows: &[RequestRecord]) -> Vec<Described> {
    let mut columns = vec![
        ("request_id", "Number of the request, by arrival.", ints(rows, |r| r.request_id.into())),
        ("arrived_at_s", "When it arrived.", floats(rows, |r| r.arrived_at_s)),
        ("prefill_tokens", "Length of its prompt.", ints(rows, |r| r.prefill_tokens.into())),
        ("decode_tokens", "Output tokens.", ints(rows, |r| r.decode_tokens.into())),
        (
            "replica_id",
            "Replica it was routed to last; empty if it was rejected before.",
            Column::OptionalInt(rows.iter().map(|r| r.replica_id.map(Into::into)).collect()),
        ),
        ("scheduled_at_s", "When it was first in a batch.", times(rows, |r| r.scheduled_at_s)),
        ("first_token_at_s", "When its first token was there.", times(rows, |r| r.first_token_at_s)),
        ("completed_at_s", "When its last token was there.", times(rows, |r| r.completed_at_s)),
        (
            "restarts",
            "How often it lost its place in memory and began anew.",
            ints(rows, |r| r.restarts.into()),
        ),
        (
            "cached_tokens",
            "Tokens of its prompt that were cached when it was first admitted.",
            ints(rows, |r| r.cached_tokens.into()),
        ),
    ];
    if rows.iter().any(|row| row.session.is_some()) {
        let of_session = |value: fn((u32, u32)) -> u32| {
            Column::OptionalInt(rows.iter().map(|r| r.session.map(value).map(Into::into)).collect())
        };
        columns.push((
            "session_id",
            "Number of its session, by first arrival.",
            of_session(|(session, _)| session),
        ));
        columns.push(("turn", "Number of its turn in the session, from 1.", of_session(|(_, turn)| turn)));
    }
    columns
}

pub(super) fn batches(rows: &[BatchRecord]) -> Vec<Described> {
    vec![
        ("batch_id", "Number of the batch, by its end.", ints(rows, |b| b.batch_id as i64)),
        ("replica_id", "Replica that ran it.", ints(rows, |b| b.replica_id.into())),
        ("scheduled_at_s", "When it began.", floats(rows, |b| b.scheduled_at_s)),
        ("completed_at_s", "When it ended.", floats(rows, |b| b.completed_at_s)),
        ("num_requests", "Requests in it.", ints(rows, |b| b.num_requests.into())),
        ("prefill_tokens", "Prompt tokens computed.", ints(rows, |b| b.prefill_tokens as i64)),
        ("decode_tokens", "Output tokens computed.", ints(rows, |b| b.decode_tokens as i64)),
    ]
}

pub(super) fn replicas(rows: &[ReplicaRecord]) -> Vec<Described> {
    let mut columns = vec![
        (
            "time_s",
            "When replicas changed; what the row says holds until the next.",
            floats(rows, |r| r.time_s),
        ),
        (
            "num_replicas",
            "Replicas that exist, draining ones included.",
            ints(rows, |r| r.num_replicas.into()),
        ),
        (
            "num_draining",
            "Those that finish what they have before they leave.",
            ints(rows, |r| r.num_draining.into()),
        ),
        ("cost_per_hour_usd", "What an hour costs at this moment.", floats(rows, |r| r.cost_per_hour_usd)),
        ("num_starting", "Those that start and do not serve yet.", ints(rows, |r| r.num_starting.into())),
    ];
    // Said where it says something.
    if rows.iter().any(|row| row.num_pending.is_some()) {
        let pending = ints(rows, |r| r.num_pending.unwrap_or(0).into());
        columns.push(("num_pending", "Replicas that were ordered and wait for devices or nodes.", pending));
    }
    if rows.iter().any(|row| row.num_nodes.is_some()) {
        columns.push(("num_nodes", "Nodes that are paid.", ints(rows, |r| r.num_nodes.unwrap_or(0) as i64)));
    }
    columns
}

/// A row for each number that a decision rests on; one for a decision that states none.
pub(super) fn decisions(tunes: &[TuneRecord]) -> Vec<Described> {
    let rows = tunes.iter().flat_map(|tune| {
        let none = tune.evidence.is_empty().then_some((tune, None));
        none.into_iter().chain(tune.evidence.iter().map(move |evidence| (tune, Some(evidence))))
    });
    let rows: Vec<(&TuneRecord, Option<&(&'static str, f64)>)> = rows.collect();
    let names = rows.iter().map(|(_, evidence)| evidence.map(|evidence| evidence.0.to_owned())).collect();
    vec![
        ("time_s", "When the policy decided.", floats(&rows, |(tune, _)| tune.time_s)),
        (
            "num_replicas",
            "Seen: replicas that exist, draining ones included.",
            ints(&rows, |(tune, _)| tune.num_replicas.into()),
        ),
        (
            "pending_scale_ups",
            "Seen: replicas that start.",
            ints(&rows, |(tune, _)| tune.pending_scale_ups.into()),
        ),
        (
            "pending_scale_downs",
            "Seen: scale-downs decided whose replica has not left yet.",
            ints(&rows, |(tune, _)| tune.pending_scale_downs.into()),
        ),
        (
            "outstanding_requests",
            "Seen: requests that wait or run.",
            ints(&rows, |(tune, _)| tune.outstanding_requests.into()),
        ),
        ("decided", "Replicas to add; to remove where negative.", ints(&rows, |(tune, _)| tune.decision)),
        (
            "applied",
            "What was carried out of it, within the limits on replicas.",
            ints(&rows, |(tune, _)| tune.applied),
        ),
        ("evidence", "Name of a number the decision rests on.", Column::OptionalText(names)),
        (
            "value",
            "That number.",
            Column::OptionalFloat(
                rows.iter().map(|(_, evidence)| evidence.map(|evidence| evidence.1)).collect(),
            ),
        ),
    ]
}
