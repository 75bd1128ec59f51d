#!/bin/sh
# Installs Chromium on Debian or Ubuntu, as root: tests/integration/test_foreign_page.py attacks the servers from a page.
set -eu
command -v chromium >/dev/null || command -v chromium-browser >/dev/null || {
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends chromium
}
