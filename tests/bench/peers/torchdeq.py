"""torchdeq: deep equilibrium models. It asks for a map; unrolled or by the implicit function."""

from bmo.bench.methods import missing_package
from bmo.bench.plain import named_grad

ADJOINT_STEPS = 60


def available():
    return missing_package("torchdeq", "pip install torchdeq")


def unrolled(problem):
    from torchdeq.solver import get_solver

    solver = get_solver("simple_fixed_point_iter")

    def call():
        leaves = problem.leaves()
        at = problem.prepare(leaves)
        # its solvers want an axis of the batch
        start = problem.u0 if problem.u0.dim() > 1 else problem.u0[None]

        def step(u, tau=1.0):
            return problem.map(u, at) if problem.u0.dim() > 1 else problem.map(u[0], at)[None]

        u, _, _ = solver(step, start, max_iter=problem.steps)
        return named_grad(problem.value(u), leaves)

    return call


def implicit(b_solver):
    def prepare(problem):
        from torchdeq import get_deq

        deq = get_deq(
            ift=True,
            f_solver="simple_fixed_point_iter",
            f_max_iter=problem.steps,
            b_solver=b_solver,
            b_max_iter=ADJOINT_STEPS,
            b_tol=1e-10,
        )

        def call():
            leaves = problem.leaves()
            at = problem.prepare(leaves)
            alone = problem.u0.dim() == 1
            start = problem.u0[None] if alone else problem.u0

            def step(u):
                return problem.map(u[0], at)[None] if alone else problem.map(u, at)

            states, _ = deq(step, start)
            return named_grad(problem.value(states[-1]), leaves)

        return call

    return prepare


def register(registry):
    registry.enter("torchdeq, loop", "unrolled", ("P1", "P2"))(unrolled)
    registry.enter("torchdeq, Anderson", "implicit", ("P1", "P2"))(implicit("anderson"))
    registry.enter("torchdeq, fixed point", "implicit", ("P1", "P2"))(implicit("fixed_point_iter"))
