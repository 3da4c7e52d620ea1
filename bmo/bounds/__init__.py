r"""Every rate and constant that the book prints, one plain function each.

The functions take and return floats and know nothing of tensors, so that the bound a chapter
prints, the bound its notebook draws and the bound the tests hold are one and the same line.
Arguments outside the range in which a statement is proved are refused.
"""

from bmo.bounds.anchors import (
    anchored_distance,
    anchored_jacobian,
    free_anchor_move,
)
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
from bmo.bounds.beyond import (
    anchored_gap,
    anchored_move,
    anchored_residual,
    memoryless_both,
    memoryless_drift,
    memoryless_gap,
    memoryless_reach,
    memoryless_residual,
)
from bmo.bounds.drift import (
    residual_drift,
    residual_from_step,
    step_drift,
    upper_gap,
    upper_gap_sharp,
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
)
from bmo.bounds.quality import (
    ergodic_gap,
    gap_below,
    map_relaxation,
    uniform_residual,
    uniform_residual_harmonic,
)
from bmo.bounds.quality_faster import (
    error_bound_distance,
    error_bound_factor,
    error_bound_gap,
    strong_move,
    strong_offset,
    strong_step,
)
from bmo.bounds.quality_moves import move_constant, move_power, move_window, power_window
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
    "anchored_distance",
    "anchored_gap",
    "anchored_jacobian",
    "anchored_move",
    "anchored_residual",
    "averagedness_decrease",
    "cg_factor",
    "composition_averaged",
    "conjugate_gradient",
    "ergodic_gap",
    "error_bound_distance",
    "error_bound_factor",
    "error_bound_gap",
    "fixed_point_decrease",
    "fixed_point_distance",
    "forward_backward_averaged",
    "free_anchor_move",
    "gap_below",
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
    "map_relaxation",
    "memoryless_both",
    "memoryless_drift",
    "memoryless_gap",
    "memoryless_reach",
    "memoryless_residual",
    "metric_term",
    "monotone_step_limit",
    "move_constant",
    "move_power",
    "move_window",
    "neumann",
    "one_step",
    "one_step_sharp",
    "one_term",
    "power_window",
    "projected_averaged",
    "red_alpha",
    "relaxation",
    "residual_drift",
    "residual_from_step",
    "step_drift",
    "step_memory",
    "step_memory_limit",
    "strong_move",
    "strong_offset",
    "strong_step",
    "truncation",
    "uniform_residual",
    "uniform_residual_harmonic",
    "upper_gap",
    "upper_gap_sharp",
    "upper_step_limit",
]
