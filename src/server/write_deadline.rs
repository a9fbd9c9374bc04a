//! A stream whose writer may not keep us waiting.
//!
//! hyper has no limit for a client that reads its answer slowly. Here the clock starts when the client first lets us
//! wait and stops when a flush is through, so a client that takes a byte now and then gains nothing by it.

use std::future::Future;
use std::io::{Error, ErrorKind, IoSlice, Result};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

pub(super) struct WriteDeadline<S> {
    stream: S,
    limit: Duration,
    /// Set since the client first let us wait for this answer.
    running: Option<Pin<Box<Sleep>>>,
}

impl<S> WriteDeadline<S> {
    pub(super) fn new(stream: S, limit: Duration) -> Self {
        Self {
            stream,
            limit,
            running: None,
        }
    }

    /// What the stream said, unless it is not ready and the time is up.
    fn within<T>(&mut self, context: &mut Context<'_>, polled: Poll<Result<T>>) -> Poll<Result<T>> {
        if polled.is_ready() {
            return polled;
        }
        let limit = self.limit;
        let running = self.running.get_or_insert_with(|| Box::pin(sleep(limit)));
        running
            .as_mut()
            .poll(context)
            .map(|()| Err(Error::from(ErrorKind::TimedOut)))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for WriteDeadline<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<Result<usize>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.stream).poll_write(context, bytes);
        this.within(context, polled)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<Result<usize>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.stream).poll_write_vectored(context, slices);
        this.within(context, polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.stream).poll_flush(context);
        if polled.is_ready() {
            this.running = None;
        }
        this.within(context, polled)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.stream).poll_shutdown(context);
        this.within(context, polled)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for WriteDeadline<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_read(context, buffer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    fn run<T>(test: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .unwrap()
            .block_on(test)
    }

    #[test]
    fn a_byte_now_and_then_gains_nothing() {
        run(async {
            let (mut client, server) = duplex(8);
            let mut server = WriteDeadline::new(server, Duration::from_millis(50));
            let reader = tokio::spawn(async move {
                let mut taken = 0;
                while client.read_u8().await.is_ok() {
                    sleep(Duration::from_millis(5)).await;
                    taken += 1;
                }
                taken
            });
            // At this pace it would take 50 s.
            let error = server.write_all(&[0; 10_000]).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::TimedOut);
            drop(server);
            assert!(reader.await.unwrap() < 10_000);
        });
    }

    #[test]
    fn the_clock_stops_when_all_is_taken() {
        run(async {
            let (mut client, server) = duplex(8);
            let mut server = WriteDeadline::new(server, Duration::from_secs(60));
            let answer = [0; 60];
            {
                let writing = server.write_all(&answer);
                tokio::pin!(writing);
                let mut taken = [0; 60];
                let (written, read) = tokio::join!(writing, client.read_exact(&mut taken));
                written.unwrap();
                read.unwrap();
            }
            assert!(server.running.is_some());
            server.flush().await.unwrap();
            assert!(server.running.is_none());
        });
    }
}
