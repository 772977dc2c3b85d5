"""A contender that answers from the length of a text, or does worse: what the harness is tested with."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence

import numpy as np

from contenders import Answer, Ready, Score, Setting, Task


def load(task: Task) -> Ready:
    """The variant says how it behaves."""
    if task.variant == "cannot load":
        raise ValueError("no such model\nand more that nobody needs")

    def ready(texts: Sequence[str], setting: Setting) -> Score:
        def score() -> Answer:
            if task.variant == "dies":
                os._exit(1)
            print("what a library says")  # goes to the log, not between the results
            time.sleep(setting["batch_size"] / 100)
            return Answer(np.array([[len(text) % 2, 1 - len(text) % 2] for text in texts], np.float32))

        return score

    return ready
