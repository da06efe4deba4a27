//! Words and numbers as people read them.

use crate::simulation::metric;
use crate::sweep::tables::columns::split_unit;

/// A column's unit: the metric's, or as the name ends; empty without one.
pub fn unit(column: &str) -> &'static str {
    metric::find(column).map_or_else(|| split_unit(column).1, |metric| metric.unit)
}

/// A column as an axis label: `p90_e2e_s` is `P90 end-to-end latency (s)`.
pub fn label(column: &str) -> String {
    let (text, unit) = match metric::find(column) {
        Some(metric) => (metric.label.clone(), metric.unit),
        None => (sentence(&split_unit(column).0.replace(['_', '.'], " ")), split_unit(column).1),
    };
    // What the words say already is not said again: `Cost per million tokens (US$)`.
    let unit = match unit.strip_prefix("US$") {
        Some(per) if !per.is_empty() && text.ends_with(per) => "US$",
        _ if text.to_lowercase().ends_with(unit) => "",
        _ => unit,
    };
    if unit.is_empty() { text } else { format!("{text} ({unit})") }
}

/// With a capital at its beginning.
pub fn sentence(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
}

/// A label within a sentence: `total cost (US$)`, `P90 end-to-end latency (s)`.
pub fn label_within(column: &str) -> String {
    let label = label(column);
    let acronym = label.chars().nth(1).is_some_and(|second| !second.is_lowercase());
    let mut letters = label.chars();
    match letters.next() {
        Some(first) if !acronym => first.to_lowercase().chain(letters).collect(),
        _ => label,
    }
}

/// A setting's column without the part that its family implies: `autoscaler.level` is `level`.
pub fn short_setting(column: &str) -> &str {
    column.strip_prefix("autoscaler.").unwrap_or(column)
}

/// `value` to `digits` significant digits, without trailing zeros; whole numbers in full.
pub fn significant(value: f64, digits: i32) -> String {
    if value == 0.0 {
        return "0".to_owned();
    }
    if !value.is_finite() {
        return value.to_string();
    }
    let magnitude = libm::log10(value.abs()).floor() as i32;
    if !(-5..15).contains(&magnitude) {
        return format!("{value:.*e}", (digits - 1) as usize);
    }
    let decimals = (digits - 1 - magnitude).max(0) as usize;
    let text = format!("{value:.decimals$}");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

/// A whole number with thin groups: `12,345`.
pub fn grouped(value: u64) -> String {
    let digits = value.to_string();
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A fraction as `94.2 %`.
pub fn percent(fraction: f64) -> String {
    format!("{:.1} %", 100.0 * fraction)
}

/// `1 run`, `2 runs`.
pub fn counted(count: usize, noun: &str) -> String {
    format!("{} {noun}{}", grouped(count as u64), if count == 1 { "" } else { "s" })
}

/// A value with its column's unit: `0.25 s`, `US$ 38.1`, `US$ 0.086 per million tokens`.
pub fn quantity(value: f64, column: &str) -> String {
    let number = significant(value, 4);
    match unit(column) {
        "" => number,
        unit => match unit.strip_prefix("US$") {
            Some(per) => format!("US$ {number}{per}"),
            None => format!("{number} {unit}"),
        },
    }
}

/// A small fraction as a percentage with two digits at least: `0.02 %`, `12 %`.
pub fn percent_small(fraction: f64) -> String {
    format!("{} %", significant(100.0 * fraction, 2))
}

/// A file name's part: letters, digits, `-` and `_` of `name`, others as `-`; made unique among `taken`.
pub fn slug(name: &str, taken: &[String]) -> String {
    let mut base = name
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || c == '_' || c == '-' { c } else { '-' })
        .take(60)
        .collect::<String>();
    if base.is_empty() {
        base.push('-');
    }
    let free = |candidate: &String| !taken.iter().any(|taken| taken.eq_ignore_ascii_case(candidate));
    std::iter::once(base.clone())
        .chain((2..).map(|n| format!("{base}-{n}")))
        .find(free)
        .expect("numbers do not end")
}

/// Text for a markdown table's cell or line, shown as it is.
pub fn markdown(text: &str) -> String {
    let mut escaped = String::new();
    for c in text.chars() {
        match c {
            '\\' | '`' | '*' | '_' | '[' | ']' | '|' | '#' | '~' => escaped.extend(['\\', c]),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '&' => escaped.push_str("&amp;"),
            c if c.is_control() => escaped.push(' '),
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_carry_units() {
        assert_eq!(label("p90_e2e_s"), "P90 end-to-end latency (s)");
        assert_eq!(label("total_cost_usd"), "Total cost (US$)");
        assert_eq!(label("num_completed"), "Completed requests");
        assert_eq!(label("cost_usd_per_million_tokens"), "Cost per million tokens (US$)");
        assert_eq!(quantity(0.085_94, "cost_usd_per_million_tokens"), "US$ 0.08594 per million tokens");
        assert_eq!(
            (quantity(31.0, "mean_cost_usd_per_hour"), quantity(2.0, "p99_ttft_s")),
            ("US$ 31/h".into(), "2 s".into())
        );
        assert_eq!(label("p50_ttft_s"), "P50 time to first token (s)");
        assert_eq!(
            (label("num_restarts"), label("scale_up_delay_s")),
            ("Restarts".into(), "Scale up delay (s)".into())
        );
        assert_eq!(
            (label_within("total_cost_usd"), label_within("p90_e2e_s")),
            ("total cost (US$)".into(), label("p90_e2e_s"))
        );
    }

    #[test]
    fn numbers_are_short() {
        let shown = [0.0, 0.164_26, 12_345.6, 50.0, 0.000_012_34, 1e-9, -2.5, 0.1 + 0.2]
            .map(|value| significant(value, 4));
        assert_eq!(shown, ["0", "0.1643", "12346", "50", "0.00001234", "1.000e-9", "-2.5", "0.3"]);
        assert_eq!(
            (grouped(1), grouped(1234), grouped(1_234_567)),
            ("1".into(), "1,234".into(), "1,234,567".into())
        );
    }

    #[test]
    fn slugs_are_safe_and_unique() {
        assert_eq!(slug("../a b", &[]), "---a-b");
        assert_eq!(slug("A", &["a".to_owned(), "A-2".to_owned()]), "A-3");
        assert_eq!(slug("", &[]), "-");
    }

    #[test]
    fn markdown_cannot_break_out_of_a_cell() {
        assert_eq!(markdown("a|b\n<script>_x_"), "a\\|b &lt;script&gt;\\_x\\_");
    }
}
