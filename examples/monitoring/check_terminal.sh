#!/usr/bin/env bash
# Starts the monitor's view in a real terminal (tmux), ends it in every way that it can end, and checks that the terminal is as
# it was: no alternate screen, cursor shown, lines edited and echoed. Needs `tmux`. QMAMBAIQA names a monitor that is built
# already. Usage: check_terminal.sh
set -euo pipefail
cd "$(dirname "$0")/../.."
. examples/setup.sh
command -v tmux >/dev/null || { echo "tmux is missing: apt-get install tmux" >&2; exit 1; }
monitor=${QMAMBAIQA:-target/release/qmambaiqa}
[ -x "$monitor" ] || cargo build --release

folder=$(mktemp -d)
socket="$folder/tmux"
tm() { tmux -S "$socket" "$@"; }
trap 'tm kill-server 2>/dev/null || true; rm -rf "$folder"' EXIT
gst-launch-1.0 -q videotestsrc num-buffers=3000 pattern=ball ! video/x-raw,width=320,height=240,framerate=10/1 ! jpegenc \
    ! matroskamux ! filesink location="$folder/clip.mkv"
tm -f /dev/null new-session -d -x 100 -y 24 -s view "env PS1='$ ' bash --norc"

screen() { tm capture-pane -p -t view; }
until_shown() { # TEXT
    for _ in $(seq 300); do
        screen | grep -q -e "$1" && return
        sleep 0.1
    done
    echo "never shown: $1" >&2
    screen >&2
    exit 1
}
number=0
check() { # WHAT EXPECTED-STATUS HOW-TO-END ARGS...
    local what=$1 expected=$2 end=$3
    shift 3
    number=$((number + 1))
    tm send-keys -t view "clear; $monitor monitor $* --crops 1; echo ended-$number with \$?" Enter
    until_shown "Video quality, the last"
    [ "$(tm display -p -t view '#{alternate_on}')" = 1 ]
    [ "$number" -gt 1 ] || { until_shown " playing  *[0-9]"; screen | grep -v '^$'; } # how it looks, once
    $end
    until_shown "ended-$number with [0-9]"
    local state
    state="$(screen | grep -o "ended-$number with [0-9]*"), alternate screen $(tm display -p -t view '#{alternate_on}'), cursor"
    state="$state $(tm display -p -t view '#{cursor_flag}')"
    # As the shell's children get it.
    tm send-keys -t view "stty -a | grep -o -w -e '-*icanon' -e '-*echo' -e '-*isig' -e '-*opost' | paste -sd' ' >$folder/stty; echo asked" Enter
    until_shown '^asked'
    state="$state, $(cat "$folder/stty")"
    echo "$what: $state"
    [ "$state" = "ended-$number with $expected, alternate screen 0, cursor 1, opost isig icanon echo" ]
}
of_monitor() { pgrep -f "^$monitor monitor $folder" || true; }
key() { tm send-keys -t view "$1"; }
signal() { kill "-$1" "$(of_monitor)"; }

check "q" 0 "key q" "$folder/clip.mkv"
check "Ctrl-C" 0 "key C-c" "$folder/clip.mkv"
check "SIGTERM" 0 "signal TERM" "$folder/clip.mkv"
check "SIGINT" 0 "signal INT" "$folder/clip.mkv"
check "--duration" 0 true "$folder/clip.mkv" --duration 3
check "every stream is given up" 1 true http://127.0.0.1:1/ --retry-limit 2

# The terminal goes away: nothing is left behind.
tm send-keys -t view "clear; $monitor monitor $folder/clip.mkv --crops 1" Enter
until_shown "Video quality, the last"
left=$(of_monitor)
[ -n "$left" ] # without a process there is nothing to check
tm kill-session -t view
for _ in $(seq 100); do
    kill -0 "$left" 2>/dev/null || break
    sleep 0.1
done
! kill -0 "$left" 2>/dev/null
echo "the terminal is closed: the process has ended"
