#!/usr/bin/env bash
# Kills an RTSP camera again and again under `qmambaiqa monitor`, and prints how often it came back and the monitor's
# memory (resident, KiB) at the start and at the end; 20 times take five minutes. Usage: kill_source.sh [TIMES]
set -euo pipefail
cd "$(dirname "$0")/../.."
times=${1:-20}
. examples/setup.sh
python=${PYTHON:-python3}
"$python" -c 'import gi; gi.require_version("GstRtspServer", "1.0")' 2>/dev/null || {
    echo "needs the RTSP server: apt install python3-gi gir1.2-gst-rtsp-server-1.0" >&2
    exit 1
}
monitor=${QMAMBAIQA:-target/release/qmambaiqa}
[ -x "$monitor" ] || cargo build --release

port=${PORT:-8554}
out=$(mktemp)
camera=""
watcher=""
trap 'kill -9 $camera 2>/dev/null || true; kill $watcher 2>/dev/null || true; rm -f "$out"' EXIT

start_camera() {
    "$python" - "$port" 2>/dev/null <<'PYTHON' &
import sys
import gi
gi.require_version("Gst", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtspServer

Gst.init(None)
factory = GstRtspServer.RTSPMediaFactory()
factory.set_launch(
    "( videotestsrc is-live=true pattern=ball ! video/x-raw,width=640,height=360,framerate=25/1"
    " ! x264enc tune=zerolatency speed-preset=ultrafast key-int-max=25 ! rtph264pay name=pay0 pt=96 )"
)
factory.set_shared(True)
server = GstRtspServer.RTSPServer()
server.set_service(sys.argv[1])
server.get_mount_points().add_factory("/camera", factory)
server.attach(None)
GLib.MainLoop().run()
PYTHON
    camera=$!
    disown # the shell would report each kill
}

# Waits until the monitor has said a state so many times; fails after a minute.
wait_for() {
    for _ in $(seq 600); do
        [ "$(grep -c "\"state\":\"$1\"" "$out")" -ge "$2" ] && return
        sleep 0.1
    done
    return 1
}

memory() { awk '/VmRSS/ { print $2 }' "/proc/$watcher/status"; }

start_camera
"$monitor" monitor "rtsp://127.0.0.1:$port/camera" --name camera --crops 1 --interval 1 --stall 3 --format json >"$out" &
watcher=$!
wait_for playing 1 || { echo "the camera never came" >&2; exit 1; }
sleep 5
before=$(memory)
back=0
for i in $(seq "$times"); do
    kill -9 "$camera"
    wait_for lost "$i" || break
    start_camera
    wait_for playing "$((i + 1))" || break
    back=$((back + 1))
    sleep 11 # after 10 s of play the monitor's wait is a second again
done
sleep 3
echo "killed $times times, back $back times; memory $before KiB before, $(memory) KiB after"
kill -INT "$watcher"
wait "$watcher" || true
grep '"type":"summary"' "$out"
[ "$back" = "$times" ]
