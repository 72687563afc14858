# Shared by try.sh and test.sh: finds a Python, makes a virtual environment, installs Rushes into it once.
# Sourced, not run. Sets: repo (the folder of the code), venv (its virtual environment).

# A studio's settings for its own Python and pip must not reach this installation: PYTHONPATH puts other packages before
# ours, PIP_USER or PIP_TARGET install beside the virtual environment. Where packages come from stays theirs.
unset PYTHONPATH PYTHONHOME PYTHONUSERBASE PYTHONPLATLIBDIR PIP_USER PIP_TARGET PIP_PREFIX PIP_ROOT PIP_PYTHON \
    PIP_NO_DEPS PIP_DRY_RUN PIP_REQUIREMENT PIP_EDITABLE PIP_ONLY_BINARY PIP_NO_BINARY PIP_REQUIRE_HASHES

say() {
    if [ -t 1 ] && [ -z "${NO_COLOR:-}" ]; then printf '\033[1m==>\033[0m %s\n' "$*"; else printf '==> %s\n' "$*"; fi
}
die() { printf '%s: %s\n' "$(basename "$0")" "$*" >&2; exit 1; }

# The first Python that is 3.11 or newer and has venv and pip.
find_python() {
    local candidate
    for candidate in ${RUSHES_PYTHON:+"$RUSHES_PYTHON"} python3 python3.12 python3.11 python3.13; do
        if "$candidate" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then
            command -v "$candidate"
            return
        fi
    done
    local found="none"
    if command -v python3 >/dev/null; then found="$(python3 --version 2>&1 | head -n 1)"; fi
    die "needs Python 3.11 or newer with venv and pip, found $found; install it (Debian, Ubuntu: python3 python3-venv)" \
        "or name one: RUSHES_PYTHON=/path/to/python $0"
}

# A cache folder outside the clone, also where HOME is empty or not set.
cache_folder() {
    local base="${XDG_CACHE_HOME:-}"
    [ -n "$base" ] || { [ -n "${HOME:-}" ] && [ -d "${HOME:-}" ] && [ -w "${HOME:-}" ] && base="$HOME/.cache"; }
    [ -n "$base" ] || base="${TMPDIR:-/var/tmp}/rushes-$(id -u)"
    printf '%s/rushes' "$base"
}

# Installing writes files into the tree, so a read-only clone is copied first.
choose_folders() {
    local script_folder
    script_folder="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)"
    repo="$(dirname "$script_folder")"
    if [ ! -w "$repo" ]; then
        local copy
        copy="$(cache_folder)/clone"
        say "This clone is read-only; using a copy of it in $copy"
        mkdir -p "$copy"
        (cd "$repo" && tar -cf - --exclude=.git --exclude=.venv .) | (cd "$copy" && tar -xf -)
        chmod -R u+w "$copy"
        repo="$copy"
    fi
    venv="${RUSHES_VENV:-$repo/.venv}"
}

# install_rushes EXTRA: "" or "[dev]". A stamp file makes the second run skip pip.
install_rushes() {
    local extra="$1" python stamp want
    stamp="$venv/.rushes-installed${extra:+-dev}"
    if [ -x "$venv/bin/python" ] && "$venv/bin/python" -c '' 2>/dev/null; then
        want="$(fingerprint "$venv/bin/python")"
        # The dev installation includes the plain one.
        if grep -qsx "$want" "$stamp" "$venv/.rushes-installed-dev"; then
            say "Already installed in $venv"
            return
        fi
    else
        python="$(find_python)"
        say "Making a virtual environment in $venv with $("$python" --version 2>&1)"
        "$python" -m venv --clear "$venv" || die "could not make $venv; check that there is free space and that you may write there"
        want="$(fingerprint "$venv/bin/python")"
    fi
    rm -f "$stamp"
    say "Installing Rushes and what it needs (a few minutes, once; PyTorch is large)"
    "$venv/bin/python" -m pip install --no-user --disable-pip-version-check --no-input -e "$repo$extra" ||
        die "pip could not install; its message is above. Run this script again to continue."
    printf '%s\n' "$want" >"$stamp"
}

# What an installation depends on: the project file, the folder of the code, the Python.
fingerprint() {
    "$1" - "$repo" <<'PY'
import hashlib, pathlib, sys
repo = sys.argv[1]
text = pathlib.Path(repo, "pyproject.toml").read_bytes() + repo.encode() + sys.version.encode()
print(hashlib.sha256(text).hexdigest())
PY
}
