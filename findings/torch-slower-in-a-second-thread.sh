#!/usr/bin/env bash
# torch 2.13.0 on a processor, Linux: the same products take much longer in a second thread, if the
# first thread has ever computed any. Nothing runs at the same time.
#
# Expected: a model that is loaded and warmed up in the main thread is as fast in a thread of an
# executor, which only waits for its results: one thread computes, the other one sleeps.
# Seen: small products (11 x 576 times 576 x 576, as in a step of a small language model) take half as
# long again or more in the second thread. If the main thread has computed nothing before, the second
# thread is as fast as the main thread is.
# Why: OpenMP (libgomp, in torch's wheels) keeps a team of threads for every thread that has called
# it, for ever. Two teams have more threads than there are processors. Then libgomp no longer lets
# threads wait by spinning, and each parallel region wakes its threads through the kernel, although
# the other team sleeps.
# Why it matters: servers and apps that load a model in one thread and run it in another, or in
# `asyncio.to_thread`, lose a third of their speed without any sign of contention.
# Documentation: the libgomp manual says that spinning is shortened "if there are more OpenMP threads
# than available CPUs" (GOMP_SPINCOUNT); torch's notes on threads do not mention idle teams.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 numpy==2.4.6
unset OMP_NUM_THREADS OMP_WAIT_POLICY GOMP_SPINCOUNT OMP_DYNAMIC

cd "$folder"
cat > measure.py <<'END'
"""Seconds of the same work in a thread: `main`, `second` after the main thread, `only` the second."""

import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import torch

torch.set_num_threads(len(os.sched_getaffinity(0)))
made = []


@torch.inference_mode()
def work() -> float:
    if not made:  # in the thread that computes: filling large tensors is parallel, too
        made.extend([torch.zeros(11, 576), *(torch.zeros(576, 576) for _ in range(60))])
    inputs, *weights = made
    start = time.perf_counter()
    for _ in range(20):
        for weight in weights:
            torch.nn.functional.silu(inputs @ weight)
    return time.perf_counter() - start


with ThreadPoolExecutor(1) as second:
    if sys.argv[1] != "only":
        work()
    run = work if sys.argv[1] == "main" else lambda: second.submit(work).result()
    run()
    print(min(run() for _ in range(5)))
END

venv/bin/python - <<'END'
import os
import platform
import statistics
import subprocess
import sys

import torch

processors = len(os.sched_getaffinity(0))
print(f"Python {platform.python_version()}, torch {torch.__version__}, {processors} processors")
if processors < 2:
    sys.exit("this needs at least two processors")
seconds = {"main": [], "second": [], "only": []}
for _ in range(7):
    for name, times in seconds.items():
        done = subprocess.run([sys.executable, "measure.py", name], stdout=subprocess.PIPE, check=True)
        times.append(float(done.stdout))
ratios = {
    name: statistics.median(other / main for other, main in zip(times, seconds["main"], strict=True))
    for name, times in seconds.items()
}
print("time of 1,200 products, as a multiple of that in the main thread, median of 7 processes each")
print("expected: 1 in any thread")
print(f"seen:     {ratios['second']:.2f} in a second thread, after the main thread computed once")
print(f"          {ratios['only']:.2f} in a second thread, if the main thread computed nothing")
same = ratios["second"] > 1.2 and ratios["second"] > 1.1 * ratios["only"]
sys.exit(None if same else "torch behaves differently now")
END
