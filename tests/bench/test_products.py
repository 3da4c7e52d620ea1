"""P2 over its matrix products alone: the products are the real ones, and every way is exact."""

from collections import Counter

import pytest
import torch

from bmo.bench import measure, plain, references, ways
from bmo.bench import products as listed
from bmo.bench.built_in import fused, loop_of
from bmo.bench.problems import Sparse
from bmo.bench.products import Counting, alone, moved, products, shape_of
from bmo.errors import ConditionError

B, M, N = 4, 6, 10
CPU = torch.device("cpu")


def tiny(steps=3):
    return Sparse(steps, m=M, n=N, batch=B, density=0.3)


def counted(call):
    with Counting() as seen:
        call()
    assert not seen.other
    return seen.shapes


def upright(shapes):
    """The same for a product and its transpose: torch takes either."""
    return Counter((inner, *sorted((rows, cols))) for rows, inner, cols in shapes.elements())


@pytest.mark.parametrize("steps", [1, 2, 5])
def test_the_products_are_those_of_the_real_call(steps):
    """By hand, as listed, as replayed, and as plain automatic differentiation takes them."""
    problem = tiny(steps)
    to_residual, to_point, to_matrix = (B, N, M), (B, M, N), (M, B, N)
    want = Counter({to_residual: 2 * steps - 1, to_point: 2 * steps - 1, to_matrix: steps})
    assert want.total() == 5 * steps - 2
    assert Counter(shape_of(left, right) for left, right, _ in products(problem)) == want
    assert counted(alone(problem)) == want
    assert upright(counted(plain.loop(problem))) == upright(want)
    # the loop by hand also hands its cotangent to the start, and the checks take one step more
    pair = Counter([to_residual, to_point])
    assert counted(ways.bare(loop_of(problem), problem)) == want + pair
    assert counted(fused()(problem)) == want + pair + pair


def test_each_product_is_written_into_its_place_and_nothing_is_allocated(monkeypatch):
    problem = tiny()
    todo = products(problem)
    residual, point, total = todo[0][2], todo[1][2], todo[-1][2]
    assert len({out.data_ptr() for _, _, out in todo}) == 3
    for left, right, out in todo:
        assert torch.equal(torch.mm(left, right, out=out), left @ right)
        out.zero_()
    monkeypatch.setattr(listed, "products", lambda problem: todo)
    assert measure.peak_bytes(alone(problem)) == 0
    S = -problem.omega["step"] * problem.omega["W"].mT  # what is written last stays
    assert torch.equal(total, problem.y.mT @ problem.truth)
    assert torch.equal(residual, problem.truth @ S.mT)
    assert torch.equal(point, problem.y @ problem.Q)


def test_other_products_are_not_overlooked():
    with Counting() as seen:
        torch.ones(2, 3, 4) @ torch.ones(2, 4, 5)
        torch.ones(3, 4) @ torch.ones(4)
        torch.addmm(torch.ones(5), torch.ones(3, 4), torch.ones(4, 5))
        torch.ones(3, 5).addmm_(torch.ones(3, 4), torch.ones(4, 5))
    assert seen.other == {"bmm": 1, "mv": 1} and seen.shapes == {(3, 4, 5): 2}


def test_a_problem_moves_as_a_whole():
    problem = tiny()
    single = moved(problem, "cpu", torch.float32)
    tensors = [v for v in vars(single).values() if isinstance(v, torch.Tensor)]
    assert len(tensors) == 4
    assert all(t.dtype == torch.float32 for t in [*tensors, *single.omega.values()])
    assert problem.y.dtype == problem.omega["W"].dtype == torch.float64
    assert torch.equal(moved(single, "cpu", torch.float64).y, problem.y.float().double())


# the compiler's own warnings are not ours
@pytest.mark.filterwarnings("ignore")
def test_all_ways_give_the_exact_gradient_and_compile_once(monkeypatch):
    monkeypatch.setattr(ways, "backend", lambda: "aot_eager")
    monkeypatch.setattr(ways, "graphed", lambda call, device: call)
    for steps in (2, 5):
        problem = tiny(steps)
        exact = references.unrolled(problem)
        for way in ways.WAYS:
            call = way.prepare(problem, CPU)
            assert references.error(call(), exact) < 1e-13, way.name
            with torch.compiler.set_stance("fail_on_recompile"):
                assert references.error(call(), exact) < 1e-13, way.name
    kernel = loop_of(tiny()).training_map.operator.kernel()
    compiled = ways.Compiled(kernel, "aot_eager")
    assert compiled.inputs is kernel.inputs
    counts = [counted(ways.bare(loop_of(problem), problem, by)) for by in (None, "aot_eager")]
    assert counts[0] == counts[1]


def test_the_bare_call_asks_the_device_nothing():
    """Tensors without numbers: whoever looks at one, or mixes devices, is refused."""
    problem = tiny()
    inner, empty = loop_of(problem), moved(problem, "meta", torch.float64)
    call = ways.bare(inner.to("meta"), empty)
    shapes = {name: tuple(g.shape) for name, g in call().items()}
    assert shapes == {"W": (N, M), "step": (), "threshold": (N,)}
    with pytest.raises(RuntimeError, match="meta"):
        fused()(empty)()


def test_a_loop_without_an_adjoint_by_hand_is_refused():
    problem = tiny()
    inner = loop_of(problem)
    inner.fuse = False
    with pytest.raises(ConditionError, match="adjoint by hand"):
        ways.bare(inner, problem)()
