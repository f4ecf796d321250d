//! Connections: accepting, limits, and the way to the pages.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited, combinators::BoxBody};
use hyper::body::{Body, Bytes, Frame, Incoming};
use hyper::header::{HeaderName, HeaderValue};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, mpsc};

use super::Site;
use super::pages::{Asked, Page, Pages, ServeOptions};

/// Connections at once.
const CONNECTIONS_MAX: usize = 128;
/// Of those, how many may stay for events.
const LISTENERS_MAX: usize = 32;
/// How long a client may take for the head of a request.
const HEAD_MAX: Duration = Duration::from_secs(10);
/// How long a connection may last that does not listen to events.
const CONNECTION_MAX: Duration = Duration::from_secs(120);
/// Longest body of a request, in bytes.
const BODY_LEN_MAX: usize = 16 * 1024;
/// Time between two events, and so between two looks at the values.
const EVENT_EVERY: Duration = Duration::from_secs(1);

struct Server {
    pages: Pages,
    listeners: Arc<Semaphore>,
}

/// Serves until the task is ended. Cancel safe: connections end with their own tasks.
pub async fn serve(listener: TcpListener, site: Arc<dyn Site>, options: ServeOptions) {
    let server = Arc::new(Server {
        pages: Pages::new(site, options),
        listeners: Arc::new(Semaphore::new(LISTENERS_MAX)),
    });
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    // Ends the connections with this task.
    let mut connections = tokio::task::JoinSet::new();
    loop {
        let Ok(permit) = Arc::clone(&room).acquire_owned().await else { return };
        let Ok((stream, _)) = listener.accept().await else {
            // Out of descriptors, say: the next one may fare better.
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let server = Arc::clone(&server);
        connections.spawn(async move {
            let _permit = permit;
            let (listening, listens) = tokio::sync::watch::channel(false);
            let service = hyper::service::service_fn(|request| {
                let (server, listening) = (Arc::clone(&server), listening.clone());
                async move { Ok::<_, Infallible>(server.answer(request, &listening).await) }
            });
            let connection = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD_MAX)
                .serve_connection(TokioIo::new(stream), service);
            tokio::pin!(connection);
            tokio::select! {
                // What a client does with its connection concerns nobody.
                _ = &mut connection => return,
                () = tokio::time::sleep(CONNECTION_MAX) => {}
            }
            if *listens.borrow() {
                let _ = connection.await;
            }
        });
        while connections.try_join_next().is_some() {}
    }
}

type Answer = Response<BoxBody<Bytes, Infallible>>;

impl Server {
    async fn answer(
        self: Arc<Self>,
        request: Request<Incoming>,
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
        let page = self.pages.page(&asked, &body).await;
        if page.events {
            return match Arc::clone(&self.listeners).try_acquire_owned() {
                Ok(permit) => {
                    listening.send_replace(true);
                    let (to, from) = mpsc::channel(2);
                    tokio::spawn(tell(Arc::clone(&self), to, permit));
                    finished(&page, Events(from).boxed())
                }
                Err(_) => plain(StatusCode::SERVICE_UNAVAILABLE, "too many listeners\n"),
            };
        }
        let body = if asked.method == "HEAD" { Bytes::new() } else { Bytes::from(page.body.clone()) };
        finished(&page, Full::new(body).boxed())
    }
}

/// Sends events to one listener until it goes.
async fn tell(server: Arc<Server>, to: mpsc::Sender<Bytes>, permit: tokio::sync::OwnedSemaphorePermit) {
    let _permit = permit;
    let mut beat = tokio::time::interval(EVENT_EVERY);
    beat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut seen = 0;
    loop {
        beat.tick().await;
        let event = server.pages.event(&mut seen);
        if to.send(Bytes::from(event)).await.is_err() {
            return;
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
