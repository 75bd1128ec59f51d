#!/usr/bin/env bash
# Rewrites the lock files from pyproject.toml. Needs uv (pip install uv).
# Releases younger than the cut-off are left out, so that a withdrawn or tampered release has time to be noticed.
set -euo pipefail
cd "$(dirname "$0")/.."
cutoff=${CUTOFF:-2026-10-20}
common=(--universal --python-version 3.11 --generate-hashes --exclude-newer "$cutoff" --no-annotate --no-header --quiet)
uv pip compile pyproject.toml --all-extras "${common[@]}" -o requirements/all.lock
# torch, torchvision and the CUDA libraries stand apart: RUSHES_TORCH_INDEX may replace them by a CPU-only build.
python3 - <<'PY'
import pathlib, re
folder = pathlib.Path("requirements")
blocks = re.split(r"(?m)^(?=[A-Za-z0-9])", (folder / "all.lock").read_text())
cuda = re.compile(r"(torch|torchvision|triton|cuda-[a-z-]+|nvidia-[a-z0-9-]+)==")
head = "# Written by requirements/lock.sh; do not edit.\n"
(folder / "torch.lock").write_text(head + "".join(b for b in blocks if cuda.match(b)))
(folder / "rushes.lock").write_text(head + "".join(b for b in blocks if b.strip() and not cuda.match(b)))
(folder / "all.lock").unlink()
PY
uv pip compile requirements/triton.in --no-deps "${common[@]}" -o requirements/triton.lock
