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
from bmo.bounds.quality import (
    ergodic_gap,
    gap_below,
    map_relaxation,
    move_constant,
    move_power,
    move_window,
    power_window,
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

__all__ = [
    "aggregate_averaged",
    "averagedness_decrease",
    "composition_averaged",
    "ergodic_gap",
    "error_bound_distance",
    "error_bound_factor",
    "error_bound_gap",
    "fixed_point_decrease",
    "forward_backward_averaged",
    "gap_below",
    "gradient_alpha",
    "ista_alpha",
    "km_line",
    "km_residual",
    "km_rotation",
    "km_tight",
    "km_worst",
    "lista_alpha",
    "map_relaxation",
    "monotone_step_limit",
    "move_constant",
    "move_power",
    "move_window",
    "one_step",
    "one_step_sharp",
    "power_window",
    "projected_averaged",
    "red_alpha",
    "relaxation",
    "residual_drift",
    "residual_from_step",
    "step_drift",
    "strong_move",
    "strong_offset",
    "strong_step",
    "uniform_residual",
    "uniform_residual_harmonic",
    "upper_gap",
    "upper_gap_sharp",
    "upper_step_limit",
]
