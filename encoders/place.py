"""Where an encoder computes: on which device, and in which precision."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

Precision = Literal["float32", "bfloat16"]


def fastest() -> Precision:
    """Gives the precision that this machine computes fastest: bfloat16 where GPU or processor has it in hardware."""
    if torch.cuda.is_available():
        return "bfloat16" if torch.cuda.is_bf16_supported() else "float32"
    told: dict[str, bool] = getattr(torch.cpu, "get_capabilities", dict)()  # older versions of torch don't tell
    return "bfloat16" if told.get("amx_bf16") or told.get("avx512_bf16") else "float32"


@dataclass(frozen=True, slots=True)
class Place:
    """A device and the precision of the weights on it."""

    device: torch.device
    precision: Precision = "float32"
    """Of sentence encoders, which cost most; the others are exact everywhere."""

    @classmethod
    def of(cls, device: str | Place, precision: Literal["auto"] | Precision = "float32") -> Place:
        """Gives the place of that name: `auto` (a GPU if there is one) or a torch device; a `Place` is given back."""
        if isinstance(device, Place):
            return device
        chosen = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
        return cls(torch.device(chosen), fastest() if precision == "auto" else precision)

    @property
    def dtype(self) -> torch.dtype:
        """That of the weights."""
        return torch.bfloat16 if self.precision == "bfloat16" else torch.float32

    def put(self, batch: Tensor) -> Tensor:
        """Gives the batch on the device; to a GPU from pinned memory, so that nobody waits for the copy."""
        if self.device.type == "cuda" and batch.device.type == "cpu":
            return batch.pin_memory().to(self.device, non_blocking=True)
        return batch.to(self.device)
