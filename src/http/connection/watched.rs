//! What a connection's bytes pass through, so that its `Activity` knows of them: the stream, and the answers' bodies.

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use axum::body::{Body, Bytes, HttpBody};
use http_body::{Frame, SizeHint};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::activity::{Activity, InFlight};
use super::goaway::Goaway;

/// The head and the body of an answer that are together no longer than this are copied into one piece: the kernel takes
/// one sooner than two.
const SHORT: usize = 2048;

/// A stream that notes its activity, and says GOAWAY when it is to.
pub(super) struct Watched<S> {
    stream: S,
    activity: Activity,
    goaway: Goaway,
}

impl<S> Watched<S> {
    pub(super) fn new(stream: S, activity: Activity) -> Self {
        Self { stream, activity, goaway: Goaway::default() }
    }

    /// Notes what came of an attempt to write `bufs`.
    fn note(&mut self, bufs: &[IoSlice<'_>], written: &Poll<io::Result<usize>>) {
        let Poll::Ready(result) = written else { return self.activity.note_blocked() };
        let mut left = *result.as_ref().unwrap_or(&0);
        self.activity.note_write(left);
        if self.activity.is_http2() {
            for buf in bufs {
                let part = left.min(buf.len());
                self.goaway.follow(&buf[..part]);
                left -= part;
            }
        }
    }
}

impl<S: AsyncWrite + Unpin> Watched<S> {
    fn poll_goaway(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.activity.owes_farewell() {
            let said = self.goaway.poll_say(Pin::new(&mut self.stream), cx);
            if said.is_pending() {
                self.activity.note_blocked();
            }
            if ready!(said)? {
                self.activity.note_farewell_said();
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let poll = Pin::new(&mut self.stream).poll_read(cx, buf);
        if buf.filled().len() > before {
            self.activity.note_read(&buf.filled()[before..]);
        }
        poll
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        ready!(self.poll_goaway(cx))?;
        let poll = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.note(&[IoSlice::new(buf)], &poll);
        poll
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_goaway(cx))?;
        let mut room = [MaybeUninit::uninit(); SHORT];
        let poll = match in_one_piece(bufs, &mut ReadBuf::uninit(&mut room)) {
            Some(piece) => Pin::new(&mut self.stream).poll_write(cx, piece),
            None => Pin::new(&mut self.stream).poll_write_vectored(cx, bufs),
        };
        self.note(bufs, &poll);
        poll
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_goaway(cx))?;
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// `bufs`, copied into `room`, where they fit.
fn in_one_piece<'a>(bufs: &[IoSlice<'_>], room: &'a mut ReadBuf<'_>) -> Option<&'a [u8]> {
    let length: usize = bufs.iter().map(|buf| buf.len()).sum();
    (length <= room.capacity()).then(|| {
        for buf in bufs {
            room.put_slice(buf);
        }
        room.filled()
    })
}

/// An answer's body that keeps its request in flight until its client has made room for all of it.
///
/// hyper comes back for the next part when its buffer has room again: in HTTP/1, that is enough. In HTTP/2 it comes back
/// at once, takes the next part, and waits with that one until the client's window is open for a byte of it. So the last
/// byte of every part is a part of its own: hyper comes back after it only when all before it fits in the window.
pub(super) struct Answer {
    body: Body,
    in_flight: InFlight,
    begun: bool,
    /// The byte that was held back.
    last: Option<Bytes>,
}

impl Answer {
    pub(super) fn new(body: Body, in_flight: InFlight) -> Self {
        Self { body, in_flight, begun: false, last: None }
    }

    fn hold_last_byte_back(&mut self, frame: Frame<Bytes>) -> Frame<Bytes> {
        match frame.into_data() {
            Ok(mut data) if data.len() > 1 && self.in_flight.is_http2() => {
                self.last = Some(data.split_off(data.len() - 1));
                Frame::data(data)
            }
            Ok(data) => Frame::data(data),
            Err(trailers) => trailers,
        }
    }
}

impl HttpBody for Answer {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let poll = match self.last.take() {
            Some(byte) => Poll::Ready(Some(Ok(Frame::data(byte)))),
            None => Pin::new(&mut self.body).poll_frame(cx).map_ok(|frame| self.hold_last_byte_back(frame)),
        };
        // Until hyper comes back for more, its client has to read; a pending body waits for us.
        let gave = matches!(poll, Poll::Ready(Some(Ok(_))));
        self.begun |= gave;
        self.in_flight.set_unread(gave);
        poll
    }

    /// Only of one without any part. hyper drops a body that says so once it is buffered, read or not.
    fn is_end_stream(&self) -> bool {
        !self.begun && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
