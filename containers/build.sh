#!/usr/bin/env bash
# Builds and runs the image of the Dockerfile without a Docker daemon, as root on Debian or Ubuntu:
#   apt-get install --no-install-recommends debootstrap buildah && containers/build.sh [FLAGS OF buildah build]
# The base is made from Debian's packages; with BASE=docker.io/library/python:3.11-slim it is pulled instead. Storage is plain folders (vfs)
# and isolation is chroot, so neither overlayfs, nor user namespaces, nor a container runtime is needed. What remains is
# build/unveil.oci.tar, for `apptainer build unveil.sif Singularity.def` and `podman load`.
set -euo pipefail
cd "$(dirname "$0")/.."

BASE=${BASE:-}
SUITE=${SUITE:-bookworm}
MIRROR=${MIRROR:-http://deb.debian.org/debian}
PLACE=${PLACE:-build/containers}
mkdir -p "$PLACE"
PLACE=$(cd "$PLACE" && pwd)

need() {
    command -v "$1" >/dev/null || { echo "containers/build.sh: $1 is missing: apt-get install --no-install-recommends $1" >&2; exit 2; }
}
need buildah
export BUILDAH_ISOLATION=chroot
box() { buildah --storage-driver vfs --root "$PLACE/storage" --runroot "$PLACE/run" "$@"; }

if [ -z "$BASE" ]; then
    BASE=localhost/unveil-base:$SUITE
    if ! box inspect --type image "$BASE" >/dev/null 2>&1; then
        need debootstrap
        rm -rf "$PLACE/base"
        debootstrap --variant=minbase --include=python3,python3-venv,ca-certificates "$SUITE" "$PLACE/base" "$MIRROR"
        rm -rf "$PLACE"/base/var/cache/apt/archives/*.deb
        container=$(box from scratch)
        box add -q "$container" "$PLACE/base" /
        box commit -q --rm "$container" "$BASE"
        rm -rf "$PLACE/base"
    fi
fi

box build --build-arg BASE="$BASE" "$@" -t localhost/unveil:latest .
container=$(box from localhost/unveil:latest)
trap 'box rm "$container" >/dev/null' EXIT
box run "$container" -- unveil doctor
box run "$container" -- unveil sample maze --start 1,1 --goal 7,9 --out plan.png
rm -f build/unveil.oci.tar
box push -q localhost/unveil:latest oci-archive:build/unveil.oci.tar:unveil
echo "built, ran and wrote build/unveil.oci.tar"
