//! Hostile files, in short: what `fuzz/` does a million times is done here some thousand times, from the same
//! seeds and words.
//!
//! `SCALEFRONT_FUZZ_INPUTS=1000000` makes it as many as you like; `SCALEFRONT_FUZZ_SEEDS=fuzz/corpus` stores
//! the seeds for libFuzzer.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use scalefront::sweep::run::journal::{Header, Journal};
use scalefront::sweep::run::{CellLimits, run_journaled};

use crate::cli::small_grid;
use crate::rows::{Quiet, plan};

#[path = "../../fuzz/src/lib.rs"]
mod entries;

/// Inputs of a target where nothing else is said.
const INPUTS: u64 = 5000;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn files_in(dir: &str, extensions: &[&str]) -> Vec<Vec<u8>> {
    let mut paths: Vec<PathBuf> =
        fs::read_dir(root().join(dir)).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| {
        path.extension().is_some_and(|extension| extensions.iter().any(|known| extension == *known))
    });
    paths.sort();
    assert!(!paths.is_empty(), "nothing in {dir}");
    paths.iter().map(|path| fs::read(path).unwrap()).collect()
}

fn grids() -> Vec<Vec<u8>> {
    let mut seeds = files_in("sweeps", &["json"]);
    // The schema is no grid.
    seeds.retain(|seed| seed.len() < 20_000);
    seeds.push(small_grid().to_string().into_bytes());
    seeds
}

fn traces() -> Vec<Vec<u8>> {
    let mut seeds = files_in("traces/samples", &["csv", "jsonl", "gz", "zst"]);
    seeds.iter_mut().for_each(|seed| seed.truncate(2000));
    for text in [
        "arrived_at,num_prefill_tokens,num_decode_tokens\n0.5,256,1\n1.5,256.0,20\r\n",
        "TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:17:03.9799600,4808,10\n2023-11-16 18:17:04.0319600,3180,8\n",
        "{\"timestamp\": 0, \"input_length\": 6758, \"output_length\": 500, \"hash_ids\": [0, 1]}\n{\"timestamp\": 27, \"input_length\": 7, \"output_length\": 5, \"hash_ids\": []}\n",
        "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type\n5,ChatGPT,472,18,490,Conversation log\n45,ChatGPT,1087,0,1087,Conversation log\n",
        "prefill_tokens,decode_tokens\n10,20\n1,2\n",
        "0,0.5,1.0,Gamma,1.0,2.0\n600,1.0,1.0,,,\n1200,0.7,2,Weibull,0.5,3\n",
        "{\"num_prompts\": 2, \"request_rate\": \"inf\", \"total_output_tokens\": 5, \"input_lens\": [3, 4], \"output_lens\": [2, 3], \"ttfts\": [0.1, 0.2], \"itls\": [[0.1], [0.1, 0.1]], \"start_times\": [5.5, 5.0], \"queue_times\": [0, 1], \"errors\": [\"\", \"\"]}",
        "{\"metadata\": {\"guidellm_version\": \"0.8.1\"}, \"benchmarks\": [{\"config\": {\"strategy\": {\"type_\": \"constant\"}}, \"requests\": {\"successful\": [{\"info\": {\"timings\": {\"targeted_start\": 5}}, \"request_start_time\": 6.5, \"prompt_tokens\": 3, \"output_tokens\": 4}]}}]}",
        "{\"metadata\": {\"request_start_ns\": 1795974529537764696, \"benchmark_phase\": \"profiling\"}, \"metrics\": {\"usage_prompt_tokens\": {\"value\": 3, \"unit\": \"tokens\"}, \"output_sequence_length\": {\"value\": 2, \"unit\": \"tokens\"}}}\n",
        "[{\"start_time\": 5.5, \"end_time\": 6, \"info\": {\"input_tokens\": 3, \"response_metrics\": {\"output_tokens\": 4, \"chunk_times\": [5.6, 5.7]}}, \"error\": null}]",
        "{\"0\": {\"input_tokens\": \"{10: 0.5, 20: 0.5}\", \"output_tokens\": \"{5: 1.0}\"}}",
    ] {
        seeds.push(text.as_bytes().to_vec());
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        std::io::Write::write_all(&mut gzip, text.as_bytes()).unwrap();
        seeds.push(gzip.finish().unwrap());
        seeds.push(zstd::bulk::compress(text.as_bytes(), 1).unwrap());
    }
    seeds
}

fn profiles() -> Vec<Vec<u8>> {
    let mut seeds = files_in("src/hardware/tables", &["csv"]);
    // A few lines of each are as good as all.
    seeds.iter_mut().for_each(|seed| {
        *seed = seed.split_inclusive(|&byte| byte == b'\n').take(6).collect::<Vec<_>>().concat()
    });
    let ops = [
        "attn_pre_proj",
        "attn_post_proj",
        "mlp_up_proj",
        "mlp_down_proj",
        "mlp_act",
        "input_layernorm",
        "post_attention_layernorm",
        "attn_rope",
        "add",
    ];
    let header: String = ops.iter().map(|op| format!("time_stats.{op}.median,")).collect();
    let row = |tokens: u32| format!("{}64,8,8192,28672,True,{tokens},4\n", "0.5,".repeat(9));
    let columns =
        "n_head,n_kv_head,n_embd,n_expanded_embd,use_gated_mlp,num_tokens,num_tensor_parallel_workers";
    seeds.push(format!("{header}{columns}\n{}{}", row(8), row(4096)).into_bytes());
    seeds.push(
        br#"{"model_type": "qwen3", "hidden_size": 5120, "num_hidden_layers": 64, "num_attention_heads": 64, "num_key_value_heads": 8,
            "head_dim": 128, "intermediate_size": 25600, "vocab_size": 151936}"#
            .to_vec(),
    );
    seeds
}

fn journals() -> Vec<Vec<u8>> {
    let plan = plan(&small_grid());
    let dir = tempfile::tempdir().unwrap();
    let places: Vec<usize> = (0..plan.unique().len()).collect();
    let journal = Journal::create(dir.path(), &Header::new(&plan, None, places.len())).unwrap();
    let limits = CellLimits { most_events: 200, ..CellLimits::default() };
    run_journaled(&plan, &places, &limits, &journal, None, &Quiet).unwrap();
    journal.append(1, &Err("again".into())).unwrap();
    let text = fs::read_to_string(dir.path().join("journal.jsonl")).unwrap();
    // The entry puts checksums before the lines.
    let bare: String = text.lines().map(|line| format!("{}\n", &line[17..])).collect();
    vec![bare.into_bytes(), b"!0123456789abcdef {}\n".to_vec(), b"{}\n".to_vec()]
}

/// Tables of ours, and some with types and compressions that others write.
#[cfg(feature = "report")]
fn tables() -> Vec<Vec<u8>> {
    use polars::prelude::{DataType, ParquetCompression, ParquetWriter};
    use scalefront::analysis::table::{Column, to_frame};
    use scalefront::analysis::{write_runs, write_series};
    use scalefront::sweep::tables::row::{RunSeries, Series};

    let dir = tempfile::tempdir().unwrap();
    let rows = scalefront::sweep::run::run_all(&plan(&small_grid()), &Quiet).unwrap();
    write_runs(&rows, &dir.path().join("a")).unwrap();
    write_runs(&rows[..1], &dir.path().join("b")).unwrap();
    let series = vec![Series { name: "num_replicas".into(), points: vec![(0.0, 1.0), (30.0, 4.0)] }];
    write_series(&[RunSeries { run_id: "b".into(), series }], &dir.path().join("c")).unwrap();
    let mut tables = ["a", "b", "c"].map(|name| fs::read(dir.path().join(name)).unwrap()).to_vec();

    let numbers = || (0..300).map(|i| (i % 7 != 3).then_some(f64::from(i * i) / 8.0)).collect();
    let columns = vec![
        (
            "gemm_dtype",
            Column::Text(
                (0..300)
                    .map(|i| ["bfloat16", "a name that is too long to be kept inline"][i / 7 % 2].into())
                    .collect(),
            ),
        ),
        ("run_id", Column::OptionalText((0..300).map(|i| (i % 5 > 0).then(|| format!("{i:x}"))).collect())),
        (
            "series",
            Column::Text((0..300).map(|i| format!("a curve whose name is as long as {i} is")).collect()),
        ),
        ("m", Column::Int((0..300).map(|i| i / 100).collect())),
        ("n", Column::OptionalInt((0..300).map(|i| (i % 9 > 0).then_some(i * i)).collect())),
        ("k", Column::OptionalBool((0..300).map(|i| (i % 11 > 0).then_some(i % 3 == 0)).collect())),
        ("latency", Column::OptionalFloat(numbers())),
        ("x", Column::Float((0..300).map(f64::from).collect())),
        ("y", Column::Float(vec![0.5; 300])),
        ("seed", Column::Int((0..300).collect())),
        ("p90_e2e_s", Column::OptionalFloat(numbers())),
    ];
    let mut frame = to_frame(columns).unwrap();
    for (name, dtype) in [("m", DataType::UInt32), ("x", DataType::Float32), ("seed", DataType::Int32)] {
        let cast = frame.column(name).unwrap().cast(&dtype).unwrap();
        frame.with_column(cast).unwrap();
    }
    use ParquetCompression::{Gzip, Lz4Raw, Snappy, Uncompressed, Zstd};
    for compression in [Uncompressed, Uncompressed, Snappy, Gzip(None), Zstd(None), Lz4Raw] {
        let mut bytes = Vec::new();
        let writer =
            ParquetWriter::new(&mut bytes).with_compression(compression).with_row_group_size(Some(200));
        writer.with_data_page_size(Some(512)).finish(&mut frame).unwrap();
        tables.push(bytes);
    }
    tables
}

/// The words of the dictionary that libFuzzer reads as well.
fn words() -> Vec<Vec<u8>> {
    let text = fs::read_to_string(root().join("fuzz/dictionary.txt")).unwrap();
    let unescaped = |line: &str| {
        let (mut bytes, mut rest) = (Vec::new(), line.bytes());
        while let Some(byte) = rest.next() {
            match (byte, if byte == b'\\' { rest.next() } else { None }) {
                (_, Some(b'x')) => {
                    let digits = [rest.next().unwrap(), rest.next().unwrap()];
                    bytes.push(u8::from_str_radix(std::str::from_utf8(&digits).unwrap(), 16).unwrap());
                }
                (_, Some(escaped)) => bytes.push(escaped),
                (plain, None) => bytes.push(plain),
            }
        }
        bytes
    };
    text.lines().filter_map(|line| line.strip_prefix('"')?.strip_suffix('"')).map(unescaped).collect()
}

/// Numbers that are the same every time.
struct Draws(u64);

impl Draws {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        ((self.0 >> 33) as usize) % end.max(1)
    }

    /// A seed after up to four changes.
    fn input(&mut self, seeds: &[Vec<u8>], words: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = seeds[self.below(seeds.len())].clone();
        for _ in 0..=self.below(4) {
            let at = self.below(bytes.len() + 1);
            let end = (at + self.below(40)).min(bytes.len());
            match self.below(7) {
                0 if at < bytes.len() => bytes[at] ^= 1 << self.below(8),
                1 if at < bytes.len() => bytes[at] = self.below(256) as u8,
                2 => drop(bytes.drain(at..end)),
                3 => bytes.extend_from_within(at..end),
                4 => {
                    let word = &words[self.below(words.len())];
                    bytes.splice(at..end.min(at + self.below(8)).max(at), word.iter().copied());
                }
                5 => bytes.truncate(at),
                _ => {
                    let other = &seeds[self.below(seeds.len())];
                    let from = self.below(other.len());
                    bytes.splice(at..end, other[from..].iter().take(60).copied());
                }
            }
        }
        bytes
    }

    /// A seed after up to four changes in place, so that whatever says where something is remains right; or
    /// any changes.
    #[cfg(feature = "report")]
    fn table(&mut self, seeds: &[Vec<u8>], words: &[Vec<u8>]) -> Vec<u8> {
        if self.below(8) == 0 {
            return self.input(seeds, words);
        }
        let mut bytes = seeds[self.below(seeds.len())].clone();
        for _ in 0..=self.below(4) {
            let at = self.below(bytes.len());
            match self.below(4) {
                0 => bytes[at] ^= 1 << self.below(8),
                1 => bytes[at] = self.below(256) as u8,
                2 => {
                    let value = [0, 1, 0x7f, 0x80, 0xff][self.below(5)];
                    let end = (at + self.below(10)).min(bytes.len());
                    bytes[at..end].fill(value);
                }
                _ => {
                    let from = self.below(bytes.len());
                    let length = self.below(20).min(bytes.len() - from.max(at));
                    bytes.copy_within(from..from + length, at);
                }
            }
        }
        bytes
    }
}

/// With `change` a seed becomes an input.
fn attack(
    name: &str,
    seeds: Vec<Vec<u8>>,
    change: impl Fn(&mut Draws, &[Vec<u8>], &[Vec<u8>]) -> Vec<u8>,
    entry: fn(&[u8]),
) {
    if let Some(dir) = std::env::var_os("SCALEFRONT_FUZZ_SEEDS") {
        let dir = root().join(dir).join(name);
        fs::create_dir_all(&dir).unwrap();
        seeds.iter().enumerate().for_each(|(i, seed)| fs::write(dir.join(format!("seed{i}")), seed).unwrap());
    }
    let inputs = std::env::var("SCALEFRONT_FUZZ_INPUTS").map_or(INPUTS, |inputs| inputs.parse().unwrap());
    let (words, mut draws) = (words(), Draws(name.len() as u64));
    for input in seeds.iter().cloned().chain((0..inputs).map(|_| change(&mut draws, &seeds, &words))) {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| entry(&input))) {
            let kept = std::env::temp_dir().join(format!("scalefront-hostile-{name}"));
            fs::write(&kept, &input).unwrap();
            eprintln!("the input is kept as {}", kept.display());
            std::panic::resume_unwind(panic);
        }
    }
}

#[test]
fn grids_are_refused_or_read() {
    attack("grid", grids(), Draws::input, entries::grid);
}

#[test]
fn traces_are_refused_or_read() {
    attack("trace", traces(), Draws::input, entries::trace);
}

#[test]
fn profiles_are_refused_or_read() {
    attack("profile", profiles(), Draws::input, entries::profile);
}

#[test]
fn journals_are_refused_or_read() {
    attack("journal", journals(), Draws::input, entries::journal);
}

#[cfg(feature = "report")]
#[test]
fn parquet_tables_are_refused_or_read() {
    attack("parquet", tables(), Draws::table, entries::parquet);
}

#[cfg(feature = "report")]
#[test]
fn parquet_tables_that_are_cut_are_refused() {
    let seeds = tables();
    for seed in &seeds {
        (0..40).for_each(|part| entries::parquet(&seed[..seed.len() * part / 40]));
    }
    let dir = tempfile::tempdir().unwrap();
    let cut = dir.path().join("cut.parquet");
    fs::write(&cut, &seeds[0][..seeds[0].len() - 1]).unwrap();
    let error = format!("{:#}", scalefront::analysis::read_runs(&cut, None).unwrap_err());
    assert!(
        error.contains("cut.parquet: cannot read the table of runs")
            && error.contains("does not end with PAR1"),
        "{error}"
    );
}
