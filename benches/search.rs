//! What the search for the edge of the possible costs by runs that share what they have in common, beside
//! whole runs: CPU of both, and the ratio. `cargo bench --bench search`, or with another number of runs: `--
//! 1000`.

mod cases;

use cases::Size;

fn main() {
    let budget = std::env::args().skip(1).find_map(|argument| argument.parse().ok()).unwrap_or(4000);
    for router in ["round_robin", "least_outstanding"] {
        let seconds = cases::search(Size::Full, router, budget).map(|mut case| {
            let before_s = cpu_s();
            let digest = (case.run)();
            let took_s = cpu_s() - before_s;
            println!("{}: {budget} runs beyond the starts, {took_s:.2} s of CPU, digest {digest}", case.name);
            (took_s, digest)
        });
        assert_eq!(seconds[0].1, seconds[1].1, "both find the same");
        println!("{router}: {:.3} times the CPU of whole runs", seconds[1].0 / seconds[0].0);
    }
}

/// Seconds that this thread has computed, where the system says so; else seconds.
fn cpu_s() -> f64 {
    let told = std::fs::read_to_string("/proc/thread-self/schedstat").ok();
    let nanoseconds = told.and_then(|told| told.split_whitespace().next()?.parse::<f64>().ok());
    nanoseconds.map_or_else(
        || std::time::UNIX_EPOCH.elapsed().map_or(0.0, |elapsed| elapsed.as_secs_f64()),
        |ns| ns * 1e-9,
    )
}
