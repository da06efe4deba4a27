//! What a workload is like: how many requests, how fast, how bursty, how long.

use std::fmt;

use serde::Serialize;

use super::{Sessions, Workload};

/// The figures of a workload of at least one request. Quantiles interpolate linearly between ranks.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Description {
    pub requests: usize,
    pub first_arrival_s: f64,
    /// From the first arrival to the last.
    pub duration_s: f64,
    /// Requests over duration; absent for a duration of 0, as are all rates below.
    pub mean_rate_per_s: Option<f64>,
    /// Requests over time, in bins of equal width from the first arrival on.
    pub bin_s: f64,
    pub rate_per_s: Vec<f64>,
    /// Coefficient of variation of the time between arrivals: 1 for Poisson at one rate, more for bursts.
    pub interarrival_cv: Option<f64>,
    /// Burstiness and peaks at several time scales.
    pub windows: Vec<WindowFigures>,
    pub prefill_tokens: TokenFigures,
    pub decode_tokens: TokenFigures,
    pub prefix: Option<PrefixFigures>,
    /// What requests may generate, where that is not just what they do.
    pub max_new_tokens: Option<TokenFigures>,
    pub ignore_eos: bool,
    /// Where requests belong to sessions: then all rates are those of an infinitely fast fleet, whose answers
    /// take no time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sessions: Option<SessionFigures>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SessionFigures {
    pub sessions: usize,
    /// Requests that wait for answers.
    pub waiting_requests: usize,
    pub most_turns: u32,
    /// Sessions at a time, where they start as others end.
    pub lanes: Option<u32>,
    /// Pauses before requests that wait: the mean.
    pub mean_pause_s: Option<f64>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct WindowFigures {
    pub window_s: f64,
    /// Index of dispersion: variance over mean of the arrivals in successive windows. 1 for Poisson at one
    /// rate, whatever the window; absent with fewer than two whole windows.
    pub dispersion: Option<f64>,
    /// The most requests in any window of this width, wherever it starts, per second.
    pub peak_requests_per_s: f64,
    /// The same of prefill tokens, decode tokens, and both.
    pub peak_prefill_tokens_per_s: f64,
    pub peak_decode_tokens_per_s: f64,
    pub peak_tokens_per_s: f64,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TokenFigures {
    pub sum: u64,
    pub mean: f64,
    pub min: u32,
    pub p50: f64,
    pub p90: f64,
    pub p99: f64,
    pub max: u32,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PrefixFigures {
    pub block_tokens: u32,
    pub blocks: usize,
    pub distinct_blocks: usize,
}

const WINDOWS_S: [f64; 3] = [1.0, 10.0, 60.0];

/// Widths that people read easily, in seconds; days beyond.
const BINS_S: [f64; 15] =
    [1.0, 2.0, 5.0, 10.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 900.0, 1800.0, 3600.0, 10_800.0, 21_600.0];
const MOST_BINS: f64 = 24.0;

/// Describes a workload; `None` for an empty one.
pub fn describe(workload: &Workload) -> Option<Description> {
    let at = &workload.arrived_at_s;
    let (&first, &last) = (at.first()?, at.last()?);
    let duration_s = last - first;
    let requests = workload.len();
    let bin_s = BINS_S.into_iter().find(|bin| duration_s / bin <= MOST_BINS);
    let bin_s = bin_s.unwrap_or_else(|| 86_400.0 * (duration_s / MOST_BINS / 86_400.0).ceil());
    let mut rate_per_s = vec![0.0; (duration_s / bin_s) as usize + 1];
    for at in at {
        rate_per_s[((at - first) / bin_s) as usize] += 1.0 / bin_s;
    }
    Some(Description {
        requests,
        first_arrival_s: first,
        duration_s,
        mean_rate_per_s: (duration_s > 0.0).then(|| requests as f64 / duration_s),
        bin_s,
        rate_per_s,
        interarrival_cv: interarrival_cv(at),
        windows: WINDOWS_S.iter().map(|&window_s| window_figures(workload, window_s)).collect(),
        prefill_tokens: token_figures(&workload.prefill_tokens),
        decode_tokens: token_figures(&workload.decode_tokens),
        prefix: workload.prefix.as_ref().map(|prefix| {
            let mut ids = prefix.ids().to_vec();
            ids.sort_unstable();
            ids.dedup();
            PrefixFigures {
                block_tokens: prefix.block_tokens,
                blocks: prefix.ids().len(),
                distinct_blocks: ids.len(),
            }
        }),
        max_new_tokens: workload.output_limits().map(|mut limits| {
            token_figures(
                &workload.decode_tokens.iter().map(|&tokens| limits.next(tokens)).collect::<Vec<_>>(),
            )
        }),
        ignore_eos: workload.outputs.settings.ignore_eos,
        sessions: workload.sessions.as_deref().map(session_figures),
    })
}

fn session_figures(sessions: &Sessions) -> SessionFigures {
    let pauses_s = || {
        sessions
            .pause_s
            .iter()
            .zip(&sessions.waits_for)
            .filter(|(_, waits_for)| **waits_for > 0)
            .map(|(pause_s, _)| pause_s)
    };
    let waiting_requests = pauses_s().count();
    SessionFigures {
        sessions: sessions.len(),
        waiting_requests,
        most_turns: sessions.most_turns(),
        lanes: sessions.lanes.map(|lanes| lanes.number),
        mean_pause_s: (waiting_requests > 0).then(|| pauses_s().sum::<f64>() / waiting_requests as f64),
    }
}

/// Mean and population variance.
fn moments(values: impl Iterator<Item = f64> + Clone) -> Option<(f64, f64)> {
    let count = values.clone().count() as f64;
    if count < 2.0 {
        return None;
    }
    let mean = values.clone().sum::<f64>() / count;
    Some((mean, values.map(|value| (value - mean).powi(2)).sum::<f64>() / count))
}

fn interarrival_cv(at: &[f64]) -> Option<f64> {
    let (mean, variance) = moments(at.windows(2).map(|pair| pair[1] - pair[0]))?;
    (mean > 0.0).then(|| variance.sqrt() / mean)
}

fn window_figures(workload: &Workload, window_s: f64) -> WindowFigures {
    let at = &workload.arrived_at_s;
    let peak = |amount: &dyn Fn(usize) -> u64| peak_in_window(at, window_s, amount) as f64 / window_s;
    let (prefill, decode) = (&workload.prefill_tokens, &workload.decode_tokens);
    WindowFigures {
        window_s,
        dispersion: dispersion(at, window_s),
        peak_requests_per_s: peak(&|_| 1),
        peak_prefill_tokens_per_s: peak(&|i| prefill[i].into()),
        peak_decode_tokens_per_s: peak(&|i| decode[i].into()),
        peak_tokens_per_s: peak(&|i| u64::from(prefill[i]) + u64::from(decode[i])),
    }
}

/// Variance over mean of the counts in the whole windows from the first arrival on.
fn dispersion(at: &[f64], window_s: f64) -> Option<f64> {
    let whole = ((at[at.len() - 1] - at[0]) / window_s) as u64;
    // Windows without arrivals may be many more than requests: they are counted, not stored.
    let mut counts: Vec<u64> = Vec::new();
    let mut current = None;
    for at_s in at {
        let window = ((at_s - at[0]) / window_s) as u64;
        if window >= whole {
            break;
        }
        if current == Some(window) {
            *counts.last_mut()? += 1;
        } else {
            current = Some(window);
            counts.push(1);
        }
    }
    if whole < 2 {
        return None;
    }
    let mean = counts.iter().sum::<u64>() as f64 / whole as f64;
    let squares: f64 = counts.iter().map(|&count| (count as f64 - mean).powi(2)).sum();
    Some((squares + (whole - counts.len() as u64) as f64 * mean * mean) / whole as f64 / mean)
}

/// The largest sum of amounts over arrivals in any half-open window (t - w, t].
fn peak_in_window(at: &[f64], window_s: f64, amount: &dyn Fn(usize) -> u64) -> u64 {
    let (mut oldest, mut sum, mut peak) = (0, 0, 0);
    for (newest, now) in at.iter().enumerate() {
        sum += amount(newest);
        while at[oldest] <= now - window_s {
            sum -= amount(oldest);
            oldest += 1;
        }
        peak = peak.max(sum);
    }
    peak
}

fn token_figures(tokens: &[u32]) -> TokenFigures {
    let mut sorted = tokens.to_vec();
    sorted.sort_unstable();
    let sum = sorted.iter().map(|&tokens| u64::from(tokens)).sum();
    let quantile = |q: f64| {
        let rank = (sorted.len() - 1) as f64 * q;
        let (low, high) = (f64::from(sorted[rank as usize]), f64::from(sorted[rank.ceil() as usize]));
        low + (high - low) * rank.fract()
    };
    TokenFigures {
        sum,
        mean: sum as f64 / sorted.len() as f64,
        min: sorted[0],
        p50: quantile(0.5),
        p90: quantile(0.9),
        p99: quantile(0.99),
        max: sorted[sorted.len() - 1],
    }
}

impl fmt::Display for Description {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let or_dash = |value: Option<f64>, decimals: usize| {
            value.map_or("-".into(), |value| format!("{value:.decimals$}"))
        };
        writeln!(f, "requests            {:>12}", self.requests)?;
        writeln!(f, "first arrival       {:>12.3} s", self.first_arrival_s)?;
        writeln!(f, "duration            {:>12.3} s", self.duration_s)?;
        writeln!(f, "mean rate           {:>12} requests/s", or_dash(self.mean_rate_per_s, 3))?;
        writeln!(f, "interarrival CV     {:>12}", or_dash(self.interarrival_cv, 3))?;
        if let Some(SessionFigures { sessions, waiting_requests, most_turns, lanes, mean_pause_s }) =
            &self.sessions
        {
            let lanes = lanes.map_or_else(String::new, |lanes| format!(", {lanes} at a time"));
            writeln!(f, "sessions            {sessions:>12} of up to {most_turns} turns{lanes}")?;
            let pause = or_dash(*mean_pause_s, 3);
            writeln!(
                f,
                "turns that wait     {waiting_requests:>12}, after a pause of {pause} s in the mean; times are those of a fleet"
            )?;
            writeln!(
                f,
                "                                 whose answers take no time: a real one is asked later, and at lower rates"
            )?;
        }
        if let Some(prefix) = &self.prefix {
            let PrefixFigures { block_tokens, blocks, distinct_blocks } = prefix;
            writeln!(
                f,
                "prompt blocks       {blocks:>12} of {block_tokens} tokens, {distinct_blocks} distinct"
            )?;
        }

        let ends = match (&self.max_new_tokens, self.ignore_eos) {
            (_, true) => "with the lengths they have, known beforehand (ignore_eos)",
            (Some(_), false) => "by themselves, before max_new_tokens",
            (None, false) => "by themselves; max_new_tokens is not given and taken to be what they generate",
        };
        writeln!(f, "outputs end         {ends}")?;

        writeln!(f, "\ntokens            mean     min     p50     p90     p99     max           sum")?;
        let most = self.max_new_tokens.as_ref().map(|tokens| ("may generate", tokens));
        for (name, tokens) in
            [("prefill", &self.prefill_tokens), ("decode", &self.decode_tokens)].into_iter().chain(most)
        {
            let TokenFigures { sum, mean, min, p50, p90, p99, max } = tokens;
            writeln!(
                f,
                "{name:<12} {mean:>9.1} {min:>7} {p50:>7.0} {p90:>7.0} {p99:>7.0} {max:>7} {sum:>13}"
            )?;
        }

        writeln!(f, "\nwindow    dispersion   peak requests/s   peak tokens/s (prefill, decode, both)")?;
        for window in &self.windows {
            writeln!(
                f,
                "{:>4.0} s {:>13} {:>17.2} {:>15.0} {:>9.0} {:>9.0}",
                window.window_s,
                or_dash(window.dispersion, 2),
                window.peak_requests_per_s,
                window.peak_prefill_tokens_per_s,
                window.peak_decode_tokens_per_s,
                window.peak_tokens_per_s,
            )?;
        }

        const WIDEST_BAR: f64 = 40.0;
        let peak = self.rate_per_s.iter().copied().fold(0.0, f64::max);
        writeln!(f, "\nrequests/s over time, bins of {} s from the first arrival on", self.bin_s)?;
        for (bin, rate) in self.rate_per_s.iter().enumerate() {
            let bar = "#".repeat((rate / peak * WIDEST_BAR).round() as usize);
            writeln!(f, "{}", format!("{:>10} s {rate:>10.3} {bar}", bin as f64 * self.bin_s).trim_end())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn workload(at: &[f64]) -> Workload {
        let mut workload = Workload::default();
        for (i, &at_s) in at.iter().enumerate() {
            workload.push(at_s, 10 * (i as u32 + 1), 1);
        }
        workload
    }

    #[test]
    fn a_small_workload_by_hand() {
        let description = describe(&workload(&[1.0, 1.5, 2.0, 5.0])).unwrap();
        assert_eq!(
            (description.requests, description.first_arrival_s, description.duration_s),
            (4, 1.0, 4.0)
        );
        assert_eq!(description.mean_rate_per_s, Some(1.0));
        assert_eq!(
            (description.bin_s, description.rate_per_s.as_slice()),
            (1.0, &[2.0, 1.0, 0.0, 0.0, 1.0][..])
        );
        // Gaps 0.5, 0.5, 3: mean 4/3, variance 25/18.
        assert!((description.interarrival_cv.unwrap() - (25.0f64 / 18.0).sqrt() / (4.0 / 3.0)).abs() < 1e-12);
        // Counts 2, 1, 0, 0 in the whole seconds: mean 3/4, variance 11/16.
        assert!((description.windows[0].dispersion.unwrap() - 11.0 / 12.0).abs() < 1e-12);
        assert_eq!(description.windows[0].peak_requests_per_s, 2.0);
        assert_eq!(description.windows[0].peak_tokens_per_s, 52.0);
        assert_eq!(description.windows[1].peak_prefill_tokens_per_s, 10.0);
        assert_eq!(description.windows[1].dispersion, None);
        let tokens = &description.prefill_tokens;
        assert_eq!((tokens.sum, tokens.mean, tokens.min, tokens.p50, tokens.max), (100, 25.0, 10, 25.0, 40));
        assert!((tokens.p90 - 37.0).abs() < 1e-9, "{}", tokens.p90);
    }

    #[test]
    fn one_request_has_no_rate_and_none_no_description() {
        let description = describe(&workload(&[3.0])).unwrap();
        assert_eq!((description.mean_rate_per_s, description.interarrival_cv), (None, None));
        assert!(description.to_string().contains("mean rate                      - requests/s"));
        assert_eq!(describe(&workload(&[])), None);
    }

    proptest! {
        #[test]
        fn peaks_equal_those_of_all_windows_tried(mut at in prop::collection::vec(0.0f64..30.0, 1..60), window_s in 0.1f64..10.0) {
            at.sort_by(f64::total_cmp);
            let amount = |i: usize| 1 + (i as u64 * 7) % 5;
            let tried = at.iter().map(|&end| {
                (0..at.len()).filter(|&i| at[i] > end - window_s && at[i] <= end).map(amount).sum::<u64>()
            }).max().unwrap();
            prop_assert_eq!(peak_in_window(&at, window_s, &amount), tried);
        }

        #[test]
        fn dispersion_equals_that_of_stored_counts(mut at in prop::collection::vec(0.0f64..100.0, 2..60), window_s in 0.1f64..20.0) {
            at.sort_by(f64::total_cmp);
            let whole = ((at[at.len() - 1] - at[0]) / window_s) as usize;
            let mut counts = vec![0.0; whole];
            for a in &at {
                if let Some(count) = counts.get_mut(((a - at[0]) / window_s) as usize) {
                    *count += 1.0;
                }
            }
            let expected = moments(counts.iter().copied()).map(|(mean, variance)| variance / mean);
            match (dispersion(&at, window_s), expected) {
                (Some(found), Some(expected)) => prop_assert!((found - expected).abs() < 1e-9 * (1.0 + expected)),
                (found, expected) => prop_assert_eq!(found, expected),
            }
        }
    }
}
