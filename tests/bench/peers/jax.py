"""JAX, with jaxopt and optimistix: compiled loops; compiling is not timed.

Their arrays are not torch's, so their memory is not counted here.
"""

import importlib.util
import os

import numpy
import torch

from bmo.bench.methods import missing_package
from bmo.bench.problems import Smooth

ADJOINT_STEPS = 60


def available():
    return missing_package("jax", "pip install jax==0.6.2")


def _jax():
    flags = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
    os.environ.setdefault("XLA_FLAGS", flags)
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    import jax

    jax.config.update("jax_enable_x64", True)
    return jax


def _pieces(problem):
    """The map, the value, the start and omega, in jax."""
    jax = _jax()
    jnp = jax.numpy

    def of(tensor):
        return jnp.asarray(tensor.numpy())

    omega = {name: of(value) for name, value in problem.omega.items()}
    if isinstance(problem, Smooth):
        A, b, A_v, b_v = of(problem.A), of(problem.b), of(problem.A_v), of(problem.b_v)

        def step(u, w):
            return u - problem.tau * (A.T @ (A @ u - b) + jnp.exp(w["omega"]) * u)

        def value(u):
            return 0.5 * jnp.square(A_v @ u - b_v).sum()
    else:
        Q, y, truth = of(problem.Q), of(problem.y), of(problem.truth)

        def step(u, w):
            z = u + w["step"] * ((y - u @ Q.T) @ w["W"].T)
            return jnp.sign(z) * jax.nn.relu(jnp.abs(z) - w["threshold"])

        def value(u):
            return jnp.square(u - truth).sum(-1).mean()

    return jax, step, value, of(problem.u0), omega


def _call(jax, objective, omega):
    compiled = jax.jit(jax.grad(objective)).lower(omega).compile()

    def call():
        grads = jax.block_until_ready(compiled(omega))
        return {name: torch.from_numpy(numpy.array(g)) for name, g in grads.items()}

    return call


def scan(remat):
    def prepare(problem):
        jax, step, value, u0, omega = _pieces(problem)

        def objective(w):
            def body(u, _):
                return step(u, w), None

            kept = jax.checkpoint(body) if remat else body
            return value(jax.lax.scan(kept, u0, None, length=problem.steps)[0])

        return _call(jax, objective, omega)

    return prepare


def jaxopt_fixed_point(problem):
    jax, step, value, u0, omega = _pieces(problem)
    import jaxopt
    from jaxopt.linear_solve import solve_normal_cg

    def solve(matvec, b, **_):
        return solve_normal_cg(matvec, b, maxiter=ADJOINT_STEPS, tol=1e-10)

    solver = jaxopt.FixedPointIteration(
        step, maxiter=problem.steps, tol=0.0, implicit_diff=True, implicit_diff_solve=solve
    )
    return _call(jax, lambda w: value(solver.run(u0, w).params), omega)


def optimistix_fixed_point(adjoint):
    def prepare(problem):
        jax, step, value, u0, omega = _pieces(problem)
        import lineax
        import optimistix

        # its default solves by a dense matrix: 244 GiB for the batch of P2
        linear = lineax.GMRES(rtol=1e-10, atol=1e-12, max_steps=ADJOINT_STEPS, restart=20)
        solver = optimistix.FixedPointIteration(rtol=0.0, atol=0.0)
        adjoints = {
            "recursive checkpoints": lambda: optimistix.RecursiveCheckpointAdjoint(),
            "implicit": lambda: optimistix.ImplicitAdjoint(linear_solver=linear),
        }

        def objective(w):
            found = optimistix.fixed_point(
                step,
                solver,
                u0,
                args=w,
                max_steps=problem.steps,
                adjoint=adjoints[adjoint](),
                throw=False,
            )
            return value(found.value)

        return _call(jax, objective, omega)

    return prepare


def register(registry):
    both = ("P1", "P2")
    registry.enter("jax scan", "unrolled", both, memory=False)(scan(False))
    registry.enter("jax scan, remat", "unrolled", both, memory=False)(scan(True))
    if importlib.util.find_spec("jaxopt"):
        enter = registry.enter("jaxopt, normal CG", "implicit", both, memory=False)
        enter(jaxopt_fixed_point)
    else:
        registry.missing["jaxopt"] = "not installed (pip install jaxopt)"
    if importlib.util.find_spec("optimistix"):
        for kind, adjoint in (("unrolled", "recursive checkpoints"), ("implicit", "implicit")):
            enter = registry.enter(f"optimistix, {adjoint}", kind, both, memory=False)
            enter(optimistix_fixed_point(adjoint))
    else:
        registry.missing["optimistix"] = "not installed (pip install optimistix)"
