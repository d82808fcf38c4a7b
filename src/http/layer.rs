//! What wraps the handlers of routes that answer much.

use axum::extract::Request;
use axum::middleware::Next;
use axum::response::Response;

use super::encoding::{self, Accepted};

/// Answers as the client accepts it. Whatever counts the request in flight goes around this: it must see the body that the
/// connection gets.
pub(super) async fn encode(request: Request, next: Next) -> Response {
    let accepted = Accepted::of(request.headers());
    encoding::encoded(accepted, next.run(request).await).await
}
