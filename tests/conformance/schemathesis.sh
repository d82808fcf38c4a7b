#!/usr/bin/env bash
# Asks a server what its own document allows and forbids, thousands of times: no 5xx, and no status, type, header or body
# that /openapi.json does not tell of. schemathesis comes from PyPI:
#   make test-schema && tests/conformance/schemathesis.sh target/debug/torchpod 60
# Whether a model takes numbers is not for JSON Schema to say, so that good documents may be refused.
set -euo pipefail
torchpod=$(realpath "${1:-target/debug/torchpod}")
seconds=${2:-20} # for each of two rounds
cd "$(dirname "$0")/../.."
schemathesis=$PWD/.venvs/schema/bin/schemathesis
[ -x "$schemathesis" ] || { echo "it is not installed: run \`make test-schema\`" >&2; exit 1; }

scratch=$(mktemp -d)
: >"$scratch/log"
TORCHPOD_CONTROL_TOKEN=secret "$torchpod" serve models --listen 127.0.0.1:0 --grpc-listen off --log-format json \
  2>"$scratch/log" &
server=$!
trap 'kill $server 2>/dev/null || true; wait $server 2>/dev/null || true; rm -rf "$scratch"' EXIT

fail() { echo "$1; its log:" >&2; cat "$scratch/log" >&2; exit 1; }
address=
for _ in $(seq 600); do
  kill -0 $server 2>/dev/null || fail "the server has ended"
  address=$(sed -n 's/.*"message":"listening".*"http":"\([^"]*\)".*/\1/p' "$scratch/log")
  [ -n "$address" ] && curl -sf "http://$address/ready" >/dev/null && break
  sleep 0.1
done
curl -sf "http://$address/ready" >/dev/null || fail "the server is not ready"

# Names that are there, since made-up ones end at 404, and then made-up ones.
printf '[parameters]\n"path.model" = "digits"\n"path.version" = "1"\n' >"$scratch/named.toml"
# For a router, digits:predict is a name as digits is: what the one takes, it cannot refuse for the other.
# And where a millisecond is given, it may be over before anything has been read, or answered: a refusal is no failure.
cat >>"$scratch/free.toml" <<'END'
[checks]
not_a_server_error.expected-statuses = ["2xx", "3xx", "4xx", 503, 504]
negative_data_rejection.expected-statuses = [400, 401, 403, 404, 405, 406, 408, 409, 411, 413, 415, 422, 503, 504]

[[operations]]
include-path-regex = "^/v1/models/"
checks.unsupported_method.enabled = false
checks.allow_header_conformance.enabled = false
END
cat "$scratch/free.toml" >>"$scratch/named.toml"
for names in named free; do
  (cd "$scratch" && "$schemathesis" --config-file "$names.toml" run "http://$address/openapi.json" \
    --max-time "$seconds" --warnings off --exclude-checks positive_data_acceptance)
done
kill -0 $server || fail "the server has ended"
! grep -q '"level":"ERROR"' "$scratch/log" || fail "the server logged an error"
