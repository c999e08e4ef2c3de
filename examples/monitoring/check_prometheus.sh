#!/usr/bin/env bash
# Has a real Prometheus scrape the element, prints the score that it got, and asks it every query of the Grafana dashboard:
# examples/monitoring/check_prometheus.sh
# Needs `prometheus` (apt-get install prometheus), curl, and the plugin; GST_PLUGIN_PATH says where that is, unless
# examples/demo.sh has built it.
set -euo pipefail
cd "$(dirname "$0")/../.."
target=${CARGO_TARGET_DIR:-$PWD/target}
export GST_PLUGIN_PATH=${GST_PLUGIN_PATH:-$target/gstreamer-1.0}
for tool in prometheus curl gst-launch-1.0 python3; do
    command -v "$tool" >/dev/null || { echo "$tool is missing: apt-get install ${tool/gst-launch-1.0/gstreamer1.0-tools}" >&2; exit 1; }
done
metrics=${METRICS_PORT:-19184} server=${PROMETHEUS_PORT:-19090}
folder=$(mktemp -d)
trap 'kill $(jobs -p) 2>/dev/null || true; wait; rm -rf "$folder"' EXIT

gst-launch-1.0 -q videotestsrc is-live=true pattern=ball ! video/x-raw,width=640,height=360,framerate=10/1 \
    ! qmambaiqa async=true crops=1 interval=500000000 stream-name=check metrics-address="127.0.0.1:$metrics" ! fakesink &
sed -e "s/localhost:9184/127.0.0.1:$metrics/" -e 's/scrape_interval: .*/scrape_interval: 1s/' \
    examples/monitoring/prometheus.yml >"$folder/prometheus.yml"
prometheus --config.file="$folder/prometheus.yml" --storage.tsdb.path="$folder/data" \
    --web.listen-address="127.0.0.1:$server" >"$folder/log" 2>&1 &

query() {
    curl -sG "http://127.0.0.1:$server/api/v1/query" --data-urlencode "query=$1" | python3 -c '
import json, sys
try:
    result = json.load(sys.stdin)["data"]["result"]
except (ValueError, KeyError):
    sys.exit(1)
for series in result:
    print(series["metric"].get("stream"), series["metric"].get("style_prompt"), series["value"][1])
sys.exit(not result)'
}
failed() {
    echo "Prometheus has scraped nothing in a minute; its log:" >&2
    tail -5 "$folder/log" >&2
    exit 1
}
for _ in $(seq 60); do
    if score=$(query 'qmambaiqa_score{stream="check"}') && seen=$(query 'qmambaiqa_frames_seen_total{stream="check"} > 20'); then
        echo "score by Prometheus: $score"
        echo "frames seen: $seen"
        echo "90th percentile of scores: $(query 'histogram_quantile(0.9, qmambaiqa_scores_bucket{stream="check"})')"
        break
    fi
    sleep 1
done
[ -n "${seen:-}" ] || failed
# What the dashboard shows: its queries, with what Grafana puts in for its variables.
python3 -c '
import json
for panel in json.load(open("examples/monitoring/dashboard.json"))["panels"]:
    for target in panel.get("targets", []):
        print(target["expr"].replace("$__rate_interval", "10s").replace("$stream", ".*"))' >"$folder/queries"
[ -s "$folder/queries" ] || { echo "dashboard.json has no queries" >&2; exit 1; }
while read -r expression; do
    case $expression in *'$'*) echo "what is \$ in $expression?" >&2; exit 1 ;; esac
    query "$expression" >/dev/null || { echo "nothing for the dashboard's $expression" >&2; exit 1; }
done <"$folder/queries"
echo "queries of the dashboard answered: $(wc -l <"$folder/queries")"
