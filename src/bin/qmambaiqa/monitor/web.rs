//! A live page of all streams: it needs nothing from elsewhere and asks for the [`Overview`](super::board::Overview) again and
//! again.

use super::board::{Board, Which};
use super::picture;
use anyhow::Result;
use maud::{DOCTYPE, Markup, PreEscaped, html};
use parking_lot::Mutex;
use qmambaiqa::http::{Answer, Content, Server, Site};
use std::sync::Arc;

const SITE: Site = Site { what: "the page", home: "/" };
const STYLE: &str = concat!(include_str!("../page.css"), include_str!("web.css"));
/// Names and texts of streams come in by it as text, never as HTML.
const SCRIPT: &str = include_str!("web.js");

/// Whatever a stream is called, a browser runs and fetches nothing but what this server gives.
const POLICY: &str = "default-src 'none'; connect-src 'self'; img-src 'self' data:; style-src 'unsafe-inline'; \
                      script-src 'unsafe-inline'";

/// Serves the page at an address: `HOST:PORT`, or a port of this machine alone.
///
/// # Errors
/// The address is none, or taken.
pub fn serve(address: &str, board: Arc<Mutex<Board>>) -> Result<Server> {
    Ok(Server::start(SITE.address(address)?, SITE, move |path| answer(path, &board))?)
}

fn answer(path: &str, board: &Mutex<Board>) -> Answer {
    Ok(match path {
        "/" => Some(Content { kind: "text/html; charset=utf-8", body: page().into_string().into_bytes() }),
        "/streams.json" => {
            Some(Content { kind: "application/json", body: serde_json::to_vec(&board.lock().overview())? })
        }
        // Encoded for whoever asks, and without the lock.
        _ => match still(path).and_then(|(number, which)| board.lock().picture(number, which)) {
            Some(picture) => Some(Content { kind: "image/jpeg", body: picture::jpeg(&picture)? }),
            None => None,
        },
    })
}

/// The picture that is at a path: `/3/last.jpg`, `/3/worst.jpg`, of the fourth stream.
fn still(path: &str) -> Option<(usize, Which)> {
    let (number, name) = path.strip_prefix('/')?.split_once('/')?;
    let which = match name {
        "last.jpg" => Which::Last,
        "worst.jpg" => Which::Worst,
        _ => return None,
    };
    Some((number.parse().ok()?, which))
}

fn page() -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                meta http-equiv="Content-Security-Policy" content=(POLICY);
                link rel="icon" href="data:,";
                title { "Video quality, live" }
                style { (PreEscaped(STYLE)) }
            }
            body {
                main {
                    h1 { "Video quality, live" }
                    p.faint { "Scores without a reference, 0 (worst) to 100 (best), of the last "
                        span #window {} ", by qmambaiqa " (env!("CARGO_PKG_VERSION")) "." }
                    p #gone role="alert" hidden { "The monitor does not answer: what is shown is old." }
                    noscript { p { "This page needs JavaScript." } }
                    div #streams {}
                    h2 { "Events" }
                    ul #events aria-live="polite" {}
                }
                template #stream { (card()) }
                script { (PreEscaped(SCRIPT)) }
            }
        }
    }
}

/// What there is for each stream, empty.
fn card() -> Markup {
    html! {
        section.stream {
            h2.name {}
            p.now {
                span.score {}
                span.state {}
                span.alarm hidden {}
            }
            p.cause hidden {}
            svg.curve viewBox="0 0 149 100" preserveAspectRatio="none" role="img" {
                line.low x1="0" x2="149" visibility="hidden" {}
                path.line d="" {}
            }
            div.stills {
                @for which in ["last", "worst"] {
                    figure class=(which) hidden { img alt=""; figcaption {} }
                }
            }
            p.faint.counts {}
        }
    }
}
