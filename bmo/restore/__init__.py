"""A recorded method at work on a picture of your own. Book: chapters 11 and 12.

* :mod:`~bmo.restore.pictures`: :func:`deblur` and :func:`derain`.
* :mod:`~bmo.restore.edges`: the border of a photograph, for :func:`deblur`.
* :mod:`~bmo.restore.command`: ``python -m bmo restore``.
"""

from bmo.restore.edges import taper
from bmo.restore.pictures import Restoration, deblur, derain

__all__ = ["Restoration", "deblur", "derain", "taper"]
