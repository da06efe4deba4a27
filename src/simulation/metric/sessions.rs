//! Metrics that only workloads of sessions have.

use super::Better::{Less, More};
use super::Source::Optional;
use super::{Needs, Row, needing, row};

pub(super) const ROWS: [Row; 24] = [
    needing(
        Needs::Sessions,
        row(
            "mean_session_s",
            "Mean session time",
            "s",
            Less,
            Optional(|m| Some(m.sessions?.session_s?.mean)),
            "Session time: mean over completed sessions (first arrival to last token of a session, pauses included).",
        ),
    ),
    needing(
        Needs::Sessions,
        row(
            "p50_session_s",
            "P50 session time",
            "s",
            Less,
            Optional(|m| Some(m.sessions?.session_s?.p50)),
            "Session time: 50th percentile (nearest rank) over completed sessions (first arrival to last token of a session, pauses included).",
        ),
    ),
    needing(
        Needs::Sessions,
        row(
            "p90_session_s",
            "P90 session time",
            "s",
            Less,
            Optional(|m| Some(m.sessions?.session_s?.p90)),
            "Session time: 90th percentile (nearest rank) over completed sessions (first arrival to last token of a session, pauses included).",
        ),
    ),
    needing(
        Needs::Sessions,
        row(
            "p99_session_s",
            "P99 session time",
            "s",
            Less,
            Optional(|m| Some(m.sessions?.session_s?.p99)),
            "Session time: 99th percentile (nearest rank) over completed sessions (first arrival to last token of a session, pauses included).",
        ),
    ),
    needing(
        Needs::Sessions,
        row(
            "mean_session_busy_s",
            "Mean busy session time",
            "s",
            Less,
            Optional(|m| Some(m.sessions?.session_busy_s?.mean)),
            "Busy session time: mean over completed sessions (the time of a session in which an answer was being waited for).",
        ),
    ),
    needing(
        Needs::Sessions,
        row(
            "p50_session_busy_s",
            "P50 busy session time",
            "s",
            Less,
            Optional(|m| Some(m.sessions?.session_busy_s?.p50)),
            "Busy session time: 50th percentile (nearest rank) over completed sessions (the time of a session in which an answer was being waited for).",
        ),
    ),
    needing(
        Needs::Sessions,
        row(
            "p90_session_busy_s",
            "P90 busy session time",
            "s",
            Less,
            Optional(|m| Some(m.sessions?.session_busy_s?.p90)),
            "Busy session time: 90th percentile (nearest rank) over completed sessions (the time of a session in which an answer was being waited for).",
        ),
    ),
    needing(
        Needs::Sessions,
        row(
            "p99_session_busy_s",
            "P99 busy session time",
            "s",
            Less,
            Optional(|m| Some(m.sessions?.session_busy_s?.p99)),
            "Busy session time: 99th percentile (nearest rank) over completed sessions (the time of a session in which an answer was being waited for).",
        ),
    ),
    needing(
        Needs::Sessions,
        row(
            "mean_first_turn_ttft_s",
            "Mean time to first token of first turns",
            "s",
            Less,
            Optional(|m| Some(m.sessions?.first_turn_ttft_s?.mean)),
            "Time to first token of first turns: mean over completed requests (arrival to first token, of requests that open a session).",
        ),
    ),
    needing(
        Needs::Sessions,
        row(
            "p50_first_turn_ttft_s",
            "P50 time to first token of first turns",
            "s",
            Less,
            Optional(|m| Some(m.sessions?.first_turn_ttft_s?.p50)),
            "Time to first token of first turns: 50th percentile (nearest rank) over completed requests (arrival to first token, of requests that open a session).",
        ),
    ),
    needing(
        Needs::Sessions,
        row(
            "p90_first_turn_ttft_s",
            "P90 time to first token of first turns",
            "s",
            Less,
            Optional(|m| Some(m.sessions?.first_turn_ttft_s?.p90)),
            "Time to first token of first turns: 90th percentile (nearest rank) over completed requests (arrival to first token, of requests that open a session).",
        ),
    ),
    needing(
        Needs::Sessions,
        row(
            "p99_first_turn_ttft_s",
            "P99 time to first token of first turns",
            "s",
            Less,
            Optional(|m| Some(m.sessions?.first_turn_ttft_s?.p99)),
            "Time to first token of first turns: 99th percentile (nearest rank) over completed requests (arrival to first token, of requests that open a session).",
        ),
    ),
    needing(
        Needs::Sessions,
        row(
            "mean_later_turn_ttft_s",
            "Mean time to first token of later turns",
            "s",
            Less,
            Optional(|m| Some(m.sessions?.later_turn_ttft_s?.mean)),
            "Time to first token of later turns: mean over completed requests (arrival to first token, of requests that go on with a session).",
        ),
    ),
    needing(
        Needs::Sessions,
        row(
            "p50_later_turn_ttft_s",
            "P50 time to first token of later turns",
            "s",
            Less,
            Optional(|m| Some(m.sessions?.later_turn_ttft_s?.p50)),
            "Time to first token of later turns: 50th percentile (nearest rank) over completed requests (arrival to first token, of requests that go on with a session).",
        ),
    ),
    needing(
        Needs::Sessions,
        row(
            "p90_later_turn_ttft_s",
            "P90 time to first token of later turns",
            "s",
            Less,
            Optional(|m| Some(m.sessions?.later_turn_ttft_s?.p90)),
            "Time to first token of later turns: 90th percentile (nearest rank) over completed requests (arrival to first token, of requests that go on with a session).",
        ),
    ),
    needing(
        Needs::Sessions,
        row(
            "p99_later_turn_ttft_s",
            "P99 time to first token of later turns",
            "s",
            Less,
            Optional(|m| Some(m.sessions?.later_turn_ttft_s?.p99)),
            "Time to first token of later turns: 99th percentile (nearest rank) over completed requests (arrival to first token, of requests that go on with a session).",
        ),
    ),
    needing(
        Needs::SessionsAndLimits,
        row(
            "session_attainment",
            "Session attainment",
            "",
            More,
            Optional(|m| m.sessions?.session_attainment),
            "Share of all sessions that were completed with every request within every stated latency limit.",
        ),
    ),
    needing(
        Needs::SessionsAndCaching,
        row(
            "later_turn_hit_rate",
            "Hit rate of later turns",
            "",
            More,
            Optional(|m| m.sessions?.later_turn_hit_rate),
            "Share of the prompt tokens of later turns that were cached when they were admitted.",
        ),
    ),
    needing(
        Needs::Sessions,
        row(
            "cold_turn_share",
            "Share of turns cold by scaling",
            "",
            Less,
            Optional(|m| m.sessions?.cold_turns?.share),
            "Share of answered later turns that came when the replica of the answer before served no more (it drained, was lost or was gone).",
        ),
    ),
    needing(
        Needs::Sessions,
        row(
            "mean_cold_turn_ttft_s",
            "Mean time to first token of turns cold by scaling",
            "s",
            Less,
            Optional(|m| m.sessions?.cold_turns?.ttft_s),
            "Time to first token: mean over later turns that came when the replica of the answer before served no more.",
        ),
    ),
    needing(
        Needs::Sessions,
        row(
            "mean_kept_turn_ttft_s",
            "Mean time to first token of turns not cold by scaling",
            "s",
            Less,
            Optional(|m| m.sessions?.cold_turns?.kept_ttft_s),
            "Time to first token: mean over the other later turns.",
        ),
    ),
    needing(
        Needs::SessionsAndCaching,
        row(
            "cold_turn_computed_tokens",
            "Computed tokens of turns cold by scaling",
            "",
            Less,
            Optional(|m| m.sessions?.cold_turns?.computed_tokens),
            "Prompt tokens that were not cached: mean over later turns that came when the replica of the answer before served no more.",
        ),
    ),
    needing(
        Needs::SessionsAndCaching,
        row(
            "kept_turn_computed_tokens",
            "Computed tokens of turns not cold by scaling",
            "",
            Less,
            Optional(|m| m.sessions?.cold_turns?.kept_computed_tokens),
            "Prompt tokens that were not cached: mean over the other later turns.",
        ),
    ),
    needing(
        Needs::SessionsAndCaching,
        row(
            "cold_turn_computed_share",
            "Share of tokens computed in turns cold by scaling",
            "",
            Less,
            Optional(|m| m.sessions?.cold_turns?.computed_share),
            "Share of all prompt tokens computed in later turns that those computed whose replica of the answer before served no more.",
        ),
    ),
];
