"""Load by turns to programs that run side by side; prints the median latencies as JSON. Runs in .venv-bench.

Environment: BROKER, TOPICS (in>out of each program, with commas between), RATE (messages a second), SECONDS
(of a turn), TURNS. The first turns, on a cold broker, are not counted, nor is half a second of each.
"""

from __future__ import annotations

import json
import os
import time

from benchmarks.programs.load import Load, Reader, quantiles

E = os.environ
RATE, SECONDS, TURNS = int(E["RATE"]), float(E["SECONDS"]), int(E["TURNS"])
COLD = 4


def turn(load: Load) -> float:
    load.reader.seen = []
    began = load.send(RATE, SECONDS)
    time.sleep(0.2)
    return quantiles([latency for at, latency in load.reader.seen if at > (began + 0.5) * 1000], 0.5)[0]


def main() -> None:
    loads: list[Load] = []
    for pair in E["TOPICS"].split(","):
        given, results = pair.split(">")
        reader = Reader(results)
        reader.start()
        loads.append(Load(given, reader))
        loads[-1].begin()
    medians: list[list[float]] = []
    for number in range(COLD + TURNS):
        order = list(enumerate(loads))
        # There and back, so that none always comes first.
        medians.append(
            [m for _, m in sorted((i, turn(load)) for i, load in order[:: -1 if number % 2 else 1])]
        )
    print(json.dumps(medians[COLD:]))


main()
