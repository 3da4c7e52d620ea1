"""What a device adds to the measurement: its clock, its graphs, the compiler that serves it.

Book: chapter 9.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from typing import TypeVar

import torch

from bmo.bench.measure import Clock
from bmo.errors import ConditionError, DomainError

Found = TypeVar("Found")
DEVICES = ("cpu", "cuda")
WARM = 3


def require_device(name: str) -> torch.device:
    """The device of this name.

    Raises:
        DomainError: It is not there.

    Example:
        >>> require_device("cpu")
        device(type='cpu')
    """
    if name not in DEVICES:
        raise DomainError(f"a device of {', '.join(DEVICES)}", name, "choose one", name)
    if name == "cuda" and not torch.cuda.is_available():
        raise DomainError(
            "a CUDA device",
            f"none that torch {torch.__version__} can use",
            "run on a machine with an NVIDIA GPU and a build of torch for CUDA, or on the CPU",
            name,
        )
    return torch.device(name)


class EventClock:
    """Seconds on a CUDA device: each look waits until the device is done.

    The time from one look to the next is that between two events, and the seconds are their sum:
    an event is a float32 count of milliseconds, too coarse when counted from the start of a run.
    """

    def __init__(self) -> None:
        self.now = 0.0
        self.last = self._event()

    def _event(self) -> torch.cuda.Event:
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        event.synchronize()
        return event

    def __call__(self) -> float:
        event = self._event()
        self.now += self.last.elapsed_time(event) / 1000
        self.last = event
        return self.now


def clock_of(device: torch.device) -> Clock:
    """Wall-clock seconds, device-synchronised.

    Example:
        >>> clock_of(torch.device("cpu")) is time.perf_counter
        True
    """
    return EventClock() if device.type == "cuda" else time.perf_counter


def graphed(call: Callable[[], Found], device: torch.device) -> Callable[[], Found]:
    """The call captured in a CUDA graph: a replay launches all of its kernels at once.

    The result lies in the same tensors at each replay. The call may not ask the device anything on
    its way, so it may not check its numbers.

    Raises:
        ConditionError: The device has no graphs.
    """
    if device.type != "cuda":
        raise ConditionError(
            "a CUDA device", device.type, "a CUDA graph is captured there only", device
        )
    here, side = torch.cuda.current_stream(), torch.cuda.Stream()
    side.wait_stream(here)
    with torch.cuda.stream(side):  # first calls allocate, and choose their algorithms
        for _ in range(WARM):
            call()
    here.wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        found = call()

    def replay() -> Found:
        graph.replay()
        return found

    return replay


def backend() -> str:
    """The compiler behind ``torch.compile``: inductor needs a C++ compiler, aot_eager nothing."""
    return "inductor" if any(map(shutil.which, ("g++", "clang++", "cl"))) else "aot_eager"
