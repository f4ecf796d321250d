//! Connections: accepting, limits, and the way to the pages.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited, combinators::BoxBody};
use hyper::body::{Body, Bytes, Frame, Incoming};
use hyper::header::{HeaderName, HeaderValue};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, Semaphore, mpsc};

use super::Site;
use super::pages::{Asked, Page, Pages, ServeOptions};
use super::places::{Phase, Places};

/// Connections that may stay for events.
const LISTENERS_MAX: usize = 32;
/// How long a client may take for the head of a request.
const HEAD_MAX: Duration = Duration::from_secs(10);
/// How long a connection may last that does not listen to events.
const CONNECTION_MAX: Duration = Duration::from_secs(120);
/// How long a listener may leave events unread.
const UNREAD_MAX: Duration = Duration::from_secs(60);
/// Longest body of a request, in bytes.
const BODY_LEN_MAX: usize = 16 * 1024;
/// Time between two events, and so between two looks at the values.
const EVENT_EVERY: Duration = Duration::from_secs(1);

struct Server {
    pages: Pages,
    listeners: Arc<Semaphore>,
    places: Mutex<Places<Arc<Notify>>>,
}

/// The place of one connection; free again when it is dropped.
struct Admitted {
    server: Arc<Server>,
    number: u64,
    /// Told when the connection is to be closed.
    close: Arc<Notify>,
}

impl Admitted {
    fn set(&self, phase: Phase) {
        self.server.places().set(self.number, phase);
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        self.server.places().leave(self.number);
    }
}

/// Serves until the task is ended. Cancel safe: connections end with their own tasks.
pub async fn serve(listener: TcpListener, site: Arc<dyn Site>, options: ServeOptions) {
    let server = Arc::new(Server {
        pages: Pages::new(site, options),
        listeners: Arc::new(Semaphore::new(LISTENERS_MAX)),
        places: Mutex::default(),
    });
    // Ends the connections with this task.
    let mut connections = tokio::task::JoinSet::new();
    loop {
        let Ok((stream, from)) = listener.accept().await else {
            // Out of descriptors, say: the next one may fare better.
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let close = Arc::new(Notify::new());
        let entered = server.places().enter(from.ip(), Arc::clone(&close));
        let Some((number, closed)) = entered else { continue };
        if let Some(closed) = closed {
            closed.notify_one();
        }
        let place = Admitted { server: Arc::clone(&server), number, close };
        connections.spawn(converse(stream, place));
        while connections.try_join_next().is_some() {}
        // What has come in whole is read before others are let in and take its place.
        tokio::task::yield_now().await;
    }
}

/// Answers one client until it leaves, its time is over, or its place is taken away.
async fn converse(stream: TcpStream, place: Admitted) {
    let close = Arc::clone(&place.close);
    let place = Arc::new(place);
    let (listening, listens) = tokio::sync::watch::channel(false);
    let service = hyper::service::service_fn(move |request| {
        let (place, listening) = (Arc::clone(&place), listening.clone());
        async move { Ok::<_, Infallible>(place.server.answer(request, &place, &listening).await) }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_MAX)
        .serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    tokio::select! {
        // What a client does with its connection concerns nobody.
        _ = &mut connection => return,
        () = close.notified() => return,
        () = tokio::time::sleep(CONNECTION_MAX) => {}
    }
    if *listens.borrow() {
        tokio::select! {
            _ = connection => {}
            () = close.notified() => {}
        }
    }
}

type Answer = Response<BoxBody<Bytes, Infallible>>;

impl Server {
    fn places(&self) -> MutexGuard<'_, Places<Arc<Notify>>> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn answer(
        self: &Arc<Self>,
        request: Request<Incoming>,
        place: &Admitted,
        listening: &tokio::sync::watch::Sender<bool>,
    ) -> Answer {
        let header = |name| request.headers().get(name).and_then(|value: &HeaderValue| value.to_str().ok());
        let asked = Asked {
            method: request.method().to_string(),
            path: request.uri().path().to_owned(),
            query: request.uri().query().unwrap_or_default().to_owned(),
            token: header("authorization").and_then(|text| text.strip_prefix("Bearer ")).map(str::to_owned),
            content_type: header("content-type").unwrap_or_default().to_owned(),
        };
        let body = match Limited::new(request.into_body(), BODY_LEN_MAX).collect().await {
            Ok(body) => body.to_bytes(),
            Err(_) => return plain(StatusCode::PAYLOAD_TOO_LARGE, "the request is too long\n"),
        };
        place.set(Phase::Asked);
        let page = self.pages.page(&asked, &body).await;
        place.set(Phase::Idle);
        if page.events {
            return match Arc::clone(&self.listeners).try_acquire_owned() {
                Ok(permit) => {
                    listening.send_replace(true);
                    place.set(Phase::Listening);
                    let (to, from) = mpsc::channel(2);
                    tokio::spawn(tell(Arc::clone(self), to, permit, Arc::clone(&place.close)));
                    finished(&page, Events(from).boxed())
                }
                Err(_) => plain(StatusCode::SERVICE_UNAVAILABLE, "too many listeners\n"),
            };
        }
        let body = if asked.method == "HEAD" { Bytes::new() } else { Bytes::from(page.body.clone()) };
        finished(&page, Full::new(body).boxed())
    }
}

/// Sends events to one listener until it leaves; `close` ends the connection of one that does not read.
async fn tell(
    server: Arc<Server>,
    to: mpsc::Sender<Bytes>,
    permit: tokio::sync::OwnedSemaphorePermit,
    close: Arc<Notify>,
) {
    let _permit = permit;
    let mut beat = tokio::time::interval(EVENT_EVERY);
    beat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut seen = 0;
    loop {
        beat.tick().await;
        let event = server.pages.event(&mut seen);
        match tokio::time::timeout(UNREAD_MAX, to.send(Bytes::from(event))).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) => return,
            Err(_) => return close.notify_one(),
        }
    }
}

/// A body of events.
struct Events(mpsc::Receiver<Bytes>);

impl Body for Events {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(context).map(|event| event.map(|event| Ok(Frame::data(event))))
    }
}

fn plain(status: StatusCode, text: &str) -> Answer {
    finished(&Page::text(status.as_u16(), text), Full::new(Bytes::from(text.to_owned())).boxed())
}

fn finished(page: &Page, body: BoxBody<Bytes, Infallible>) -> Answer {
    let mut answer = Response::new(body);
    *answer.status_mut() = StatusCode::from_u16(page.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = answer.headers_mut();
    for (name, value) in page.headers() {
        if let Ok(value) = HeaderValue::from_str(&value) {
            headers.insert(HeaderName::from_static(name), value);
        }
    }
    answer
}
