"""Objects of the start, in processes of their own: nothing unfreezes those of this one alone."""

import subprocess
import sys

_FREEZE = """
import gc
import weakref
from headrace.runtime.frozen_start import freeze_start

class Node:
    def __init__(self):
        self.me = self

gc.disable()
old, kept = weakref.ref(Node()), Node()
freeze_start()
frozen = gc.get_freeze_count()
young = weakref.ref(Node())
assert old() is None, "garbage of the start is kept"
assert frozen > 1000, "the start's objects are still looked at"
assert all(each is not kept for each in gc.get_objects()), "an object of the start is looked at"
assert young() is not None
gc.collect()
assert young() is None, "later cycles are kept"
assert gc.get_freeze_count() == frozen, "later objects are frozen"
"""
_SERVICE = """
import gc
from headrace.cli.service import main

code = main("worker", ["--model", "/nowhere/at/all"])
assert code == 1, code
assert gc.get_freeze_count() > 10_000, gc.get_freeze_count()
"""


def test_only_what_lives_is_frozen() -> None:
    """Garbage of the start goes, what lives is not looked at again, later cycles are collected."""
    subprocess.run([sys.executable, "-c", _FREEZE], check=True)


def test_services_freeze_their_start() -> None:
    """A service has frozen what it loaded before its loop runs."""
    subprocess.run([sys.executable, "-c", _SERVICE], check=True)
