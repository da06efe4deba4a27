//! Settings files of benchmarks that hold conversations: JSON documents that say how sessions are drawn.
//!
//! - vLLM's `benchmark_serving_multi_turn.py`, `"filetype": "generate_conversations"`: `num_turns` counts
//!   questions and answers, at least one of each, an odd number being one more; the first question begins
//!   with `common_prefix_num_tokens` that all share and `prefix_num_tokens` of its own. A lognormal `average`
//!   is that of the distribution here, of the sample there. `zipf` draws whole numbers from 1, `k` as likely
//!   as `k` to the power of `-alpha`, and `poisson` those with `alpha` as their mean, as NumPy does; what is
//!   above `max` becomes that, and a `max` of 0 is none.
//! - GuideLLM's synthetic data: `prompt_tokens`, `output_tokens` (each with `_stdev`, `_min`, `_max`),
//!   `turns`, `first_prompt_tokens`, `prefix_tokens`, `prefix_count`, `delay`, `delay_stdev` in seconds.
//!
//! Neither says when sessions start: they come in [`lanes`](TraceSpec::lanes), one at a time if nothing is
//! said. Draws are ours, from the same distributions. Read: `bench_dataset.py` of vLLM at 0fdcab7e, GuideLLM 0.8.1.

use std::path::Path;

use serde_json::{Map, Value};

use super::super::error::WorkloadError;
use super::super::formats::TraceFormat;
use super::super::prefix_runs::Run;
use super::super::trace_spec::TraceSpec;
use super::super::{MAX_REQUESTS, MAX_TOKENS, TraceNotes, Workload, source};
use super::draw::Draw;
use super::{Builder, Lanes, MOST_TURNS, NewRequest};
use crate::random;

/// Longer than any such file.
const LONGEST_BYTES: u64 = 1 << 20;

/// The format of a JSON document, if it is one of these.
pub(super) fn recognise(file: &Path) -> Result<Option<TraceFormat>, WorkloadError> {
    if !source::read_head(file, 1 << 12)?.starts_with('{')
        || file.metadata().is_ok_and(|data| data.len() > LONGEST_BYTES)
    {
        return Ok(None);
    }
    let Ok(fields) =
        serde_json::from_str::<Map<String, Value>>(&source::read_text_up_to(file, LONGEST_BYTES)?)
    else {
        return Ok(None);
    };
    let has = |name: &str| fields.contains_key(name);
    Ok(if fields.get("filetype").is_some_and(|kind| kind == "generate_conversations") {
        Some(TraceFormat::VllmMultiTurn)
    } else if has("prompt_tokens") && has("output_tokens") && !has("timestamp") {
        Some(TraceFormat::GuideLlmSynthetic)
    } else {
        None
    })
}

/// How sessions of a document are.
struct Recipe {
    sessions: f64,
    messages: Draw,
    /// A question, or a question and its answer.
    messages_a_turn: f64,
    /// Tokens that sessions of a group begin with; sessions belong to the groups in turn.
    shared_tokens: Draw,
    groups: u32,
    /// Further tokens of first prompts.
    prefix: Draw,
    first: Draw,
    new: Draw,
    output: Draw,
    delay_s: Draw,
    assumed: Vec<String>,
}

pub(super) fn read(
    spec: &TraceSpec,
    format: TraceFormat,
    file: &Path,
) -> Result<(Workload, TraceNotes), WorkloadError> {
    let text = source::read_text_up_to(file, LONGEST_BYTES)?;
    let error = |message: String| WorkloadError::File { file: file.into(), message };
    let fields: Map<String, Value> = serde_json::from_str(&text)
        .map_err(|reason| error(format!("{reason}, expected an object of settings")))?;
    let recipe = match format {
        TraceFormat::VllmMultiTurn => of_vllm(&fields),
        _ => of_guidellm(&fields, spec),
    };
    let recipe = recipe.map_err(error)?;
    if !(1.0..=MAX_REQUESTS as f64).contains(&recipe.sessions) {
        return Err(error(format!("{} sessions found, expected 1 to {MAX_REQUESTS}", recipe.sessions)));
    }
    let sessions = recipe.sessions as u32;
    let lanes = spec.lanes.unwrap_or(1);
    let mut assumed = recipe.assumed.clone();
    if spec.lanes.is_none() {
        assumed.push("one session at a time; `lanes` says how many".into());
    }
    let mut builder =
        Builder { block_tokens: 1, lanes: Some(Lanes { number: lanes, ramp_s: 0.0 }), ..Builder::default() };
    let random = |purpose: &str| random::stream(0, &format!("workload.trace.sessions.{purpose}"));
    let (mut of_turns, mut of_prompts, mut of_outputs, mut of_delays) =
        (random("turns"), random("prompts"), random("outputs"), random("delays"));
    let shared_tokens = recipe.shared_tokens.draw(&mut of_prompts).round() as u32;
    let is_enough = |requests: usize| spec.max_requests.is_some_and(|most| requests as u64 >= most);
    for session in 0..sessions {
        if is_enough(builder.len()) {
            break;
        }
        let turns =
            (recipe.messages.draw(&mut of_turns).round().max(1.0) / recipe.messages_a_turn).ceil() as u32;
        if turns > MOST_TURNS {
            let message = format!(
                "{turns} turns drawn in session {session}, expected at most {MOST_TURNS}; bound them"
            );
            return Err(error(message + ", as by `max` of a distribution"));
        }
        let shared = (shared_tokens > 0).then_some(Run { id: session % recipe.groups, end: shared_tokens });
        let (mut before, mut said) = (None, shared_tokens);
        for turn in 1..=turns {
            if is_enough(builder.len()) {
                break;
            }
            let new = if turn == 1 { recipe.first } else { recipe.new }.tokens(&mut of_prompts);
            let prefix = if turn == 1 { recipe.prefix.draw(&mut of_prompts).round() as u32 } else { 0 };
            let output = recipe.output.tokens(&mut of_outputs);
            let (prompt, answer) =
                (scaled(new.saturating_add(prefix), spec.prefill_scale), scaled(output, spec.decode_scale));
            let end = u64::from(said) + u64::from(prompt) + u64::from(answer);
            if end > MAX_TOKENS.into() {
                let message = format!(
                    "a context of {end} tokens drawn in request {}, expected at most {MAX_TOKENS}",
                    builder.len()
                );
                return Err(error(message + "; bound turns and tokens, as by `max` of a distribution"));
            }
            if builder.len() >= MAX_REQUESTS {
                return Err(error(format!(
                    "more than {MAX_REQUESTS} requests drawn; set `max_requests` in the grid, or bound turns"
                )));
            }
            let number = builder.len() as u32;
            let own = Run { id: recipe.groups + number, end: end as u32 };
            let pause_s = if turn == 1 { 0.0 } else { recipe.delay_s.draw(&mut of_delays) * spec.time_scale };
            let waits_for: Vec<u32> = before.into_iter().collect();
            let request = NewRequest {
                session,
                turn,
                waits_for: &waits_for,
                pause_s,
                prefill_tokens: said + prompt,
                decode_tokens: answer,
            };
            match shared.filter(|_| before.is_none()) {
                Some(shared) => builder.push(request, None, &[shared, own]),
                None => builder.push(request, before, &[own]),
            }
            (before, said) = (Some(number), own.end);
        }
    }
    let requests = builder.len();
    let workload = builder.finish().expect("turns wait for those before them");
    assumed.push(format!("{sessions} sessions of {requests} requests drawn, the same under every seed"));
    let notes = TraceNotes {
        file: file.into(),
        format,
        time_unit: None,
        block_tokens: None,
        assumed,
        not_read: Vec::new(),
        doubts: Vec::new(),
        cut: 0,
        skipped: 0,
        mismatched: 0,
    };
    Ok((workload, notes))
}

fn scaled(tokens: u32, scale: f64) -> u32 {
    (f64::from(tokens) * scale).trunc().clamp(1.0, f64::from(MAX_TOKENS)) as u32
}

fn number(fields: &Map<String, Value>, name: &str) -> Result<Option<f64>, String> {
    match fields.get(name).filter(|value| !value.is_null()) {
        None => Ok(None),
        Some(value) => match value.as_f64().filter(|number| *number >= 0.0) {
            Some(number) => Ok(Some(number)),
            None => Err(format!("`{name}`: {value} found, expected a number of at least 0")),
        },
    }
}

fn wanted(fields: &Map<String, Value>, name: &str) -> Result<f64, String> {
    number(fields, name)?.ok_or_else(|| format!("no `{name}` found, expected a number"))
}

fn of_vllm(fields: &Map<String, Value>) -> Result<Recipe, String> {
    let part = |name: &str| match fields.get(name) {
        Some(Value::Object(part)) => Ok(part),
        _ => Err(format!("no object `{name}` found, expected vLLM's settings of generated conversations")),
    };
    let draw = |part: &Map<String, Value>, name: &str| -> Result<Option<Draw>, String> {
        let Some(value) = part.get(name) else { return Ok(None) };
        let Value::Object(settings) = value else {
            return Err(format!("`{name}`: {value} found, expected an object with `distribution`"));
        };
        let within = |message: String| format!("`{name}`: {message}");
        let get = |field: &str| wanted(settings, field).map_err(within);
        let max = number(settings, "max").map_err(within)?.filter(|&max| max > 0.0).unwrap_or(f64::INFINITY);
        let kind = settings.get("distribution").and_then(Value::as_str).unwrap_or_default();
        Ok(Some(match kind {
            "constant" => Draw::Constant(get("value")?),
            "uniform" => {
                let (min, max) = (get("min")?, get("max")?);
                if min > max {
                    return Err(format!(
                        "`{name}`: `min` {min} above `max` {max} found, expected at most that"
                    ));
                }
                Draw::Uniform { min, max }
            }
            "lognormal" => match number(settings, "average").map_err(within)? {
                Some(average) => {
                    let ratio = number(settings, "median_ratio").map_err(within)?.unwrap_or(0.85);
                    if average <= 0.0 || !(0.0..=1.0).contains(&ratio) || ratio == 0.0 {
                        return Err(format!(
                            "`{name}`: `average` {average}, `median_ratio` {ratio} found, expected above 0, the latter at most 1"
                        ));
                    }
                    Draw::LogNormal {
                        mean: libm::log(average * ratio),
                        sigma: libm::sqrt(-2.0 * libm::log(ratio)),
                        max,
                    }
                }
                None => Draw::LogNormal { mean: get("mean")?, sigma: get("sigma")?, max },
            },
            "zipf" => match get("alpha")? {
                alpha if alpha > 1.0 && alpha.is_finite() => Draw::Zipf { alpha, max },
                alpha => {
                    return Err(format!(
                        "`{name}`: `alpha` {alpha} found, expected above 1, as only then shares of all numbers have a sum"
                    ));
                }
            },
            "poisson" => match get("alpha")? {
                mean if mean <= f64::from(MAX_TOKENS) => Draw::Poisson { mean, max },
                mean => {
                    return Err(format!(
                        "`{name}`: `alpha` {mean} found, expected a mean of at most {MAX_TOKENS}"
                    ));
                }
            },
            other => {
                return Err(format!(
                    "`{name}.distribution`: `{other}` found, expected `constant`, `uniform`, `lognormal`, `zipf` or `poisson`"
                ));
            }
        }))
    };
    let (input, output) = (part("prompt_input")?, part("prompt_output")?);
    let given = |part: &Map<String, Value>, name: &str| {
        draw(part, name)?.ok_or_else(|| format!("no `{name}` found, expected a distribution"))
    };
    let messages = given(input, "num_turns")?;
    let new = given(input, "num_tokens")?;
    Ok(Recipe {
        sessions: wanted(fields, "num_conversations")?,
        messages,
        messages_a_turn: 2.0,
        shared_tokens: draw(input, "common_prefix_num_tokens")?.unwrap_or(Draw::Constant(0.0)),
        groups: 1,
        prefix: draw(input, "prefix_num_tokens")?.unwrap_or(Draw::Constant(0.0)),
        first: new,
        new,
        output: given(output, "num_tokens")?,
        delay_s: Draw::Constant(0.0),
        assumed: vec!["a turn is a question and its answer: `num_turns` counts both".into()],
    })
}

fn of_guidellm(fields: &Map<String, Value>, spec: &TraceSpec) -> Result<Recipe, String> {
    let draw = |name: &str, mean: f64| -> Result<Draw, String> {
        let of = |end: &str| number(fields, &format!("{name}_{end}"));
        Ok(match (of("stdev")?, of("min")?, of("max")?) {
            (None, None, None) => Draw::Constant(mean),
            (None, Some(min), Some(max)) if min <= max => Draw::Uniform { min, max },
            (stdev, min, max) => {
                let (min, max) = (min.unwrap_or(1.0), max.unwrap_or(f64::from(MAX_TOKENS)));
                if min > max {
                    return Err(format!(
                        "`{name}_min` {min} above `{name}_max` {max} found, expected at most that"
                    ));
                }
                Draw::Normal { mean, stdev: stdev.unwrap_or(0.0), min, max }
            }
        })
    };
    let turns = draw("turns", number(fields, "turns")?.unwrap_or(1.0))?;
    let new = draw("prompt_tokens", wanted(fields, "prompt_tokens")?)?;
    let mean_turns = number(fields, "turns")?.unwrap_or(1.0).max(1.0);
    let sessions = match (spec.max_requests, number(fields, "samples")?) {
        (Some(requests), _) => (requests as f64 / mean_turns).ceil(),
        (None, Some(samples)) => samples,
        (None, None) => return Err(
            "neither `samples` nor, in the grid, `max_requests` found, expected how many requests there are"
                .into(),
        ),
    };
    let delay_s = match (number(fields, "delay")?.unwrap_or(0.0), number(fields, "delay_stdev")?) {
        (mean, None) => Draw::Constant(mean),
        (mean, Some(stdev)) => Draw::Normal { mean, stdev, min: 0.0, max: f64::from(MAX_TOKENS) },
    };
    Ok(Recipe {
        sessions,
        messages: turns,
        messages_a_turn: 1.0,
        shared_tokens: Draw::Constant(number(fields, "prefix_tokens")?.unwrap_or(0.0)),
        groups: number(fields, "prefix_count")?.unwrap_or(1.0).clamp(1.0, MAX_REQUESTS as f64) as u32,
        prefix: Draw::Constant(0.0),
        first: number(fields, "first_prompt_tokens")?.map_or(new, Draw::Constant),
        new,
        output: draw("output_tokens", wanted(fields, "output_tokens")?)?,
        delay_s,
        assumed: Vec::new(),
    })
}
