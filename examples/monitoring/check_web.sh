#!/usr/bin/env bash
# Opens the monitor's live page in a headless Chromium, on a wide screen and on a phone in the dark, with 16 streams of which one
# is not there; checks what the page shows and leaves pictures of it. Usage: check_web.sh [FOLDER]; needs `chromium`, `chromium-driver` and `jq`.
# QMAMBAIQA names a monitor that is built already.
set -euo pipefail
cd "$(dirname "$0")/../.."
out=${1:-.}
mkdir -p "$out"
. examples/setup.sh
for command in chromium chromedriver jq; do
    command -v "$command" >/dev/null ||
        { echo "$command is missing: apt-get install chromium chromium-driver jq" >&2; exit 1; }
done
monitor=${QMAMBAIQA:-target/release/qmambaiqa}
[ -x "$monitor" ] || cargo build --release

port=${PORT:-18099}
folder=$(mktemp -d)
watcher="" driver="" session=""
trap '[ -z "$session" ] || ask -X DELETE "" >/dev/null || true; kill $watcher $driver 2>/dev/null && wait $watcher $driver || true; rm -rf "$folder"' EXIT
# Five minutes of two frames a second: little to encode and to decode, and no end while a slow machine still looks.
patterns=(smpte ball black snow circular checkers-8 gradient zone-plate)
for pattern in "${patterns[@]}"; do
    gst-launch-1.0 -q videotestsrc num-buffers=600 pattern="$pattern" ! video/x-raw,width=480,height=270,framerate=2/1 \
        ! jpegenc ! matroskamux ! filesink location="$folder/$pattern.mkv"
done
streams=()
for i in $(seq 0 14); do
    cp --reflink=auto "$folder/${patterns[i % 8]}.mkv" "$folder/clip-$i.mkv"
    streams+=("$folder/clip-$i.mkv" --name "camera $i")
done
streams+=("http://127.0.0.1:1/gone" --name '<b onload="alert(1)">gone</b>')
"$monitor" monitor "${streams[@]}" --crops 1 --interval 2 --black-alarm --low-threshold 50 --web "$port" --plain >"$folder/log" &
watcher=$!

# A browser by WebDriver, in real time: `chromium --dump-dom --virtual-time-budget` hangs at times with a page that never stops
# asking, more often on a machine under load.
chromedriver --port=$((port + 1)) >"$folder/driver" 2>&1 &
driver=$!
ask() { # CURL-ARGS... PATH
    local path=${*: -1}
    curl -sf --max-time 60 -H 'Content-Type: application/json' "${@:1:$#-1}" "http://127.0.0.1:$((port + 1))/session/$session$path"
}
until_true() { # COMMAND...
    local end=$((SECONDS + 120))
    until "$@"; do
        [ "$SECONDS" -lt "$end" ] && kill -0 "$watcher" || { echo "not within two minutes: $*" >&2; exit 1; }
        sleep 0.5
    done
}
begin() {
    local flags='["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--user-data-dir='"$folder/profile"'"]'
    session=$(curl -sf --max-time 60 "http://127.0.0.1:$((port + 1))/session" \
        -d '{"capabilities": {"alwaysMatch": {"goog:chromeOptions": {"args": '"$flags"'}}}}' | jq -er .value.sessionId)
}
until_true begin
run() { jq -n --arg script "$1" '{script: $script, args: []}' | ask -d @- /execute/sync | jq -r .value; }
counts='const n = (what) => document.querySelectorAll(what).length;
    return [n("main section"), n(".stream.playing"), n(".stream.lost"), n(".alarm:not([hidden])"),
        [...document.querySelectorAll(".last img")].filter((i) => i.complete && i.naturalWidth > 0).length, n(".name b")].join(" ")'
picture() { # FILE WIDTH
    ask -d "{\"width\": $2, \"height\": 1400}" /window/rect >/dev/null
    ask /screenshot | jq -r .value | base64 -d >"$out/$1"
}
ask -d "{\"url\": \"http://127.0.0.1:$port/\"}" /url >/dev/null
# Until all that the page shall show is there, whatever time the machine takes for it.
is_there() { [[ "$(run "$counts")" =~ ^16\ 15\ 1\ [1-9][0-9]*\ 15\ 0$ ]]; }
until_true is_there
read -r shown playing lost alarms pictures html <<<"$(run "$counts")"
echo "streams shown $shown, playing $playing, lost $lost, with an alarm $alarms, pictures $pictures, names as HTML $html; $SECONDS s"
picture page-wide.png 1500
ask -d '{"cmd": "Emulation.setEmulatedMedia", "params": {"features": [{"name": "prefers-color-scheme", "value": "dark"}]}}' \
    /goog/cdp/execute >/dev/null
picture page-phone.png 500
echo "pictures are in $out after $SECONDS s"
