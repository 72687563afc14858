"""Errors for people: one line that names what is wrong, the value, what is allowed and the way out."""

from __future__ import annotations


class RushesError(Exception):
    """Something failed that the operator can understand; its text is the whole message. Exit code 1."""

    exit_code = 1


class BadInput(RushesError):
    """What was asked cannot be done as written: a wrong value, a missing file, damaged weights. Exit code 2."""

    exit_code = 2
