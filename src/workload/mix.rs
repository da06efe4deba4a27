//! Requests of several models in one workload.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::drawn_sessions::SessionSpec;
use super::prefix_runs::Run;
use super::sessions::{Builder, NewRequest};
use super::{GenerateSpec, TraceNotes, TraceSpec, Workload, WorkloadError, WorkloadSpec};
use crate::settings::Faults;

/// The requests for one model: `model`, and one of `generate`, `trace` and `sessions`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MixPart {
    /// The model they ask for, as the pools that serve it name it.
    pub model: String,
    /// Requests drawn from distributions; each part draws its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generate: Option<GenerateSpec>,
    /// Requests read from a file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace: Option<TraceSpec>,
    /// Conversations and agents, drawn from distributions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sessions: Option<SessionSpec>,
}

/// Which model each request asks for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Models {
    pub names: Vec<String>,
    /// Of each request, the place of its model among them.
    pub of_request: Vec<u8>,
}

impl Models {
    /// Of the same requests in another order.
    pub(super) fn reordered(&self, order: &[u32]) -> Self {
        Self {
            of_request: order.iter().map(|&i| self.of_request[i as usize]).collect(),
            names: self.names.clone(),
        }
    }

    pub(super) fn hash(&self, hasher: &mut blake3::Hasher) {
        hasher.update(b"models");
        hasher.update(self.names.join("\n").as_bytes());
        hasher.update(&self.of_request);
    }
}

/// As many parts as a byte tells apart.
const MOST_PARTS: usize = 200;

/// Mixed with the number of a part, so that each draws its own requests.
const PART_SEED: u64 = 0x9e37_79b9_7f4a_7c15;

impl MixPart {
    fn spec(&self, name: &str) -> WorkloadSpec {
        WorkloadSpec {
            name: format!("{name}: {}", self.model),
            generate: self.generate.clone(),
            trace: self.trace.clone(),
            sessions: self.sessions.clone(),
            mix: Vec::new(),
            outputs: None,
            priorities: Vec::new(),
        }
    }
}

pub(super) fn check(name: &str, parts: &[MixPart], faults: &mut Faults) {
    faults.require(parts.len() <= MOST_PARTS, "mix", || {
        format!("{} parts found, expected at most {MOST_PARTS}", parts.len())
    });
    for (i, part) in parts.iter().enumerate() {
        faults.within(format!("mix[{i}]"), |faults| {
            part.spec(name).check(faults);
            faults.require(parts[..i].iter().all(|other| other.model != part.model), "model", || {
                format!("`{}` found twice, expected one part for each model", part.model)
            });
        });
    }
}

/// Reads or draws all parts and merges them by arrival; of one instant, earlier parts come first. Where some
/// wait for answers or begin alike, all are sessions, those of the other parts of one request each.
pub(super) fn load(
    spec: &WorkloadSpec,
    seed: u64,
    base_dirs: &[PathBuf],
    notes: &mut Vec<TraceNotes>,
    faults: &mut Faults,
) -> Result<Workload, WorkloadError> {
    let mut parts = Vec::new();
    for (i, part) in spec.mix.iter().enumerate() {
        let (workload, of_part) = super::load_requests(
            &part.spec(&spec.name),
            seed ^ (i as u64).wrapping_mul(PART_SEED),
            base_dirs,
        )?;
        notes.extend(of_part);
        faults.within(format!("mix[{i}]"), |faults| check_loaded(part, &workload, faults));
        parts.push(workload);
    }
    let blocks: BTreeSet<u32> =
        parts.iter().filter_map(Workload::prompts).map(|prompts| prompts.block_tokens()).collect();
    faults.require(blocks.len() < 2, "mix", || {
        format!("prompts known by blocks of {blocks:?} tokens found in its parts, expected one size: set `block_tokens` of traces alike")
    });
    if !faults.found.is_empty() {
        return Ok(Workload::default());
    }
    let duration_s = parts.iter().filter_map(|part| part.duration_s).reduce(f64::max);
    let of_request = (0..).zip(&parts).flat_map(|(i, part)| std::iter::repeat_n(i, part.len())).collect();
    let models = Models { names: spec.mix.iter().map(|part| part.model.clone()).collect(), of_request };
    Ok(match parts.iter().any(|part| part.sessions.is_some() || part.prefix.is_some()) {
        true => sessions(&parts, blocks.first().copied().unwrap_or(0), models, duration_s),
        false => requests(&parts, models, duration_s),
    })
}

/// What cannot be merged.
fn check_loaded(part: &MixPart, workload: &Workload, faults: &mut Faults) {
    if workload.streamed.is_some() {
        faults.add("generate", "too many requests found for a part of a mix; shorten it");
    }
    let source = if part.sessions.is_some() { "sessions" } else { "trace" };
    let Some(sessions) = &workload.sessions else { return };
    if sessions.lanes.is_some() {
        let found = "sessions that start as others end found, which is not built for parts of a mix: let them start by the clock";
        faults.add(source, found);
    }
    if sessions.patience_s.is_some() {
        faults.add(source, "`patience_s` found, which is not built for parts of a mix: leave it out");
    }
}

/// Requests that have nothing to do with each other.
fn requests(parts: &[Workload], models: Models, duration_s: Option<f64>) -> Workload {
    let mut merged = Workload::default();
    for part in parts {
        merged.arrived_at_s.extend(&part.arrived_at_s);
        merged.prefill_tokens.extend(&part.prefill_tokens);
        merged.decode_tokens.extend(&part.decode_tokens);
    }
    let mut order: Vec<u32> = (0..merged.len() as u32).collect();
    order.sort_by(|&a, &b| merged.arrived_at_s[a as usize].total_cmp(&merged.arrived_at_s[b as usize]));
    let last_s = order.last().map(|&last| merged.arrived_at_s[last as usize]);
    merged.duration_s = duration_s.map(|duration_s| duration_s.max(last_s.unwrap_or(0.0)));
    merged.sort();
    merged.models = Some(Box::new(models.reordered(&order)));
    merged
}

/// Sessions of all parts, and requests that are sessions of their own.
fn sessions(parts: &[Workload], block_tokens: u32, models: Models, duration_s: Option<f64>) -> Workload {
    let mut builder = Builder::default();
    (builder.block_tokens, builder.duration_s, builder.models) = (block_tokens, duration_s, Some(models));
    let (mut first_session, mut first_run) = (0, 0);
    for part in parts {
        let first_request = builder.len() as u32;
        let mut waits = vec![Vec::new(); part.len()];
        for request in 0..part.len() as u32 {
            let waiting = part.sessions.as_ref().map_or(&[][..], |sessions| sessions.waiting_for(request));
            waiting.iter().for_each(|&next| waits[next as usize].push(first_request + request));
        }
        let (mut most_run, mut latest_in) = (0, BTreeMap::new());
        for (request, waits_for) in waits.iter().enumerate() {
            let (session, turn, pause_s) = match &part.sessions {
                Some(sessions) => {
                    (sessions.session[request], sessions.turn[request], sessions.pause_s[request])
                }
                None => (request as u32, 1, part.arrived_at_s[request]),
            };
            let (prefill_tokens, decode_tokens) = (part.prefill_tokens[request], part.decode_tokens[request]);
            let new = NewRequest {
                session: first_session + session,
                turn,
                waits_for,
                pause_s,
                prefill_tokens,
                decode_tokens,
            };
            let (after, runs) = match part.prompts() {
                Some(prompts) => {
                    let in_list = part
                        .sessions
                        .is_some()
                        .then(|| latest_in.insert(prompts.list(request as u32), request as u32));
                    let before = in_list.flatten().or_else(|| Some(waits_for.first()? - first_request));
                    prompts.by_behind(request as u32, before)
                }
                None => (None, &[][..]),
            };
            let renamed = runs.iter().map(|run| {
                most_run = most_run.max(run.id + 1);
                Run { id: first_run + run.id, ..*run }
            });
            builder.push(new, after.map(|before| first_request + before), &renamed.collect::<Vec<_>>());
        }
        first_session += part.sessions.as_ref().map_or(part.len(), |sessions| sessions.len()) as u32;
        first_run += most_run;
    }
    builder.finish().expect("what waits for nothing that waits for it in its part does not in all of them")
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use crate::workload::{Workload, WorkloadError, load};

    fn mix(parts: Value) -> Result<Workload, WorkloadError> {
        load(&serde_json::from_value(json!({"name": "two", "mix": parts})).unwrap(), 1, &[])
    }

    fn chat(starts: Value) -> Value {
        json!({"starts": starts, "turns": {"fixed": {"turns": 3}}, "think_time_s": 2, "shared_prefix": {"groups": 1, "tokens": 64},
               "lengths": {"fixed": {"prefill_tokens": 50, "decode_tokens": 10}}})
    }

    #[test]
    fn sessions_and_requests_are_merged() {
        let open = json!({"arrivals": {"static": {"rate_per_s": 2, "duration_s": 10}}, "lengths": {"fixed": {"prefill_tokens": 7, "decode_tokens": 3}}});
        let starts = json!({"static": {"rate_per_s": 0.5, "duration_s": 10}});
        let parts =
            json!([{"model": "a", "generate": open}, {"model": "b", "sessions": chat(starts.clone())}]);
        let merged = mix(parts).unwrap();
        let (sessions, models) = (merged.sessions.as_ref().unwrap(), merged.models.as_ref().unwrap());
        let alone =
            load(&serde_json::from_value(json!({"name": "b", "sessions": chat(starts)})).unwrap(), 1, &[])
                .unwrap();
        let open = models.of_request.iter().filter(|&&model| model == 0).count();
        assert_eq!(
            (merged.len(), sessions.len()),
            (open + alone.len(), open + alone.sessions.as_ref().unwrap().len())
        );
        assert!(merged.arrived_at_s.is_sorted() && models.names == ["a", "b"]);
        for request in 0..merged.len() {
            let (own, waits) = (merged.prefill_tokens[request] == 7, sessions.waits_for[request]);
            assert_eq!(models.of_request[request] == 0, own);
            assert_eq!(waits, u32::from(!own && sessions.turn[request] > 1));
            let next = sessions.waiting_for(request as u32);
            assert!(next.iter().all(|&next| models.of_request[next as usize] == 1
                && sessions.session[next as usize] == sessions.session[request]));
        }
        // Twice the traffic keeps what belongs together.
        let more = merged.scaled(2.0, 1).unwrap();
        let models = more.models.as_ref().unwrap();
        assert!(
            (0..more.len())
                .all(|request| (more.prefill_tokens[request] == 7) == (models.of_request[request] == 0))
        );
        assert_eq!(models.of_request.len(), more.len());
    }

    #[test]
    fn what_cannot_be_merged_is_told() {
        let lanes = json!({"concurrency": {"lanes": 2, "sessions": 8}});
        let error = mix(json!([{"model": "a", "sessions": chat(lanes)}])).unwrap_err().to_string();
        assert!(
            error.contains("mix[0].sessions") && error.contains("let them start by the clock"),
            "{error}"
        );
        let mut impatient = chat(json!({"static": {"rate_per_s": 1, "duration_s": 5}}));
        impatient["patience_s"] = json!(3);
        let error = mix(json!([{"model": "a", "sessions": impatient}])).unwrap_err().to_string();
        assert!(error.contains("mix[0].sessions") && error.contains("patience_s"), "{error}");
    }
}
