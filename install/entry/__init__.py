"""Entry point of the wheel: puts the folder of its four packages on sys.path, then runs the command line."""

import sys
from importlib.util import find_spec
from pathlib import Path


def main() -> int:
    """Run `rushes` as installed. Exit codes: 0 done, 1 failed, 2 bad input, 130 interrupted."""
    spec = find_spec(f"{__name__}.appliance")
    if spec is None or not spec.submodule_search_locations:
        print("rushes: this installation has no appliance package; install it again", file=sys.stderr)
        return 1
    home = str(Path(next(iter(spec.submodule_search_locations))).parent)
    if home not in sys.path:
        sys.path.insert(0, home)
    from appliance.cli.main import main as run

    return run()
