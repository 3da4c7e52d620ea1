r"""Every rate and constant that the book prints, one plain function each.

The functions take and return floats and know nothing of tensors, so that the bound a chapter
prints, the bound its notebook draws and the bound the tests hold are one and the same line.
Arguments outside the range in which a statement is proved are refused.
"""

from bmo.bounds.averaging import (
    aggregate_averaged,
    composition_averaged,
    forward_backward_averaged,
    gradient_alpha,
    ista_alpha,
    lista_alpha,
    monotone_step_limit,
    projected_averaged,
    red_alpha,
    upper_step_limit,
)
from bmo.bounds.estimators import (
    cg_factor,
    conjugate_gradient,
    implicit,
    neumann,
    one_term,
    truncation,
)
from bmo.bounds.krasnoselskii_mann import (
    averagedness_decrease,
    km_line,
    km_residual,
    km_rotation,
    km_tight,
    km_worst,
)
from bmo.bounds.one_step import (
    fixed_point_decrease,
    one_step,
    one_step_sharp,
    relaxation,
    residual_drift,
    residual_from_step,
    step_drift,
    upper_gap,
    upper_gap_sharp,
)
from bmo.bounds.stationarity import (
    fixed_point_distance,
    hypergradient_distance,
    inner_contraction,
    jacobian_distance,
    jacobian_distance_limit,
    metric_term,
    step_memory,
    step_memory_limit,
)

__all__ = [
    "aggregate_averaged",
    "averagedness_decrease",
    "cg_factor",
    "composition_averaged",
    "conjugate_gradient",
    "fixed_point_decrease",
    "fixed_point_distance",
    "forward_backward_averaged",
    "gradient_alpha",
    "hypergradient_distance",
    "implicit",
    "inner_contraction",
    "ista_alpha",
    "jacobian_distance",
    "jacobian_distance_limit",
    "km_line",
    "km_residual",
    "km_rotation",
    "km_tight",
    "km_worst",
    "lista_alpha",
    "metric_term",
    "monotone_step_limit",
    "neumann",
    "one_step",
    "one_step_sharp",
    "one_term",
    "projected_averaged",
    "red_alpha",
    "relaxation",
    "residual_drift",
    "residual_from_step",
    "step_drift",
    "step_memory",
    "step_memory_limit",
    "truncation",
    "upper_gap",
    "upper_gap_sharp",
    "upper_step_limit",
]
