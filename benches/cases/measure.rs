//! Cases under Criterion.

use criterion::{Criterion, Throughput};

use crate::cases::Case;

/// Measures each case, after saying what its result is.
pub fn measure(name: &str, cases: Vec<Case>) {
    let mut criterion = Criterion::default().sample_size(10).configure_from_args();
    let mut group = criterion.benchmark_group(name);
    for mut case in cases {
        println!("{}: {} elements, digest {}", case.name, case.elements, (case.run)());
        group.throughput(Throughput::Elements(case.elements));
        group.bench_function(&case.name, |bencher| bencher.iter(&mut case.run));
    }
    group.finish();
    criterion.final_summary();
}
