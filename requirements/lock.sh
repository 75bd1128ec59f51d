#!/usr/bin/env bash
# Rewrites the lock files from pyproject.toml. Needs uv (pip install uv).
# Releases younger than the cut-off are left out, so that a withdrawn or tampered release has time to be noticed.
set -euo pipefail
cd "$(dirname "$0")/.."
cutoff=${CUTOFF:-2026-10-20}
plain=(--generate-hashes --exclude-newer "$cutoff" --no-annotate --no-header --quiet)
common=(--universal --python-version 3.11 "${plain[@]}")
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
PY
# The images hold the same releases, without what only tests and linters need.
uv pip compile pyproject.toml --extra train --extra workflow --extra serve --extra s3 --extra mlflow-server \
  --constraint requirements/all.lock "${common[@]}" -o requirements/image.lock
python3 - <<'PY'
import pathlib, re
folder = pathlib.Path("requirements")
head = "# Written by requirements/lock.sh; do not edit.\n"
names = {line.split("==")[0] for line in (folder / "torch.lock").read_text().splitlines() if "==" in line}
blocks = re.split(r"(?m)^(?=[A-Za-z0-9])", (folder / "image.lock").read_text())
(folder / "image.lock").write_text(head + "".join(b for b in blocks if b.strip() and b.split("==")[0] not in names))
# Triton's python backend returns empty tensors with numpy 2: numpy alone differs in its image.
blocks = re.split(r"(?m)^(?=[A-Za-z0-9])", (folder / "all.lock").read_text())
(folder / "all.lock").write_text("".join(b for b in blocks if not b.startswith("numpy==")))
PY
uv pip compile requirements/triton-image.in --constraint requirements/all.lock "${plain[@]}" \
  --python-version 3.12 --python-platform x86_64-unknown-linux-gnu -o requirements/triton-image.lock
rm requirements/all.lock
uv pip compile requirements/triton.in --no-deps "${common[@]}" -o requirements/triton.lock
uv pip compile requirements/build.in "${common[@]}" -o requirements/build.lock
