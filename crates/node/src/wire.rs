//! What a connection of the target runs over: a TCP stream, or one of a simulated network.

use std::future::Future;
use std::io::{self, IoSlice};
use std::net::SocketAddr;

use bytes::BytesMut;
use tokio::io::Interest;
use tokio::net::TcpStream;

/// A reliable stream of bytes in both directions.
pub trait Wire {
    /// The initiator's address, then the portal's.
    ///
    /// # Errors
    /// When the stream is gone already.
    fn ends(&self) -> io::Result<(SocketAddr, SocketAddr)>;
    /// Returns when [`Self::try_read`] has something to tell.
    fn readable(&self) -> impl Future<Output = io::Result<()>>;
    /// Returns when [`Self::try_write`] would take something.
    fn writable(&self) -> impl Future<Output = io::Result<()>>;
    /// Append what is there; gives the number of bytes, zero at the end of the stream.
    ///
    /// # Errors
    /// `WouldBlock` when nothing is there yet.
    fn try_read(&self, into: &mut BytesMut) -> io::Result<usize>;
    /// Send the beginning of these pieces; gives the number of bytes that were taken.
    ///
    /// # Errors
    /// `WouldBlock` when nothing is taken now.
    fn try_write(&self, pieces: &[IoSlice<'_>]) -> io::Result<usize>;
}

impl Wire for TcpStream {
    fn ends(&self) -> io::Result<(SocketAddr, SocketAddr)> {
        Ok((self.peer_addr()?, self.local_addr()?))
    }
    fn readable(&self) -> impl Future<Output = io::Result<()>> {
        Self::readable(self)
    }
    fn writable(&self) -> impl Future<Output = io::Result<()>> {
        Self::writable(self)
    }
    fn try_read(&self, into: &mut BytesMut) -> io::Result<usize> {
        let room = into.capacity() - into.len();
        let bytes = self.try_read_buf(into)?;
        if 0 < bytes && bytes < room {
            // Nothing is left in the socket; that need not be asked of the kernel again.
            let drained = || Err::<(), _>(io::ErrorKind::WouldBlock.into());
            let _ = self.try_io(Interest::READABLE, drained);
        }
        Ok(bytes)
    }
    fn try_write(&self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        self.try_write_vectored(pieces)
    }
}
