"""What a notebook of the book needs: a fixed start, glued values, verdicts.

It works in Jupyter, in Colab and in plain Python. Nothing here depends on the
tools that build the book.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any, Literal, NamedTuple

from bmo.errors import BMOError, DomainError
from bmo.record import project_address

FIRST_CELL = """import sys

if "google.colab" in sys.modules:
    %pip install --quiet "bmo-book @ git+{address}"
"""
"""The first cell of every notebook, tagged ``remove-cell``; ``{address}`` is filled in."""


class VerdictError(BMOError):
    """A claim does not hold for the numbers that were measured. ``value`` lists those claims."""


class Verdict(NamedTuple):
    """One line of evidence: what was measured beside what is guaranteed.

    Args:
        claim: The claim in a few words, the same words as on the page.
        measured: The measured number.
        guaranteed: The number that the theorem guarantees.
        relation: How measured has to stand to guaranteed: ``"<="``, ``">="``, ``"<"``,
            ``">"``, or ``"="`` (equal up to ``tolerance``).
        tolerance: Rounding allowed, relative to max(1, abs(guaranteed)).

    Example:
        >>> Verdict("residual", 0.5, 1.0).holds
        True
    """

    claim: str
    measured: float
    guaranteed: float
    relation: Literal["<=", ">=", "<", ">", "="] = "<="
    tolerance: float = 0.0

    @property
    def holds(self) -> bool:
        """Whether the relation is true; NaN never holds."""
        # An infinite guarantee needs no slack (0 times infinity would be NaN).
        size = abs(self.guaranteed)
        slack = 0.0 if math.isinf(size) else self.tolerance * max(1.0, size)
        # Two equal infinities have no difference (it would be NaN).
        same = self.measured == self.guaranteed
        difference = 0.0 if same else self.measured - self.guaranteed
        answers = {
            "<=": difference <= slack,
            ">=": difference >= -slack,
            "<": difference < 0,
            ">": difference > 0,
            "=": abs(difference) <= slack,
        }
        if self.relation not in answers:
            raise DomainError(
                f"one of the relations {' '.join(answers)}",
                f"relation {self.relation!r}",
                "write the verdict with one of these",
                self.relation,
            )
        return answers[self.relation]


def first_cell() -> str:
    """Return the text of a notebook's first cell: in Colab, it installs the package.

    Raises:
        RecordError: The package is not installed, so its address is not known.

    Example:
        >>> print(first_cell().splitlines()[0])
        import sys
    """
    return FIRST_CELL.format(address=project_address()).rstrip("\n")


def setup(seed: int = 0) -> None:
    """Make the rest of a notebook repeatable and give its figures the book's style.

    One thread, double precision, seeded generators: the printed digits are then
    the same on every machine.

    Args:
        seed: Seed of torch's and of numpy's global generators, at least 0.

    Raises:
        DomainError: A negative seed.

    Example:
        >>> import matplotlib as mpl, torch
        >>> before = torch.get_default_dtype(), torch.get_num_threads()
        >>> with mpl.rc_context():
        ...     setup()
        >>> torch.get_default_dtype()
        torch.float64
        >>> torch.set_default_dtype(before[0]); torch.set_num_threads(before[1])
    """
    import numpy as np
    import torch

    from bmo.plotting import use_style

    if seed < 0:
        raise DomainError("a seed of at least 0", f"seed = {seed}", "choose seed = 0", seed)
    torch.set_num_threads(1)
    torch.set_default_dtype(torch.float64)
    _ = torch.manual_seed(seed)
    np.random.seed(seed)
    use_style()


def glue(**values: Any) -> None:
    """Store values in the notebook, for the ``glue`` roles of the book's pages.

    Writes the same output as ``myst_nb.glue(name, value, display=False)``
    without needing myst-nb where the notebook runs. Nothing is shown. Outside
    of Jupyter it does nothing.

    Floats are stored with six significant digits: more than a page prints, and fewer than what
    differs from machine to machine.

    Args:
        **values: Plain values (``float(x)``, ``int(n)``, strings), by the name under
            which a page writes them. Tensors and arrays of one number are converted.

    Example:
        >>> glue(rate=0.5)
    """
    try:
        from IPython.core.formatters import format_display_data
        from IPython.core.getipython import get_ipython
        from IPython.display import display
    except ImportError:
        return
    if get_ipython() is None:
        return
    prefix = "application/papermill.record/"
    for name, value in values.items():
        bundle, extra = format_display_data(_plain(value))
        extra["scrapbook"] = {"name": name, "mime_prefix": prefix}
        display({prefix + mime: data for mime, data in bundle.items()}, raw=True, metadata=extra)


def _plain(value: Any) -> Any:
    """Turn a tensor or array of one number into that number; round floats; leave the rest."""
    if hasattr(value, "item") and getattr(value, "ndim", 1) == 0:
        value = value.item()
    return float(f"{value:.6g}") if isinstance(value, float) else value


def verdicts(rows: Iterable[Verdict | Sequence[Any]]) -> None:
    r"""Print claims beside their evidence, and refuse to go on when one does not hold.

    Numbers are printed with three significant digits, so that the table is the
    same on every machine; the comparison uses all digits. A number below
    1e-12 in absolute value is rounding, and prints as ``~0``.

    Args:
        rows: :class:`Verdict` or tuples in its order:
            (claim, measured, guaranteed[, relation[, tolerance]]).

    Raises:
        DomainError: No rows: a notebook that checks nothing proves nothing.
        VerdictError: Some claim does not hold (the table is printed first).

    Example:
        >>> verdicts([("residual at step 9", 0.0312, 0.05), ("factor", 1.0, 1.0, "=", 1e-12)])
        claim                 measured      guaranteed   holds
        residual at step 9      0.0312  <=      0.0500   yes
        factor                    1.00  =         1.00   yes
    """
    table = [row if isinstance(row, Verdict) else Verdict(*row) for row in rows]
    if not table:
        raise DomainError("at least one verdict", "none", "list what the notebook has checked")
    width = max(18, *(len(row.claim) for row in table))
    lines = [f"{'claim':<{width}}  {'measured':>10}  {'':2}{'guaranteed':>12}   holds"]
    for row in table:
        answer = "yes" if row.holds else "NO"
        lines.append(
            f"{row.claim:<{width}}  {digits(row.measured):>10}  {row.relation:2}"
            f"{digits(row.guaranteed):>12}   {answer}"
        )
    print("\n".join(lines))
    failed = [row for row in table if not row.holds]
    if failed:
        raise VerdictError(
            "every claim to hold",
            "; ".join(
                f"{row.claim}: {row.measured} {row.relation} {row.guaranteed}" for row in failed
            ),
            "find the mistake in the claim or in the code; never loosen the number",
            failed,
        )


def digits(value: float, significant: int = 3) -> str:
    """Format a number with few digits, the same on every machine.

    Args:
        value: Any real number.
        significant: Number of significant digits, at least 1.

    Example:
        >>> digits(0.03125), digits(1234567.0), digits(3e-17), digits(float("inf"))
        ('0.0312', '1.23e+06', '~0', 'inf')
    """
    value = float(value)
    if value == 0:
        return "0"
    if not math.isfinite(value):
        return f"{value:g}"
    if abs(value) < 1e-12:
        return "~0"
    if 1e-3 <= abs(value) < 1e5:
        return f"{value:#.{significant}g}".rstrip(".")
    return f"{value:.{significant - 1}e}"
