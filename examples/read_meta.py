#!/usr/bin/python3
"""Reads the quality that each buffer carries, in Python: examples/read_meta.py FILE

    apt install python3-gi gir1.2-gst-plugins-base-1.0     # for Debian's own /usr/bin/python3
    export GST_PLUGIN_PATH=FOLDER                          # a folder with libqmambaiqa.so
"""

import sys

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstApp", "1.0")
from gi.repository import GLib, Gst, GstApp  # noqa: E402, F401 (GstApp: types the appsink)

PIPELINE = (
    "filesrc name=source ! decodebin ! videoconvert ! qmambaiqa ! appsink name=sink sync=false max-buffers=4"
)


def check(bus):
    """Raises the error that the bus holds, if any; other messages are dropped."""
    if message := bus.pop_filtered(Gst.MessageType.ERROR):
        error, _ = message.parse_error()
        raise RuntimeError(error.message)


def samples(sink, bus):
    """Until the end of the stream. With a limit of time: a source that fails would leave an appsink waiting."""
    while True:
        if sample := sink.try_pull_sample(100 * Gst.MSECOND):
            yield sample
            continue
        check(bus)
        if sink.is_eos():
            return


def print_scores(sink, bus):
    print(f"{'time':>8}  {'score':>6}  {'held':>5}  {'age':>8}")
    for sample in samples(sink, bus):
        buffer = sample.get_buffer()
        meta = buffer.get_custom_meta("GstQMambaIqaMeta")
        if not meta:  # this frame was not due
            continue
        structure = meta.get_structure()
        _, score = structure.get_double("score")
        _, held = structure.get_boolean("held")
        _, age = structure.get_uint64("age")
        time = float("nan") if buffer.pts == Gst.CLOCK_TIME_NONE else buffer.pts / Gst.SECOND
        print(f"{time:8.3f}  {score:6.2f}  {str(held).lower():>5}  {age / Gst.SECOND:8.3f}")


def main():
    if len(sys.argv) != 2:
        sys.exit("read_meta.py: name a file: read_meta.py FILE")
    Gst.init(None)
    try:
        pipeline = Gst.parse_launch(PIPELINE)
    except GLib.Error as error:  # no element of that name: GST_PLUGIN_PATH is to be set
        sys.exit(f"read_meta.py: {error.message}")
    pipeline.get_by_name("source").set_property("location", sys.argv[1])
    bus = pipeline.get_bus()
    try:
        if pipeline.set_state(Gst.State.PLAYING) == Gst.StateChangeReturn.FAILURE:
            check(bus)
            raise RuntimeError("the pipeline does not start")
        print_scores(pipeline.get_by_name("sink"), bus)
    except RuntimeError as error:
        sys.exit(f"read_meta.py: {sys.argv[1]}: {error}")
    finally:
        pipeline.set_state(Gst.State.NULL)


if __name__ == "__main__":
    main()
