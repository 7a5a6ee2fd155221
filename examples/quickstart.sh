#!/bin/sh
# From a fresh Debian 12 to a sandbox that has analysed a file: installs what is needed (as root, or
# with sudo), builds, and has a conversation with the server like an agent's host would.
set -eu
cd "$(dirname "$0")/.."

# To build: a C compiler, meson, protoc-c and libraries. To run: bubblewrap and python3. For the
# conversation: pandas, matplotlib and its sample data (the CSV), IPython for magics.
packages="gcc libc6-dev pkg-config meson ninja-build libjansson-dev libuv1-dev libseccomp-dev
    libmd-dev libcurl4-openssl-dev libssl-dev libwebsockets-dev libwebsockets-evlib-uv libarchive-dev libnghttp2-dev
    libprotobuf-c-dev protobuf-c-compiler bubblewrap python3 python3-ipython python3-pandas python3-matplotlib
    python-matplotlib-data"

as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    elif command -v sudo >/dev/null; then
        sudo "$@"
    else
        echo "quickstart: root or sudo is needed for: $*" >&2
        exit 1
    fi
}

missing=""
for package in $packages; do
    if ! dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null | grep -qx installed; then
        missing="$missing $package"
    fi
done
if [ -n "$missing" ]; then
    echo "== Installing$missing"
    as_root apt-get update -q
    as_root env DEBIAN_FRONTEND=noninteractive \
        apt-get install -y -q --no-install-recommends $missing
fi

echo "== Building"
[ -f build/build.ninja ] || meson setup build
meson compile -C build cellblock:executable

echo "== What works here"
./build/cellblock doctor

echo "== A conversation"
csv=$(dpkg -L python-matplotlib-data | grep '/percent_bachelors_degrees_women_usa\.csv$')
/usr/bin/python3 examples/conversation.py --server build/cellblock --out examples/out "$csv"
