//! Step times from microsoft/vidur's profiles as they stand: `mlp.csv`, `attention.csv`, `all_reduce.csv`,
//! `send_recv.csv`.
//!
//! Rows are chosen by the model's shape and split, rows of equal inputs averaged; tokens are rounded up to a
//! multiple of 8, lines join the measured counts, and beyond the largest one times grow in proportion.
//! Attention is what `attention.csv` says, by the reference's rules: prefills by the sum of their cached
//! tokens (each rounded up to 64) and the root of their summed squares, decodes by their number and mean
//! cached tokens (rounded up to 64), times 1.1 for several requests of a grouped-query model. Such a file
//! rarely comes along; without one the analytical model answers.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::condensed::{Axis, Grid, Table};
use super::interpolate::{Curves, Scatter};
use super::profile::{
    Beyond, KV_GRANULARITY, MAX_TABLE_TOKENS, MeasuredProfileAttention, OPS, ProfileAttention, ProfileTimes,
    Tables, batching_overhead,
};
use super::{Deployment, Files, HardwareError, analytical};
use crate::settings::{Faults, quoted};

/// Files of a profile. A file named by itself goes before one in a directory.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct VidurSettings {
    /// Where `mlp.csv` is and `attention.csv` may be.
    pub compute_dir: Option<PathBuf>,
    /// Where `all_reduce.csv` and `send_recv.csv` are.
    pub network_dir: Option<PathBuf>,
    /// Instead of `mlp.csv` in `compute_dir`.
    pub mlp: Option<PathBuf>,
    /// Instead of `attention.csv` in `compute_dir`.
    pub attention: Option<PathBuf>,
    /// Instead of `all_reduce.csv` in `network_dir`.
    pub all_reduce: Option<PathBuf>,
    /// Instead of `send_recv.csv` in `network_dir`.
    pub send_recv: Option<PathBuf>,
}

impl VidurSettings {
    pub fn check(&self, faults: &mut Faults) {
        faults.require(self.mlp.is_some() || self.compute_dir.is_some(), "", || {
            "neither `mlp` nor `compute_dir` is given".into()
        });
    }

    /// The files a deployment needs, found.
    pub(super) fn sources(&self, deployment: &Deployment, files: &Files) -> Result<Sources, HardwareError> {
        let find = |file: &Option<PathBuf>, dir: &Option<PathBuf>, field: &str| match (file, dir) {
            (Some(file), _) => files.find(file),
            (None, Some(dir)) => files.find(&dir.join(format!("{field}.csv"))),
            (None, None) => Err(HardwareError::Unsupported(format!(
                "this split needs {field}.csv of the profile: give `{field}` or its directory"
            ))),
        };
        let attention = match (&self.attention, &self.compute_dir) {
            (Some(file), _) => Some(files.find(file)?),
            (None, Some(dir)) => files.find(&dir.join("attention.csv")).ok(),
            (None, None) => None,
        };
        Ok(Sources {
            mlp: find(&self.mlp, &self.compute_dir, "mlp")?,
            attention,
            all_reduce: (deployment.tensor_parallel > 1)
                .then(|| find(&self.all_reduce, &self.network_dir, "all_reduce"))
                .transpose()?,
            send_recv: (deployment.pipeline_parallel > 1)
                .then(|| find(&self.send_recv, &self.network_dir, "send_recv"))
                .transpose()?,
        })
    }
}

pub(super) struct Sources {
    mlp: PathBuf,
    attention: Option<PathBuf>,
    all_reduce: Option<PathBuf>,
    send_recv: Option<PathBuf>,
}

impl Sources {
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        [Some(&self.mlp), self.attention.as_ref(), self.all_reduce.as_ref(), self.send_recv.as_ref()]
            .into_iter()
            .flatten()
            .map(PathBuf::as_path)
    }

    pub fn provenance(&self, deployment: &Deployment) -> String {
        let attention = if self.attention.is_some() { "measured" } else { "analytical" };
        let (profile, tp) = (self.mlp.display(), deployment.tensor_parallel);
        format!(
            "operator times of microsoft/vidur's profile {profile}, {attention} attention, tensor parallel {tp}"
        )
    }

    pub fn import(&self, deployment: &Deployment) -> Result<ProfileTimes, HardwareError> {
        let (model, tp) = (&deployment.model, deployment.tensor_parallel);
        let shape = [
            ("n_head", model.num_query_heads.to_string()),
            ("n_kv_head", model.num_kv_heads.to_string()),
            ("n_embd", model.embedding_dim.to_string()),
            ("n_expanded_embd", model.mlp_hidden_dim.to_string()),
            ("use_gated_mlp", if model.gated_mlp { "True" } else { "False" }.to_string()),
            ("num_tensor_parallel_workers", tp.to_string()),
        ];
        let ops = Profile::read(&self.mlp, &shape)?.curves("num_tokens", 1.0, &OPS)?;
        // Bytes of a message are 2 for each number of a token's hidden state.
        let tokens_per_byte = 0.5 / f64::from(model.embedding_dim);
        let network = |file: &Option<PathBuf>, op: &str, workers: u32, devices_per_node: u32| {
            let rows =
                [("num_workers", workers.to_string()), ("devices_per_node", devices_per_node.to_string())];
            file.as_ref()
                .map(|file| Profile::read(file, &rows)?.curves("size", tokens_per_byte, &[op]))
                .transpose()
        };
        let all_reduce = network(&self.all_reduce, "all_reduce", tp, tp)?;
        let send_recv =
            network(&self.send_recv, "send_recv", 2, if deployment.fits_one_node() { 2 } else { 1 })?;
        let analytic = analytical::attention(deployment)?;
        let attention = match &self.attention {
            None => ProfileAttention::Analytic(analytic),
            Some(file) => ProfileAttention::Measured(attention(file, deployment, &analytic)?),
        };
        Ok(Tables { ops, all_reduce, send_recv }.condense(deployment, attention, Beyond::Proportional))
    }
}

/// Rows of a profile that belong to a deployment.
struct Profile {
    file: PathBuf,
    header: csv::StringRecord,
    /// With their lines.
    rows: Vec<(u64, csv::StringRecord)>,
}

impl Profile {
    /// Reads the rows in which the named columns have the given values, equal rows once.
    fn read(file: &Path, values: &[(&str, String)]) -> Result<Self, HardwareError> {
        let bad = |line: u64, message: String| HardwareError::BadTable { file: file.into(), line, message };
        let text = std::fs::read_to_string(file)
            .map_err(|source| HardwareError::Unreadable { file: file.into(), source })?;
        let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).from_reader(text.as_bytes());
        let header = reader.headers().map_err(|error| bad(1, error.to_string()))?.clone();
        let mut profile = Self { file: file.into(), header, rows: Vec::new() };
        let wanted: Vec<(usize, &str)> = values
            .iter()
            .map(|(column, value)| Ok((profile.column(column)?, value.as_str())))
            .collect::<Result<_, HardwareError>>()?;
        let mut found = BTreeMap::new();
        let mut seen = std::collections::BTreeSet::new();
        for record in reader.records() {
            let record = record
                .map_err(|error| bad(error.position().map_or(0, csv::Position::line), error.to_string()))?;
            if wanted.iter().all(|&(column, value)| same(&record[column], value)) {
                let key: Vec<String> = record.iter().map(str::to_string).collect();
                if seen.insert(key) {
                    profile.rows.push((record.position().map_or(0, csv::Position::line), record));
                }
            } else {
                *found
                    .entry(wanted.iter().map(|&(column, _)| record[column].to_string()).collect::<Vec<_>>())
                    .or_insert(0_u64) += 1;
            }
        }
        if profile.rows.is_empty() {
            let wanted: Vec<String> =
                values.iter().map(|(column, value)| format!("{column} {value}")).collect();
            let found: Vec<String> = found.keys().take(8).map(|values| values.join(", ")).collect();
            return Err(bad(
                1,
                format!("no rows with {}; the file has ({})", wanted.join(", "), found.join("), (")),
            ));
        }
        Ok(profile)
    }

    fn column(&self, name: &str) -> Result<usize, HardwareError> {
        self.find(name).ok_or_else(|| HardwareError::BadTable {
            file: self.file.clone(),
            line: 1,
            message: format!("no column `{name}`, found {}", quoted(&self.header.iter().collect::<Vec<_>>())),
        })
    }

    fn find(&self, name: &str) -> Option<usize> {
        self.header.iter().position(|column| column == name)
    }

    fn number(&self, (line, record): &(u64, csv::StringRecord), column: usize) -> Result<f64, HardwareError> {
        match record[column].parse::<f64>() {
            Ok(value) if value.is_finite() && value >= 0.0 => Ok(value),
            _ => Err(HardwareError::BadTable {
                file: self.file.clone(),
                line: *line,
                message: format!(
                    "column `{}` is `{}`, expected a number of at least 0",
                    &self.header[column], &record[column]
                ),
            }),
        }
    }

    /// Median times of operators over one column, rows of equal value averaged.
    fn curves(&self, x_column: &str, x_factor: f64, ops: &[&str]) -> Result<Curves, HardwareError> {
        let x_column = self.column(x_column)?;
        let columns = ops
            .iter()
            .map(|op| self.column(&format!("time_stats.{op}.median")))
            .collect::<Result<Vec<_>, _>>()?;
        let mut points: BTreeMap<u64, (f64, Vec<f64>)> = BTreeMap::new();
        for row in &self.rows {
            // Counts and bytes: whole numbers.
            let (count, sums) = points
                .entry(self.number(row, x_column)? as u64)
                .or_insert_with(|| (0.0, vec![0.0; ops.len()]));
            *count += 1.0;
            for (sum, &column) in sums.iter_mut().zip(&columns) {
                *sum += self.number(row, column)?;
            }
        }
        let x: Vec<f64> = points.keys().map(|&x| x as f64 * x_factor).collect();
        if let Some(most) = x.last().filter(|most| **most > MAX_TABLE_TOKENS) {
            let message = format!(
                "column `{}` is worth {most} tokens, expected at most {MAX_TABLE_TOKENS}",
                &self.header[x_column]
            );
            return Err(HardwareError::BadTable { file: self.file.clone(), line: 1, message });
        }
        Ok(Curves {
            x,
            y: (0..ops.len())
                .map(|op| points.values().map(|(count, sums)| sums[op] / count).collect())
                .collect(),
        })
    }

    /// Median times of one operator over two columns, by the first.
    fn rows_over(
        &self,
        x_column: &str,
        y_column: &str,
        op: &str,
    ) -> Result<Vec<(f64, Curves)>, HardwareError> {
        let (x, y) = (self.column(x_column)?, self.column(y_column)?);
        let time = self.column(&format!("time_stats.{op}.median"))?;
        let mut points: BTreeMap<(u64, u64), (f64, f64)> = BTreeMap::new();
        for row in &self.rows {
            let (count, sum) =
                points.entry((self.number(row, x)? as u64, self.number(row, y)? as u64)).or_default();
            *count += 1.0;
            *sum += self.number(row, time)?;
        }
        let mut rows: Vec<(f64, Curves)> = Vec::new();
        for ((x, y), (count, sum)) in points {
            if rows.last().is_none_or(|(last, _)| *last != x as f64) {
                rows.push((x as f64, Curves { x: Vec::new(), y: vec![Vec::new()] }));
            }
            let curve = &mut rows.last_mut().expect("just pushed").1;
            curve.x.push(y as f64);
            curve.y[0].push(sum / count);
        }
        Ok(rows)
    }
}

/// Numbers may be written as `8` or `8.0`.
fn same(found: &str, wanted: &str) -> bool {
    found == wanted
        || matches!((found.parse::<f64>(), wanted.parse::<f64>()), (Ok(found), Ok(wanted)) if found == wanted)
}

/// Multiples of 64 cached tokens, of all prefills or the mean of decodes.
const CACHED: Axis = Axis::new(6, 4, 13);
const CHUNK: Axis = Axis::new(6, 6, 16);
const DECODES: Axis = Axis::new(7, 4, 12);
const TOKENS: Axis = Axis::new(8, 6, 20);
/// Operators around attention, of which a profile has some: moving keys and values into the cache.
const AROUND: [&str; 3] = ["attn_input_reshape", "attn_output_reshape", "attn_kv_cache_save"];

fn attention(
    file: &Path,
    deployment: &Deployment,
    reference: &super::attention::AnalyticAttention,
) -> Result<MeasuredProfileAttention, HardwareError> {
    let model = &deployment.model;
    let rows = |prefill: bool| {
        Profile::read(
            file,
            &[
                ("n_embd", model.embedding_dim.to_string()),
                ("n_q_head", model.num_query_heads.to_string()),
                ("n_kv_head", model.num_kv_heads.to_string()),
                ("num_tensor_parallel_workers", deployment.tensor_parallel.to_string()),
                ("is_prefill", if prefill { "True" } else { "False" }.to_string()),
            ],
        )
    };
    let (prefills, decodes) = (rows(true)?, rows(false)?);
    let prefill = Scatter::new(
        prefills.rows_over("kv_cache_size", "prefill_chunk_size", "attn_prefill")?,
        |cached: f64, chunk: f64| reference.one_prefill_ms(chunk, cached),
    );
    let decode = Scatter::new(
        decodes.rows_over("batch_size", "kv_cache_size", "attn_decode")?,
        |batch: f64, cached: f64| reference.decode_ms.at((batch * cached) as u64),
    );
    let mut around = Vec::new();
    for op in AROUND {
        if prefills.find(&format!("time_stats.{op}.median")).is_some() {
            around.push((
                prefills.curves("prefill_chunk_size", 1.0, &[op])?,
                decodes.curves("batch_size", 1.0, &[op])?,
            ));
        }
    }
    let around_ms = |tokens: f64| {
        let of = |(prefill, decode): &(Curves, Curves)| match tokens <= decode.last_x() {
            true => decode.at(0, tokens),
            false => prefill.at(0, tokens) * (tokens / prefill.last_x()).max(1.0),
        };
        around.iter().map(of).sum()
    };
    let cached = |steps: u64| (steps * KV_GRANULARITY) as f64;
    Ok(MeasuredProfileAttention {
        around_ms: Table::new(TOKENS, |tokens| around_ms(tokens as f64)),
        prefill_ms: Grid::new(CACHED, CHUNK, |steps, chunk| prefill.at(cached(steps), chunk.max(1) as f64)),
        decode_ms: Grid::new(DECODES, CACHED, |decodes, steps| {
            decode.at(decodes.max(1) as f64, cached(steps.max(1)))
        }),
        batching_overhead: batching_overhead(model),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hardware::{BatchShape, ExecutionTime, ExecutionTimeSettings};

    fn deployment(tp: u32, pp: u32) -> Deployment {
        Deployment::resolve("meta-llama/Meta-Llama-3-70B", "a100_pairwise_nvlink", tp, pp, &Files::default())
            .unwrap()
    }

    /// A profile of three token counts, one of them measured twice.
    fn write_profile(dir: &Path) {
        let ops: Vec<String> = OPS.iter().map(|op| format!("time_stats.{op}.median")).collect();
        let mut mlp = format!(
            "{},n_head,n_kv_head,n_embd,n_expanded_embd,use_gated_mlp,num_tokens,num_tensor_parallel_workers\n",
            ops.join(",")
        );
        for (ms, tokens) in [(0.1, 8), (0.2, 16), (0.3, 32), (0.5, 32)] {
            mlp += &format!("{}64,8,8192,28672,True,{tokens},4\n", format!("{ms},").repeat(9));
        }
        std::fs::write(dir.join("mlp.csv"), mlp).unwrap();
        let all_reduce = "time_stats.all_reduce.median,num_workers,size,devices_per_node\n0.3,4,131072,4\n0.5,4,524288,4\n9,2,131072,2\n";
        std::fs::write(dir.join("all_reduce.csv"), all_reduce).unwrap();
    }

    fn settings(dir: &Path) -> VidurSettings {
        VidurSettings {
            compute_dir: Some(dir.into()),
            network_dir: Some(dir.into()),
            ..VidurSettings::default()
        }
    }

    #[test]
    fn rows_are_chosen_averaged_and_joined() {
        let dir = tempfile::tempdir().unwrap();
        write_profile(dir.path());
        let sources = settings(dir.path()).sources(&deployment(4, 1), &Files::default()).unwrap();
        let times = sources.import(&deployment(4, 1)).unwrap();
        // Nine operators, two all-reduces with 0.02 ms of launch each.
        let layer = |op: f64, all_reduce: f64| 9.0 * op + 2.0 * (all_reduce + 0.02);
        for (tokens, expected) in [
            (8, layer(0.1, 0.3)),
            (9, layer(0.2, 0.3 + 0.2 / 3.0)),
            (32, layer(0.4, 0.5)),
            (64, 2.0 * layer(0.4, 0.5)),
        ] {
            let found = times.dense_ms(tokens);
            assert!((found / expected - 1.0).abs() < 1e-12, "{tokens}: {found}, expected {expected}");
        }
        assert!(sources.provenance(&deployment(4, 1)).contains("analytical attention"));
    }

    #[test]
    fn says_what_is_missing() {
        let dir = tempfile::tempdir().unwrap();
        write_profile(dir.path());
        let load = |tp, pp| {
            let settings = ExecutionTimeSettings::Vidur(settings(dir.path()));
            ExecutionTime::load(&settings, &deployment(tp, pp), &Files::default()).unwrap_err().to_string()
        };
        let error = load(2, 1);
        assert!(
            error.contains("mlp.csv, line 1: no rows with n_head 64")
                && error.contains("the file has (64, 8, 8192, 28672, True, 4)"),
            "{error}"
        );
        assert!(load(4, 2).contains("send_recv.csv is not there"));
        let mut faults = Faults::default();
        VidurSettings::default().check(&mut faults);
        assert_eq!(faults.found.len(), 1);
    }

    /// Attention of whole batches by the reference's rules: here the measured times are a plane, so that
    /// every answer is known.
    #[test]
    fn measured_attention_follows_the_rules() {
        let dir = tempfile::tempdir().unwrap();
        write_profile(dir.path());
        let mut text = "time_stats.attn_prefill.median,time_stats.attn_decode.median,n_embd,n_q_head,n_kv_head,num_tensor_parallel_workers,batch_size,prefill_chunk_size,kv_cache_size,is_prefill\n".to_string();
        for cached in [0, 64, 4096] {
            for chunk in [64, 1024] {
                text += &format!(
                    "{},,8192,64,8,4,1,{chunk},{cached},True\n",
                    1.0 + 1e-3 * f64::from(chunk + cached)
                );
            }
        }
        for batch in [1, 8] {
            for cached in [64, 4096] {
                text += &format!(
                    ",{},8192,64,8,4,{batch},0,{cached},False\n",
                    1.0 + 0.1 * f64::from(batch) + 1e-3 * f64::from(cached)
                );
            }
        }
        std::fs::write(dir.path().join("attention.csv"), text).unwrap();
        let times = settings(dir.path())
            .sources(&deployment(4, 1), &Files::default())
            .unwrap()
            .import(&deployment(4, 1))
            .unwrap();
        let attention_ms = |prefills: &[(u32, u32)], decodes: &[u32]| {
            let mut shape = BatchShape::default();
            prefills.iter().for_each(|&(tokens, cached)| shape.add_prefill(tokens, cached));
            decodes.iter().for_each(|&cached| shape.add_decode(cached));
            times.stage_time_s(&shape, 0) * 1e3 / 80.0 - times.dense_ms(shape.total_tokens)
        };
        for (prefills, decodes, expected) in [
            (vec![(64, 0)], vec![], 1.064),
            (vec![(512, 100)], vec![], 1.0 + 0.512 + 0.128),
            // sqrt(300^2 + 400^2) = 500 tokens behind 64 + 128, and the overhead of two.
            (vec![(300, 10), (400, 65)], vec![], 1.1 * (1.0 + 0.5 + 0.192)),
            (vec![], vec![100], 1.0 + 0.1 + 0.128),
            (vec![], vec![100, 200, 300], 1.1 * (1.0 + 0.3 + 0.256)),
            (vec![(64, 0)], vec![100], 1.064 + 1.228),
        ] {
            let found = attention_ms(&prefills, &decodes);
            assert!(
                (found - expected).abs() < 1e-9,
                "{prefills:?} {decodes:?}: {found}, expected {expected}"
            );
        }
    }
}
