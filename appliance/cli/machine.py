"""The verbs doctor, serve and desk."""

from __future__ import annotations

import os
import sys
from argparse import Namespace
from typing import Any

from appliance.cli.page import facts, say, say_json
from models.errors import BadInput, RushesError


def doctor(args: Namespace) -> int:
    """Whether this machine can shoot: every check is run; exit code 1 when one fails."""
    from appliance.machine.probe import probe  # start-up
    from appliance.machine.report import machine_rows, remarks  # start-up
    from appliance.operations.doctor import examine, process_name  # start-up

    rates = _calibrate(args.json) if args.calibrate else None
    checks, machine = examine(), probe(thorough=True)
    notes = remarks(machine, process_name)
    if args.json:
        say_json(
            {
                "ok": all(check.ok for check in checks),
                "checks": checks,
                "machine": machine,
                "remarks": [{"about": name, "text": text} for name, text in notes],
            }
            | ({"rates": rates} if rates else {})
        )
    else:
        facts((("ok      " if check.ok else "FAILED  ") + check.name, check.found) for check in checks)
        say("", "this machine")
        facts((f"  {name}", text) for name, text in machine_rows(machine))
        if notes:
            say("", "what would make this machine faster")
            facts((f"  {name}", text) for name, text in notes)
        wrong = [check for check in checks if not check.ok]
        say("", *[f"{check.name}: {check.remedy}" for check in wrong] or ["This machine can shoot."])
    return 0 if all(check.ok for check in checks) else 1


def _calibrate(quiet: bool) -> dict[str, Any]:
    """Measures this machine and stores the rates; prints them unless `quiet`."""
    from appliance.library.library import Library  # start-up
    from appliance.library.machines import store_rates  # start-up
    from appliance.machine import calibrate  # start-up
    from appliance.processes import machine_name  # start-up

    with Library.open() as library:
        documents = calibrate.calibrate()
        store_rates(library, machine_name(), documents)
    if not quiet:
        facts(calibrate.rows(documents))
        say("", "Saved. Quotes for this machine now use these figures.", "")
    return documents


def serve(args: Namespace) -> int:
    """Run the daemon of this installation in this terminal."""
    from appliance.daemon import serve as daemon  # start-up

    daemon.serve(until_idle=args.until_idle)
    return 0


def desk(args: Namespace) -> int:
    """Open the desk in this terminal."""
    if not (sys.stdin.isatty() and sys.stdout.isatty() and sys.stderr.isatty()):
        raise RushesError("the desk needs a terminal on standard input, output and error: run it without a pipe")
    encoding = (sys.stderr.encoding or "").lower().replace("-", "")
    if encoding != "utf8":
        raise BadInput(
            f"this terminal's encoding is {sys.stderr.encoding}, but the desk needs UTF-8: try LC_ALL=C.UTF-8"
        )
    if (terminal := os.environ.get("TERM", "")) in ("", "dumb"):
        raise RushesError(
            f"the desk draws on the whole screen, which this terminal cannot (TERM={terminal or 'not set'}): set TERM "
            "to what it is, for example xterm-256color; `rushes takes` prints the list of takes as lines"
        )
    # Set before Textual is imported: its extended keyboard protocol loses text from Chinese input methods.
    os.environ.setdefault("TEXTUAL_DISABLE_KITTY_KEY", "1")
    # Run by name: appliance must not import tui, which imports appliance.
    import runpy

    runpy.run_module("tui", run_name="__main__")
    return 0
