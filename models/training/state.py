"""A training run on disk: weights, moving average and optimiser in one safetensors file, replaced as a whole."""

from __future__ import annotations

import copy
import json
import math
import os
import time
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

SAVE_SECONDS = 60.0


class Run:
    """A network in training for a budget of minutes: AdamW, warm-up then cosine to zero, EMA, resumable at any save.

    `seconds` counts what has been spent over all sittings; `progress` is the part of the budget, 0..1.
    """

    def __init__(self, path: Path, network: nn.Module, *, minutes: float, lr: float, average: float = 0.998) -> None:
        self.path, self.network, self.lr, self.average = path, network, lr, average
        self.budget = minutes * 60
        self.ema = copy.deepcopy(network).requires_grad_(False)
        self.optimizer = torch.optim.AdamW(network.parameters(), lr=lr, betas=(0.9, 0.95), weight_decay=0.0)
        self.step, self.seconds = 0, 0.0
        self.history: list[dict[str, float]] = []
        self._mark = self._saved = time.monotonic()
        if path.exists():
            self._load()

    @property
    def progress(self) -> float:
        """Part of the budget that is spent, 0..1."""
        return min(1.0, self.seconds / self.budget)

    def learn(self, loss: Tensor) -> bool:
        """One step down the loss. False when the budget is spent."""
        warm = min(1.0, (self.step + 1) / 100)
        for group in self.optimizer.param_groups:
            group["lr"] = self.lr * warm * (0.5 + 0.5 * math.cos(math.pi * self.progress))
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        self.optimizer.step()
        self.step += 1
        keep = min(self.average, 1 - 1 / (self.step + 1))
        with torch.no_grad():
            for slow, fast in zip(self.ema.parameters(), self.network.parameters(), strict=True):
                slow.lerp_(fast, 1 - keep)
        now = time.monotonic()
        self.seconds, self._mark = self.seconds + now - self._mark, now
        if now - self._saved > SAVE_SECONDS or self.progress >= 1:
            self.save()
        return self.progress < 1

    def note(self, **numbers: float) -> None:
        """Keep a line of the learning curve, and say it; the last one, after the last step, is saved at once."""
        self.history.append({"step": self.step, "minutes": round(self.seconds / 60, 2), **numbers})
        print(json.dumps(self.history[-1]), flush=True)
        if self.progress >= 1:
            self.save()

    def save(self) -> None:
        """Write everything under a temporary name, then replace."""
        tensors = {f"network.{k}": v for k, v in self.network.state_dict().items()}
        tensors |= {f"ema.{k}": v for k, v in self.ema.state_dict().items()}
        for index, moments in self.optimizer.state_dict()["state"].items():
            tensors |= {f"moment.{index}.{k}": torch.as_tensor(v) for k, v in moments.items()}
        facts = {"step": self.step, "seconds": self.seconds, "history": self.history}
        part = self.path.with_suffix(".part")
        save_file({k: v.detach().contiguous().clone() for k, v in tensors.items()}, part, {"run": json.dumps(facts)})
        with open(part, "rb") as written:
            os.fsync(written.fileno())
        os.replace(part, self.path)
        self._saved = time.monotonic()

    def _load(self) -> None:
        with safe_open(self.path, "pt") as file:
            facts = json.loads(file.metadata()["run"])
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - not a dict
        for prefix, module in (("network.", self.network), ("ema.", self.ema)):
            module.load_state_dict({k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)})
        moments: dict[int, dict[str, Tensor]] = {}
        for key, value in tensors.items():
            if key.startswith("moment."):
                _, index, name = key.split(".")
                moments.setdefault(int(index), {})[name] = value
        state = self.optimizer.state_dict()
        self.optimizer.load_state_dict({"state": moments, "param_groups": state["param_groups"]})
        self.step, self.seconds, self.history = facts["step"], facts["seconds"], facts["history"]


def read(path: Path) -> tuple[dict[str, Tensor], dict]:
    """The averaged weights of a run, and its facts."""
    with safe_open(path, "pt") as file:
        weights = {k.removeprefix("ema."): file.get_tensor(k) for k in file.keys() if k.startswith("ema.")}  # noqa: SIM118
        return weights, json.loads(file.metadata()["run"])
