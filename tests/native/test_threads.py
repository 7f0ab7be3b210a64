"""Threads in the engine: of Python, which may call at any time, and its own, which are never more than asked for."""

import multiprocessing
import os
import runpy
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

allmlp_native = pytest.importorskip("allmlp_native", reason="the engine is not built: make native")

TASKS = Path("/proc/self/task")
FUZZ = Path(__file__).parents[2] / "native" / "tools" / "fuzz.py"
good_file: Callable[..., bytes] = runpy.run_path(str(FUZZ))["good_file"]
needs_proc = pytest.mark.skipif(not TASKS.is_dir(), reason="the system doesn't list a process's threads in /proc")


def images(count: int) -> np.ndarray:
    return np.random.default_rng(count).integers(0, 256, (count, 8, 12, 3), dtype=np.uint8)


def long_call(seconds: float) -> tuple[allmlp_native.Model, np.ndarray]:
    """A model, and images that take it about so long."""
    model, many = allmlp_native.Model(good_file("fp32", width=200, hidden=300), threads=2, level="scalar"), images(40)
    started = time.perf_counter()
    model(many)
    return model, np.tile(many, (int(seconds / (time.perf_counter() - started)) + 1, 1, 1, 1))


def test_many_models_called_by_many_python_threads_answer_as_alone():
    models = [allmlp_native.Model(good_file(precision, (family,)), threads)
              for precision in ("fp32", "bf16", "int8")
              for family, threads in (("mixer", 2), ("resmlp", 1), ("gmlp", 3))]  # fmt: skip
    expected = [[model(images(count)) for count in (1, 2, 7)] for model in models]
    wrong: list[tuple[int, int]] = []

    def work(number: int) -> None:
        for i in range(60):
            which, count = (number + i) % len(models), (1, 2, 7)[i % 3]
            if not np.array_equal(models[which](images(count)), expected[which][i % 3]):
                wrong.append((number, which))

    workers = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert wrong == []


def test_models_may_be_opened_while_others_run():
    content = [good_file(precision) for precision in ("fp32", "bf16", "int8")]
    expected = [allmlp_native.Model(each, 2)(images(3)) for each in content]
    wrong: list[int] = []

    def work(number: int) -> None:
        for i in range(number, number + 30):
            if not np.array_equal(allmlp_native.Model(content[i % 3], 2)(images(3)), expected[i % 3]):
                wrong.append(number)

    workers = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert wrong == []


def test_python_goes_on_during_a_call():
    model, many = long_call(0.4)
    call: list[float] = []

    def work() -> None:
        call.append(time.perf_counter())
        model(many)
        call.append(time.perf_counter())

    worker, turns = threading.Thread(target=work), []
    worker.start()
    while worker.is_alive():
        turns.append(time.perf_counter())
        time.sleep(0.001)
    quarter = (call[1] - call[0]) / 4
    assert any(call[0] + quarter < turn < call[1] - quarter for turn in turns)


COUNTS = """
import os, sys, threading, time
import numpy as np
import allmlp_native
tasks = lambda: set(os.listdir("/proc/self/task"))
def ticks(task):
    words = open(f"/proc/self/task/{task}/stat").read().rpartition(")")[2].split()
    return int(words[11]) + int(words[12])
before = tasks()
def opened(threads): return allmlp_native.Model(sys.argv[1], threads, "scalar")
alone = opened(1)
images = np.zeros((8, *alone.image_size, 3), np.uint8)
alone(images)
print(len(tasks() - before))                  # one thread is the caller's
four = opened(4)
four(images)
print(len(tasks() - before))
two = opened(2)
models = [alone, four, two]
callers = [threading.Thread(target=model, args=(images,)) for model in models for _ in range(2)]
for caller in callers: caller.start()
for caller in callers: caller.join()
for _ in range(500):
    if len(tasks() - before) <= 3: break
    time.sleep(0.01)  # callers that Python has let go
print(len(tasks() - before))
spent = {task: ticks(task) for task in tasks() - before}
two(np.tile(images, (10, 1, 1, 1)))
print(sum(ticks(task) > then + 2 for task, then in spent.items()))
"""


@needs_proc
def test_no_more_threads_run_than_were_asked_for(tmp_path: Path):
    (tmp_path / "m").write_bytes(good_file("fp32", width=200, hidden=300))
    finished = subprocess.run([sys.executable, "-c", COUNTS, str(tmp_path / "m")], capture_output=True, text=True,
                              timeout=100)
    assert finished.returncode == 0, finished.stderr
    none, three, still_three, worked = map(int, finished.stdout.split())
    assert (none, three, still_three) == (0, 3, 3)  # beside the caller's
    assert worked == 1  # of the three: the model was opened for two threads


def _answer(model: allmlp_native.Model, answers: "multiprocessing.Queue[np.ndarray]") -> None:
    answers.put(model(images(5)))


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork")
def test_a_process_forked_during_a_call_can_call_too():
    model, many = long_call(0.8)
    expected = model(images(5))
    context = multiprocessing.get_context("fork")
    answers = context.Queue()
    worker = threading.Thread(target=model, args=(many,))
    worker.start()
    time.sleep(0.1)  # the call has the model's lock and the threads now
    child = context.Process(target=_answer, args=(model, answers))
    child.start()
    assert worker.is_alive(), "the fork came too late to test anything"
    try:
        assert np.array_equal(answers.get(timeout=30), expected)
        child.join(30)
        assert child.exitcode == 0
    finally:
        child.kill()
        worker.join()
    assert np.array_equal(model(images(5)), expected)


FIRST_AGAIN = """
import ctypes, os, sys
import numpy as np
import allmlp_native
model = allmlp_native.Model(sys.argv[1], 2)
images = np.zeros((2, *model.image_size, 3), np.uint8)
expected = model(images)
ctypes.CDLL(None).unshare(0x20000000)  # CLONE_NEWPID: processes are counted anew
child = os.fork()
if child == 0:
    os._exit(0 if np.array_equal(model(images), expected) else 3)
print(os.getpid(), os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
NAMESPACE = ["unshare", "--user", "--map-root-user", "--pid", "--fork", "--kill-child"]


def test_a_forked_process_that_has_its_parents_number_can_call_too(tmp_path: Path):
    if shutil.which("unshare") is None or subprocess.run([*NAMESPACE, "true"], capture_output=True).returncode:
        pytest.skip("the system makes no namespaces of processes")
    (tmp_path / "m").write_bytes(good_file("fp32"))
    finished = subprocess.run([*NAMESPACE, sys.executable, "-c", FIRST_AGAIN, str(tmp_path / "m")], capture_output=True,
                              text=True, timeout=30)
    assert (finished.returncode, finished.stdout) == (0, "1 0\n"), finished.stderr


ENDS = """
import sys, threading, time
import numpy as np
import allmlp_native
model = allmlp_native.Model(sys.argv[1], 2, "scalar")
images = np.zeros((20, *model.image_size, 3), np.uint8)
x = np.zeros(1 << 18, np.float32)
def again_and_again(call, model=model):
    while True: call()
calls = [lambda: model(images), lambda: allmlp_native.Model(sys.argv[1]), lambda: allmlp_native.tanh_gelu(x, x)]
for call in calls: threading.Thread(target=again_and_again, args=(call,), daemon=True).start()
time.sleep(0.1)
"""


def test_a_program_may_end_while_threads_are_in_calls(tmp_path: Path):
    (tmp_path / "m").write_bytes(good_file("fp32", width=200, hidden=300))
    for _ in range(3):
        finished = subprocess.run([sys.executable, "-c", ENDS, str(tmp_path / "m")], capture_output=True, text=True,
                                  timeout=100)
        assert (finished.returncode, finished.stdout, finished.stderr) == (0, "", "")


STOPPED = """
import signal, sys, time
import numpy as np
import allmlp_native
model = allmlp_native.Model(sys.argv[1], 1, "scalar")
some = np.zeros((64, *model.image_size, 3), np.uint8)
model(some)
started = time.process_time()
model(some)
many = np.tile(some, (1 + int(3 / (time.process_time() - started)), 1, 1, 1))  # three seconds
signal.signal(signal.SIGALRM, signal.default_int_handler)
signal.setitimer(signal.ITIMER_REAL, 0.05)
started = time.process_time()
try:
    model(many)
except KeyboardInterrupt:
    print(time.process_time() - started)
model(some)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="the system has no such signals")
def test_a_call_with_many_images_can_be_interrupted(tmp_path: Path):
    (tmp_path / "m").write_bytes(good_file("fp32", width=200, hidden=300))
    finished = subprocess.run([sys.executable, "-c", STOPPED, str(tmp_path / "m")], capture_output=True, text=True,
                              timeout=100)
    assert finished.returncode == 0, finished.stderr
    assert float(finished.stdout) < 1.5
