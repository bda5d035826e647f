//! HTTP/1 over the connections of a listener.

use std::convert::Infallible;
use std::future::{Future, pending, poll_fn};
use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use hyper::body::{Bytes, Frame, Incoming, SizeHint};
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use rustix::process::{Resource, getrlimit};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::{JoinSet, yield_now};
use tokio::time::{Instant, sleep_until, timeout};

use super::answers::{Answers, Response};
use super::connections::{Connections, Limits, Slot};

/// The longest pause after an accept that failed.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Connections that are taken in before those that are in have their turn.
const ACCEPT_BATCH: u32 = 16;

/// Bytes of an answer that are on their way to the system at a time.
const PART_BYTES: usize = 64 * 1024;

/// The least `max_buf_size` that hyper takes; it panics below.
const HYPER_MIN_BUFFER: usize = 8192;

/// Answers GET and HEAD requests with what `handler` makes of their path (without the query) until `shutdown` resolves;
/// then accepts no more, gives running answers [`Limits::grace`] to be taken, and returns.
///
/// A handler that panics loses its own connection alone.
///
/// # Errors
/// When the runtime cannot take the listener. What happens on connections is never an error.
pub async fn serve<H, F>(
    listener: std::net::TcpListener,
    limits: Limits,
    handler: H,
    shutdown: impl Future<Output = ()>,
) -> io::Result<()>
where
    H: Fn(String) -> F + Send + Sync + 'static,
    F: Future<Output = Response> + Send + 'static,
{
    listener.set_nonblocking(true)?;
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let answers = Answers::new(handler);
    // The other half is for captures and the database.
    let half = getrlimit(Resource::Nofile).current.map_or(usize::MAX, |descriptors| (descriptors / 2) as usize);
    let connections = Connections::new(Limits { connections: limits.connections.min(half), ..limits });
    let mut tasks = JoinSet::new();
    let mut shutdown = pin!(shutdown);
    let mut taken_in = 0;
    loop {
        tokio::select! {
            () = &mut shutdown => break,
            Some(_) = tasks.join_next() => {}
            accepted = listener.accept() => match accepted {
                Ok((stream, from)) => {
                    let (slot, ended) = connections.enter(from.ip());
                    tasks.spawn(converse(stream, slot, ended, Arc::clone(&answers)));
                    // However many come, each is heard before it may lose its place.
                    taken_in = (taken_in + 1) % ACCEPT_BATCH;
                    if taken_in == 0 {
                        yield_now().await;
                    }
                }
                // That client is gone already; the next one is not.
                Err(error) if matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::Interrupted) => {}
                // For want of descriptors or memory: it would fail again at once, unless somebody makes room.
                Err(_) => {
                    let goes = connections.drop_one();
                    let gone = async { if goes { tasks.join_next().await } else { pending().await } };
                    let _ = timeout(ACCEPT_PAUSE, gone).await;
                }
            },
        }
    }
    drop(listener);
    connections.close();
    // Whatever is left after the grace goes down with `tasks`.
    let _ = timeout(limits.grace, async { while tasks.join_next().await.is_some() {} }).await;
    Ok(())
}

/// One connection from accept to close, cut off when its deadline passes or its place is taken.
async fn converse<H, F>(stream: TcpStream, slot: Arc<Slot>, ended: oneshot::Receiver<()>, answers: Arc<Answers<H>>)
where
    H: Fn(String) -> F + Send + Sync + 'static,
    F: Future<Output = Response> + Send + 'static,
{
    let mut talk = pin!(talk(stream, Arc::clone(&slot), answers));
    let mut ended = pin!(ended);
    let mut timer = pin!(sleep_until(Instant::now()));
    poll_fn(|cx| {
        if talk.as_mut().poll(cx).is_ready() {
            return Poll::Ready(());
        }
        // Only `talk` moves the deadline, so this is the place to see it moved.
        let Some(deadline) = slot.deadline() else { return Poll::Ready(()) };
        if timer.deadline() != deadline {
            timer.as_mut().reset(deadline);
        }
        let over = ended.as_mut().poll(cx).is_ready() || timer.as_mut().poll(cx).is_ready();
        if over { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}

/// Requests and answers until either side has had enough, then an end that the client can read to.
async fn talk<H, F>(stream: TcpStream, slot: Arc<Slot>, answers: Arc<Answers<H>>)
where
    H: Fn(String) -> F + Send + Sync + 'static,
    F: Future<Output = Response> + Send + 'static,
{
    // Without it a small answer could wait for the acknowledgement of the one before; a failure costs only that.
    let _ = stream.set_nodelay(true);
    let limits = *slot.limits();
    let service = service_fn(|request| {
        let (slot, answers) = (Arc::clone(&slot), Arc::clone(&answers));
        // Here and not in the future: hyper discards a request's body once nobody holds it.
        let asked = question(&request, &limits);
        let is_head = request.method() == Method::HEAD;
        Box::pin(async move {
            slot.asked();
            let response = match asked {
                Ok(path) => answers.to(path).await,
                Err(refusal) => Arc::new(refusal),
            };
            Ok::<_, Infallible>(encode(&response, is_head, slot))
        })
    });
    let mut connection = http1::Builder::new()
        // `Slot` knows every deadline. hyper's own would be a second clock for the same wait, and would take an idle
        // connection for a slow one.
        .header_read_timeout(None)
        .max_headers(limits.headers)
        .max_header_size(limits.header_bytes)
        .max_buf_size(limits.header_bytes.max(HYPER_MIN_BUFFER))
        // A client may close its half as soon as it has asked (`nc -N`), and still wants the answer.
        .half_close(true)
        .serve_connection(TokioIo::new(Watched { stream, slot: Arc::clone(&slot) }), service);
    // An error here is a client that broke off or spoke no HTTP.
    let _ = poll_fn(|cx| connection.poll_without_shutdown(cx)).await;
    slot.ending();
    farewell(connection.into_parts().io.into_inner().stream).await;
}

/// The path asked for, or why it is not answered.
fn question(request: &Request<Incoming>, limits: &Limits) -> Result<String, Response> {
    let uri = request.uri();
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return Err(Response::text(405, "only GET and HEAD"));
    }
    if uri.path_and_query().is_some_and(|it| it.as_str().len() > limits.uri_bytes) {
        return Err(Response::text(414, "the path is too long"));
    }
    Ok(uri.path().to_owned())
}

fn encode(response: &Arc<Response>, is_head: bool, slot: Arc<Slot>) -> hyper::Response<Answer> {
    let left = response.body.len();
    slot.answered((!is_head).then(|| Arc::clone(response)));
    let mut encoded = hyper::Response::new(Answer { slot, left });
    *encoded.status_mut() = StatusCode::from_u16(response.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = encoded.headers_mut();
    if let Ok(content_type) = HeaderValue::from_str(response.content_type) {
        headers.insert(CONTENT_TYPE, content_type);
    }
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if response.status == 405 {
        headers.insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
    }
    encoded
}

/// The body of an answer. It comes from the slot in parts, so that what waits to be taken is in one place.
struct Answer {
    slot: Arc<Slot>,
    left: usize,
}

impl hyper::body::Body for Answer {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        // Without its place the connection is about to end.
        let part = self.slot.hand_out(PART_BYTES);
        self.left -= part.as_ref().map_or(self.left, Vec::len);
        Poll::Ready(part.map(|part| Ok(Frame::data(part.into()))))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left as u64)
    }
}

/// Closes our half and waits for the client's. Closing with bytes unread would reset the connection, and the client
/// could lose an answer that it has not read yet, such as why its request was refused.
async fn farewell(mut stream: TcpStream) {
    let mut discarded = [0; 4096];
    poll_fn(|cx| {
        if ready!(Pin::new(&mut stream).poll_shutdown(cx)).is_err() {
            return Poll::Ready(());
        }
        loop {
            let mut buffer = ReadBuf::new(&mut discarded);
            match ready!(Pin::new(&mut stream).poll_read(cx, &mut buffer)) {
                Ok(()) if !buffer.filled().is_empty() => {}
                _ => return Poll::Ready(()),
            }
        }
    })
    .await;
}

/// The stream, telling the slot of what passes. hyper flushes the stream only when its own buffer is empty, so a flush
/// means that everything handed out is out.
struct Watched {
    stream: TcpStream,
    slot: Arc<Slot>,
}

impl AsyncRead for Watched {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buffer);
        if buffer.filled().len() > before {
            self.slot.heard();
        }
        read
    }
}

impl AsyncWrite for Watched {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.slot.flushed();
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
