//! HTTP/2's word for "no more requests", said half a second before hyper says it.
//!
//! hyper sends GOAWAY and a PING, and once the PING is answered it ignores what comes. But clients answer a PING before
//! they send what is queued, so that a request of that instant is refused. So ours comes alone, between two of hyper's
//! frames: whoever has heard it sends what it has queued, and nothing new.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::AsyncWrite;

/// GOAWAY without an error, for streams above the highest number: all that are under way will be served.
const FRAME: &[u8] = &[0, 0, 8, 7, 0, 0, 0, 0, 0, 0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 0];

/// Follows the frames that hyper writes, and puts a GOAWAY between two of them.
#[derive(Default)]
pub(super) struct Goaway {
    frames: Frames,
    /// Bytes of it that are written.
    said: usize,
}

impl Goaway {
    /// Notes what hyper has written.
    pub(super) fn follow(&mut self, written: &[u8]) {
        self.frames.follow(written);
    }

    /// Writes it if this is a place for it, and says whether it is now written.
    pub(super) fn poll_say(
        &mut self,
        mut stream: Pin<&mut impl AsyncWrite>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<bool>> {
        if self.said == 0 && !self.frames.between() {
            return Poll::Ready(Ok(false));
        }
        while self.said < FRAME.len() {
            match ready!(stream.as_mut().poll_write(cx, &FRAME[self.said..]))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                written => self.said += written,
            }
        }
        Poll::Ready(Ok(true))
    }
}

/// Where in a sequence of frames a stream is. A frame is nine bytes, of which three are the payload's length, and the
/// payload.
#[derive(Default)]
struct Frames {
    header: usize,
    payload: usize,
    any: bool,
}

impl Frames {
    const HEADER: usize = 9;

    fn follow(&mut self, mut bytes: &[u8]) {
        while let Some(&first) = bytes.first() {
            if self.header < Self::HEADER {
                if self.header < 3 {
                    self.payload = self.payload << 8 | usize::from(first);
                }
                self.header += 1;
                bytes = &bytes[1..];
            } else {
                let skipped = self.payload.min(bytes.len());
                self.payload -= skipped;
                bytes = &bytes[skipped..];
            }
            if self.header == Self::HEADER && self.payload == 0 {
                *self = Self { any: true, ..Self::default() };
            }
        }
    }

    /// Between two frames, and not before the first, which must be the server's SETTINGS.
    fn between(&self) -> bool {
        self.any && self.header == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_end_where_their_length_says_however_they_are_written() {
        // SETTINGS without payload, DATA with three bytes, GOAWAY.
        let stream = [&[0, 0, 0, 4, 0, 0, 0, 0, 0][..], &[0, 0, 3, 0, 1, 0, 0, 0, 1, 7, 7, 7], FRAME].concat();
        let ends = [9, 21, stream.len()];
        for size in 1..=stream.len() {
            let mut frames = Frames::default();
            let mut written = 0;
            for piece in stream.chunks(size) {
                frames.follow(piece);
                written += piece.len();
                assert_eq!(frames.between(), ends.contains(&written), "{written} bytes in pieces of {size}");
            }
        }
    }
}
