"""The frame of a program that answers the doctor: facts into a file, whatever else it prints.

Its arguments are the file, the process id of whoever asks, and the question's own. What it raises
is told by the last line of its traceback. Once it has answered it ends at once: a library whose
clean-up hangs or crashes must not spoil the answer.
"""

import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from headrace.runtime.parent_death import die_with_parent


def answer_with(program: Callable[[Sequence[str]], dict[str, Any]]) -> NoReturn:
    """Run the program, write its facts, and end the process."""
    _, file, parent_pid, *arguments = sys.argv
    die_with_parent(int(parent_pid))
    facts = program(arguments)
    part = Path(file).with_suffix(".part")
    part.write_text(json.dumps(facts), encoding="utf-8")
    part.replace(file)
    os._exit(0)
