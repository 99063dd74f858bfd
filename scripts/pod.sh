#!/usr/bin/env bash
# Set up a bare Linux machine with an NVIDIA GPU, and train on it from a packed dataset. After a kill, a reboot or a
# lost connection, run it again: it continues where it stopped. When the avatar exists, it says so and does nothing.
#
#   scripts/pod.sh [--home DIR] [--config NAME] [--python PROGRAM] [--torch-index URL] [--dry-run] DATA [-- OPTIONS]
#
#   DATA           the file that `being data pack` wrote (me.being), or a dataset directory
#   --home DIR     the folder of data/ and runs/, for instance on a volume that outlives the machine (default: here)
#   --config NAME  training config (default: 64_dim_1_transformer, the main model)
#   --python P     the Python to use, 3.10 to 3.13 (default: the first that is found)
#   --torch-index  the package index of torch, for a driver that is too old for torch's default build
#   --dry-run      inspect the machine and print every command; run none of those that change anything
#   OPTIONS        for `being train`, for instance: -- --until-plateau --log wandb
#
# Nothing is compiled with nvcc. Triton, which comes with torch, needs a C compiler and Python's headers at first use.
# The script installs them where it may (root, apt); elsewhere it prints the command.
# Exit codes are those of `being`: 0 done, 2 usage, 3 something is missing on this machine, 130 interrupted, ...
set -euo pipefail

repo=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
home=$PWD config=64_dim_1_transformer python="" torch_index="" dry="" data=""
least_capability=8.0

fail() { echo "error: $2" >&2; exit "$1"; }
info() { echo "pod: $*" >&2; }
# Print a command and run it, unless --dry-run is given.
run_command() {
    echo "+ $(printf '%q ' "$@")" >&2
    if [ -z "$dry" ]; then "$@"; fi
}

while [ $# -gt 0 ]; do
    case $1 in
        --home|--config|--python|--torch-index)
            [ $# -ge 2 ] || fail 2 "$1 needs a value"
            name=${1#--}; printf -v "${name//-/_}" %s "$2"; shift 2 ;;
        --dry-run) dry=yes; shift ;;
        -h|--help) sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "${BASH_SOURCE[0]}"; exit 0 ;;
        --) shift; break ;;
        -*) fail 2 "unknown option $1. See --help" ;;
        *) [ -z "$data" ] || fail 2 "more than one dataset: $data, $1. Options of being train come after --"
           data=$1; shift ;;
    esac
done
[ -n "$data" ] || fail 2 "no dataset is named. Give the file that \`being data pack\` wrote: scripts/pod.sh me.being"
[ -e "$data" ] || fail 4 "$data does not exist"
case $home in /*) ;; *) home=$PWD/$home ;; esac
[ -n "$dry" ] || { mkdir -p "$home" 2>/dev/null && [ -w "$home" ]; } ||
    fail 1 "cannot write $home. Choose another folder with --home"
venv=$home/.being-venv
stamp=$venv/.installed

# --- the machine -----------------------------------------------------------------------------------------------------

command -v nvidia-smi >/dev/null || fail 3 "nvidia-smi is missing: there is no NVIDIA driver. Rent a machine with a GPU, or start the container with its GPUs"
gpu=$(nvidia-smi --query-gpu=name,memory.total,driver_version,compute_cap --format=csv,noheader | head -n 1) ||
    fail 3 "nvidia-smi finds no GPU"
capability=${gpu##*, }
info "GPU $gpu"
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
        run_command apt-get update -qq
        run_command env DEBIAN_FRONTEND=noninteractive apt-get install -qq --yes "${packages[@]}"
    else
        fail 3 "this machine lacks ${packages[*]}. Let its owner run: apt-get install ${packages[*]}"
    fi
fi

# --- the program -----------------------------------------------------------------------------------------------------

torch_uses_gpu='import sys, torch
release = tuple(int(part) for part in torch.__version__.split("+")[0].split(".")[:2])
sys.exit(release < (2, 11) or not torch.cuda.is_available())'
if [ ! -e "$stamp" ] || [ "$repo/pyproject.toml" -nt "$stamp" ] || [ "$repo/constraints.txt" -nt "$stamp" ]; then
    own=(); constraints=$repo/constraints.txt
    # Only a base installation can share its packages with a new virtual environment.
    whole='import sys; sys.exit(sys.prefix != sys.base_prefix)'
    if [ -z "$torch_index" ] && "$python" -c "$whole" && "$python" -c "$torch_uses_gpu" 2>/dev/null; then
        info "using the torch of $python, which supports this GPU"
        own=(--system-site-packages)
    fi
    if [ ${#own[@]} -gt 0 ] || [ -n "$torch_index" ]; then
        constraints=$venv/constraints.txt
    fi
    [ -x "$venv/bin/python" ] || run_command "$python" -m venv ${own[@]+"${own[@]}"} "$venv"
    if [ "$constraints" != "$repo/constraints.txt" ] && [ -z "$dry" ]; then
        grep -v '^torch==' "$repo/constraints.txt" > "$constraints"
    fi
    pip=("$venv/bin/python" -m pip install --disable-pip-version-check --quiet)
    if [ -n "$torch_index" ]; then run_command "${pip[@]}" --index-url "$torch_index" "torch>=2.11"; fi
    info "installing (takes minutes: torch alone is some gigabytes)"
    run_command "${pip[@]}" --constraint "$constraints" --editable "${repo}[all]"
    run_command touch "$stamp"
fi
if [ -z "$dry" ]; then
    "$venv/bin/python" -c "$torch_uses_gpu" || {
        found=$("$venv/bin/python" -c 'import torch
print("torch", torch.__version__, "is built for CUDA", torch.version.cuda)' 2>&1 | tail -n 1)
        driver=$(nvidia-smi --query-gpu=driver_version --format=csv,noheader | head -n 1)
        fail 3 "$found and cannot use this GPU with driver $driver. Install a newer driver, or a build of torch for an older CUDA: remove $venv and run again with --torch-index URL (the address that torch's own install page gives for that CUDA)"
    }
fi

# --- the work --------------------------------------------------------------------------------------------------------

export BEING_HOME=$home
if [ -d "$data" ]; then
    dataset=$(cd "$data" && pwd)
else
    name=$(basename "$data"); dataset=$home/data/${name%.*}
    [ -e "$dataset/dataset.json" ] || run_command "$venv/bin/being" data unpack "$data" --out "$dataset"
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
        info "trained already: $run (to train again: -- --fresh)"
        exit 0
    fi
fi
info "preview images and videos: $home/runs/NAME/TIME_$config/previews"
echo "+ $(printf '%q ' "$venv/bin/being" train "$dataset" --config "$config" "$@")" >&2
if [ -z "$dry" ]; then
    # exec, so that SIGTERM reaches the training, which then saves its state and stops
    exec "$venv/bin/being" train "$dataset" --config "$config" "$@"
fi
