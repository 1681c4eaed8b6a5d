"""The state of a training run, on disk too: a run that was stopped goes on as if nothing had happened."""

from __future__ import annotations

import copy
import json
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

from captioner import distributed
from captioner.hub import replace_file
from captioner.model import CaptionModel
from captioner.training_config import TrainingConfig


class Progress:
    """The state of a run: the model in training, its average, the optimiser and counters, in one atomic file.

    What learns are the decoder and the encoder's last stage; the lower stages stay as they are. ``start``: the
    name of the model it goes on from, ``teachers`` of those it learns from. The counter ``seconds`` is the time an
    uninterrupted run would have taken.
    """

    FILE = "state.safetensors"
    MAY_CHANGE = ("checkpoint_seconds",)

    def __init__(
        self, averaged: CaptionModel, config: TrainingConfig, *, start: str | None = None, teachers: Sequence[str] = ()
    ):
        self.averaged, self.config = averaged.eval(), config
        self.settings = asdict(config) | asdict(averaged.config.decoder) | {"start": start, "teachers": [*teachers]}
        self.model = copy.deepcopy(averaged)
        groups = [
            {"params": list(parameters), "weight_decay": decay, "tuned": tuned}
            for module, tuned in ((self.model.decoder, False), (self.model.encoder.body.layer4, True))
            for decay, parameters in (
                (config.weight_decay, (p for p in module.parameters() if p.ndim > 1)),
                (0.0, (p for p in module.parameters() if p.ndim <= 1)),
            )
        ]
        self.optimizer = torch.optim.AdamW(groups, lr=config.learning_rate, betas=(0.9, 0.98), fused=True)
        self.counters = {"step": 0, "shown": 0.0, "photographs": 0, "best": -1.0, "seconds": 0.0}
        self._counted = time.monotonic()

    def update(self, loss: torch.Tensor, rate: float, *, age: int) -> None:
        """One step of the optimiser, and of the average behind it, which is ``age`` steps old."""
        for group in self.optimizer.param_groups:
            group["lr"] = rate * (self.config.tuned_rate / self.config.learning_rate if group["tuned"] else 1)
        learnt = _learnt(self.model)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        distributed.add_up([parameter.grad for parameter in learnt.values() if parameter.grad is not None])
        nn.utils.clip_grad_norm_(learnt.values(), self.config.clip)
        self.optimizer.step()
        self.counters["step"] += 1
        decay = min(self.config.averaging, (1 + age) / (10 + age))
        with torch.no_grad():
            torch._foreach_lerp_(list(_learnt(self.averaged).values()), list(learnt.values()), 1 - decay)

    def count_time(self) -> None:
        """Bring the counter of seconds up to now."""
        now = time.monotonic()
        self.counters["seconds"] += now - self._counted
        self._counted = now

    def save(self, folder: Path) -> None:
        self.count_time()
        tensors = {f"model.{name}": tensor for name, tensor in _learnt(self.model).items()}
        tensors |= {f"averaged.{name}": tensor for name, tensor in _learnt(self.averaged).items()}
        for index, moments in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{index}.{name}": tensor for name, tensor in moments.items()}
        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        metadata = {"counters": json.dumps(self.counters), "config": json.dumps(self.settings)}
        replace_file(folder / self.FILE, lambda path: save_file(tensors, path, metadata=metadata))

    @torch.no_grad()
    def load(self, folder: Path) -> None:
        """Continue from ``folder``. Raises ``ValueError`` where that run had other settings."""
        parts: dict[str, dict[str, torch.Tensor]] = {"model": {}, "averaged": {}, "optimizer": {}}
        with safe_open(folder / self.FILE, framework="pt") as file:
            metadata = file.metadata()
            for name in file.keys():  # noqa: SIM118, the file is no mapping
                part, rest = name.split(".", 1)
                parts[part][rest] = file.get_tensor(name)
        before, now = json.loads(metadata["config"]), self.settings
        changed = [name for name in now if before.get(name) != now[name] and name not in self.MAY_CHANGE]
        if changed:
            raise ValueError(f"The run to continue has other settings: {', '.join(changed)}. Give the same ones.")
        for part, model in (("model", self.model), ("averaged", self.averaged)):
            for name, parameter in _learnt(model).items():
                parameter.copy_(parts[part][name])
        state = self.optimizer.state_dict()
        own = [parameter for group in self.optimizer.param_groups for parameter in group["params"]]
        for name, tensor in parts["optimizer"].items():
            index, moment = name.split(".")
            # Moments lie in memory as their parameters do: the fused optimiser does not look.
            like = tensor if tensor.ndim == 0 else torch.empty_like(own[int(index)]).copy_(tensor)
            state["state"].setdefault(int(index), {})[moment] = like
        self.optimizer.load_state_dict(state)
        self.counters = json.loads(metadata["counters"])


def _learnt(model: CaptionModel) -> dict[str, nn.Parameter]:
    """The parameters that learn, by their names in the model."""
    own = ("decoder.", "encoder.body.layer4.")
    return {name: parameter for name, parameter in model.named_parameters() if name.startswith(own)}
