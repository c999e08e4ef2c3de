"use strict";
const POLL = 1000; // milliseconds
const $ = (id) => document.getElementById(id);
const clock = (time) => new Date(1000 * time).toLocaleTimeString();
const score = (value) => (value === null ? "–" : value.toFixed(1));

// Sets what is shown, where it is another: a reader's selection and what screen readers announce stay undisturbed.
function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
  element.hidden = text === "";
}

function curve(values) {
  let path = "";
  values.forEach((value, i) => {
    if (value === null) return;
    const begins = i === 0 || values[i - 1] === null;
    path += `${begins ? "M" : "L"}${i} ${(100 - value).toFixed(1)}`;
    if (begins) path += "h0.01"; // a lone score is a dot
  });
  return path;
}

function still(figure, source, number, caption, alt) {
  figure.hidden = number === null;
  if (number === null) return;
  const wanted = `${source}?${number}`;
  const image = figure.querySelector("img");
  if (image.getAttribute("src") !== wanted) image.src = wanted;
  image.alt = alt;
  say(figure.querySelector("figcaption"), caption);
}

function show(card, stream, i, overview) {
  const part = (name) => card.querySelector(name);
  card.className = `stream ${stream.state}${stream.alarm ? " alarmed" : ""}`;
  say(part(".name"), stream.name);
  say(part(".score"), score(stream.score));
  say(part(".state"), stream.state);
  say(part(".alarm"), stream.alarm ? `alarm: ${stream.alarm}` : "");
  say(part(".cause"), stream.cause ?? "");
  part(".line").setAttribute("d", curve(stream.curve));
  part(".curve").setAttribute("aria-label", `Scores of ${stream.name}, now ${score(stream.score)}`);
  const low = part(".low");
  low.setAttribute("y1", 100 - overview.low_threshold);
  low.setAttribute("y2", 100 - overview.low_threshold);
  low.setAttribute("visibility", overview.low_threshold > 0 ? "visible" : "hidden");
  still(part(".last"), `${i}/last.jpg`, stream.last, "last scored", `Last scored frame of ${stream.name}`);
  const worst = stream.worst;
  still(part(".worst"), `${i}/worst.jpg`, worst?.number ?? null,
    worst ? `worst: ${score(worst.score)} at ${clock(worst.unix_time)}` : "", `Worst frame of ${stream.name}`);
  const times = (count, what) => `${count} ${what}${count === 1 ? "" : "s"}`;
  say(part(".counts"),
    `mean ${score(stream.mean)}, ${times(stream.alarms, "alarm")}, lost ${times(stream.losses, "time")}`);
}

function update(overview) {
  const seconds = overview.window;
  say($("window"), seconds < 120 ? `${seconds} seconds` : `${Math.round(seconds / 60)} minutes`);
  const cards = $("streams").children;
  overview.streams.forEach((stream, i) => {
    if (!cards[i]) $("streams").append($("stream").content.cloneNode(true));
    show(cards[i], stream, i, overview);
  });
  const lines = overview.events.map((event) => {
    const time = document.createElement("time");
    time.textContent = clock(event.unix_time);
    const line = document.createElement("li");
    line.append(time, event.text);
    return line;
  });
  if ($("events").textContent !== lines.map((line) => line.textContent).join("")) $("events").replaceChildren(...lines);
}

async function poll() {
  if (!document.hidden) {
    try {
      const answer = await fetch("streams.json");
      if (!answer.ok) throw new Error(answer.status);
      update(await answer.json());
      $("gone").hidden = true;
    } catch {
      $("gone").hidden = false;
    }
  }
  setTimeout(poll, POLL);
}

poll();
