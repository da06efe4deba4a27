//! A verdict in words, and its setting as a piece of a grid file. Names stand in backticks.

use serde_json::{Map, Value, json};

use super::{Runs, Stand, Standing, Verdict};
use crate::simulation::metric::DAYS_PER_MONTH;
use crate::sweep::objectives::constraints::Constraint;
use crate::sweep::tables::names::{counted, grouped, label_within, percent_small, quantity, significant};
use crate::sweep::tables::row::Scalar;

/// Said where a grid gives no limits.
pub const NO_LIMITS: &str = "No limits are given, so no setting is ruled out and none is recommended: name them in the grid file, such as \
    `\"objectives\": {\"constraints\": {\"p99_ttft_s\": 2}}`, and run the same command again; stored runs are judged anew, not run again.";

/// `US$ 27,579`; cents where there are few dollars.
pub fn dollars(usd: f64) -> String {
    if usd.abs() >= 1000.0 {
        format!("US$ {}", grouped(usd.round() as u64))
    } else {
        format!("US$ {}", significant(usd, 4))
    }
}

impl Verdict {
    /// The verdict, a sentence each, the first of which stands alone. `name` says which setting is meant.
    pub fn sentences(&self, name: &dyn Fn(&Standing) -> String) -> Vec<String> {
        match self.best {
            Some(best) => self.found(&self.settings[best], name),
            None => self.none_keeps(name),
        }
    }

    fn asked(&self) -> String {
        let limits: Vec<String> =
            self.constraints.iter().map(|constraint| format!("`{constraint}`")).collect();
        match &limits[..] {
            [first @ .., last] if !first.is_empty() => format!("{} and {last}", first.join(", ")),
            all => all.concat(),
        }
    }

    fn found(&self, best: &Standing, name: &dyn Fn(&Standing) -> String) -> Vec<String> {
        let by = if self.cost.contains("usd") {
            String::new()
        } else {
            format!(" in {}", label_within(&self.cost))
        };
        let money = match (best.cost_usd_per_day, best.cost_usd_per_month) {
            (Some(day), Some(month)) => {
                format!(": {} a day, {} a month ({DAYS_PER_MONTH} days)", dollars(day), dollars(month))
            }
            _ => String::new(),
        };
        let others = match (self.settings.len(), self.keeping()) {
            (1, _) => "the only setting tried, and it keeps".to_owned(),
            (all, 1) => format!("the only one of {} that keeps {}", counted(all, "setting"), self.asked()),
            (all, keeping) => format!(
                "the cheapest{by} of the {keeping} settings, of {all} tried, that keep {}",
                self.asked()
            ),
        };
        let first = match self.settings.len() {
            1 => format!("{} is {others} {}{money}.", name(best), self.asked()),
            _ => format!("{} is {others}{money}.", name(best)),
        };
        let room: Vec<String> = best.limits.iter().map(|stand| standing(stand, true)).collect();
        let mut sentences =
            vec![first, format!("Room to the limits{}: {}.", worst_of(best), room.join(", "))];
        sentences.extend(self.others(best, name));
        if let (Some(edge), Some(month)) = (self.edge_usd_per_month, best.cost_usd_per_month) {
            sentences.push(format!(
                "Perfect foresight could keep them for {} a month, {} less: the edge of the possible.",
                dollars(edge),
                percent_small((1.0 - edge / month).max(0.0))
            ));
        }
        sentences.extend(sureness(best));
        sentences.extend(rejected(best));
        sentences
    }

    /// What else keeps the limits.
    fn others(&self, best: &Standing, name: &dyn Fn(&Standing) -> String) -> Vec<String> {
        let beside = |setting: &Standing| match (setting.cost_usd_per_month, best.cost_usd_per_month) {
            (Some(month), Some(least)) if (month / least - 1.0).abs() < 5e-4 => {
                format!("{} a month, as dear", dollars(month))
            }
            (Some(month), Some(least)) if least > 0.0 => {
                let more = month / least - 1.0;
                let sign = if more < 0.0 { "−" } else { "+" };
                format!("{} a month ({sign}{})", dollars(month), percent_small(more.abs()))
            }
            _ => "no cost known".to_owned(),
        };
        let mut sentences = Vec::new();
        let several = self.settings.iter().any(|setting| !setting.fixed && setting.policy != best.policy);
        match self.runner_up.map(|place| &self.settings[place]) {
            Some(other) => {
                sentences.push(format!("The cheapest of another policy: {}, {}.", name(other), beside(other)))
            }
            None if several => sentences.push("No setting of another policy that scales keeps them.".into()),
            None => {}
        }
        match self.fixed {
            Some(place) if self.settings[place] != *best => {
                let fleet = &self.settings[place];
                let alike = match self.as_dear_as(place) {
                    0 => String::new(),
                    others => format!("; {} cost the same", counted(others, "other fixed fleet")),
                };
                sentences.push(format!(
                    "The cheapest fixed fleet: {}, {}{alike}.",
                    name(fleet),
                    beside(fleet)
                ));
            }
            Some(_) => sentences.push(
                "A fixed fleet is cheapest here: nothing that scales keeps the limits for less.".into(),
            ),
            None if self.settings.iter().any(|setting| setting.fixed) => {
                sentences.push("No fixed fleet that was tried keeps them.".into())
            }
            None => sentences.push("No fixed fleet was tried (`static`).".into()),
        }
        sentences
    }

    fn none_keeps(&self, name: &dyn Fn(&Standing) -> String) -> Vec<String> {
        let tried = match self.settings.len() {
            1 => "The only setting tried does not keep".to_owned(),
            all => format!("None of {} tried keeps", counted(all, "setting")),
        };
        let under =
            if self.settings.iter().any(|setting| setting.rows.len() > 1) { " under every seed" } else { "" };
        let mut sentences = vec![format!("{tried} {}{under}.", self.asked())];
        let nowhere: Vec<String> =
            self.kept_by_none().iter().map(|constraint: &Constraint| format!("`{constraint}`")).collect();
        if self.constraints.len() > 1 {
            sentences.push(match nowhere.is_empty() {
                true => "Each limit is kept by some setting, but no setting keeps all.".to_owned(),
                false => format!("No setting keeps {}.", nowhere.join(" or ")),
            });
        }
        if let Some(nearest) = self.nearest.map(|place| &self.settings[place]) {
            let broken: Vec<String> = nearest
                .limits
                .iter()
                .filter(|stand| !stand.worst.kept)
                .map(|stand| standing(stand, false))
                .collect();
            let money = nearest
                .cost_usd_per_month
                .map_or(String::new(), |month| format!(", for {} a month", dollars(month)));
            sentences.push(format!(
                "{} comes nearest{}: {}{money}.",
                name(nearest),
                worst_of(nearest),
                broken.join(", ")
            ));
            sentences.extend(rejected(nearest));
        } else {
            sentences.push("No run has every metric that is limited.".into());
        }
        sentences
    }
}

fn worst_of(setting: &Standing) -> String {
    if setting.rows.len() > 1 {
        format!(", of the worst of {} seeds", setting.rows.len())
    } else {
        String::new()
    }
}

/// `p99_ttft_s` 0.6 s (70 %), or how far beyond.
fn standing(stand: &Stand, kept: bool) -> String {
    let metric = &stand.constraint.metric.name;
    let (Some(value), Some(margin)) = (stand.worst.value, stand.worst.margin) else {
        return format!("`{metric}` has no value");
    };
    let value = quantity(value, metric);
    if let Some(share) = stand.worst.unanswered {
        return format!("`{metric}` {value} of those answered, and {} were not", percent_small(share));
    }
    match (kept, stand.constraint.limit > 0.0) {
        (true, true) => format!("`{metric}` {value} ({})", percent_small(margin)),
        (false, true) => format!("`{metric}` {value} ({} beyond its limit)", percent_small(-margin)),
        _ => format!("`{metric}` {value}"),
    }
}

/// What so few seeds say of further ones.
fn sureness(setting: &Standing) -> Option<String> {
    let of = setting.kept.of;
    let low = setting.kept.least_share();
    Some(match of {
        1 => "That is one run; more seeds, where traffic is drawn, would say how sure it is.".to_owned(),
        _ => format!(
            "All {of} seeds keep them, so at least {} of further ones should (95 % confidence).",
            percent_small(low)
        ),
    })
}

fn rejected(setting: &Standing) -> Option<String> {
    let requests = grouped(setting.rejected);
    (setting.rejected > 0).then(|| {
        format!(
            "{requests} requests ({}) were rejected under it; latencies are those of the others.",
            percent_small(setting.unanswered)
        )
    })
}

/// The setting of a run as a piece of a grid file: the autoscaler in full, and of the cluster what `given`
/// names, its fields in the file.
pub fn snippet<R: Runs + ?Sized>(runs: &R, row: usize, columns: &[String], given: &Value) -> Value {
    let mut tree = Node::default();
    for name in columns {
        if let Some(value) = runs.value(row, name).filter(|value| *value != Scalar::Null) {
            tree.add(name, value);
        }
    }
    let mut members = tree.members;
    let place = members.iter().position(|(name, _)| name == "autoscaler");
    let autoscaler = place.map(|place| members.remove(place).1.value()).unwrap_or_default();
    let kind = match &autoscaler {
        Value::Object(choice) => choice.keys().next().cloned(),
        other => other.as_str().map(str::to_owned),
    };
    let autoscaler = match runs.text(row, "policy").filter(|policy| Some(policy) != kind.as_ref()) {
        None => autoscaler,
        Some(label) => {
            let mut labelled = Map::from_iter([("label".to_owned(), json!(label))]);
            match autoscaler {
                Value::Object(choice) => labelled.extend(choice),
                other => labelled.extend(other.as_str().map(|kind| (kind.to_owned(), json!({})))),
            }
            Value::Object(labelled)
        }
    };
    let several = given.as_array().map_or_else(|| std::slice::from_ref(given), Vec::as_slice);
    let is_given = |name: &String| several.iter().any(|cluster| cluster.get(name).is_some());
    let mut pools = Vec::new();
    let mut cluster = Map::new();
    for (name, node) in members {
        if let Some(pool) = name.strip_prefix(POOL).and_then(|rest| rest.strip_suffix(']')) {
            let named = [("name".to_owned(), json!(pool))].into_iter();
            pools.push(Value::Object(
                named.chain(node.members.into_iter().map(|(name, node)| (name, node.value()))).collect(),
            ));
        } else if name != "workload" && is_given(&name) {
            cluster.insert(name, node.value());
        }
    }
    if !pools.is_empty() {
        cluster.insert("pools".into(), Value::Array(pools));
    }
    json!({ "cluster": cluster, "autoscalers": [autoscaler] })
}

/// How columns of a pool's settings begin: `pools[decode].max_replicas`.
const POOL: &str = "pools[";

/// Settings as columns have them, put back together: `a` = `b` beside `a.c` = 1 is the choice `{"b": {"c":
/// 1}}`.
#[derive(Default)]
struct Node {
    own: Option<Scalar>,
    /// In the order in which they are added.
    members: Vec<(String, Node)>,
}

impl Node {
    fn add(&mut self, name: &str, value: Scalar) {
        // A pool may have any name.
        let split = if name.starts_with(POOL) { name.split_once("].") } else { None };
        let parts = split.map(|(pool, rest)| (&name[..=pool.len()], rest)).or_else(|| name.split_once('.'));
        match parts {
            None => self.member(name).own = Some(value),
            Some((first, rest)) => self.member(first).add(rest, value),
        }
    }

    fn member(&mut self, name: &str) -> &mut Self {
        let place = self.members.iter().position(|(known, _)| known == name).unwrap_or_else(|| {
            self.members.push((name.to_owned(), Self::default()));
            self.members.len() - 1
        });
        &mut self.members[place].1
    }

    fn value(self) -> Value {
        let members: Map<String, Value> =
            self.members.into_iter().map(|(name, node)| (name, node.value())).collect();
        match (self.own, members.is_empty()) {
            (None, _) => Value::Object(members),
            (Some(own), true) => plain(own),
            (Some(own), false) => match plain(own) {
                Value::String(choice) => json!({ choice: members }),
                other => other,
            },
        }
    }
}

fn plain(value: Scalar) -> Value {
    match value {
        Scalar::Null => Value::Null,
        Scalar::Bool(value) => json!(value),
        Scalar::Int(value) => json!(value),
        Scalar::Float(value) if value.fract() == 0.0 && value.abs() < 1e15 => json!(value as i64),
        Scalar::Float(value) => json!(value),
        // Lists are kept as text; what looks like a number may be a version.
        Scalar::Text(text) => match serde_json::from_str(&text) {
            Ok(found @ Value::Array(_)) => found,
            _ => Value::String(text),
        },
    }
}
