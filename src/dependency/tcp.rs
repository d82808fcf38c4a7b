//! `tcp://host:port`: somebody accepts connections there.

use std::net::SocketAddr;

use tokio::net::TcpStream;

use super::reason;

pub(super) async fn check(addresses: &[SocketAddr]) -> Result<(), String> {
    TcpStream::connect(addresses).await.map(drop).map_err(|error| reason::of_io(&error))
}
