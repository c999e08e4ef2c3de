#!/usr/bin/env bash
# Builds the frei0r filter, runs it in an ffmpeg, and compares its scores with those of `qmambaiqa score`: of the same pictures
# they must be equal to the bit; of a video they differ by how swscale makes RGB of YUV, which is printed.
# QMAMBAIQA and FREI0R name a command line and a filter (a .so) that are built already. Usage: check.sh [CLIP]
set -euo pipefail
cd "$(dirname "$0")/../.."
. examples/setup.sh
grep -q " frei0r " <<<"$(ffmpeg -hide_banner -filters 2>/dev/null)" || { echo "needs an ffmpeg with frei0r: apt install ffmpeg" >&2; exit 1; }
target=${CARGO_TARGET_DIR:-target}
monitor=${QMAMBAIQA:-$target/release/qmambaiqa}
[ -x "$monitor" ] || cargo build --release
plugin=${FREI0R:-}
if [ -z "$plugin" ]; then
    # In a folder of its own: the file is called as the GStreamer plugin is.
    cargo rustc --release --lib --no-default-features --features frei0r --crate-type cdylib --target-dir "$target/frei0r"
    plugin="$target/frei0r/release/libqmambaiqa.so"
fi

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
mkdir "$folder/plugins"
cp "$plugin" "$folder/plugins/qmambaiqa.so"
export FREI0R_PATH="$folder/plugins"
if grep -q -e libgst -e libglib <<<"$(ldd "$plugin")"; then
    echo "the filter needs GStreamer" >&2
    exit 1
fi
if [ "$(uname)" = Linux ] && ! grep -q NODELETE <<<"$(readelf -d "$plugin")"; then
    echo "a host may unload the filter while its threads run" >&2
    exit 1
fi
clip=${1:-$folder/clip.mkv}
[ $# -gt 0 ] || ffmpeg -v error -f lavfi -i testsrc2=size=640x360:rate=5 -t 4 -c:v libx264 -crf 35 "$clip"
ffmpeg -v error -i "$clip" -frames:v 12 "$folder/%02d.png"
run() { ffmpeg -nostdin -y -v error "$@"; } # what the filter says is all that comes

# The same pictures.
run -framerate 5 -i "$folder/%02d.png" -vf "frei0r=qmambaiqa:$folder/frei0r.jsonl" -f null -
"$monitor" score "$folder"/*.png --log "$folder/score.jsonl" >/dev/null
# The same video, through swscale and through our own conversion.
for prompt in none compression; do
    run -i "$clip" -vf "frei0r=qmambaiqa:$folder/video-$prompt.jsonl|4|0.5|$prompt" -f null -
    run -i "$clip" -pix_fmt yuv420p -strict -1 -f yuv4mpegpipe - |
        "$monitor" score - --interval 0.5 --style-prompt "$prompt" --log "$folder/y4m-$prompt.jsonl" >/dev/null
done
# Every parameter, and the other formats.
run -i "$clip" -vf "frei0r=qmambaiqa:$folder/all.csv|1|1.0|generative|qmamba-nano" -f null -
run -i "$clip" -vf "frei0r=qmambaiqa:$folder/vmaf.json|1" -f null -
python3 - "$folder" <<'PYTHON'
import csv, json, sys

def log(name):
    return [json.loads(line) for line in open(f"{sys.argv[1]}/{name}.jsonl")]

ours, theirs = log("frei0r"), log("score")
assert len(ours) == len(theirs) > 1, (len(ours), len(theirs))
fields = ["schema", "score", "raw", "deviation", "confidence", "crops", "black", "sharpness", "model", "style_prompt"]
for a, b in zip(ours, theirs):
    assert all(a[field] == b[field] for field in fields), (a, b)
assert [a["frame"] for a in ours] == list(range(len(ours))) and abs(ours[5]["time"] - 1.0) < 1e-6, ours[5]
print(f"{len(ours)} pictures: scores equal, {ours[0]['score']:.3f} to {ours[-1]['score']:.3f}")

for prompt in ["none", "compression"]:
    ours, theirs = log(f"video-{prompt}"), log(f"y4m-{prompt}")
    assert len(ours) == len(theirs) > 1, (len(ours), len(theirs))
    assert all(abs(a["time"] - b["time"]) < 0.01 for a, b in zip(ours, theirs))
    differences = [a["score"] - b["score"] for a, b in zip(ours, theirs)]
    print(f"{len(differences)} frames of the video, style prompt {prompt}: with swscale's RGB and with ours scores differ by "
          f"{sum(differences) / len(differences):+.2f} in the mean, by {max(map(abs, differences)):.2f} at most")
rows = list(csv.DictReader(open(f"{sys.argv[1]}/all.csv")))
assert rows and all(row["style_prompt"] == "generative" and row["crops"] == "1" for row in rows), rows
vmaf = json.load(open(f"{sys.argv[1]}/vmaf.json"))
print(f"CSV has {len(rows)} rows, the log in VMAF's layout {len(vmaf['frames'])} frames, mean "
      f"{vmaf['pooled_metrics']['qmambaiqa']['mean']:.2f}")
PYTHON

# Pixels are what they were.
plain=$(run -i "$clip" -pix_fmt rgba -f md5 -)
filtered=$(run -i "$clip" -pix_fmt rgba -vf "format=rgba,frei0r=qmambaiqa:$folder/again.jsonl|1|100" -f md5 -)
[ "$plain" = "$filtered" ] && echo "pixels are unchanged: $plain"

# One line for what is wrong, and frames pass.
wrong() { # WHAT ARGS...
    what=$1
    shift
    said=$(run "$@" -f framecrc "$folder/frames" 2>&1 || true)
    mine=$(grep '^qmambaiqa: ' <<<"$said") || { echo "nothing is said of: $what: $said" >&2; exit 1; }
    [ "$(wc -l <<<"$mine")" = 1 ] && grep -q -e "$what" <<<"$mine" || { echo "expected $what: $mine" >&2; exit 1; }
    echo "$mine"
}
passed() { [ "$(grep -vc '^#' "$folder/frames")" -gt 1 ]; }
wrong "no log" -i "$clip" -vf frei0r=qmambaiqa && passed
wrong "/nowhere/l.jsonl: No such file" -i "$clip" -vf "frei0r=qmambaiqa:/nowhere/l.jsonl" && passed
wrong "says no format" -i "$clip" -vf "frei0r=qmambaiqa:scores.txt" && passed
wrong "65 crops" -i "$clip" -vf "frei0r=qmambaiqa:$folder/x.jsonl|65" && passed
wrong "crops 2.5 is not" -i "$clip" -vf "frei0r=qmambaiqa:$folder/x.jsonl|2.5" && passed
wrong "interval -1 is not" -i "$clip" -vf "frei0r=qmambaiqa:$folder/x.jsonl|1|-1" && passed
wrong "style prompt .none-such. is neither" -i "$clip" -vf "frei0r=qmambaiqa:$folder/x.jsonl|1|0|none-such" && passed
wrong "model .none-such. is neither" -i "$clip" -vf "frei0r=qmambaiqa:$folder/x.jsonl|1|0|none|none-such" && passed
wrong "time-unit 0 is not" -i "$clip" -vf "frei0r=qmambaiqa:$folder/x.jsonl|1|0|none|qmamba-nano|0" && passed
wrong "begun this log already" -i "$clip" -vf "frei0r=qmambaiqa:$folder/twice.jsonl|1,frei0r=qmambaiqa:$folder/twice.jsonl|1" && passed
[ "$(wc -l <"$folder/twice.jsonl")" -gt 1 ] || { echo "the first log is lost" >&2; exit 1; }
wrong "multiple of 4" -i "$clip" -vf "crop=318:200,frei0r=qmambaiqa:$folder/x.jsonl"
[ ! -e "$folder/x.jsonl" ] || { echo "a log was begun in vain" >&2; exit 1; }
