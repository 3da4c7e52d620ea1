"""hypertorch (module ``hypergrad``): from its source; the package ``hypertorch`` is another one.

Put the folder ``hypergrad`` of github.com/prolearner/hypertorch on PYTHONPATH.
"""

import importlib.util

from bmo.bench.plain import named_grad

ADJOINT_STEPS = 60


def available():
    install = "put hypergrad/ of github.com/prolearner/hypertorch on PYTHONPATH"
    if importlib.util.find_spec("hypergrad") is None:
        return f"not installed ({install})"
    if importlib.util.find_spec("hypergrad.CG_torch") is None:
        return f"hypergrad is another package ({install})"
    return None


def _maps(problem):
    names = list(problem.omega)

    def step(params, hparams):
        return [problem.map(params[0], problem.prepare(dict(zip(names, hparams, strict=True))))]

    def outer(params, hparams):
        return problem.value(params[0])

    return names, step, outer


def loop(problem):
    names, step, outer = _maps(problem)

    def call():
        hparams = list(problem.leaves().values())
        params = [problem.u0]
        for _ in range(problem.steps):
            params = step(params, hparams)
        return named_grad(outer(params, hparams), dict(zip(names, hparams, strict=True)))

    return call


def reverse(problem):
    from hypergrad import hypergradients

    names, step, outer = _maps(problem)

    def call():
        import torch

        hparams = list(problem.leaves().values())
        history = [[problem.u0]]
        with torch.no_grad():
            for _ in range(problem.steps):
                history.append(step(history[-1], hparams))
        maps = [step] * problem.steps
        grads = hypergradients.reverse(history, hparams, maps, outer, set_grad=False)
        return dict(zip(names, grads, strict=True))

    return call


def at_the_end(solver):
    def prepare(problem):
        from hypergrad import hypergradients

        names, step, outer = _maps(problem)
        solve = getattr(hypergradients, solver)
        steps = problem.steps if solver == "fixed_point" else ADJOINT_STEPS

        def call():
            hparams = list(problem.leaves().values())
            params = [problem.forward()]
            grads = solve(params, hparams, steps, step, outer, set_grad=False)
            return dict(zip(names, grads, strict=True))

        return call

    return prepare


def register(registry):
    registry.enter("hypertorch, loop", "unrolled", ("P1", "P2"))(loop)
    registry.enter("hypertorch.reverse", "unrolled", ("P1", "P2"))(reverse)
    for solver in ("fixed_point", "CG", "CG_normaleq"):
        registry.enter(f"hypertorch.{solver}", "implicit", ("P1", "P2"))(at_the_end(solver))
