"""One torch thread: these tensors are tiny, and threads that fight for cores make them slow."""

from __future__ import annotations

import torch

torch.set_num_threads(1)
