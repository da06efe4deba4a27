// The policy of reactive.py in JavaScript, without any library: the dialogue is a JSON object a line (docs/external-policies.md).
import { createInterface } from "node:readline";

let run;

function start({ settings }) {
  const { target_per_replica: target = 8, hold_s: hold = 60 } = settings;
  run = { target, hold, lastHigh: 0 };
  return { type: "ready" };
}

function decide(tick) {
  const wanted = Math.ceil(tick.outstanding_requests / run.target);
  const decision = { type: "decision", evidence: { wanted_replicas: wanted } };
  if (wanted >= tick.committed) {
    run.lastHigh = tick.now_s;
    return { ...decision, target: wanted };
  }
  // Going down waits until the load has been low for a while.
  return tick.now_s - run.lastHigh < run.hold ? decision : { ...decision, target: tick.committed - 1 };
}

const answers = {
  hello: () => ({ type: "hello", protocol: 1, observes: [] }),
  start,
  tick: decide,
};

for await (const line of createInterface({ input: process.stdin })) {
  const question = JSON.parse(line);
  process.stdout.write(JSON.stringify(answers[question.type](question)) + "\n");
}
