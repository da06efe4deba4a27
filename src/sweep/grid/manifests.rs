//! `{"from_manifest": {"path": ".."}}`: an autoscaler as the file of a real controller has it.
//!
//! The file is read when the grid is, and its settings take the entry's place: whatever comes after sees a
//! policy like any other.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::controllers::{self, Imported, MAX_FILE_BYTES};
use crate::sweep::grid::source::{Member, Node, NodeValue, Problem, Source, join};
use crate::workload::source::find;

const KEY: &str = "from_manifest";

/// Puts what the files hold in the place of the entries that name them. A list of paths is an axis: an entry
/// each.
pub(super) fn read_into(
    root: &mut Node,
    source: &Source,
    base_dirs: &[PathBuf],
    problems: &mut Vec<Problem>,
) {
    let NodeValue::Object(members) = &mut root.value else { return };
    let Some(autoscalers) = members.iter_mut().find(|member| member.key == "autoscalers") else { return };
    let NodeValue::List(entries) = &mut autoscalers.node.value else { return };
    let given = std::mem::take(entries);
    for (i, entry) in given.into_iter().enumerate() {
        let place = |entry: &Node| match &entry.value {
            NodeValue::Object(members) => members.iter().position(|member| member.key == KEY),
            _ => None,
        };
        match place(&entry) {
            None => entries.push(entry),
            Some(at) => match expanded(&entry, at, &format!("autoscalers[{i}].{KEY}"), source, base_dirs) {
                Ok(read) => entries.extend(read),
                Err(found) => problems.extend(found),
            },
        }
    }
}

/// The entries that stand for one with a manifest as its member `at`.
fn expanded(
    entry: &Node,
    at: usize,
    path: &str,
    source: &Source,
    base_dirs: &[PathBuf],
) -> Result<Vec<Node>, Vec<Problem>> {
    let NodeValue::Object(members) = &entry.value else { return Ok(Vec::new()) };
    let manifest = &members[at];
    let fault = |at: usize, path: &str, message: String| vec![source.problem(at, path, message)];
    let expected = "expected {\"path\": \"..\"}, a file that a controller reads";
    let NodeValue::Object(fields) = &manifest.node.value else {
        return Err(fault(manifest.node.at, path, format!("{} found, {expected}", manifest.node.to_value())));
    };
    if let Some(unknown) = fields.iter().find(|field| field.key != "path") {
        return Err(fault(
            unknown.key_at,
            &join(path, &unknown.key),
            format!("unknown field `{}`, {expected}", unknown.key),
        ));
    }
    let Some(named) = fields.first() else {
        return Err(fault(manifest.node.at, path, format!("an empty object found, {expected}")));
    };
    let files: Vec<&Node> = match &named.node.value {
        NodeValue::List(nodes) if !nodes.is_empty() => nodes.iter().collect(),
        _ => vec![&named.node],
    };
    let path = join(path, "path");
    let mut read = Vec::new();
    for file in files {
        let NodeValue::Scalar(Value::String(name)) = &file.value else {
            return Err(fault(
                file.at,
                &path,
                format!("{} found, expected the path of a file", file.to_value()),
            ));
        };
        let imported = imported(name, base_dirs).map_err(|message| fault(file.at, &path, message))?;
        read.push(entry_of(members, at, file.at, imported));
    }
    Ok(read)
}

fn imported(name: &str, base_dirs: &[PathBuf]) -> Result<Imported, String> {
    let file = find(Path::new(name), base_dirs).map_err(|error| error.to_string())?;
    let shown = file.display();
    let size = std::fs::metadata(&file).map_err(|error| format!("{shown}: cannot be read: {error}"))?.len();
    if size > MAX_FILE_BYTES {
        return Err(format!("{shown}: longer than {MAX_FILE_BYTES} bytes, expected a controller's file"));
    }
    let text = std::fs::read_to_string(&file).map_err(|error| format!("{shown}: cannot be read: {error}"))?;
    controllers::read(&text).map_err(|refusal| format!("{shown}: {refusal}"))
}

/// The entry with the manifest's policy in its place; what the entry says of replicas itself counts.
fn entry_of(members: &[Member], place: usize, at: usize, imported: Imported) -> Node {
    let member = |key: &str, value: &Value| Member { key: key.into(), key_at: at, node: node(at, value) };
    let mut all = members.to_vec();
    all[place] = member(imported.policy, &imported.settings);
    let Imported { min_replicas, max_replicas, initial_replicas, .. } = imported;
    for (key, replicas) in [
        ("min_replicas", min_replicas),
        ("max_replicas", max_replicas),
        ("initial_replicas", initial_replicas),
    ] {
        if let Some(replicas) = replicas
            && !members.iter().any(|member| member.key == key)
        {
            all.push(member(key, &replicas.into()));
        }
    }
    Node { at, value: NodeValue::Object(all) }
}

/// A value as if it had been written at `at`.
fn node(at: usize, value: &Value) -> Node {
    let value = match value {
        Value::Array(values) => NodeValue::List(values.iter().map(|value| node(at, value)).collect()),
        Value::Object(members) => NodeValue::Object(
            members
                .iter()
                .map(|(key, value)| Member { key: key.clone(), key_at: at, node: node(at, value) })
                .collect(),
        ),
        scalar => NodeValue::Scalar(scalar.clone()),
    };
    Node { at, value }
}
