"""Appendix C: its fifteen lines, its lemma, and the pieces of its notebooks by other means."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import nbformat
import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from skimage.restoration import denoise_tv_chambolle

import bmo
from bmo.data import page_pictures

ROOT = Path(__file__).resolve().parents[2]


def definitions(stem: str, *names: str) -> dict[str, Any]:
    """What the cells of a notebook define that begin with an import or hold one of the names."""
    cells = nbformat.read(ROOT / f"notebooks/{stem}.ipynb", as_version=4).cells
    code = [c.source for c in cells if c.cell_type == "code"]
    wanted = [c for c in code[1:] if any(f"class {n}" in c or f"def {n}" in c for n in names)]
    found: dict[str, Any] = {}
    exec(code[1], found)
    for source in wanted:
        exec(source, found)
    return found


def test_a_metric_for_blocks() -> None:
    tight = 0.0
    for _ in range(200):
        blocks = [torch.randn(k, 5) for k in (2, 3, 4)]
        c = torch.stack([torch.linalg.matrix_norm(K, 2) for K in blocks])
        t = torch.rand(3) + 0.01
        p = 0.5 * t * (c**2 / t).sum()
        P = torch.diag(torch.cat([q.expand(len(K)) for q, K in zip(p, blocks, strict=True)]))
        K = torch.cat(blocks)
        assert float(torch.linalg.eigvalsh(2 * P - K @ K.mT)[0]) >= -1e-10
    for _ in range(20):  # blocks that share one direction: nothing is to spare
        c, t = torch.rand(3) + 0.1, torch.rand(3) + 0.1
        p = 0.5 * t * (c**2 / t).sum()
        gap = torch.linalg.eigvalsh(2 * torch.diag(p) - c[:, None] * c)[0]
        tight = max(tight, abs(gap.item()))
    assert tight < 1e-10


def test_the_fifteen_lines() -> None:
    page = (ROOT / "book/c-own-problem.md").read_text("utf8")
    (code,) = re.findall(r"## Fifteen lines\n+```\{code-block\} python\n(.*?)```", page, re.DOTALL)
    assert len([line for line in code.splitlines() if line.strip()]) <= 15
    A, x, x_test = torch.randn(12, 6), torch.randn(20, 6), torch.randn(5, 6)
    x[:, :3] *= 0.1  # half of the entries are small: they deserve a larger penalty
    b, b_test = (v @ A.mT + torch.randn(len(v), 12) for v in (x, x_test))
    names: dict[str, Any] = {"A": A, "x": x, "b": b, "b_test": b_test}
    names |= {"u0": torch.zeros(20, 6), "u0_test": torch.zeros(5, 6)}
    exec(compile(code, "c-own-problem.md", "exec"), names)
    w = names["T"].operator.function.w().detach()
    assert names["u"].converged and names["T"].operator.evidence.holds
    assert w[:3].min() > w[3:].max()
    exact = torch.linalg.solve(A.mT @ A + torch.diag(w), (b_test @ A).mT).mT
    torch.testing.assert_close(names["u"].value, exact, rtol=0, atol=1e-4)


def test_the_fifteen_lines_run_on_the_data_of_the_page() -> None:
    page = (ROOT / "book/c-own-problem.md").read_text("utf8")
    lines, data = re.findall(r"```\{code-block\} python\n(.*?)```", page, re.DOTALL)[:2]
    names: dict[str, Any] = {"torch": torch}
    exec(compile(data + lines, "c-own-problem.md", "exec"), names)
    assert names["u"].converged and names["u"].value.shape == names["x_test"].shape


def test_the_parts_that_are_known() -> None:
    page = (ROOT / "book/c-own-problem.md").read_text("utf8")
    lines, data = re.findall(r"```\{code-block\} python\n(.*?)```", page, re.DOTALL)[2:4]
    names: dict[str, Any] = {"torch": torch}
    exec(compile(data + lines, "c-own-problem.md", "exec"), names)
    theta = names["g"].threshold().detach()
    assert names["T"].operator.certified == "by construction" and names["u"].converged
    assert theta[:2].max() < 0.05 < theta[2:].min()
    u = names["u"].value.detach().requires_grad_()  # the conditions of a minimiser, by autograd
    f = names["Logistic"](names["X_new"], names["y_new"])
    (slope,) = torch.autograd.grad(f.value(u).sum(), u)
    torch.testing.assert_close(f(u.detach()), slope, rtol=1e-4, atol=1e-7)
    size, slope = u.detach().reshape(20, 5, 3), slope.reshape(20, 5, 3)
    on = size.norm(dim=-1) > 0
    pull = theta[:, None] * size / size.norm(dim=-1, keepdim=True).clamp_min(1e-30)
    assert on.any() and not on.all()
    assert float((slope + pull).norm(dim=-1)[on].max()) < 1e-4
    assert bool((slope.norm(dim=-1) <= theta + 1e-5)[~on].all())
    hessian = torch.autograd.functional.hessian(lambda v: f.value(v)[0], u[0].detach())
    assert float(torch.linalg.eigvalsh(hessian)[-1]) <= float(f.curvature(bmo.metric.Identity()))


def test_the_portfolio_is_that_of_another_solver() -> None:
    found = definitions("c-own-smooth", "Risk", "Simplex", "markets")
    S, _, _ = found["markets"](3, seed=5)
    w = torch.tensor([0.1, 0.1, 0.5, 0.1, 1.0, 3.0, 4.0, 4.0])
    f = found["Risk"](S, bmo.parameters.Positive(w))
    D = bmo.operators.LearnedProximalGradient(f, bmo.prox.Indicator(found["Simplex"]()))
    u = bmo.GKM(D, 0.9).iterate(torch.full((3, 8), 1 / 8), tol=1e-10).value
    one = {"type": "eq", "fun": lambda v: v.sum() - 1}
    for k in range(3):
        Q = (S[k] + torch.diag(w)).numpy()
        other = minimize(
            lambda v, Q=Q: 0.5 * v @ Q @ v,
            np.full(8, 1 / 8),
            jac=lambda v, Q=Q: Q @ v,
            bounds=[(0, 1)] * 8,
            constraints=one,
            options={"ftol": 1e-14, "maxiter": 500},
        )
        assert np.abs(u[k].numpy() - other.x).max() < 1e-5
    _, _, many = found["markets"](500, seed=6)
    mean = many.mean(0).diag() - found["own"] ** 2
    assert mean.numpy() == pytest.approx(0.8 * 1.09, abs=0.1)


def test_the_learned_variation() -> None:
    found = definitions("c-own-tv", "Variation", "ahead")
    clean = torch.stack([p[None, 150:198, 170:218] for p in page_pictures("test").values()][:2])
    noisy = clean + 25 / 255 * torch.randn(clean.shape)
    scores = {}
    for name, w in (("first", [0.1, 0.01]), ("learned", [0.052, 0.0089])):
        step = found["Variation"](w)
        D = bmo.operators.Own(step, torch.zeros(5, 4, 4), step.metric, scale=1.0, trials=8)
        assert D.evidence is not None and D.evidence.measured == pytest.approx(1.0, abs=0.05)
        M = bmo.GKM(D, 0.9).bind(b=noisy)
        y = M.iterate(torch.zeros(2, 5, 48, 48), 400).value
        with torch.no_grad():
            x = M.operator.function.image(y)
            Kx = M.operator.function.K(x)
            # the primal value less the dual one: zero exactly at the solution
            variation = sum(z.norm(dim=-3).sum((-1, -2)) for z in Kx.split([2, 3], -3))
            gap = variation - (Kx * y).sum((-3, -2, -1))
        assert float(gap.min()) >= 0 and float((gap / variation).max()) < 0.01
        scores[name] = bmo.measure.psnr(x.clamp(0, 1), clean, 1.0).mean()
    peer = [torch.as_tensor(denoise_tv_chambolle(i[0].numpy(), 0.08))[None] for i in noisy]
    other = bmo.measure.psnr(torch.stack(peer).clamp(0, 1), clean, 1.0).mean()
    assert scores["learned"] > scores["first"] + 0.2
    assert scores["learned"] > other - 0.3
