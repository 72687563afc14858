"""A blocking's digest follows every number of it, and nothing else."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest

from models.stage.blocking import Appearance, Blocking, LightTrack, Prop, StageSet, SubjectTrack


@pytest.fixture
def shot(staged, lamp, person, ball) -> Blocking:
    """Two frames with one of everything."""
    plain = staged(frames=2, lights=(lamp(frames=2),), subjects=(person(frames=2, hat=(0.1, 0.2, 0.3)),))
    return replace(plain, set=replace(plain.set, props=(ball(),)))


def changed(value):
    """The value with its least part changed a little."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, np.ndarray):
        other = np.array(value)
        other.flat[-1] += 1e-6
        return other
    if isinstance(value, (int, float)):
        return value + 1
    if isinstance(value, str):
        return value + "2"
    if isinstance(value, tuple):
        return (*value[:-1], changed(value[-1]))
    first = fields(value)[0].name
    return replace(value, **{first: changed(getattr(value, first))})


def with_inner(shot: Blocking, owner: type, name: str) -> Blocking:
    """The shot with one field of one of its parts changed."""

    def part(value):
        return replace(value, **{name: changed(getattr(value, name))})

    if owner is LightTrack:
        return replace(shot, lights=(part(shot.lights[0]),))
    if owner is SubjectTrack:
        return replace(shot, subjects=(part(shot.subjects[0]),))
    if owner is Appearance:
        track = shot.subjects[0]
        return replace(shot, subjects=(replace(track, appearance=part(track.appearance)),))
    if owner is StageSet:
        return replace(shot, set=part(shot.set))
    if owner is Prop:
        return replace(shot, set=replace(shot.set, props=(part(shot.set.props[0]),)))
    return part(shot)


INNER = [(o, f.name) for o in (Blocking, LightTrack, SubjectTrack, Appearance, StageSet, Prop) for f in fields(o)]


def test_the_digest_changes_with_every_field(shot):
    missed = [f"{o.__name__}.{name}" for o, name in INNER if with_inner(shot, o, name).digest() == shot.digest()]
    assert len(INNER) > 40 and not missed


def test_the_digest_does_not_depend_on_how_numbers_are_kept(shot):
    same = replace(shot, c2w=np.asfortranarray(shot.c2w), focal_mm=np.repeat(shot.focal_mm, 2)[::2])
    assert same.digest() == shot.digest() and len(shot.digest()) == 64


def test_what_is_absent_is_not_what_is_zero(shot):
    bare = with_hat(shot, None)
    assert bare.digest() != with_hat(shot, (0.0, 0.0, 0.0)).digest()
    assert replace(shot, subjects=()).digest() != shot.digest()
    assert replace(shot, lights=shot.lights * 2).digest() != shot.digest()


def with_hat(shot: Blocking, hat) -> Blocking:
    track = shot.subjects[0]
    return replace(shot, subjects=(replace(track, appearance=replace(track.appearance, hat=hat)),))


def test_frames_and_focal_length_in_pixels(staged):
    shot = staged(frames=3, focal_mm=[24.89, 49.78, 12.445], width=200)
    assert shot.frames == 3
    np.testing.assert_allclose(shot.focal_px, [200, 400, 100])
