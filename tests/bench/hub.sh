#!/usr/bin/env bash
# tests/bench/run hub [--set NAME] [--data DIR] [--seconds S] [--rounds N] [--nodes N] [--tenants N]
# A whole hub, started as deploy/quickstart does, on ports and in a directory of its own:
#   import rate; searches per second with recall at 1, 8 and 64 connections;
#   time until a new key is answered and a revoked one refused;
#   p99 of a calm tenant alone, and beside one that floods the same node;
#   the cost of a push to many simulated nodes.
set -euo pipefail
cd "$(dirname "$0")/../.."

set=notes-384
data=${ORT_DATA_DIR:-$PWD/../shared/data}
seconds=5
rounds=200
nodes=1000
tenants=100000
while [ $# -ge 2 ]; do
    case $1 in
    --set) set=$2 ;;
    --data) data=$2 ;;
    --seconds) seconds=$2 ;;
    --rounds) rounds=$2 ;;
    --nodes) nodes=$2 ;;
    --tenants) tenants=$2 ;;
    *)
        sed -n '2,7s/^# \{0,1\}//p' "$0" >&2
        exit 2
        ;;
    esac
    shift 2
done
if [ ! -e "$data/$set.base.fvecs.zst" ] && [ ! -e "$data/$set.base.bvecs.zst" ]; then
    echo "There is no data set $set in $data; --data says where they are." >&2
    exit 2
fi

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
orthant() { build/release/bin/orthant "$@"; }
bench() { build/release/bench/bench_rest "$@" --set "$set" --data "$data"; }

echo "# commit $(git rev-parse --short HEAD 2>/dev/null || echo unknown), $(nproc) cores, $(sed -n 's/^model name.*: //p' /proc/cpuinfo | head -1)"
# The limits of the default plan are not what is measured here.
for tenant in acme calm; do
    orthant tenant get "$tenant" >/dev/null 2>&1 || orthant tenant create "$tenant" --region eu-central >/dev/null
    orthant quota set "$tenant" --max-requests-per-minute none --max-requests-per-minute-per-key none >/dev/null
done
calm_key=$(orthant -o json key create calm --name bench --scope data:read --scope data:write --scope collections:manage \
    2>/dev/null | sed -n 's/^ *"token": "\(.*\)",\{0,1\}$/\1/p')
sleep 1

bench import --url "$ORTHANT_URL" --key "$ORTHANT_API_KEY" --conns 8
for conns in 1 8 64; do
    bench query --url "$ORTHANT_URL" --key "$ORTHANT_API_KEY" --conns "$conns" --seconds "$seconds"
done
build/release/bench/bench_revoke --admin-url "$ORTHANT_ADMIN_URL" --admin-token "$ORTHANT_ADMIN_TOKEN" --tenant acme \
    --url "$ORTHANT_URL" --rounds "$rounds"

# The calm tenant asks 50 times a second; the other one as fast as 20 connections can.
bench import --url "$ORTHANT_URL" --key "$calm_key" --rows 20000 >/dev/null
alone=$(bench paced --url "$ORTHANT_URL" --key "$calm_key" --rate 50 --seconds "$((seconds * 2))" --rows 20000)
echo "alone: $alone"
bench flood --url "$ORTHANT_URL" --key "$ORTHANT_API_KEY" --conns 20 --seconds "$((seconds * 2 + 4))" --rows 20000 >"$run/flood" &
flood=$!
sleep 2
beside=$(bench paced --url "$ORTHANT_URL" --key "$calm_key" --rate 50 --seconds "$((seconds * 2))" --rows 20000)
wait "$flood"
echo "beside: $beside"
sed 's/^/flood: /' "$run/flood"
p99() { sed -n 's/.*p99_us=\([0-9]*\).*/\1/p' <<<"$1"; }
awk -v a="$(p99 "$alone")" -v b="$(p99 "$beside")" 'BEGIN { printf "noisy_neighbour p99_alone_us=%d p99_beside_us=%d ratio=%.2f\n", a, b, b / a }'

deploy/quickstart stop >/dev/null
if [ -x build/release/bench/bench_push ]; then
    build/release/bench/bench_push --nodes "$nodes" --tenants "$tenants"
fi
