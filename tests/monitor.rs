//! `qmambaiqa monitor` with real servers that come and go.

use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_app::AppSink;
use serde_json::Value;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// A camera behind HTTP: each client gets live pictures until it is dropped.
struct Camera {
    port: u16,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Camera {
    /// At a port, or any free one (0), with a pattern of `videotestsrc`.
    fn start(port: u16, pattern: &'static str) -> Self {
        gst::init().unwrap();
        let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
        let port = listener.local_addr().unwrap().port();
        listener.set_nonblocking(true).unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let own = stop.clone();
        let thread = std::thread::spawn(move || {
            let mut clients = Vec::new();
            while !own.load(Ordering::Relaxed) {
                match listener.accept() {
                    Ok((client, _)) => {
                        let stop = own.clone();
                        clients.push(std::thread::spawn(move || serve(client, pattern, &stop)));
                    }
                    Err(_) => std::thread::sleep(Duration::from_millis(10)),
                }
            }
            drop(listener);
            clients.into_iter().for_each(|client| client.join().unwrap());
        });
        Self { port, stop, thread: Some(thread) }
    }

    fn uri(&self) -> String {
        format!("http://127.0.0.1:{}/live.mkv", self.port)
    }
}

impl Drop for Camera {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().unwrap().join().unwrap();
    }
}

fn serve(mut client: TcpStream, pattern: &str, stop: &AtomicBool) {
    client.set_nonblocking(false).unwrap();
    let requested = BufReader::new(client.try_clone().unwrap()).lines().map_while(Result::ok).any(|l| l.is_empty());
    if !requested || client.write_all(b"HTTP/1.0 200 OK\r\nContent-Type: video/x-matroska\r\n\r\n").is_err() {
        return;
    }
    let description = format!(
        "videotestsrc is-live=true pattern={pattern} ! video/x-raw,width=320,height=240,framerate=10/1 ! jpegenc \
         ! matroskamux streamable=true ! appsink name=out sync=false"
    );
    let pipeline = gst::parse::launch(&description).unwrap().downcast::<gst::Pipeline>().unwrap();
    let out = pipeline.by_name("out").unwrap().downcast::<AppSink>().unwrap();
    pipeline.set_state(gst::State::Playing).unwrap();
    while !stop.load(Ordering::Relaxed) {
        let Some(sample) = out.try_pull_sample(gst::ClockTime::from_mseconds(50)) else { continue };
        if client.write_all(&sample.buffer().unwrap().map_readable().unwrap()).is_err() {
            break;
        }
    }
    pipeline.set_state(gst::State::Null).unwrap();
}

/// A monitor whose JSON lines are read as they come; killed where a test fails.
struct Monitor {
    child: Child,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
}

impl Monitor {
    fn start(args: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_qmambaiqa"));
        command
            .args(["monitor", "--format", "json", "--crops", "1", "--interval", "0.2", "--duration", "60"])
            .args(args);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    /// The next line for which `wanted` holds.
    fn until(&mut self, wanted: impl Fn(&Value) -> bool) -> Value {
        for line in self.lines.by_ref() {
            let value = serde_json::from_str(&line.unwrap()).unwrap();
            if wanted(&value) {
                return value;
            }
        }
        let mut errors = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut errors).unwrap();
        panic!("the monitor ended without it: {errors}");
    }

    fn until_state(&mut self, state: &str) -> Value {
        self.until(|value| value["type"] == "state" && value["state"] == state)
    }

    /// Interrupts it: its summaries, its standard error; it ends well.
    fn interrupt(mut self) -> (Vec<Value>, String) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
        let values: Vec<Value> =
            self.lines.by_ref().map(|line| serde_json::from_str(&line.unwrap()).unwrap()).collect();
        let mut errors = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut errors).unwrap();
        assert!(self.child.wait().unwrap().success(), "{errors}");
        (values.into_iter().filter(|value| value["type"] == "summary").collect(), errors)
    }
}

impl Drop for Monitor {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What an HTTP server of this machine answers: head and body.
fn ask(port: u16, request: &str) -> (String, Vec<u8>) {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.write_all(format!("{request} HTTP/1.0\r\n\r\n").as_bytes()).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n").unwrap();
    (String::from_utf8(answer[..end].to_vec()).unwrap(), answer[end + 4..].to_vec())
}

/// What a scraper gets.
fn metrics(port: u16) -> String {
    String::from_utf8(ask(port, "GET /metrics").1).unwrap()
}

/// What the page gets.
fn overview(port: u16) -> Value {
    serde_json::from_slice(&ask(port, "GET /streams.json").1).unwrap()
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn read_lines(path: &Path) -> Vec<Value> {
    std::fs::read_to_string(path).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn a_stream_that_is_killed_again_and_again_comes_back() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("camera.jsonl");
    let mut camera = Camera::start(0, "ball");
    let (uri, port) = (camera.uri(), camera.port);
    let mut monitor = Monitor::start(&[&uri, "--name", "camera", "--log", log.to_str().unwrap()]);
    monitor.until_state("playing");
    for _ in 0..3 {
        monitor.until(|value| value["type"] == "score");
        drop(camera);
        let lost = monitor.until_state("lost");
        assert!(lost["stream"] == "camera" && !lost["cause"].as_str().unwrap().is_empty(), "{lost}");
        camera = Camera::start(port, "ball");
        let back = monitor.until_state("playing");
        assert!(back["failures"].as_u64().unwrap() >= 1, "{back}");
    }
    let score = monitor.until(|value| value["type"] == "score");
    assert!((0.0..=100.0).contains(&score["score"].as_f64().unwrap()), "{score}");
    let (summaries, errors) = monitor.interrupt();
    let lines = read_lines(&log);
    let states: Vec<&Value> = lines.iter().filter(|line| line["type"] == "state").collect();
    let losses = summaries[0]["losses"].as_u64().unwrap() as usize;
    assert!(summaries.len() == 1 && losses == 3, "{states:?} {errors}");
    let of = |kind: &str| lines.iter().filter(|line| line["type"] == kind).count();
    // Playing once more than lost, whatever the number of tries.
    assert_eq!((states.len(), of("summary")), (2 * losses + 1, 1));
    assert_eq!(summaries[0]["statistics"]["frames"], of("score"));
}

#[test]
fn two_streams_share_the_metrics_address_and_alarms_run_a_command() {
    let folder = tempfile::tempdir().unwrap();
    let told = folder.path().join("told");
    let (black, bars) = (Camera::start(0, "black"), Camera::start(0, "smpte"));
    let command = format!(
        "sh -c 'echo $QMAMBAIQA_STREAM $QMAMBAIQA_STATE $QMAMBAIQA_REASON $QMAMBAIQA_SCORE >> {}'",
        told.display()
    );
    let port = free_port();
    let (address, logs) = (port.to_string(), folder.path().to_str().unwrap());
    let (dark, light) = (black.uri(), bars.uri());
    let mut monitor = Monitor::start(&[
        &dark,
        &light,
        "--name",
        "dark",
        "--name",
        "light",
        "--black-alarm",
        "--alarm-hold",
        "0",
        "--metrics",
        &address,
        "--log",
        logs,
        "--alarm-exec",
        &command,
    ]);
    let alarm = monitor.until(|value| value["type"] == "alarm");
    assert_eq!((&alarm["stream"], &alarm["state"], &alarm["reason"]), (&"dark".into(), &"low".into(), &"black".into()));
    monitor.until(|value| value["type"] == "score" && value["stream"] == "light");
    let text = metrics(port);
    assert!(
        text.contains("qmambaiqa_score{stream=\"dark\"") && text.contains("qmambaiqa_score{stream=\"light\""),
        "{text}"
    );

    // A stream that goes takes its series with it and leaves the address and the other stream alone.
    drop(black);
    monitor.until_state("lost");
    monitor.until(|value| value["type"] == "score" && value["stream"] == "light");
    let text = metrics(port);
    assert!(!text.contains("\"dark\"") && text.contains("qmambaiqa_score{stream=\"light\""), "{text}");
    let (summaries, errors) = monitor.interrupt();
    let alarms: Vec<&Value> = summaries.iter().map(|summary| &summary["alarms"]).collect();
    assert_eq!(alarms, [&Value::from(1), &Value::from(0)], "{errors}");
    assert!(read_lines(&folder.path().join("dark.jsonl")).iter().all(|line| line["stream"] == "dark"));
    assert!(read_lines(&folder.path().join("light.jsonl")).iter().any(|line| line["type"] == "score"));
    let told = std::fs::read_to_string(told).unwrap();
    let score = told.lines().find_map(|line| line.strip_prefix("dark low black ")).unwrap().parse::<f64>().unwrap();
    assert!((score - alarm["score"].as_f64().unwrap()).abs() < 1e-9, "{told}");
    assert!(told.lines().any(|line| line.starts_with("dark lost ")), "{told}");
}

#[test]
fn the_page_has_scores_pictures_and_events_and_nothing_to_run_in_names() {
    let (black, bars) = (Camera::start(0, "black"), Camera::start(0, "smpte"));
    let name = "<script>alert(1)</script>";
    let port = free_port();
    let (dark, light, address) = (black.uri(), bars.uri(), port.to_string());
    let mut monitor =
        Monitor::start(&[&dark, &light, "--name", name, "--black-alarm", "--alarm-hold", "0", "--web", &address]);
    monitor.until(|value| value["type"] == "alarm");
    monitor.until(|value| value["type"] == "score" && value["stream"] == light.as_str());
    let all = overview(port);
    let (dark, light) = (&all["streams"][0], &all["streams"][1]);
    assert_eq!((&dark["name"], &dark["state"], &dark["alarm"]), (&name.into(), &"playing".into(), &"black".into()));
    assert!(light["alarm"].is_null() && light["score"].as_f64().unwrap() > 0.0, "{light}");
    let curve = light["curve"].as_array().unwrap();
    assert!(curve.len() == 150 && curve.iter().any(Value::is_number), "{light}");
    let events = all["events"].as_array().unwrap();
    assert!(events.iter().any(|event| event["text"].as_str().unwrap().contains("ALARM black")), "{all}");

    let (head, page) = ask(port, "GET /");
    let page = String::from_utf8(page).unwrap();
    assert!(head.starts_with("HTTP/1.0 200") && head.contains("text/html"), "{head}");
    assert!(!page.contains("alert(1)") && !page.contains("http:") && !page.contains("https:"), "{page}");
    for (which, darkest) in [("0/last.jpg", true), ("0/worst.jpg", true), ("1/last.jpg", false)] {
        let (head, bytes) = ask(port, &format!("GET /{which}?7"));
        assert!(head.contains("image/jpeg"), "{head}");
        let picture = image::load_from_memory(&bytes).unwrap().to_rgb8();
        assert_eq!(picture.dimensions(), (320, 240));
        let brightest = picture.pixels().flat_map(|pixel| pixel.0).max().unwrap();
        assert_eq!(brightest < 32, darkest, "{which}: {brightest}");
    }
    for wrong in ["/2/last.jpg", "/0/other.jpg", "/x/last.jpg", "/0", "/etc/passwd", "/../Cargo.toml"] {
        let (head, _) = ask(port, &format!("GET {wrong}"));
        assert!(head.starts_with("HTTP/1.0 404"), "{wrong}: {head}");
    }
    let (head, _) = ask(port, "DELETE /");
    assert!(head.starts_with("HTTP/1.0 405"), "{head}");

    drop(black);
    monitor.until_state("lost");
    let dark = &overview(port)["streams"][0];
    assert!(dark["state"] == "lost" && dark["alarm"].is_null() && dark["cause"].is_string(), "{dark}");
    monitor.interrupt();
}

#[test]
fn a_stream_that_stands_still_is_lost() {
    // Accepts, and says nothing ever.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let uri = format!("http://me:secret@{}/", listener.local_addr().unwrap());
    let mut monitor = Monitor::start(&[&uri, "--stall", "0.5"]);
    let lost = monitor.until_state("lost");
    assert_eq!(lost["cause"], "no frame for 0.5 s");
    let (summaries, errors) = monitor.interrupt();
    assert_eq!(summaries[0]["statistics"], Value::Null);
    assert!(!errors.contains("secret") && !lost.to_string().contains("secret"), "{errors}");
}

#[test]
fn an_unreachable_stream_is_given_up_and_a_command_that_fails_is_one_line() {
    let uri = "http://127.0.0.1:1/"; // nobody listens there
    let mut command = Command::new(env!("CARGO_BIN_EXE_qmambaiqa"));
    command.args(["monitor", "--retry-limit", "2", "--alarm-exec", "/nowhere/command", uri]);
    let out = command.output().unwrap();
    let (text, errors) = (String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    assert_eq!(out.status.code(), Some(1), "{text} {errors}");
    let changes = text
        .lines()
        .filter(|line| line.contains("lost: it cannot be played: ") || line.contains("failed after 2 tries: "));
    assert_eq!(changes.count(), 2, "{text}");
    // One for each change of state.
    assert_eq!(errors.lines().filter(|line| line.contains("/nowhere/command: No such file")).count(), 2, "{errors}");
    assert_eq!(errors.lines().count(), 2, "{errors}");
}

#[test]
fn what_is_wrong_is_said_in_one_line() {
    let bad = |args: &[&str], what: &str| {
        let out = Command::new(env!("CARGO_BIN_EXE_qmambaiqa")).arg("monitor").args(args).output().unwrap();
        let errors = String::from_utf8_lossy(&out.stderr);
        assert_eq!((out.status.code(), errors.lines().count()), (Some(1), 1), "{args:?}: {errors}");
        assert!(errors.starts_with("qmambaiqa: ") && errors.contains(what), "{args:?}: {errors}");
    };
    let uri = "http://127.0.0.1:9/";
    bad(&["/nowhere/clip.mp4"], "/nowhere/clip.mp4: neither a URI nor a file");
    bad(&["tests"], "tests: a folder");
    let empty = tempfile::NamedTempFile::new().unwrap();
    bad(&[empty.path().to_str().unwrap()], "the file is empty");
    bad(&["nothing://host/"], "nothing://host/: GStreamer cannot read from it");
    bad(&[uri, uri], "--name");
    bad(&[uri, "--log", "/nowhere/log.jsonl"], "/nowhere/log.jsonl: the log cannot be written");
    bad(&[uri, "--interval=-1"], "interval -1");
    let order = ["--low-threshold", "60", "--high-threshold", "40"];
    bad(&[uri, order[0], order[1], order[2], order[3]], "high-threshold 40 is less than low-threshold 60");
    bad(&[uri, "--jitter", "2"], "jitter 2 is not within 0 to 1");
    bad(&[uri, "--stall", "0"], "stall 0");
    bad(&[uri, "--alarm-exec", "sh -c 'x"], "quotation without an end");
    bad(&[uri, "--style-prompt", "/nowhere/p.safetensors"], "/nowhere/p.safetensors");
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    bad(&[uri, "--metrics", &address], &format!("cannot serve metrics at {address}"));
    bad(&[uri, "--web", &address], &format!("cannot serve the page at {address}"));
    bad(&[uri, "--web", "here"], "cannot serve the page at `here`: no HOST:PORT, nor a port");
    let out = Command::new(env!("CARGO_BIN_EXE_qmambaiqa")).arg("monitor").output().unwrap();
    assert!(!out.status.success() && String::from_utf8_lossy(&out.stderr).contains("<URIS>"));
}
