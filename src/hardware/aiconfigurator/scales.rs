//! What it takes to scale the inputs of FP8 products, which a statically scaled checkpoint has done
//! beforehand.

use std::collections::BTreeMap;

use super::rules::Nested;
use super::spec::Spec;
use super::tables::{Rows, Source, named};
use crate::hardware::{HardwareError, ReadParquet};

/// Times by rows and width of an input.
pub(super) struct Scales {
    points: Nested<Box<dyn Fn([f64; 3]) -> f64>>,
    rows: [f64; 2],
    widths: [f64; 2],
    /// Whether times grow beyond what was measured, as those of a kernel do and those of a difference do not.
    grows: bool,
}

impl Scales {
    pub fn read(
        parquet: ReadParquet,
        sources: &[Source],
        spec: &Spec,
        passes: f64,
        grows: bool,
    ) -> Result<Self, HardwareError> {
        let mut points: BTreeMap<(u64, u64), f64> = BTreeMap::new();
        for source in sources {
            let rows = Rows::read(parquet, source, &["quant_dtype", "m", "k", "latency"])?;
            let dtypes = rows.texts("quant_dtype")?;
            let (m, k, latency) = (rows.numbers("m")?, rows.numbers("k")?, rows.numbers("latency")?);
            for row in rows.kept().filter(|&row| dtypes[row] == "fp8") {
                points.entry((m[row] as u64, k[row] as u64)).or_insert(latency[row]);
            }
        }
        let bounds = |values: &mut dyn Iterator<Item = u64>| {
            let (mut least, mut most) = (u64::MAX, 0);
            values.for_each(|value| (least, most) = (least.min(value), most.max(value)));
            [least as f64, most as f64]
        };
        let (rows, widths) =
            (bounds(&mut points.keys().map(|(m, _)| *m)), bounds(&mut points.keys().map(|(_, k)| *k)));
        let bytes_per_ms = spec.bytes_per_ms;
        let roofline: Box<dyn Fn([f64; 3]) -> f64> = Box::new(move |[_, m, k]| passes * m * k / bytes_per_ms);
        let points = points.into_iter().map(|((m, k), ms)| ([1.0, m as f64, k as f64], ms)).collect();
        match Nested::new(points, None, roofline) {
            Some(points) => Ok(Self { points, rows, widths, grows }),
            None => {
                Err(HardwareError::Unsupported(format!("{} has too few rows of FP8 scaling", named(sources))))
            }
        }
    }

    pub fn ms(&self, m: f64, k: f64) -> f64 {
        let (within_m, within_k) =
            (m.clamp(self.rows[0], self.rows[1]), k.clamp(self.widths[0], self.widths[1]));
        let ms = self.points.ms([1.0, within_m, within_k]);
        if self.grows { ms * (m * k) / (within_m * within_k) } else { ms }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hardware::Columns;
    use crate::hardware::aiconfigurator::spec::tests::h100;

    #[expect(clippy::unnecessary_wraps, reason = "the type of what reads Parquet")]
    fn table(_: &std::path::Path, names: &[&str]) -> Result<Vec<Option<Columns>>, String> {
        let column = |name: &&str| match *name {
            "quant_dtype" => Some(Columns::Texts(vec!["fp8".into(); 6])),
            "m" => Some(Columns::Numbers(vec![1.0, 1.0, 2.0, 2.0, 4.0, 4.0])),
            "k" => Some(Columns::Numbers(vec![64.0, 128.0, 64.0, 128.0, 64.0, 128.0])),
            "latency" => Some(Columns::Numbers(vec![0.01, 0.02, 0.02, 0.04, 0.04, 0.08])),
            _ => None,
        };
        Ok(names.iter().map(column).collect())
    }

    #[test]
    fn differences_stay_and_kernels_grow_beyond_what_was_measured() {
        let sources = [Source::whole("computescale_perf.parquet".into())];
        let read = |grows| Scales::read(table, &sources, &h100(), 2.0, grows).unwrap();
        for (grows, far) in [(false, 0.08), (true, 0.64)] {
            let scales = read(grows);
            assert!((scales.ms(3.0, 96.0) - 0.045).abs() < 1e-12, "{}", scales.ms(3.0, 96.0));
            assert!((scales.ms(16.0, 256.0) - far).abs() < 1e-12, "{}", scales.ms(16.0, 256.0));
        }
    }
}
