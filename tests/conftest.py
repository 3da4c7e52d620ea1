"""What all tests share: one thread, fixed seeds, and when the `data` tests run."""

from __future__ import annotations

import os
from collections.abc import Iterator

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.pop("MPLBACKEND", None)  # or the notebooks' kernels would not draw

import matplotlib
import pytest
import torch

matplotlib.use("agg")
torch.set_num_threads(1)

NOT_RUN = pytest.StashKey[int]()


@pytest.fixture(autouse=True)
def seeded() -> Iterator[None]:
    """Start every test from the same seeds and dtype, and leave the dtype as it was."""
    before = torch.get_default_dtype()
    torch.manual_seed(0)
    yield
    torch.set_default_dtype(before)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out the tests marked `data`, unless BMO_DATA names the folder of the image sets."""
    if os.environ.get("BMO_DATA"):
        return
    left_out = [item for item in items if item.get_closest_marker("data")]
    items[:] = [item for item in items if not item.get_closest_marker("data")]
    config.stash[NOT_RUN] = len(left_out)
    if left_out:
        config.hook.pytest_deselected(items=left_out)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Keep nbval from tracing the notebooks' kernels: unit tests alone count as coverage.

    pytest-cov has read the option by now, nbval has not.
    """
    session.config.option.cov_source = None


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Send the count from a worker of pytest-xdist to its controller."""
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["data_not_run"] = session.config.stash.get(NOT_RUN, 0)


class Controller:
    """Receives the counts of the workers; each of them collects every test."""

    def __init__(self, config: pytest.Config) -> None:
        self.config = config

    def pytest_testnodedown(self, node: object) -> None:
        """Keep what one worker left out."""
        output = getattr(node, "workeroutput", {})
        seen = self.config.stash.get(NOT_RUN, 0)
        self.config.stash[NOT_RUN] = max(seen, output.get("data_not_run", 0))


def pytest_configure(config: pytest.Config) -> None:
    """Listen to the workers where pytest-xdist is in use."""
    if config.pluginmanager.has_plugin("dsession") or config.pluginmanager.has_plugin("xdist"):
        if not hasattr(config, "workerinput"):
            config.pluginmanager.register(Controller(config))


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Say how many `data` tests did not run."""
    if os.environ.get("BMO_DATA"):
        terminalreporter.write_line("data tests: all ran (BMO_DATA is set)")
    else:
        count = config.stash.get(NOT_RUN, 0)
        terminalreporter.write_line(f"data tests: {count} did not run (BMO_DATA is not set)")
