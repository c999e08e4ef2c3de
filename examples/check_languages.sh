#!/usr/bin/env bash
# Do Rust, Python and C read the same scores from the buffers of a clip? Builds the plugin where it is missing or old.
set -euo pipefail
cd "$(dirname "$0")/.."
. examples/setup.sh
for package in python3-gi gir1.2-gst-plugins-base-1.0; do
    dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || {
        echo "missing: apt install $package" >&2
        exit 1
    }
done
target=${CARGO_TARGET_DIR:-$PWD/target}
work=$(mktemp -d)
trap 'rm -r "$work"' EXIT

# The development profile is optimised, and the tests have built most of it.
cargo build --quiet --lib --example appsink
# A folder of its own: GStreamer would look through all of target/release otherwise.
mkdir "$work/plugins"
cp "$target/debug/libqmambaiqa.so" "$work/plugins"
export GST_PLUGIN_PATH=$work/plugins GST_REGISTRY=$work/registry
read -ra flags < <(pkg-config --cflags --libs gstreamer-1.0 gstreamer-app-1.0 | tr '\n' ' '; echo)
cc -Wall -Wextra -Werror examples/read_meta.c -o "$work/read_meta" "${flags[@]}"

gst-launch-1.0 -q videotestsrc num-buffers=8 pattern=ball ! video/x-raw,format=I420,width=320,height=240 ! y4menc \
    ! filesink location="$work/clip.y4m"
"$target/debug/examples/appsink" "$work/clip.y4m" >"$work/rust"
examples/read_meta.py "$work/clip.y4m" >"$work/python"
"$work/read_meta" "$work/clip.y4m" >"$work/c"

cat "$work/rust"
[ "$(wc -l <"$work/rust")" = 9 ] || { echo "not every frame has a score" >&2; exit 1; }
for language in python c; do
    diff "$work/rust" "$work/$language" || { echo "Rust and $language differ" >&2; exit 1; }
done
echo "Rust, Python and C print the same 8 scores"
