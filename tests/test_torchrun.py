"""Several processes under torchrun: the numbers of one, and the same bits after one was killed."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from bmo import train
from bmo.checkpoint import state_of
from tests import parallel_work

HERE = Path(__file__).parent
pytestmark = pytest.mark.slow


def torchrun(count, *arguments):
    """Run the work in `count` processes; a free port is chosen, and nothing is left running."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += ["--nproc-per-node", str(count), str(HERE / "parallel_work.py")]
    process = subprocess.Popen(
        [*command, *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": str(HERE.parent), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        output, _ = process.communicate(timeout=300)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        raise
    return process.returncode, output


def found(folder, task, count):
    return [torch.load(folder / f"{task}{r}.pt", weights_only=True) for r in range(count)]


def gone(folder, count):
    """Whether all processes that left a number have ended."""
    pids = [json.loads((folder / f"pid{r}.json").read_text()) for r in range(count)]
    for _ in range(50):
        if not any(alive(pid) for pid in pids):
            return True
        time.sleep(0.1)
    return False


def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def apart(a, b):
    """Largest difference relative to the largest entry."""
    a, b = torch.as_tensor(a, dtype=torch.float64), torch.as_tensor(b, dtype=torch.float64)
    return float((a - b).abs().max() / a.abs().max())


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    torch.manual_seed(0)
    return parallel_work.report(tmp_path_factory.mktemp("alone"))


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    folder = tmp_path_factory.mktemp("two")
    code, output = torchrun(2, "report", folder)
    assert code == 0, output
    assert gone(folder, 2)
    return found(folder, "report", 2), output


def same_gradients(alone, processes, *names):
    for one in processes:
        for name in names:
            assert apart(alone[name], one[name]) < 1e-13
            assert torch.equal(one[name], processes[0][name])


def test_the_gradient_of_two_processes_is_that_of_one(alone, two):
    same_gradients(alone, two[0], "even", "uneven", "wrapped even", "wrapped uneven")
    for name in ("even", "uneven"):  # and both ways to it agree, on no trifle
        assert apart(alone[name], alone[f"wrapped {name}"]) < 1e-13 and alone[name].norm() > 0.1


def test_the_wrapper_alone_leaves_hypergradients_as_they_are(alone, two):
    first, second = (one["silent"] for one in two[0])
    assert apart(alone["even"], (first + second) / 2) < 1e-13  # each has that of its own slice
    assert apart(first, second) > 0.1


def test_the_gradient_of_three_processes_is_that_of_one(alone, tmp_path):
    code, output = torchrun(3, "gradients", tmp_path)
    assert code == 0, output
    same_gradients(alone, found(tmp_path, "gradients", 3), "even", "uneven")


def test_a_training_is_that_of_one_process(alone, two):
    for one in two[0]:
        assert len(one["losses"]) == parallel_work.PLAN.steps
        assert apart(alone["losses"], one["losses"]) < 1e-12
        assert apart(alone["omega"], one["omega"]) < 1e-11
    assert alone["losses"][-1] < alone["losses"][0]


def test_the_command_line_writes_one_record_with_the_numbers_of_one_process(alone, two):
    processes, output = two
    (here,) = [key for key in alone["record"] if "-m bmo" in key]
    (there,) = [key for key in processes[0]["record"] if "-m bmo" in key]
    assert there == here.replace("python", "torchrun --standalone --nproc-per-node 2")
    for one in processes:
        for name in alone["record"].keys() - {here}:
            assert one["record"][name] == pytest.approx(alone["record"][name], abs=1e-4)
    assert output.count("record: ") == 2  # one for each of the two calls, not for each process
    assert len(alone["record"]) > 4


def test_a_killed_process_stops_all_and_the_restart_ends_with_the_same_bits(tmp_path, two):
    code, output = torchrun(2, "train", tmp_path, 13)
    assert code != 0 and "SIGKILL" in output
    assert not list(tmp_path.glob("train*.pt")) and gone(tmp_path, 2)
    stopped = state_of((tmp_path / "training" / train.CHECKPOINT).read_bytes())
    assert len(stopped["losses"]) == 10
    code, output = torchrun(2, "train", tmp_path)
    assert code == 0, output
    for again, straight in zip(found(tmp_path, "train", 2), two[0], strict=True):
        assert again["losses"] == straight["losses"]
        assert torch.equal(again["omega"], straight["omega"])
