"""Behind the Makefile: one program for all targets. It needs nothing but Python and its library.

Old Pythons must get far enough to say what is wrong, so this file keeps to syntax that all of them
read, and imports the rest only when the version is right.
"""

import os
import subprocess
import sys

OLDEST = (3, 11)
NEWER = ("python3.14", "python3.13", "python3.12", "python3.11")


def too_old():
    """Runs under a newer Python when the machine has one and none was asked for; else says so."""
    if not os.environ.get("PYTHON"):
        for name in NEWER:
            test = [name, "-c", "import sys; sys.exit(sys.version_info < (3, 11))"]
            try:
                ended = subprocess.Popen(test, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
                ended.communicate()
            except OSError:
                continue
            if ended.returncode == 0:
                os.execvp(name, [name] + sys.argv)
    sys.stderr.write(
        "pplkit needs Python %d.%d or newer, and %s is Python %d.%d: install a newer one, or name"
        " it with PYTHON=/path/to/python.\n"
        % (OLDEST + (sys.executable,) + tuple(sys.version_info[:2]))
    )
    return 1


if __name__ == "__main__":
    if sys.version_info < OLDEST:
        sys.exit(too_old())
    sys.dont_write_bytecode = True
    sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    from tools import targets

    sys.exit(targets.main(sys.argv[1:]))
