//! What is served over HTTP: a few pages, to readers only.

use crate::{Error, Result};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, ToSocketAddrs};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;
use tiny_http::{Header, Method, Request, Response};

/// How a server names what it serves.
#[derive(Debug, Clone, Copy)]
pub struct Site {
    /// Such as `metrics`.
    pub what: &'static str,
    /// The path where it begins; who asks for one that is not there is told.
    pub home: &'static str,
}

/// What is at a path.
#[derive(Debug)]
pub struct Content {
    /// MIME type.
    pub kind: &'static str,
    pub body: Vec<u8>,
}

/// What a path gives: nothing where it is not there; an error is the reader's to see.
pub type Answer = std::result::Result<Option<Content>, Box<dyn std::error::Error>>;

impl Site {
    /// Reads an address: `HOST:PORT`, or a port of this machine alone.
    ///
    /// # Errors
    /// It is none.
    pub fn address(&self, text: &str) -> Result<SocketAddr> {
        let wrong = || Error::Input(format!("cannot serve {} at `{text}`: no HOST:PORT, nor a port", self.what));
        match text.parse::<u16>() {
            Ok(port) => Ok(SocketAddr::from((Ipv4Addr::LOCALHOST, port))),
            Err(_) => text.to_socket_addrs().ok().and_then(|mut all| all.next()).ok_or_else(wrong),
        }
    }
}

/// A server with a thread of its own; it ends when dropped.
pub struct Server {
    server: Arc<tiny_http::Server>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Serves what `answer` gives for a path, which comes without its query.
    ///
    /// # Errors
    /// The address is taken or not this machine's.
    pub fn start(address: SocketAddr, site: Site, answer: impl Fn(&str) -> Answer + Send + 'static) -> Result<Self> {
        let failed = |e: &dyn std::fmt::Display| Error::Input(format!("cannot serve {} at {address}: {e}", site.what));
        let listener = bind(address).map_err(|e| failed(&e))?;
        let server = Arc::new(tiny_http::Server::from_listener(listener, None).map_err(|e| failed(&e))?);
        let own = server.clone();
        let serve = move || own.incoming_requests().for_each(|request| respond(request, site, &answer));
        let thread = std::thread::Builder::new().name("qmambaiqa-http".into()).spawn(serve).map_err(|e| failed(&e))?;
        Ok(Self { server, thread: Some(thread) })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.server.unblock();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join(); // a panic has been printed already
        }
    }
}

/// Listens. A server of this process that has just ended may need a moment to let go of the address.
fn bind(address: SocketAddr) -> std::io::Result<TcpListener> {
    let mut tries = 10;
    loop {
        match TcpListener::bind(address) {
            Err(e) if e.kind() == std::io::ErrorKind::AddrInUse && tries > 0 => {
                tries -= 1;
                std::thread::sleep(Duration::from_millis(30));
            }
            result => return result,
        }
    }
}

fn respond(request: Request, site: Site, answer: &impl Fn(&str) -> Answer) {
    let plain = |text: String| Content { kind: "text/plain; charset=utf-8", body: text.into_bytes() };
    let path = request.url().split('?').next().unwrap_or_default();
    let (status, content) = match request.method() {
        Method::Get | Method::Head => match answer(path) {
            Ok(Some(content)) => (200, content),
            Ok(None) => (404, plain(format!("nothing is here; {} begin at {}\n", site.what, site.home))),
            Err(e) => (500, plain(format!("{e}\n"))),
        },
        _ => (405, plain("only GET\n".into())),
    };
    let headers =
        [("Content-Type", content.kind), ("Cache-Control", "no-store"), ("X-Content-Type-Options", "nosniff")];
    let headers = headers.iter().filter_map(|(name, value)| Header::from_bytes(*name, *value).ok());
    let response = Response::from_data(content.body).with_status_code(status);
    // Whoever asked may have gone.
    let _ = request.respond(headers.fold(response, Response::with_header));
}
