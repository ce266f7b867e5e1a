"""What the subcommands have in common: a command line that cannot be understood is told in a line, with exit status 2."""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["Wrong", "answer"]


class Wrong(Exception):
    """The command line cannot be understood."""


def answer(command: Callable[[list[str]], int], words: list[str]) -> int:
    """Run a command with its arguments, a list of str; return its exit status."""
    from .__main__ import _fail

    try:
        return command(list(words))
    except Wrong as wrong:
        return _fail(str(wrong))
