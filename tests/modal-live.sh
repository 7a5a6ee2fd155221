#!/usr/bin/env bash
# Runs the backend suite on a real Modal account: tests/modal-live.sh --yes [pytest's options].
#
# The account is the official client's (modal token new, or MODAL_TOKEN_ID and MODAL_TOKEN_SECRET).
# It costs money: some dozens of small sandboxes that live for minutes, and two images. They are
# ended as they go; `modal app list` shows the app "cellblock", and `cellblock doctor --backend
# modal` what was left.
set -euo pipefail
cd "$(dirname "$0")/.."
if [ "${1:-}" != --yes ]; then
    sed -n '2,8s/^# \{0,1\}//p' "$0"
    exit 2
fi
shift
[ -x .venv/bin/python ] || { echo "no .venv: tests/run.sh --install makes it" >&2; exit 2; }
export CELLBLOCK=${CELLBLOCK:-$PWD/build/cellblock}
CELLBLOCK_VARIANTS=modal-live,modal-live-ephemeral,modal-live-jupyter \
    exec .venv/bin/python -m pytest tests/backends "$@"
