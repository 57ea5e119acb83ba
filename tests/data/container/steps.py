"""Counts steps: prints each, writes each into a file, and saves where it is asked to."""

import json
import sys
import time

import hackbrain

steps, pause = int(sys.argv[1]), float(sys.argv[2])
snapshot = hackbrain.restore()
state = json.loads(snapshot.state) if snapshot else {"step": 0, "sum": 0}
if snapshot is None:
    print("[D1_STABLE] begin", flush=True)
while state["step"] < steps:
    if hackbrain.due(state["step"]):
        # What is printed and written here goes with the checkpoint; it is not flushed by hand.
        print("saving at", state["step"], file=sys.stderr)
        hackbrain.save(json.dumps(state).encode())
    state["step"] += 1
    state["sum"] += state["step"]
    print("step", state["step"])
    with open("/job/steps", "a") as file:
        file.write("%d\n" % state["step"])
    hackbrain.report(state["step"], steps)
    hackbrain.metric("sum", state["sum"])
    time.sleep(pause)
with open("/job/steps", "rb") as file:
    hackbrain.artifact("steps.txt", file.read())
hackbrain.note("all steps are done")
print("sum", state["sum"])
