#!/usr/bin/env bash
# Sets a bare Linux machine with an NVIDIA GPU up and trains there from a packed dataset. Run again after a kill, a
# reboot or a lost connection, it goes on where it stopped; when the avatar is there it says so and does nothing.
#
#   scripts/pod.sh [--home DIR] [--config NAME] [--python PROGRAM] [--torch-index URL] [--dry-run] DATA [-- OPTIONS]
#
#   DATA           what `being data pack` wrote (me.being), or a dataset directory
#   --home DIR     where data/ and runs/ go, a volume that outlives the machine for instance (default: here)
#   --config NAME  training config (default: 64_dim_1_transformer, the model of record)
#   --python P     the Python to use, 3.10 to 3.13 (default: the first that is found)
#   --torch-index  where pip takes torch from, for a driver that is too old for torch's default build
#   --dry-run      look at the machine, print every command, run none of those that change anything
#   OPTIONS        for `being train`, for instance: -- --until-plateau --log wandb
#
# Nothing is compiled with nvcc. Triton, which comes with torch, wants a C compiler and Python's headers at first use:
# they are installed where this may be done (root, apt), else the command to do it is said.
# Exit codes are those of `being`: 0 done, 2 usage, 3 something this machine lacks, 130 interrupted, ...
set -euo pipefail

repo=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
home=$PWD config=64_dim_1_transformer python="" torch_index="" dry="" data=""
least_capability=8.0

fail() { echo "error: $2" >&2; exit "$1"; }
say() { echo "pod: $*" >&2; }
do_it() {
    echo "+ $(printf '%q ' "$@")" >&2
    if [ -z "$dry" ]; then "$@"; fi
}

while [ $# -gt 0 ]; do
    case $1 in
        --home|--config|--python|--torch-index)
            [ $# -ge 2 ] || fail 2 "$1 wants a value"
            name=${1#--}; printf -v "${name//-/_}" %s "$2"; shift 2 ;;
        --dry-run) dry=yes; shift ;;
        -h|--help) sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "${BASH_SOURCE[0]}"; exit 0 ;;
        --) shift; break ;;
        -*) fail 2 "unknown option $1. See --help" ;;
        *) [ -z "$data" ] || fail 2 "more than one dataset: $data, $1. Options of being train come after --"
           data=$1; shift ;;
    esac
done
[ -n "$data" ] || fail 2 "no dataset is named. Give what \`being data pack\` wrote: scripts/pod.sh me.being"
[ -e "$data" ] || fail 4 "$data does not exist"
case $home in /*) ;; *) home=$PWD/$home ;; esac
[ -n "$dry" ] || { mkdir -p "$home" 2>/dev/null && [ -w "$home" ]; } ||
    fail 1 "cannot write $home. Choose another place with --home"
venv=$home/.being-venv
stamp=$venv/.installed

# --- the machine -----------------------------------------------------------------------------------------------------

command -v nvidia-smi >/dev/null || fail 3 "there is no nvidia-smi: no NVIDIA driver. Rent a machine with a GPU, or start the container with its GPUs"
gpu=$(nvidia-smi --query-gpu=name,memory.total,driver_version,compute_cap --format=csv,noheader | head -n 1) ||
    fail 3 "nvidia-smi finds no GPU"
capability=${gpu##*, }
say "GPU $gpu"
[ "$(printf '%s\n' "$least_capability" "$capability" | sort -V | head -n 1)" = "$least_capability" ] ||
    fail 3 "the GPU has compute capability $capability, $least_capability (A100) or later is needed"

usable() { "$1" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null; }
if [ -z "$python" ]; then
    for candidate in python3 python3.12 python3.11 python3.13 python3.10; do
        if usable "$candidate"; then python=$candidate; break; fi
    done
    [ -n "$python" ] || fail 3 "there is no Python 3.10 to 3.13. Install one, or name it with --python"
fi
usable "$python" || fail 3 "$python is not Python 3.10 to 3.13"
python=$(command -v "$python")

packages=()
version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
"$python" -c 'import ensurepip, venv' 2>/dev/null || packages+=("python$version-venv")
"$python" -c 'import os, sysconfig; os.stat(os.path.join(sysconfig.get_paths()["include"], "Python.h"))' 2>/dev/null ||
    packages+=("python$version-dev")
command -v "${CC:-gcc}" >/dev/null || command -v clang >/dev/null || packages+=(gcc)
command -v "${CXX:-g++}" >/dev/null || command -v clang++ >/dev/null || packages+=(g++)
if [ ${#packages[@]} -gt 0 ]; then
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        do_it apt-get update -qq
        do_it env DEBIAN_FRONTEND=noninteractive apt-get install -qq --yes "${packages[@]}"
    else
        fail 3 "this machine lacks ${packages[*]}. Let its owner run: apt-get install ${packages[*]}"
    fi
fi

# --- the program -----------------------------------------------------------------------------------------------------

sees_gpu='import sys, torch
release = tuple(int(part) for part in torch.__version__.split("+")[0].split(".")[:2])
sys.exit(release < (2, 11) or not torch.cuda.is_available())'
if [ ! -e "$stamp" ] || [ "$repo/pyproject.toml" -nt "$stamp" ] || [ "$repo/constraints.txt" -nt "$stamp" ]; then
    own=(); constraints=$repo/constraints.txt
    whole='import sys; sys.exit(sys.prefix != sys.base_prefix)'  # a virtual environment lends its packages to none
    if [ -z "$torch_index" ] && "$python" -c "$whole" && "$python" -c "$sees_gpu" 2>/dev/null; then
        say "the torch of $python drives the GPU: it is used"
        own=(--system-site-packages)
    fi
    if [ ${#own[@]} -gt 0 ] || [ -n "$torch_index" ]; then
        constraints=$venv/constraints.txt
    fi
    [ -x "$venv/bin/python" ] || do_it "$python" -m venv ${own[@]+"${own[@]}"} "$venv"
    if [ "$constraints" != "$repo/constraints.txt" ] && [ -z "$dry" ]; then
        grep -v '^torch==' "$repo/constraints.txt" > "$constraints"
    fi
    pip=("$venv/bin/python" -m pip install --disable-pip-version-check --quiet)
    if [ -n "$torch_index" ]; then do_it "${pip[@]}" --index-url "$torch_index" "torch>=2.11"; fi
    say "installing (minutes: torch alone is some gigabytes)"
    do_it "${pip[@]}" --constraint "$constraints" --editable "${repo}[all]"
    do_it touch "$stamp"
fi
if [ -z "$dry" ]; then
    "$venv/bin/python" -c "$sees_gpu" || fail 3 "$("$venv/bin/python" -c 'import torch
print("torch", torch.__version__, "is built for CUDA", torch.version.cuda)' 2>&1 | tail -n 1) and cannot use this GPU through driver $(nvidia-smi --query-gpu=driver_version --format=csv,noheader | head -n 1). Take a newer driver, or a build of torch for an older CUDA: remove $venv and run again with --torch-index URL (the address that torch's own install page names for that CUDA)"
fi

# --- the work --------------------------------------------------------------------------------------------------------

export BEING_HOME=$home
if [ -d "$data" ]; then
    dataset=$(cd "$data" && pwd)
else
    name=$(basename "$data"); dataset=$home/data/${name%.*}
    [ -e "$dataset/dataset.json" ] || do_it "$venv/bin/being" data unpack "$data" --out "$dataset"
fi
finished='import sys
from pathlib import Path
from being.runs.run_directory import Run
dataset, pattern, home = Path(sys.argv[1]).resolve(), "*/*_" + Path(sys.argv[2]).stem, Path(sys.argv[3])
runs = [Run.open(path) for path in sorted((home / "runs").glob(pattern)) if (path / "run.json").is_file()]
print(*[run.path for run in runs if run.record.get("finished") and run.dataset == dataset][-1:])'
if [ -z "$dry" ]; then
    run=$("$venv/bin/python" -c "$finished" "$dataset" "$config" "$home")
    if [ -n "$run" ] && [[ " $* " != *" --fresh "* ]]; then
        say "trained already: $run (once more: -- --fresh)"
        exit 0
    fi
fi
say "sheets and videos of how it goes: $home/runs/NAME/TIME_$config/previews"
echo "+ $(printf '%q ' "$venv/bin/being" train "$dataset" --config "$config" "$@")" >&2
if [ -z "$dry" ]; then
    exec "$venv/bin/being" train "$dataset" --config "$config" "$@"  # so that SIGTERM reaches it: it saves and stops
fi
