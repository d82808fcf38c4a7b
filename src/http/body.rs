//! A request's body, read within its limits: its own size, its time, and what all requests may hold together.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;
use std::time::{Duration, Instant};

use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, header};
use http_body_util::BodyExt as _;

use super::encoding::{self, Coding};
use super::error::{Error, Kind};
use super::front::Asked;
use crate::api::{Count, MAX_BODY, Shared, Terms};
use crate::batch::Handle;
use crate::tensor::pool::Pool;

/// Limits below this many bytes are for bodies without rows.
const SMALL: usize = 1 << 20;

/// The whole body of a prediction that has a chance on its `terms`; one that has none is refused before anything is spent
/// on its body.
pub(super) async fn of_prediction(
    shared: &Shared,
    model: &Handle,
    asked: &Asked<'_>,
    terms: Terms,
    body: Body,
    count: &mut Count<'_>,
) -> Result<Bytes, Error> {
    if let Err(error) = terms.admit(model) {
        refuse(asked.headers, body).await;
        return Err(error);
    }
    let body = read_up_to(MAX_BODY, asked.headers, body, terms.deadline, &shared.memory).await?;
    count.received();
    Ok(body)
}

/// The whole body, decoded, of at most `most` bytes. Its memory counts against `pool` for as long as it is used.
pub(super) async fn read_up_to(
    most: usize,
    headers: &HeaderMap,
    body: Body,
    deadline: Instant,
    pool: &Pool,
) -> Result<Bytes, Error> {
    let coding = match Coding::of_body(headers) {
        Ok(coding) => coding,
        Err(error) => {
            refuse(headers, body).await;
            return Err(error);
        }
    };
    let limit = most.min(pool.limit());
    let late =
        || Err(Error::new(Kind::BodyTimeout, "the body was not there, and decoded, before the request's deadline"));
    let read = async {
        let bytes = read_in_time(limit, headers, body, pool).await?;
        match coding {
            // Apart from the state of every request, few of which come here.
            Some(coding) => Box::pin(encoding::decoded(coding, bytes, limit, pool)).await,
            None => Ok(bytes),
        }
    };
    let mut read = pin!(read);
    // Most bodies have come with their heads: no timer for those.
    let at_once = poll_fn(|cx| Poll::Ready(read.as_mut().poll(cx))).await;
    match at_once {
        Poll::Ready(read) => read,
        Poll::Pending => tokio::time::timeout_at(deadline.into(), read).await.unwrap_or_else(|_| late()),
    }
}

async fn read_in_time(limit: usize, headers: &HeaderMap, mut body: Body, pool: &Pool) -> Result<Bytes, Error> {
    let announced = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    if announced.is_some_and(|bytes| bytes > limit) {
        refuse(headers, body).await;
        return Err(too_large(limit));
    }
    let collected = collect(&mut body, announced, limit, pool).await;
    if collected.is_err() {
        Box::pin(discard(body)).await;
    }
    collected
}

/// Frames into one piece of memory, which grows with what has arrived rather than with what was announced: a client that
/// announces much and sends little holds little.
async fn collect(body: &mut Body, announced: Option<usize>, limit: usize, pool: &Pool) -> Result<Bytes, Error> {
    let Some(first) = next(body).await? else { return Ok(Bytes::new()) };
    if announced == Some(first.len()) {
        return Ok(pool.count(first)?);
    }
    let mut whole = pool.take(room(first.len(), announced))?;
    whole.extend_from_slice(&first);
    drop(first);
    while let Some(data) = next(body).await? {
        let length = whole.len() + data.len();
        if length > limit {
            return Err(too_large(limit));
        }
        if length > whole.capacity() {
            whole.reserve(room(length, announced))?;
        }
        whole.extend_from_slice(&data);
    }
    Ok(whole.into())
}

async fn next(body: &mut Body) -> Result<Option<Bytes>, Error> {
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| Error::bad_input(format!("the body broke off: {error}")))?;
        // What is no data is a trailer, which says nothing here.
        if let Ok(data) = frame.into_data() {
            return Ok(Some(data));
        }
    }
    Ok(None)
}

/// How much to make room for when `length` bytes have arrived: all of it once that is a quarter.
fn room(length: usize, announced: Option<usize>) -> usize {
    announced
        .filter(|announced| *announced <= length.saturating_mul(4))
        .map_or(length.saturating_mul(2), |all| all.max(length))
}

/// Of a body, or of what is decoded from it.
pub(super) fn too_large(limit: usize) -> Error {
    let error = Error::new(Kind::TooLarge, format!("the body is larger than {limit} bytes"));
    if limit < SMALL { error } else { error.hint("send fewer rows a request") }
}

/// Before an answer that does not wait for the body. With Expect, a client waits for a word before it sends; without, it
/// hears an answer only once it has sent all.
pub(super) async fn refuse(headers: &HeaderMap, body: Body) {
    if !headers.contains_key(header::EXPECT) {
        Box::pin(discard(body)).await;
    }
}

/// Reads on for a moment, so that the answer is not lost to a client that is still sending.
async fn discard(mut body: Body) {
    const PATIENCE: Duration = Duration::from_secs(2);
    let _ = tokio::time::timeout(PATIENCE, async { while let Some(Ok(_)) = body.frame().await {} }).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_grows_with_what_has_arrived_until_all_is_in_sight() {
        for (length, announced, expected) in [
            (100, None, 200),
            (100, Some(10_000), 200),
            (100, Some(400), 400),
            (100, Some(50), 100),
            (usize::MAX, Some(5), usize::MAX),
        ] {
            assert_eq!(room(length, announced), expected);
        }
    }
}
