"""bmo.plotting: roles that can be told apart, figures that fit."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.colors import to_rgb
from skimage.color import rgb2lab

from bmo.errors import DomainError
from bmo.plotting import ROLES, WIDTH, color, panels, role, use_style

# Machado, Oliveira, Fernandes 2009: how a full loss of one cone type maps linear RGB.
DEUTERANOPIA = np.array(
    [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]]
)
PROTANOPIA = np.array(
    [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ]
)


# The book's dark theme: the filter on its charts, and the grey of its page.
CSS = Path(__file__).parents[1] / "book/_static/book.css"
PAGE = 0x12 / 255
# Filter Effects Module Level 1: hue-rotate by 180 degrees, on coded RGB.
HUE_TURNED = np.array(
    [[-0.574, 1.430, 0.144], [0.426, 0.430, 0.144], [0.426, 1.430, -0.856]], dtype=float
)


def on_dark(value: np.ndarray) -> np.ndarray:
    """A colour as the dark theme shows it: the filter of the style sheet, then the page."""
    (found,) = re.findall(
        r"filter: invert\(1\) hue-rotate\(180deg\) brightness\(([\d.]+)\); "
        r"mix-blend-mode: screen;",
        CSS.read_text(),
    )
    turned = np.clip(float(found) * np.clip(HUE_TURNED @ (1 - value), 0, 1), 0, 1)
    return 1 - (1 - turned) * (1 - PAGE)


def linear(name: str, dark: bool = False) -> np.ndarray:
    """Linear RGB of a role's colour."""
    value = np.array(to_rgb(color(name)))
    value = on_dark(value) if dark else value
    return np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)


def seen(name: str, loss: np.ndarray, dark: bool = False) -> np.ndarray:
    """A role's colour in CIELAB as an eye with this loss sees it."""
    value = np.clip(loss @ linear(name, dark), 0, 1)
    coded = np.where(value <= 0.0031308, 12.92 * value, 1.055 * value ** (1 / 2.4) - 0.055)
    return rgb2lab(coded[None, None])[0, 0]


@pytest.mark.parametrize("name", ROLES)
def test_every_line_stands_out_from_white(name: str) -> None:
    """Contrast at least 3:1, as the web's accessibility guidelines ask of graphics."""
    luminance = linear(name) @ np.array([0.2126, 0.7152, 0.0722])
    assert 1.05 / (luminance + 0.05) >= 3


@pytest.mark.parametrize("name", ROLES)
def test_every_line_stands_out_from_the_dark_page(name: str) -> None:
    """The same contrast on the dark theme, where the style sheet turns charts over."""
    luminance = linear(name, dark=True) @ np.array([0.2126, 0.7152, 0.0722])
    page = ((PAGE + 0.055) / 1.055) ** 2.4
    assert (luminance + 0.05) / (page + 0.05) >= 3


def test_the_dark_theme_turns_white_paper_into_the_page() -> None:
    assert on_dark(np.ones(3)) == pytest.approx(PAGE * np.ones(3), abs=1e-12)


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("loss", [np.eye(3), DEUTERANOPIA, PROTANOPIA])
def test_training_hyper_training_and_bound_differ_for_every_eye(
    loss: np.ndarray, dark: bool
) -> None:
    for first, second in itertools.combinations(["training", "hyper", "bound"], 2):
        assert np.linalg.norm(seen(first, loss, dark) - seen(second, loss, dark)) > 20


def test_roles_that_share_a_figure_differ_in_more_than_colour() -> None:
    kept = [str(role(name)["linestyle"]) for name in ROLES if name not in ("hyper", "neutral")]
    assert len(set(kept)) == len(kept)


def test_the_roles_are_as_the_book_promises() -> None:
    assert color("training") == "#0072B2"
    assert color("hyper") == "#D55E00"
    assert color("bound") == "#000000"
    assert role("bound")["linestyle"] == "--"


def test_changes_replace_and_do_not_stick() -> None:
    assert role("bound", linewidth=3)["linewidth"] == 3
    assert role("bound")["linewidth"] != 3


def test_an_unknown_role_is_refused() -> None:
    with pytest.raises(DomainError, match="training") as caught:
        role("nobody")
    assert caught.value.value == "nobody"
    with pytest.raises(DomainError):
        color("nobody")


def test_figures_have_one_width_and_readable_letters_on_a_phone() -> None:
    with mpl.rc_context():
        use_style()
        for rows, columns in ((1, 1), (2, 1), (1, 2)):
            figure, axes = panels(rows, columns)
            assert len(axes) == rows * columns
            assert figure.get_size_inches()[0] == WIDTH
            # A letter's height in pixels when the figure is scaled to 360 pixels.
            smallest = min(mpl.rcParams["xtick.labelsize"], mpl.rcParams["legend.fontsize"])
            assert smallest / 72 * 360 / WIDTH >= 9
            assert figure.get_facecolor() == (1.0, 1.0, 1.0, 1.0)
            plt.close(figure)
