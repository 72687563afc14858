"""A training run on disk: weights, moving average and optimiser in one safetensors file, replaced atomically."""

from __future__ import annotations

import copy
import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from models.atomic_write import replace
from models.training.shots.latents import nothing

SAVE_SECONDS = 60.0
WARM_UP = 100  # steps


@dataclass(frozen=True, slots=True)
class Session:
    """One start of the command: when training must stop, and what to call whenever a run was saved."""

    ends: float = math.inf  # time.monotonic()
    saved: Callable[[], None] = nothing

    @property
    def over(self) -> bool:
        """Whether training must stop."""
        return time.monotonic() >= self.ends


UNLIMITED = Session()  # only budgets end the training


class Run:
    """A network in training for a budget of minutes: AdamW, warm-up then cosine to zero, EMA, resumable at any save.

    `seconds` counts the time spent in all sessions; `progress` is the part of the budget, 0..1. `going` is False when
    nothing is left to do, in this session or at all. A file that was carried (models/training/carry.py) holds only the
    average: the run resumes from it with a new warm-up.
    """

    def __init__(
        self,
        path: Path,
        network: nn.Module,
        *,
        minutes: float,
        lr: float,
        average: float = 0.998,
        session: Session = UNLIMITED,
    ) -> None:
        self.path, self.network, self.lr, self.average = path, network, lr, average
        self.budget, self.session = minutes * 60, session
        self.ema = copy.deepcopy(network).requires_grad_(False)
        fused = next(network.parameters()).is_cuda
        self.optimizer = torch.optim.AdamW(network.parameters(), lr, (0.9, 0.95), weight_decay=0.0, fused=fused)
        self.step, self.seconds, self.cold = 0, 0.0, 0
        self.history: list[dict[str, float]] = []
        self._mark = self._saved = time.monotonic()
        if path.exists():
            self._load()
        self.going = self.progress < 1

    @property
    def progress(self) -> float:
        """Part of the budget that is spent, 0..1."""
        return min(1.0, self.seconds / self.budget) if self.budget else 1.0

    def learn(self, loss: Tensor) -> bool:
        """One optimiser step. Returns False when the budget is spent or the session is over: then all is saved."""
        warm = min(1.0, (self.step - self.cold + 1) / WARM_UP)
        for group in self.optimizer.param_groups:
            group["lr"] = self.lr * warm * (0.5 + 0.5 * math.cos(math.pi * self.progress))
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        self.optimizer.step()
        self.step += 1
        keep = min(self.average, 1 - 1 / (self.step + 1))
        with torch.no_grad():
            torch._foreach_lerp_(list(self.ema.parameters()), list(self.network.parameters()), 1 - keep)
        now = time.monotonic()
        self.seconds, self._mark = self.seconds + now - self._mark, now
        self.going = self.progress < 1 and now < self.session.ends
        if now - self._saved > SAVE_SECONDS or not self.going:
            self.save()
        return self.going

    def note(self, **numbers: float) -> None:
        """Record and print a point of the learning curve; the last one, after the last step, is saved at once."""
        self.history.append({"step": self.step, "minutes": round(self.seconds / 60, 2), **numbers})
        print(json.dumps(self.history[-1]), flush=True)
        if not self.going:
            self.save()

    def save(self) -> None:
        """Write everything, whole or not at all."""
        tensors = {f"network.{k}": v for k, v in self.network.state_dict().items()}
        tensors |= {f"ema.{k}": v for k, v in self.ema.state_dict().items()}
        for index, moments in self.optimizer.state_dict()["state"].items():
            tensors |= {f"moment.{index}.{k}": torch.as_tensor(v) for k, v in moments.items()}
        facts = {"step": self.step, "seconds": self.seconds, "history": self.history}
        facts |= {"cold": self.cold, "done": self.progress >= 1}
        _write(self.path, {k: v.detach().contiguous().clone() for k, v in tensors.items()}, facts)
        self.session.saved()
        self._saved = time.monotonic()

    def _load(self) -> None:
        tensors, facts = read_all(self.path)
        for prefix, module in (("network.", self.network), ("ema.", self.ema)):
            found = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
            found = found or {k.removeprefix("ema."): v for k, v in tensors.items() if k.startswith("ema.")}
            module.load_state_dict({k: v.float() for k, v in found.items()})
        self.step, self.seconds, self.history = facts["step"], facts["seconds"], facts["history"]
        moments: dict[int, dict[str, Tensor]] = {}
        for key, value in tensors.items():
            if key.startswith("moment."):
                _, index, name = key.split(".")
                moments.setdefault(int(index), {})[name] = value
        self.cold = facts.get("cold", 0) if moments else self.step
        state = self.optimizer.state_dict()
        self.optimizer.load_state_dict({"state": moments, "param_groups": state["param_groups"]})


def read_all(path: Path) -> tuple[dict[str, Tensor], dict]:
    """All tensors of a run, and its facts."""
    with safe_open(path, "pt") as file:
        return {key: file.get_tensor(key) for key in file.keys()}, json.loads(file.metadata()["run"])  # noqa: SIM118


def read(path: Path) -> tuple[dict[str, Tensor], dict]:
    """The averaged weights of a run, and its facts."""
    tensors, facts = read_all(path)
    return {k.removeprefix("ema."): v.float() for k, v in tensors.items() if k.startswith("ema.")}, facts


def amend(path: Path, average: dict[str, Tensor]) -> None:
    """Replace some tensors of a run's average."""
    tensors, facts = read_all(path)
    tensors |= {f"ema.{name}": tensor.detach().cpu().contiguous() for name, tensor in average.items()}
    _write(path, tensors, facts)


def _write(path: Path, tensors: dict[str, Tensor], facts: dict) -> None:
    part = path.with_suffix(".part")
    save_file(tensors, part, {"run": json.dumps(facts)})
    replace(part, path)
