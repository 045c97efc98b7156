#!/bin/sh
# Make .venv from the lock file: `make setup`. The name of the folder may have spaces.
set -eu
python="${PYTHON:-python3}"
command -v "$python" >/dev/null || { echo "setup: no $python here; install Python 3.11 or newer." >&2; exit 1; }
version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
    echo "setup: $python is version $version; 3.11 or newer is needed. Use: make PYTHON=/path/to/python3.12 …" >&2
    exit 1
}
"$python" -c 'import ensurepip, venv' 2>/dev/null || {
    echo "setup: this Python has no ensurepip. On Debian and Ubuntu install the package python$version-venv" >&2
    echo "       (as root: apt install python$version-venv), or use another Python: make PYTHON=…" >&2
    exit 1
}
rm -f .venv/installed
if ! .venv/bin/python -c 'import pip' 2>/dev/null; then
    rm -rf .venv
    echo "setup: making .venv with Python $version"
    "$python" -m venv .venv
fi
echo "setup: installing the packages of envs/development.lock.txt (about a minute)"
.venv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r envs/development.lock.txt
.venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --no-index --editable .
.venv/bin/python -m pip check --disable-pip-version-check
touch .venv/installed
