"""What does the plugin cost a pytest session that does not use it?

python benchmarks/plugin.py

Empty sessions in pairs, one with the plugin and one without, in turn first; processor time, which other work on the
machine changes least. The cost is the median of the differences.
"""

from __future__ import annotations

import resource
import statistics
import subprocess
import sys
import tempfile

PAIRS = 15
LIMIT = 20

_SESSION = ["-m", "pytest", "-q", "-p", "no:cacheprovider"]
_WITH = ["-p", "labkit.pytest_plugin"]  # the name of the entry point too: it is loaded once
_WITHOUT = ["-p", "no:labkit.pytest_plugin"]


def milliseconds(plugin: list[str], folder: str) -> float:
    """The processor time of one session."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, *_SESSION, *plugin], check=False, capture_output=True, cwd=folder)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime) * 1e3


def imports() -> float:
    """The processor time of the import alone; ``-X importtime`` does not see what pytest imports by name."""
    code = "import pytest, time; began = time.process_time(); import labkit.pytest_plugin"
    code += "; print(time.process_time() - began)"
    done = [subprocess.run([sys.executable, "-c", code], check=True, capture_output=True) for _ in range(PAIRS)]
    return statistics.median(float(each.stdout) for each in done) * 1e3


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        differences, bare = [], []
        milliseconds(_WITH, folder)
        for number in range(PAIRS):
            order = (_WITH, _WITHOUT) if number % 2 else (_WITHOUT, _WITH)
            took = {plugin[1]: milliseconds(plugin, folder) for plugin in order}
            bare.append(took[_WITHOUT[1]])
            differences.append(took[_WITH[1]] - took[_WITHOUT[1]])
        print(f"an empty session   {statistics.median(bare):6.0f} ms")
        print(f"the plugin adds    {statistics.median(differences):6.1f} ms   the limit is {LIMIT} ms")
        print(f"its imports alone  {imports():6.1f} ms")


if __name__ == "__main__":
    main()
