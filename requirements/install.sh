#!/usr/bin/env bash
# Makes .venv from the lock files. Called by make; prints what it downloads before it does.
#   PYTHON               the Python to use (3.11 or later)
#   RUSHES_TORCH_INDEX   another wheel index for torch and torchvision, e.g. one of CPU-only builds
set -euo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-python3}
complain() { printf 'rushes: %s\n' "$1" >&2; exit 2; }

command -v "$python" >/dev/null || complain "PYTHON: '$python' is not found: install Python 3.11 or later"
version=$("$python" --version 2>/dev/null) || complain "PYTHON: '$python' does not run: install Python 3.11 or later"
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
  complain "PYTHON: $version is too old: 3.11 or later is needed (make demo PYTHON=python3.12)"
"$python" -c 'import ensurepip, venv' 2>/dev/null ||
  complain "PYTHON: $version cannot make virtual environments: install your system's venv package"

if [ -n "${RUSHES_TORCH_INDEX:-}" ]; then torch="torch from the index you gave"; else
  torch="2.9 GB of torch with CUDA (RUSHES_TORCH_INDEX=URL takes a CPU-only build from another index)"; fi
cat <<TEXT
Rushes: setting up, once. This downloads
  $torch,
  0.3 GB of other Python packages into .venv, and
  0.1 GB for Triton's own environment into your cache folder.
On disk: about 7 GB. Time: 3 to 10 minutes on a fast connection; then the demo takes about 5 minutes.
TEXT

pip() { .venv/bin/python -m pip --disable-pip-version-check --no-input "$@"; }
rm -f .venv/installed
[ -x .venv/bin/python ] || "$python" -m venv .venv
if [ -n "${RUSHES_TORCH_INDEX:-}" ]; then
  # Another build has other hashes: the version is the locked one, the files are the index's.
  mapfile -t pins < <(grep -oE '^(torch|torchvision)==[^ ;]+' requirements/torch.lock)
  pip install --quiet --no-deps --index-url "$RUSHES_TORCH_INDEX" "${pins[@]}" || complain "RUSHES_TORCH_INDEX: ${pins[*]} cannot be installed from it"
else
  pip install --quiet --progress-bar on --require-hashes --no-deps -r requirements/torch.lock
fi
pip install --quiet --progress-bar on --require-hashes --no-deps -r requirements/rushes.lock
pip install --quiet --no-deps --no-build-isolation --editable .
touch .venv/installed
echo "Installed."
