"""Shared fixtures: a plain shot to vary (a white floor under a grey sky, one lamp, a camera at rest), and the files of
a small Wan.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from models.stage import optics
from models.stage.blocking import Appearance, Blocking, LightTrack, Prop, StageSet, SubjectTrack

GREY = (0.5, 0.5, 0.5)


@pytest.fixture(autouse=True)
def whole_floats(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a GPU, torch convolves float32 in TF32 unless told not to: tolerances for that would hide mistakes."""
    if request.node.get_closest_marker("gpu"):
        import torch

        monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)


@pytest.fixture
def staged() -> Callable[..., Blocking]:
    """Makes the plain shot; `eye`, `pan`, `tilt`, `roll` and `frames` besides the fields of a blocking."""

    def make(frames=1, eye=(0.0, 1.2, 4.0), pan=0.0, tilt=0.0, roll=0.0, focal_mm=35.0, **changes) -> Blocking:
        turn = np.broadcast_to(optics.rotation(pan, tilt, roll), (frames, 3, 3))
        place = np.broadcast_to(np.asarray(eye, dtype=float), (frames, 3))
        ground = StageSet("studio", GREY, GREY, 0.0, (0.2, 0.3, 0.5), (0.6, 0.6, 0.6))
        plain = Blocking(
            fps=16.0,
            width=64,
            height=48,
            c2w=np.concatenate([turn, place[:, :, None]], 2),
            focal_mm=np.broadcast_to(np.asarray(focal_mm, dtype=float), (frames,)),
            sensor_w_mm=24.89,
            focus_m=np.full(frames, 4.0),
            t_stop=22.0,
            lights=(),
            ambient=np.zeros((frames, 3)),
            exposure_ev=np.zeros(frames),
            subjects=(),
            set=ground,
        )
        return replace(plain, **changes)

    return make


@pytest.fixture
def lamp() -> Callable[..., LightTrack]:
    """Makes a lamp: azimuth 0 is from +Z (where the plain camera stands), positive towards +X, its right."""

    def make(az_deg=0.0, el_deg=30.0, rgb=(0.5, 0.5, 0.5), size_deg=1.0, name="key", frames=1) -> LightTrack:
        az, el = np.radians(az_deg), np.radians(el_deg)
        toward = np.array([np.sin(az) * np.cos(el), np.sin(el), np.cos(az) * np.cos(el)])
        return LightTrack(
            name, np.tile(toward, (frames, 1)), np.tile(np.asarray(rgb, dtype=float), (frames, 1)), size_deg
        )

    return make


@pytest.fixture
def person() -> Callable[..., SubjectTrack]:
    """Makes somebody who stands still on the floor."""

    def make(at=(0.0, 0.0, 0.0), heading_deg=0.0, stride=0.0, gait=0.0, pose="stand", frames=1, **look) -> SubjectTrack:
        plain = Appearance(
            1.75, 1.0, (0.5, 0.3, 0.2), (0.05, 0.03, 0.02), (0.4, 0.1, 0.1), (0.1, 0.1, 0.3), (0.05,) * 3
        )
        still = np.ones(frames)
        return SubjectTrack(
            "anna", replace(plain, **look), np.tile(np.asarray(at, dtype=float), (frames, 1)),
            heading_deg * still, stride * still, gait * still, pose,
        )  # fmt: skip

    return make


@pytest.fixture
def ball() -> Callable[..., Prop]:
    """Makes a plain grey ball."""

    def make(center=(0.0, 1.2, 0.0), radius=0.8, color=GREY) -> Prop:
        return Prop("ball", center, (radius, 0.0, 0.0), 0.0, color, color)

    return make


@pytest.fixture
def box() -> Callable[..., Prop]:
    """Makes a plain grey box."""

    def make(center, half, yaw_deg=0.0, color=GREY) -> Prop:
        return Prop("box", center, half, yaw_deg, color, color)

    return make


def drawn(network, seed: int) -> dict:
    """Random weights of a network, different in every tensor, as large as trained ones."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    state = {}
    for name, tensor in network.state_dict().items():
        x = torch.randn(tensor.shape, generator=generator)
        state[name] = x * 0.3 if tensor.dim() < 2 else x / max(1, tensor[0].numel()) ** 0.5
    return state


@pytest.fixture(scope="session")
def states() -> dict[str, dict]:
    """A small Wan: its transformer, a second expert, its text encoder and its autoencoder."""
    from models.card import WAN_14B, TextCard
    from models.dit.wan import Transformer
    from models.encoders.umt5 import TextEncoder
    from models.vae.wan import KINDS, WanVAE

    card = replace(WAN_14B, dim=256, ffn=512, heads=2, layers=2, text_dim=64)
    return {
        "transformer": drawn(Transformer(card), 1), "expert": drawn(Transformer(card), 2),
        "text": drawn(TextEncoder(TextCard("umt5", words=800, dim=64, ffn=128, heads=4, layers=2)), 3),
        "vae": drawn(WanVAE(replace(KINDS["wan2.1"], encoder_width=8, decoder_width=8)), 4),
    }  # fmt: skip


class House:
    """A folder with the files of a model, and the folder that packages go to."""

    def __init__(self, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.disk, self.models, self._capsys = home / "disk", home / "models", capsys
        self.disk.mkdir()

    def write(self, state: dict, name: str = "dit.safetensors") -> Path:
        """Write a file of the model."""
        from safetensors.torch import save_file

        save_file(state, self.disk / name)
        return self.disk / name

    def run(self, *arguments: object) -> tuple[int, list[dict]]:
        """One import: its exit code and its events."""
        from models.importing.__main__ import main

        code = main([str(self.models), *map(str, arguments)])
        return code, [json.loads(line) for line in self._capsys.readouterr().out.splitlines()]

    def refused(self, *arguments: object) -> str:
        """One import that is refused: the message, without the folder's path."""
        code, events = self.run(*arguments)
        assert code in (1, 2) and events[-1]["event"] == "error" and not list(self.models.glob("*.safetensors"))
        assert "\n" not in events[-1]["text"]
        return events[-1]["text"].replace(f"{self.disk}/", "")


@pytest.fixture
def house(tmp_path: Path, states, spiece, capsys) -> House:
    """The files of a model without the transformer, and a way to import."""
    house = House(tmp_path, capsys)
    house.write(states["text"], "umt5.safetensors")
    house.write(states["vae"], "vae.safetensors")
    (house.disk / "spiece.model").write_bytes(spiece())
    return house


@pytest.fixture(scope="session")
def telling() -> Callable:
    """Random weights for a network of Wan under which every mistake shows, none lost in rounding or hidden by a 0."""
    import torch

    @torch.no_grad()
    def draw(network, seed: int = 0):
        generator = torch.Generator().manual_seed(seed)
        for name, weight in network.named_parameters():
            noise = torch.randn(weight.shape, generator=generator)
            if name.endswith(("norm_q.weight", "norm_k.weight", "norm_k_img.weight")):
                weight.copy_(2 + 0.5 * noise)
            elif name.endswith(("norm3.weight", "proj.0.weight", "proj.4.weight")):
                weight.copy_(1 + 0.3 * noise)
            elif weight.dim() in (2, 4, 5):
                weight.copy_(noise / weight[0].numel() ** 0.5)
            else:
                weight.copy_(0.3 * noise)
        return network.eval()

    return draw
