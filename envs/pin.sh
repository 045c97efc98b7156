#!/bin/sh
# Write envs/NAME.PLATFORM.pin.txt: the exact builds, each with its checksum, that conda chooses for envs/NAME.yaml
# today. If such a file exists, Snakemake uses it and does not solve the yaml. So all users of the file get the same
# bytes.
#
#   sh envs/pin.sh [NAME…]          default: controller simulation monitor
#
# The script needs conda 24.7 or newer with access to conda-forge and bioconda. Run it on the platform that the file is
# for. It makes each environment in a temporary folder (some hundred MB), and then removes it.
set -eu
cd "$(dirname "$0")"
command -v conda >/dev/null || { echo "pin: there is no conda on PATH; activate it first." >&2; exit 1; }
[ $# -gt 0 ] || set -- controller simulation monitor
for name; do
    [ -f "$name.yaml" ] || { echo "pin: there is no envs/$name.yaml; name controller, simulation or monitor." >&2; exit 1; }
done
platform=$(conda info | sed -n 's/^ *platform : *//p')
[ -n "$platform" ] || { echo "pin: 'conda info' names no platform; is conda 24.7 or newer?" >&2; exit 1; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
for name; do
    echo "pin: solving $name.yaml for $platform"
    if ! conda env create --quiet --file "$name.yaml" --prefix "$work/$name" >"$work/log" 2>&1; then
        cat "$work/log" >&2
        echo "pin: conda cannot make $name.yaml (above). No pin file was changed for it; see docs/environments.md." >&2
        exit 1
    fi
    conda list --explicit --md5 --prefix "$work/$name" >"$work/pin"
    mv "$work/pin" "$name.$platform.pin.txt"
    echo "pin: envs/$name.$platform.pin.txt has $(grep -c '^http' "$name.$platform.pin.txt") packages"
done
