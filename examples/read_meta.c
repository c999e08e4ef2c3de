/* Reads the quality that each buffer carries, in C. GST_PLUGIN_PATH names a folder with libqmambaiqa.so.
 *
 *     cc examples/read_meta.c -o read_meta $(pkg-config --cflags --libs gstreamer-1.0 gstreamer-app-1.0)
 *     ./read_meta FILE
 */

#include <gst/app/gstappsink.h>
#include <gst/gst.h>
#include <math.h>

/* Prints the error that the bus holds, if any; other messages are dropped. */
static gboolean
failed (GstBus * bus, const char *file)
{
  GstMessage *message = gst_bus_pop_filtered (bus, GST_MESSAGE_ERROR);
  GError *error = NULL;

  if (!message)
    return FALSE;
  gst_message_parse_error (message, &error, NULL);
  g_printerr ("read_meta: %s: %s\n", file, error->message);
  g_error_free (error);
  gst_message_unref (message);
  return TRUE;
}

static void
print_score (GstBuffer * buffer)
{
  GstCustomMeta *meta = gst_buffer_get_custom_meta (buffer, "GstQMambaIqaMeta");
  GstStructure *structure;
  gdouble score, time = NAN;
  gboolean held;
  guint64 age;

  if (!meta) /* this frame was not due */
    return;
  structure = gst_custom_meta_get_structure (meta);
  if (!gst_structure_get (structure, "score", G_TYPE_DOUBLE, &score, "held", G_TYPE_BOOLEAN, &held,
          "age", G_TYPE_UINT64, &age, NULL))
    return;
  if (GST_BUFFER_PTS_IS_VALID (buffer))
    time = GST_BUFFER_PTS (buffer) / (gdouble) GST_SECOND;
  g_print ("%8.3f  %6.2f  %5s  %8.3f\n", time, score, held ? "true" : "false", age / (gdouble) GST_SECOND);
}

/* Until the end of the stream, or until the bus has an error. */
static gboolean
print_scores (GstAppSink * sink, GstBus * bus, const char *file)
{
  g_print ("%8s  %6s  %5s  %8s\n", "time", "score", "held", "age");
  for (;;) {
    /* With a limit of time: a source that fails would leave an appsink waiting. */
    GstSample *sample = gst_app_sink_try_pull_sample (sink, 100 * GST_MSECOND);

    if (sample) {
      print_score (gst_sample_get_buffer (sample));
      gst_sample_unref (sample);
    } else if (failed (bus, file)) {
      return FALSE;
    } else if (gst_app_sink_is_eos (sink)) {
      return TRUE;
    }
  }
}

int
main (int argc, char **argv)
{
  GstElement *pipeline, *source, *sink;
  GstBus *bus;
  GError *error = NULL;
  gboolean good = FALSE;

  gst_init (&argc, &argv);
  if (argc != 2) {
    g_printerr ("read_meta: name a file: read_meta FILE\n");
    return 1;
  }
  pipeline = gst_parse_launch_full ("filesrc name=source ! decodebin ! videoconvert ! qmambaiqa ! "
      "appsink name=sink sync=false max-buffers=4", NULL, GST_PARSE_FLAG_FATAL_ERRORS, &error);
  if (!pipeline) { /* no element of that name: GST_PLUGIN_PATH is to be set */
    g_printerr ("read_meta: %s\n", error->message);
    g_error_free (error);
    return 1;
  }
  source = gst_bin_get_by_name (GST_BIN (pipeline), "source");
  sink = gst_bin_get_by_name (GST_BIN (pipeline), "sink");
  bus = gst_element_get_bus (pipeline);
  g_object_set (source, "location", argv[1], NULL);

  if (gst_element_set_state (pipeline, GST_STATE_PLAYING) != GST_STATE_CHANGE_FAILURE)
    good = print_scores (GST_APP_SINK (sink), bus, argv[1]);
  else if (!failed (bus, argv[1]))
    g_printerr ("read_meta: the pipeline does not start\n");

  gst_element_set_state (pipeline, GST_STATE_NULL);
  gst_object_unref (bus);
  gst_object_unref (sink);
  gst_object_unref (source);
  gst_object_unref (pipeline);
  return good ? 0 : 1;
}
