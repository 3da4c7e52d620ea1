"""The lines of code in the chapters: they run as printed, and give what the page says.

A page says in its text what its letters are; ``GIVEN`` says it here. A page that has code and is
not listed is not looked at.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from bookfiles import ROOT

LASSO = """
import torch
rng = torch.Generator().manual_seed(0)
A, b = torch.randn(6, 4, generator=rng), torch.randn(6, generator=rng)
L = float(torch.linalg.matrix_norm(A, 2)) ** 2
lam, alpha, mu, K = 0.1, 0.9, 0.3, 8
u0, ub = torch.zeros(4), torch.ones(4)
upper = lambda u: 0.5 * (u - ub).square().sum(-1)
"""
GIVEN = {
    "01-why": LASSO,
    "02-metrics": """
from bmo import operators
from bmo.metric import Identity
T1 = operators.Lambda(lambda u: 0.5 * u, Identity(), averaged=0.25)
T2 = operators.Lambda(lambda u: 0.25 * u.abs(), Identity(), averaged=0.625)
N = operators.Lambda(lambda u: u.abs(), Identity())
""",
    "03-km": """
import math, torch
from bmo import operators
from bmo.metric import Identity
D, u0 = operators.Lambda(lambda u: -u, Identity()), torch.ones(2)
alpha, k, theta = 0.2, 5, math.pi / 3
""",
    "04-gkm": LASSO + "import bmo\nf = bmo.LeastSquares(A, b)\n",
    "05-networks": """
import torch
from bmo import prox
rng = torch.Generator().manual_seed(0)
kernel, sigma = torch.randn(2, 3, 3, 3, generator=rng), torch.tensor(0.1)
f, start = prox.L1(0.1), torch.rand(1, 3, 8, 8, generator=rng)
""",
}


def close(left: Any, right: Any) -> bool:
    """Whether two points are one, up to rounding."""
    return bool(torch.allclose(torch.as_tensor(left), torch.as_tensor(right), atol=1e-6))


#: What the comments beside the lines say.
SAID: dict[str, Callable[[dict[str, Any]], bool]] = {
    "01-why": lambda n: any(w.grad is not None and w.grad.any() for w in n["D"].parameters()),
    "02-metrics": lambda n: (
        close(n["U"].project(n["u"], n["metric"].Identity()), [0.0, 0.0])
        and close(n["U"].project(n["u"], n["metric"].Dense(n["H"])), [0.5, 0.0])
        and close(n["F"].averaged, (0.25 + 0.625 - 2 * 0.25 * 0.625) / (1 - 0.25 * 0.625))
        and n["evidence"].holds
    ),
    "03-km": lambda n: len(n["run"].residuals) == 1000 and n["run"].residuals[1] == 0,
    "04-gkm": lambda n: close(n["ista"](n["ub"]), n["F"](n["ub"])),
    "05-networks": lambda n: (
        n["bmo"].certify.circular_norm(n["kernel"], 64, 64)
        <= n["bmo"].networks.circular_bound(n["kernel"], grid=16)
        and n["T"](n["start"]).shape == n["start"].shape
    ),
}


def snippets(name: str) -> list[str]:
    """Return the blocks of Python on a page, in order."""
    text = (ROOT / "book" / f"{name}.md").read_text("utf8")
    return re.findall(r"^```\{code-block\} python\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("name", sorted(GIVEN))
def test_the_lines_of_a_chapter_run_as_printed(name: str) -> None:
    names: dict[str, Any] = {}
    exec(GIVEN[name], names)
    found = snippets(name)
    assert found
    for text in found:
        exec(compile(text, f"{name}.md", "exec"), names)
    assert SAID[name](names)
