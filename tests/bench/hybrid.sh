#!/usr/bin/env bash
# tests/bench/run hybrid [--set NAME] [--data DIR] [--rows N] [--seconds S] [--limit N]
# Dense search, text search (BM25 made in the server), and both fused in one request, against a hub of its own,
# started as deploy/quickstart does: requests per second, p50, p99, and the fused one against the two alone.
set -euo pipefail
cd "$(dirname "$0")/../.."

set=notes-384
data=${ORT_DATA_DIR:-$PWD/../shared/data}
more=()
while [ $# -ge 2 ]; do
    case $1 in
    --set) set=$2 ;;
    --data) data=$2 ;;
    --rows | --seconds | --limit) more+=("$1" "$2") ;;
    *)
        sed -n '2,4s/^# \{0,1\}//p' "$0" >&2
        exit 2
        ;;
    esac
    shift 2
done

run=$(mktemp -d)
export ORTHANT_RUN_DIR=$run ORTHANT_PORT=${ORTHANT_PORT:-16333} ORTHANT_ADMIN_PORT=${ORTHANT_ADMIN_PORT:-17333} \
    ORTHANT_HUB_PORT=${ORTHANT_HUB_PORT:-17400}
cleanup() {
    deploy/quickstart stop >/dev/null 2>&1 || true
    rm -rf "$run"
}
trap cleanup EXIT
deploy/quickstart start >"$run/start.log" 2>&1 || {
    cat "$run/start.log" >&2
    exit 1
}
# shellcheck source=/dev/null
. "$run/quickstart.env"
echo "# commit $(git rev-parse --short HEAD 2>/dev/null || echo unknown), $(nproc) cores, $(sed -n 's/^model name.*: //p' /proc/cpuinfo | head -1)"
# The limits of the default plan are not what is measured here.
build/release/bin/orthant quota set acme --max-requests-per-minute none --max-requests-per-minute-per-key none >/dev/null
sleep 1
build/release/bench/bench_hybrid --url "$ORTHANT_URL" --key "$ORTHANT_API_KEY" --set "$set" --data "$data" "${more[@]}"
