//! The socket under every connection, which lets an early answer be heard.
//!
//! A server may answer before it has read the request (405, 413) and close. Whoever still writes then gets an error
//! from the socket although the answer has arrived, and the HTTP library reports the error. So what can no longer be
//! written is dropped in silence: the answer, or the end of the stream, comes by reading.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::client::legacy::connect::{Connected, Connection};

/// A socket whose writing fails only by what reading says.
#[derive(Debug)]
pub(crate) struct Socket<T> {
    inner: T,
    /// The other side takes no more.
    is_deaf: bool,
}

impl<T> Socket<T> {
    pub(crate) fn new(inner: T) -> Self {
        Self {
            inner,
            is_deaf: false,
        }
    }

    /// `length` bytes count as written if the other side went away.
    fn heard(&mut self, written: Poll<io::Result<usize>>, length: usize) -> Poll<io::Result<usize>> {
        match written {
            Poll::Ready(Err(error)) if is_the_end(&error) => {
                self.is_deaf = true;
                Poll::Ready(Ok(length))
            }
            written => written,
        }
    }

    fn done(&mut self, done: Poll<io::Result<()>>) -> Poll<io::Result<()>> {
        match done {
            Poll::Ready(Err(error)) if is_the_end(&error) => {
                self.is_deaf = true;
                Poll::Ready(Ok(()))
            }
            done => done,
        }
    }
}

fn is_the_end(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionAborted
    )
}

impl<T: Read + Unpin> Read for Socket<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(cx, buffer)
    }
}

impl<T: Write + Unpin> Write for Socket<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.is_deaf {
            return Poll::Ready(Ok(bytes.len()));
        }
        let written = Pin::new(&mut self.inner).poll_write(cx, bytes);
        self.heard(written, bytes.len())
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let length = || pieces.iter().map(|piece| piece.len()).sum();
        if self.is_deaf {
            return Poll::Ready(Ok(length()));
        }
        let written = Pin::new(&mut self.inner).poll_write_vectored(cx, pieces);
        self.heard(written, length())
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let done = Pin::new(&mut self.inner).poll_flush(cx);
        self.done(done)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let done = Pin::new(&mut self.inner).poll_shutdown(cx);
        self.done(done)
    }
}

impl<T: Connection> Connection for Socket<T> {
    fn connected(&self) -> Connected {
        self.inner.connected()
    }
}

#[cfg(test)]
mod tests {
    use hyper_util::rt::TokioIo;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    #[tokio::test]
    async fn what_was_said_before_a_reset_is_heard_by_a_writer() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let ours = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (mut theirs, _) = listener.accept().await.unwrap();
        let mut socket = TokioIo::new(Socket::new(TokioIo::new(ours)));
        socket.write_all(b"unread").await.unwrap();
        theirs.readable().await.unwrap();
        theirs.write_all(b"no").await.unwrap();
        // Something unread makes it a reset.
        drop(theirs);
        while !socket.inner().is_deaf {
            socket.write_all(&[0; 1024]).await.unwrap();
        }
        socket.flush().await.unwrap();
        let mut said = [0; 2];
        socket.read_exact(&mut said).await.unwrap();
        assert_eq!(&said, b"no");
        assert!(
            matches!(socket.read(&mut said).await, Ok(0) | Err(_)),
            "and then the end"
        );
    }
}
