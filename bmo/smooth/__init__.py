"""Smooth convex functions f: value, gradient, and the curvature that limits the step.

Book: chapter 4.
"""

from bmo.smooth.base import Smooth
from bmo.smooth.general import Gradient, Objective, Sum
from bmo.smooth.quadratic import LeastSquares, Quadratic, Ridge

__all__ = ["Gradient", "LeastSquares", "Objective", "Quadratic", "Ridge", "Smooth", "Sum"]
