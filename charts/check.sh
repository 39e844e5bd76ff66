#!/bin/sh
# check.sh [PYTEST'S ARGUMENTS]: the chart's alerts and its dashboard, with promtool and a real Prometheus; without a cluster
# and without helm. UPDATE_EXPECT=1 writes docs/alerts.yaml anew. .ci/setup servers installs what it needs.
set -eu
cd "$(dirname "$0")/.."
for program in prometheus promtool; do
    command -v "$program" >/dev/null || { echo "check.sh: $program is not here: run .ci/setup servers" >&2 && exit 1; }
done
.ci/venv out/venv
exec out/venv/bin/pytest charts/tests "$@"
