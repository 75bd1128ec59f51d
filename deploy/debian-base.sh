#!/usr/bin/env bash
# Makes the images' base from Debian's packages alone, where no image registry can be reached, and gives it to Docker:
#   sudo deploy/debian-base.sh rushes-base:bookworm && make image BASE=rushes-base:bookworm
# Needs root, debootstrap and a Docker engine. DEBIAN_MIRROR names a mirror; by default it is the one that apt uses here.
# The certificates that this machine trusts beside Debian's (a company's proxy) are trusted in the base too.
set -euo pipefail
name=${1:?usage: deploy/debian-base.sh NAME:TAG}
command -v debootstrap >/dev/null || { echo "debootstrap is absent: apt-get install debootstrap" >&2; exit 2; }
docker version >/dev/null || { echo "no Docker engine answers: start dockerd" >&2; exit 2; }
mirror=${DEBIAN_MIRROR:-$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' | head -1)}

root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
debootstrap --variant=minbase --include=ca-certificates,git,python3,python3-pip,python3-venv bookworm "$root" "$mirror"
find /usr/local/share/ca-certificates -name '*.crt' -exec cp {} "$root"/usr/local/share/ca-certificates/ \;
chroot "$root" update-ca-certificates
rm -rf "$root"/var/cache/apt/* "$root"/var/lib/apt/lists/* "$root"/usr/share/doc/* "$root"/usr/share/man/*
tar --directory "$root" --numeric-owner --create . |
  docker import --change 'ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin' - "$name"
