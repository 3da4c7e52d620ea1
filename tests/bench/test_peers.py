"""Each peer's adapter: says why it cannot run, or gives the exact gradient."""

import re
from pathlib import Path

import pytest

from bmo.bench import references
from bmo.bench.aggregated import Aggregated
from bmo.bench.methods import Registry
from bmo.bench.problems import Smooth, Sparse
from bmo.errors import DomainError

HERE = Path(__file__).parent
ADAPTERS = sorted(path.stem for path in (HERE / "peers").glob("[a-z]*.py"))
# of the implicit gradient; what is not named here is only asked for finite numbers
EXACT = {"P1": 1e-4, "P2": {"torchopt normal CG", "jaxopt, normal CG", "hypertorch.fixed_point"}}


def problems():
    yield Smooth(150, m=40, n=10)
    yield Sparse(600, m=12, n=20, batch=5, density=0.1)
    yield Aggregated(Smooth(7, m=40, n=10, diagonal=True))


@pytest.fixture(scope="module")
def registry():
    found = Registry()
    found.load(HERE / "peers")
    return found


def test_every_peer_is_there_or_says_what_to_do(registry):
    assert {"torchdeq", "torchopt", "higher", "betty", "boat", "jax", "hypertorch"} == set(ADAPTERS)
    for name, why in registry.missing.items():
        assert name in {*ADAPTERS, "jaxopt", "optimistix"}
        assert re.search(r"\((pip install|put) |cannot be imported: ", why), why


@pytest.mark.parametrize("problem", list(problems()), ids=["P1", "P2", "P3"])
def test_the_unrolled_gradient_of_every_peer_is_exact(registry, problem):
    for method in registry.chosen(problem, "unrolled"):
        near = method.instead(problem) if method.instead else problem
        call = method.prepare(near)
        exact = references.unrolled(near)
        assert references.error(call(), exact) < 1e-12, method.name
        assert references.error(call(), exact) < 1e-12, f"{method.name}, called again"


@pytest.mark.parametrize("name", ["P1", "P2"])
def test_the_implicit_gradient_of_every_peer_is_what_it_was_found_to_be(registry, name):
    problem = next(p for p in problems() if p.name == name)
    exact = references.implicit(problem)
    for method in registry.chosen(problem, "implicit"):
        error = references.error(method.prepare(problem)(), exact)
        bound = EXACT["P1"] if name == "P1" else 1e-8 if method.name in EXACT["P2"] else 0.1
        assert error < bound, method.name


def test_boat_says_what_it_cannot_express(registry):
    loops = [m for m in registry.methods if m.name.startswith("boat GDA")]
    assert ("boat" in registry.missing) == (not loops)
    for method in loops:
        with pytest.raises(DomainError, match="cannot express"):
            method.instead(Aggregated(Smooth(3, m=8, n=4, diagonal=True), anchored=True))
