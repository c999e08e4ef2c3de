#!/usr/bin/env bash
# Makes the ladders that `compression` learns from, and the one that judges: `qmambaiqa distort` of DATA/contents (contents.py).
# A stopped run goes on when called again. It takes hours.
#   examples/training/ladders.sh DATA [QMAMBAIQA]
set -euo pipefail
cd "$1"
qmambaiqa=${2:-qmambaiqa} c=contents
all=jpeg,webp,x264,x265,svt-av1,vp9,scale,blur,noise,x264-ultrafast,x264-no-deblock,x265-ultrafast,svt-av1-fast,vp9-realtime
live=x264,x264-ultrafast,x264-ultrafast,x264-no-deblock,x265,x265-ultrafast,svt-av1,svt-av1-fast,vp9,vp9-realtime
varied=(--codecs "$all" --rungs=1,1,1,4/3,3/2,2,2,3,4 --vary-chroma --grain)
rescaled=(--codecs scale,scale,scale,svt-av1,svt-av1,x264,x264-ultrafast,x265,vp9,svt-av1-fast --rungs=1,1,1,1,3/2 --vary-chroma)
ladder() { out=$1 && shift && "$qmambaiqa" distort "$@" --out "$out"; }
ladder l720 $c/clic $c/wall --size 720 --reduce 1:1.5 --draws 5 --seed 21 "${varied[@]}"
ladder l480 $c/best $c/gb82 --size 480 --reduce 1:1.2 --draws 5 --seed 23 "${varied[@]}"
ladder l1024 $c/clic $c/wall2 --size 1024 --reduce 1:1.3 --draws 4 --seed 24 "${varied[@]}"
ladder l480soft $c/soft --size 480 --reduce 1:1 --draws 10 --seed 31 --rungs=1,1,1,1,3/2,2 --vary-chroma --codecs "$live"
ladder l512 $c/clic $c/wall2 --size 512 --reduce 1.6:2.5 --draws 12 --seed 61 "${rescaled[@]}"
ladder l1024k $c/clic $c/wall --size 1024 --reduce 1:3 --draws 8 --seed 62 "${rescaled[@]}"
ladder l256 $c/many --size 256 --reduce 2:2 --draws 5 --seed 51 --codecs jpeg,jpeg,jpeg,webp,x264,x264-ultrafast,x265,vp9,svt-av1,scale --vary-chroma
ladder l512jpeg $c/clic $c/wall $c/gb82 --size 512 --reduce 1.1:3 --draws 5 --seed 41 --codecs jpeg,webp,jpeg --vary-chroma
ladder l340jpeg $c/best --size 340 --reduce 1.5:1.5 --draws 5 --seed 42 --codecs jpeg,webp
ladder test $c/test --size 1024 --reduce 1:1 --settings 5 --even --codecs x264,x265,svt-av1,scale
