#!/usr/bin/env bash
# Opens the monitor's live page in a headless Chromium, on a wide screen and on a phone in the dark, with 16 streams of which one
# is not there; checks what the page shows and leaves pictures of it. Usage: check_web.sh [FOLDER]; needs `chromium`.
# QMAMBAIQA names a monitor that is built already.
set -euo pipefail
cd "$(dirname "$0")/../.."
out=${1:-.}
. examples/setup.sh
command -v chromium >/dev/null || { echo "chromium is missing: apt-get install chromium" >&2; exit 1; }
monitor=${QMAMBAIQA:-target/release/qmambaiqa}
[ -x "$monitor" ] || cargo build --release

port=${PORT:-18099}
folder=$(mktemp -d)
trap 'kill $(jobs -p) 2>/dev/null || true; wait; rm -rf "$folder"' EXIT
patterns=(smpte ball black snow circular checkers-8 gradient zone-plate)
streams=()
for i in $(seq 0 14); do
    clip="$folder/$i.mkv"
    gst-launch-1.0 -q videotestsrc num-buffers=1200 pattern="${patterns[i % 8]}" ! video/x-raw,width=480,height=270,framerate=10/1 \
        ! jpegenc ! matroskamux ! filesink location="$clip"
    streams+=("$clip" --name "camera $i")
done
streams+=("http://127.0.0.1:1/gone" --name '<b onload="alert(1)">gone</b>')
"$monitor" monitor "${streams[@]}" --crops 1 --interval 2 --black-alarm --low-threshold 50 --web "$port" --duration 110 >"$folder/log" &
sleep 15

browse() { # FLAGS...
    chromium --headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking \
        --disable-component-update --disable-sync --user-data-dir="$folder/profile" "$@" "http://127.0.0.1:$port/" 2>/dev/null
}
browse --virtual-time-budget=3000 --dump-dom >"$folder/page"
browse --timeout=8000 --window-size=1500,1400 --screenshot="$out/page-wide.png"
browse --timeout=8000 --window-size=500,1400 --blink-settings=preferredColorScheme=0 --screenshot="$out/page-phone.png"
count() { grep -o "$1" "$folder/page" | wc -l; }
echo "streams shown $(count '<section'), playing $(count '"stream playing'), lost $(count '"stream lost'), with an alarm" \
    "$(count 'class="alarm">alarm: '), pictures $(count 'src="[0-9]*/last.jpg'), names as HTML $(count '<b onload')"
[ "$(count '<section')" = 17 ] # the template is one
[ "$(count '"stream lost')" = 1 ]
[ "$(count 'src="[0-9]*/last.jpg')" = 15 ]
[ "$(count '<b onload')" = 0 ]
