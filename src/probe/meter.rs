//! A connection that may deliver only so much. hyper bounds one head but not how many interim answers precede it, so
//! that an endless `100 Continue` would keep a core busy until the deadline.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What may come before the answer's head is whole: the head, and what is read ahead of the body with it.
const MAX_BEFORE_HEAD: usize = 256 << 10;
/// Everything that one probe may receive, unless it asks for more: a body of 1 MiB in small chunks, its head, and some more.
const MAX_RECEIVED: usize = 2 << 20;

/// How much a connection may deliver; it is raised from outside when the head has come.
#[derive(Clone, Debug)]
pub(super) struct Allowance(Arc<AtomicUsize>);

impl Allowance {
    pub(super) fn before_head() -> Self {
        Self(Arc::new(AtomicUsize::new(MAX_BEFORE_HEAD)))
    }

    /// The head has come: a body may follow.
    pub(super) fn raise(&self) {
        self.raise_to(MAX_RECEIVED);
    }

    /// A body of another size is expected.
    pub(super) fn raise_to(&self, bytes: usize) {
        self.0.store(bytes, Ordering::Relaxed);
    }
}

/// Counts what is read.
pub(super) struct Metered<T> {
    inner: T,
    received: usize,
    allowance: Allowance,
}

impl<T> Metered<T> {
    pub(super) fn new(inner: T, allowance: Allowance) -> Self {
        Self { inner, received: 0, allowance }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Metered<T> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let allowed = this.allowance.0.load(Ordering::Relaxed);
        if this.received > allowed {
            let detail = format!("the server sent more than {allowed} bytes");
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, detail)));
        }
        let before = buf.filled().len();
        let polled = Pin::new(&mut this.inner).poll_read(cx, buf);
        this.received += buf.filled().len() - before;
        polled
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Metered<T> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().inner).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_shutdown(cx)
    }
}
