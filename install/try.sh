#!/usr/bin/env bash
# Installs Rushes into a virtual environment, shoots the example with the shipped model, and prints where the take is.
# Needs Python 3.11 or newer with venv and pip; no root, no GPU. Safe to run again: it then starts in seconds.
set -euo pipefail
# shellcheck source=install/common.sh
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

choose_folders
install_rushes ""
if [ -z "${HOME:-}" ] && [ -z "${RUSHES_HOME:-}" ] && [ -z "${XDG_DATA_HOME:-}" ]; then
    RUSHES_HOME="$(cache_folder)/home"
    export RUSHES_HOME
fi

shot="$repo/appliance/examples/mara_crosses.toml"
say "Shooting $shot"
"$venv/bin/rushes" shoot "$shot"

cat <<TEXT

What to do next
  the desk               $venv/bin/rushes desk
  all takes              $venv/bin/rushes takes
  retake with a new seed $venv/bin/rushes retake 12C
  your own shot          $venv/bin/rushes example mara_crosses --out my_shot.toml, edit it, then
                         $venv/bin/rushes quote my_shot.toml     what it will cost
                         $venv/bin/rushes preview my_shot.toml   the blocking, at once
                         $venv/bin/rushes shoot my_shot.toml
  the tests              $repo/install/test.sh
TEXT
