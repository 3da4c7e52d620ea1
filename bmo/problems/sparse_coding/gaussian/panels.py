r"""What each number does: one short training for each value, and the search for BMO-H.

Book: chapter 10, "What each number does". The small instance, the same training codes for all. One
number is moved at a time, away from the settings of the bench.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bmo import train
from bmo.measure import nmse_db
from bmo.operators import LearnedBlockADMM
from bmo.problems.sparse_coding.gaussian.classical import choose
from bmo.problems.sparse_coding.gaussian.draws import (
    Data,
    evaluation_sets,
    gaussian_dictionary,
    held_out,
    observe,
)
from bmo.problems.sparse_coding.gaussian.learning import optimizer
from bmo.problems.sparse_coding.gaussian.measuring import trajectory
from bmo.problems.sparse_coding.gaussian.methods import Contender, build
from bmo.problems.sparse_coding.gaussian.settings import LEVELS, PAGE, Settings
from bmo.record import Record, provenance_now, row, write

EXPERIMENT, NOISE = "sparse-panels", "30db"
#: Steps of Adam of a panel; rates of matrices, as the small instance chose them; size of a block.
SHORT, RATES, BLOCK = 120, {"fb": 1e-3, "admm": 1e-4}, 10
DEEP = 1000


@dataclass(frozen=True)
class Case:
    """One training.

    Attributes:
        panel: Which number is moved.
        value: To what, as it is shown.
        method: Out of the certified methods.
        settings: With that number.
        prepare: What else is changed in the model.
        steps: Steps of Adam.
    """

    panel: str
    value: str
    method: str
    settings: Settings
    prepare: Callable[[Contender], None] = lambda model: None
    steps: int = SHORT


def fixed_metric(model: Contender) -> None:
    """Keep a multiple of the identity for each block of the metric."""
    for name in ("weight", "beta", "q"):
        weight = getattr(model.operator, name, None)
        if weight is not None:
            weight.raw.requires_grad_(False)


def block_metric(model: Contender) -> None:
    """Let entries of the code be measured in blocks."""
    D: Any = model.operator
    learn, q = ("B", "beta", "q", "theta"), D.scales["q"] / D.scales["beta"]
    model.operator = LearnedBlockADMM(
        BLOCK, D.G.detach(), D.b, D.scales["theta"], D.scales["beta"], q, learn=learn
    )


def cases(s: Settings) -> Iterator[Case]:
    """Every training of the record: the panels, then the search for BMO-H."""
    for mu in (0.0, 0.1, 0.3, 0.5, 0.8):
        yield Case("mu", f"{mu:g}", "bmo", replace(s, mu={**s.mu, "bmo": mu}))
    for alpha in (0.3, 0.6, 0.9, 0.99):
        yield Case("alpha", f"{alpha:g}", "bmo", replace(s, alpha={**s.alpha, "fb": alpha}))
    for length in (0.1, 0.3, 1.0, 3.0):
        yield Case("s", f"{length:g}", "bmo", replace(s, s={**s.s, "bmo": length}))
    for K in (4, 8, 16, 32):
        yield Case("K", f"{K}", "bmo", replace(s, iterations=K))
    for step, end in (("forward-backward", ""), ("ADMM", "-admm")):
        for name in ("gkm", "bmo"):
            panel = f"metric, {step}, {'mu > 0' if name == 'bmo' else 'mu = 0'}"
            yield Case(panel, "identity", name + end, s, fixed_metric)
            yield Case(panel, "diagonal", name + end, s)
            if end:
                yield Case(panel, "blocks", name + end, s, block_metric)
    for mu in (0.03, 0.1, 0.3):
        for length in (0.1, 0.3, 1.0):
            found = replace(s, mu={**s.mu, "bmo-h": mu}, s={**s.s, "bmo-h": length})
            yield Case("bmo-h", f"mu {mu:g}, s {length:g}", "bmo-h", found)


def trained(case: Case, A: Tensor, start: dict[str, Any]) -> Contender:
    """Hyper-train one case; the codes depend on the step alone."""
    s, rate = case.settings, RATES["admm" if case.method.endswith("admm") else "fb"]
    model = build(case.method, A, start, s)
    case.prepare(model)

    def fresh(generator: torch.Generator) -> tuple[Tensor, Tensor]:
        data = observe(A, s.batch, s.density, LEVELS[NOISE], generator)
        return data.codes, data.observed

    plan = train.Plan(case.steps, rate, seed=0, warmup=min(s.warmup, case.steps // 2))
    adam = optimizer(model, rate, s.number_rate)
    train.train(model, model.loss, fresh, plan, optimizer=adam, progress=False)
    return model


def measured(case: Case, model: Contender, sets: dict[str, Data]) -> list[dict[str, Any]]:
    """The error after the trained K steps and after many, on each set of codes."""
    rows = []
    for name, data in sets.items():
        depths = (case.settings.iterations, DEEP)
        codes = trajectory(model.net, data.observed, depths).codes
        for depth, u in zip(("K", f"{DEEP}"), codes, strict=True):
            setting = {"panel": case.panel, "value": case.value, "set": name, "depth": depth}
            rows.append(row(case.method, setting, "nmse_db", float(nmse_db(u, data.codes))))
    return rows


def run(settings: Settings = PAGE, chosen: Callable[[Case], bool] = lambda case: True) -> Record:
    """Every case, then BMO-H with the numbers of its search as long as the bench trains."""
    started, s = time.monotonic(), settings
    A = gaussian_dictionary(s.rows, s.atoms)
    held = held_out(A, NOISE, s)
    start = {name: found["nmse"] for name, found in choose(A, held, s).items()}
    few = Data(held.codes[: s.tuned], held.observed[: s.tuned])
    sets = {"held out": few, "test": evaluation_sets(A, NOISE, s)["trained"]}
    rows, found = [], [case for case in cases(s) if chosen(case)]
    for case in found:
        rows += measured(case, trained(case, A, start), sets)
    if any(case.panel == "bmo-h" for case in found):
        best = min((r for r in rows if r["setting"]["panel"] == "bmo-h"
                    and r["setting"]["set"] == "held out" and r["setting"]["depth"] == "K"),
                   key=lambda r: r["value"])["setting"]["value"]  # fmt: skip
        case = next(c for c in found if c.value == best)
        longest = replace(case, panel="bmo-h, tuned", steps=s.steps)
        rows += measured(longest, trained(longest, A, start), sets)
    return Record(
        **{**provenance_now(), "command": "python -m bmo panels"},
        experiment=EXPERIMENT,
        profile=s.profile,
        settings={**s.as_dict(), "short": SHORT, "rates of matrices": RATES, "block": BLOCK},
        seeds=[0],
        data=[{"file": f"codes, {name}", "sha256": data.sha256()} for name, data in sets.items()],
        seconds=time.monotonic() - started,
        rows=rows,
        curves={},
    )


def save(folder: Path) -> Path:
    """Run all of it and write the record."""
    record = run()
    write(record, folder)
    return folder / f"{record.name}.json"
