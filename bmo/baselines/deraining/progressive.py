r"""Progressive deraining networks: one small residual network, applied again and again.

Ren, Zuo, Hu, Zhu, Meng: Progressive Image Deraining Networks, CVPR 2019. In each of six stages the
rainy image O and the last estimate are mixed by a convolution (:math:`f_{in}`), passed through a
convolutional LSTM (:math:`f_{rec}`, in PReNet alone) and five residual blocks
(:math:`f_{res}`), and a last convolution (:math:`f_{out}`) gives the next estimate. All stages
share their weights. In the variants whose name ends in ``_r`` the residual block is one, too, and
is applied five times. The names of the parts are those of the published weights.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from bmo.data import locate
from bmo.errors import DataError, DomainError, ShapeError

#: The published networks, and whether they have a memory and one residual block for all.
METHODS = {
    "prenet": ("PReNet6", True, False),
    "prenet_r": ("PReNet6_r", True, True),
    "prn": ("PRN6", False, False),
    "prn_r": ("PRN6_r", False, True),
}
#: The same networks with their images cut to 8 bits instead of rounded, as the authors store them.
CUT = {f"{method}-cut": method for method in METHODS}
#: The set that the weights were trained for, by the name of the test set.
TRAINED_ON = {"rain100l": "Rain100L", "rain100h": "Rain100H"}
WIDTH = 32
BLOCKS = 5
GATES = ("conv_i", "conv_f", "conv_g", "conv_o")


def _layer(inputs: int, outputs: int, activation: nn.Module | None = None) -> nn.Sequential:
    convolution = nn.Conv2d(inputs, outputs, 3, padding=1)
    return nn.Sequential(convolution, *([] if activation is None else [activation]))


def _block() -> nn.Sequential:
    return nn.Sequential(*_layer(WIDTH, WIDTH, nn.ReLU()), *_layer(WIDTH, WIDTH, nn.ReLU()))


class Progressive(nn.Module):
    r"""PReNet and PRN: :math:`x^0 = O`, and stage t gives :math:`x^t` from :math:`(O, x^{t-1})`.

    The constraint that chapter 5 asks for is nowhere here: this is a network of class ENA, trained
    for its depth.

    Args:
        memory: Whether the stages share a convolutional LSTM (PReNet) or not (PRN).
        recursive: Whether one residual block stands for all five.
        stages: How many stages; the published networks have six.

    Raises:
        DomainError: Fewer than one stage.

    Example:
        >>> import torch
        >>> network = Progressive()
        >>> network(torch.zeros(1, 3, 8, 8)).shape
        torch.Size([1, 3, 8, 8])
    """

    name = "ena-progressive"

    def __init__(self, memory: bool = True, recursive: bool = False, stages: int = 6) -> None:
        super().__init__()
        if stages < 1:
            raise DomainError("stages >= 1", f"{stages}", "six is what was published", stages)
        self.memory, self.recursive, self.stages = memory, recursive, stages
        self.conv0 = _layer(6, WIDTH, nn.ReLU())
        for k in range(1, 2 if recursive else BLOCKS + 1):
            setattr(self, f"res_conv{k}", _block())
        if memory:
            for gate in GATES:
                activation = nn.Tanh() if gate == "conv_g" else nn.Sigmoid()
                setattr(self, gate, _layer(2 * WIDTH, WIDTH, activation))
        self.conv = _layer(WIDTH, 3)

    def _part(self, name: str) -> nn.Module:
        return cast(nn.Module, getattr(self, name))

    def _remember(self, x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        """The convolutional LSTM: its new hidden state and its new cell."""
        both = torch.cat([x, h], 1)
        enters, stays, new, leaves = (self._part(gate)(both) for gate in GATES)
        c = stays * c + enters * new
        return leaves * torch.tanh(c), c

    def estimates(self, rainy: Tensor) -> Iterator[Tensor]:
        r"""Yield :math:`x^1, x^2, \dots` for a batch (B, 3, H, W) on [0, 1], without end."""
        if rainy.dim() != 4 or rainy.shape[1] != 3:
            raise ShapeError("a batch (B, 3, H, W)", f"{tuple(rainy.shape)}", "add axes", rainy)
        x = rainy
        h = c = rainy.new_zeros(rainy.shape[0], WIDTH, *rainy.shape[2:])
        while True:
            z = self.conv0(torch.cat([rainy, x], 1))
            if self.memory:
                h, c = self._remember(z, h, c)
                z = h
            for k in range(1, BLOCKS + 1):
                z = functional.relu(self._part(f"res_conv{1 if self.recursive else k}")(z) + z)
            x = self.conv(z) + rainy
            yield x

    def forward(self, rainy: Tensor) -> Tensor:
        r"""The last estimate :math:`x^T`, not cut to [0, 1]: shape (B, 3, H, W)."""
        return next(x for t, x in enumerate(self.estimates(rainy), 1) if t == self.stages)


def published(method: str, trained_on: str) -> Progressive:
    """A network with its published weights, verified by sha256.

    Only tensors are read from the file, so it cannot run code.

    Args:
        method: ``"prenet"``, ``"prenet_r"``, ``"prn"`` or ``"prn_r"``.
        trained_on: ``"rain100l"`` or ``"rain100h"``: the set whose training pairs were used.

    Raises:
        DomainError: Another name.
        DataError: The file is missing, altered, or holds other weights.

    An example: :class:`bmo.baselines.deraining.Progressive`.
    """
    if method not in METHODS or trained_on not in TRAINED_ON:
        raise DomainError(
            f"a method out of {tuple(METHODS)}, weights out of {tuple(TRAINED_ON)}",
            f"{method!r}, {trained_on!r}",
            "correct the name",
            method,
        )
    _, memory, recursive = METHODS[method]
    path = locate(file_name(method, trained_on))
    network = Progressive(memory, recursive)
    load(network, path.read_bytes(), str(path))
    return network.eval()


def cut(restore: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """The same method, its images cut to multiples of 1/255: nothing is rounded up.

    The published figures of these networks were measured on images that were stored like this.

    Example:
        >>> cut(lambda x: x)(torch.tensor([0.999, 1.2])).mul(255).tolist()
        [254.0, 255.0]
    """
    return lambda rainy: torch.floor(restore(rainy).clamp(0.0, 1.0) * 255) / 255


def file_name(method: str, trained_on: str) -> str:
    """The registered name of published weights.

    Example:
        >>> file_name("prn", "rain100l")
        'weights/prenet/Rain100L_PRN6.pth'
    """
    return f"weights/prenet/{TRAINED_ON[trained_on]}_{METHODS[method][0]}.pth"


def load(network: nn.Module, content: bytes, name: str) -> None:
    """Load a checkpoint of tensors into a network.

    Raises:
        DataError: Not a checkpoint of tensors, or one of another network.
    """
    try:
        weights = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
        network.load_state_dict(weights)
    except Exception as problem:  # torch raises many kinds for a damaged file
        reason = str(problem).splitlines()[0]
        raise DataError("weights of this network", reason, "fetch them again", name) from problem
