//! The page: one table over all cases, one of shares and one of chosen levels by case, and what the cases
//! are.

use std::fmt::Write;

use super::{Board, CaseScore, PolicyScore, Scores};

const INTRODUCTION: &str = "\
# Leaderboard

<!-- Made by `scalefront leaderboard --markdown`; a test compares. -->

Policies on the same pinned cases, with the same number of settings of the one knob each has; all else is a policy's default.
What is in `sweeps/leaderboard/`: a grid file for each case (workload, cluster, bill, seeds, limits, reference point), `policies.json`
with the policies of the table, and `pinned.json` with edges and rows as they were last scored.

A policy of your own goes on the board by a file such as `mine.json`; eight levels, as the others have, are fair:

```json
{\"autoscalers\": [{\"label\": \"mine\", \"external\": {
  \"command\": [\"python3\", \"mine.py\"], \"settings\": {\"target_per_replica\": [1, 2, 4, 8, 16, 32, 64, 128]}}}]}
```

```text
scalefront leaderboard mine.json             # a row beside the pinned ones: results/leaderboard/leaderboard.md, .csv and .json
scalefront leaderboard hpa keda mine.json    # these anew; without names the whole list
scalefront leaderboard mine.json --seed 4711 # rates, lengths of phases and arrivals drawn anew, and the edge searched anew
```

Whoever tunes a policy to these cases is found out by a seed that is named later: rates and times are then up to half as large again or two
thirds of what they were, each by itself. Limits, bills and reference points stay.

- **Share of the edge**: hypervolume of cost against P90 latency, in percent of what a search with perfect foresight found on the same
  arrivals; mean over seeds and cases. The edge is a search and no proof, so a little more than 100 is possible. It starts from fixed fleets
  and `frontier`, whose own share has this in its favour.
- **Of the informed edge**: the same share over what policies reach that know how the traffic is drawn and not what is drawn, fitted to other
  draws of it (`oracle --informed`); mean over the cases that have a law to know. They are found by a search, too, and start from fixed
  fleets, schedules and the case's own policies: `frontier` among them, so that it can hardly be above 100. What is missing to 100 in the
  column before, and not in this one, is foresight, which nobody has.
- **Limits kept**: cases in which some level keeps the case's limits under every seed. The cheapest such level is the one chosen; where none
  keeps them, the one that breaks them by least. Durations, reference points and limits were set while looking at runs of `frontier` and
  `static`, so that `frontier` keeps every limit: its six of six is how the cases are, and no merit. A seed of your own (`--seed`) moves
  the traffic, not the limits.
- **Cost at limits**: cost of the chosen level over that of the cheapest fixed fleet that keeps the limits, geometric mean over the cases
  kept. Below 1 scaling pays. Compare it between policies that keep the same cases.
- **Tail**: the limited P99 of the chosen level over its limit, worst over seeds, geometric mean over cases.
- **Churn**: replicas that the chosen level starts in a day.
";

/// The page of `scores`.
pub fn page(board: &Board, scores: &Scores) -> String {
    let mut rows: Vec<&PolicyScore> = scores.rows.iter().collect();
    // Of equal shares in the order in which they were scored.
    rows.sort_by(|a, b| b.share().total_cmp(&a.share()));
    let cases: Vec<&str> = board.cases.iter().map(|case| case.name.as_str()).collect();
    let mut out = INTRODUCTION.to_owned();
    let drawn = scores.drawn_by.map_or(String::new(), |seed| format!(", traffic drawn by seed {seed}"));
    line(
        &mut out,
        &format!(
            "\nResults version {}, edge searched with {} runs a seed{drawn}.\n",
            scores.results_version, scores.search.budget
        ),
    );

    line(
        &mut out,
        "| | policy | share of the edge | of the informed edge | limits kept | cost at limits | tail | churn, a day | program |",
    );
    line(&mut out, "|---|---|---|---|---|---|---|---|---|");
    for (rank, row) in rows.iter().enumerate() {
        let failed = if row.failed() > 0 { format!("; {} runs failed", row.failed()) } else { String::new() };
        let program = format!("{} {}", row.policy.program, row.policy.version);
        line(
            &mut out,
            &format!(
                "| {} | `{}` | {:.1} | {} | {} of {} | {} | {} | {} | {}{failed} |",
                rank + 1,
                row.policy.family,
                100.0 * row.share(),
                or_dash(row.informed_share(&scores.yardsticks).map(|share| 100.0 * share), 1),
                row.kept(),
                cases.len(),
                or_dash(row.over_fixed_fleet(&scores.yardsticks), 2),
                or_dash(row.of_limit(), 2),
                or_dash(row.scale_ups_per_day(), 0),
                program.trim_end()
            ),
        );
    }

    line(&mut out, "\n## Share of the edge by case\n");
    by_case(&mut out, &cases, &rows, |case| format!("{:.1}", 100.0 * case.share));
    let informed = cases.iter().map(|name| {
        let yardstick = scores.yardsticks.iter().find(|yardstick| yardstick.case == *name);
        or_dash(yardstick.and_then(|yardstick| yardstick.informed_share()).map(|share| 100.0 * share), 1)
    });
    line(&mut out, &format!("| *informed edge* | {} |", informed.collect::<Vec<_>>().join(" | ")));
    line(&mut out, "\n## Cost at limits by case\n");
    line(
        &mut out,
        "Dollars of the chosen level, its setting, and its P99 end to end. In brackets where the limits are broken, with how many times over.\n",
    );
    by_case(&mut out, &cases, &rows, |case| {
        let Some(chosen) = &case.chosen else { return "no run".into() };
        let setting = if chosen.settings.is_empty() {
            String::new()
        } else {
            format!(", {}", value_alone(&chosen.settings))
        };
        let text = format!("${:.2}{setting}, {} s", chosen.cost_usd, seconds(chosen.p99_e2e_s));
        if chosen.kept { text } else { format!("({text}; {:.1})", chosen.of_limit) }
    });

    line(&mut out, "\n## Cases\n");
    line(&mut out, "| case | what | limits | reference | seeds | cheapest fixed fleet |");
    line(&mut out, "|---|---|---|---|---|---|");
    for case in &board.cases {
        let fixed = scores
            .yardsticks
            .iter()
            .find(|yardstick| yardstick.case == case.name)
            .and_then(|yardstick| yardstick.fixed_fleet_usd);
        let objectives = &case.grid["objectives"];
        let limits = objectives["constraints"]
            .as_object()
            .into_iter()
            .flatten()
            .map(|(name, limit)| format!("`{name}` {limit}"));
        let reference =
            format!("{} s, ${}", objectives["reference"]["latency"], objectives["reference"]["cost"]);
        let seeds = case.grid["seeds"]
            .as_array()
            .into_iter()
            .flatten()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join(", ");
        line(
            &mut out,
            &format!(
                "| {} | {} | {} | {reference} | {seeds} | {} |",
                case.name,
                case.question,
                limits.collect::<Vec<_>>().join(", "),
                fixed.map_or("none".into(), |usd| format!("${usd:.2}"))
            ),
        );
    }
    out
}

fn line(out: &mut String, text: &str) {
    writeln!(out, "{text}").expect("writing to a string does not fail");
}

fn by_case(out: &mut String, cases: &[&str], rows: &[&PolicyScore], cell: impl Fn(&CaseScore) -> String) {
    line(out, &format!("| policy | {} |", cases.join(" | ")));
    line(out, &format!("|---|{}", "---|".repeat(cases.len())));
    for row in rows {
        let cells = cases
            .iter()
            .map(|name| row.cases.iter().find(|case| case.case == *name).map_or("-".into(), &cell));
        line(out, &format!("| `{}` | {} |", row.policy.family, cells.collect::<Vec<_>>().join(" | ")));
    }
}

fn or_dash(value: Option<f64>, decimals: usize) -> String {
    value.map_or("-".into(), |value| format!("{value:.decimals$}"))
}

/// Three digits.
fn seconds(value: f64) -> String {
    let decimals = if value >= 100.0 {
        0
    } else if value >= 10.0 {
        1
    } else {
        2
    };
    format!("{value:.decimals$}")
}

/// `target_per_replica=8` is 8: the knob's name stands in `docs/policies.md`. What is long is a policy's
/// inner business.
fn value_alone(settings: &str) -> String {
    let text = match settings.split_once('=') {
        Some((_, value)) if !settings.contains(", ") && !value.starts_with('{') => value,
        _ => settings,
    };
    if let Ok(number) = text.parse::<f64>() {
        return format!("{}", (number * 1000.0).round() / 1000.0);
    }
    // An axis over objects: the first number tells them apart.
    match text.find(|c: char| c.is_ascii_digit()) {
        Some(at) if text.contains('{') => {
            text[at..].chars().take_while(|c| c.is_ascii_digit() || *c == '.').collect()
        }
        _ => text.to_owned(),
    }
}
