//! `docs/policies.md`: every policy, the program it stands for, and how far it was checked; made from the
//! registry.

use std::fmt::Write;

use serde_json::Value;

use crate::autoscaler::AutoscalerSettings;
use crate::autoscaler::upstream::{Checked, Upstream, every_policy};

const INTRODUCTION: &str = "\
# Policies

<!-- Made by `scalefront policies --markdown`; a test compares. -->

Every policy a grid file may name, the program it stands for and at which version, its main knob, what it goes by, and what it cannot
see. The same lines stand under the results of a sweep, for the policies it ran. Settings are in the [grid reference](grid.md); which
policy suits what is in [which policy when](which-policy-when.md).

*Checked* says how the rule was held against the program's own:

- **run**: the program ran, and its decisions on given inputs were compared tick by tick;
- **ported**: written after the program's source, its tests' cases included;
- **read**: written after its documentation or paper;
- **memory**: from memory in some part that matters;
- **ours**: there is no program to compare with.

Ages are those at the moment of the decision. \"Of this instant\" means that nothing is held back: such a policy sees more than a
controller that reads scraped metrics can.
";

/// The whole page.
pub fn page() -> String {
    let mut out = INTRODUCTION.to_owned();
    out.push_str(
        "\n| policy | program | version | checked | knob | default | goes by | cannot see | left out |\n",
    );
    out.push_str("|---|---|---|---|---|---|---|---|---|\n");
    for settings in every_policy() {
        let Upstream { program, version, checked, left_out, knob, signals, blind_to } =
            settings.settings().upstream();
        let (name, default) = (settings.name(), default(&settings, knob));
        let checked = checked.word();
        writeln!(out, "| `{name}` | {program} | {version} | {checked} | `{knob}` | {default} | {signals} | {blind_to} | {left_out} |")
            .expect("writing to a string does not fail");
    }
    out
}

/// A knob's value where the grid leaves it out; empty where it has to be given or another setting decides.
fn default(settings: &AutoscalerSettings, knob: &str) -> String {
    let resolved = serde_json::to_value(settings).expect("settings are plain data");
    match &resolved[settings.name()][knob] {
        Value::Number(number) => format!("{number}"),
        Value::String(text) => format!("`{text}`"),
        _ => String::new(),
    }
}

/// A line a policy, for the terminal.
pub fn list() -> String {
    let width = AutoscalerSettings::NAMES.iter().map(|name| name.len()).max().unwrap_or_default();
    let mut out = String::new();
    for settings in every_policy() {
        let Upstream { program, version, checked, .. } = settings.settings().upstream();
        let version = if version.is_empty() { String::new() } else { format!(" {version}") };
        let checked = if checked == Checked::Ours { String::new() } else { format!(" ({})", checked.word()) };
        writeln!(out, "{:width$}  {program}{version}{checked}", settings.name())
            .expect("writing to a string does not fail");
    }
    out
}
