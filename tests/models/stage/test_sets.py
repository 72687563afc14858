"""Sets and people are drawn from a name and a seed: finite, within bounds, repeatable, and out of the actors' way."""

from __future__ import annotations

import math
from dataclasses import asdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.stage import appearance as cast
from models.stage import sets

SEEDS = range(60)


def numbers(value):
    """Every number of a nested record."""
    if isinstance(value, dict):
        value = tuple(value.values())
    if isinstance(value, (tuple, list)):
        return [n for item in value for n in numbers(item)]
    return [value] if isinstance(value, (int, float)) else []


def reach(prop) -> float:
    """How near a prop comes to the middle of the floor, in metres, over its footprint."""
    x, _, z = prop.center
    if prop.shape != "box":
        return math.hypot(x, z) - prop.size[0]
    yaw = math.radians(prop.yaw_deg)
    across, along = x * math.cos(yaw) - z * math.sin(yaw), x * math.sin(yaw) + z * math.cos(yaw)
    return math.hypot(max(abs(across) - prop.size[0], 0), max(abs(along) - prop.size[2], 0))


@pytest.mark.parametrize("name", sets.NAMES)
def test_sets_are_whole(name):
    for seed in SEEDS:
        place = sets.build(name, seed)
        assert place.name == name and place.props
        assert all(math.isfinite(n) for n in numbers(asdict(place)))
        assert place.tile_m > 0.1
        colors = [place.ground, place.ground_second, place.sky_top, place.sky_horizon]
        for prop in place.props:
            colors += [prop.color, prop.second]
            assert prop.shape in {"box", "ball", "column"} and prop.size[0] > 0 and prop.pattern_m >= 0
            assert prop.shape != "box" or min(prop.size) > 0
            assert prop.shape != "column" or prop.size[1] > prop.size[0]
            assert prop.center[1] > 0
        assert all(0 <= c <= 1 for color in colors for c in color)


@pytest.mark.parametrize("name", sets.NAMES)
def test_the_middle_of_the_floor_stays_clear(name):
    """A circle of 1.1 m in which two people can act is never built on."""
    for seed in SEEDS:
        for prop in sets.build(name, seed).props:
            assert reach(prop) > 1.1, (seed, prop)


@pytest.mark.parametrize("name", sets.NAMES)
def test_a_seed_is_a_set(name):
    assert sets.build(name, 7) == sets.build(name, 7)
    assert sets.build(name) == sets.build(name, 0)
    assert len({sets.build(name, seed) for seed in SEEDS}) == len(SEEDS)
    sets.build(name, -1), sets.build(name, 2**80)  # any integer is a seed


def test_an_unknown_set_is_named():
    with pytest.raises(ValueError, match="set 'moon' is not one of studio, street, room, field"):
        sets.build("moon")


@settings(max_examples=50, deadline=None)
@given(st.text(max_size=20))
def test_a_name_is_always_the_same_believable_person(name):
    look = cast.appearance(name)
    assert look == cast.appearance(name)
    assert 1.5 <= look.height_m <= 1.95 and 0.85 <= look.build <= 1.2
    colors = [look.skin, look.hair, look.top, look.bottom, look.shoes, look.hat or (0.5, 0.5, 0.5)]
    assert all(len(color) == 3 and all(0 < c <= 1 for c in color) for color in colors)


def test_people_are_pinned_to_their_names():
    """An actor must look the same in the next release: these numbers may not move."""
    anna = cast.appearance("anna")
    assert (round(anna.height_m, 6), anna.top, anna.long_hair) == (1.658196, (0.206, 0.1736, 0.1404), True)


def test_a_crowd_is_varied():
    crowd = [cast.appearance(f"extra {i}") for i in range(300)]
    assert len(set(crowd)) == 300 and len({look.skin for look in crowd}) == 5
    for share, low, high in (
        (lambda p: p.hat, 0.15, 0.35),
        (lambda p: p.long_hair, 0.35, 0.55),
        (lambda p: p.coat, 0.25, 0.45),
    ):
        assert low < np.mean([bool(share(look)) for look in crowd]) < high
