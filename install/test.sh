#!/usr/bin/env bash
# Installs the dev extra into a virtual environment and runs lint, types and tests. Arguments go to pytest.
set -euo pipefail
# shellcheck source=install/common.sh
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

choose_folders
install_rushes "[dev]"
cd "$repo"

say "Lint"
"$venv/bin/python" -m ruff check .
"$venv/bin/python" -m ruff format --check .
say "Types"
"$venv/bin/python" -m mypy
say "Tests"
exec "$venv/bin/python" -m pytest -q "$@"
