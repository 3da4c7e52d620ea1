def converge(*a): ...
def cost(*a): ...
def measure_pairs(*a): ...
import torch
from bmo.measure import psnr, to_uint8, y_channel
@torch.no_grad()
def worth(model, pairs, depth):
    """Mean PSNR on Y of the stored images after a number of steps, over pairs (rainy, clean)."""
    found = []
    for rainy, clean in pairs:
        restored = model.restore(rainy[None].to(model.device), depth)[0].cpu()
        found.append(float(psnr(y_channel(to_uint8(restored)), y_channel(to_uint8(clean)))))
    return sum(found) / len(found)
