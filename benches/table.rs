//! The table of `benches/README.md`, measured in one run: `cargo bench --bench table`, or parts of it: `--
//! engine decode`.
//!
//! Times are the best of several rounds, and what is compared is measured in turns, so that a busy machine
//! slows all sides alike.

mod cases;

use std::hint::black_box;
use std::time::Instant;

use cases::{Case, Size};

/// Best nanoseconds per element of each case over this many rounds, cases in turns.
fn best_ns(cases: &mut [Case], rounds: usize) -> Vec<f64> {
    let mut best = vec![f64::INFINITY; cases.len()];
    for _ in 0..rounds {
        for (case, best) in cases.iter_mut().zip(&mut best) {
            let start = Instant::now();
            black_box((case.run)());
            *best = best.min(start.elapsed().as_secs_f64() * 1e9 / case.elements as f64);
        }
    }
    best
}

fn row(what: &str, measured: impl std::fmt::Display, wanted: &str) {
    println!("| {what} | {measured} | {wanted} |");
}

/// One row of several cases that differ in one number.
fn series(what: &str, mut cases: Vec<(String, Case)>, rounds: usize, wanted: &str) {
    let (names, mut cases): (Vec<String>, Vec<Case>) = cases.drain(..).unzip();
    let figures: Vec<String> =
        names.iter().zip(best_ns(&mut cases, rounds)).map(|(name, ns)| format!("{name}: {ns:.1}")).collect();
    row(what, figures.join(", "), wanted);
}

fn main() {
    let parts: [(&str, fn()); 6] = [
        ("engine", engine),
        ("decode", decode),
        ("day", day),
        ("scale", scale),
        ("envelope", envelope),
        ("sweep", sweep),
    ];
    let wanted: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    println!("| what | measured | wanted |\n| --- | --- | --- |");
    for (name, part) in parts {
        if wanted.is_empty() || wanted.iter().any(|wanted| wanted == name) {
            part();
        }
    }
}

fn decode() {
    let mut decode = cases::decode(Size::Full);
    let best = best_ns(&mut decode, 10);
    for (case, ns) in decode.iter().zip(best) {
        row(
            &case.name,
            format!("{:.2} us a request, {:.1} ms", ns * 1e-3, ns * 1e-6 * case.elements as f64),
            "1.5 us, long contexts 50 ms",
        );
    }
}

fn day() {
    let mut day = cases::day(Size::Full);
    let best = best_ns(&mut day, 3);
    for (case, ns) in day.iter().zip(&best) {
        let measured = format!(
            "{:.2} us a request, {:.2} s, {:.2} times the fixed fleet",
            ns * 1e-3,
            ns * 1e-9 * case.elements as f64,
            ns / best[0]
        );
        row(&case.name, measured, "1.3 times");
    }
}

fn scale() {
    let by_requests = (4..=8).map(|e| (format!("10^{e}"), cases::lab_of(10_usize.pow(e)))).collect();
    series("ns a request by number of requests", by_requests, 2, "flat within 25 %");
    let by_replicas =
        [10, 100, 1000, 10_000].map(|n| (n.to_string(), cases::many_replicas(Size::Full, n))).into();
    series("ns a request by number of replicas", by_replicas, 5, "at most doubled");
}

fn envelope() {
    let envelope =
        |e| (format!("10^{e}"), cases::envelope((2 * 10_usize.pow(e)).max(1_000_000), 10_usize.pow(e)));
    series(
        "traffic envelope, ns an update by requests in the look-back",
        (3..=7).map(envelope).collect(),
        3,
        "flat",
    );
    let single = (3..=7).map(|e| (e, cases::envelope_costs(10_usize.pow(e), 4)));
    let worst = single.map(|(e, costs)| {
        format!("10^{e}: {:.1}, {:.1}", costs.worst_update_ns * 1e-3, costs.worst_query_ns * 1e-3)
    });
    row("its worst single update and query, us", worst.collect::<Vec<_>>().join("; "), "bounded");
    let naive = |e| (format!("10^{e}"), cases::naive_envelope(2 * 10_usize.pow(e), 10_usize.pow(e)));
    series("the same by its definition", (3..=5).map(naive).collect(), 1, "");
}

fn engine() {
    let mut lab = vec![cases::bare(Size::Full)];
    lab.extend(cases::engine(Size::Full).into_iter().take(2));
    let ns = best_ns(&mut lab, 60);
    row("bare loop, steps like the lab's", format!("{:.1} ns a request", ns[0]), "");
    for (case, ns_each) in lab.iter().zip(&ns).skip(1) {
        let ms = ns_each * 1e-6 * case.elements as f64;
        row(
            &case.name,
            format!("{ns_each:.1} ns a request, {:.2} times the bare loop, {ms:.1} ms", ns_each / ns[0]),
            "2 times, 10 ms",
        );
    }
}

fn sweep() {
    let mut tiny = [cases::sweep_of("cells of 20 requests", 2000, 1.0)];
    row("sweep, a cell of 20 requests", format!("{:.0} us", best_ns(&mut tiny, 3)[0] * 1e-3), "1,000 us");
    const CELLS: usize = 200;
    let mut lab = [cases::sweep_of("cells like the lab's", CELLS, 6000.0)];
    let mut seconds_on = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads");
        pool.install(|| best_ns(&mut lab, 2)[0]) * 1e-9 * CELLS as f64
    };
    let (one_s, two_s) = (seconds_on(1), seconds_on(2));
    let efficiency = format!("{one_s:.2} s, {two_s:.2} s: {:.0} % efficient", 50.0 * one_s / two_s);
    row(&format!("{CELLS} cells of 126,000 requests on 1 and 2 threads"), efficiency, "90 %");
    row(
        "10,000 such cells on 2 threads, from these",
        format!("{:.0} s", two_s * 10_000.0 / CELLS as f64),
        "60 s",
    );
}
