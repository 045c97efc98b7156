#!/usr/bin/env bash
# What tests/environments needs: a real conda, channels on this disk with an interpreter of this machine and the wheels of the
# pip locks, and an environment as an image has it. Three to four minutes, once; again only when one of them changed. Needs the package
# index of pip, no root.
#
#   tests/environments/install.sh [FOLDER]      default: $STEMPHONY_CONDA_RIG, else ~/.cache/stemphony/conda-rig
#
# The interpreter has the minor version of envs/simulation.yaml: $STEMPHONY_CONDA_PYTHON, else one on PATH or of pyenv.
# The folder's name must have no space: conda's own scripts do not quote it.
set -euo pipefail
cd "$(dirname "$0")/../.."
rig=${1:-${STEMPHONY_CONDA_RIG:-${XDG_CACHE_HOME:-$HOME/.cache}/stemphony/conda-rig}}
minor=$(sed -n 's/.*- python =//p' envs/simulation.yaml)

python=
for candidate in "${STEMPHONY_CONDA_PYTHON:-}" "python$minor" "${PYENV_ROOT:-$HOME/.pyenv}"/versions/"$minor".*/bin/"python$minor"; do
    if [ -n "$candidate" ] && "$candidate" -c "import sys; sys.exit('%d.%d' % sys.version_info[:2] != '$minor')" 2>/dev/null; then
        python=$candidate
        break
    fi
done
[ -n "$python" ] || {
    echo "conda rig: no Python $minor here, which envs/simulation.yaml names. Install one, or set STEMPHONY_CONDA_PYTHON." >&2
    exit 1
}

made_of=$({ "$python" -VV; cat tests/environments/{install.sh,channel.py,launcher.py,tools.txt,host.txt} envs/*.lock.txt envs/Dockerfile; } | sha256sum)
if [ "$(cat "$rig/made-of" 2>/dev/null)" = "$made_of" ]; then
    echo "conda rig: $rig is up to date"
    exit 0
fi
rm -rf "$rig"
mkdir -p "$rig"
say() { echo "conda rig: $* (after $SECONDS s)"; }

say "conda and the tools that make a channel"
"$python" -m venv "$rig/tool"
tool() { "$rig/tool/bin/python" -m "$@"; }
tool pip install -qq --disable-pip-version-check --require-hashes --no-deps -r tests/environments/tools.txt
{ echo "#!$rig/tool/bin/python"; cat tests/environments/launcher.py; } > "$rig/tool/bin/conda"
chmod +x "$rig/tool/bin/conda"
# A folder for PATH with nothing but `conda`: the tools' own `python` must not be found.
mkdir "$rig/tool/condabin"
ln -s ../bin/conda "$rig/tool/condabin/conda"
# conda's script of this name is not in the wheel; Snakemake sources it.
echo "eval \"\$('$rig/tool/bin/conda' shell.posix activate \"\$1\")\"" > "$rig/tool/bin/activate"

say "the wheels of the pip locks"
for name in controller simulation monitor; do
    tool pip download -qq --disable-pip-version-check --require-hashes --no-deps --find-links "$rig/wheels" \
        --dest "$rig/wheels" -r "envs/$name.lock.txt"
done
tool pip download -qq --disable-pip-version-check --require-hashes --no-deps --dest "$rig/wheels" \
    -r tests/environments/host.txt
tool pip wheel -qq --disable-pip-version-check --no-deps --wheel-dir "$rig/wheels" "$rig"/wheels/*.tar.gz

say "the channels"
PATH="$rig/tool/bin:$PATH" "$rig/tool/bin/python" tests/environments/channel.py "$rig/channels" "$python" "$rig"/wheels/*.whl

say "what the image has, by its own command, and the plugins for other schedulers"
"$python" -m venv "$rig/image"
PATH="$rig/image/bin:$PATH" PIP_QUIET=2 PIP_FIND_LINKS="$rig/wheels" sh -ec "$(sed -n 's/^RUN //p' envs/Dockerfile)"
"$rig/image/bin/python" -m pip install -qq --disable-pip-version-check --require-hashes -r envs/executors.lock.txt
"$rig/image/bin/python" -m pip check --disable-pip-version-check

version=$("$rig/tool/bin/conda" --version)
say "$version"
echo "$made_of" > "$rig/made-of"
