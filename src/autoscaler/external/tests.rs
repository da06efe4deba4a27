use std::collections::VecDeque;

use super::*;
use crate::autoscaler::tests::with_context;

/// A program that says what it is told to say, and keeps what it was asked.
#[derive(Debug, Clone, Default)]
struct Script(std::sync::Arc<Mutex<(VecDeque<String>, Vec<Value>)>>);

impl Script {
    fn new(answers: &[&str]) -> Self {
        let script = Self::default();
        script.0.lock().unwrap().0 = answers.iter().map(ToString::to_string).collect();
        script
    }

    fn questions(&self) -> Vec<Value> {
        self.0.lock().unwrap().1.clone()
    }
}

impl Programs for Script {
    fn open(&self, _: &[String]) -> Result<Box<dyn Dialogue>, String> {
        Ok(Box::new(self.clone()))
    }
}

impl Dialogue for Script {
    fn ask(&mut self, line: &[u8], answer: &mut String, _: f64) -> Result<(), String> {
        let (answers, questions) = &mut *self.0.lock().unwrap();
        assert!(line.ends_with(b"}\n"));
        questions.push(serde_json::from_slice(line).unwrap());
        *answer = answers.pop_front().ok_or("no more to say")?;
        Ok(())
    }

    fn greeting(&self) -> Option<String> {
        None
    }

    fn set_greeting(&mut self, _: &str) {}

    fn give_up(&mut self) {}
}

fn run(script: &Script, ticks: usize) -> (Vec<Decision>, External) {
    let settings: ExternalSettings =
        serde_json::from_str(r#"{"command": ["x"], "settings": {"knob": 3}}"#).unwrap();
    with_context(|context| {
        let mut policy = External::begin(&settings, &PolicyContext { programs: Some(script), ..*context });
        let snapshot = Snapshot {
            serving: 3,
            draining: 0,
            starting: 2,
            stopping: 1,
            outstanding_requests: 9,
            unrouted_requests: 0,
            replicas: &[],
        };
        let decisions = (0..ticks).map(|tick| policy.decide(tick as f64 * 5.0, &snapshot)).collect();
        (decisions, policy)
    })
}

const HELLO: &str = r#"{"type": "hello", "protocol": 1, "observes": ["arrivals"]}"#;
const READY: &str = r#"{"type": "ready", "tick_interval_s": 2.5}"#;

#[test]
fn decisions_are_changes_or_targets() {
    let script = Script::new(&[
        HELLO,
        READY,
        r#"{"type": "decision"}"#,
        r#"{"type": "decision", "change": 2, "evidence": {"rate_per_s": 1.5}}"#,
        r#"{"type": "decision", "change": -1}"#,
        r#"{"type": "decision", "target": 9}"#,
        r#"{"type": "decision", "target": 0}"#,
    ]);
    let (decisions, policy) = run(&script, 5);
    assert_eq!(
        decisions,
        [Decision::Hold, Decision::Up(2), Decision::Down(1), Decision::Up(5), Decision::Down(4)]
    );
    assert_eq!(policy.failure(), None);
    assert_eq!(policy.tick_interval_s(), Some(2.5));
    assert!(policy.observes().arrivals && !policy.observes().replicas);
    let questions = script.questions();
    assert_eq!(questions[0], serde_json::json!({"type": "hello", "protocol": 1}));
    assert_eq!(questions[1]["settings"], serde_json::json!({"knob": 3}));
    assert_eq!(questions[1]["cluster"]["max_replicas"], 64);
    assert_eq!(questions[2]["committed"], 4);
    assert_eq!(
        questions[2]["arrivals"],
        serde_json::json!({"arrived_at_s": [], "prefill_tokens": []}),
        "output lengths were not asked for"
    );
    assert!(questions[2].get("batches").is_none());
}

#[test]
fn evidence_is_what_the_last_decision_said() {
    let script = Script::new(&[HELLO, READY, r#"{"type": "decision", "evidence": {"b": 2, "a": 1}}"#]);
    assert_eq!(run(&script, 1).1.evidence(), [("a", 1.0), ("b", 2.0)]);
}

#[test]
fn a_broken_dialogue_is_a_failure_that_says_what_was_expected() {
    let cases: [(&[&str], &str); 9] = [
        (&[r#"{"type": "hello", "protocol": 2}"#], "protocol 2 found, expected 1"),
        (&["hello"], "expected a line such as {\"type\": \"hello\""),
        (&[r#"{"type": "hello", "protocol": 1, "observes": ["weather"]}"#], "unknown variant `weather`"),
        (&[r#"{"type": "hello", "protocol": 1, "observes": ["decode_tokens"]}"#], "without `arrivals`"),
        (&[HELLO, r#"{"type": "ready", "tick_interval_s": 0}"#], "`tick_interval_s` 0 found"),
        (&[HELLO, READY, READY], "expected a line such as {\"type\": \"decision\""),
        (&[HELLO, READY, r#"{"type": "decision", "change": 1, "target": 2}"#], "expected one of them"),
        (&[HELLO, READY, r#"{"type": "decision", "target": -3}"#], "`target` -3 found"),
        (&[HELLO, READY], "at 0 s of simulated time: no more to say"),
    ];
    for (answers, expected) in cases {
        let (decisions, policy) = run(&Script::new(answers), 2);
        let failure = policy.failure().unwrap_or_default();
        assert!(failure.contains(expected), "{failure}\nlacks {expected}");
        assert_eq!(decisions, [Decision::Hold, Decision::Hold]);
    }
}
