//! Settings that have moved: a grid that says them where they were is read as if it said them where they are.
//!
//! Names that changed in place are `serde` aliases beside their fields; here is what went into another
//! object.

use super::source::{Member, Node, NodeValue};

/// Policy, field as it was, the objects it is in now.
const MOVED: &[(&str, &str, &[&str])] = &[
    ("hpa", "scale_up", &["behavior"]),
    ("hpa", "scale_down", &["behavior"]),
    ("keda", "scale_up", &["hpa", "behavior"]),
    ("keda", "scale_down", &["hpa", "behavior"]),
    ("keda", "sync_interval_s", &["hpa"]),
    ("keda", "tolerance", &["hpa"]),
];

/// The list of autoscalers with each moved setting where it is now. A setting given in both places stays in
/// both, to be refused.
pub fn autoscalers(mut list: Node) -> Node {
    let NodeValue::List(entries) = &mut list.value else { return list };
    for choice in entries.iter_mut().filter_map(|entry| members(entry)).flatten() {
        for &(policy, field, now_in) in MOVED {
            if choice.key == policy
                && let Some(settings) = members(&mut choice.node)
            {
                relocate(settings, field, now_in);
            }
        }
    }
    list
}

fn members(node: &mut Node) -> Option<&mut Vec<Member>> {
    match &mut node.value {
        NodeValue::Object(members) => Some(members),
        NodeValue::Scalar(_) | NodeValue::List(_) => None,
    }
}

fn relocate(settings: &mut Vec<Member>, field: &str, now_in: &[&str]) {
    let Some(at) = settings.iter().position(|member| member.key == field) else { return };
    let moved = settings.remove(at);
    let mut holder = &mut *settings;
    for (depth, &name) in now_in.iter().enumerate() {
        let index = holder.iter().position(|member| member.key == name).unwrap_or_else(|| {
            let node = Node { at: moved.node.at, value: NodeValue::Object(Vec::new()) };
            holder.push(Member { key: name.into(), key_at: moved.key_at, node });
            holder.len() - 1
        });
        let inner = &mut holder[index].node;
        // `"behavior": null`, or a list of alternatives to choose from: no place for it.
        if members(inner)
            .is_none_or(|inner| depth + 1 == now_in.len() && inner.iter().any(|member| member.key == field))
        {
            settings.insert(at, moved);
            return;
        }
        holder = members(&mut holder[index].node).expect("just looked at");
    }
    holder.push(moved);
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::source::Source;
    use super::*;

    fn read(list: &Value) -> Value {
        autoscalers(Source { file: "grid.json".into(), text: list.to_string() }.parse().unwrap()).to_value()
    }

    #[test]
    fn moved_settings_are_read_where_they_are_now() {
        let before = json!([
            {"label": "x", "hpa": {"scale_down": {"stabilization_window_s": [0, 60]}, "target_per_replica": 4, "scale_up": {}}},
            {"keda": {"tolerance": 0.2, "sync_interval_s": 30, "scale_down": {}, "hpa": {"version": "1.20"}}},
            "hpa",
            {"ray_serve": {"scale_down": 1}},
        ]);
        let after = json!([
            {"label": "x", "hpa": {"target_per_replica": 4, "behavior": {"scale_up": {}, "scale_down": {"stabilization_window_s": [0, 60]}}}},
            {"keda": {"hpa": {"version": "1.20", "behavior": {"scale_down": {}}, "sync_interval_s": 30, "tolerance": 0.2}}},
            "hpa",
            {"ray_serve": {"scale_down": 1}},
        ]);
        assert_eq!(read(&before), after);
    }

    /// Nothing that someone wrote is lost: what cannot move stays, and the parser refuses it there.
    #[test]
    fn what_is_said_twice_or_has_no_place_stays() {
        for grid in [
            json!([{"hpa": {"behavior": {"scale_down": {}}, "scale_down": {"select_policy": "min"}}}]),
            json!([{"hpa": {"behavior": [{}, null], "scale_down": {}}}]),
            json!([{"keda": {"hpa": null, "tolerance": 0.1}}]),
        ] {
            assert_eq!(read(&grid), grid);
        }
    }
}
