"""What the processes tell each other: means of gradients, and what the first one knows.

Book: chapter 9.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.distributed as dist
from torch import Tensor, nn

from bmo.errors import TrainingError
from bmo.parallel.processes import answered, main_process, world


def average(gradients: Mapping[str, Tensor], weight: float) -> dict[str, Tensor]:
    r"""The weighted mean :math:`\sum_r w_r g_r` over the processes, the same bits in each.

    Args:
        gradients: Tensors by name, such as ``hypergradient(...).gradients``: the same names,
            shapes, types and order in every process.
        weight: :math:`w_r`, what :func:`shard` returned; over the processes they sum to 1.

    Raises:
        TrainingError: The weights do not sum to 1, or a process has stopped.

    Example:
        >>> average({"omega": torch.ones(2)}, 1.0)
        {'omega': tensor([1., 1.])}
    """
    alike: dict[tuple[torch.dtype, torch.device], list[str]] = {}
    for name, g in gradients.items():
        alike.setdefault((g.dtype, g.device), []).append(name)
    found: dict[str, Tensor] = {}
    for names in alike.values():
        parts = [gradients[name].detach().flatten() for name in names]
        flat = torch.cat([parts[0].new_ones(1), *parts]) * weight
        if world().size > 1:
            with answered():
                dist.all_reduce(flat)
        total, *sums = flat.split([1, *[p.numel() for p in parts]])
        if not abs(complex(total.item()) - 1) < 1e-2:
            raise TrainingError(
                "weights that sum to 1 over the processes",
                f"{total.item():.4g}",
                "pass the weight that shard returned with the slice",
                weight,
            )
        found |= {n: s.reshape(gradients[n].shape) for n, s in zip(names, sums, strict=True)}
    return {name: found[name] for name in gradients}


def average_grad(module: nn.Module, value: Tensor, weight: float) -> Tensor:
    """Replace each ``.grad`` by its mean over the processes; return the mean of ``value``.

    A parameter that no process has a gradient for keeps none, so that optimizers pass over it.

    Raises:
        TrainingError: As :func:`average`.

    Example:
        >>> line = nn.Linear(1, 1)
        >>> loss = line(torch.ones(4, 1)).mean()
        >>> loss.backward()
        >>> bool(average_grad(line, loss, weight=1.0) == loss)
        True
    """
    if world().size == 1:
        return value.detach()
    own = {name: p for name, p in module.named_parameters() if p.requires_grad}
    has = value.new_tensor([p.grad is not None for p in own.values()])
    grads = {n: torch.zeros_like(p) if p.grad is None else p.grad for n, p in own.items()}
    # No parameter's name is empty or begins with a point.
    mean = average({"": value.detach(), ".": has, **grads}, weight)
    for (name, p), known in zip(own.items(), mean["."].tolist(), strict=True):
        p.grad = mean[name] if known else None
    return mean[""]


def from_first(content: bytes | None) -> bytes | None:
    """What process 0 passes in, in every process; the others wait for it.

    Raises:
        TrainingError: A process has stopped.

    Example:
        >>> from_first(b"abc")
        b'abc'
    """
    if world().size == 1:
        return content
    # nccl alone carries no tensors of the processor.
    place = torch.device("cuda" if dist.get_backend() == "nccl" else "cpu")
    length = torch.tensor([-1 if content is None else len(content)], device=place)
    with answered():
        dist.broadcast(length, 0)
        count = int(length)
        if count <= 0:
            return None if count < 0 else b""
        data = torch.empty(count, dtype=torch.uint8)
        if content is not None and main_process():
            data = torch.frombuffer(bytearray(content), dtype=torch.uint8)
        data = data.to(place)
        dist.broadcast(data, 0)
    return data.cpu().numpy().tobytes()


def same_start(module: nn.Module) -> None:
    """Give every process the parameters, buffers and torch's random state of process 0.

    Raises:
        TrainingError: The module has other names, shapes or types here than there, or a process
            has stopped.

    Example:
        >>> same_start(nn.Linear(1, 1))
    """
    if world().size == 1:
        return
    tensors = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    shapes = "\n".join(f"{n} {tuple(t.shape)} {t.dtype}" for n, t in tensors.items())
    first = (from_first(shapes.encode()) or b"").decode()
    if first != shapes:
        differ = sorted(set(shapes.splitlines()) ^ set(first.splitlines()))
        raise TrainingError(
            "the same model in every process",
            f"another one in process {world().rank}: {', '.join(differ[:4])}",
            "build it from the same settings everywhere",
            differ,
        )
    with torch.no_grad(), answered():
        for tensor in tensors.values():
            whole = tensor.detach().contiguous()
            dist.broadcast(whole, 0)
            tensor.copy_(whole)
    state = from_first(torch.get_rng_state().numpy().tobytes())
    torch.set_rng_state(torch.frombuffer(bytearray(state or b""), dtype=torch.uint8))
