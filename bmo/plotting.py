r"""One style for every figure: colour says the role, and each role has its line, too.

Training is blue, hyper-training orange, a bound black and dashed. The other
colours are from the Okabe-Ito set, which colour-blind readers tell apart; the
line styles differ as well, so a black-and-white print keeps its meaning.

Figures are drawn on opaque white, because a black bound on a transparent
background disappears on a dark page. The book's dark theme turns charts over
(black becomes white, each colour keeps its hue) and leaves photographs as they
are: see ``book/_static/book.css``. Figures are small in inches and dense in dots:
scaled down to a phone of 400 pixels, the letters stay readable.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bmo.errors import DomainError, require_whole

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH = 4.8
"""Width of every figure in inches (768 pixels at the style's 160 dots per inch)."""

ROLES: dict[str, dict[str, Any]] = {
    "training": {"color": "#0072B2", "linestyle": "-"},
    "hyper": {"color": "#D55E00", "linestyle": "-"},
    "bound": {"color": "#000000", "linestyle": "--", "linewidth": 1.4},
    "unh": {"color": "#009E73", "linestyle": "-."},
    "ena": {"color": "#AA3377", "linestyle": (0, (5, 1, 1, 1, 1, 1))},
    "failure": {"color": "#CC2222", "linestyle": ":"},
    "second": {"color": "#3A9BD9", "linestyle": (0, (6, 2))},
    "neutral": {"color": "#6F6F6F", "linestyle": "-"},
}
"""What a line means, and how it is drawn."""

STYLE: Any = {
    "figure.dpi": 160,
    "figure.figsize": (WIDTH, 3.0),
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "savefig.dpi": 160,
    "figure.constrained_layout.use": True,
    "font.size": 10,
    "axes.titlesize": 10,
    "axes.labelsize": 10,
    "legend.fontsize": 9,
    "legend.frameon": False,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#DDDDDD",
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "lines.linewidth": 1.9,
    "image.cmap": "gray",
    "svg.hashsalt": "bmo",
}
"""The matplotlib settings behind every figure of the book."""


def use_style() -> None:
    """Switch matplotlib to the style of the book, for the rest of the session.

    Source: the page "How this project is put together".

    Example:
        >>> import matplotlib as mpl
        >>> with mpl.rc_context():
        ...     use_style()
        ...     mpl.rcParams["font.size"]
        10.0
    """
    import matplotlib as mpl

    mpl.rcParams.update(STYLE)


def role(name: str, **changes: Any) -> dict[str, Any]:
    """Return the line settings of a role, to be passed to ``plot``.

    Args:
        name: One of ``ROLES``, for instance ``"training"``, ``"hyper"``, ``"bound"``.
        **changes: Settings that replace or extend those of the role.

    Raises:
        DomainError: No such role.

    Example:
        >>> role("bound")["linestyle"]
        '--'
        >>> role("training", marker="o")["marker"]
        'o'
    """
    if name not in ROLES:
        raise DomainError(
            f"one of the roles {', '.join(ROLES)}",
            f"role {name!r}",
            "choose one of these, or add a role to bmo.plotting.ROLES",
            name,
        )
    return {**ROLES[name], **changes}


def color(name: str) -> str:
    """Return the colour of a role, as a hexadecimal string.

    Raises:
        DomainError: No such role.

    Example:
        >>> color("training")
        '#0072B2'
    """
    return str(role(name)["color"])


def panels(rows: int = 1, columns: int = 1, height: float = 2.6) -> tuple[Figure, list[Axes]]:
    """Open a figure of the book's width with ``rows`` times ``columns`` axes.

    Stack panels (``rows``) where you can: side by side they are half as wide
    on a phone.

    Args:
        rows: Number of rows.
        columns: Number of columns.
        height: Height of one row in inches.

    Returns:
        The figure and its axes as a flat list, row by row.

    Raises:
        DomainError: Fewer than one row or column.

    Example:
        >>> import matplotlib.pyplot as plt
        >>> figure, axes = panels(rows=2)
        >>> len(axes), [float(inches) for inches in figure.get_size_inches()]
        (2, [4.8, 5.2])
        >>> plt.close(figure)
    """
    import matplotlib.pyplot as plt

    require_whole("rows", rows, 1), require_whole("columns", columns, 1)
    figure, axes = plt.subplots(rows, columns, figsize=(WIDTH, height * rows), squeeze=False)
    return figure, list(axes.flat)
