//! A request's body, decoded. What comes of it counts against the pool as it comes, and is bounded as any body is: a few
//! bytes that stand for gigabytes cost no more than a plain body that is too large.

use std::io::{self, Read as _};

use bytes::{Buf as _, Bytes};
use flate2::bufread::MultiGzDecoder;
use flate2::{Decompress, FlushDecompress, Status};

use super::{Coding, coded};
use crate::api;
use crate::http::body::too_large;
use crate::http::error::Error;
use crate::tensor::pool::{Buffer, Pool};

/// The largest window of zstd that RFC 9659 lets a coding have, as a power of two: it is memory that nobody counts.
const WINDOW_LOG: u32 = 23;
/// Bytes that are decoded in one step.
const STEP: usize = 32 << 10;

/// What `body` is a coding of, if that is at most `most` bytes.
pub(in crate::http) async fn decoded(coding: Coding, body: Bytes, most: usize, pool: &Pool) -> Result<Bytes, Error> {
    if body.is_empty() {
        return Ok(body);
    }
    let mut decoding = Decoding::new(coding, body, most, pool)?;
    // How much comes of it is not known: it is begun here, and where it is much, it goes on elsewhere.
    if !decoding.advance(api::INLINE)? {
        let on = move || decoding.advance(usize::MAX).map(|_| decoding);
        decoding = coded(usize::MAX, on).await??;
    }
    Ok(decoding.whole.into())
}

/// A body that is being decoded.
struct Decoding {
    coding: Coding,
    source: Source,
    /// Bytes of the body itself, which count, too.
    encoded: usize,
    whole: Buffer,
    most: usize,
}

impl Decoding {
    fn new(coding: Coding, body: Bytes, most: usize, pool: &Pool) -> Result<Self, Error> {
        let encoded = body.len();
        let room = encoded.saturating_mul(2).min(most);
        let whole = pool.take(room).map_err(|full| Error::no_room(full, encoded + taken_for(room)))?;
        let source = Source::new(coding, body).map_err(|error| broken(coding, &error))?;
        Ok(Self { coding, source, encoded, whole, most })
    }

    /// Decodes until there are more than `enough` bytes, or all; the latter is true.
    fn advance(&mut self, enough: usize) -> Result<bool, Error> {
        let mut step = vec![0; STEP];
        while self.whole.len() <= enough {
            let length = self.source.read(&mut step).map_err(|error| broken(self.coding, &error))?;
            if length == 0 {
                return Ok(true);
            }
            self.push(&step[..length])?;
        }
        Ok(false)
    }

    fn push(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let length = self.whole.len() + bytes.len();
        if length > self.most {
            return Err(too_large(self.most));
        }
        if length > self.whole.capacity() {
            let room = length.saturating_mul(2).min(self.most);
            self.whole.reserve(room).map_err(|full| Error::no_room(full, self.encoded + taken_for(room)))?;
        }
        self.whole.extend_from_slice(bytes);
        Ok(())
    }
}

/// What the pool takes to make `room`, which is at most a body's limit.
fn taken_for(room: usize) -> usize {
    room.next_power_of_two()
}

fn broken(coding: Coding, error: &io::Error) -> Error {
    Error::bad_input(format!("the body is no whole {} stream, which its Content-Encoding says: {error}", coding.name()))
}

enum Source {
    Gzip(MultiGzDecoder<bytes::buf::Reader<Bytes>>),
    Deflate(Zlib),
    Zstd(zstd::stream::read::Decoder<'static, bytes::buf::Reader<Bytes>>),
}

impl Source {
    fn new(coding: Coding, body: Bytes) -> io::Result<Self> {
        Ok(match coding {
            Coding::Gzip => Self::Gzip(MultiGzDecoder::new(body.reader())),
            Coding::Deflate => Self::Deflate(Zlib { state: Decompress::new(true), rest: body, ended: false }),
            Coding::Zstd => {
                let mut decoder = zstd::stream::read::Decoder::with_buffer(body.reader())?;
                decoder.window_log_max(WINDOW_LOG)?;
                Self::Zstd(decoder)
            }
        })
    }

    /// The next bytes; none at the end of a whole stream only.
    fn read(&mut self, step: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Gzip(decoder) => decoder.read(step),
            Self::Deflate(zlib) => zlib.read(step),
            Self::Zstd(decoder) => decoder.read(step),
        }
    }
}

/// flate2's own reader takes a stream that breaks off for one that ends, and what stands behind it for nothing.
struct Zlib {
    state: Decompress,
    rest: Bytes,
    ended: bool,
}

impl Zlib {
    fn read(&mut self, step: &mut [u8]) -> io::Result<usize> {
        loop {
            if self.ended {
                let left = self.rest.len();
                let odd = || io::Error::new(io::ErrorKind::InvalidData, format!("{left} bytes follow its end"));
                return if left == 0 { Ok(0) } else { Err(odd()) };
            }
            let (taken, given) = (self.state.total_in(), self.state.total_out());
            let status = self.state.decompress(&self.rest, step, FlushDecompress::None)?;
            let difference = |now: u64, before: u64| usize::try_from(now - before).unwrap_or(usize::MAX);
            let (taken, given) = (difference(self.state.total_in(), taken), difference(self.state.total_out(), given));
            self.rest.advance(taken.min(self.rest.len()));
            self.ended = status == Status::StreamEnd;
            if given > 0 {
                return Ok(given);
            }
            if taken == 0 && !self.ended {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use flate2::Compression;
    use flate2::write::{GzEncoder, ZlibEncoder};

    use super::*;

    const MIB: usize = 1 << 20;

    fn coded(coding: Coding, bytes: &[u8]) -> Vec<u8> {
        match coding {
            Coding::Gzip => {
                let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
                encoder.write_all(bytes).and_then(|()| encoder.finish())
            }
            Coding::Deflate => {
                let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
                encoder.write_all(bytes).and_then(|()| encoder.finish())
            }
            Coding::Zstd => zstd::encode_all(bytes, 0),
        }
        .unwrap()
    }

    async fn decode(coding: Coding, body: Vec<u8>, most: usize) -> Result<Bytes, Error> {
        let pool = Pool::new(256 * MIB);
        let result = decoded(coding, body.into(), most, &pool).await;
        if result.is_err() {
            assert_eq!(pool.used(), 0, "what failed holds nothing");
        }
        result
    }

    #[tokio::test]
    async fn what_was_coded_comes_back_whatever_its_size() {
        for coding in Coding::ALL {
            for length in [0, 1, STEP, api::INLINE, api::INLINE + 1, 3 * MIB] {
                let plain: Vec<u8> = (0..length).map(|index| (index % 251).to_le_bytes()[0]).collect();
                let back = decode(coding, coded(coding, &plain), 64 * MIB).await.unwrap();
                assert!(back == plain, "{coding:?} of {length} bytes");
            }
        }
        // Two members, or frames, are one body.
        for coding in [Coding::Gzip, Coding::Zstd] {
            let twice = [coded(coding, b"one "), coded(coding, b"two")].concat();
            assert_eq!(decode(coding, twice, 64).await.unwrap(), "one two");
        }
    }

    #[tokio::test]
    async fn a_stream_that_breaks_off_or_is_none_is_told_so() {
        for coding in Coding::ALL {
            let whole = coded(coding, &vec![7; 100_000]);
            let behind = [&whole[..], b"more"].concat();
            let flipped: Vec<u8> = whole.iter().map(|byte| byte ^ 0x55).collect();
            for odd in [whole[..whole.len() - 1].to_vec(), whole[..5].to_vec(), behind, flipped, b"{}".to_vec()] {
                let error = decode(coding, odd.clone(), MIB).await.unwrap_err();
                let expected = format!("the body is no whole {} stream", coding.name());
                assert!(error.status() == 400 && error.message().contains(&expected), "{odd:?}: {error:?}");
            }
        }
    }

    #[tokio::test]
    async fn what_stands_for_too_much_is_refused_at_the_limit() {
        for coding in Coding::ALL {
            let bomb = coded(coding, &vec![0; 8 * MIB]);
            assert!(bomb.len() < MIB / 64);
            assert_eq!(decode(coding, bomb.clone(), MIB).await.unwrap_err().status(), 413);
            // Nor does it hold more than the pool has.
            let pool = Pool::new(2 * MIB);
            let error = decoded(coding, bomb.into(), 64 * MIB, &pool).await.unwrap_err();
            assert_eq!((error.status().as_u16(), pool.used()), (413, 0), "{error:?}");
        }
    }

    #[tokio::test]
    async fn what_would_fit_if_others_held_less_is_told_to_come_again() {
        let (pool, body) = (Pool::new(700 << 10), coded(Coding::Gzip, &vec![0; 290 << 10]));
        let others = pool.charge(300 << 10).unwrap();
        let error = decoded(Coding::Gzip, body.clone().into(), 300 << 10, &pool).await.unwrap_err();
        assert_eq!(error.name(), "overloaded", "{error:?}");
        drop(others);
        assert_eq!(decoded(Coding::Gzip, body.into(), 300 << 10, &pool).await.unwrap().len(), 290 << 10);
    }

    #[tokio::test]
    async fn a_window_that_would_take_memory_is_refused() {
        let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap();
        encoder.window_log(WINDOW_LOG + 1).unwrap();
        encoder.write_all(b"little").unwrap();
        let error = decode(Coding::Zstd, encoder.finish().unwrap(), MIB).await.unwrap_err();
        assert!(error.message().contains("memory"), "{error:?}");
    }
}
