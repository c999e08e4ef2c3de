#!/usr/bin/env bash
# Kills a source again and again under `qmambaiqa monitor`, and prints how often it came back and the monitor's memory
# (resident, KiB) at the start and at the end; 20 times take five minutes. QMAMBAIQA names a monitor that is built already.
# Usage: kill_source.sh [TIMES [rtsp|srt|hls|dash|udp|rtp]]
set -euo pipefail
cd "$(dirname "$0")/../.."
times=${1:-20}
protocol=${2:-rtsp}
. examples/setup.sh
python=${PYTHON:-python3}
monitor=${QMAMBAIQA:-target/release/qmambaiqa}
[ -x "$monitor" ] || cargo build --release

needs() { # ELEMENT PACKAGE
    gst-inspect-1.0 --exists "$1" || { echo "needs $1: apt install $2" >&2; exit 1; }
}
port=${PORT:-8554}
folder=$(mktemp -d)
out="$folder/out"
source_=""
watcher=""
stop_source() { kill -9 $source_ 2>/dev/null || true; }
trap 'stop_source; kill $watcher 2>/dev/null || true; rm -rf "$folder"' EXIT

picture="videotestsrc is-live=true pattern=ball ! video/x-raw,width=640,height=360,framerate=25/1"
encode="x264enc tune=zerolatency speed-preset=ultrafast key-int-max=25"
case $protocol in
rtsp)
    "$python" -c 'import gi; gi.require_version("GstRtspServer", "1.0")' 2>/dev/null || {
        echo "needs the RTSP server: apt install python3-gi gir1.2-gst-rtsp-server-1.0" >&2
        exit 1
    }
    uri="rtsp://127.0.0.1:$port/camera"
    start_source() {
        "$python" - "$port" "( $picture ! $encode ! rtph264pay name=pay0 pt=96 )" 2>/dev/null <<'PYTHON' &
import sys
import gi
gi.require_version("Gst", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtspServer

Gst.init(None)
factory = GstRtspServer.RTSPMediaFactory()
factory.set_launch(sys.argv[2])
factory.set_shared(True)
server = GstRtspServer.RTSPServer()
server.set_service(sys.argv[1])
server.get_mount_points().add_factory("/camera", factory)
server.attach(None)
GLib.MainLoop().run()
PYTHON
        source_=$!
        disown # the shell would report each kill
    }
    ;;
srt)
    needs srtsink gstreamer1.0-plugins-bad
    uri="srt://127.0.0.1:$port"
    start_source() {
        gst-launch-1.0 -q $picture ! $encode ! h264parse ! mpegtsmux alignment=7 \
            ! srtsink uri="srt://127.0.0.1:$port?mode=listener" wait-for-connection=false >/dev/null 2>&1 &
        source_=$!
        disown
    }
    ;;
hls)
    needs hlssink2 gstreamer1.0-plugins-bad
    uri="http://127.0.0.1:$port/live.m3u8"
    # Encoder and server are killed, and what they had written is gone with them.
    start_source() {
        rm -rf "$folder/hls"
        mkdir "$folder/hls"
        gst-launch-1.0 -q $picture ! $encode ! h264parse ! hlssink2 target-duration=1 playlist-length=5 max-files=10 \
            location="$folder/hls/%05d.ts" playlist-location="$folder/hls/live.m3u8" >/dev/null 2>&1 &
        source_=$!
        disown
        "$python" -m http.server "$port" --bind 127.0.0.1 --directory "$folder/hls" >/dev/null 2>&1 &
        source_="$source_ $!"
        disown
    }
    ;;
dash)
    command -v ffmpeg >/dev/null || { echo "needs ffmpeg: apt install ffmpeg" >&2; exit 1; }
    uri="http://127.0.0.1:$port/live.mpd"
    start_source() {
        rm -rf "$folder/dash"
        mkdir "$folder/dash"
        ffmpeg -nostdin -v error -re -f lavfi -i testsrc=size=640x360:rate=25 -c:v libx264 -preset ultrafast -tune zerolatency -g 25 \
            -pix_fmt yuv420p -f dash -seg_duration 1 -window_size 10 -extra_window_size 10 "$folder/dash/live.mpd" >/dev/null 2>&1 &
        source_=$!
        disown
        "$python" -m http.server "$port" --bind 127.0.0.1 --directory "$folder/dash" >/dev/null 2>&1 &
        source_="$source_ $!"
        disown
    }
    ;;
udp | rtp)
    needs tsdemux gstreamer1.0-plugins-bad
    uri="$protocol://127.0.0.1:$port"
    [ "$protocol" = udp ] || { needs rtpsrc gstreamer1.0-plugins-bad; pay="! rtpmp2tpay"; }
    start_source() {
        gst-launch-1.0 -q $picture ! $encode ! h264parse config-interval=-1 ! mpegtsmux alignment=7 ${pay:-} \
            ! udpsink host=127.0.0.1 port="$port" >/dev/null 2>&1 &
        source_=$!
        disown
    }
    ;;
*)
    echo "kill_source.sh: $protocol is none of rtsp, srt, hls, udp, rtp" >&2
    exit 1
    ;;
esac

said() { grep -c "\"state\":\"$1\"" "$out" || true; }

# Waits until the monitor has said a state so many times; fails after a minute.
wait_for() {
    for _ in $(seq 600); do
        [ "$(said "$1")" -ge "$2" ] && return
        sleep 0.1
    done
    return 1
}

memory() { awk '/VmRSS/ { print $2 }' "/proc/$watcher/status"; }

start_source
"$monitor" monitor "$uri" --name camera --crops 1 --interval 1 --stall 3 --format json >"$out" &
watcher=$!
wait_for playing 1 || { echo "the source never came" >&2; exit 1; }
sleep 5
before=$(memory)
back=0
for _ in $(seq "$times"); do
    lost=$(($(said lost) + 1)) playing=$(($(said playing) + 1)) # the first start may have taken a few tries
    stop_source
    wait_for lost "$lost" || break
    start_source
    wait_for playing "$playing" || break
    back=$((back + 1))
    sleep 11 # after 10 s of play the monitor's wait is a second again
done
sleep 3
echo "$protocol: killed $times times, back $back times; memory $before KiB before, $(memory) KiB after"
kill -INT "$watcher"
wait "$watcher" || true
grep '"type":"summary"' "$out"
grep -o '"cause":"[^"]*"' "$out" | sort | uniq -c
[ "$back" = "$times" ]
