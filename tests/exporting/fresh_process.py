"""Python in a process of its own, in which some packages cannot be imported."""

import json
import os
import subprocess
import sys

BLOCK = """
import importlib.abc, json, sys
class Blocked(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name.partition(".")[0] in {blocked!r}:
            raise ImportError(f"{{name}} is not to be had here")
sys.meta_path.insert(0, Blocked())
"""


def answer_of(program: str, *words: str, without: tuple[str, ...] = (), cwd=None, **variables):
    """What a program prints in its last line, as JSON. It sees nothing of the folder that it is
    started in (`python -I`), and not the packages `without`.
    """
    text = BLOCK.format(blocked=set(without)) + program
    command = [sys.executable, "-I", "-W", "ignore", "-c", text, *words]
    result = subprocess.run(
        command, capture_output=True, text=True, cwd=cwd, env=os.environ | variables
    )
    assert result.returncode == 0, result.stderr[-3000:]
    return json.loads(result.stdout.splitlines()[-1])
